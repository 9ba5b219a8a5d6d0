"""Labels of each task: their form in items, stores and batches, their checks and summaries."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mla_lightning.data.splits import Strata
from mla_lightning.errors import DataError, near
from mla_lightning.run_folder.tasks import CLASSIFICATION, MULTILABEL, REGRESSION

if TYPE_CHECKING:
    from torch import Tensor

#: The label of every sample of a store without labels, whatever the task.
UNLABELLED = -1
#: Number of parts, of equally many samples, of a target's range that a drawn split divides evenly.
NUM_PARTS = 10
#: Fewest samples of a part of the range.
_MIN_PER_PART = 10
_MAX_NAMED = 8


class Targets(ABC):
    """The labels of a task; ``names`` are the classes, the L labels, or () for regression."""

    task: str
    #: Type of ``label.npy``.
    dtype: np.dtype

    def num_outputs(self, names: Sequence[str]) -> int:
        """Return the number of outputs of a head."""
        return len(names)

    @abstractmethod
    def encoded(self, texts: Sequence[str], names: Sequence[str]) -> np.ndarray:
        """Return the array of a store: (N, ...) of the labels of items, given as texts."""

    @abstractmethod
    def problems(self, label: np.ndarray, names: Sequence[str]) -> Iterator[str]:
        """Yield a clause per problem of the array of a store."""

    def tensor(self, label: np.ndarray) -> Tensor:
        """Return the labels of a batch, from the array of a store."""
        import torch

        return torch.from_numpy(np.asarray(label).astype(np.float32))

    def check(self, label: Tensor, num_outputs: int, where: str) -> None:
        """Check the labels of a split.

        Args:
            label: The labels of all samples.
            num_outputs: Number of outputs of a head.
            where: Name of data set and split, for messages.

        Raises:
            DataError: If they do not have the form of the task.
        """
        from mla_lightning.batch import label_problem  # imports torch

        if problem := label_problem(label, num_outputs, self.task):
            raise DataError(f"{where}: labels {problem.replace('(B', '(N')}")

    @abstractmethod
    def check_train(self, label: Tensor, names: Sequence[str], where: str) -> None:
        """Check that something can be learnt from the labels of the training split.

        Raises:
            DataError: If a class or label never occurs, or the target is constant.
        """

    @abstractmethod
    def summary(self, labels: Mapping[str, Tensor], names: Sequence[str]) -> dict[str, Any]:
        """Return what the record of a run says of the labels, from split -> labels."""

    @abstractmethod
    def strata(self, label: np.ndarray, names: Sequence[str]) -> Strata:
        """Return what a drawn split divides evenly, from the array of a store."""

    @abstractmethod
    def phrase(self, label: np.ndarray, names: Sequence[str]) -> str:
        """Return a few words on the labels, for titles, from the array of a store."""


class Classes(Targets):
    """One class per sample: int64, the number of the class."""

    task, dtype = CLASSIFICATION, np.dtype(np.int64)

    def encoded(self, texts: Sequence[str], names: Sequence[str]) -> np.ndarray:
        """Return the numbers (N,) of the classes with these names; -1 if there are no classes."""
        if not names:
            return np.full(len(texts), UNLABELLED, dtype=np.int64)
        number_of = {name: number for number, name in enumerate(names)}
        if unknown := next((text for text in texts if text not in number_of), ""):
            raise DataError(f"the label {unknown!r} is no class: {', '.join(names)}")
        return np.array([number_of[text] for text in texts], dtype=np.int64)

    def problems(self, label: np.ndarray, names: Sequence[str]) -> Iterator[str]:
        """Yield a clause per problem; labels of a store without classes are all -1."""
        if len(names) == 1:
            yield f"a data set needs at least two classes, got {list(names)}"
        if label.dtype.kind not in "iu":
            yield f"labels must be whole numbers, got {label.dtype}"
        elif names and (not len(label) or label.min() < 0 or label.max() >= len(names)):
            yield f"labels must be 0 to {len(names) - 1}"
        elif not names and (label != UNLABELLED).any():
            yield f"there are labels and no classes; without classes all labels are {UNLABELLED}"

    def tensor(self, label: np.ndarray) -> Tensor:
        """Return int64."""
        import torch

        return torch.from_numpy(label.astype(np.int64))

    def check(self, label: Tensor, num_outputs: int, where: str) -> None:
        """Check that labels are int64 (N,), from 0 to the number of classes minus 1."""
        import torch

        if label.dtype != torch.int64 or label.ndim != 1:
            raise DataError(
                f"{where}: labels must be one int64 per sample, got {tuple(label.shape)} of "
                f"{label.dtype}"
            )
        lowest, highest = int(label.min()), int(label.max())
        if lowest < 0 or highest >= num_outputs:
            raise DataError(
                f"{where}: labels must be 0 to {num_outputs - 1} for {num_outputs} classes, found "
                f"{lowest} to {highest}"
            )

    def check_train(self, label: Tensor, names: Sequence[str], where: str) -> None:
        """Check that every class has a training sample."""
        import torch

        counts = torch.bincount(label, minlength=len(names)).tolist()
        absent = [repr(c) for c, count in zip(names, counts, strict=True) if count == 0]
        if absent:
            raise DataError(
                f"{where}: no training sample of class {', '.join(absent)}. Add samples, or remove "
                "the class from the data."
            )

    def summary(self, labels: Mapping[str, Tensor], names: Sequence[str]) -> dict[str, Any]:
        """Return ``class_counts``: split -> class -> number of samples."""
        import torch

        counts = {s: torch.bincount(y, minlength=len(names)).tolist() for s, y in labels.items()}
        return {
            "class_counts": {
                split: dict(zip(names, values, strict=True)) for split, values in counts.items()
            }
        }

    def strata(self, label: np.ndarray, names: Sequence[str]) -> Strata:
        """Return the classes."""
        return Strata([names[number] for number in label.tolist()])

    def phrase(self, label: np.ndarray, names: Sequence[str]) -> str:
        """Return the number of classes."""
        return f"{len(names)} classes"


class Numbers(Targets):
    """One number per sample, in the target's own unit: float64 in stores, float32 in batches."""

    task, dtype = REGRESSION, np.dtype(np.float64)

    def num_outputs(self, names: Sequence[str]) -> int:
        """Return 1."""
        return 1

    def encoded(self, texts: Sequence[str], names: Sequence[str]) -> np.ndarray:
        """Return the numbers (N,); -0 becomes 0, which it equals."""
        return np.array([float(text) for text in texts], dtype=np.float64) + 0.0

    def problems(self, label: np.ndarray, names: Sequence[str]) -> Iterator[str]:
        """Yield a clause if there are names, or targets are no numbers that float32 can hold."""
        if names:
            yield f"a regression target has no classes, got {list(names)[:3]}"
        if label.dtype != self.dtype or label.ndim != 1:
            yield f"targets must be (N,) of float64, got {label.shape} of {label.dtype}"
        elif not (np.abs(label) <= float(np.finfo(np.float32).max)).all():
            row = int(np.argmin(np.abs(label) <= float(np.finfo(np.float32).max)))
            yield f"targets must be finite numbers of float32, row {row} has {label[row]}"

    def check_train(self, label: Tensor, names: Sequence[str], where: str) -> None:
        """Check that the target varies."""
        if bool((label == label[0]).all()):
            raise DataError(
                f"{where}: the target is {label[0].item():g} in all training samples, so there is "
                "nothing to learn. Choose another label, or another split."
            )

    def summary(self, labels: Mapping[str, Tensor], names: Sequence[str]) -> dict[str, Any]:
        """Return ``target``: split -> ``min``, ``max``, ``mean`` and ``sd``."""
        return {
            "task": self.task,
            "target": {
                split: {
                    "min": float(y.min()),
                    "max": float(y.max()),
                    "mean": float(y.double().mean()),
                    "sd": float(y.double().std(correction=0)),
                }
                for split, y in labels.items()
            },
        }

    def strata(self, label: np.ndarray, names: Sequence[str]) -> Strata:
        """Return which part of the range, of equally many samples, a target is in.

        Example:
            >>> strata = Numbers().strata(np.arange(40.0), ())
            >>> strata.values[:11], strata.within
            (['0 to 9', ..., '0 to 9', '10 to 19'], 'within 4 parts of the range of the target')
        """
        num = max(1, min(NUM_PARTS, len(label) // _MIN_PER_PART))
        inner = np.unique(np.quantile(label, np.arange(1, num) / num, method="lower"))
        part = np.searchsorted(inner, label, side="left")
        parts = np.unique(part)
        text_of = {p: range_text(label[part == p]) for p in parts.tolist()}
        values = [text_of[p] for p in part.tolist()]
        within = f"within {len(parts)} parts of the range of the target"
        return Strata(values, within if len(parts) > 1 else "")

    def phrase(self, label: np.ndarray, names: Sequence[str]) -> str:
        """Return the range."""
        return f"target {range_text(label)}"


class LabelSets(Targets):
    """Any subset of L labels per sample: 0 and 1, uint8 in stores, float32 in batches."""

    task, dtype = MULTILABEL, np.dtype(np.uint8)

    def encoded(self, texts: Sequence[str], names: Sequence[str]) -> np.ndarray:
        """Return (N, L); each text is a JSON list of names.

        Example:
            >>> LabelSets().encoded(['["dog"]', '[]', '["cat", "dog"]'], ("cat", "dog")).tolist()
            [[0, 1], [0, 0], [1, 1]]
        """
        number_of = {name: number for number, name in enumerate(names)}
        label = np.zeros((len(texts), len(names)), dtype=np.uint8)
        for row, text in enumerate(texts):
            label[row, [number_of[name] for name in json.loads(text)]] = 1
        return label

    def problems(self, label: np.ndarray, names: Sequence[str]) -> Iterator[str]:
        """Yield a clause if there are fewer than two labels, or values are not 0 and 1."""
        if len(names) < 2:
            yield f"several labels per sample need at least two labels, got {list(names)}"
        if label.dtype != self.dtype or label.shape[1:] != (len(names),):
            expected = f"(N, {len(names)}) of uint8"
            yield f"labels must be {expected}, got {label.shape} of {label.dtype}"
        elif (label > 1).any():
            yield "labels must be 0 or 1"

    def check_train(self, label: Tensor, names: Sequence[str], where: str) -> None:
        """Check that every label has a training sample."""
        counts = label.sum(dim=0).tolist()
        absent = [repr(name) for name, count in zip(names, counts, strict=True) if not count]
        if absent:
            more = f" and {len(absent) - _MAX_NAMED} more" if len(absent) > _MAX_NAMED else ""
            raise DataError(
                f"{where}: no training sample has the label {', '.join(absent[:_MAX_NAMED])}{more}."
                " Add samples, remove the label from the data, or choose another split."
            )

    def summary(self, labels: Mapping[str, Tensor], names: Sequence[str]) -> dict[str, Any]:
        """Return ``label_counts``: split -> label -> number of samples that have it."""
        return {
            "task": self.task,
            "label_counts": {
                split: dict(zip(names, map(int, y.sum(dim=0).tolist()), strict=True))
                for split, y in labels.items()
            },
        }

    def strata(self, label: np.ndarray, names: Sequence[str]) -> Strata:
        """Return the labels, rare ones with more weight, and an equal weight of every sample."""
        counts = np.maximum(label.sum(axis=0, dtype=np.int64), 1)
        every = np.full((len(label), 1), 1 / max(len(label), 1))
        return Strata(
            np.hstack([label / counts, every]),
            "with each label divided as evenly as possible",
            names=tuple(names),
        )

    def phrase(self, label: np.ndarray, names: Sequence[str]) -> str:
        """Return the number of labels, and how many a sample has on average."""
        return f"{len(names)} labels, {label.sum(axis=1).mean():.3g} per sample"


#: Task -> its labels.
TARGETS: Mapping[str, Targets] = {t.task: t for t in (Classes(), Numbers(), LabelSets())}


def targets_of(task: str, where: str) -> Targets:
    """Return the labels of a task.

    Raises:
        DataError: If this version does not know the task.

    Example:
        >>> targets_of("regression", "data/my").dtype
        dtype('float64')
    """
    if task not in TARGETS:
        raise DataError(
            f"{where} has the task {task!r}, which this version of mla_lightning does not know."
            f"{near(task, TARGETS)} Known: {', '.join(TARGETS)}."
        )
    return TARGETS[task]


def has_labels(task: str, names: Sequence[str]) -> bool:
    """Return whether a store has labels; without, it has neither classes nor another task.

    Example:
        >>> has_labels("regression", ()), has_labels("classification", ())
        (True, False)
    """
    return bool(names) or task != CLASSIFICATION


def range_text(values: np.ndarray) -> str:
    """Return the range of some numbers, as a text.

    Example:
        >>> range_text(np.array([2.0, -1.5])), range_text(np.array([2.0]))
        ('-1.5 to 2', '2')
    """
    low, high = float(np.min(values)), float(np.max(values))
    return f"{low:.4g}" if low == high else f"{low:.4g} to {high:.4g}"
