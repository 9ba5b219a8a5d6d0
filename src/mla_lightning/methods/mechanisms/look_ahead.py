"""Training on trial: what some epochs would change, without changing anything."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import reduce
from operator import add
from typing import Any

import torch
from torch import Tensor, nn

from mla_lightning import ranks
from mla_lightning.batch import Batch, as_batch, chunks_of
from mla_lightning.module import MultimodalModule
from mla_lightning.randomness import derive_seed


@contextmanager
def on_trial(module: MultimodalModule) -> Iterator[None]:
    """Undo at the end of the context what it did to weights, buffers and torch's generators.

    Args:
        module: The module.

    Example:
        >>> from functools import partial
        >>> from mla_lightning.methods import Joint
        >>> module = Joint(
        ...     encoders={"audio": nn.Linear(3, 4), "visual": nn.Linear(5, 4)},
        ...     num_classes=2,
        ...     optimizer=partial(torch.optim.SGD, lr=0.1),
        ... )
        >>> bias = module.fusion.head.bias
        >>> before = bias.detach().clone()
        >>> with torch.no_grad(), on_trial(module):
        ...     bias += 1
        >>> torch.equal(bias, before)
        True
    """
    kept = [(t, t.detach().clone()) for t in (*module.parameters(), *module.buffers())]
    devices = [module.device] if module.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        try:
            yield
        finally:
            with torch.no_grad():
                for tensor, value in kept:
                    tensor.copy_(value)
            for parameter in module.parameters():
                parameter.grad = None


def train_ahead(
    module: MultimodalModule,
    losses_of: Callable[[Batch], dict[str, Tensor]],
    num_epochs: int,
    clipped_groups: Sequence[Sequence[nn.Parameter]],
) -> None:
    """Train a module on the batches of the coming epochs, with a new optimiser.

    Order and augmentation of the samples are those that these epochs will have. The learning rate
    is the present one, and constant. Precision is that of the weights.

    Args:
        module: The module within its training, in training mode; see :func:`on_trial`.
        losses_of: Chunk of a batch -> losses by name, whose sum is minimised.
        num_epochs: Number of epochs.
        clipped_groups: The groups of parameters whose gradients are clipped, each by its own norm.

    Example:
        >>> class Trial(MultimodalModule):
        ...     def on_train_epoch_start(self):
        ...         super().on_train_epoch_start()
        ...         with on_trial(self):
        ...             train_ahead(self, self.losses_of, 2, [list(self.parameters())])
        ...
        ...     def losses_of(self, chunk):
        ...         return {"joint": self.parts.loss(self.fusion(self.features(chunk)), chunk)}
    """
    parts = module.parts
    optimizer = parts.optimizer(module.trained_parameters())
    present = module.trainer.optimizers[0].param_groups
    for group, now in zip(optimizer.param_groups, present, strict=True):
        group["lr"] = now["lr"]
    first = module.current_epoch
    for epoch in range(first, first + num_epochs):
        place = parts.seed, "look ahead", first, epoch
        ranks.seed_generators(derive_seed(*place), module.device)
        for number, batch in enumerate(coming_batches(module, epoch)):
            ranks.seed_generators(derive_seed(*place, number), module.device)
            optimizer.zero_grad(set_to_none=True)
            with torch.enable_grad():
                for chunk, fraction in chunks_of(batch, parts.accumulate):
                    loss = reduce(add, losses_of(chunk).values()) * fraction
                    loss.backward()
            if parts.clip_norm is not None:
                for parameters in clipped_groups:
                    nn.utils.clip_grad_norm_(parameters, parts.clip_norm)
            optimizer.step()


def coming_batches(module: MultimodalModule, epoch: int) -> Iterator[Batch]:
    """Yield the training batches of an epoch, prepared and augmented as in that epoch.

    A loader of another package is iterated once more.

    Args:
        module: The module within its training.
        epoch: The epoch, from 0.
    """
    loader: Any = module.trainer.train_dataloader
    batches = loader.batches_of(epoch) if hasattr(loader, "batches_of") else loader
    for batch in batches:
        task = module.task.name
        labelled = as_batch(
            batch, module.modalities, is_complete=module.parts.is_complete, task=task
        )
        yield module.read_batch(labelled, epoch)
