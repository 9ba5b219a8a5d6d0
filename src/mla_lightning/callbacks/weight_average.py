"""An exponential moving average of the weights, which is evaluated in their place."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor, nn

from mla_lightning.module import MultimodalModule


class WeightAverage(Callback):
    r"""Averages the weights over training, and evaluates and selects the average.

    After each batch, of one or several steps,

    .. math:: \bar\theta \leftarrow d_n \bar\theta + (1 - d_n) \theta, \qquad
       d_n = \min\!\left(d, \frac{1 + n}{10 + n}\right)

    with the number n of earlier batches; the average starts as the initial weights. Averaged are
    all parameters and the running means and variances of batch normalisations. Other buffers, such
    as the histories of a method, are those of training. In preparatory epochs, whose weights are
    not selected, the average is the weights, and n stays 0.

    Training goes on with the weights themselves. Validation, the selection of the epoch and the
    files of the best weights have the average. Checkpoints have both, so a resumed run equals an
    uninterrupted one bit for bit.

    Example:
        >>> average, layer = WeightAverage(decay=0.9), nn.Linear(1, 1, bias=False)
        >>> _ = nn.init.zeros_(layer.weight)
        >>> average.start(layer)
        >>> for value in (1.0, 1.0):
        ...     _ = nn.init.constant_(layer.weight, value)
        ...     average.update(layer)
        >>> average.weights["weight"]  # 1 - 1/10 after the first, 1 - 1/10 * 2/11 after the second
        tensor([[0.9818]])
        >>> with average.in_place_of_weights(layer):
        ...     print(round(layer.weight.item(), 4))
        0.9818
        >>> layer.weight.item()
        1.0
    """

    def __init__(self, decay: float) -> None:
        """Store the decay.

        Args:
            decay: Largest decay d, in (0, 1).
        """
        self.decay = decay
        #: Name -> average of the tensor of that name in the state of the module.
        self.weights: dict[str, Tensor] = {}
        #: Number of batches that are averaged.
        self.num_batches = 0
        self._is_exchanged = False

    def state_dict(self) -> dict[str, Any]:
        """Return the averages, and over how many batches they are."""
        return {"weights": self.weights, "num_batches": self.num_batches}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load the averages."""
        self.weights, self.num_batches = state_dict["weights"], state_dict["num_batches"]

    def start(self, module: nn.Module) -> None:
        """Start with the weights as they are.

        Args:
            module: The module.
        """
        self.weights = {key: x.detach().clone() for key, x in averaged_tensors(module).items()}
        self.num_batches = 0

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        """Add the weights to the averages.

        Args:
            module: The module.
        """
        warm_start = (1 + self.num_batches) / (10 + self.num_batches)
        share = 1 - min(self.decay, warm_start)
        for key, x in averaged_tensors(module).items():
            self.weights[key].lerp_(x, share)
        self.num_batches += 1

    @contextmanager
    def in_place_of_weights(self, module: nn.Module) -> Iterator[None]:
        """Let a module have the averages within the context, and its weights again after it.

        Args:
            module: The module.
        """
        self._exchange(module)
        try:
            yield
        finally:
            self._exchange(module)

    @torch.no_grad()
    def _exchange(self, module: nn.Module) -> None:
        for key, x in averaged_tensors(module).items():
            weight = x.clone()
            x.copy_(self.weights[key])
            self.weights[key].copy_(weight)
        self._is_exchanged = not self._is_exchanged

    # ------------------------------------------------------------------ Lightning

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Start the averages, or move those of a checkpoint to the device."""
        if not self.weights:
            self.start(pl_module)
        device = pl_module.device
        self.weights = {key: x.to(device) for key, x in self.weights.items()}

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Add the weights after the batch, before other callbacks write a checkpoint."""
        assert isinstance(pl_module, MultimodalModule)
        self.update(pl_module) if pl_module.is_selectable else self.start(pl_module)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Validate the averages during training."""
        if trainer.state.fn == TrainerFn.FITTING and self.weights:
            self._exchange(pl_module)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Train on with the weights."""
        if self._is_exchanged:
            self._exchange(pl_module)

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Give the module its weights back."""
        if self._is_exchanged:
            self._exchange(pl_module)


def averaged_tensors(module: nn.Module) -> dict[str, Tensor]:
    """Return what is averaged: parameters, and running means and variances of batch norms.

    Args:
        module: The module.

    Returns:
        Name in the state of the module -> tensor; one that has several names under the first.

    Example:
        >>> sorted(averaged_tensors(nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))))
        ['0.bias', '0.weight', '1.bias', '1.running_mean', '1.running_var', '1.weight']
    """
    statistics = {
        id(x)
        for layer in module.modules()
        if isinstance(layer, nn.modules.batchnorm._BatchNorm)
        for x in (layer.running_mean, layer.running_var)
    }
    tensors: dict[int, tuple[str, Tensor]] = {}
    for key, x in module.state_dict(keep_vars=True).items():
        is_averaged = isinstance(x, nn.Parameter) or id(x) in statistics
        if is_averaged and x.is_floating_point():
            tensors.setdefault(id(x), (key, x))
    return dict(tensors.values())


def evaluated_state(trainer: Trainer, module: LightningModule) -> dict[str, Tensor]:
    """Return the weights that were validated: the averages if there are any.

    Args:
        trainer: The trainer, between two epochs.
        module: The module.

    Returns:
        The state of the module.
    """
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, WeightAverage):
            with callback.in_place_of_weights(module):
                return {key: x.clone() for key, x in module.state_dict().items()}
    return module.state_dict()


def evaluated_state_of(checkpoint: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return the weights of a checkpoint that were validated, as :func:`evaluated_state`.

    Args:
        checkpoint: The content of a checkpoint after an epoch.

    Returns:
        The state of the module.

    Example:
        >>> content = {"state_dict": {"weight": torch.zeros(2)}}
        >>> evaluated_state_of(content)
        {'weight': tensor([0., 0.])}
        >>> average = {"weights": {"weight": torch.ones(2)}, "num_batches": 3}
        >>> evaluated_state_of(content | {"callbacks": {"WeightAverage": average}})
        {'weight': tensor([1., 1.])}
    """
    state: dict[str, Tensor] = checkpoint["state_dict"]
    callbacks = checkpoint.get("callbacks", {})
    weights = callbacks.get(WeightAverage.__qualname__, {}).get("weights", {})
    # A tensor of several names has one average, and one place in memory.
    average = {(state[key].data_ptr(), state[key].shape): x for key, x in weights.items()}
    return {key: average.get((x.data_ptr(), x.shape), x) for key, x in state.items()}
