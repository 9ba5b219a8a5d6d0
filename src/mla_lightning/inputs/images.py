"""Images and film frames: chosen, cropped, mirrored, scaled, all for a whole batch at once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional

from mla_lightning.errors import ConfigError, near
from mla_lightning.inputs.base import Draws, Input, checked_scale

AUGMENTS = ("none", "crop_flip")
#: Shapes of a crop that are drawn until one fits into the image, as torchvision does.
_TRIES = 10


class Images(Input):
    """Images (B, 3, H, W) or frames (B, T, 3, H, W) of uint8, scaled, in single precision.

    Frames come out as (B, 3, T, H, W). In training, ``crop_flip`` takes a random part of each image
    (torchvision's RandomResizedCrop: its area and aspect), stretches it to ``size``, and mirrors
    every second one. Otherwise images are stretched to ``size``, the aspect not kept, which is the
    rule of MLA's ResNets in the test.

    Crops are read with bilinear interpolation and without antialiasing, which matters only where
    stored images are much larger than ``size``.
    """

    kinds: ClassVar[frozenset[str]] = frozenset({"image", "frames"})

    def __init__(
        self,
        mean: float | Sequence[float] = 0.0,
        std: float | Sequence[float] = 1.0,
        *,
        size: int | None = None,
        augment: Literal["none", "crop_flip"] = "none",
        scale: Sequence[float] = (0.08, 1.0),
        ratio: Sequence[float] = (3 / 4, 4 / 3),
        flip: float = 0.5,
        jitter: float = 0.0,
        per_frame: bool = False,
        frames_per_segment: int | None = None,
    ) -> None:
        """Choose the rules.

        Args:
            mean: Mean in [0, 1], one number or one per colour; taken off.
            std: Deviation, the same; divided by.
            size: Height and width that come out; None for those stored.
            augment: ``none`` or ``crop_flip``, in training alone.
            scale: Smallest and largest area of a crop, as shares of the image.
            ratio: Smallest and largest width of a crop over its height.
            flip: Probability of mirroring.
            jitter: Brightness, contrast and saturation are multiplied by a number within this of 1
                each, in training alone. 1.0 is what MLA's code does on M3AE's images.
            per_frame: Draw anew for every frame, as MLA's released code does, rather than once for
                a film.
            frames_per_segment: Frames stored of each segment of a film: training takes one of them
                at random, evaluation the middle one. 1 takes all frames as they are; None as many
                as the store tells.

        Raises:
            ConfigError: If a value is out of range or would have no effect.
        """
        if augment not in AUGMENTS:
            raise ConfigError(
                f"augment {augment!r} is unknown.{near(augment, AUGMENTS)} "
                f"Known: {', '.join(AUGMENTS)}"
            )
        for name, pair, low, high in (
            ("scale", scale, 0.0, 1.0),
            ("ratio", ratio, 0.0, math.inf),
        ):
            if len(pair) != 2 or not low < pair[0] <= pair[1] <= high:
                raise ConfigError(f"{name} must be two ascending numbers > {low}, got {list(pair)}")
        if not 0 <= flip <= 1:
            raise ConfigError(f"flip must be 0 to 1, got {flip}")
        if not 0 <= jitter <= 1:
            raise ConfigError(f"jitter must be 0 to 1, got {jitter}")
        for name, value in (("size", size), ("frames_per_segment", frames_per_segment)):
            if value is not None and value < 1:
                raise ConfigError(f"{name} must be at least 1, got {value}")
        if per_frame and augment == "none" and not jitter:
            raise ConfigError("per_frame has no effect without augment=crop_flip or jitter")
        self.mean, self.std = checked_scale(mean, std, channels=3)
        self.size, self.augment, self.flip, self.jitter = size, augment, flip, jitter
        self.scale, self.ratio = tuple(scale), tuple(ratio)
        self.per_frame, self.frames_per_segment = per_frame, frames_per_segment

    def __call__(self, x: Tensor, draws: Draws | None = None) -> Tensor:
        """Convert a batch; see :class:`Input`.

        Raises:
            ConfigError: If the stored frames cannot be divided into segments.
        """
        if x.ndim == 4:
            return self._images(x, draws, 1)
        x = self._chosen(x, draws)
        num_frames = x.shape[1]
        images = self._images(x.flatten(0, 1), draws, num_frames)
        return images.unflatten(0, (-1, num_frames)).transpose(1, 2)

    def _chosen(self, x: Tensor, draws: Draws | None) -> Tensor:
        """Take one frame of each segment: (B, T, 3, H, W) to (B, S, 3, H, W)."""
        each = self.frames_per_segment or 1
        if each == 1:
            return x
        if x.shape[1] % each:
            raise ConfigError(
                f"frames_per_segment={each} does not divide the {x.shape[1]} stored frames"
            )
        starts = torch.arange(0, x.shape[1], each, device=x.device)
        if draws is None:
            return x[:, starts + each // 2]
        at = starts + (draws.uniform("frame", len(starts)) * each).long()
        return x[torch.arange(len(x), device=x.device)[:, None], at]

    def _images(self, x: Tensor, draws: Draws | None, num_frames: int) -> Tensor:
        size = (self.size, self.size) if self.size else tuple(x.shape[-2:])
        x = x.float()
        if draws is not None and self.augment == "crop_flip":
            numbers = self._drawn(draws, "crop", 2 * _TRIES + 3, num_frames)
            x = self._crop(x, numbers, size)
        elif tuple(x.shape[-2:]) != size:
            x = functional.interpolate(x, size, mode="bilinear", antialias=True)
        if draws is not None and self.jitter:
            x = self._jittered(x, self._drawn(draws, "jitter", 3, num_frames))
        mean = x.new_tensor(self.mean).mul_(255).view(-1, 1, 1)
        return (x - mean) / x.new_tensor(self.std).mul_(255).view(-1, 1, 1)

    def _drawn(self, draws: Draws, purpose: str, count: int, num_frames: int) -> Tensor:
        """Draw numbers for every image: (B * num_frames, count)."""
        if self.per_frame:
            return draws.uniform(purpose, count * num_frames).view(-1, count)
        return draws.uniform(purpose, count).repeat_interleave(num_frames, dim=0)

    def _crop(self, x: Tensor, numbers: Tensor, size: tuple[int, ...]) -> Tensor:
        """Crop and mirror: (B, 3, H, W) to (B, 3, *size)."""
        width, height = crop_shapes(numbers[:, : 2 * _TRIES], self.scale, self.ratio, x.shape[-2:])
        # Centres in [-1, 1], such that the crop stays inside.
        across = (2 * numbers[:, -3] - 1) * (1 - width)
        down = (2 * numbers[:, -2] - 1) * (1 - height)
        mirrored = torch.where(numbers[:, -1] < self.flip, -width, width)
        nothing = torch.zeros_like(width)
        rows = [mirrored, nothing, across, nothing, height, down]
        theta = torch.stack(rows, dim=1).view(-1, 2, 3)
        grid = functional.affine_grid(theta, [len(x), x.shape[1], *size], align_corners=False)
        return functional.grid_sample(x, grid, padding_mode="border", align_corners=False)

    def _jittered(self, x: Tensor, numbers: Tensor) -> Tensor:
        """Change brightness, contrast and saturation of images in [0, 255]."""
        factors = 1 + (2 * numbers - 1) * self.jitter
        brightness, contrast, saturation = factors.view(-1, 3, 1, 1, 1).unbind(dim=1)
        x = (x * brightness).clamp(0, 255)
        x = _blended(x, _grey(x).mean(dim=(-2, -1), keepdim=True), contrast)
        return _blended(x, _grey(x), saturation)


def _grey(x: Tensor) -> Tensor:
    weights = x.new_tensor((0.299, 0.587, 0.114)).view(3, 1, 1)  # ITU-R BT.601
    return (x * weights).sum(dim=1, keepdim=True)


def _blended(x: Tensor, other: Tensor, share: Tensor) -> Tensor:
    return (other + (x - other) * share).clamp(0, 255)


def crop_shapes(
    numbers: Tensor, scale: Sequence[float], ratio: Sequence[float], image: Sequence[int]
) -> tuple[Tensor, Tensor]:
    """Draw widths and heights of crops as torchvision's RandomResizedCrop does.

    The area is uniform, the aspect uniform in its logarithm; of ten draws the first that fits into
    the image counts, and otherwise the largest part whose aspect is allowed.

    Args:
        numbers: (B, 20) in [0, 1).
        scale: Smallest and largest area, as shares of the image.
        ratio: Smallest and largest width over height, in pixels.
        image: Height and width of the image in pixels.

    Returns:
        Width and height as shares of the image's, (B,) each.
    """
    aspect_of_image = image[1] / image[0]
    area = scale[0] + (scale[1] - scale[0]) * numbers[:, ::2]
    low, high = math.log(ratio[0]), math.log(ratio[1])
    aspect = (low + (high - low) * numbers[:, 1::2]).exp() / aspect_of_image
    widths, heights = (area * aspect).sqrt(), (area / aspect).sqrt()
    fits = (widths <= 1) & (heights <= 1)
    first = fits.int().argmax(dim=1, keepdim=True)
    has = fits.any(dim=1)
    # Where none fits: the whole image, cut to the nearest aspect that is allowed.
    nearest = min(max(aspect_of_image, ratio[0]), ratio[1]) / aspect_of_image
    width = torch.where(has, widths.gather(1, first)[:, 0], min(1.0, nearest))
    height = torch.where(has, heights.gather(1, first)[:, 0], min(1.0, 1 / nearest))
    return width, height
