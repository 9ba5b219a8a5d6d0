"""Encoders of M3AE, a masked autoencoder of images and texts: its two single-modality towers."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from mla_lightning.encoders.base import check_at_least, mean_over_frames
from mla_lightning.encoders.checkpoints import Layout, load_checkpoint
from mla_lightning.encoders.transformer import (
    PATCH,
    Gelu,
    grid_positions,
    line_positions,
    masked_mean,
    patches,
    transformer,
)
from mla_lightning.encoders.tuning import TunedEncoder
from mla_lightning.errors import ConfigError, near

#: Size -> width of the tokens, number of blocks, number of heads.
SIZES = {
    "small": (384, 12, 6),
    "base": (768, 12, 12),
    "large": (1024, 24, 16),
    "huge": (1280, 32, 16),
}
Size = Literal["small", "base", "large", "huge"]
Pooling = Literal["mean_tokens", "cls", "released_mean"]
POOLINGS = ("mean_tokens", "cls", "released_mean")
#: The decoder's weights, which only pretraining needs.
_DECODER = (r"decoder([._].*)?", r"(image|text)_mask_embedding")


class M3AETower(TunedEncoder):
    """Base class of both towers: the [CLS] token, a modality code, the blocks and the pooling.

    Geng et al. 2022, Multimodal Masked Autoencoders Learn Transferable Representations.

    Example:
        ``pooling`` chooses which positions of the sequence are the feature:

        >>> encoder = M3AEText(num_tokens=40, width=8, depth=2, num_heads=2)
        >>> sequence = torch.arange(3.0).view(1, 3, 1)  # [CLS] and two tokens
        >>> encoder.pooled(sequence)
        tensor([[1.5000]])
        >>> encoder.pooling = "cls"
        >>> encoder.pooled(sequence)
        tensor([[0.]])
        >>> encoder.pooling = "released_mean"
        >>> encoder.pooled(sequence)
        tensor([[1.]])
    """

    #: Name of the modality in public files, and name of the other modality.
    modality: str
    other: str

    def __init__(
        self,
        *,
        size: Size = "base",
        width: int | None = None,
        depth: int | None = None,
        num_heads: int | None = None,
        pooling: Pooling = "mean_tokens",
        gelu: Gelu = "tanh",
        layer_norm_eps: float = 1e-6,
        tune: str = "all",
        checkpoint: str | None = None,
    ) -> None:
        """Build the embedding and the blocks, initialised as in the paper's code.

        Args:
            size: ``small``, ``base``, ``large`` or ``huge``.
            width: Width of the tokens; None for that of ``size``.
            depth: Number of blocks; None for that of ``size``.
            num_heads: Number of attention heads; None for that of ``size``.
            pooling: How the feature is computed. ``mean_tokens``: mean over the modality's own
                tokens; ``cls``: the [CLS] token; ``released_mean``: mean over all positions,
                including [CLS] and padding, as in MLA's released code.
            gelu: ``tanh``, with which the public weights were trained, or ``exact``, as in MLA's
                released code.
            layer_norm_eps: Added to variances. The public weights were trained with 1e-6; MLA's
                released code has 1e-5.
            tune: Which layers are trained: ``all``, ``none`` or ``last_K``.
            checkpoint: File of pretrained weights, see :mod:`mla_lightning.encoders.checkpoints`.

        Raises:
            ConfigError: If a value is out of range.
            DataError: If the checkpoint does not fit.
        """
        super().__init__()
        if size not in SIZES:
            raise ConfigError(f"M3AE has no size {size!r}.{near(size, SIZES)} Known: {list(SIZES)}")
        if pooling not in POOLINGS:
            raise ConfigError(
                f"pooling must be one of {', '.join(POOLINGS)}, got {pooling!r}."
                f"{near(pooling, POOLINGS)}"
            )
        width, depth, num_heads = (
            default if value is None else value
            for value, default in zip((width, depth, num_heads), SIZES[size], strict=True)
        )
        self.out_features, self.pooling = width, pooling
        self.cls_token = nn.Parameter(torch.empty(1, 1, width).normal_(std=0.02))
        self.modality_code = nn.Parameter(torch.empty(1, 1, width).normal_(std=0.02))
        self.embedding = self._embedding(width)
        self.blocks = transformer(width, depth, num_heads, gelu=gelu, layer_norm_eps=layer_norm_eps)
        if checkpoint is not None:
            load_checkpoint(self, checkpoint, [_port_layout(self)])
        self.freeze(tune, list(self.blocks.layers), [self.blocks.norm])  # type: ignore[list-item]

    def _embedding(self, width: int) -> nn.Module:
        raise NotImplementedError

    def sequence(self, tokens: Tensor, padding: Tensor | None = None) -> Tensor:
        """Run the blocks on the [CLS] token and a modality's tokens.

        Args:
            tokens: Tokens with their positions (B, L, D).
            padding: (B, L) bool, true for padding; None if there is none.

        Returns:
            The sequence (B, 1 + L, D) after the last norm.
        """
        cls = self.cls_token.expand(tokens.shape[0], -1, -1).to(tokens.dtype)
        if padding is not None:
            padding = nn.functional.pad(padding, (1, 0), value=False)
        x = torch.cat([cls, tokens + self.modality_code], dim=1)
        return self.blocks(x, src_key_padding_mask=padding)

    def pooled(self, sequence: Tensor, padding: Tensor | None = None) -> Tensor:
        """Compute the feature by the rule ``pooling``.

        Args:
            sequence: Result of :meth:`sequence` (B, 1 + L, D).
            padding: (B, L) bool, true for padding; None if there is none.

        Returns:
            Features (B, D).
        """
        if self.pooling == "cls":
            return sequence[:, 0]
        if self.pooling == "released_mean":
            return sequence.mean(dim=1)
        return masked_mean(sequence[:, 1:], None if padding is None else ~padding)


class M3AEImage(M3AETower):
    """M3AE's image tower, for images (B, 3, 256, 256) or videos (B, 3, T, 256, 256).

    Images are cut into patches of 16 x 16. The feature of a video is the mean over its frames.
    Images are to be normalised: the public weights were trained with CC12M's mean
    (0.5762, 0.5503, 0.5213) and deviation (0.3207, 0.3169, 0.3307); MLA's released code has those
    of ImageNet.

    Example:
        A small one, without pretrained weights; by default it has 12 blocks of width 768:

        >>> encoder = M3AEImage(image_size=32, width=8, depth=2, num_heads=2)
        >>> encoder(torch.randn(5, 3, 32, 32)).shape
        torch.Size([5, 8])
        >>> encoder(torch.randn(5, 3, 4, 32, 32)).shape  # videos of four frames
        torch.Size([5, 8])
    """

    modality, other = "image", "text"

    def __init__(
        self,
        *,
        image_size: int = 256,
        patch_order: Literal["row_col_channel", "released"] = "row_col_channel",
        **options: object,
    ) -> None:
        """Build the tower.

        Args:
            image_size: Height and width of the images, a multiple of 16.
            patch_order: Order of the values in a patch. ``row_col_channel``: that of the public
                weights; ``released``: (channel, row, column) as in MLA's released code, which does
                not match the public weights.
            **options: Options of :class:`M3AETower`.

        Raises:
            ConfigError: If a value is out of range.
            DataError: If the checkpoint does not fit.
        """
        check_at_least(PATCH, image_size=image_size)
        if image_size % PATCH:
            raise ConfigError(f"image_size must be a multiple of {PATCH}, got {image_size}")
        if patch_order not in ("row_col_channel", "released"):
            raise ConfigError(
                f"patch_order must be row_col_channel or released, got {patch_order!r}"
            )
        super().__init__(**options)  # type: ignore[arg-type]
        self.image_size, self.channels_first = image_size, patch_order == "released"
        side = image_size // PATCH
        positions = grid_positions(side, side, self.out_features)
        self.register_buffer("positions", positions, persistent=False)

    def _embedding(self, width: int) -> nn.Module:
        linear = nn.Linear(3 * PATCH * PATCH, width)
        nn.init.xavier_uniform_(linear.weight)
        nn.init.zeros_(linear.bias)
        return linear

    def forward(self, x: Tensor) -> Tensor:
        """Encode images, or videos as the mean over their frames.

        Args:
            x: Images (B, 3, image_size, image_size) or videos
                (B, 3, T, image_size, image_size).

        Returns:
            Features (B, out_features).

        Raises:
            ConfigError: If the input has another shape.
        """
        side = self.image_size
        self.check_input(
            x.ndim in (4, 5) and x.shape[1] == 3 and x.shape[-2:] == (side, side),
            x,
            f"images (B, 3, {side}, {side}) or video (B, 3, T, {side}, {side})",
        )
        return mean_over_frames(self._encode, x)

    def _encode(self, x: Tensor) -> Tensor:
        tokens = self.embedding(patches(x, channels_first=self.channels_first))
        return self.pooled(self.sequence(tokens + self.positions))


class M3AEText(M3AETower):
    """M3AE's text tower, for BERT's token ids (B, L) without special tokens; 0 is padding.

    Padding is not attended to. A text without tokens has the feature 0 under ``mean_tokens``.

    Example:
        A small one, without pretrained weights; by default it has 12 blocks of width 768:

        >>> encoder = M3AEText(num_tokens=40, width=8, depth=2, num_heads=2)
        >>> short, padded = torch.tensor([[7, 3]]), torch.tensor([[7, 3, 0, 0]])
        >>> encoder(short).shape
        torch.Size([1, 8])
        >>> torch.allclose(encoder(short), encoder(padded), atol=1e-5)
        True
    """

    modality, other = "text", "image"

    def __init__(self, *, num_tokens: int = 30522, **options: object) -> None:
        """Build the tower.

        Args:
            num_tokens: Number of token ids; BERT's uncased vocabulary has 30522.
            **options: Options of :class:`M3AETower`.

        Raises:
            ConfigError: If a value is out of range.
            DataError: If the checkpoint does not fit.
        """
        check_at_least(2, num_tokens=num_tokens)
        self.num_tokens = num_tokens
        super().__init__(**options)  # type: ignore[arg-type]
        positions = line_positions(512, self.out_features)
        self.register_buffer("positions", positions, persistent=False)

    positions: Tensor

    def _embedding(self, width: int) -> nn.Module:
        return nn.Embedding(self.num_tokens, width)

    def forward(self, x: Tensor) -> Tensor:
        """Encode texts.

        Args:
            x: Integer token ids (B, L) below ``num_tokens``.

        Returns:
            Features (B, out_features).

        Raises:
            ConfigError: If the input has another shape or type, or an id that is out of range.
        """
        self.check_token_ids(x, self.num_tokens)
        if x.shape[1] > len(self.positions):
            self.positions = line_positions(x.shape[1], self.out_features).to(x.device)
        padding = x == 0
        tokens = self.embedding(x) + self.positions[: x.shape[1]]
        return self.pooled(self.sequence(tokens, padding), padding)


def _port_layout(tower: M3AETower) -> Layout:
    """Return the layout of files of MLA's PyTorch port of M3AE."""
    modality, other = tower.modality, tower.other
    names = {
        "cls_token": "cls_token",
        "modality_code": f"encoder_{modality}_type_embedding",
        "blocks.norm.weight": "encoder.layer_norm.weight",
        "blocks.norm.bias": "encoder.layer_norm.bias",
    }
    names |= {
        f"embedding.{name}": f"{modality}_embedding.{name}"
        for name, _ in tower.embedding.named_parameters()
    }
    layer_names = {
        "self_attn.in_proj_": "attention.qkv_linear.",
        "self_attn.out_proj.": "attention.fc.",
        "linear1.": "transformer_mlp.fc1.",
        "linear2.": "transformer_mlp.fc2.",
        "norm1.": "layer_norm1.",
        "norm2.": "layer_norm2.",
    }
    for number in range(len(tower.blocks.layers)):
        for name, source in layer_names.items():
            for kind in ("weight", "bias"):
                file_name = f"encoder.blocks.{number}.{source}{kind}"
                names[f"blocks.layers.{number}.{name}{kind}"] = file_name
    dropped = (*_DECODER, rf"{other}_embedding\..*", rf"encoder_{other}_type_embedding")
    return Layout("M3AE's PyTorch port", names, dropped)
