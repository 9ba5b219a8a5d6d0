"""Building blocks of the pretrained transformers: blocks, fixed positions, patches, masked mean."""

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
    """Build pre-norm transformer blocks with a final norm, without dropout.

    The MLP of a block is four times as wide as the tokens. Linear layers start Xavier-uniform with
    bias 0, as in the codes of MAE, M3AE and CAV-MAE.

    Args:
        width: Width of the tokens, a multiple of ``num_heads`` and of 4.
        depth: Number of blocks.
        num_heads: Number of attention heads.
        gelu: ``exact`` (erf) or the ``tanh`` approximation.
        layer_norm_eps: Added to the variances in layer norms.

    Returns:
        The blocks; they take tokens (B, L, width) and ``src_key_padding_mask`` (B, L), True for
        padding.

    Raises:
        ConfigError: If a size is out of range.

    Example:
        >>> blocks = transformer(8, depth=2, num_heads=2, gelu="exact", layer_norm_eps=1e-6)
        >>> blocks(torch.randn(5, 3, 8)).shape
        torch.Size([5, 3, 8])
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
    for name, parameter in blocks.named_parameters():  # PyTorch copies one block
        if parameter.ndim == 2:
            nn.init.xavier_uniform_(parameter)
        elif name.endswith("bias"):
            nn.init.zeros_(parameter)
    return blocks


# Functions and not `nn.GELU`, since PyTorch's fast path in evaluation treats any `nn.GELU` as the
# exact one.
def _gelu_tanh(x: Tensor) -> Tensor:
    return functional.gelu(x, approximate="tanh")


def _gelu_exact(x: Tensor) -> Tensor:
    return functional.gelu(x)


def line_positions(length: int, width: int) -> Tensor:
    """Compute sinusoidal codes of the positions 0 to length - 1.

    The first half of a code are sines, the second half cosines, with base 10000.

    Args:
        length: Number of positions L.
        width: Width D, even.

    Returns:
        Codes (L, D) float32.

    Example:
        Sine and cosine of 0 and 1 radian:

        >>> line_positions(2, 2)
        tensor([[0.0000, 1.0000],
                [0.8415, 0.5403]])
    """
    return _sines(torch.arange(length, dtype=torch.float64), width)


def grid_positions(rows: int, columns: int, width: int) -> Tensor:
    """Compute sinusoidal codes of the cells of a grid, row by row.

    The first half of a code is that of the column, the second half that of the row.

    Args:
        rows: Number of rows.
        columns: Number of columns.
        width: Width D, a multiple of 4.

    Returns:
        Codes (rows * columns, D) float32.

    Example:
        >>> grid_positions(rows=2, columns=3, width=8).shape
        torch.Size([6, 8])
        >>> first, second, *_ = grid_positions(2, 3, 8)
        >>> (first[:4] == second[:4]).all().item(), (first[4:] == second[4:]).all().item()
        (False, True)
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
        x: Images (B, C, H, W), H and W multiples of 16.
        channels_first: Whether the values of a patch are in the order (channel, row, column)
            instead of (row, column, channel).

    Returns:
        Patches (B, H/16 * W/16, 256 C).

    Example:
        >>> images = torch.rand(5, 3, 32, 64)
        >>> patches(images).shape
        torch.Size([5, 8, 768])
        >>> torch.equal(patches(images)[0, 0, :3], images[0, :, 0, 0])  # the colours of a pixel
        True
    """
    grid = x.unflatten(3, (-1, PATCH)).unflatten(2, (-1, PATCH))  # B C h p w q
    order = (0, 2, 4, 1, 3, 5) if channels_first else (0, 2, 4, 3, 5, 1)
    return grid.permute(order).flatten(3).flatten(1, 2)


def masked_mean(tokens: Tensor, mask: Tensor | None) -> Tensor:
    """Average the tokens that a mask selects.

    Args:
        tokens: Tokens (B, L, D).
        mask: (B, L) bool, true for tokens that count; None for all.

    Returns:
        Means (B, D); zero where no token counts.

    Example:
        >>> tokens = torch.tensor([[[1.0], [3.0], [100.0]]])
        >>> masked_mean(tokens, torch.tensor([[True, True, False]]))
        tensor([[2.]])
    """
    if mask is None:
        return tokens.mean(dim=1)
    weights = mask.to(tokens.dtype)
    total = torch.einsum("bld,bl->bd", tokens, weights)
    return total / weights.sum(dim=1, keepdim=True).clamp(min=1)
