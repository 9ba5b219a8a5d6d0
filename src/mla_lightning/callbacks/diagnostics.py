"""What happens to each modality while others train, measured on fixed samples."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from itertools import combinations
from statistics import fmean
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from mla_lightning.batch import Batch
from mla_lightning.callbacks.step_effects import StepEffects
from mla_lightning.metrics.flops import StepFlops
from mla_lightning.metrics.forgetting import gradient_cosines, projector_state
from mla_lightning.metrics.geometry import modality_gap
from mla_lightning.metrics.probe import probe_accuracies
from mla_lightning.module import MultimodalModule

#: Mode -> batches of an epoch around whose steps the fixed batch is measured.
NUM_BATCHES = {"epoch": 1, "full": 8}


class EpochDiagnostics(Callback):
    r"""Adds diagnostics to each epoch's metrics, off the path of all but a few training steps.

    Columns of ``metrics.csv``, each the mean over the epoch's watched batches:

    - ``forgetting/loss/<a>/<b>`` and ``forgetting/acc/<a>/<b>``: what a step on a changes of b's
      loss and accuracy on fixed training samples, :math:`F_{ab}` of
      :class:`~mla_lightning.callbacks.step_effects.StepEffects`; ``forgetting/own_loss/<a>/<b>``
      and ``forgetting/own_acc/<a>/<b>``: what the step's own gradient changes, :math:`O_{ab}`.
      Steps are named by their losses, joined by +; only where both ends are modalities is the
      change forgetting.
    - ``gradient/<kind>/<a>/<b>``: :math:`\cos(g_a, g_b)` of the shared head (Yu et al., NeurIPS
      2020): ``raw`` as computed, ``edited`` as the optimiser gets them, ``applied`` of minus the
      head's movements, momentum and edits of the update included.
    - ``projector/<trace|smallest|median>/<modality>``: see
      :func:`~mla_lightning.metrics.forgetting.projector_state`.
    - ``probe/acc/<modality>``: a ridge probe on features of a fixed part of train, scored on the
      validation samples that also choose its ridge term among eight, so a little too high; to
      compare epochs and methods, not to report.
    - ``gap/<a>/<b>``: the modality gap, of features as the shared head gets them if there is one.
    - ``cost/step_flops``: FLOPs of a training step, in the first epoch and where a method of
      several stages begins the next one.

    Attributes:
        uncounted: Names of operations that the FLOPs leave out.
    """

    def __init__(
        self, mode: str, fixed: Batch, probed: Mapping[str, Iterable[Batch]], num_batches: int
    ) -> None:
        """Prepare.

        Args:
            mode: ``epoch`` or ``full``.
            fixed: The batch on which changes are measured, on the CPU, as the loader gives it.
            probed: ``train`` and ``val`` -> batches for the probe and the gap; gone through in
                every epoch.
            num_batches: Batches of an epoch.
        """
        self.fixed, self.probed = fixed, probed
        count = min(NUM_BATCHES[mode], num_batches)
        self.measured_batches = {round((k + 0.5) * num_batches / count - 0.5) for k in range(count)}
        self.uncounted: set[str] = set()
        self._effects: StepEffects | None = None
        self._seen: dict[str, list[float]] = {}  # of the epoch so far, by column
        self._flops: StepFlops | None = None
        self._num_flops: int | None = None
        self._counted: bool | None = None  # the stage whose step was counted last

    def state_dict(self) -> dict[str, Any]:
        """Return what was measured and counted, for a run that resumes within an epoch."""
        return {
            "uncounted": sorted(self.uncounted),
            "counted": self._counted,
            "flops": self._num_flops,
            "seen": {key: list(values) for key, values in self._seen.items()},
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take it back."""
        self.uncounted, self._counted = set(state_dict["uncounted"]), state_dict["counted"]
        self._num_flops, self._seen = state_dict["flops"], dict(state_dict["seen"])

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Watch the steps of some batches; count the FLOPs of the first one of each stage."""
        assert isinstance(pl_module, MultimodalModule)
        is_compiled = any(part._compiled_call_impl is not None for part in pl_module.modules())
        if pl_module.is_selectable != self._counted and not is_compiled:
            self._counted = pl_module.is_selectable
            self._flops = StepFlops()
            self._flops.__enter__()
        if batch_idx in self.measured_batches:
            with self._outside_training(pl_module):
                fixed = pl_module.prepare_batch(self.fixed)
            self._effects = StepEffects(
                pl_module, fixed, trainer.optimizers[0], lambda: self._outside_training(pl_module)
            )
            pl_module.step_observer = self._effects

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Stop watching and counting."""
        assert isinstance(pl_module, MultimodalModule)
        if self._effects is not None:
            self._effects.finish()
            for key, value in (*_changes(self._effects), *_angles(self._effects)):
                self._seen.setdefault(key, []).append(value)
        if self._flops is not None:
            self._num_flops = self._flops.get_total_flops()
            self.uncounted |= self._flops.uncounted
        self._stop(pl_module)

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Leave nothing behind that watches or counts."""
        assert isinstance(pl_module, MultimodalModule)
        self._stop(pl_module)

    def _stop(self, module: MultimodalModule) -> None:
        module.step_observer = self._effects = None
        if self._flops is not None:
            self._flops.__exit__(None, None, None)
            self._flops = None

    @contextmanager
    def _outside_training(self, module: MultimodalModule) -> Iterator[None]:
        """Do what is not training: its time and its FLOPs are not those of a step."""
        if module.device.type == "cuda":
            torch.cuda.synchronize(module.device)
        started = time.perf_counter()
        try:
            with self._flops.paused() if self._flops is not None else nullcontext():
                yield
        finally:
            module.diagnostics_s += time.perf_counter() - started

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Add the epoch's numbers to its metrics."""
        assert isinstance(pl_module, MultimodalModule)
        with self._outside_training(pl_module):
            pl_module.epoch_metrics |= self._numbers(pl_module)
        self._seen = {}

    def _numbers(self, pl_module: MultimodalModule) -> dict[str, float]:
        found = {key: fmean(values) for key, values in self._seen.items()}
        for name, projector in getattr(pl_module, "projectors", {}).items():
            if not bool(projector.isfinite().all()):
                continue  # training has failed, which it tells itself
            state = projector_state(projector).items()
            found |= {f"projector/{key}/{name}": value for key, value in state}
        found |= self._features(pl_module)
        if self._num_flops is not None:
            found["cost/step_flops"] = float(self._num_flops)
            self._num_flops = None
        return found

    @torch.no_grad()
    def _features(self, module: MultimodalModule) -> dict[str, float]:
        features: dict[str, dict[str, Tensor]] = {}
        labels: dict[str, Tensor] = {}
        present: dict[str, dict[str, Tensor]] = {}
        names = module.modalities
        for split, batches in self.probed.items():
            kept = []
            for batch in batches:  # one at a time: of the inputs nothing stays
                part = module.prepare_batch(batch)
                found = module.pooled_features(part)
                there = {m: part["present"][m].cpu() for m in names}
                kept.append(({m: found[m].cpu() for m in names}, part["label"].cpu(), there))
            features[split] = {m: torch.cat([h[m] for h, _, _ in kept]) for m in names}
            labels[split] = torch.cat([label for _, label, _ in kept])
            present[split] = {m: torch.cat([there[m] for _, _, there in kept]) for m in names}
        values = [x for by_modality in features.values() for x in by_modality.values()]
        if not all(bool(x.isfinite().all()) for x in values):
            return {}  # training has failed, which it tells itself
        scores = probe_accuracies(features, labels, present, module.parts.num_classes)["val"]
        told = {f"probe/acc/{name}": value for name, value in scores.items()}
        at = at_head(module, features["val"])
        for a, b in combinations(names, 2):
            one, two = (at[m][present["val"][m]] for m in (a, b))
            if one.shape[1:] == two.shape[1:] and len(one) and len(two):
                gap = modality_gap(one, two)
                told |= {f"gap/{a}/{b}": gap} if math.isfinite(gap) else {}
        return told


def _changes(effects: StepEffects) -> Iterator[tuple[str, float]]:
    """Name what each watched step changed."""
    for start, changes in (("", effects.changes), ("own_", effects.own_changes)):
        for (step, name), pairs in changes.items():
            for loss, accuracy in pairs:
                yield f"forgetting/{start}loss/{step}/{name}", loss
                yield f"forgetting/{start}acc/{step}/{name}", accuracy


def _angles(effects: StepEffects) -> Iterator[tuple[str, float]]:
    """Name the cosines between the watched steps' gradients of the head."""
    for kind, gradients in effects.gradients.items():
        for (a, b), cosine in gradient_cosines(gradients).items():
            yield f"gradient/{kind}/{a}/{b}", cosine


@torch.no_grad()
def at_head(module: MultimodalModule, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Bring features to one width as the shared head gets them.

    Args:
        module: The module.
        features: Modality -> (N, D_m).

    Returns:
        Modality -> (N, D); the features as they are where there is no shared head.
    """
    bring = getattr(module.fusion, "head_input", None)
    if bring is None:
        return dict(features)
    like: Tensor = module.fusion.head.weight  # type: ignore[union-attr,assignment]
    return {name: bring(name, h.to(like)).to(h) for name, h in features.items()}
