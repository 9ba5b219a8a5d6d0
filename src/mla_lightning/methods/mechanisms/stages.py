"""Training in stages, each of which trains some of the parameters."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Unpack

import torch
from torch import nn

from mla_lightning.module import MultimodalModule
from mla_lightning.parts import Composition


class Stages(MultimodalModule):
    """Base of rules whose training is divided into stages, numbered from 0 by the epoch.

    At the first epoch of a later stage :meth:`begin_stage` is called and the state of the optimiser
    is cleared, once: the number of the stage that has begun is a buffer, so a run that is resumed
    within the stage goes on with the optimiser's state. The schedule is that of the whole run, as
    for every other method.

    Parameters outside of :meth:`trained_in` get no gradient. Gradients start as None in each step,
    so such a parameter stays bit for bit the same: no momentum, no weight decay. The optimiser has
    all parameters in every stage.

    Example:
        A rule that trains the encoders for two epochs, then the head:

        >>> from functools import partial
        >>> class EncodersFirst(Stages):
        ...     def stage_of(self, epoch):
        ...         return int(epoch >= 2)
        ...
        ...     def trained_in(self, stage):
        ...         return (self.encoders, self.fusion)[stage].parameters()
        >>> method = EncodersFirst(
        ...     encoders={"audio": nn.Linear(3, 4), "visual": nn.Linear(5, 4)},
        ...     num_classes=2,
        ...     optimizer=partial(torch.optim.SGD, lr=0.1),
        ... )
        >>> [method.stage_of(epoch) for epoch in range(4)], method.training_stage
        ([0, 0, 1, 1], 0)
        >>> "begun_stage" in method.state_dict()
        True
    """

    #: Name of the buffer that has the number of the stage that has begun.
    stage_buffer = "begun_stage"

    def __init__(self, **parts: Unpack[Composition]) -> None:
        """Build the module, in stage 0.

        Args:
            **parts: See :class:`~mla_lightning.parts.Parts`.
        """
        super().__init__(**parts)
        self.register_buffer(self.stage_buffer, torch.tensor(0))
        self._resting: list[nn.Parameter] = []  # those that are trained in other stages only

    def stage_of(self, epoch: int) -> int:
        """Return the number of an epoch's stage, which never decreases."""
        raise NotImplementedError(f"{type(self).__name__} does not define stage_of")

    def trained_in(self, stage: int) -> Iterable[nn.Parameter] | None:
        """Return the parameters that a stage trains; None, the default, for all."""
        del stage
        return None

    def begin_stage(self, stage: int) -> None:
        """Prepare a stage other than stage 0, before the optimiser's state is cleared."""

    @property
    def training_stage(self) -> int:
        """The number of the current epoch's stage."""
        return self.stage_of(self.current_epoch)

    def on_train_epoch_start(self) -> None:
        """Begin the epoch's stage unless it has begun, and choose the trained parameters."""
        super().on_train_epoch_start()
        stage, begun = self.training_stage, self.get_buffer(self.stage_buffer)
        if stage > int(begun):
            begun.fill_(stage)
            self.begin_stage(stage)
            self.trainer.optimizers[0].state.clear()
        self._train_only(self.trained_in(stage))

    def on_train_end(self) -> None:
        """Leave no parameter without gradients that had them before."""
        super().on_train_end()
        self._train_only(None)

    def _train_only(self, trained: Iterable[nn.Parameter] | None) -> None:
        for parameter in self._resting:
            parameter.requires_grad_(True)
        kept = set(self.parameters() if trained is None else trained)
        self._resting = [p for p in self.parameters() if p.requires_grad and p not in kept]
        for parameter in self._resting:
            parameter.requires_grad_(False)
