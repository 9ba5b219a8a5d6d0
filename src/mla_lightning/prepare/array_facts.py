"""Facts about an imported array, collected block by block: range, scale, rows that mislead."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

#: Kinds of arrays whose last axis are columns with a scale of their own.
WITH_COLUMNS = ("features", "sequence", "spectrogram")
#: Most rows, and values, that are kept to be compared with the labels.
_MAX_ROWS, _MAX_VALUES = 4096, 1 << 17
#: Most columns of which each is compared with the labels.
_MAX_COLUMNS = 256
#: A column is constant if its range is below this fraction of its largest value.
_ROUNDING = 1e-6
#: Distance from the mean, in standard deviations, from which a value is worth a warning.
FAR = 50.0
#: Ratio of the deviations of columns, and size of unscaled values, that are worth a warning.
WIDE, LARGE = 1000.0, 1000.0
_MAX_LISTED = 5


@dataclass
class ArrayFacts:
    """Facts about the rows of an array in which its modality is present.

    Attributes:
        name: Name of the array.
        kind: Kind of the array.
        num_rows: Number of all rows N.
        num: Number of rows in which the modality is present.
        num_zero: Number of those that are zeros throughout.
        low: Smallest value.
        high: Largest value.

    Example:
        >>> facts = ArrayFacts("x", "features", 4)
        >>> facts.add(np.array([[1.0, 5.0], [3.0, 5.0]]), np.zeros(2, dtype=bool))
        >>> facts.add(np.array([[8.0, 5.0], [0.0, 0.0]]), np.array([False, True]))
        >>> facts.num, facts.mean.tolist(), facts.constant_columns
        (3, [4.0, 5.0], [1])
        >>> facts.extent()
        '1 to 8, means 4 to 5, deviations 0 to 2.94'
    """

    name: str
    kind: str
    num_rows: int
    num: int = 0
    num_zero: int = 0
    low: float = np.inf
    high: float = -np.inf
    _is_same: bool = True
    _first: np.ndarray | None = None
    _count: int = 0
    mean: np.ndarray = field(default_factory=lambda: np.zeros(1))
    _squares: np.ndarray = field(default_factory=lambda: np.zeros(1))
    _lows: np.ndarray = field(default_factory=lambda: np.full(1, np.inf))
    _highs: np.ndarray = field(default_factory=lambda: np.full(1, -np.inf))
    _num_odd: np.ndarray = field(default_factory=lambda: np.zeros(1, dtype=np.int64))
    _kept: list[np.ndarray] = field(default_factory=list)
    _numbers: list[np.ndarray] = field(default_factory=list)
    _start: int = 0

    def add(self, values: np.ndarray, is_missing: np.ndarray) -> None:
        """Add the next rows.

        Args:
            values: (B, ...) rows; those of a missing modality have no meaning.
            is_missing: (B,) bool.
        """
        rows, start = np.flatnonzero(~is_missing), self._start
        self._start += len(values)
        if not len(rows):
            return
        if values.dtype.kind == "f":  # values that cannot be imported are reported elsewhere
            is_finite = np.isfinite(values[rows])
            axes = tuple(range(is_finite.ndim - 1))
            self._num_odd = self._num_odd + (~is_finite).sum(axis=axes)
            rows = rows[is_finite.reshape(len(rows), -1).all(axis=1)]
        if not len(rows):
            return
        present = values if len(rows) == len(values) else values[rows]
        flat = present.reshape(len(present), -1)
        if self._first is None:
            self._first = flat[0].copy()
        self._is_same = self._is_same and bool((flat == self._first).all())
        self.num += len(flat)
        self.num_zero += int((flat == 0).all(axis=1).sum())
        self.low = min(self.low, float(flat.min()))
        self.high = max(self.high, float(flat.max()))
        if self.kind in WITH_COLUMNS:
            columns = present.reshape(-1, present.shape[-1])
            if self.kind == "sequence":
                columns = columns[(columns != 0).any(axis=1)]
            self._add_moments(columns.astype(np.float64))
        if self.kind in ("features", "tokens"):
            most = max(1, min(_MAX_ROWS, _MAX_VALUES // flat.shape[1]))
            step = -(-self.num_rows // most)
            is_kept = (start + rows) % step == 0
            self._kept.append(flat[is_kept].copy())
            self._numbers.append(start + rows[is_kept])

    def _add_moments(self, block: np.ndarray) -> None:
        """Add to means and sums of squares (Chan et al. 1979)."""
        if not len(block):
            return
        mean, total = block.mean(axis=0), self._count + len(block)
        difference = mean - self.mean
        weight = self._count * len(block) / total
        self._squares = self._squares + ((block - mean) ** 2).sum(axis=0) + weight * difference**2
        self.mean = self.mean + difference * (len(block) / total)
        self._lows = np.minimum(self._lows, block.min(axis=0))
        self._highs = np.maximum(self._highs, block.max(axis=0))
        self._count = total

    @property
    def deviation(self) -> np.ndarray:
        """(D,) standard deviation of each column."""
        return np.sqrt(self._squares / max(self._count, 1))

    @property
    def constant_columns(self) -> list[int]:
        """Columns of one value, of more than one row."""
        if self._count < 2:
            return []
        largest = np.maximum(np.abs(self._lows), np.abs(self._highs))
        return np.flatnonzero(self._highs - self._lows <= _ROUNDING * largest).tolist()

    def extent(self) -> str:
        """Return the range of the values, and of means and deviations of the columns."""
        if not self.num:
            return "no values"
        text = _range(self.low, self.high)
        if self.kind not in WITH_COLUMNS or not self._count:
            return text
        means, deviations = self.mean, self.deviation
        return (
            f"{text}, means {_range(means.min(), means.max())}, deviations "
            f"{_range(deviations.min(), deviations.max())}"
        )

    def warnings(self, labels: Sequence[str] | None) -> list[str]:
        """Return sentences on what may mislead.

        Args:
            labels: (N,) label of each row, to find columns that identify it; None without labels.

        Returns:
            On an array that is the same in all rows, on columns that are constant, number the rows
            or identify the class, on values far from the mean, and on rows of zeros.
        """
        name, sentences = self.name, []
        odd = np.flatnonzero(2 * self._num_odd > self.num_rows).tolist()
        if odd and self.kind == "features":
            verb = "is" if len(odd) == 1 else "are"
            sentences.append(f"{name}: {_listed(odd)} {verb} mostly NaN or infinite: leave out")
        if self.num > 1 and self._is_same:
            return [f"{name} is the same in all rows: it tells nothing about the label"]
        if constant := self.constant_columns:
            verb = "is constant and becomes" if len(constant) == 1 else "are constant and become"
            sentences.append(f"{name}: {_listed(constant)} {verb} 0")
        is_wide = self._first is not None and len(self._first) > 1
        if self.num_zero and is_wide and self.kind in (*WITH_COLUMNS, "tokens"):
            held = "no tokens" if self.kind == "tokens" else "zeros alone"
            sentences.append(
                f"{name}: {self.num_zero} of {self.num} rows hold {held}. If the modality is "
                f"missing there, say so: an array {name}.present"
                + ("" if self.kind == "tokens" else ", or rows of NaN")
            )
        sentences += self._scales()
        return sentences + self._columns_that_tell(labels)

    def _scales(self) -> list[str]:
        """Return sentences on columns of very different scale, and on values far off."""
        if self.kind not in WITH_COLUMNS or self._count < 2:
            return []
        largest = max(abs(self.low), abs(self.high))
        if self.kind == "spectrogram":
            remedy = "take their logarithm, or scale them"
            is_large = f"{self.name} holds values of up to {largest:.3g}, unscaled: {remedy}"
            return [is_large] if largest > LARGE else []
        deviation = np.delete(self.deviation, self.constant_columns)
        if not len(deviation):
            return []
        ratio = deviation.max() / deviation.min()
        sentences = self._far_values()
        if ratio > WIDE:
            sentences.append(
                f"{self.name}: the deviations of its columns differ {ratio:,.0f}-fold, which "
                "standardisation evens out (data.scale=none would not)"
            )
        return sentences

    def _far_values(self) -> list[str]:
        deviation = self.deviation
        deviation[self.constant_columns] = np.inf
        with np.errstate(divide="ignore", invalid="ignore"):
            far = np.maximum(self._highs - self.mean, self.mean - self._lows) / deviation
        column = int(np.nanargmax(far))
        if not far[column] > FAR:
            return []
        is_high = self._highs[column] - self.mean[column] > self.mean[column] - self._lows[column]
        value = self._highs[column] if is_high else self._lows[column]
        return [
            f"{self.name}: column {column} holds {value:.4g}, {far[column]:.0f} deviations off its "
            "mean. Correct it, or train with data.scale=robust or log"
        ]

    def _columns_that_tell(self, labels: Sequence[str] | None) -> list[str]:
        """Return sentences on columns that number the rows or identify the class."""
        if not self._kept or sum(map(len, self._kept)) < 3:
            return []
        rows, numbers = np.concatenate(self._kept), np.concatenate(self._numbers)
        width = rows.shape[1]
        sentences = []
        columns = range(width) if width <= _MAX_COLUMNS else ()
        if counted := [c for c in columns if _numbers_rows(rows[:, c], numbers)]:
            sentences.append(
                f"{self.name}: {_listed(counted)} {'counts' if len(counted) == 1 else 'count'} the "
                "rows, as an identifier: leave it out"
            )
        if labels is None:
            return sentences
        codes = np.unique(np.asarray(labels), return_inverse=True)[1][numbers]
        telling = [c for c in columns if identifies(rows[:, c], codes)]
        hashes = np.array([hash(row.tobytes()) for row in rows])
        if telling or identifies(hashes, codes):
            what = f"each value of {_listed(telling)}" if telling and width > 1 else "each value"
            sentences.append(
                f"{self.name}: {what} occurs with one label only: the label in other words?"
            )
        return sentences


def identifies(values: np.ndarray, codes: np.ndarray) -> bool:
    """Return whether values repeat, most of them, and each occurs with one class only.

    Args:
        values: (N,) values of a column.
        codes: (N,) class numbers.

    Example:
        >>> label = np.array([0, 1, 2, 0, 1, 2])
        >>> identifies(10.0 * label, label), identifies(label % 2, label)
        (True, False)
        >>> identifies(np.arange(6.0), label)  # none repeats
        False
    """
    order = np.lexsort((codes, values))
    values, codes = values[order], codes[order]
    is_new = values[1:] != values[:-1]
    num_distinct = 1 + int(is_new.sum())
    if not 1 < num_distinct <= len(values) / 2:
        return False
    return not bool((~is_new & (codes[1:] != codes[:-1])).any())


def _numbers_rows(values: np.ndarray, numbers: np.ndarray) -> bool:
    """Return whether a column is the number of the row, from any start."""
    return bool((values - values[0] == numbers - numbers[0]).all())


def _listed(columns: Sequence[int]) -> str:
    if len(columns) == 1:
        return f"column {columns[0]}"
    more = f" and {len(columns) - _MAX_LISTED} more" if len(columns) > _MAX_LISTED else ""
    return f"columns {', '.join(map(str, columns[:_MAX_LISTED]))}{more}"


def _range(low: float, high: float) -> str:
    texts = f"{low:.3g}", f"{high:.3g}"
    return " to ".join(dict.fromkeys(texts))
