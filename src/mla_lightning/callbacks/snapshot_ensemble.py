"""Snapshot ensembles: weights of several moments of one training, whose logits are averaged."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn
from torch.func import functional_call

from mla_lightning.module import MultimodalModule


class SnapshotEnsemble(nn.Module):
    """The weights at the ends of the first parts of a training, beside the current ones.

    Snapshot ensembles (Huang et al., ICLR 2017): the learning rate falls along a cosine in each of
    K equal parts of the training, and the logits of the models at the K ends are averaged. Here
    this holds during training, too: after an epoch, the ends of the earlier parts and the current
    weights are what is validated, selected and saved.

    A snapshot has all parameters and buffers of the method, but for the scales of the data. They
    are buffers here, so checkpoints and files of weights have them.

    Example:
        >>> layer = nn.Linear(1, 1, bias=False)
        >>> snapshots = SnapshotEnsemble(layer, number=3)
        >>> answer = lambda: {"y": layer(torch.ones(1, 1))}
        >>> for value in (1.0, 2.0):
        ...     _ = nn.init.constant_(layer.weight, value)
        ...     snapshots.take(layer)
        >>> _ = nn.init.constant_(layer.weight, 6.0)
        >>> snapshots.mean_of(layer, answer)["y"].item()  # of 1, 2 and 6
        3.0
        >>> layer.weight.item()
        6.0
    """

    kept: Tensor
    seen: Tensor
    was_selectable: Tensor

    def __init__(self, module: nn.Module, number: int) -> None:
        """Make room for the weights.

        Args:
            module: The method, without snapshots.
            number: Number K of models, the current one included; at least 2.
        """
        super().__init__()
        self.number = number
        tensors = _tensors(module)
        self._keys = tuple(tensors)
        for place in range(number - 1):
            for key, x in tensors.items():
                self.register_buffer(f"{place}/{key.replace('.', '/')}", x.detach().clone())
        #: Number of snapshots that are kept so far.
        self.register_buffer("kept", torch.zeros((), dtype=torch.int64))
        #: Number of parts whose end has been seen.
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))
        #: Whether the weights of the last epoch could be selected.
        self.register_buffer("was_selectable", torch.zeros((), dtype=torch.bool))

    def of(self, place: int) -> dict[str, Tensor]:
        """Return a snapshot: name in the state of the module -> tensor."""
        return {k: self.get_buffer(f"{place}/{k.replace('.', '/')}") for k in self._keys}

    @torch.no_grad()
    def take(self, module: nn.Module) -> None:
        """Keep the current weights.

        Args:
            module: The method.
        """
        tensors = _tensors(module)
        for key, x in self.of(int(self.kept)).items():
            x.copy_(tensors[key])
        self.kept += 1

    def mean_of(
        self, module: nn.Module, compute: Callable[[], dict[str, Tensor]]
    ) -> dict[str, Tensor]:
        """Compute something with each snapshot's weights and with the current ones, and average it.

        Args:
            module: The method.
            compute: Uses the module; returns name -> tensor, of the same shape for all weights.

        Returns:
            Name -> the mean over the weights.
        """
        results = [compute()]
        for place in range(int(self.kept)):
            parameters = dict(module.named_parameters())  # of which some layers ask the type
            state = {
                f"module.{k}": nn.Parameter(x, requires_grad=False) if k in parameters else x
                for k, x in self.of(place).items()
            }
            results.append(functional_call(_With(module, compute), state, ()))
        return {key: torch.stack([r[key] for r in results]).mean(dim=0) for key in results[0]}


class TakeSnapshots(Callback):
    """Keeps the weights at the end of each part of the training but the last.

    They are kept as the next epoch starts, so that until then the current weights count once.
    Weights of a preparatory stage, which are not selected either, are not kept.

    Example:
        >>> [epoch for epoch in range(12) if TakeSnapshots(number=4).ends_before(epoch, 12)]
        [3, 6, 9]
    """

    def __init__(self, number: int) -> None:
        """Store the number of parts.

        Args:
            number: Number of equal parts of the training.
        """
        self.number = number

    def ends_before(self, epoch: int, num_epochs: int) -> bool:
        """Return whether a part ends before an epoch, counted from 0."""
        return epoch > 0 and epoch % (num_epochs // self.number) == 0

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep the weights of the last epoch, unless a resumed run has kept them already."""
        snapshots = _snapshots_of(pl_module)
        epoch, num_epochs = trainer.current_epoch, trainer.max_epochs or 0
        if not self.ends_before(epoch, num_epochs):
            return
        part = epoch * self.number // num_epochs
        if int(snapshots.seen) < part:
            snapshots.seen.fill_(part)
            if snapshots.was_selectable:
                snapshots.take(pl_module)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note whether the epoch's weights may be selected, before the next one changes that."""
        assert isinstance(pl_module, MultimodalModule)
        _snapshots_of(pl_module).was_selectable.fill_(pl_module.is_selectable)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Add a note if fewer models are averaged than there are parts."""
        assert isinstance(pl_module, MultimodalModule)
        models = int(_snapshots_of(pl_module).kept) + 1
        if models < self.number and trainer.current_epoch == trainer.max_epochs:
            pl_module.notes.add(
                f"The logits of {models} models are averaged at the end, not of {self.number}: the "
                "other parts of the training ended in a preparatory epoch."
            )


def _snapshots_of(module: LightningModule) -> SnapshotEnsemble:
    assert isinstance(module, MultimodalModule)
    assert isinstance(module.snapshots, SnapshotEnsemble), "is built with the module"
    return module.snapshots


class _With(nn.Module):
    """A module as a part of this one, so that its tensors can be replaced during a computation."""

    def __init__(self, module: nn.Module, compute: Callable[[], Any]) -> None:
        super().__init__()
        self.module, self.compute = module, compute

    def forward(self) -> Any:
        return self.compute()


def _tensors(module: nn.Module) -> dict[str, Tensor]:
    """Return the parameters and buffers of a module by name.

    Without those of its snapshots, and without the scales of the data: these are constants, which
    another data set may have or not.
    """
    tensors = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    return {k: x for k, x in tensors.items() if not k.startswith(("snapshots.", "scales."))}
