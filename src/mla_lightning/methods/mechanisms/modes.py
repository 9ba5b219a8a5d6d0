"""Modes of modules: training and evaluation."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def evaluation_mode(module: nn.Module) -> Iterator[dict[nn.Module, bool]]:
    """Compute without dropout, and with running batch statistics, within the context.

    Afterwards every part of the module has its own mode again.

    Args:
        module: The module.

    Yields:
        Part of the module -> whether it is in training mode outside of the context.

    Example:
        >>> parts = nn.Sequential(nn.Dropout(), nn.BatchNorm1d(2).eval())
        >>> with evaluation_mode(parts):
        ...     print([part.training for part in parts])
        [False, False]
        >>> [part.training for part in parts]
        [True, False]
    """
    modes = {part: part.training for part in module.modules()}
    module.eval()
    try:
        yield modes
    finally:
        for part, is_training in modes.items():
            part.training = is_training
