"""The two single-modality paths of CAV-MAE: a masked autoencoder of sound and video."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mla_lightning.encoders.base import check_at_least, over_frames
from mla_lightning.encoders.checkpoints import Layout, load_checkpoint
from mla_lightning.encoders.transformer import (
    PATCH,
    Gelu,
    grid_positions,
    transformer,
)
from mla_lightning.encoders.tuning import TunedEncoder
from mla_lightning.errors import ConfigError


class CAVMAEPath(TunedEncoder):
    """What both paths have: patches, learned positions, blocks, the mean over all tokens.

    Gong et al. 2023, Contrastive Audio-Visual Masked Autoencoder. There is no [CLS]; tokens are
    normalised before the mean. The last block is the one that both modalities share in
    pretraining, with the modality's own norms.
    """

    #: Letter of the modality in public files, and of the other one.
    letter: str
    other: str
    in_channels: int
    #: Rows and columns of patches; a path sets it before it calls this class's constructor.
    grid: tuple[int, int]

    def __init__(
        self,
        *,
        width: int = 768,
        depth: int = 12,
        num_heads: int = 12,
        gelu: Gelu = "exact",
        layer_norm_eps: float = 1e-5,
        tune: str = "all",
        checkpoint: str | None = None,
    ) -> None:
        """Build the blocks; they start as in the paper's code.

        Args:
            width: Width of the tokens and of the feature.
            depth: Number of blocks, the shared one included.
            num_heads: Number of attention heads.
            gelu: ``exact`` as the weights were trained, or ``tanh``.
            layer_norm_eps: 1e-5 as the weights were trained.
            tune: Which layers are trained: ``all``, ``none`` or ``last_K``.
            checkpoint: File of pretrained weights, see :mod:`mla_lightning.encoders.checkpoints`.

        Raises:
            ConfigError: If a value is out of range.
            DataError: If the checkpoint does not fit.
        """
        super().__init__()
        self.out_features = width
        self.blocks = transformer(width, depth, num_heads, gelu=gelu, layer_norm_eps=layer_norm_eps)
        self.patch_embed = nn.Conv2d(self.in_channels, width, PATCH, stride=PATCH)
        nn.init.xavier_uniform_(self.patch_embed.weight.view(width, -1))
        nn.init.zeros_(self.patch_embed.bias)  # type: ignore[arg-type]
        self.positions = nn.Parameter(grid_positions(*self.grid, width)[None])
        self.modality_code = nn.Parameter(torch.empty(1, 1, width).normal_(std=0.02))
        if checkpoint is not None:
            load_checkpoint(self, checkpoint, [_cav_layout(self)])
        self.freeze(tune, list(self.blocks.layers), [self.blocks.norm])  # type: ignore[list-item]

    def encode(self, x: Tensor) -> Tensor:
        """Encode what is cut into the grid of patches.

        Args:
            x: (B, in_channels, H, W).

        Returns:
            (B, width).
        """
        tokens = self.patch_embed(x).flatten(2).transpose(1, 2)
        return self.blocks(tokens + self.positions + self.modality_code).mean(dim=1)


class CAVMAEAudio(CAVMAEPath):
    """CAV-MAE's audio path: log-mel spectrograms, time first, (B, 1, 1024, 128) or (B, 1024, 128).

    The weights were trained on ``(x + 5.081) / 4.4849``; MLA's released code does not normalise.
    """

    letter, other, in_channels = "a", "v", 1

    def __init__(self, *, num_frames: int = 1024, num_mels: int = 128, **options: object) -> None:
        """Build the path.

        Args:
            num_frames: Frames of a spectrogram, a multiple of 16.
            num_mels: Mel bins, a multiple of 16.
            **options: Those of :class:`CAVMAEPath`: ``width``, ``depth``, ``num_heads``, ``gelu``,
                ``layer_norm_eps``, ``tune``, ``checkpoint``.

        Raises:
            ConfigError: If a value is out of range.
            DataError: If the checkpoint does not fit.
        """
        _check_side(num_frames=num_frames, num_mels=num_mels)
        self.shape = (num_frames, num_mels)
        # Frequency by time: tokens run over time within a band.
        self.grid = (num_mels // PATCH, num_frames // PATCH)
        super().__init__(**options)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """Encode spectrograms.

        Args:
            x: (B, 1, num_frames, num_mels), or without the axis of channels.

        Returns:
            (B, out_features).

        Raises:
            ConfigError: If the input has another shape.
        """
        time, mels = self.shape
        self.require(
            x.shape[1:] in ((1, time, mels), (time, mels)),
            x,
            f"spectrograms (B, 1, {time}, {mels}) or (B, {time}, {mels})",
        )
        return self.encode(x.reshape(len(x), 1, time, mels).transpose(2, 3))


class CAVMAEVisual(CAVMAEPath):
    """CAV-MAE's visual path: images (B, 3, 224, 224) normalised as ImageNet, or frames each."""

    letter, other, in_channels = "v", "a", 3

    def __init__(self, *, image_size: int = 224, **options: object) -> None:
        """Build the path.

        Args:
            image_size: Height and width of the images, a multiple of 16.
            **options: Those of :class:`CAVMAEPath`: ``width``, ``depth``, ``num_heads``, ``gelu``,
                ``layer_norm_eps``, ``tune``, ``checkpoint``.

        Raises:
            ConfigError: If a value is out of range.
            DataError: If the checkpoint does not fit.
        """
        _check_side(image_size=image_size)
        self.image_size = image_size
        self.grid = (image_size // PATCH, image_size // PATCH)
        super().__init__(**options)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """Encode images, or video as the mean over its frames.

        Args:
            x: (B, 3, image_size, image_size) or (B, 3, T, image_size, image_size).

        Returns:
            (B, out_features).

        Raises:
            ConfigError: If the input has another shape.
        """
        side = self.image_size
        self.require(
            x.ndim in (4, 5) and x.shape[1] == 3 and x.shape[-2:] == (side, side),
            x,
            f"images (B, 3, {side}, {side}) or video (B, 3, T, {side}, {side})",
        )
        return over_frames(self.encode, x)


def _check_side(**sides: int) -> None:
    check_at_least(PATCH, **sides)
    for name, side in sides.items():
        if side % PATCH:
            raise ConfigError(f"{name} must be a multiple of {PATCH}, got {side}")


def _cav_layout(path: CAVMAEPath) -> Layout:
    """Name the weights as CAV-MAE's files do, ``module.`` taken off."""
    own, other, last = path.letter, path.other, len(path.blocks.layers) - 1
    names = {"positions": f"pos_embed_{own}", "modality_code": f"modality_{own}"}
    parts = {
        "self_attn.in_proj_": "attn.qkv.",
        "self_attn.out_proj.": "attn.proj.",
        "linear1.": "mlp.fc1.",
        "linear2.": "mlp.fc2.",
        "norm1.": "norm1.",
        "norm2.": "norm2.",
    }
    for kind in ("weight", "bias"):
        names[f"patch_embed.{kind}"] = f"patch_embed_{own}.proj.{kind}"
        names[f"blocks.norm.{kind}"] = f"norm_{own}.{kind}"
        for number in range(last):
            for ours, theirs in parts.items():
                target = f"blocks_{own}.{number}.{theirs}{kind}"
                names[f"blocks.layers.{number}.{ours}{kind}"] = target
        for ours, theirs in parts.items():
            shared = theirs.replace("norm1", f"norm1_{own}").replace("norm2", f"norm2_{own}")
            names[f"blocks.layers.{last}.{ours}{kind}"] = f"blocks_u.0.{shared}{kind}"
    dropped = (
        rf"patch_embed_{other}\.proj\.(weight|bias)",
        rf"(pos_embed|modality)_{other}",
        rf"blocks_{other}\.\d+\..*",
        rf"blocks_{own}\.\d+\.norm[12]_[av]\.(weight|bias)",
        rf"blocks_u\.0\.norm[12](_{other})?\.(weight|bias)",
        rf"norm(_{other})?\.(weight|bias)",
        r"mlp_head\..*",
        r"decoder_.*",
        r"mask_token",
    )
    return Layout("CAV-MAE", names, dropped)
