"""Encoders of CAV-MAE, a masked autoencoder of audio and video: its two single-modality paths."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mla_lightning.encoders.base import check_at_least, mean_over_frames
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
    """Base class of both paths: patches, learned positions, blocks, mean over all tokens.

    Gong et al. 2023, Contrastive Audio-Visual Masked Autoencoder. There is no [CLS] token; tokens
    are normalised before the mean. The last block is the one that both modalities share in
    pretraining, with the modality's own norms.

    Example:
        Both paths take the options of this class:

        >>> encoder = CAVMAEAudio(num_frames=32, num_mels=16, width=8, depth=2, num_heads=2)
        >>> isinstance(encoder, CAVMAEPath), len(encoder.blocks.layers), encoder.out_features
        (True, 2, 8)
    """

    #: Letter of the modality in public files, and letter of the other modality.
    letter: str
    other: str
    in_channels: int
    #: Rows and columns of patches; subclasses set it before they call this class's constructor.
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
        """Build the patches, positions and blocks, initialised as in the paper's code.

        Args:
            width: Width of the tokens and of the feature.
            depth: Number of blocks, including the shared one.
            num_heads: Number of attention heads.
            gelu: ``exact``, with which the public weights were trained, or ``tanh``.
            layer_norm_eps: Added to variances; the public weights were trained with 1e-5.
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
        """Encode images of the size of the grid of patches.

        Args:
            x: Images (B, in_channels, H, W).

        Returns:
            Features (B, width).
        """
        tokens = self.patch_embed(x).flatten(2).transpose(1, 2)
        return self.blocks(tokens + self.positions + self.modality_code).mean(dim=1)


class CAVMAEAudio(CAVMAEPath):
    """CAV-MAE's audio path, for log-mel spectrograms (B, 1, 1024, 128) or (B, 1024, 128).

    The first of the two axes is time. The public weights were trained on
    ``(x + 5.081) / 4.4849``; MLA's released code does not normalise.

    Example:
        A small one, without pretrained weights; by default it has 12 blocks of width 768:

        >>> encoder = CAVMAEAudio(num_frames=64, num_mels=32, width=8, depth=2, num_heads=2)
        >>> encoder(torch.randn(5, 64, 32)).shape
        torch.Size([5, 8])
        >>> encoder.positions.shape  # 2 x 4 patches of 16 x 16
        torch.Size([1, 8, 8])
    """

    letter, other, in_channels = "a", "v", 1

    def __init__(self, *, num_frames: int = 1024, num_mels: int = 128, **options: object) -> None:
        """Build the path.

        Args:
            num_frames: Number of frames of a spectrogram, a multiple of 16.
            num_mels: Number of mel bins, a multiple of 16.
            **options: Options of :class:`CAVMAEPath`: ``width``, ``depth``, ``num_heads``,
                ``gelu``, ``layer_norm_eps``, ``tune``, ``checkpoint``.

        Raises:
            ConfigError: If a value is out of range.
            DataError: If the checkpoint does not fit.
        """
        _check_side(num_frames=num_frames, num_mels=num_mels)
        self.shape = (num_frames, num_mels)
        # Frequency by time: consecutive tokens are consecutive in time, within a frequency band.
        self.grid = (num_mels // PATCH, num_frames // PATCH)
        super().__init__(**options)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """Encode spectrograms.

        Args:
            x: Spectrograms (B, 1, num_frames, num_mels) or (B, num_frames, num_mels).

        Returns:
            Features (B, out_features).

        Raises:
            ConfigError: If the input has another shape.
        """
        time, mels = self.shape
        self.check_input(
            x.shape[1:] in ((1, time, mels), (time, mels)),
            x,
            f"spectrograms (B, 1, {time}, {mels}) or (B, {time}, {mels})",
        )
        return self.encode(x.reshape(x.shape[0], 1, time, mels).transpose(2, 3))


class CAVMAEVisual(CAVMAEPath):
    """CAV-MAE's visual path, for images (B, 3, 224, 224) or videos (B, 3, T, 224, 224).

    Images are to be normalised by ImageNet's mean and deviation. The feature of a video is the mean
    over its frames.

    Example:
        A small one, without pretrained weights; by default it has 12 blocks of width 768:

        >>> encoder = CAVMAEVisual(image_size=32, width=8, depth=2, num_heads=2)
        >>> encoder(torch.randn(5, 3, 32, 32)).shape
        torch.Size([5, 8])
        >>> encoder(torch.randn(5, 3, 4, 32, 32)).shape  # videos of four frames
        torch.Size([5, 8])
    """

    letter, other, in_channels = "v", "a", 3

    def __init__(self, *, image_size: int = 224, **options: object) -> None:
        """Build the path.

        Args:
            image_size: Height and width of the images, a multiple of 16.
            **options: Options of :class:`CAVMAEPath`: ``width``, ``depth``, ``num_heads``,
                ``gelu``, ``layer_norm_eps``, ``tune``, ``checkpoint``.

        Raises:
            ConfigError: If a value is out of range.
            DataError: If the checkpoint does not fit.
        """
        _check_side(image_size=image_size)
        self.image_size = image_size
        self.grid = (image_size // PATCH, image_size // PATCH)
        super().__init__(**options)  # type: ignore[arg-type]

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
        return mean_over_frames(self.encode, x)


def _check_side(**sides: int) -> None:
    check_at_least(PATCH, **sides)
    for name, side in sides.items():
        if side % PATCH:
            raise ConfigError(f"{name} must be a multiple of {PATCH}, got {side}")


def _cav_layout(path: CAVMAEPath) -> Layout:
    """Return the layout of CAV-MAE's files, without the prefix ``module.``."""
    letter, other, last = path.letter, path.other, len(path.blocks.layers) - 1
    names = {"positions": f"pos_embed_{letter}", "modality_code": f"modality_{letter}"}
    layer_names = {
        "self_attn.in_proj_": "attn.qkv.",
        "self_attn.out_proj.": "attn.proj.",
        "linear1.": "mlp.fc1.",
        "linear2.": "mlp.fc2.",
        "norm1.": "norm1.",
        "norm2.": "norm2.",
    }
    for kind in ("weight", "bias"):
        names[f"patch_embed.{kind}"] = f"patch_embed_{letter}.proj.{kind}"
        names[f"blocks.norm.{kind}"] = f"norm_{letter}.{kind}"
        for number in range(last):
            for name, source in layer_names.items():
                file_name = f"blocks_{letter}.{number}.{source}{kind}"
                names[f"blocks.layers.{number}.{name}{kind}"] = file_name
        for name, source in layer_names.items():
            shared = source.replace("norm1", f"norm1_{letter}").replace("norm2", f"norm2_{letter}")
            names[f"blocks.layers.{last}.{name}{kind}"] = f"blocks_u.0.{shared}{kind}"
    dropped = (
        rf"patch_embed_{other}\.proj\.(weight|bias)",
        rf"(pos_embed|modality)_{other}",
        rf"blocks_{other}\.\d+\..*",
        rf"blocks_{letter}\.\d+\.norm[12]_[av]\.(weight|bias)",
        rf"blocks_u\.0\.norm[12](_{other})?\.(weight|bias)",
        rf"norm(_{other})?\.(weight|bias)",
        r"mlp_head\..*",
        r"decoder_.*",
        r"mask_token",
    )
    return Layout("CAV-MAE", names, dropped)
