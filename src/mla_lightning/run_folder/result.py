"""The result of a finished run, which ``result.json`` holds."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import typing
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cache
from typing import Annotated, Any

from mla_lightning.errors import RunError
from mla_lightning.run_folder.schema import (
    AtLeast,
    AtMost,
    Count,
    describe_type,
    fits_type,
    format_value,
)
from mla_lightning.run_folder.tasks import CLASSIFICATION, PRIMARY

#: Version of the file's layout. In layout 1 code was not recorded module by module: ``identity``
#: and ``code`` have another meaning there, and are only shown.
SCHEMA = 2
READABLE = (1, SCHEMA)

#: Key of ``result.json`` that holds the hash of its other keys.
CHECKSUM = "sha256"

#: Modality or ``multi`` -> metric -> value, None if no sample of the split has the modality.
Scores = dict[str, dict[str, float | None]]
#: Up to about three hundred years.
Seconds = Annotated[float, AtLeast(0), AtMost(1e10)]
#: Number of samples, epochs, batches or parameters; even a parameter per atom of a gram is less.
Number = Annotated[int, AtLeast(0), AtMost(10**15)]
Epochs = Annotated[int, AtLeast(1), AtMost(10**9)]
#: Metrics that are fractions, whatever the data are.
FRACTIONS = (
    *("accuracy", "ece", "macro_f1", "macro_recall", "weighted_f1"),
    *("micro_f1", "mean_ap", "acc2", "f1_2", "acc5", "acc7"),
)
#: What rounding may add to a metric.
ROUNDING = 1e-6


@dataclass(frozen=True)
class Range:
    """The values that a metric can have, up to rounding."""

    low: float
    high: float = math.inf

    def holds(self, value: float) -> bool:
        """Return whether a value is within the range; NaN is not."""
        return self.low - ROUNDING <= value <= self.high + ROUNDING

    def __str__(self) -> str:
        """Return the range in words."""
        if self.high == math.inf:
            return f"at least {self.low:g}"
        return f"between {self.low:g} and {self.high:g}"


#: Metric -> its range, where it has one whatever the data are.
RANGES: Mapping[str, Range] = {
    "mae": Range(0),
    "correlation": Range(-1, 1),
    **dict.fromkeys(FRACTIONS, Range(0, 1)),
}


@dataclass(frozen=True, kw_only=True)
class Result:
    """The numbers of a finished run, and what they were measured on.

    Attributes:
        identity: Hash of config and data; see :mod:`mla_lightning.identity`.
        task: The data set's task; see :mod:`mla_lightning.run_folder.tasks`.
        select_by: The metric by which the epoch was selected.
        split: The data set's named split.
        unimodal_rule: How the fusion computes a single modality's logits.
        lr: The optimiser's learning rate.
        best_epoch: The epoch whose weights were evaluated, counted from 1.
        val: Scores on the validation split, computed after training.
        test: Scores on the test split, None if it was not evaluated.
        probe_accuracy: Split -> modality -> accuracy of a linear classifier on frozen features.
        probe_scores: The same of other tasks: the primary metric of a linear model.
        notes: Sentences that readers of the numbers should know.
        missing: Realised missing rates, hash of the masks, accuracy by missing pattern.
        overrides: Overrides that distinguish the run from others with its data and method.
        code: Hash of the code that computed it.
        train_gflop: FLOPs of training, in billions; None if they were not counted.
        device: The device of the process that wrote it.
        devices: Number of devices of each machine that trained together.
        num_nodes: Number of machines.
        metrics: How to show metrics that the package does not define, by name.
        files: Name -> SHA-256 of the other files that the numbers come from; empty for results of
            versions that did not record them.

    Example:
        >>> Result.from_json({"schema": SCHEMA})
        Traceback (most recent call last):
        mla_lightning.errors.RunError: no 'identity'
    """

    identity: str
    name: str
    dataset: str
    method: str
    ablation: str | None
    seed: Annotated[int, AtLeast(0)]
    protocol: str
    task: str = CLASSIFICATION
    select_by: str = "accuracy"
    split: str | None
    num_train: Annotated[Count, AtMost(10**15)]
    num_val: Number
    num_test: Number
    modalities: list[str]
    unimodal_rule: str
    lr: float | None = None
    epochs: Epochs
    best_epoch: Epochs
    val: dict[str, Any] | None
    test: dict[str, Any] | None
    probe_accuracy: dict[str, Any] | None = None
    probe_scores: dict[str, Any] | None = None
    notes: list[str] = field(default_factory=list)
    missing: dict[str, Any] | None = None
    train_time_s: Seconds
    epoch_time_s: Seconds
    step_time_s: Seconds | None = None
    peak_memory_mb: Annotated[float, AtLeast(0), AtMost(1e12)]
    num_parameters: Number
    num_batches_trained: Number | None = None
    train_gflop: Annotated[float, AtLeast(0), AtMost(1e30)] | None = None
    overrides: dict[str, Any]
    code: str = ""
    threads: Annotated[int, AtLeast(1), AtMost(10**6)] | None = None
    device: str = ""
    devices: Count = 1
    num_nodes: Count = 1
    metrics: dict[str, Any] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return the content of ``result.json``, with its checksum."""
        content = {"schema": SCHEMA, **asdict(self)}
        if self.train_gflop is None:
            del content["train_gflop"]  # of most runs: FLOPs are counted on demand
        if self.task == CLASSIFICATION:
            del content["task"], content["probe_scores"]  # as before there were other tasks
        return {**content, CHECKSUM: checksum_of(content)}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Result:
        """Build the result from a file's content.

        Args:
            content: The content; keys of later versions are ignored.

        Raises:
            RunError: If the layout is unknown, a key is missing, or a value has the wrong type or
                is out of range; the message names it.
        """
        if CHECKSUM in content and content[CHECKSUM] != checksum_of(content):
            raise RunError(f"it was changed since the run wrote it (its {CHECKSUM} differs)")
        if content.get("schema") not in READABLE:
            raise RunError(f"schema {content.get('schema')}; this version reads schema {SCHEMA}")
        hints, required = _fields()
        for name in required:
            if name not in content:
                raise RunError(f"no {name!r}")
        values = {name: content[name] for name in hints if name in content}
        for name, value in values.items():
            if not fits_type(value, hints[name]):
                expected = describe_type(hints[name])
                raise RunError(f"{name} must be {expected}, is {format_value(value)}")
        task = values.get("task", CLASSIFICATION)
        if task not in PRIMARY:
            raise RunError(f"task must be one of {', '.join(PRIMARY)}, is {task}")
        for split in ("val", "test"):
            if values[split] is not None:
                _check_scores(split, values[split], values["modalities"], PRIMARY[task].metric)
        if values["best_epoch"] > values["epochs"]:
            best, num = values["best_epoch"], values["epochs"]
            raise RunError(f"best_epoch must be at most epochs, {num}, is {best}")
        return cls(**values)


def checksum_of(content: Mapping[str, Any]) -> str:
    """Return the SHA-256 of the content of a ``result.json``, without its own checksum.

    Example:
        >>> content = {"seed": 0}
        >>> checksum_of({**content, "sha256": "1a"}) == checksum_of(content)
        True
        >>> checksum_of({"seed": 1}) == checksum_of(content)
        False
    """
    others = {key: value for key, value in content.items() if key != CHECKSUM}
    return hashlib.sha256(json.dumps(others, sort_keys=True).encode()).hexdigest()


@cache
def _fields() -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return the types of all fields, and the names of the fields without a default."""
    hints = typing.get_type_hints(Result, include_extras=True)
    no_default = dataclasses.MISSING
    required = tuple(
        item.name
        for item in dataclasses.fields(Result)
        if item.default is no_default and item.default_factory is no_default
    )
    return hints, required


def _check_scores(
    split: str, scores: Mapping[str, Any], modalities: list[str], primary: str
) -> None:
    missing = [name for name in (*modalities, "multi") if name not in scores]
    if missing:
        raise RunError(f"{split} has no scores of {', '.join(missing)}")
    for name, by_metric in scores.items():
        if not isinstance(by_metric, Mapping):
            text = format_value(by_metric)
            raise RunError(f"{split}.{name} must be a mapping of metrics, is {text}")
        if primary not in by_metric:
            raise RunError(f"{split}.{name} has no {primary}")
        for metric, value in by_metric.items():
            if value is None:
                continue
            is_number = fits_type(value, float)
            limits = RANGES.get(metric)
            if not is_number or (limits is not None and not limits.holds(value)):
                expected = str(limits) if is_number else "a number"
                text = format_value(value)
                raise RunError(f"{split}.{name}.{metric} must be {expected}, is {text}")
