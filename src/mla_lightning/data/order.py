"""Order of the samples in training and evaluation, as requests for batches."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import Sampler

from mla_lightning import ranks
from mla_lightning.data.row_plan import RowPlan
from mla_lightning.errors import DataError
from mla_lightning.randomness import derive_seed


class RowKinds(NamedTuple):
    """What the rows of a batch are, if an epoch follows a plan of rows.

    Attributes:
        alone: (B,) int64, the position of each row's only modality; -1 if it has all.
        copy: (B,) int64, the number of each row among those of its sample.
        alone_in_batch: ``alone`` of the whole batch, of which these rows are a rank's part; None if
            these are all.

    Example:
        >>> RowKinds(alone=torch.tensor([-1, 0]), copy=torch.tensor([0, 1])).copy
        tensor([0, 1])
    """

    alone: Tensor
    copy: Tensor
    alone_in_batch: Tensor | None = None


class Request(NamedTuple):
    """Request of a loader to a data set for one batch.

    Attributes:
        epoch: The epoch, from 0; random transforms depend on it.
        indices: (B,) int64, the samples' numbers in their split.
        batch: Those of the whole batch, of which these are a rank's part; None if these are all.
        kinds: What the rows are; None if all are whole samples.

    Example:
        >>> Request(epoch=0, indices=torch.tensor([7, 2])).indices
        tensor([7, 2])
    """

    epoch: int
    indices: Tensor
    batch: Tensor | None = None
    kinds: RowKinds | None = None


class SequentialOrder(Sampler[Request]):
    """All samples in the order of their numbers, for evaluation.

    Example:
        >>> [request.indices.tolist() for request in SequentialOrder(5, batch_size=2)]
        [[0, 1], [2, 3], [4]]
    """

    def __init__(self, num_samples: int, batch_size: int, *, is_shared: bool = False) -> None:
        """Set the sizes.

        Args:
            num_samples: Number of samples N.
            batch_size: Samples per batch; the last batch may be smaller.
            is_shared: Whether every rank has its part of each batch, not all of it. A rank without
                a sample of a small batch has its first one, as another rank does.
        """
        self.num_samples, self.batch_size = num_samples, batch_size
        self.is_shared = is_shared

    def __len__(self) -> int:
        """Return the number of batches."""
        return -(-self.num_samples // self.batch_size)

    def __iter__(self) -> Iterator[Request]:
        """Yield the batches' requests."""
        for indices in torch.arange(self.num_samples).split(self.batch_size):
            part = ranks.part_of(indices) if self.is_shared else indices
            yield Request(0, part if len(part) else indices[:1])


class TrainOrder(Sampler[Request]):
    """A new order of the samples every epoch, which depends only on seed and epoch.

    It also has a position, the epoch and batch to deliver next, where iterating starts. The
    position moves when a batch reaches the training loop, not when a worker requests it, so that
    batches that were prefetched before a kill are not lost. Neither depends on the number of ranks.

    Attributes:
        plan: The rows of the epochs to come; None if each sample occurs once.

    Example:
        >>> order = TrainOrder(num_samples=5, batch_size=2, seed=0)
        >>> whole = [request.indices.tolist() for request in order]
        >>> order.advance()  # the first batch was delivered
        >>> [request.indices.tolist() for request in order] == whole[1:]
        True
    """

    def __init__(self, num_samples: int, batch_size: int, seed: int) -> None:
        """Start at the first batch of the first epoch.

        Args:
            num_samples: Number of samples N.
            batch_size: Samples per batch; the last batch may be smaller.
            seed: The run's seed.
        """
        self.num_samples, self.batch_size, self.seed = num_samples, batch_size, seed
        self.epoch, self.batch = 0, 0
        self.plan: RowPlan | None = None
        self._has_started = False

    def __len__(self) -> int:
        """Return the number of batches of a whole epoch, at any position."""
        if self.plan is not None:
            return self.plan.num_batches(self.batch_size)
        return -(-self.num_samples // self.batch_size)

    def __iter__(self) -> Iterator[Request]:
        """Yield the requests of the epoch's remaining batches, each for the rank's part of it."""
        epoch, first, plan = self.epoch, self.batch, self.plan
        if plan is not None:
            place = {"seed": self.seed, "epoch": epoch, "batch_size": self.batch_size}
            for rows in plan.batches(**place)[first:]:
                yield _planned(plan, epoch, rows)
            return
        for indices in self.permutation(epoch).split(self.batch_size)[first:]:
            part = ranks.part_of(indices)
            yield Request(epoch, part, None if part is indices else indices)

    def permutation(self, epoch: int) -> Tensor:
        """Compute an epoch's order.

        Args:
            epoch: The epoch, from 0.

        Returns:
            (N,) int64, the samples' numbers.
        """
        generator = torch.Generator().manual_seed(derive_seed(self.seed, "order", epoch))
        return torch.randperm(self.num_samples, generator=generator)

    def set_epoch(self, epoch: int) -> None:
        """Set the position to the start of an epoch, unless it is already within that epoch.

        Lightning calls this at the start of each epoch, also of one that is resumed in the middle.

        Args:
            epoch: The epoch, from 0.
        """
        if epoch != self.epoch:
            self._go_to(epoch, 0)

    def begin(self) -> None:
        """Record the start of an iteration: an epoch that the last one left early is over."""
        if self._has_started:
            self._go_to(self.epoch + 1, 0)

    def advance(self) -> None:
        """Record that a batch was delivered."""
        self.batch += 1
        self._has_started = True
        if self.batch == len(self):
            self._go_to(self.epoch + 1, 0)

    def state_dict(self) -> dict[str, int]:
        """Return the position and the parameters of the order."""
        return {
            "epoch": self.epoch,
            "batch": self.batch,
            "num_samples": self.num_samples,
            "batch_size": self.batch_size,
            "seed": self.seed,
        }

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Set the position.

        Args:
            state: What :meth:`state_dict` returned.

        Raises:
            DataError: If the position is within an epoch of another order: training would use some
                samples twice and others never.
        """
        now = self.state_dict()
        differences = [
            f"{key} {state[key]}, now {now[key]}" for key in _PARAMETERS if state[key] != now[key]
        ]
        if state["batch"] and differences:
            raise DataError(
                f"The checkpoint is of batch {state['batch']} of epoch {state['epoch'] + 1} in "
                f"another order of the samples: {'; '.join(differences)}. Resume with the same "
                "values, or from the end of an epoch."
            )
        self._go_to(state["epoch"], state["batch"])

    def _go_to(self, epoch: int, batch: int) -> None:
        self.epoch, self.batch, self._has_started = epoch, batch, False


def _planned(plan: RowPlan, epoch: int, rows: Tensor) -> Request:
    """Return the request for a rank's part of rows of a plan."""
    part = ranks.part_of(rows)
    if part is rows:
        return Request(epoch, plan.sample[rows], None, RowKinds(plan.alone[rows], plan.copy[rows]))
    kinds = RowKinds(plan.alone[part], plan.copy[part], plan.alone[rows])
    return Request(epoch, plan.sample[part], plan.sample[rows], kinds)


#: Parameters that an order depends on.
_PARAMETERS = ("num_samples", "batch_size", "seed")
