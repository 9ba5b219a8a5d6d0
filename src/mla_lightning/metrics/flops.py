"""Floating-point operations of a training step, by PyTorch's counter."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import prod
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

Shape = Sequence[int]
aten = torch.ops.aten


def _mv(matrix: Shape, vector: Shape, *_: Any, **__: Any) -> int:
    return 2 * prod(matrix)


def _addmv(bias: Shape, matrix: Shape, vector: Shape, *_: Any, **__: Any) -> int:
    return 2 * prod(matrix)


def _dot(one: Shape, other: Shape, *_: Any, **__: Any) -> int:
    return 2 * prod(one)


def _addr(matrix: Shape, one: Shape, other: Shape, *_: Any, **__: Any) -> int:
    """Count a multiplication and an addition per entry, as in a matrix product."""
    return 2 * one[0] * other[0]


def _lstm(x: Shape, of_input: Shape, of_state: Shape, *_: Any, **__: Any) -> int:
    """Count the two matrix products of the gates at each step (T, B, D): (4H, D) and (4H, H)."""
    return 2 * x[0] * x[1] * (prod(of_input) + prod(of_state))


def _lstm_backward(x: Shape, of_input: Shape, of_state: Shape, *_: Any, **__: Any) -> int:
    """Count twice the forward pass: the gradients of the inputs and of the weights."""
    return 2 * _lstm(x, of_input, of_state)


def _attention(query: Shape, key: Shape, value: Shape, *_: Any, **__: Any) -> int:
    """Count scores and their product with the values: (B, heads, S, D), keys (B, heads, T, D)."""
    return 2 * prod(query[:3]) * key[2] * (query[3] + value[3])


def _attention_backward(
    grad: Shape, query: Shape, key: Shape, value: Shape, *_: Any, **__: Any
) -> int:
    """Count five products: the scores again, and four for gradients; as PyTorch does on CUDA."""
    return 2 * prod(query[:3]) * key[2] * (3 * query[3] + 2 * value[3])


#: Operation -> FLOPs by the shapes of its tensors, for operations that PyTorch has no formula for:
#: products with vectors, and operations that exist on the CPU only.
FORMULAS: dict[Any, Any] = {
    aten.mv: _mv,
    aten.addmv: _addmv,
    aten.dot: _dot,
    aten.addr: _addr,
    aten.addr_: _addr,
    aten.mkldnn_rnn_layer: _lstm,
    aten.mkldnn_rnn_layer_backward: _lstm_backward,
    aten._scaled_dot_product_flash_attention_for_cpu: _attention,
    aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward,
}
#: Losses, which are sums of element-wise operations.
LOSSES = frozenset(
    f"{name}{suffix}"
    for name in ("mse_loss", "smooth_l1_loss", "l1_loss", "binary_cross_entropy_with_logits")
    for suffix in ("", "_backward")
)
#: Operations that only create, move or read values.
MOVES = frozenset(
    (
        *("detach", "clone", "copy_", "_to_copy", "lift_fresh", "cat", "stack", "index", "select"),
        *("empty", "empty_like", "new_empty", "new_empty_strided", "empty_strided", "resize_"),
        *("zeros", "zeros_like", "new_zeros", "ones", "ones_like", "new_ones", "full", "full_like"),
        *("new_full", "scalar_tensor", "arange", "eye", "zero_", "fill_", "set_", "alias", "equal"),
        *("index_put", "index_put_", "_index_put_impl_", "index_select", "gather", "scatter"),
        *("scatter_", "masked_select", "nonzero", "one_hot", "embedding", "repeat", "roll", "flip"),
        *("_local_scalar_dense", "bernoulli_", "uniform_", "normal_", "randn", "rand", "randperm"),
        *("slice_backward", "select_backward", "unfold_backward", "constant_pad_nd", "sort"),
    )
)


class StepFlops(FlopCounterMode):
    """Counts the FLOPs of what runs in its context.

    A multiplication and an addition are two operations. Element-wise operations and sums are not
    counted, as is usual.

    Attributes:
        uncounted: Names of other operations that have no formula.

    Example:
        >>> with StepFlops() as flops:
        ...     _ = torch.ones(2, 3) @ torch.ones(3, 4)
        ...     with flops.paused():
        ...         _ = torch.ones(9, 9) @ torch.ones(9, 9)
        >>> flops.get_total_flops(), 2 * (2 * 3 * 4)
        (48, 48)
    """

    def __init__(self) -> None:
        """Start at zero."""
        super().__init__(display=False, custom_mapping=FORMULAS)
        self.uncounted: set[str] = set()
        self._is_paused = False

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Count nothing in this context."""
        before, self._is_paused = self._is_paused, True
        try:
            yield
        finally:
            self._is_paused = before

    def _count_flops(self, func_packet: Any, out: Any, args: Any, kwargs: Any) -> Any:
        if self._is_paused:
            return out
        if func_packet not in self.flop_registry and _computes(func_packet):
            self.uncounted.add(func_packet.__name__)
        return super()._count_flops(func_packet, out, args, kwargs)


def _computes(packet: Any) -> bool:
    """Return whether an operation is more than element-wise, a sum, or a move of values."""
    name: str = getattr(packet, "__name__", "")
    is_no_work = name in MOVES | LOSSES or name.startswith(("_foreach_", "_record_function"))
    is_no_work |= str(packet).startswith("c10d.")  # messages between ranks
    if not hasattr(packet, "overloads") or is_no_work:
        return False
    ops = [getattr(packet, overload) for overload in packet.overloads()]
    cheap = {torch.Tag.pointwise, torch.Tag.reduction}
    return not any(cheap & set(op.tags) or op.is_view for op in ops)
