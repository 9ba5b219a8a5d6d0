"""Rows of an epoch that are not each sample once: copies, and samples with one modality alone."""

from __future__ import annotations

import torch
from torch import Tensor

from mla_lightning.errors import DataError, near
from mla_lightning.randomness import derive_seed

#: How the rows of an epoch may be divided into batches.
ROW_ORDERS = ("rows", "blocks", "mixed")


class RowPlan:
    """How often each sample occurs in an epoch: with all its modalities, and with one of them.

    The rows are those of sample 0, then of sample 1, and so on; of a sample first the whole ones,
    then those with the first modality alone, and so on. The batches of an epoch are a function of
    the plan, the seed and the epoch.

    Attributes:
        sample: (R,) int64, the sample of each row.
        alone: (R,) int64, the position of the only modality of each row; -1 of a whole row.
        copy: (R,) int64, the number of each row among those of its sample, from 0.

    Example:
        Sample 0 occurs whole, and twice with the first modality alone; sample 1 with the second:

        >>> plan = RowPlan(torch.tensor([[1, 2, 0], [0, 0, 1]]))
        >>> plan.sample.tolist(), plan.alone.tolist(), plan.copy.tolist()
        ([0, 0, 0, 1], [-1, 0, 0, 1], [0, 1, 2, 0])
        >>> [batch.tolist() for batch in plan.batches(seed=0, epoch=0, batch_size=2)]
        [[0, 1], [2, 3]]
    """

    def __init__(self, counts: Tensor, order: str = "rows") -> None:
        """List the rows.

        Args:
            counts: (N, 1 + M) whole numbers: how often each sample occurs whole, and with each of
                the M modalities alone.
            order: ``rows``: a batch has rows of any kind, in random order. ``blocks``: a batch has
                rows of one kind, those of the last modality come first and whole ones last.
                ``mixed``: the same batches in random order.

        Raises:
            DataError: If there is no row, or the order is unknown.
        """
        if order not in ROW_ORDERS:
            known = f"{near(order, ROW_ORDERS)} Known: {', '.join(ROW_ORDERS)}"
            raise DataError(f"{order!r} is no order of rows.{known}")
        counts = counts.long()
        num_of_sample, num_kinds = counts.sum(dim=1), counts.shape[1]
        kind = torch.repeat_interleave(counts.flatten())  # sample * num_kinds + 1 + alone
        if not len(kind):
            raise DataError("An epoch needs at least one row; all counts are 0.")
        self.sample, self.alone = kind // num_kinds, kind % num_kinds - 1
        first = num_of_sample.cumsum(dim=0) - num_of_sample
        self.copy = torch.arange(len(kind)) - first[self.sample]
        self._order = order
        #: Whether every sample occurs once, whole: an epoch as without a plan.
        self.is_plain = bool((counts[:, 0] == 1).all()) and not bool(counts[:, 1:].any())
        of_kinds = counts.sum(dim=0).tolist()
        self._numbers = [len(kind)] if order == "rows" else of_kinds[:0:-1] + of_kinds[:1]

    def num_batches(self, batch_size: int) -> int:
        """Return the number of batches of an epoch."""
        return len(_sizes(self._numbers, batch_size))

    def batches(self, *, seed: int, epoch: int, batch_size: int) -> list[Tensor]:
        """Compute the batches of an epoch.

        Args:
            seed: The run's seed.
            epoch: The epoch, from 0.
            batch_size: Rows per batch. The last batch, or the last one of a kind, may be smaller.
                A row that would be alone in its batch, which batch normalisation does not take, is
                added to the batch before; to the next one if there is none before.

        Returns:
            Numbers of rows, (B,) int64 each. Of a plain plan they are those of an epoch without a
            plan, but for a last batch of one row.
        """
        rows = torch.randperm(len(self.sample), generator=_generator(seed, "order", epoch))
        if self._order != "rows":  # the last modality first; -1 of whole rows is the smallest
            rows = rows[self.alone[rows].argsort(descending=True, stable=True)]
        batches = list(rows.split(_sizes(self._numbers, batch_size)))
        if self._order != "mixed":
            return batches
        generator = _generator(seed, "order of batches", epoch)
        return [batches[i] for i in torch.randperm(len(batches), generator=generator).tolist()]


def _generator(seed: int, purpose: str, epoch: int) -> torch.Generator:
    return torch.Generator().manual_seed(derive_seed(seed, purpose, epoch))


def _sizes(numbers: list[int], batch_size: int) -> list[int]:
    """Return the sizes of batches of rows of several kinds, none of them 1 if that is possible."""
    sizes = [min(batch_size, n - first) for n in numbers for first in range(0, n, batch_size)]
    joined: list[int] = []
    for size in sizes:
        if joined and batch_size > 1 and 1 in (size, joined[-1]):
            joined[-1] += size
        else:
            joined.append(size)
    return joined
