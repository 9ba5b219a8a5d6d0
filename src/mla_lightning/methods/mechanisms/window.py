"""The epochs in which a training rule acts, also as a share of a published training."""

from __future__ import annotations

from dataclasses import dataclass

from mla_lightning.errors import ConfigError


@dataclass(frozen=True)
class Window:
    """The epochs from ``start_epoch`` to ``end_epoch``, counted from 0, both included.

    Attributes:
        start_epoch: First epoch.
        end_epoch: Last epoch, None for no end.

    Raises:
        ConfigError: If the window starts before epoch 0, or ends before it starts.

    Example:
        >>> window = Window(2, 3)
        >>> [epoch in window for epoch in range(5)]
        [False, False, True, True, False]
        >>> 1000 in Window(0, None)
        True
        >>> Window(5, 3)
        Traceback (most recent call last):
        ...
        mla_lightning.errors.ConfigError: method.end_epoch=3 lies before start_epoch=5
    """

    start_epoch: int
    end_epoch: int | None

    def __post_init__(self) -> None:
        """Check the order of the ends."""
        if self.start_epoch < 0:
            raise ConfigError(f"method.start_epoch must be >= 0, got {self.start_epoch}")
        if self.end_epoch is not None and self.end_epoch < self.start_epoch:
            raise ConfigError(
                f"method.end_epoch={self.end_epoch} lies before start_epoch={self.start_epoch}"
            )

    def __contains__(self, epoch: int) -> bool:
        """Return whether the rule acts in an epoch."""
        return self.start_epoch <= epoch and (self.end_epoch is None or epoch <= self.end_epoch)

    def check_reached(self, num_epochs: int | None, otherwise: str = "joint training") -> None:
        """Check that training has an epoch of the window.

        Args:
            num_epochs: Number of epochs of the training.
            otherwise: What the training would be without such an epoch.

        Raises:
            ConfigError: If it has none.

        Example:
            >>> Window(30, None).check_reached(20)
            Traceback (most recent call last):
            ...
            mla_lightning.errors.ConfigError: method.start_epoch=30 (from 0) is never reached in
            trainer.max_epochs=20, so this would be joint training
        """
        if self.start_epoch >= (num_epochs or 0):
            raise ConfigError(
                f"method.start_epoch={self.start_epoch} (from 0) is never reached in "
                f"trainer.max_epochs={num_epochs or 0}, so this would be {otherwise}"
            )


def share_of_epochs(option: str, num_epochs: int, part: int, whole: int) -> int:
    """Return the number of epochs that are the same share of this training as of a published one.

    Args:
        option: The setting of the method that is null, for the message.
        num_epochs: Number of epochs of this training.
        part: The setting's value in the published training.
        whole: Number of epochs of the published training.

    Returns:
        ``num_epochs * part / whole``, rounded up, so at least 1.

    Raises:
        ConfigError: If this training has no number of epochs.

    Example:
        >>> [share_of_epochs("every", num_epochs, 20, 50) for num_epochs in (2, 10, 40, 50)]
        [1, 4, 16, 20]
        >>> share_of_epochs("every", -1, 20, 50)
        Traceback (most recent call last):
        ...
        mla_lightning.errors.ConfigError: method.every=null is a share of trainer.max_epochs, which
        is -1. Give one of both a number >= 1.
    """
    if num_epochs < 1:
        raise ConfigError(
            f"method.{option}=null is a share of trainer.max_epochs, which is {num_epochs}. Give "
            "one of both a number >= 1."
        )
    return -(-num_epochs * part // whole)
