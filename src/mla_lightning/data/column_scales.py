"""Numbers that scale the columns of features, computed from the training split.

They are cached beside the store's arrays. The cache is no part of the store: it is in no hash, and
without it the numbers are computed again.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

import numpy as np

from mla_lightning.data.temporary import new_file
from mla_lightning.run_folder import not_world_writable

if TYPE_CHECKING:
    from mla_lightning.data.loading import Rows

Scale = Literal["none", "standard", "robust", "log"]
#: Values of ``data.scale``.
SCALES: tuple[str, ...] = get_args(Scale)
#: The cache, in the store's folder.
CACHE = ".scales.json"
#: A column whose deviation is below this fraction of its largest value is constant: the rest is
#: rounding of single precision.
_ROUNDING = 1e-6
_TINIEST = 1e-30
_BLOCK_VALUES = 1 << 22


class ColumnScales(NamedTuple):
    """Numbers by which columns are scaled: (x - mean) * factor, after a logarithm if ``is_log``.

    Attributes:
        mean: Mean, or median, of each column.
        factor: 1 over the deviation, or over the distance of the quartiles; 0 if constant.
        is_log: Whether the signed logarithm is taken first.

    Example:
        >>> ColumnScales([2.0], [0.5], False).factor
        [0.5]
    """

    mean: list[float]
    factor: list[float]
    is_log: bool


def column_scales(rows: Rows, numbers: np.ndarray, scale: str) -> ColumnScales:
    """Compute the numbers that scale each column, in double precision, block by block.

    Args:
        rows: Features (N, D) or sequences (N, T, D), whose all-zero steps are padding.
        numbers: The rows to compute them from: those of the training split that are present.
        scale: ``standard`` (mean and standard deviation), ``robust`` (median and distance of the
            quartiles; the standard deviation where that is zero) or ``log`` (signed logarithm, then
            standard).

    Returns:
        The numbers; a constant column has the factor 0.

    Example:
        >>> import torch
        >>> x = torch.tensor([[1.0, 5.0], [3.0, 5.0], [100.0, 7.0]])
        >>> column_scales(x, np.array([0, 1]), "standard")
        ColumnScales(mean=[2.0, 5.0], factor=[1.0, 0.0], is_log=False)
    """
    import torch

    is_log = scale == "log"

    def blocks() -> Iterator[np.ndarray]:
        width = max(1, int(np.prod(rows.shape[1:])))
        for chunk in np.array_split(numbers, -(-len(numbers) * width // _BLOCK_VALUES) or 1):
            block = rows.index_select(0, torch.from_numpy(chunk.astype(np.int64))).double().numpy()
            if block.ndim == 3:
                block = block[(block != 0).any(axis=2)]
            yield np.sign(block) * np.log1p(np.abs(block)) if is_log else block

    count, mean, squares, largest = _moments(blocks, rows.shape[-1])
    deviation = np.sqrt(squares / max(count, 1))
    spread = deviation
    if scale == "robust" and count:
        lower, mean, upper = _quartiles(blocks, count, len(mean))
        spread = np.where(upper - lower > _ROUNDING * largest, upper - lower, deviation)
    is_constant = spread <= np.maximum(_ROUNDING * largest, _TINIEST)
    factor = np.where(is_constant, 0.0, 1 / np.where(is_constant, 1.0, spread))
    return ColumnScales(mean.tolist(), factor.tolist(), is_log)


def cached_scales(
    folder: Path, key: str, compute: Callable[[], ColumnScales], columns: int
) -> ColumnScales:
    """Return the cached numbers of a store, or compute and cache them.

    Args:
        folder: The store. If it cannot be written, nothing is cached.
        key: Hash of all that the numbers depend on.
        compute: Computes them.
        columns: Number of columns D.

    Example:
        >>> scales = ColumnScales([2.0], [0.1], False)
        >>> cached_scales(tmp, "a", lambda: scales, 1) == scales
        True
        >>> cached_scales(tmp, "a", lambda: 1 / 0, 1) == scales  # not computed again
        True
    """
    path = folder / CACHE
    entries = _read(path)
    with contextlib.suppress(KeyError, TypeError, ValueError):
        entry = entries[key]
        mean, factor = [float(v) for v in entry["mean"]], [float(v) for v in entry["factor"]]
        if len(mean) == len(factor) == columns and np.isfinite([*mean, *factor]).all():
            return ColumnScales(mean, factor, bool(entry["is_log"]))
    scales = compute()
    text = json.dumps({**entries, key: scales._asdict()}) + "\n"
    with contextlib.suppress(OSError), not_world_writable(), new_file(path) as file:
        file.write(text.encode())
    return scales


def _moments(
    blocks: Callable[[], Iterator[np.ndarray]], columns: int
) -> tuple[int, np.ndarray, np.ndarray, np.ndarray]:
    """Compute count, mean, sum of squares and largest magnitude by column (Chan et al. 1979)."""
    count, mean = 0, np.zeros(columns)
    squares, largest = np.zeros(columns), np.zeros(columns)
    for block in blocks():
        if not (num := len(block)):
            continue
        block_mean = block.mean(axis=0)
        difference = block_mean - mean
        total = count + num
        squares += ((block - block_mean) ** 2).sum(axis=0) + difference**2 * (count * num / total)
        mean = mean + difference * (num / total)
        largest = np.maximum(largest, np.abs(block).max(axis=0))
        count = total
    return count, mean, squares, largest


def _quartiles(
    blocks: Callable[[], Iterator[np.ndarray]], count: int, columns: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Compute the quartiles of each column, with a bounded number of columns in memory."""
    quartiles = np.empty((3, columns))
    step = max(1, 8 * _BLOCK_VALUES // count)
    for start in range(0, columns, step):
        values = np.concatenate([block[:, start : start + step] for block in blocks()])
        quartiles[:, start : start + step] = np.percentile(values, [25, 50, 75], axis=0)
    return quartiles[0], quartiles[1], quartiles[2]


def _read(path: Path) -> dict[str, Any]:
    with contextlib.suppress(OSError, ValueError, RecursionError):
        content = json.loads(path.read_text(encoding="utf-8"))
        return content if isinstance(content, dict) else {}
    return {}
