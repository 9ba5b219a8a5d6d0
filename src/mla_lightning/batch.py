"""The batch: what a loader gives, a method trains on, and an encoder's inputs come from."""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil
from typing import NotRequired, TypedDict

from torch import Tensor


class Batch(TypedDict):
    """What a data module hands over.

    ``inputs``: per modality a tensor whose first axis is the batch. ``label``: (B,) int64.
    ``index``: (B,) int64, the sample's stable number in its split. ``present``: per modality (B,)
    bool, False where the sample lacks the modality, whose input is of no meaning then.

    ``hidden``, per modality (B,) bool: what is missing by protocol; left out where nothing is. For
    methods that learn to reconstruct (``wants_truth``), in training: ``truth``, the inputs with
    what was hidden.
    """

    inputs: dict[str, Tensor]
    label: Tensor
    index: Tensor
    present: dict[str, Tensor]
    truth: NotRequired[dict[str, Tensor]]
    hidden: NotRequired[dict[str, Tensor]]


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
