"""Multi-label classification: any subset of L labels."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from mla_lightning.functional import bernoulli_entropies, joint_energy_confidence
from mla_lightning.run_folder.tasks import MULTILABEL
from mla_lightning.tasks.base import Task

#: Absolute logit of a label that every training sample has, or none.
LARGEST = 1e4


class Multilabel(Task):
    """The binary cross-entropy of L labels, a mean over labels and samples.

    A label is predicted where its logit is above 0. With class weights the losses of the samples
    that have a label are multiplied by its weight (torch's ``pos_weight``).

    Example:
        >>> import torch
        >>> logits, label = torch.tensor([[2.0, -2.0]]), torch.tensor([[1.0, 1.0]])
        >>> Multilabel().loss(logits, label)  # (0.1269 + 2.1269) / 2
        tensor(1.1269)
        >>> Multilabel(class_weights=torch.tensor([1.0, 3.0])).loss(logits, label)
        tensor(3.2539)
    """

    name = MULTILABEL

    def __init__(self, *, class_weights: Tensor | None = None) -> None:
        """Store the class weights.

        Args:
            class_weights: Weights (L,) > 0 of the samples that have a label, as of
                :func:`~mla_lightning.tasks.class_weights.balanced_label_weights`; None for none.
        """
        super().__init__()
        self.class_weights: Tensor | None
        self.register_buffer("class_weights", class_weights)

    def loss(self, logits: Tensor, label: Tensor) -> Tensor:
        """Compute the binary cross-entropy, a mean over labels and samples."""
        label = label.to(logits.dtype)
        return binary_cross_entropy_with_logits(logits, label, pos_weight=self.class_weights)

    def sample_losses(self, logits: Tensor, label: Tensor) -> Tensor:
        """Compute the mean over the labels for each sample, without class weights."""
        label = label.to(logits.dtype)
        return binary_cross_entropy_with_logits(logits, label, reduction="none").mean(dim=-1)

    def constant_logits(self, label: Tensor, num_outputs: int) -> Tensor:
        """Return the logit of each label's share; labels that more than half have are predicted."""
        return label.double().mean(dim=0).logit().clamp(-LARGEST, LARGEST)

    def entropies(self, logits: Tensor, variance: Tensor | None = None) -> Tensor:
        """Compute the mean entropy of the labels."""
        return bernoulli_entropies(logits)

    def confidence(self, logits: Tensor) -> Tensor:
        """Compute the joint energy of all labels / 10."""
        return joint_energy_confidence(logits)
