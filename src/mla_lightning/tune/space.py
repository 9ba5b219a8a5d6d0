"""Search spaces: the ranges of settings that a search draws from."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mla_lightning.config.search import options, search_path
from mla_lightning.errors import ConfigError, near

#: Significant digits of drawn numbers; more would only lengthen names of folders.
DIGITS = 3


@dataclass(frozen=True)
class Range:
    """The values of one setting: an interval, or a list of values.

    Attributes:
        low: The smallest number.
        high: The largest number.
        log: Whether values differ by factors rather than by differences.
        values: The values of a list; empty for an interval.

    Example:
        >>> Range(low=1e-4, high=0.1, log=True).holds(0.05), Range(values=("sum", "mean")).holds(1)
        (True, False)
    """

    low: float = 0.0
    high: float = 0.0
    log: bool = False
    values: tuple[Any, ...] = ()

    def holds(self, value: object) -> bool:
        """Return whether a value is within the range."""
        if self.values:
            return value in self.values
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        return is_number and self.low <= value <= self.high  # type: ignore[operator]

    def is_at_edge(self, value: float) -> bool:
        """Return whether a number is within a twentieth of the interval from one of its ends."""
        if self.values:
            return False
        scale = math.log if self.log else float
        share = (scale(value) - scale(self.low)) / (scale(self.high) - scale(self.low))
        return not 0.05 <= share <= 0.95

    def rounded(self, value: Any) -> Any:
        """Return a drawn value with few digits, within the range."""
        if self.values or isinstance(value, str):
            return value
        return min(max(float(f"{value:.{DIGITS}g}"), self.low), self.high)


Space = dict[str, Range]


def read_space(name: str, method: str, config_dir: Path | None = None) -> Space:
    """Read the ranges of a method's settings from ``conf/search/NAME.yaml``.

    Args:
        name: Name of the search space.
        method: The method, whose own ranges are added.
        config_dir: A user's own folder of groups, None for none.

    Returns:
        Dotted key -> range.

    Raises:
        ConfigError: If there is no such space, or a range is wrong; the message names file and key.

    Example:
        >>> list(read_space("default", "ogm_ge"))
        ['optimizer.lr', 'optimizer.weight_decay', 'method.alpha']
        >>> read_space("defalt", "mla")
        Traceback (most recent call last):
        mla_lightning.errors.ConfigError: Unknown search 'defalt'. Did you mean ...
    """
    import yaml

    files = options(search_path(config_dir), "search")
    if name not in files:
        raise ConfigError(f"Unknown search {name!r}.{near(name, files)} Known: {', '.join(files)}.")
    path = files[name]
    content = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    if not isinstance(content, Mapping) or set(content) - {"keys", "methods"}:
        raise ConfigError(f"{path} must have keys: and methods: and nothing else")
    entries = {**(content.get("keys") or {}), **((content.get("methods") or {}).get(method) or {})}
    if not entries:
        raise ConfigError(f"{path} has no range for method={method}, so nothing would be searched")
    return {str(key): _range_of(entry, f"{path}: {key}") for key, entry in entries.items()}


def _range_of(entry: object, where: str) -> Range:
    if isinstance(entry, list):
        if len(entry) < 2 or not all(isinstance(v, str | int | float | bool) for v in entry):
            raise ConfigError(f"{where}: a list needs two values or more, got {entry}")
        return Range(values=tuple(entry))
    if not isinstance(entry, Mapping) or set(entry) - {"low", "high", "log"}:
        raise ConfigError(f"{where} must be a list, or {{low: ..., high: ..., log: true}}")
    low, high, log = entry.get("low"), entry.get("high"), entry.get("log", False)
    numbers = [v for v in (low, high) if isinstance(v, int | float) and not isinstance(v, bool)]
    if len(numbers) < 2 or not all(map(math.isfinite, numbers)) or not numbers[0] < numbers[1]:
        raise ConfigError(f"{where}: low must be a number below high, got {low} and {high}")
    if not isinstance(log, bool) or (log and numbers[0] <= 0):
        raise ConfigError(f"{where}: log must be true or false, and low above 0 with log: true")
    return Range(float(numbers[0]), float(numbers[1]), log)
