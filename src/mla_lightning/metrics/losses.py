"""Training losses by name: checked for being finite, averaged, and rarely read from the device."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from mla_lightning import ranks
from mla_lightning.errors import RunError
from mla_lightning.randomness import derive_seed
from mla_lightning.run_folder.parsing import is_measurable


class TrainingLosses:
    """Collects the losses of an epoch; reading those of many batches is one transfer.

    Attributes:
        epoch: Name -> the values of the epoch so far.

    Example:
        >>> losses = TrainingLosses()
        >>> losses.add(0, {"audio": torch.tensor(1.0)})
        >>> losses.add(1, {"audio": torch.tensor(2.0)})
        >>> losses.read(current_epoch=0)
        {'audio': 1.5}
        >>> losses.add(2, {"audio": torch.tensor(float("nan"))})
        >>> losses.read(current_epoch=0)
        Traceback (most recent call last):
        ...
        mla_lightning.errors.RunError: The audio loss is nan in epoch 1, batch 3. ...
    """

    def __init__(self) -> None:
        """Start without losses."""
        self.epoch: dict[str, list[float]] = {}
        self._unread: list[tuple[int, Mapping[str, Tensor]]] = []

    @property
    def num_unread(self) -> int:
        """Number of batches whose losses have not been read yet."""
        return len(self._unread)

    def add(self, batch_idx: int, losses: Mapping[str, Tensor]) -> None:
        """Add a batch's losses.

        Args:
            batch_idx: The batch, from 0.
            losses: Name -> scalar without graph.
        """
        self._unread.append((batch_idx, losses))

    def read(self, current_epoch: int) -> dict[str, float]:
        """Read the losses that have not been read yet.

        Args:
            current_epoch: The epoch, from 0, for the message.

        Returns:
            Name -> their mean; empty if there were none.

        Raises:
            RunError: If one is not finite, or so large that no run can have it; the message has the
                loss, the epoch and the batch.
        """
        unread, self._unread = self._unread, []
        is_shared = ranks.world_size() > 1
        if is_shared:
            _check_names(unread)
        if not any(losses for _, losses in unread):
            return {}
        names = list(dict.fromkeys(name for _, losses in unread for name in losses))
        entries = [
            (batch_idx, name, loss) for batch_idx, losses in unread for name, loss in losses.items()
        ]
        if is_shared:  # each rank has its share of the losses
            values = ranks.total(torch.stack([loss.double() for *_, loss in entries])).tolist()
        else:
            values = torch.stack([loss for *_, loss in entries]).tolist()
        sums, counts = dict.fromkeys(names, 0.0), dict.fromkeys(names, 0)
        for (batch_idx, name, _), value in zip(entries, values, strict=True):
            if not is_measurable(value):
                raise RunError(
                    f"The {name} loss is {value:.4g} in epoch {current_epoch + 1}, batch "
                    f"{batch_idx + 1}. The last checkpoint before it is kept. Try a smaller "
                    "optimizer.lr, or trainer.clip_norm=1."
                )
            self.epoch.setdefault(name, []).append(value)
            sums[name] += value
            counts[name] += 1
        return {name: sums[name] / counts[name] for name in names}

    def end_epoch(self, current_epoch: int) -> dict[str, float]:
        """Read the remaining losses and start the next epoch.

        Args:
            current_epoch: The epoch, from 0, for the message.

        Returns:
            Name -> mean of the epoch.

        Raises:
            RunError: As :meth:`read`.
        """
        self.read(current_epoch)
        means = {name: math.fsum(values) / len(values) for name, values in self.epoch.items()}
        self.epoch = {}
        return means


def _check_names(unread: Sequence[tuple[int, Mapping[str, Tensor]]]) -> None:
    """Check that all ranks have losses of the same names: others could not be added."""
    names = "; ".join(f"{batch} {', '.join(losses)}" for batch, losses in unread)
    digest = torch.tensor(derive_seed(0, names))
    if len(ranks.stacked(digest).unique()) > 1:
        raise RunError(
            "The devices have losses of different names, so they cannot be added. A method must "
            "return the same names on every device, also where a device has no sample of a "
            f"modality. On this one: {names:.200}"
        )
