"""Image encoder from transformers: ViT, ViT-MAE, FLAVA's image tower and similar models."""

from __future__ import annotations

from torch import Tensor

from mla_lightning.encoders.base import mean_over_frames
from mla_lightning.encoders.hf import HFEncoder
from mla_lightning.errors import ConfigError


class HFImage(HFEncoder):
    """A vision transformer of transformers, for images (B, 3, H, W) or videos (B, 3, T, H, W).

    The feature of a video is the mean over its frames. In a ViT-MAE no patch is masked. For images
    of another size than the model's, its positions are interpolated. With ``pooling="mean"`` the
    feature is the mean over the patches, without special tokens.

    Example:
        A tiny ViT with random weights:

        >>> import tempfile
        >>> import torch
        >>> from mla_lightning.encoders.hf import import_transformers
        >>> config = import_transformers().ViTConfig(
        ...     image_size=16,
        ...     patch_size=8,
        ...     hidden_size=8,
        ...     num_hidden_layers=1,
        ...     num_attention_heads=2,
        ...     intermediate_size=16,
        ... )
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     config.save_pretrained(folder)
        ...     encoder = HFImage(name=folder, pretrained=False)
        >>> encoder(torch.randn(5, 3, 16, 16)).shape
        torch.Size([5, 8])
        >>> encoder(torch.randn(5, 3, 24, 16)).shape  # positions are interpolated
        torch.Size([5, 8])
    """

    towers = ("image_model", "vision_model")

    def check_model(self, name: str) -> None:
        """Check that the model is a transformer over square patches of colour images."""
        is_square = isinstance(getattr(self.config, "patch_size", None), int)
        if not is_square or getattr(self.config, "num_channels", None) != 3:
            raise ConfigError(f"{name} is not a transformer over square patches of colour images")

    def forward(self, x: Tensor) -> Tensor:
        """Encode images, or videos as the mean over their frames.

        Args:
            x: Images (B, 3, H, W) or videos (B, 3, T, H, W), H and W multiples of the patch size.

        Returns:
            Features (B, out_features).

        Raises:
            ConfigError: If the input has another shape.
        """
        patch: int = self.config.patch_size
        has_colours = x.ndim in (4, 5) and x.shape[1] == 3
        self.check_input(
            has_colours and all(side >= patch and side % patch == 0 for side in x.shape[-2:]),
            x,
            f"images (B, 3, H, W) or video (B, 3, T, H, W), H and W multiples of {patch}",
        )
        return mean_over_frames(self._encode, x)

    def _encode(self, x: Tensor) -> Tensor:
        size = self.config.image_size
        model_size = (size, size) if isinstance(size, int) else tuple(size)
        height, width = x.shape[-2:]
        options = {} if (height, width) == model_size else {"interpolate_pos_encoding": True}
        tokens = self.model(pixel_values=x, **options).last_hidden_state
        patch: int = self.config.patch_size
        num_patches = (height // patch) * (width // patch)
        return tokens[:, 0] if self.pooling == "cls" else tokens[:, -num_patches:].mean(dim=1)
