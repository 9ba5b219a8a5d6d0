"""Pretrained image encoders of transformers: ViT, ViT-MAE, FLAVA's image tower and their kin."""

from __future__ import annotations

from torch import Tensor

from mla_lightning.encoders.base import over_frames
from mla_lightning.encoders.hf import HFEncoder
from mla_lightning.errors import ConfigError


class HFImage(HFEncoder):
    """A patch transformer of transformers, for images (B, 3, H, W) or the frames of video each.

    A ViT-MAE sees every patch: nothing is masked. Images of another size than the model's are
    taken with its positions interpolated. The mean is over patches, special tokens left out.
    """

    towers = ("image_model", "vision_model")

    def check_model(self, name: str) -> None:
        """Refuse what is no transformer over square patches of colour images."""
        is_square = isinstance(getattr(self.config, "patch_size", None), int)
        if not is_square or getattr(self.config, "num_channels", None) != 3:
            raise ConfigError(f"{name} is no transformer over patches of colour images")

    def forward(self, x: Tensor) -> Tensor:
        """Encode images, or video as the mean over its frames.

        Args:
            x: (B, 3, H, W) or (B, 3, T, H, W), H and W multiples of the model's patch.

        Returns:
            (B, out_features).

        Raises:
            ConfigError: If the input has another shape.
        """
        patch: int = self.config.patch_size
        fits = x.ndim in (4, 5) and x.shape[1] == 3
        self.require(
            fits and all(side >= patch and side % patch == 0 for side in x.shape[-2:]),
            x,
            f"images (B, 3, H, W) or video (B, 3, T, H, W), H and W multiples of {patch}",
        )
        return over_frames(self._encode, x)

    def _encode(self, x: Tensor) -> Tensor:
        size = self.config.image_size
        usual = (size, size) if isinstance(size, int) else tuple(size)
        height, width = x.shape[-2:]
        more = {} if (height, width) == usual else {"interpolate_pos_encoding": True}
        found = self.model(pixel_values=x, **more).last_hidden_state
        patch: int = self.config.patch_size
        num_patches = (height // patch) * (width // patch)
        return found[:, 0] if self.pooling == "cls" else found[:, -num_patches:].mean(dim=1)
