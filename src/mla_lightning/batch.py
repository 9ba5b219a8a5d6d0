"""The batch: what a loader gives, a method trains on, and an encoder's inputs come from."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from math import ceil
from typing import Any, NotRequired, TypedDict

import torch
from torch import Tensor

from mla_lightning.errors import DataError


class Batch(TypedDict):
    """What a data module hands over.

    ``inputs``: per modality a tensor whose first axis is the batch. ``label``: (B,) int64.
    ``index``: (B,) int64, the sample's stable number in its split. ``present``: per modality (B,)
    bool, False where the sample lacks the modality, whose input is of no meaning then.

    ``hidden``, per modality (B,) bool: what is missing by protocol; left out where nothing is. For
    methods that learn to reconstruct (``needs_hidden_inputs``), in training: ``truth``, the inputs
    with what was hidden.
    """

    inputs: dict[str, Tensor]
    label: Tensor
    index: Tensor
    present: dict[str, Tensor]
    truth: NotRequired[dict[str, Tensor]]
    hidden: NotRequired[dict[str, Tensor]]


def as_batch(
    batch: Mapping[str, Any], modalities: Sequence[str], *, needs: Collection[str] = ("label",)
) -> Batch:
    """Return a batch as methods take it, from one of this form or from a plain dict of tensors.

    Args:
        batch: ``{"audio": (B, ...), "visual": (B, ...), "label": (B,)}``, and where it is known
            ``index`` (B,), each sample's number, and ``present``, modality -> (B,) bool. Or a
            :class:`Batch`, which is returned as it is.
        modalities: The modalities in use; further ones are left out.
        needs: Of ``label`` and ``index``, what must be there.

    Returns:
        The batch. Where it is not given, ``label`` is -1, ``index`` counts from 0, and all is
        present.

    Raises:
        DataError: If a modality or what is needed is missing, or lengths differ.

    Example:
        >>> batch = as_batch({"audio": torch.zeros(2, 3), "label": torch.tensor([0, 1])}, ["audio"])
        >>> batch["present"]["audio"], batch["index"]
        (tensor([True, True]), tensor([0, 1]))
    """
    if "inputs" in batch:
        return batch  # type: ignore[return-value]
    missing = [name for name in (*modalities, *needs) if name not in batch]
    if missing:
        raise DataError(
            f"The batch has no {', '.join(map(repr, missing))}; it has "
            f"{', '.join(map(repr, batch))}. A batch is a dict with a tensor per modality and "
            "'label'; a method that remembers samples also needs 'index', each one's number in the "
            "training set."
        )
    inputs = {name: batch[name] for name in modalities}
    size, device = len(inputs[modalities[0]]), inputs[modalities[0]].device
    known = batch.get("present") or {}
    everything = torch.ones(size, dtype=torch.bool, device=device)
    label = torch.full((size,), -1, device=device)
    whole: Batch = {
        "inputs": inputs,
        "label": batch.get("label", label),
        "index": batch.get("index", torch.arange(size, device=device)),
        "present": {name: known.get(name, everything) for name in modalities},
    }
    lengths = {name: len(x) for name, x in inputs.items()} | {"label": len(whole["label"])}
    if len(set(lengths.values())) > 1:
        raise DataError(f"The batch's tensors differ in length: {lengths}")
    return whole


def chunks_of(batch: Batch, pieces: int) -> Iterator[tuple[Batch, float]]:
    """Cut a batch.

    Args:
        batch: The batch.
        pieces: Number of chunks.

    Yields:
        Chunk and its share of the samples; the batch itself where there is one piece.
    """
    size = len(batch["label"])
    if pieces == 1:
        yield batch, 1.0
        return
    width = ceil(size / pieces)
    for start in range(0, size, width):
        chunk = slice_batch(batch, slice(start, start + width))
        yield chunk, len(chunk["label"]) / size


def slice_batch(batch: Batch, part: slice | Tensor) -> Batch:
    """Take samples of a batch: everything in it has a row per sample."""
    return {
        key: {name: rows[part] for name, rows in values.items()}
        if isinstance(values, dict)
        else values[part]  # type: ignore[index]
        for key, values in batch.items()
    }  # type: ignore[return-value]
