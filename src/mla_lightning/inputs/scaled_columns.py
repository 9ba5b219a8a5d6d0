"""Input of features whose columns are scaled by numbers of the training split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from mla_lightning.inputs.base import BatchRandomness, Input
from mla_lightning.inputs.features import Features


class ScaledColumns(nn.Module, Input):
    """Feature vectors (B, D) or sequences (B, T, D), each column scaled by numbers of its own.

    A value x becomes (x - mean) * factor, after ``sign(x) log(1 + |x|)`` if ``is_log``. The
    numbers are buffers: they are part of a checkpoint and move to the device with the module. Steps
    of sequences that are all zero are padding and stay zero.

    Example:
        >>> x = torch.tensor([[1.0, 5.0], [3.0, 5.0]])
        >>> ScaledColumns(mean=[2.0, 5.0], factor=[1.0, 0.0])(x)
        tensor([[-1.,  0.],
                [ 1.,  0.]])
    """

    kinds: ClassVar[frozenset[str]] = Features.kinds
    mean: Tensor
    factor: Tensor
    is_log: Tensor

    def __init__(
        self, mean: Sequence[float], factor: Sequence[float], *, is_log: bool = False
    ) -> None:
        """Set the numbers.

        Args:
            mean: Subtracted from the columns, D numbers.
            factor: Multiplied with the columns after that, D numbers; 0 for a constant column.
            is_log: Whether the signed logarithm is taken first.
        """
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32))
        self.register_buffer("factor", torch.tensor(factor, dtype=torch.float32))
        self.register_buffer("is_log", torch.tensor(is_log))

    def forward(self, x: Tensor, randomness: BatchRandomness | None = None) -> Tensor:
        """Convert a batch; see :class:`Input`."""
        x = x.float()
        values = torch.where(self.is_log, x.sign() * x.abs().log1p(), x)
        scaled = (values - self.mean) * self.factor
        return scaled if x.ndim == 2 else scaled * (x != 0).any(dim=-1, keepdim=True)


def scaled_columns_of(state: Mapping[str, Tensor]) -> dict[str, ScaledColumns]:
    """Return the scaled inputs of a run's checkpoint.

    Args:
        state: The weights of its module, with ``scales.<modality>.mean`` and so on.

    Returns:
        Modality -> input with the numbers of the run's training split.

    Example:
        >>> scaled = nn.ModuleDict({"audio": ScaledColumns(mean=[2.0], factor=[0.5])})
        >>> state = {f"scales.{key}": value for key, value in scaled.state_dict().items()}
        >>> scaled_columns_of(state)["audio"](torch.tensor([[4.0]]))
        tensor([[1.]])
    """
    keys = [key.split(".") for key in state if key.startswith("scales.") and key.endswith(".mean")]
    inputs = {}
    for _, name, _ in keys:
        mean, factor, is_log = (state[f"scales.{name}.{k}"] for k in ("mean", "factor", "is_log"))
        inputs[name] = ScaledColumns(mean.tolist(), factor.tolist(), is_log=bool(is_log))
    return inputs
