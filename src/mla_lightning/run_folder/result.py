"""The result of a finished run, which ``result.json`` holds."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cache
from typing import Annotated, Any

from mla_lightning.errors import RunError
from mla_lightning.run_folder.schema import AtLeast, Count, describe_type, fits_type, format_value

#: Version of the file's layout. In layout 1 code was not recorded module by module: ``identity``
#: and ``code`` have another meaning there, and are only shown.
SCHEMA = 2
READABLE = (1, SCHEMA)

#: Modality or ``multi`` -> metric -> value, None if no sample of the split has the modality.
Scores = dict[str, dict[str, float | None]]
Seconds = Annotated[float, AtLeast(0)]


@dataclass(frozen=True, kw_only=True)
class Result:
    """The numbers of a finished run, and what they were measured on.

    Attributes:
        identity: Hash of config and data; see :mod:`mla_lightning.identity`.
        split: The data set's named split.
        unimodal_rule: How the fusion computes a single modality's logits.
        lr: The optimiser's learning rate.
        best_epoch: The epoch whose weights were evaluated, counted from 1.
        val: Scores on the validation split, computed after training.
        test: Scores on the test split, None if it was not evaluated.
        probe_accuracy: Split -> modality -> accuracy of a linear classifier on frozen features.
        notes: Sentences that readers of the numbers should know.
        missing: Realised missing rates, hash of the masks, accuracy by missing pattern.
        overrides: Overrides that distinguish the run from others with its data and method.
        code: Hash of the code that computed it.
        metrics: How to show metrics that the package does not define, by name.

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
    split: str | None
    num_train: Count
    num_val: Annotated[int, AtLeast(0)]
    num_test: Annotated[int, AtLeast(0)]
    modalities: list[str]
    unimodal_rule: str
    lr: float | None = None
    epochs: Count
    best_epoch: Count
    val: dict[str, Any] | None
    test: dict[str, Any] | None
    probe_accuracy: dict[str, Any] | None = None
    notes: list[str] = field(default_factory=list)
    missing: dict[str, Any] | None = None
    train_time_s: Seconds
    epoch_time_s: Seconds
    step_time_s: Seconds | None = None
    peak_memory_mb: Annotated[float, AtLeast(0)]
    num_parameters: Annotated[int, AtLeast(0)]
    num_batches_trained: Annotated[int, AtLeast(0)] | None = None
    overrides: dict[str, Any]
    code: str = ""
    threads: int | None = None
    device: str = ""
    metrics: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return the content of ``result.json``."""
        return {"schema": SCHEMA, **asdict(self)}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Result:
        """Build the result from a file's content.

        Args:
            content: The content; keys of later versions are ignored.

        Raises:
            RunError: If the layout is unknown, a key is missing, or a value has the wrong type or
                is out of range; the message names it.
        """
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
        for split in ("val", "test"):
            if values[split] is not None:
                _check_scores(split, values[split], values["modalities"])
        return cls(**values)


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


def _check_scores(split: str, scores: Mapping[str, Any], modalities: list[str]) -> None:
    missing = [name for name in (*modalities, "multi") if name not in scores]
    if missing:
        raise RunError(f"{split} has no scores of {', '.join(missing)}")
    for name, by_metric in scores.items():
        if not isinstance(by_metric, Mapping):
            text = format_value(by_metric)
            raise RunError(f"{split}.{name} must be a mapping of metrics, is {text}")
        if "accuracy" not in by_metric:
            raise RunError(f"{split}.{name} has no accuracy")
        for metric, value in by_metric.items():
            if not fits_type(value, float | None):
                text = format_value(value)
                raise RunError(f"{split}.{name}.{metric} must be a number, is {text}")
