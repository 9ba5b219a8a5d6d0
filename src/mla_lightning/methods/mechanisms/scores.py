"""How well each modality predicts a batch or validation: scores by which rules compare them."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from mla_lightning import ranks
from mla_lightning.batch import Batch, num_in_batch
from mla_lightning.errors import ConfigError
from mla_lightning.functional import at_least_single
from mla_lightning.module import MultimodalModule
from mla_lightning.run_folder.columns import validation
from mla_lightning.tasks import Task


class BatchScores:
    """The sums of the likelihoods of the labels of a batch, by each modality's own logits.

    For classes the likelihood is the probability of the true class; for other tasks exp(-loss) of
    the sample. Chunks are added one by one, and :meth:`total` adds those of all ranks, so the
    scores are those of the whole batch.

    Example:
        >>> from mla_lightning.batch import as_batch
        >>> from mla_lightning.tasks import Classification
        >>> inputs = {"audio": torch.zeros(2, 3), "label": torch.tensor([0, 1])}
        >>> scores = BatchScores(Classification())
        >>> logits = {"audio": torch.zeros(2, 2), "visual": torch.tensor([[9.0, 0.0], [0.0, 9.0]])}
        >>> scores.add(logits, as_batch(inputs, ["audio"]))
        >>> scores.total(), scores.mean()
        (tensor([1.0000, 1.9998]), tensor([0.5000, 0.9999]))
    """

    def __init__(self, task: Task) -> None:
        """Start with no sample.

        Args:
            task: The task of the labels.
        """
        self._task, self._num = task, 0
        self._sums: list[Tensor] = []  # of each chunk

    @torch.no_grad()
    def add(self, logits: Mapping[str, Tensor], chunk: Batch) -> None:
        """Add the samples of a chunk.

        Args:
            logits: Modality -> its own logits (B, C), in the order of the modalities. They may be
                computed with a graph, and under autocast should be: a layer that is first called
                without one may keep its weight in half precision without one, and then gets no
                gradient.
            chunk: The chunk.
        """
        logits_MBC = at_least_single(torch.stack(list(logits.values())))
        self._sums.append(self._task.likelihoods(logits_MBC, chunk["label"]))
        self._num = num_in_batch(chunk)

    def total(self) -> Tensor:
        """Return each modality's sum over the whole batch (M,)."""
        return ranks.total(torch.stack(self._sums).sum(dim=0))

    def mean(self) -> Tensor:
        """Return each modality's mean over the whole batch (M,)."""
        return self.total() / self._num


def validation_score(method: MultimodalModule, name: str, what: str) -> float:
    """Return the score of a modality on validation after this epoch, by what selects epochs.

    Args:
        method: The method.
        name: The modality.
        what: What is selected by it, in the plural, for the message.

    Returns:
        The score, in the metric's own unit and direction.

    Raises:
        ConfigError: If the epoch was not validated.

    Example:
        >>> from functools import partial
        >>> method = MultimodalModule(
        ...     encoders={"audio": torch.nn.Linear(3, 4), "visual": torch.nn.Linear(5, 4)},
        ...     num_classes=2,
        ...     optimizer=partial(torch.optim.SGD, lr=0.1),
        ... )
        >>> validation_score(method, "audio", "Teachers")
        Traceback (most recent call last):
        ...
        mla_lightning.errors.ConfigError: Teachers are selected by val/acc/audio, and this epoch was
        not validated: give trainer.fit a validation loader, and a Trainer that validates after ...
        >>> method.epoch_metrics["val/acc/audio"] = 0.5
        >>> validation_score(method, "audio", "Teachers")
        0.5
    """
    metric = validation(method.parts.selection.column, name)
    if metric not in method.epoch_metrics:
        raise ConfigError(
            f"{what} are selected by {metric}, and this epoch was not validated: give trainer.fit "
            "a validation loader, and a Trainer that validates after every epoch "
            "(check_val_every_n_epoch=1)."
        )
    return method.epoch_metrics[metric]
