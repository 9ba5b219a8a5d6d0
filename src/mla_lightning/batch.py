"""Batches: what data loaders return, methods train on, and encoders get their inputs from."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from itertools import pairwise
from math import ceil
from typing import Any, NotRequired, TypedDict

import torch
from torch import Tensor

from mla_lightning import ranks
from mla_lightning.errors import DataError, near
from mla_lightning.run_folder.tasks import CLASSIFICATION, REGRESSION


class Batch(TypedDict):
    """A batch, as data modules return it.

    ``inputs``: modality -> tensor whose first axis is the batch. ``label``: (B,) int64, the number
    of the class; of regression (B,) float32, in the target's own unit; of several labels (B, L)
    float32, 1 for each label that the sample has. ``index``: (B,) int64, the sample's stable number
    in its split. ``present``: modality -> (B,) bool, false for samples without the modality, whose
    input then has no meaning.

    ``hidden``: modality -> (B,) bool, true where the protocol of missing modalities hides it;
    omitted if nothing is hidden. ``truth``: the inputs before hiding; only in training, and only
    for methods that learn to reconstruct them (``needs_hidden_inputs``).

    ``left_out``: modality -> (B,) bool, true where the training rule hides it; its input is there.
    ``copy``: (B,) int64, the row's number among those of its sample. Only if rows are planned.

    ``present_in_batch`` and ``label_in_batch``: in a chunk of a batch, or a rank's part of one,
    ``present`` and ``label`` of all its samples; omitted in a whole batch.
    """

    inputs: dict[str, Tensor]
    label: Tensor
    index: Tensor
    present: dict[str, Tensor]
    truth: NotRequired[dict[str, Tensor]]
    hidden: NotRequired[dict[str, Tensor]]
    left_out: NotRequired[dict[str, Tensor]]
    copy: NotRequired[Tensor]
    present_in_batch: NotRequired[dict[str, Tensor]]
    label_in_batch: NotRequired[Tensor]


def as_batch(
    batch: Mapping[str, Any],
    modalities: Sequence[str],
    *,
    needs: Collection[str] = ("label",),
    is_complete: bool = False,
    task: str = CLASSIFICATION,
) -> Batch:
    """Convert a plain dict of tensors to the form that methods take.

    Args:
        batch: ``{"audio": (B, ...), "visual": (B, ...), "label": (B,)}``, and optionally ``index``
            (B,), each sample's number, and ``present``, modality -> (B,) bool. A :class:`Batch` is
            returned as it is.
        modalities: The modalities in use; others are omitted.
        needs: Which of ``label`` and ``index`` the batch must have.
        is_complete: Whether absent modalities are an error.
        task: The task of the labels: whole numbers become int64 for classification, float32 for
            others.

    Returns:
        The batch. Defaults: ``label`` -1, ``index`` counting from 0, every modality present.

    Raises:
        DataError: If it is not a dict, a modality or a needed entry is missing, lengths differ, or
            ``present`` has an unknown modality, or absent ones of complete samples.

    Example:
        >>> batch = as_batch({"audio": torch.zeros(2, 3), "label": torch.tensor([0, 1])}, ["audio"])
        >>> batch["present"]["audio"], batch["index"]
        (tensor([True, True]), tensor([0, 1]))
        >>> as_batch({"audio": torch.zeros(2, 3)}, ["audio"])
        Traceback (most recent call last):
        ...
        mla_lightning.errors.DataError: The batch has no 'label'; it has 'audio'. A batch is a dict
        with a tensor per modality and 'label'; ...
    """
    if not isinstance(batch, Mapping):
        raise DataError(
            f"A batch must be a dict with a tensor per modality and 'label', not a "
            f"{type(batch).__name__}; give the DataLoader a dataset whose samples are such dicts."
        )
    is_converted = "inputs" in batch
    required = (*needs,) if is_converted else (*modalities, *needs)
    missing = [name for name in required if name not in batch]
    if missing:
        raise DataError(
            f"The batch has no {', '.join(map(repr, missing))}; it has "
            f"{', '.join(map(repr, batch))}. A batch is a dict with a tensor per modality and "
            "'label'; a method that remembers samples also needs 'index', each one's number in the "
            "training set."
        )
    if is_converted:
        return batch  # type: ignore[return-value]
    inputs = {name: batch[name] for name in modalities}
    size, device = len(inputs[modalities[0]]), inputs[modalities[0]].device
    present = {} if batch.get("present") is None else batch["present"]
    if not isinstance(present, Mapping):
        raise DataError(
            "batch['present'] must be a dict of modality -> bool tensor (B,), not a "
            f"{type(present).__name__}."
        )
    _check_present(present, batch, modalities if is_complete else ())
    all_true = torch.ones(size, dtype=torch.bool, device=device)
    no_label = torch.full((size,), -1, device=device)
    complete: Batch = {
        "inputs": inputs,
        "label": _converted(batch["label"], task) if "label" in batch else no_label,
        "index": batch.get("index", torch.arange(size, device=device)),
        "present": {name: present.get(name, all_true) for name in modalities},
    }
    lengths = {name: len(x) for name, x in inputs.items()} | {"label": len(complete["label"])}
    lengths |= {f"present of {name}": len(has) for name, has in complete["present"].items()}
    if len(set(lengths.values())) > 1:
        raise DataError(f"The batch's tensors differ in length: {lengths}")
    return complete


def check_labels(
    label: Tensor, num_outputs: int, *, lowest: int = 0, task: str = CLASSIFICATION
) -> None:
    """Check the labels of a plain batch.

    Args:
        label: Labels (B,), or (B, L) of several labels.
        num_outputs: Number of classes C or labels L; 1 for regression.
        lowest: The smallest label; -1 where samples may have none.
        task: The task of the labels.

    Raises:
        DataError: If they do not have the form of the task, see :func:`label_problem`.

    Example:
        >>> check_labels(torch.tensor([0, 2]), 3)
        >>> check_labels(torch.tensor([0, 3]), 3)
        Traceback (most recent call last):
        mla_lightning.errors.DataError: batch['label'] must be from 0 to 2, for 3 classes; a batch
        has labels from 0 to 3.
        >>> check_labels(torch.tensor([0.5, torch.nan]), 1, task="regression")
        Traceback (most recent call last):
        mla_lightning.errors.DataError: batch['label'] must be finite numbers; sample 1 has nan.
    """
    if task != CLASSIFICATION:
        if lowest < 0 and is_unlabelled(label):
            return
        if problem := label_problem(label, num_outputs, task, has_unknown=lowest < 0):
            raise DataError(f"batch['label'] {problem}.")
        return
    if not isinstance(label, Tensor) or label.dim() != 1 or label.dtype != torch.int64:
        raise DataError(
            "batch['label'] must be a tensor (B,) of int64, the number of each sample's class, not "
            f"{_form(label)}."
        )
    if len(label) and not lowest <= int(label.min()) <= int(label.max()) < num_outputs:
        raise DataError(
            f"batch['label'] must be from {lowest} to {num_outputs - 1}, for {num_outputs} "
            f"classes; a batch has labels from {int(label.min())} to {int(label.max())}."
        )


def label_problem(label: Tensor, num_outputs: int, task: str, *, has_unknown: bool = False) -> str:
    """Return what is wrong with the labels of regression, or with several labels per sample.

    Args:
        label: Targets (B,) of regression, or (B, L) of 0 and 1.
        num_outputs: Number of labels L; 1 for regression.
        task: ``regression`` or ``multilabel``.
        has_unknown: Whether NaN stands for a label that is not known.

    Returns:
        A clause such as ``must be finite numbers; sample 1 has nan``; empty if nothing is.

    Example:
        >>> label_problem(torch.tensor([[0.0, 1.0], [1.0, 2.0]]), 2, "multilabel")
        'must be 0 or 1; sample 1 has 2'
        >>> label_problem(torch.tensor([0, 1]), 1, "regression")
        'must be a tensor (B,) of float32, the target of each sample, not (2,) of torch.int64'
    """
    is_number = task == REGRESSION
    dims, shape = (1, "(B,)") if is_number else (2, f"(B, {num_outputs})")
    is_float = isinstance(label, Tensor) and label.dtype == torch.float32
    if not is_float or label.dim() != dims or (not is_number and label.shape[1] != num_outputs):
        meaning = "the target of each sample" if is_number else "1 for each label of a sample"
        return f"must be a tensor {shape} of float32, {meaning}, not {_form(label)}"
    is_valid = label.isfinite() if is_number else (label == 0) | (label == 1)
    if has_unknown:
        is_valid |= label.isnan()
    if bool(is_valid.all()):
        return ""
    place = (~is_valid).nonzero()[0]
    allowed = "finite numbers" if is_number else "0 or 1"
    return f"must be {allowed}; sample {int(place[0])} has {label[tuple(place)].item():g}"


def is_unlabelled(label: Tensor) -> bool:
    """Return whether labels say that no sample of a batch or split has any, whatever the task.

    Example:
        >>> is_unlabelled(torch.tensor([-1, -1])), is_unlabelled(torch.tensor([-1.0, 0.5]))
        (True, False)
    """
    is_whole = isinstance(label, Tensor) and label.dtype == torch.int64 and label.dim() == 1
    return is_whole and bool((label == -1).all())


def _form(label: Any) -> str:
    """Return shape and type of a tensor, or another value as a short text."""
    is_tensor = isinstance(label, Tensor)
    form = f"{tuple(label.shape)} of {label.dtype}" if is_tensor else repr(label)
    return f"{form:.80}"


#: Types of whole numbers beside int64, which files often hold.
_WHOLE = (torch.int32, torch.int16, torch.uint8)


def _converted(label: Any, task: str) -> Any:
    """Return labels in the type that losses need: int64, or float32 of tasks without classes."""
    if not isinstance(label, Tensor):
        return label
    if task == CLASSIFICATION:
        return label.long() if label.dtype in _WHOLE else label
    is_convertible = label.dtype in (*_WHOLE, torch.int64, torch.bool, torch.float64)
    return label.float() if is_convertible and not is_unlabelled(label) else label


def _check_present(
    present: Mapping[str, Tensor], batch: Mapping[str, Any], complete: Sequence[str]
) -> None:
    """Check that ``present`` has modalities of a plain batch, true for the complete ones."""
    modalities = [key for key in batch if key not in Batch.__annotations__]
    for name, has in present.items():
        if name not in modalities:
            raise DataError(
                f"batch['present'] has {name!r}, which is no modality of the batch."
                f"{near(name, modalities)} Modalities: {', '.join(modalities)}"
            )
        if not isinstance(has, Tensor) or has.dtype != torch.bool or has.dim() != 1:
            form = f"{tuple(has.shape)} of {has.dtype}" if isinstance(has, Tensor) else repr(has)
            raise DataError(
                f"batch['present'][{name!r}] must be a bool tensor (B,), true for the samples that "
                f"have it, not {form:.80}. Convert numbers with .bool()."
            )
        if name in complete and not bool(has.all()):
            raise DataError(
                f"batch['present'] has samples without {name!r}, but the method is for complete "
                "samples: build it with is_complete=False, or train the run with missing=..."
            )


def num_in_batch(chunk: Batch) -> int:
    """Return the number of samples of the whole batch that a chunk, or a rank's part, is of.

    Example:
        >>> inputs = {"audio": torch.zeros(5, 3), "label": torch.arange(5)}
        >>> [num_in_batch(chunk) for chunk, _ in chunks_of(as_batch(inputs, ["audio"]), 2)]
        [5, 5]
    """
    return len(chunk.get("label_in_batch", chunk["label"]))


def chunks_of(batch: Batch, num_chunks: int) -> Iterator[tuple[Batch, float]]:
    """Split a batch, or a rank's part of one, into chunks of nearly equal size.

    Args:
        batch: The batch or the part.
        num_chunks: Number of chunks. Of a part there are as many on every rank, some of them
            without samples if it has none of a modality.

    Yields:
        A chunk, and its fraction of the whole batch's samples; the batch itself for one chunk. A
        mean over some of the samples has another fraction, see :func:`relative_share`.

    Example:
        >>> inputs = {"audio": torch.zeros(5, 3), "label": torch.arange(5)}
        >>> for chunk, fraction in chunks_of(as_batch(inputs, ["audio"]), 2):
        ...     print(chunk["label"], fraction)
        tensor([0, 1, 2]) 0.6
        tensor([3, 4]) 0.4
    """
    size, whole = len(batch["label"]), num_in_batch(batch)
    if "label_in_batch" in batch:
        num_chunks = max(1, min(num_chunks, whole // ranks.world_size()))
        places = [size * number // num_chunks for number in range(num_chunks + 1)]
        for start, end in pairwise(places):
            chunk = slice_batch(batch, slice(start, end)) if num_chunks > 1 else batch
            yield chunk, (end - start) / whole
        return
    if num_chunks == 1:
        yield batch, 1.0
        return
    chunk_size = ceil(size / num_chunks)
    for start in range(0, size, chunk_size):
        chunk = slice_batch(batch, slice(start, start + chunk_size))
        chunk["present_in_batch"], chunk["label_in_batch"] = batch["present"], batch["label"]
        yield chunk, len(chunk["label"]) / size


def relative_share(chunk: Batch, name: str) -> float:
    """Compute the factor that a chunk's mean over the samples with a modality is multiplied by.

    The losses of a chunk count by its fraction of the batch's samples. A mean over the samples that
    have a modality must count by its fraction of *those*: the factor is their ratio. Multiplied by
    it, the means of all chunks add up to that of the batch.

    Args:
        chunk: A chunk of a batch, of which some samples have the modality; or a batch.
        name: The modality.

    Returns:
        The factor; 1 for a whole batch.

    Example:
        Two of the three samples in the first chunk have audio, of three in the batch:

        >>> has = torch.tensor([True, True, False, True, False])
        >>> samples = {"audio": torch.zeros(5, 3), "label": torch.arange(5)}
        >>> batch = as_batch({**samples, "present": {"audio": has}}, ["audio"])
        >>> for chunk, fraction in chunks_of(batch, 2):
        ...     print(round(fraction * relative_share(chunk, "audio"), 4))
        0.6667
        0.3333
    """
    if "present_in_batch" not in chunk:
        return 1.0
    has, has_in_batch = chunk["present"][name], chunk["present_in_batch"][name]
    share = int(has.sum()) / int(has_in_batch.sum())
    return share * len(has_in_batch) / len(has)


def weight_share(
    chunk: Batch, weights_of: Callable[[Tensor], Tensor | None], name: str | None = None
) -> Tensor | float | None:
    """Compute the factor that a chunk's mean with weights of samples is multiplied by.

    It is :func:`relative_share` with the sum of the weights in place of the number of samples.

    Args:
        chunk: A chunk of a batch, or a batch.
        weights_of: Returns the weights (B,) of samples by their labels; None if all are equal.
        name: The modality, for a mean over the samples that have it; None for all samples.

    Returns:
        The factor, 1 for a whole batch; None if all weights are equal.

    Example:
        The third sample counts as much as the first two together:

        >>> inputs = {"audio": torch.zeros(3, 2), "label": torch.tensor([0, 0, 1])}
        >>> weights_of = lambda label: 1.0 + label
        >>> for chunk, fraction in chunks_of(as_batch(inputs, ["audio"]), 2):
        ...     print(round(float(fraction * weight_share(chunk, weights_of)), 4))
        0.5
        0.5
    """
    weights = weights_of(chunk["label"])
    if weights is None or "label_in_batch" not in chunk:
        return None if weights is None else 1.0
    in_batch = weights_of(chunk["label_in_batch"])
    assert in_batch is not None
    inverse_fraction = len(in_batch) / len(weights)
    if name is not None:
        weights = weights[chunk["present"][name]]
        in_batch = in_batch[chunk["present_in_batch"][name]]
    return weights.sum() / in_batch.sum() * inverse_fraction


def slice_batch(
    batch: Batch, rows: slice | Tensor, rows_in_batch: slice | Tensor = slice(None)
) -> Batch:
    """Return some samples of a batch.

    Args:
        batch: The batch.
        rows: A slice, or a bool mask (B,).
        rows_in_batch: The same of what it has of a whole batch, by default all.

    Returns:
        A batch of these samples, in the same order.

    Example:
        >>> batch = as_batch({"audio": torch.zeros(3, 2), "label": torch.arange(3)}, ["audio"])
        >>> slice_batch(batch, torch.tensor([True, False, True]))["label"]
        tensor([0, 2])
    """
    sliced: dict[str, Any] = {}
    for key, values in batch.items():
        chosen = rows_in_batch if key.endswith("_in_batch") else rows
        is_dict = isinstance(values, dict)
        sliced[key] = {m: x[chosen] for m, x in values.items()} if is_dict else values[chosen]  # type: ignore[attr-defined,index]
    return sliced  # type: ignore[return-value]
