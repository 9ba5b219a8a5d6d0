"""Base class of encoders, and helpers that they share."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from mla_lightning.errors import ConfigError


class Encoder(nn.Module):
    """Base class of modules that compute a feature (B, out_features) from a modality's input.

    Attributes:
        out_features: Width D of the feature.
        takes_sequences: Whether inputs are sequences (B, T, in_features), not vectors.
        gives_sequences: Whether features are sequences (B, T, D), which few fusions take.
        package: The package of an extra of the same name that it needs; empty for none.

    Example:
        An encoder of the mean over time. A wrong input raises an error that names what is expected:

        >>> import torch
        >>> class MeanOverTime(Encoder):
        ...     def __init__(self, in_features):
        ...         super().__init__()
        ...         self.out_features = in_features
        ...
        ...     def forward(self, x):
        ...         self.check_input(x.ndim == 3, x, f"sequences (B, T, {self.out_features})")
        ...         return x.mean(dim=1)
        >>> encoder = MeanOverTime(8)
        >>> encoder(torch.randn(5, 20, 8)).shape
        torch.Size([5, 8])
        >>> encoder(torch.randn(5, 8))
        Traceback (most recent call last):
        ...
        mla_lightning.errors.ConfigError: MeanOverTime expects sequences (B, T, 8), got (5, 8) of
        torch.float32. Does the encoder of the config fit the data?
    """

    out_features: int
    takes_sequences = False
    gives_sequences = False
    package = ""

    def check_input(self, is_expected: bool, x: Tensor, expected: str) -> None:
        """Check that an input has the shape and type that the encoder takes.

        Args:
            is_expected: Whether the input is as expected.
            x: The input, for the message.
            expected: Description of what is expected, for the message.

        Raises:
            ConfigError: If the input is not as expected.
        """
        if not is_expected:
            raise ConfigError(
                f"{type(self).__name__} expects {expected}, got {tuple(x.shape)} of {x.dtype}. "
                "Does the encoder of the config fit the data?"
            )

    def check_token_ids(self, x: Tensor, num_tokens: int) -> None:
        """Check that an input is a batch of token ids (B, L).

        Args:
            x: The input.
            num_tokens: Number of token ids of the vocabulary.

        Raises:
            ConfigError: If the input has another shape or type, or, on the CPU alone, where the
                check is cheap, an id that is out of range.
        """
        self.check_input(
            x.ndim == 2 and not x.is_floating_point(), x, "token ids (B, L) of an integer type"
        )
        if x.device.type != "cpu" or not x.numel() or torch.compiler.is_exporting():
            return
        lowest, highest = int(x.min()), int(x.max())
        if lowest < 0 or highest >= num_tokens:
            raise ConfigError(
                f"{type(self).__name__} has the token ids 0 to {num_tokens - 1}, the data have "
                f"{lowest} to {highest}. Were they prepared with another vocabulary?"
            )


def check_at_least(minimum: int, **values: int) -> None:
    """Check that options are not too small.

    Args:
        minimum: The smallest value allowed.
        **values: Value by name.

    Raises:
        ConfigError: If a value is smaller; the message has its name.

    Example:
        >>> check_at_least(1, depth=2, width=0)
        Traceback (most recent call last):
        ...
        mla_lightning.errors.ConfigError: width must be at least 1, got 0
    """
    for name, value in values.items():
        if value < minimum:
            raise ConfigError(f"{name} must be at least {minimum}, got {value}")


def mean_over_frames(encode: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Encode images, or each frame of videos, and average over the frames.

    Args:
        encode: Function from images (B, C, H, W) to features (B, D).
        x: Images (B, C, H, W) or videos (B, C, T, H, W).

    Returns:
        Features (B, D).

    Example:
        >>> import torch
        >>> brightness = lambda images: images.mean(dim=(2, 3))
        >>> video = torch.tensor([1.0, 2.0, 6.0]).view(1, 1, 3, 1, 1)  # three frames of one pixel
        >>> mean_over_frames(brightness, video)
        tensor([[3.]])
    """
    if x.ndim == 4:
        return encode(x)
    frames = x.transpose(1, 2).flatten(0, 1)
    return encode(frames).unflatten(0, (x.shape[0], -1)).mean(dim=1)
