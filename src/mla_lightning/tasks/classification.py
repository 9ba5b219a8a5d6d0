"""Classification: one of C classes."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from mla_lightning.functional import categorical_entropies, energy_confidence, unimodal_scores
from mla_lightning.run_folder.tasks import CLASSIFICATION
from mla_lightning.tasks.base import Task


class Classification(Task):
    r"""The cross-entropy of C classes.

    With class weights w it is torch's weighted mean,
    :math:`\sum_n w_{y_n} \ell_n / \sum_n w_{y_n}`.

    Example:
        The second sample is of the rare class, whose weight is 3:

        >>> logits, label = torch.tensor([[2.0, 0.0], [2.0, 0.0]]), torch.tensor([0, 1])
        >>> Classification().loss(logits, label)  # (0.1269 + 2.1269) / 2
        tensor(1.1269)
        >>> Classification(class_weights=torch.tensor([1.0, 3.0])).loss(logits, label)
        tensor(1.6269)
    """

    name = CLASSIFICATION
    has_classes = True

    def __init__(self, *, class_weights: Tensor | None = None) -> None:
        """Store the class weights.

        Args:
            class_weights: Weights (C,) > 0, as of
                :func:`~mla_lightning.tasks.class_weights.balanced_class_weights`; None for none.
        """
        super().__init__()
        self.class_weights: Tensor | None
        self.register_buffer("class_weights", class_weights)

    def loss(self, logits: Tensor, label: Tensor) -> Tensor:
        """Compute the cross-entropy, a mean over the samples; see the class."""
        return cross_entropy(logits, label, weight=self.class_weights)

    def sample_losses(self, logits: Tensor, label: Tensor) -> Tensor:
        """Compute the cross-entropy of each sample, without class weights."""
        return cross_entropy(logits, label, reduction="none")

    def sample_weights(self, label: Tensor) -> Tensor | None:
        """Return the weight of each sample's class."""
        return None if self.class_weights is None else self.class_weights[label]

    def constant_logits(self, label: Tensor, num_outputs: int) -> Tensor:
        """Return the logarithm of each class's share; the most frequent class is predicted."""
        counts = torch.bincount(label, minlength=num_outputs).double()
        return (counts / counts.sum()).log()

    def entropies(self, logits: Tensor, variance: Tensor | None = None) -> Tensor:
        """Compute the entropy of the classes, as in MLA."""
        return categorical_entropies(logits)

    def confidence(self, logits: Tensor) -> Tensor:
        """Compute logsumexp / 10, as in QMF."""
        return energy_confidence(logits)

    def likelihoods(self, logits: Tensor, label: Tensor) -> Tensor:
        """Sum each modality's probability of the true class, as in OGM-GE."""
        return unimodal_scores(logits, label)
