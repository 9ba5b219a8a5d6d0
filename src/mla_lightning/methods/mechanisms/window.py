"""The epochs in which a training rule acts."""

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
