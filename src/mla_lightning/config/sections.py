"""Work on the sections of configs, done once for each section that jobs share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

Result = TypeVar("Result")


def once_per_section(function: Callable[[str, Any], Result]) -> Callable[[str, Any], Result]:
    """Build a function that computes its result once for each section object.

    The jobs of a sweep share the sections in which they do not differ, see
    :class:`mla_lightning.config.interpolation.Resolver`. Sections must not be changed meanwhile.

    Args:
        function: Takes a top-level key of a config and its value, the section.

    Returns:
        A function with the same results, which keeps its sections and results.

    Example:
        >>> calls = []
        >>> count = once_per_section(lambda key, section: calls.append(key) or len(section))
        >>> data = {"path": "data/new", "batch_size": 32}
        >>> count("data", data), count("data", data), calls
        (2, 2, ['data'])
    """
    # The section is kept with its result, so that its id is not used again.
    results: dict[tuple[str, int], tuple[Any, Result]] = {}

    def remembered(key: str, section: Any) -> Result:
        entry = results.get((key, id(section)))
        if entry is None:
            entry = results[key, id(section)] = (section, function(key, section))
        return entry[1]

    return remembered
