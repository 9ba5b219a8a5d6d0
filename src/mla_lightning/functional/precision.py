"""Precision of computations that half precision would spoil."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor


def at_least_single(x: Tensor) -> Tensor:
    """Convert half precision to single precision; double precision stays as it is.

    Args:
        x: Numbers, of any shape and precision.

    Returns:
        The same numbers in float32, or in float64 if they are given in it.

    Example:
        >>> dtypes = (torch.bfloat16, torch.float16, torch.float32, torch.float64)
        >>> [at_least_single(torch.ones(1, dtype=dtype)).dtype for dtype in dtypes]
        [torch.float32, torch.float32, torch.float32, torch.float64]
    """
    return x if x.dtype == torch.float64 else x.float()


@contextmanager
def no_autocast(device: str) -> Iterator[None]:
    """Compute without graph and in the precision of the operands within the context.

    Args:
        device: Type of the device, such as ``cuda``.

    Example:
        >>> with torch.autocast("cpu", dtype=torch.bfloat16), no_autocast("cpu"):
        ...     (torch.ones(1, 1) @ torch.ones(1, 1)).dtype
        torch.float32
    """
    with torch.no_grad(), torch.autocast(device, enabled=False):
        yield
