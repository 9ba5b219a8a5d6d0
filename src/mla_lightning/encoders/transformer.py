"""What the pretrained transformers share: blocks, fixed positions, patches, the mean of tokens."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from mla_lightning.encoders.base import check_at_least
from mla_lightning.errors import ConfigError

#: Side of a patch, in pixels or spectrogram bins, of every encoder here.
PATCH = 16
Gelu = Literal["tanh", "exact"]


def transformer(
    width: int, depth: int, num_heads: int, *, gelu: Gelu, layer_norm_eps: float
) -> nn.TransformerEncoder:
    """Build pre-norm blocks with a four times wider perceptron, without dropout, and a last norm.

    Linear layers start Xavier-uniform with bias 0, as in the codes of MAE, M3AE and CAV-MAE.

    Args:
        width: Width of the tokens; a multiple of ``num_heads`` and of 4.
        depth: Number of blocks.
        num_heads: Number of attention heads.
        gelu: ``exact`` (erf) or the ``tanh`` approximation.
        layer_norm_eps: Added to variances.

    Returns:
        The blocks; they take tokens (B, L, width) and ``src_key_padding_mask`` (B, L), True for
        padding.

    Raises:
        ConfigError: If a size is out of range.
    """
    check_at_least(1, width=width, depth=depth, num_heads=num_heads)
    if width % num_heads or width % 4:
        raise ConfigError(f"width {width} must be a multiple of {num_heads} heads, and of 4")
    if gelu not in ("tanh", "exact"):
        raise ConfigError(f"gelu must be tanh or exact, got {gelu!r}")
    layer = nn.TransformerEncoderLayer(
        width,
        num_heads,
        4 * width,
        dropout=0.0,
        activation=_gelu_tanh if gelu == "tanh" else _gelu_exact,
        layer_norm_eps=layer_norm_eps,
        batch_first=True,
        norm_first=True,
    )
    norm = nn.LayerNorm(width, eps=layer_norm_eps)
    blocks = nn.TransformerEncoder(layer, depth, norm=norm, enable_nested_tensor=False)
    for name, parameter in blocks.named_parameters():  # PyTorch's are copies of one block
        if parameter.ndim == 2:
            nn.init.xavier_uniform_(parameter)
        elif name.endswith("bias"):
            nn.init.zeros_(parameter)
    return blocks


# Functions of our own, since PyTorch's evaluation path takes any `nn.GELU` for the exact one.
def _gelu_tanh(x: Tensor) -> Tensor:
    return functional.gelu(x, approximate="tanh")


def _gelu_exact(x: Tensor) -> Tensor:
    return functional.gelu(x)


def line_positions(length: int, width: int) -> Tensor:
    """Encode positions 0 to length - 1: first half sines, second half cosines, base 10000.

    Args:
        length: Number of positions L.
        width: Width D, even.

    Returns:
        (L, D) float32.
    """
    return _sines(torch.arange(length, dtype=torch.float64), width)


def grid_positions(rows: int, columns: int, width: int) -> Tensor:
    """Encode the places of a grid, row by row: first half the column, second half the row.

    Args:
        rows: Number of rows.
        columns: Number of columns.
        width: Width D, a multiple of 4.

    Returns:
        (rows * columns, D) float32.
    """
    row, column = torch.meshgrid(
        torch.arange(rows, dtype=torch.float64),
        torch.arange(columns, dtype=torch.float64),
        indexing="ij",
    )
    halves = [_sines(values.flatten(), width // 2) for values in (column, row)]
    return torch.cat(halves, dim=1)


def _sines(positions: Tensor, width: int) -> Tensor:
    frequencies = 10000.0 ** -(torch.arange(width // 2, dtype=torch.float64) / (width // 2))
    angles = positions[:, None] * frequencies
    return torch.cat([angles.sin(), angles.cos()], dim=1).float()


def patches(x: Tensor, *, channels_first: bool = False) -> Tensor:
    """Cut images into patches, row by row.

    Args:
        x: (B, C, H, W), H and W multiples of 16.
        channels_first: The values of a patch in the order (channel, row, column) instead of
            (row, column, channel).

    Returns:
        (B, H/16 * W/16, 256 C).
    """
    grid = x.unflatten(3, (-1, PATCH)).unflatten(2, (-1, PATCH))  # B C h p w q
    order = (0, 2, 4, 1, 3, 5) if channels_first else (0, 2, 4, 3, 5, 1)
    return grid.permute(order).flatten(3).flatten(1, 2)


def masked_mean(tokens: Tensor, counts: Tensor | None) -> Tensor:
    """Average the tokens that count.

    Args:
        tokens: (B, L, D).
        counts: (B, L) bool, None for all.

    Returns:
        (B, D); zero where no token counts.
    """
    if counts is None:
        return tokens.mean(dim=1)
    weights = counts.to(tokens.dtype)
    total = torch.einsum("bld,bl->bd", tokens, weights)
    return total / weights.sum(dim=1, keepdim=True).clamp(min=1)
