"""What each step of a batch does to every modality, measured on fixed samples."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.optim import Optimizer

from mla_lightning.batch import Batch
from mla_lightning.metrics.forgetting import losses_and_accuracies
from mla_lightning.module import MultimodalModule

#: Modality -> cross-entropy and share of right answers.
Scores = Mapping[str, tuple[float, float]]
#: (step, modality) -> change of loss and accuracy, of each step of that name.
Changes = dict[tuple[str, str], list[tuple[float, float]]]


@dataclass
class _Step:
    """A step under way.

    Attributes:
        name: What it trains.
        before: The scores before it.
        buffers: Buffers before it, and copies.
        weights: Weights that it has gradients for, and copies of them before it.
        head: The shared head's weight before it, if there is one.
        own: The scores after its own gradient alone; None where that is not finite.
        stepped: The weights right after the optimiser's step.
    """

    name: str
    before: Scores
    buffers: list[tuple[Tensor, Tensor]]
    weights: list[tuple[Tensor, Tensor]]
    head: Tensor | None
    own: Scores | None = None
    stepped: list[Tensor] = field(default_factory=list)


@dataclass
class StepEffects:
    r"""Watches the steps of one batch: what each does to every modality, and to the shared head.

    With :math:`L_b(w, s)` the mean cross-entropy of modality b's own logits on a fixed batch, given
    weights w and buffers s (running statistics of normalisation), a step on a changes it by

    .. math:: F_{ab} = L_b(w', s) - L_b(w, s)

    where w' is all that the step makes of w: momentum, weight decay and edits of the update
    included. Both ends have the buffers s that the step began with: the next step's forward pass
    moves running statistics, which is no forgetting. Positive off the diagonal: b forgets. It is a
    finite difference of one step, as in the interference of Riemer et al. (ICLR 2019), whose
    first-order term is :math:`-\eta\, g_a \cdot g_b`.

    Momentum carries the other modalities' last gradients on the shared head into w'. So the step's
    own gradient :math:`g_a`, as edited and clipped, is tried alone, whatever the optimiser is:

    .. math:: O_{ab} = L_b(w - \eta\, g_a, s) - L_b(w, s)

    For plain SGD without momentum and weight decay the two are equal. Weights and buffers are put
    back bit for bit. A method that edits the update once the optimiser has stepped has no own
    gradient's step to try, so none is recorded.

    Attributes:
        module: The module, which calls :meth:`before_step`, :meth:`record_gradient` and
            :meth:`after_step`.
        fixed: The fixed batch, as the encoders take it.
        optimizer: Its groups tell the rates.
        outside_training: Context of all work that is not training, for clocks and counters.
        changes: What whole steps changed.
        own_changes: What the steps' own gradients change.
        gradients: Of the shared head, by step: ``raw``, ``edited``, and ``applied``, minus the
            movement of its weight.
    """

    module: MultimodalModule
    fixed: Batch
    optimizer: Optimizer
    outside_training: Callable[[], AbstractContextManager[None]] = nullcontext
    changes: Changes = field(default_factory=dict)
    own_changes: Changes = field(default_factory=dict)
    gradients: dict[str, dict[str, Tensor]] = field(default_factory=dict)
    _open: _Step | None = None

    def before_step(self, name: str) -> None:
        """Measure before a step; gradients are there.

        Args:
            name: What the step trains, such as a modality.
        """
        with self.outside_training():
            self._close()
            held = [p for p in self.module.parameters() if p.grad is not None]
            head = self._head
            self._open = _Step(
                name,
                before=self._measured(),
                buffers=[(b, b.clone()) for b in self.module.buffers()],
                weights=[(p, p.detach().clone()) for p in held],
                head=None if head is None else head.detach().clone(),
            )

    def record_gradient(self, kind: str) -> None:
        """Keep the head's gradient of the step, ``raw`` or ``edited``."""
        head = self._head
        if self._open is None or head is None:
            return
        for parameter, _ in self._given():
            if parameter.data_ptr() == head.data_ptr() and parameter.grad is not None:
                with self.outside_training():
                    kept = self.gradients.setdefault(kind, {})
                    kept[self._open.name] = parameter.grad.detach().float().clone()

    def after_step(self) -> None:
        """Try the step's own gradient alone."""
        step = self._open
        if step is None:
            return
        with self.outside_training():
            step.stepped = [p.detach().clone() for p, _ in step.weights]
            before = {p.data_ptr(): copy for p, copy in step.weights}
            alone = [
                (p, before[p.data_ptr()] - rate * p.grad)
                for p, rate in self._given()
                if p.grad is not None and p.data_ptr() in before
            ]
            with _replaced(alone):
                own = self._measured()
            if all(math.isfinite(loss) for loss, _ in own.values()):
                step.own = own  # not where a gradient overflowed, whose step is skipped

    def finish(self) -> None:
        """Measure after the last step."""
        with self.outside_training():
            self._close()

    def _given(self) -> Iterator[tuple[Tensor, float]]:
        """Go through what the optimiser steps on, with the rates.

        A modification may hand a weight's gradient to another parameter with the same numbers, as
        a momentum buffer per modality needs: both lie at one address.
        """
        for group in self.optimizer.param_groups:
            yield from ((parameter, float(group["lr"])) for parameter in group["params"])

    @property
    def _head(self) -> Tensor | None:
        head = getattr(self.module.fusion, "head", None)
        return getattr(head, "weight", None)

    def _close(self) -> None:
        """Measure what the step came to, now that nothing of it is left to do."""
        step, self._open = self._open, None
        if step is None:
            return
        with _replaced(step.buffers):
            _add(self.changes, step, self._measured())
        is_edited_later = any(
            not torch.equal(p, then)
            for (p, _), then in zip(step.weights, step.stepped, strict=True)
        )
        if is_edited_later:  # what the optimiser was given is not what was applied
            self.gradients.get("edited", {}).pop(step.name, None)
        elif step.own is not None:
            _add(self.own_changes, step, step.own)
        if step.head is not None and step.name in self.gradients.get("raw", {}):
            moved = (step.head - self._head.detach()).float()  # type: ignore[union-attr]
            self.gradients.setdefault("applied", {})[step.name] = moved

    @torch.no_grad()
    def _measured(self) -> dict[str, tuple[float, float]]:
        module = self.module
        modes = [(part, part.training) for part in module.modules()]
        module.eval()
        with torch.autocast(module.device.type, enabled=False):
            logits = module.evaluate_batch(self.fixed)
        for part, mode in modes:
            part.training = mode
        return losses_and_accuracies(logits, self.fixed["label"], self.fixed["present"])


def _add(changes: Changes, step: _Step, now: Scores) -> None:
    for name, (loss, accuracy) in now.items():
        change = (loss - step.before[name][0], accuracy - step.before[name][1])
        changes.setdefault((step.name, name), []).append(change)


@contextmanager
def _replaced(values: Sequence[tuple[Tensor, Tensor]]) -> Iterator[None]:
    """Give tensors other values for a while.

    In place, so that whoever holds them (recurrent layers, compiled graphs) sees them; through
    ``data``, so that graphs which are still to run backward do not take it for a change.
    """
    kept = [tensor.detach().clone() for tensor, _ in values]
    for tensor, value in values:
        tensor.data.copy_(value)
    try:
        yield
    finally:
        for (tensor, _), value in zip(values, kept, strict=True):
            tensor.data.copy_(value)
