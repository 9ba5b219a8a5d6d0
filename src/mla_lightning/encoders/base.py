"""The contract of an encoder."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from mla_lightning.errors import ConfigError


class Encoder(nn.Module):
    """Turns a modality's input into a feature (B, out_features).

    Attributes:
        out_features: Width D of the feature.
        gives_sequences: Whether features are sequences (B, T, D), which few fusions take.
    """

    out_features: int
    gives_sequences = False

    def require(self, is_right: bool, x: Tensor, expected: str) -> None:
        """Refuse an input that the encoder was not made for.

        Args:
            is_right: Whether the input is as expected.
            x: The input.
            expected: What was expected, for the message.

        Raises:
            ConfigError: If it is not.
        """
        if not is_right:
            raise ConfigError(
                f"{type(self).__name__} expects {expected}, got {tuple(x.shape)} of {x.dtype}. "
                "Does the config's encoder fit the data?"
            )

    def require_ids(self, x: Tensor, num_tokens: int) -> None:
        """Refuse what is no batch of token ids.

        Args:
            x: The input.
            num_tokens: Number of ids that there are.

        Raises:
            ConfigError: If the input has another shape or type; on the CPU, where looking costs
                little, also if an id is out of range.
        """
        self.require(
            x.ndim == 2 and not x.is_floating_point(), x, "token ids (B, L) of an integer type"
        )
        if x.device.type != "cpu" or not x.numel():
            return
        lowest, highest = int(x.min()), int(x.max())
        if lowest < 0 or highest >= num_tokens:
            raise ConfigError(
                f"{type(self).__name__} has the token ids 0 to {num_tokens - 1}, the data hold "
                f"{lowest} to {highest}. Were they prepared with another vocabulary?"
            )


def check_at_least(least: int, **values: int) -> None:
    """Check sizes that an encoder is given.

    Args:
        least: The smallest value allowed.
        **values: Size by name.

    Raises:
        ConfigError: If one is smaller, naming it.
    """
    for name, value in values.items():
        if value < least:
            raise ConfigError(f"{name} must be at least {least}, got {value}")


def over_frames(encode: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Encode images, or the frames of videos each by itself, and average over the frames.

    Args:
        encode: Images (B, C, H, W) -> (B, D).
        x: (B, C, H, W) or (B, C, T, H, W).

    Returns:
        (B, D).
    """
    if x.ndim == 4:
        return encode(x)
    frames = x.transpose(1, 2).flatten(0, 1)
    return encode(frames).unflatten(0, (len(x), -1)).mean(dim=1)
