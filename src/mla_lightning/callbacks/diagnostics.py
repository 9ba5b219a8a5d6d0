"""What happens to each modality while others train, measured on fixed samples."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from mla_lightning.metrics.forgetting import (
    gradient_cosines,
    losses_and_accuracies,
    projector_state,
)
from mla_lightning.metrics.geometry import modality_gap
from mla_lightning.metrics.probe import probe_accuracies
from mla_lightning.module import Batch, MultimodalModule

#: Mode -> batches of an epoch around whose steps the fixed batch is measured.
NUM_BATCHES = {"epoch": 1, "full": 8}


@dataclass
class StepWatch:
    """Watches the steps of one batch: what each does to every modality, and its head gradient.

    Attributes:
        module: The module, which calls :meth:`before_step` and :meth:`gradient`.
        fixed: The fixed batch, as the encoders take it.
    """

    module: MultimodalModule
    fixed: Batch
    changes: dict[tuple[str, str], list[tuple[float, float]]] = field(default_factory=dict)
    gradients: dict[str, dict[str, Tensor]] = field(default_factory=dict)
    _open: tuple[str, dict[str, tuple[float, float]]] | None = None

    def before_step(self, name: str) -> None:
        """Measure before a step, which is after the one before it.

        Args:
            name: What the step trains, such as a modality.
        """
        now = self._measured()
        self._close(now)
        self._open = (name, now)

    def gradient(self, kind: str) -> None:
        """Keep the head's gradient of the step, ``raw`` or ``edited``."""
        head = getattr(self.module.fusion, "head", None)
        if self._open is not None and head is not None and head.weight.grad is not None:
            kept = self.gradients.setdefault(kind, {})
            kept[self._open[0]] = head.weight.grad.detach().float().clone()

    def finish(self) -> None:
        """Measure after the last step."""
        self._close(self._measured())
        self._open = None

    def _close(self, now: Mapping[str, tuple[float, float]]) -> None:
        if self._open is None:
            return
        step, before = self._open
        for name, (loss, accuracy) in now.items():
            change = (loss - before[name][0], accuracy - before[name][1])
            self.changes.setdefault((step, name), []).append(change)

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


class EpochDiagnostics(Callback):
    """Adds diagnostics to each epoch's metrics, off the path of all but a few training steps.

    Columns of ``metrics.csv``: ``forgetting/loss/<step>/<modality>`` and ``forgetting/acc/...``:
    change by each step of a batch, on fixed samples, mean over a few batches;
    ``gradient/<raw|edited>/<a>/<b>``: cosine of the head's gradients of two modalities' steps;
    ``projector/<trace|smallest|median>/<modality>``; ``probe/acc/<modality>``: a ridge probe on
    features of a fixed part of train, scored on validation; ``gap/<a>/<b>``: the modality gap.
    Once, in the first epoch: ``cost/step_flops``, by PyTorch's counter.
    """

    def __init__(
        self, mode: str, fixed: Batch, probed: Mapping[str, list[Batch]], num_batches: int
    ) -> None:
        """Prepare.

        Args:
            mode: ``epoch`` or ``full``.
            fixed: The batch on which changes are measured, on the CPU, as the loader gives it.
            probed: ``train`` and ``val`` -> batches for the probe and the gap.
            num_batches: Batches of an epoch.
        """
        self.fixed, self.probed = fixed, probed
        count = min(NUM_BATCHES[mode], num_batches)
        self.watched = {round((k + 0.5) * num_batches / count - 0.5) for k in range(count)}
        self._watch: StepWatch | None = None
        self._seen: list[StepWatch] = []
        self._flops: FlopCounterMode | None = None
        self._num_flops: int | None = None

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Watch the steps of some batches; count the FLOPs of the very first one."""
        assert isinstance(pl_module, MultimodalModule)
        is_compiled = any(part._compiled_call_impl is not None for part in pl_module.modules())
        if trainer.global_step == 0 and not is_compiled:
            self._flops = FlopCounterMode(display=False)
            self._flops.__enter__()
        elif batch_idx in self.watched:
            self._watch = StepWatch(pl_module, self._ready(pl_module, self.fixed))
            pl_module.watch = self._watch

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Stop watching."""
        assert isinstance(pl_module, MultimodalModule)
        if self._flops is not None:
            self._flops.__exit__(None, None, None)
            self._num_flops, self._flops = self._flops.get_total_flops(), None
        if self._watch is not None:
            self._watch.finish()
            self._seen.append(self._watch)
            pl_module.watch = self._watch = None

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Add the epoch's numbers to its metrics."""
        assert isinstance(pl_module, MultimodalModule)
        found = {**self._changes(), **self._angles()}
        for name, projector in getattr(pl_module, "projectors", {}).items():
            if not bool(projector.isfinite().all()):
                continue  # training has failed, which it tells itself
            state = projector_state(projector).items()
            found |= {f"projector/{key}/{name}": value for key, value in state}
        found |= self._features(pl_module)
        if self._num_flops is not None:
            found["cost/step_flops"] = float(self._num_flops)
            self._num_flops = None
        pl_module.epoch_metrics |= found
        self._seen = []

    def _changes(self) -> dict[str, float]:
        lists: dict[str, list[float]] = {}
        for watch in self._seen:
            for (step, name), pairs in watch.changes.items():
                for loss, accuracy in pairs:
                    lists.setdefault(f"forgetting/loss/{step}/{name}", []).append(loss)
                    lists.setdefault(f"forgetting/acc/{step}/{name}", []).append(accuracy)
        return {key: fmean(values) for key, values in lists.items()}

    def _angles(self) -> dict[str, float]:
        lists: dict[str, list[float]] = {}
        for watch in self._seen:
            for kind, gradients in watch.gradients.items():
                for (a, b), cosine in gradient_cosines(gradients).items():
                    lists.setdefault(f"gradient/{kind}/{a}/{b}", []).append(cosine)
        return {key: fmean(values) for key, values in lists.items()}

    @torch.no_grad()
    def _features(self, module: MultimodalModule) -> dict[str, float]:
        features: dict[str, dict[str, Tensor]] = {}
        labels: dict[str, Tensor] = {}
        present: dict[str, dict[str, Tensor]] = {}
        for split, batches in self.probed.items():
            parts = [self._ready(module, batch) for batch in batches]
            found = [module.pooled_features(part) for part in parts]
            names = module.modalities
            features[split] = {m: torch.cat([f[m] for f in found]).cpu() for m in names}
            labels[split] = torch.cat([part["label"] for part in parts]).cpu()
            present[split] = {m: torch.cat([p["present"][m] for p in parts]).cpu() for m in names}
        values = [x for by_modality in features.values() for x in by_modality.values()]
        if not all(bool(x.isfinite().all()) for x in values):
            return {}  # training has failed, which it tells itself
        scores = probe_accuracies(features, labels, present, module.parts.num_classes)["val"]
        told = {f"probe/acc/{name}": value for name, value in scores.items()}
        names = module.modalities
        for place, a in enumerate(names):
            for b in names[place + 1 :]:
                one, two = (features["val"][m][present["val"][m]] for m in (a, b))
                if one.shape[1:] == two.shape[1:] and len(one) and len(two):
                    gap = modality_gap(one, two)
                    told |= {f"gap/{a}/{b}": gap} if math.isfinite(gap) else {}
        return told

    def _ready(self, module: MultimodalModule, batch: Batch) -> Batch:
        moved: Batch = module.transfer_batch_to_device(batch, module.device, 0)
        return module.converted(moved, draw=False)
