"""Batches of a split, and loaders that resume."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol, cast

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from mla_lightning.batch import Batch
from mla_lightning.data.order import Request, RowKinds, TrainOrder
from mla_lightning.data.row_plan import RowPlan
from mla_lightning.data.worker import begin_worker
from mla_lightning.errors import DataError
from mla_lightning.randomness import derive_seed

#: Inputs of one sample by modality, and the generator of its random numbers -> changed inputs.
Transform = Callable[[dict[str, Tensor], torch.Generator], Mapping[str, Tensor]]


class Rows(Protocol):
    """Rows that can be gathered: a tensor, or a file that is read on demand."""

    @property
    def shape(self) -> Sequence[int]:
        """(N, ...) of all rows."""

    def __len__(self) -> int:
        """Return the number of rows."""

    def index_select(self, dim: int, index: Tensor) -> Tensor:
        """Gather rows (dim is 0) into a new tensor (B, ...)."""


class ArrayDataset(Dataset):
    """A split in memory or in files that returns whole batches: one gather per modality.

    Collating single samples would cost more than the training step of a small model.

    Example:
        >>> audio = torch.arange(6.0).view(3, 2)
        >>> dataset = ArrayDataset({"audio": audio}, label=torch.tensor([0, 1, 0]))
        >>> batch = dataset[Request(epoch=0, indices=torch.tensor([2, 0]))]
        >>> batch["inputs"]["audio"], batch["index"]
        (tensor([[4., 5.],
                 [0., 1.]]), tensor([2, 0]))
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
        hidden: HiddenModalities | None = None,
    ) -> None:
        """Set the tensors; nothing is copied.

        Args:
            inputs: Modality -> (N, ...); or more rows, if ``rows`` lists those to use.
            label: (N,) int64.
            rows: (N,) int64, the row of each sample in ``inputs``; None if row n is sample n.
            present: Modality -> (N,) bool, False where the modality is absent; None for all
                present.
            transform: Changes single samples at random; None for no change.
            seed: The run's seed; the random numbers of sample ``i`` in epoch ``e`` depend only on
                (seed, e, i), so neither workers nor a resume change them. Further copies of a
                sample in an epoch have other ones.
            hidden: Modalities to hide; None for none.
        """
        self.inputs = dict(inputs)
        self.label, self.rows = label, rows
        present = present or {}
        all_present = torch.ones(len(label), dtype=torch.bool)
        self.present = {name: present.get(name, all_present) for name in self.inputs}
        self._incomplete = [name for name, mask in self.present.items() if not mask.all()]
        self.transform = transform
        self.seed, self.hidden = seed, hidden

    def __len__(self) -> int:
        """Return the number of samples N."""
        return len(self.label)

    def part(self, numbers: Tensor) -> ArrayDataset:
        """Return a data set of some of the samples, numbered anew; inputs are not copied.

        Args:
            numbers: (K,) int64, their numbers here.
        """
        hidden = self.hidden
        if hidden is not None:
            hidden = replace(hidden, mask=partial(_rows_of_mask, hidden.mask, numbers))
        return ArrayDataset(
            self.inputs,
            self.label[numbers],
            rows=numbers if self.rows is None else self.rows[numbers],
            present={name: has[numbers] for name, has in self.present.items()},
            transform=self.transform,
            seed=self.seed,
            hidden=hidden,
        )

    def __getitem__(self, request: Request) -> Batch:
        """Gather one batch.

        Args:
            request: The epoch and the samples.

        Returns:
            The batch: ``inputs`` (modality -> (B, ...)), ``label`` (B,), ``index`` (B,) and
            ``present`` (modality -> (B,) bool). Inputs that are absent or hidden are zeros.
            With hidden modalities also ``hidden`` (modality -> (B,) bool), and with ``keeps_truth``
            also ``truth``, the inputs before hiding. A rank's part of a batch also has
            ``label_in_batch`` and ``present_in_batch``. If the epoch follows a plan of rows, a row
            with one modality alone has no other ``present``, but still its inputs; the batch then
            also has ``left_out`` (modality -> (B,) bool) and ``copy`` (B,), see
            :class:`~mla_lightning.batch.Batch`.
        """
        epoch, indices, whole, kinds = request
        rows = indices if self.rows is None else self.rows.index_select(0, indices)
        inputs = {name: values.index_select(0, rows) for name, values in self.inputs.items()}
        present = {name: mask.index_select(0, indices) for name, mask in self.present.items()}
        for name in self._incomplete:  # rows of absent inputs may hold any value, also NaN
            inputs[name] = _zeroed(inputs[name], present[name])
        if self.transform is not None:
            inputs = self._transformed(inputs, epoch, indices, kinds)
        batch: Batch = {
            "inputs": inputs,
            "label": self.label.index_select(0, indices),
            "index": indices.clone(),  # a slice of the order: batches must not share memory
            "present": present,
        }
        if whole is not None:
            batch["label_in_batch"] = self.label.index_select(0, whole)
            batch["present_in_batch"] = self._present(epoch, whole)
        if self.hidden is not None:
            batch = self._hide(batch, self.hidden, epoch, indices)
        return batch if kinds is None else self._leave_out(batch, kinds)

    def _present(self, epoch: int, indices: Tensor) -> dict[str, Tensor]:
        """Return which of the samples have which modality after hiding."""
        if self.hidden is None or not self.hidden.marks_absent:
            return {name: mask.index_select(0, indices) for name, mask in self.present.items()}
        mask_BM = self.hidden.mask(epoch).index_select(0, indices)
        return dict(zip(self.present, mask_BM.T, strict=True))

    def _hide(self, batch: Batch, hidden: HiddenModalities, epoch: int, indices: Tensor) -> Batch:
        present = batch["present"]
        visible = dict(zip(present, hidden.mask(epoch).index_select(0, indices).T, strict=True))
        batch["hidden"] = {name: present[name] & ~visible[name] for name in present}
        if hidden.keeps_truth:
            batch["truth"] = batch["inputs"]
        batch["inputs"] = {name: _zeroed(x, visible[name]) for name, x in batch["inputs"].items()}
        if hidden.marks_absent:
            batch["present"] = visible
        return batch

    def _leave_out(self, batch: Batch, kinds: RowKinds) -> Batch:
        """Leave out all other modalities of rows with one alone."""
        present = batch["present"]
        batch["present"] = _kept(present, kinds.alone)
        batch["left_out"] = {name: has & ~batch["present"][name] for name, has in present.items()}
        batch["copy"] = kinds.copy
        if kinds.alone_in_batch is not None:
            batch["present_in_batch"] = _kept(batch["present_in_batch"], kinds.alone_in_batch)
        return batch

    def check_plan(self, counts: Tensor) -> None:
        """Check that rows can be made of the samples.

        Args:
            counts: (N, 1 + M) whole numbers, see :class:`~mla_lightning.data.row_plan.RowPlan`.

        Raises:
            DataError: If there are counts of other samples or modalities, or rows of one modality
                alone of samples that may not have it.
        """
        if counts.shape != (len(self), 1 + len(self.inputs)):
            raise DataError(
                f"A plan of rows of {len(self)} samples and {len(self.inputs)} modalities has "
                f"counts ({len(self)}, {1 + len(self.inputs)}), not {tuple(counts.shape)}."
            )
        hides = self.hidden is not None and self.hidden.marks_absent
        for position, (name, has) in enumerate(self.present.items(), start=1):
            is_alone = counts[:, position] > 0
            if bool((is_alone & ~has).any()) or (hides and bool(is_alone.any())):
                raise DataError(
                    f"Rows with {name!r} alone need samples that have it, and some lack it. Train "
                    "without missing modalities."
                )

    def _transformed(
        self, inputs: Mapping[str, Tensor], epoch: int, indices: Tensor, kinds: RowKinds | None
    ) -> dict[str, Tensor]:
        assert self.transform is not None
        generator = torch.Generator()
        samples = []
        copies = [0] * len(indices) if kinds is None else kinds.copy.tolist()
        for position, (index, copy) in enumerate(zip(indices.tolist(), copies, strict=True)):
            place = (epoch, index, copy) if copy else (epoch, index)
            generator.manual_seed(derive_seed(self.seed, "augment", *place))
            sample = {name: values[position] for name, values in inputs.items()}
            samples.append(self.transform(sample, generator))
        return {name: torch.stack([sample[name] for sample in samples]) for name in inputs}


@dataclass
class HiddenModalities:
    """Modalities that are hidden from a split's samples.

    Attributes:
        mask: Epoch -> (N, M) bool, in the order of the samples and of the data set's inputs; true
            where a modality is not hidden.
        marks_absent: Whether ``present`` of batches is False for hidden modalities; otherwise they
            look present, with zeros as inputs.
        keeps_truth: Whether batches also hold the inputs before hiding, for methods that learn to
            reconstruct them.

    Example:
        >>> hidden = HiddenModalities(lambda epoch: torch.tensor([[True, False], [True, True]]))
        >>> inputs = {"audio": torch.ones(2, 1), "image": torch.ones(2, 1)}
        >>> dataset = ArrayDataset(inputs, torch.tensor([0, 1]), hidden=hidden)
        >>> batch = dataset[Request(0, torch.tensor([0, 1]))]
        >>> batch["inputs"]["image"].flatten(), batch["present"]["image"]
        (tensor([0., 1.]), tensor([False,  True]))
    """

    mask: Callable[[int], Tensor]
    marks_absent: bool = True
    keeps_truth: bool = False


def _rows_of_mask(mask: Callable[[int], Tensor], numbers: Tensor, epoch: int) -> Tensor:
    return mask(epoch)[numbers]


def _kept(present: Mapping[str, Tensor], alone: Tensor) -> dict[str, Tensor]:
    """Return which modalities are present in rows, of which some keep the one at ``alone``."""
    return {
        name: has & ((alone < 0) | (alone == position))
        for position, (name, has) in enumerate(present.items())
    }


def _zeroed(x: Tensor, keep: Tensor) -> Tensor:
    """Replace rows by zeros, except those to keep; by selection, so that NaN becomes 0, too."""
    return torch.where(keep.view(-1, *[1] * (x.ndim - 1)), x, torch.zeros((), dtype=x.dtype))


class TrainLoader(DataLoader):
    """A DataLoader in the order of a :class:`TrainOrder` that can resume at any batch.

    Lightning stores the state of loaders that have one. Every iteration is one epoch, the one after
    the last; after :meth:`load_state_dict` it is the rest of the interrupted epoch.

    Example:
        >>> dataset = ArrayDataset({"audio": torch.zeros(4, 1)}, torch.tensor([0, 1, 0, 1]))
        >>> order = TrainOrder(num_samples=4, batch_size=2, seed=0)
        >>> loader = TrainLoader(dataset, sampler=order, **loader_options(num_workers=0))
        >>> sorted(torch.cat([batch["index"] for batch in loader]).tolist())
        [0, 1, 2, 3]
        >>> loader.state_dict()["epoch"]  # the next one
        1
    """

    sampler: TrainOrder

    def follow(self, counts: Tensor, order: str = "rows") -> None:
        """Set how often each sample occurs in the epochs to come, before the first one begins.

        The number of batches changes with it. It is no part of :meth:`state_dict`: whoever plans
        the rows sets them again after a resume.

        Args:
            counts: (N, 1 + M) whole numbers: how often each sample occurs whole, and with each of
                the modalities alone. With 1 and zeros for every sample, epochs are the usual ones.
            order: How rows are divided into batches, see
                :class:`~mla_lightning.data.row_plan.RowPlan`.

        Raises:
            DataError: If there is no row, or rows cannot be made of the samples.
        """
        cast(ArrayDataset, self.dataset).check_plan(counts)
        plan = RowPlan(counts, order)
        self.sampler.plan = None if plan.is_plain else plan

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        """Yield the batches of an epoch; the position is read when the first one is requested."""
        self.sampler.begin()
        # Without workers torch's iterator would take longer than the gather.
        requests = (self.collate_fn(self.dataset[request]) for request in self.sampler)
        for batch in super().__iter__() if self.num_workers else requests:
            self.sampler.advance()  # before the yield: a checkpoint after the batch must count it
            yield batch

    def set_epoch(self, epoch: int) -> None:
        """Set the position to the start of an epoch, from 0."""
        self.sampler.set_epoch(epoch)

    def batches_of(self, epoch: int) -> Iterator[Any]:
        """Yield the batches of any epoch, whatever the position, which stays.

        Args:
            epoch: The epoch, from 0.
        """
        order = TrainOrder(self.sampler.num_samples, self.sampler.batch_size, self.sampler.seed)
        order.set_epoch(epoch)
        if not self.num_workers:
            yield from (self.collate_fn(self.dataset[request]) for request in order)
            return
        yield from DataLoader(self.dataset, sampler=order, **loader_options(self.num_workers))

    def state_dict(self) -> dict[str, int]:
        """Return the number and the epoch of the batch to deliver next."""
        return self.sampler.state_dict()

    def load_state_dict(self, state_dict: Mapping[str, int]) -> None:
        """Set the position; see :meth:`TrainOrder.load_state_dict`."""
        self.sampler.load_state_dict(state_dict)


def identity(batch: Any) -> Any:
    """Return the batch of the data set unchanged."""
    return batch


def loader_options(num_workers: int) -> dict[str, Any]:
    """Return the DataLoader options that all loaders share.

    Args:
        num_workers: Worker processes; 0 for none, which is fastest for data in memory.

    Returns:
        Keyword arguments of ``torch.utils.data.DataLoader``.

    Example:
        >>> loader_options(num_workers=2)["persistent_workers"]
        True
    """
    return {
        "batch_size": None,  # an item is a batch
        "collate_fn": identity,
        "num_workers": num_workers,
        "worker_init_fn": begin_worker,
        "persistent_workers": num_workers > 0,
        # Starting an iteration draws a number, by default from the global generator.
        "generator": torch.Generator().manual_seed(0),
    }
