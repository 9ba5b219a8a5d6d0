"""From tensors to batches: requests for batches, the order of training, loaders that resume."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from mla_lightning.batch import Batch
from mla_lightning.errors import DataError
from mla_lightning.randomness import derive_seed

#: One sample's inputs by modality, and the generator of its random numbers -> the inputs to use.
Transform = Callable[[dict[str, Tensor], torch.Generator], Mapping[str, Tensor]]


class Rows(Protocol):
    """Rows that can be gathered: a tensor, or a file that is read when asked."""

    def __len__(self) -> int:
        """Return the number of rows."""

    def index_select(self, dim: int, index: Tensor) -> Tensor:
        """Gather rows (dim is 0) into a new tensor (B, ...)."""


class Request(NamedTuple):
    """What a loader asks a data set for: one batch.

    Attributes:
        epoch: The epoch, from 0; random transforms depend on it.
        indices: (B,) int64, the samples' numbers in their split.
    """

    epoch: int
    indices: Tensor


class ArrayDataset(Dataset):
    """A split in memory or in files, handed out a batch at a time: one gather per modality.

    Collating single samples costs more than the training step of a small model.
    """

    def __init__(
        self,
        inputs: Mapping[str, Rows],
        label: Tensor,
        *,
        rows: Tensor | None = None,
        present: Mapping[str, Tensor] | None = None,
        transform: Transform | None = None,
        seed: int = 0,
        hiding: Hiding | None = None,
    ) -> None:
        """Hold the tensors; nothing is copied.

        Args:
            inputs: Modality -> (N, ...), or more rows, of which ``rows`` tells those to use.
            label: (N,) int64.
            rows: (N,) int64, the row of each sample in ``inputs``; None where they are the same.
            present: Modality -> (N,) bool, False where a sample lacks the modality; None for all
                present.
            transform: Changes single samples at random; None to use them as they are.
            seed: The run's seed; sample ``i`` of epoch ``e`` is transformed with numbers that
                depend on (seed, e, i) alone, so neither workers nor a resume change them.
            hiding: Which modalities of which samples are hidden; None for none.
        """
        self.inputs = dict(inputs)
        self.label, self.rows = label, rows
        present = present or {}
        everything = torch.ones(len(label), dtype=torch.bool)
        self.present = {name: present.get(name, everything) for name in self.inputs}
        self._lacking = [name for name, has in self.present.items() if not has.all()]
        self.transform = transform
        self.seed, self.hiding = seed, hiding

    def __len__(self) -> int:
        """Return the number of samples N."""
        return len(self.label)

    def __getitem__(self, request: Request) -> Batch:
        """Gather one batch.

        Args:
            request: The epoch and the samples.

        Returns:
            The batch: ``inputs`` (modality -> (B, ...)), ``label`` (B,), ``index`` (B,) and
            ``present`` (modality -> (B,) bool). Hidden inputs, of which ``hidden`` tells, are
            zeros; with ``keeps_truth`` they are in ``truth``.
        """
        epoch, indices = request
        rows = indices if self.rows is None else self.rows.index_select(0, indices)
        inputs = {name: values.index_select(0, rows) for name, values in self.inputs.items()}
        present = {name: mask.index_select(0, indices) for name, mask in self.present.items()}
        for name in self._lacking:  # rows of absent inputs may hold anything, not a number too
            inputs[name] = _kept(inputs[name], present[name])
        if self.transform is not None:
            inputs = self._transformed(inputs, epoch, indices)
        batch: Batch = {
            "inputs": inputs,
            "label": self.label.index_select(0, indices),
            "index": indices.clone(),  # an order's slice: batches must not share memory
            "present": present,
        }
        return batch if self.hiding is None else self._hidden(batch, self.hiding, epoch, indices)

    def _hidden(self, batch: Batch, hiding: Hiding, epoch: int, indices: Tensor) -> Batch:
        own = batch["present"]
        there = dict(zip(own, hiding.mask(epoch).index_select(0, indices).T, strict=True))
        batch["hidden"] = {name: own[name] & ~there[name] for name in own}
        if hiding.keeps_truth:
            batch["truth"] = batch["inputs"]
        batch["inputs"] = {name: _kept(x, there[name]) for name, x in batch["inputs"].items()}
        if hiding.tells:
            batch["present"] = there
        return batch

    def _transformed(
        self, inputs: Mapping[str, Tensor], epoch: int, indices: Tensor
    ) -> dict[str, Tensor]:
        assert self.transform is not None
        generator = torch.Generator()
        samples = []
        for position, index in enumerate(indices.tolist()):
            generator.manual_seed(derive_seed(self.seed, "augment", epoch, index))
            sample = {name: values[position] for name, values in inputs.items()}
            samples.append(self.transform(sample, generator))
        return {name: torch.stack([sample[name] for sample in samples]) for name in inputs}


@dataclass
class Hiding:
    """Which modalities of a split's samples are hidden.

    Attributes:
        mask: Epoch -> (N, M) bool, in the order of the samples and of the data set's inputs; true
            where a modality is left.
        tells: Whether batches tell what is hidden, or hand zeros over as if they were there.
        keeps_truth: Whether batches hold the hidden inputs, too, for methods that learn to
            reconstruct them.
    """

    mask: Callable[[int], Tensor]
    tells: bool = True
    keeps_truth: bool = False


def _kept(x: Tensor, rows: Tensor) -> Tensor:
    """Keep some rows and put zeros in the others; chosen, not multiplied: NaN goes, too."""
    return torch.where(rows.view(-1, *[1] * (x.ndim - 1)), x, torch.zeros((), dtype=x.dtype))


class SequentialOrder(Sampler[Request]):
    """All samples in their own order, for evaluation."""

    def __init__(self, num_samples: int, batch_size: int) -> None:
        """Remember the sizes.

        Args:
            num_samples: Number of samples N.
            batch_size: Samples per batch; the last batch may be smaller.
        """
        self.num_samples, self.batch_size = num_samples, batch_size

    def __len__(self) -> int:
        """Return the number of batches."""
        return -(-self.num_samples // self.batch_size)

    def __iter__(self) -> Iterator[Request]:
        """Yield the batches' requests."""
        for indices in torch.arange(self.num_samples).split(self.batch_size):
            yield Request(0, indices)


class TrainOrder(Sampler[Request]):
    """A new order of the samples every epoch, a function of seed and epoch alone.

    It also knows the position: which batch of which epoch is delivered next. Iterating starts
    there. The position moves when a batch reaches the training loop, not when a worker asks for
    it, so that batches prefetched before a kill are not lost.
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
        self._is_under_way = False

    def __len__(self) -> int:
        """Return the number of batches of a whole epoch, wherever the position is."""
        return -(-self.num_samples // self.batch_size)

    def __iter__(self) -> Iterator[Request]:
        """Yield the requests of the epoch's remaining batches."""
        epoch, first = self.epoch, self.batch
        for indices in self.permutation(epoch).split(self.batch_size)[first:]:
            yield Request(epoch, indices)

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
        """Go to the start of an epoch; nothing happens within that epoch.

        Lightning calls this at the start of each epoch, also of one that is resumed half way.

        Args:
            epoch: The epoch, from 0.
        """
        if epoch != self.epoch:
            self._go_to(epoch, 0)

    def begin(self) -> None:
        """Note that an iteration begins: an epoch left half way by the last one is over."""
        if self._is_under_way:
            self._go_to(self.epoch + 1, 0)

    def advance(self) -> None:
        """Note that a batch was delivered."""
        self.batch += 1
        self._is_under_way = True
        if self.batch == len(self):
            self._go_to(self.epoch + 1, 0)

    def state_dict(self) -> dict[str, int]:
        """Return the position, and what it refers to."""
        return {
            "epoch": self.epoch,
            "batch": self.batch,
            "num_samples": self.num_samples,
            "batch_size": self.batch_size,
            "seed": self.seed,
        }

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Go to a position.

        Args:
            state: What :meth:`state_dict` returned.

        Raises:
            DataError: If the position is within an epoch of another order: some samples would be
                seen twice and others not at all.
        """
        own = self.state_dict()
        differ = [f"{key} {state[key]}, now {own[key]}" for key in _ORDER if state[key] != own[key]]
        if state["batch"] and differ:
            raise DataError(
                f"The checkpoint is of batch {state['batch']} of epoch {state['epoch'] + 1} in "
                f"another order of the samples: {'; '.join(differ)}. Resume with the same, or from "
                "the end of an epoch."
            )
        self._go_to(state["epoch"], state["batch"])

    def _go_to(self, epoch: int, batch: int) -> None:
        self.epoch, self.batch, self._is_under_way = epoch, batch, False


_ORDER = ("num_samples", "batch_size", "seed")


class TrainLoader(DataLoader):
    """A DataLoader in the order of a :class:`TrainOrder` that can stop and go on at any batch.

    Lightning stores the state of loaders that have one. Every iteration is one epoch, the one
    after the last; after :meth:`load_state_dict` it is the rest of the epoch that was stopped.
    """

    sampler: TrainOrder

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        """Yield the batches of an epoch; the position is read when the first one is asked for."""
        self.sampler.begin()
        for batch in super().__iter__():
            self.sampler.advance()  # before the batch is out: a checkpoint after it must count it
            yield batch

    def set_epoch(self, epoch: int) -> None:
        """Go to the start of an epoch, from 0."""
        self.sampler.set_epoch(epoch)

    def state_dict(self) -> dict[str, int]:
        """Return the number of the batch to deliver next, and its epoch."""
        return self.sampler.state_dict()

    def load_state_dict(self, state_dict: Mapping[str, int]) -> None:
        """Go to a position; see :meth:`TrainOrder.load_state_dict`."""
        self.sampler.load_state_dict(state_dict)


def identity(batch: Any) -> Any:
    """Return the batch as the data set made it."""
    return batch


def options_of(num_workers: int) -> dict[str, Any]:
    """Spell the DataLoader options that all loaders share.

    Args:
        num_workers: Worker processes; 0 for none, which is fastest for data held in memory.

    Returns:
        Keyword arguments of ``torch.utils.data.DataLoader``.
    """
    return {
        "batch_size": None,  # an item is a batch
        "collate_fn": identity,
        "num_workers": num_workers,
        "persistent_workers": num_workers > 0,
        # Starting an iteration draws a number; without a generator of its own, from the global one.
        "generator": torch.Generator().manual_seed(0),
    }


def check_finite(values: Tensor, where: str, present: Tensor | None = None) -> None:
    """Refuse values that are not finite, naming the first row.

    Args:
        values: (N, ...).
        where: What they are, for the message.
        present: (N,) bool; rows that are absent may hold anything. None for all present.

    Raises:
        DataError: If there are any.
    """
    if not values.is_floating_point():
        return
    # A sum is finite if all its terms are, and costs a fraction of looking at each of them; it may
    # also overflow, so only the look at each decides.
    if values.sum().isfinite():
        return
    finite = values.isfinite().flatten(1).all(dim=1)
    if present is not None:
        finite |= ~present
    if not finite.all():
        row = int((~finite).nonzero()[0])
        raise DataError(
            f"{where}: row {row} holds values that are not finite ({int((~finite).sum())} of "
            f"{len(values)} rows do). Remove these samples, or mark the modality as absent in them."
        )
