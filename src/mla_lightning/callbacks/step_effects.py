"""Effects of each step of a batch on every modality, measured on fixed samples."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.optim import Optimizer

from mla_lightning.batch import Batch
from mla_lightning.metrics.by_task import primary_score
from mla_lightning.metrics.forgetting import losses_and_scores
from mla_lightning.module import MultimodalModule

#: Modality -> loss, and score by the primary metric of the task.
Scores = Mapping[str, tuple[float, float]]
#: (step, modality) -> changes of loss and score, by each step of that name.
Changes = dict[tuple[str, str], list[tuple[float, float]]]


@dataclass
class _Step:
    """A step that has begun and whose effect is not measured yet.

    Attributes:
        name: What it trains.
        before: The scores before it.
        buffers: Buffers, and copies of them before it.
        weights: Weights that it has gradients for, and copies of them before it.
        head: The shared head's weight before it, if there is one.
        own: The scores after its own gradient alone; None if they are not finite.
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
    r"""Measures what each step of one batch changes in every modality and in the shared head.

    With :math:`L_b(w, s)` the mean loss (cross-entropy for classes) of modality b's own logits on a
    fixed batch, given weights w and buffers s (running statistics of normalisation), a step on a
    changes it by

    .. math:: F_{ab} = L_b(w', s) - L_b(w, s)

    where w' are the weights after the step, including momentum, weight decay and edits of the
    update. Both terms have the buffers s from before the step: the next step's forward pass changes
    running statistics, which is not forgetting. A positive value with a different from b means that
    b forgets. It is a finite difference of one step, as in the interference of Riemer et al. (ICLR
    2019), whose first-order term is :math:`-\eta\, g_a \cdot g_b`.

    On the shared head, momentum adds the other modalities' last gradients to w'. So the step's own
    gradient :math:`g_a`, as edited and clipped, is also applied alone, whatever the optimiser is:

    .. math:: O_{ab} = L_b(w - \eta\, g_a, s) - L_b(w, s)

    For SGD without momentum and weight decay the two are equal. Weights and buffers are restored
    bit for bit. For a method that edits the update after the optimiser's step, the own gradient is
    not what the step applies, so nothing is recorded for it.

    Attributes:
        module: The module, which calls :meth:`before_step`, :meth:`record_gradient` and
            :meth:`after_step`.
        fixed: The fixed batch, as the encoders take it.
        optimizer: The optimiser, for the learning rates of its groups.
        outside_training: Context of all work here, for clocks and counters of the training.
        changes: Changes by whole steps.
        own_changes: Changes by the steps' own gradients.
        gradients: Kind -> step -> gradient of the shared head: ``raw``, ``edited``, and
            ``applied``, minus the movement of its weight.
    """

    module: MultimodalModule
    fixed: Batch
    optimizer: Optimizer
    outside_training: Callable[[], AbstractContextManager[None]] = nullcontext
    changes: Changes = field(default_factory=dict)
    own_changes: Changes = field(default_factory=dict)
    gradients: dict[str, dict[str, Tensor]] = field(default_factory=dict)
    _open: _Step | None = None
    #: Modality -> state of its encoder when it was last evaluated, and its feature then.
    _encoded: dict[str, tuple[list[Tensor], Tensor]] = field(default_factory=dict)

    def before_step(self, name: str) -> None:
        """Measure before a step; gradients are computed.

        Args:
            name: What the step trains, such as a modality.
        """
        with self.outside_training():
            self._close()
            with_gradient = [p for p in self.module.parameters() if p.grad is not None]
            head = self._head
            self._open = _Step(
                name,
                before=self._scores(),
                buffers=[(b, b.clone()) for b in self.module.buffers()],
                weights=[(p, p.detach().clone()) for p in with_gradient],
                head=None if head is None else head.detach().clone(),
            )

    def record_gradient(self, kind: str) -> None:
        """Copy the head's gradient of the step.

        Args:
            kind: ``raw`` or ``edited``.
        """
        head = self._head
        if self._open is None or head is None:
            return
        for parameter, _ in self._optimised():
            if parameter.data_ptr() == head.data_ptr() and parameter.grad is not None:
                with self.outside_training():
                    by_step = self.gradients.setdefault(kind, {})
                    by_step[self._open.name] = parameter.grad.detach().float().clone()

    def after_step(self) -> None:
        """Measure the effect of the step's own gradient alone."""
        step = self._open
        if step is None:
            return
        with self.outside_training():
            step.stepped = [p.detach().clone() for p, _ in step.weights]
            before = {p.data_ptr(): copy for p, copy in step.weights}
            own_step = [
                (p, before[p.data_ptr()] - lr * p.grad)
                for p, lr in self._optimised()
                if p.grad is not None and p.data_ptr() in before
            ]
            with _replaced(own_step):
                own = self._scores()
            if all(math.isfinite(loss) for loss, _ in own.values()):
                step.own = own  # otherwise the gradient overflowed, and the step was skipped

    def finish(self) -> None:
        """Measure the effect of the last step."""
        with self.outside_training():
            self._close()

    def _optimised(self) -> Iterator[tuple[Tensor, float]]:
        """Yield the optimiser's parameters with their learning rates.

        A modification may move a weight's gradient to another parameter with the same storage, such
        as one per modality for a momentum buffer of its own; both have one address.
        """
        for group in self.optimizer.param_groups:
            yield from ((parameter, float(group["lr"])) for parameter in group["params"])

    @property
    def _head(self) -> Tensor | None:
        head = getattr(self.module.fusion, "head", None)
        return getattr(head, "weight", None)

    def _close(self) -> None:
        """Measure the effect of the open step, after all edits of its update."""
        step, self._open = self._open, None
        if step is None:
            return
        with _replaced(step.buffers):
            _add(self.changes, step, self._scores())
        is_update_edited = any(
            not torch.equal(p, stepped)
            for (p, _), stepped in zip(step.weights, step.stepped, strict=True)
        )
        if is_update_edited:  # the optimiser's gradient is not what was applied
            self.gradients.get("edited", {}).pop(step.name, None)
        elif step.own is not None:
            _add(self.own_changes, step, step.own)
        if step.head is not None and step.name in self.gradients.get("raw", {}):
            movement = (step.head - self._head.detach()).float()  # type: ignore[union-attr]
            self.gradients.setdefault("applied", {})[step.name] = movement

    @torch.no_grad()
    def _scores(self) -> dict[str, tuple[float, float]]:
        module = self.module
        modes = [(submodule, submodule.training) for submodule in module.modules()]
        module.eval()
        with torch.autocast(module.device.type, enabled=False):
            logits = self._logits()
        for submodule, mode in modes:
            submodule.training = mode
        label, present = self.fixed["label"], self.fixed["present"]
        if module.task.has_classes:
            return losses_and_scores(logits, label, present)
        return losses_and_scores(logits, label, present, self._task_loss, self._task_score)

    def _task_loss(self, logits: Tensor, label: Tensor) -> Tensor:
        return self.module.task.sample_losses(logits, label).mean()

    def _task_score(self, logits: Tensor, label: Tensor) -> float:
        task = self.module.task
        return primary_score(task.name, task.in_target_unit(logits), label)

    def _logits(self) -> dict[str, Tensor]:
        """Compute the logits; an encoder that a step left as it was is not evaluated again."""
        module, kind = self.module, type(self.module)
        if not (
            issubclass(kind, MultimodalModule)
            and kind.evaluate_batch is MultimodalModule.evaluate_batch
            and kind.features is MultimodalModule.features
        ):
            return module.evaluate_batch(self.fixed)
        for name, encoder in module.encoders.items():
            state = [*encoder.parameters(), *encoder.buffers()]
            before, _ = self._encoded.get(name, ((), None))
            if not before or not all(map(torch.equal, state, before)):
                feature = module.encode(name, self.fixed)
                self._encoded[name] = ([tensor.detach().clone() for tensor in state], feature)
        features = {name: feature.clone() for name, (_, feature) in self._encoded.items()}
        return module.logits(features, self.fixed["present"])


def _add(changes: Changes, step: _Step, after: Scores) -> None:
    for name, (loss, score) in after.items():
        change = (loss - step.before[name][0], score - step.before[name][1])
        changes.setdefault((step.name, name), []).append(change)


@contextmanager
def _replaced(values: Sequence[tuple[Tensor, Tensor]]) -> Iterator[None]:
    """Replace the values of tensors within the context.

    They are changed in place, so that other references (recurrent layers, compiled graphs) have
    them, too; and through ``data``, so that autograd does not notice a change in graphs whose
    backward is still to come.
    """
    originals = [tensor.detach().clone() for tensor, _ in values]
    for tensor, value in values:
        tensor.data.copy_(value)
    try:
        yield
    finally:
        for (tensor, _), value in zip(values, originals, strict=True):
            tensor.data.copy_(value)
