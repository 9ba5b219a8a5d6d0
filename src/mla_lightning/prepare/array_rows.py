"""The rows of an imported array: their kind, their checks, and the values that are stored."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mla_lightning.data.mapped import RowBlocks
from mla_lightning.errors import ConfigError, DataError, near
from mla_lightning.prepare.array_facts import ArrayFacts
from mla_lightning.prepare.array_files import ArrayFile

#: Types of the stored values by the kind of type of the imported ones.
_STORED: dict[str, np.dtype] = {
    "f": np.dtype("float32"),
    "i": np.dtype("int64"),
    "u": np.dtype("uint8"),
}
#: Kind of an array -> kind in the store, where the names differ.
_STORE_KINDS = {"sequence": "features"}
#: Smallest height and width that the encoders of images and spectrograms take.
_MIN_SIZE = 8
#: Token ids from this on have no embedding; even half as many rows need 100 GB or more.
MOST_TOKENS = 1 << 28


@dataclass
class ImportedArray:
    """The array of a modality, which is read and checked block by block.

    Attributes:
        array: The array of the file.
        kind: Its kind: that of the store, ``sequence`` for features (N, T, D), or empty while the
            shape could be a sequence or a spectrogram.
        present: (N,) bool, where the modality is present; None if the values say it.
        lengths: (N,) steps of the sequences; None if the values say it.
        reason: Why it is of this kind.
        is_missing: (N,) bool, where the modality is missing; found by :meth:`check`.
        facts: Range, scale and what may mislead; found by :meth:`check`.
        num_steps: (N,) steps of the sequences; found by :meth:`check`.
        problems: Row -> why it cannot be imported; found by :meth:`check`.
    """

    array: ArrayFile
    kind: str
    present: np.ndarray | None = None
    lengths: np.ndarray | None = None
    reason: str = ""
    is_missing: np.ndarray = field(init=False)
    facts: ArrayFacts = field(init=False)
    num_steps: np.ndarray = field(init=False)
    problems: dict[int, str] = field(init=False, default_factory=dict)

    @property
    def store_kind(self) -> str:
        """Kind of the modality in the store."""
        return _STORE_KINDS.get(self.kind, self.kind)

    def check(self) -> None:
        """Read all rows once, and find the missing ones and those with a problem.

        Raises:
            DataError: If the array is damaged, or the modality is missing in all rows.
        """
        self.facts = ArrayFacts(self.array.name, self.kind or "sequence", self.array.shape[0])
        num, start = self.array.shape[0], 0
        self.is_missing, self.num_steps = np.zeros(num, dtype=bool), np.zeros(num, dtype=np.int64)
        has_padding = False
        for block in self.array.blocks():
            rows = slice(start, start + len(block))
            values, is_pad = self._convert(block, rows)
            start += len(block)
            self.facts.add(values, self.is_missing[rows])
            has_padding |= bool((is_pad.any(axis=1) & ~is_pad.all(axis=1)).any())
            if self.lengths is not None:
                self.num_steps[rows] = self.lengths[rows]
            elif self.kind in ("sequence", ""):
                is_step = np.cumsum((values != 0).any(axis=2)[:, ::-1], axis=1)[:, ::-1] > 0
                self.num_steps[rows] = is_step.sum(axis=1)
        if not self.kind and has_padding:
            self.kind, self.reason = "sequence", "float (N, T, D) with steps of NaN at the end"
        if self.is_missing.all():
            raise DataError(f"{self.where} is missing in all rows. Leave the array out")

    def check_kind(self) -> None:
        """Check that it is clear what the array holds, and that an encoder can take it.

        Raises:
            ConfigError: If only an option can say whether these are sequences or spectrograms.
            DataError: If token ids are too large for an embedding.
        """
        if self.kind == "tokens" and self.facts.high >= MOST_TOKENS:
            name = self.array.name
            raise DataError(
                f"{self.where} has token ids up to {self.facts.high:,.0f}, and an embedding has a "
                f"row for each. Number them anew: np.unique({name}, return_inverse=True); if these "
                f"are values and not ids: {name}.astype('float32')"
            )
        if not self.kind:
            raise ConfigError(
                f"{self.where}, float of shape {self.array.shape}, can be sequences of feature "
                f"vectors (N, T, D) or spectrograms (N, T, F). Say it: arrays.{self.array.name}="
                f"sequence or arrays.{self.array.name}=spectrogram"
            )

    def rows(self, keep: np.ndarray) -> RowBlocks:
        """Return the rows to be stored, which are read again when they are written.

        Args:
            keep: (N,) bool, the rows that are stored.
        """

        def blocks() -> Iterator[np.ndarray]:
            start = 0
            for block in self.array.blocks():
                rows = slice(start, start + len(block))
                start += len(block)
                values, _ = self._convert(block, rows)
                yield values if keep[rows].all() else values[keep[rows]]

        shape = (int(keep.sum()), *self.array.shape[1:])
        return RowBlocks(_STORED[self.array.dtype.kind], shape, blocks)

    @property
    def where(self) -> str:
        """The file and the array, for messages."""
        return f"{self.array.path}: {self.array.name!r}"

    def message(self) -> str:
        """Return the error of the first row with a problem, with its remedy."""
        row, reason = next(iter(self.problems.items()))
        count = f"in {len(self.problems)} of {self.array.shape[0]} rows"
        reason = f"{reason[:-1]}; {count})" if reason.endswith(")") else f"{reason} ({count})"
        remedy = "Correct the values"
        if "not finite" in reason:
            remedy = "Replace such values (np.nan_to_num)"
            if "nan" in reason:
                name = self.array.name
                remedy += ", set the whole row to NaN if the modality is missing for this sample "
                remedy += f"(or add an array '{name}.present')"
        if "token id" in reason:
            remedy = "If these are values and not ids, use .astype('float32'); else correct them"
        if "too large" in reason:
            remedy = "Scale the values"
        return (
            f"{self.where}, row {row}: {reason}. {remedy}, or leave these samples out with "
            "on_bad=skip"
        )

    def description(self) -> dict[str, Any]:
        """Return kind, options and shape of a sample, as the manifest of the store has them."""
        return {"kind": self.store_kind, "options": {}, "shape": [*self.array.shape[1:]]}

    def _convert(self, block: np.ndarray, rows: slice) -> tuple[np.ndarray, np.ndarray]:
        """Return the values to store and (B, T) bool, the steps that are NaN padding; find faults.

        What is missing or padding becomes zeros.
        """
        is_pad = np.zeros((len(block), 1), dtype=bool)
        is_missing = np.zeros(len(block), dtype=bool)
        if self.present is not None:
            is_missing |= ~self.present[rows]
        with np.errstate(over="ignore"):
            values = block.astype(_STORED[block.dtype.kind], copy=False)
        if self.lengths is not None:
            lengths = self.lengths[rows]
            is_missing |= lengths == 0
            values[np.arange(values.shape[1]) >= lengths[:, None]] = 0
        values[is_missing] = 0
        is_wrong = np.zeros(len(block), dtype=bool)
        if self.kind == "tokens":
            is_wrong = values.min(axis=1) < 0
        elif values.dtype.kind == "f" and not np.isfinite(values).all():
            is_nan = np.isnan(values)
            if self.present is None and self.lengths is None:
                is_missing |= is_nan.reshape(len(block), -1).all(axis=1)
                values[is_missing] = 0
            if self.kind in ("sequence", "") and self.lengths is None:
                nan_steps = is_nan.all(axis=2)
                is_pad = np.logical_and.accumulate(nan_steps[:, ::-1], axis=1)[:, ::-1]
                is_pad &= ~is_missing[:, None]
                values[is_pad] = 0
            is_wrong = ~np.isfinite(values).reshape(len(block), -1).all(axis=1)
        for row in np.flatnonzero(is_wrong).tolist():
            self.problems[rows.start + row] = _problem(block[row], values[row])
        self.is_missing[rows] = is_missing
        return values, is_pad


def array_kind(array: ArrayFile, kinds: Mapping[str, str], *, has_lengths: bool) -> str:
    """Return the kind of an array by its type, shape and option.

    Args:
        array: The array.
        kinds: Array -> ``sequence`` or ``spectrogram``, as the user says.
        has_lengths: Whether there are lengths of its sequences.

    Returns:
        The kind; empty for float (N, T, D) of which nothing says what it is.

    Raises:
        ConfigError: If the option does not fit the array.
        DataError: If the type or shape is none that an encoder takes.
    """
    kind, shape = array.dtype.kind, array.shape[1:]
    where = f"{array.path}: {array.name!r}"
    option = kinds.get(array.name, "sequence" if has_lengths else "")
    if option and (kind != "f" or len(shape) != 2):
        given = f"arrays.{array.name}={option}" if array.name in kinds else "an array of lengths"
        raise ConfigError(
            f"{where} is {array.dtype} of shape {array.shape}; {given} is for float (N, T, D)"
        )
    if has_lengths and option != "sequence":
        raise ConfigError(
            f"{where} has an array of lengths, and arrays.{array.name}={option} takes none"
        )
    if kind == "f" and len(shape) == 1 and shape[0] > 0:
        return "features"
    if 0 in shape:
        raise DataError(f"{where} has the shape {array.shape}: its rows are empty")
    result = None
    if kind == "f" and len(shape) == 2:
        result = option
    elif kind == "i" and len(shape) == 1:
        result = "tokens"
    elif array.dtype == np.uint8 and len(shape) == 3 and shape[0] in (1, 3):
        result = "image"
    elif array.dtype == np.uint8 and len(shape) == 4 and shape[1] == 3:
        result = "frames"
    if result is None:
        raise DataError(
            f"{where} is {array.dtype} of shape {array.shape}. Allowed are float (N, D) features, "
            "float (N, T, D) sequences, float (N, T, F) spectrograms, int (N, L) tokens, uint8 "
            f"(N, 3, H, W) images and uint8 (N, T, 3, H, W) frames. {_remedy(array)}"
        )
    if result in ("image", "frames", "spectrogram") and min(shape[-2:]) < _MIN_SIZE:
        remedy = f"arrays.{array.name}=sequence" if kind == "f" else "enlarge them"
        raise DataError(
            f"{where}, {result} of {shape[-2]} x {shape[-1]}: the encoders of this kind take at "
            f"least {_MIN_SIZE} x {_MIN_SIZE}. Use {remedy}, or import features (N, D): "
            f"{array.name}.reshape(len({array.name}), -1).astype('float32')"
        )
    return result


def kind_reason(array: ArrayFile, kind: str, kinds: Mapping[str, str]) -> str:
    """Return why an array is of a kind, for the plan.

    Args:
        array: The array.
        kind: Its kind, as :func:`array_kind` returns it.
        kinds: Array -> kind, as the user or another store says.
    """
    if kind in ("sequence", "spectrogram"):
        option = f"arrays.{array.name}={kind}"
        return option if array.name in kinds else f"float (N, T, D) with {array.name}.lengths"
    return {
        "features": "float (N, D)",
        "tokens": "int (N, L)",
        "image": "uint8 (N, C, H, W)",
        "frames": "uint8 (N, T, 3, H, W)",
    }.get(kind, f"float (N, T, D); say arrays.{array.name}=sequence or spectrogram")


def _remedy(array: ArrayFile) -> str:
    """Return how to convert an array that is of no kind."""
    name, kind, shape = array.name, array.dtype.kind, array.shape[1:]
    code = ""
    if kind in "US":
        return "Texts belong into a table (.csv, .jsonl or .parquet), a row per sample"
    if array.dtype == np.uint8 and len(shape) in (2, 3, 4):
        code = {
            2: f"{name}[:, None] for grey images",
            3: f"{name}[..., :3].transpose(0, 3, 1, 2)",
            4: f"{name}[..., :3].transpose(0, 1, 4, 2, 3)",
        }[len(shape)]
        code = code if shape[-1] in (1, 3, 4) or len(shape) == 2 else ""
    elif kind in "fiub" and len(shape) == 0:
        code = f"{name}[:, None].astype('float32') for one number per sample"
    elif kind in "iu" and len(shape) == 1:
        code = f"{name}.astype('float32') for values, .astype('int64') for token ids"
    elif kind == "f" and len(shape) == 3 and (3 in (shape[0], shape[2]) or 1 in shape):
        code = f"(255 * {name}).round().astype('uint8') for images of values from 0 to 1"
    elif kind == "b":
        code = ".astype('float32')"
    elif kind == "c":
        code = f"np.abs({name})"
    return f"Convert it with {code or '.astype, .reshape or .transpose.'}"


def check_kinds(kinds: Mapping[str, str], names: list[str]) -> None:
    """Check the options ``arrays.NAME=KIND``.

    Raises:
        ConfigError: If there is no such array or kind.
    """
    allowed = ("sequence", "spectrogram")
    for name, kind in kinds.items():
        if name not in names:
            raise ConfigError(
                f"arrays.{name}: there is no array {name!r}.{near(name, names)} There are: "
                f"{', '.join(names)}"
            )
        if kind not in allowed:
            raise ConfigError(
                f"arrays.{name}={kind}: must be sequence or spectrogram.{near(kind, allowed)}"
            )


def _problem(original: np.ndarray, converted: np.ndarray) -> str:
    """Return why a row cannot be imported."""
    if converted.dtype.kind == "i":
        return f"a token id is below 0 ({converted.min()}), and 0 is padding"
    value = original[~np.isfinite(converted)][0]
    if np.isfinite(value):
        return f"a value is too large for float32: {value}"
    return f"a value is not finite ({value})"
