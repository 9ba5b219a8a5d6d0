"""Input of images and video frames: chosen, cropped, mirrored and scaled, a whole batch at once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

from mla_lightning.errors import ConfigError, check_number, near
from mla_lightning.inputs.base import BatchRandomness, Input, check_scale

if TYPE_CHECKING:
    from torch import Tensor

AUGMENTS = ("none", "crop_flip")
#: Number of crop shapes drawn per image; the first that fits into it is used, as in torchvision.
_NUM_TRIES = 10


class Images(Input):
    """Images (B, 3, H, W) or video frames (B, T, 3, H, W) of uint8, scaled, as float32.

    Frames become videos (B, 3, T, H, W). In training, ``crop_flip`` crops a random rectangle of
    each image (area and aspect ratio as in torchvision's RandomResizedCrop), resizes it to
    ``size``, and mirrors it with probability ``flip``. Otherwise images are resized to ``size``
    without keeping the aspect ratio, as for MLA's ResNets in the test.

    Crops are resized with bilinear interpolation and without antialiasing, which makes a difference
    only if stored images are much larger than ``size``.

    Example:
        >>> import torch
        >>> stored = torch.full((5, 3, 32, 40), 255, dtype=torch.uint8)
        >>> images = Images(mean=0.5, std=0.25, size=24, augment="crop_flip")
        >>> x = images(stored)  # evaluation: (255 / 255 - 0.5) / 0.25
        >>> x.shape, round(x.mean().item(), 4)
        (torch.Size([5, 3, 24, 24]), 2.0)

        Of each segment of a video, evaluation uses the middle frame and training a random one:

        >>> frames = torch.arange(6, dtype=torch.uint8).view(1, 6, 1, 1, 1).expand(5, 6, 3, 8, 8)
        >>> video = Images(frames_per_segment=3)(frames)
        >>> video.shape
        torch.Size([5, 3, 2, 8, 8])
        >>> (video[0, 0, :, 0, 0] * 255).round().tolist()
        [1.0, 4.0]
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
        """Set the scale, the size and the augmentation.

        Args:
            mean: Mean of images in [0, 1], one number or one per colour; subtracted.
            std: Standard deviation of images in [0, 1], one number or one per colour; divided by.
            size: Height and width of the result; None for those stored.
            augment: ``none`` or ``crop_flip``, in training alone.
            scale: Smallest and largest area of a crop, as fractions of the image's area.
            ratio: Smallest and largest ratio of a crop's width to its height.
            flip: Probability of mirroring.
            jitter: Brightness, contrast and saturation are each multiplied by a uniform number in
                [1 - jitter, 1 + jitter], in training alone. MLA's code has 1.0 for M3AE's images.
            per_frame: Whether random numbers are drawn for every frame, as in MLA's released code,
                and not once for a video.
            frames_per_segment: Number of stored frames of each segment of a video: training uses a
                random one of them, evaluation the middle one. 1 uses all frames; None is replaced
                by the number that the store has.

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
            if value is not None:
                check_number(name, value, 1, 8192)
        if per_frame and augment == "none" and not jitter:
            raise ConfigError("per_frame has no effect without augment=crop_flip or jitter")
        self.mean, self.std = check_scale(mean, std, channels=3)
        self.size, self.augment, self.flip, self.jitter = size, augment, flip, jitter
        self.scale, self.ratio = tuple(scale), tuple(ratio)
        self.per_frame, self.frames_per_segment = per_frame, frames_per_segment

    def __call__(self, x: Tensor, randomness: BatchRandomness | None = None) -> Tensor:
        """Convert a batch; see :class:`Input`.

        Raises:
            ConfigError: If the stored frames cannot be divided into segments.
        """
        if x.ndim == 4:
            return self._images(x, randomness, 1)
        x = self._one_per_segment(x, randomness)
        num_frames = x.shape[1]
        images = self._images(x.flatten(0, 1), randomness, num_frames)
        return images.unflatten(0, (-1, num_frames)).transpose(1, 2)

    def _one_per_segment(self, x: Tensor, randomness: BatchRandomness | None) -> Tensor:
        """Choose one frame of each segment: (B, T, 3, H, W) to (B, S, 3, H, W)."""
        import torch

        segment_length = self.frames_per_segment or 1
        if segment_length == 1:
            return x
        if x.shape[1] % segment_length:
            raise ConfigError(
                f"frames_per_segment={segment_length} does not divide the {x.shape[1]} stored "
                "frames"
            )
        starts = torch.arange(0, x.shape[1], segment_length, device=x.device)
        if randomness is None:
            return x[:, starts + segment_length // 2]
        frame = starts + (randomness.uniform("frame", len(starts)) * segment_length).long()
        return x[torch.arange(len(x), device=x.device)[:, None], frame]

    def _images(self, x: Tensor, randomness: BatchRandomness | None, num_frames: int) -> Tensor:
        """Augment, resize and scale images (B * num_frames, 3, H, W)."""
        from torch.nn import functional

        size = (self.size, self.size) if self.size else tuple(x.shape[-2:])
        x = x.float()
        if randomness is not None and self.augment == "crop_flip":
            numbers = self._uniform(randomness, "crop", 2 * _NUM_TRIES + 3, num_frames)
            x = self._crop(x, numbers, size)
        elif tuple(x.shape[-2:]) != size:
            x = functional.interpolate(x, size, mode="bilinear", antialias=True)
        if randomness is not None and self.jitter:
            x = self._jittered(x, self._uniform(randomness, "jitter", 3, num_frames))
        mean = x.new_tensor(self.mean).mul_(255).view(-1, 1, 1)
        return (x - mean) / x.new_tensor(self.std).mul_(255).view(-1, 1, 1)

    def _uniform(
        self, randomness: BatchRandomness, purpose: str, count: int, num_frames: int
    ) -> Tensor:
        """Draw numbers for every image: (B * num_frames, count)."""
        if self.per_frame:
            return randomness.uniform(purpose, count * num_frames).view(-1, count)
        return randomness.uniform(purpose, count).repeat_interleave(num_frames, dim=0)

    def _crop(self, x: Tensor, numbers: Tensor, size: tuple[int, ...]) -> Tensor:
        """Crop and mirror: (B, 3, H, W) to (B, 3, *size)."""
        import torch
        from torch.nn import functional

        width, height = crop_shapes(
            numbers[:, : 2 * _NUM_TRIES], self.scale, self.ratio, x.shape[-2:]
        )
        # Centres of the crops in [-1, 1], such that a crop stays inside the image.
        centre_x = (2 * numbers[:, -3] - 1) * (1 - width)
        centre_y = (2 * numbers[:, -2] - 1) * (1 - height)
        signed_width = torch.where(numbers[:, -1] < self.flip, -width, width)
        zero = torch.zeros_like(width)
        entries = [signed_width, zero, centre_x, zero, height, centre_y]
        theta = torch.stack(entries, dim=1).view(-1, 2, 3)
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


def _blended(x: Tensor, other: Tensor, factor: Tensor) -> Tensor:
    return (other + (x - other) * factor).clamp(0, 255)


def crop_shapes(
    numbers: Tensor, scale: Sequence[float], ratio: Sequence[float], image: Sequence[int]
) -> tuple[Tensor, Tensor]:
    """Compute widths and heights of random crops, as in torchvision's RandomResizedCrop.

    The area is uniform, and so is the logarithm of the aspect ratio. Of ten draws the first that
    fits into the image is used; if none fits, the largest crop with an allowed aspect ratio.

    Args:
        numbers: Uniform numbers in [0, 1), two for each of ten draws, shape (B, 20).
        scale: Smallest and largest area, as fractions of the image's area.
        ratio: Smallest and largest ratio of width to height, in pixels.
        image: Height and width of the image in pixels.

    Returns:
        Width and height as fractions of the image's, shape (B,) each.

    Example:
        A quarter of the area with the aspect ratio of the image is half of each side:

        >>> import torch
        >>> crop_shapes(torch.rand(1, 20), scale=(0.25, 0.25), ratio=(1.0, 1.0), image=(32, 32))
        (tensor([0.5000]), tensor([0.5000]))
    """
    import torch

    image_aspect = image[1] / image[0]
    area = scale[0] + (scale[1] - scale[0]) * numbers[:, ::2]
    low, high = math.log(ratio[0]), math.log(ratio[1])
    aspect = (low + (high - low) * numbers[:, 1::2]).exp() / image_aspect
    widths, heights = (area * aspect).sqrt(), (area / aspect).sqrt()
    fits = (widths <= 1) & (heights <= 1)
    first = fits.int().argmax(dim=1, keepdim=True)
    any_fits = fits.any(dim=1)
    # Where none fits: the whole image, cropped to the nearest aspect ratio that is allowed.
    nearest = min(max(image_aspect, ratio[0]), ratio[1]) / image_aspect
    width = torch.where(any_fits, widths.gather(1, first)[:, 0], min(1.0, nearest))
    height = torch.where(any_fits, heights.gather(1, first)[:, 0], min(1.0, 1 / nearest))
    return width, height
