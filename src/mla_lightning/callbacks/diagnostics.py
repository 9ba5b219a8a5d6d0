"""Diagnostics during training: effects of steps, gradients, projectors, probes, FLOPs."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from functools import partial
from itertools import combinations
from statistics import fmean
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from mla_lightning import ranks
from mla_lightning.batch import Batch
from mla_lightning.callbacks.step_effects import StepEffects
from mla_lightning.metrics.flops import StepFlops
from mla_lightning.metrics.forgetting import gradient_cosines, projector_state
from mla_lightning.metrics.geometry import modality_gap
from mla_lightning.metrics.probe import probe_scores
from mla_lightning.module import MultimodalModule
from mla_lightning.run_folder import columns
from mla_lightning.run_folder.tasks import PRIMARY

#: Mode -> number of an epoch's batches whose steps are measured; ``cost`` only counts FLOPs.
NUM_BATCHES = {"cost": 0, "epoch": 1, "full": 8, "umap": 8}


class EpochDiagnostics(Callback):
    r"""Adds diagnostics to each epoch's metrics; only a few training steps are measured.

    Columns of ``metrics.csv``, each the mean over the epoch's measured batches. For tasks other
    than classification ``acc`` is the column of the primary metric, such as ``mae``:

    - ``forgetting/loss/<a>/<b>`` and ``forgetting/acc/<a>/<b>``: change of b's loss and accuracy on
      fixed training samples by a step on a, :math:`F_{ab}` of
      :class:`~mla_lightning.callbacks.step_effects.StepEffects`; ``forgetting/own_loss/<a>/<b>``
      and ``forgetting/own_acc/<a>/<b>``: change by the step's own gradient alone, :math:`O_{ab}`.
      Steps are named by their losses, joined by ``+``. The change is forgetting only if both a and
      b are modalities.
    - ``gradient/<kind>/<a>/<b>``: :math:`\cos(g_a, g_b)` of the shared head's gradients (Yu et al.,
      NeurIPS 2020): ``raw`` as computed, ``edited`` as the optimiser gets them, ``applied`` of
      minus the head's movements, including momentum and edits of the update.
    - ``projector/<trace|smallest|median>/<modality>``: see
      :func:`~mla_lightning.metrics.forgetting.projector_state`.
    - ``probe/acc/<modality>``: accuracy of a ridge probe on features of fixed training samples. It
      is computed on the validation samples that also select the ridge term among eight, so it is
      slightly too high: to compare epochs and methods, not to report.
    - ``gap/<a>/<b>``: the modality gap, of features as the shared head gets them if there is one.
    - ``cost/step_flops``: FLOPs of a training step on all devices, in the first epoch and in the
      first epoch of a method's next stage. Those of the other steps are taken as the same per
      sample.

    With several ranks the measured gradients are those of the whole batch, and every rank measures
    the same.

    Attributes:
        uncounted: Names of operations that are not in the FLOPs.
        train_flops: FLOPs of all training steps so far, and of passes over the data at the start of
            epochs, which some methods need; None if they cannot be counted. Those of later passes
            are taken as the same per sample that is read.
    """

    def __init__(
        self,
        mode: str,
        fixed: Batch | None,
        probed: Mapping[str, Iterable[Batch]],
        num_batches: int,
    ) -> None:
        """Select the batches whose steps are measured.

        Args:
            mode: ``cost``, ``epoch`` or ``full``.
            fixed: The batch on which changes are measured, on the CPU, as a loader returns it; None
                with ``cost``.
            probed: ``train`` and ``val`` -> batches for the probe and the gap, read every epoch;
                empty with ``cost``.
            num_batches: Number of batches of an epoch.
        """
        self.fixed, self.probed = fixed, probed
        count = min(NUM_BATCHES[mode], num_batches)
        self.measured_batches = {round((k + 0.5) * num_batches / count - 0.5) for k in range(count)}
        self.uncounted: set[str] = set()
        self.train_flops: float | None = None
        self._flops_per_sample = 0.0
        self._pass_flops: float | None = None  # per sample that a pass reads; None before any
        self._effects: StepEffects | None = None
        self._values: dict[str, list[float]] = {}  # column -> values of the epoch so far
        self._flops: StepFlops | None = None
        self._num_flops: int | None = None
        self._counted: int | None = None  # the stage whose steps were counted last

    def state_dict(self) -> dict[str, Any]:
        """Return what has been measured, for a run that resumes within an epoch."""
        return {
            "uncounted": sorted(self.uncounted),
            "counted": self._counted,
            "flops": self._num_flops,
            "train_flops": self.train_flops,
            "flops_per_sample": self._flops_per_sample,
            "pass_flops": self._pass_flops,
            "seen": {key: list(values) for key, values in self._values.items()},
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load what had been measured."""
        self.uncounted, self._counted = set(state_dict["uncounted"]), state_dict["counted"]
        self._num_flops, self._values = state_dict["flops"], dict(state_dict["seen"])
        self.train_flops = state_dict.get("train_flops")
        self._flops_per_sample = state_dict.get("flops_per_sample", 0.0)
        self._pass_flops = state_dict.get("pass_flops")

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Let a pass over the data at the start of the epoch be counted."""
        assert isinstance(pl_module, MultimodalModule)
        if not _is_compiled(pl_module):
            pl_module.pass_observer = partial(self._pass_of, pl_module)

    @contextmanager
    def _pass_of(self, module: MultimodalModule) -> Iterator[None]:
        """Count the FLOPs of the first pass that reads samples; estimate those of later ones."""
        before = module.num_read
        with StepFlops() if self._pass_flops is None else nullcontext() as flops:
            yield
        num = int(ranks.total(torch.tensor(module.num_read - before)))
        if num and flops is not None:
            counted = ranks.total(torch.tensor(flops.get_total_flops()))
            self._pass_flops = int(counted) / num
            self.uncounted |= flops.uncounted
        if num and self._pass_flops is not None:
            self.train_flops = (self.train_flops or 0.0) + self._pass_flops * num

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Start to measure the steps of a selected batch, and to count a stage's first FLOPs."""
        assert isinstance(pl_module, MultimodalModule)
        stage = getattr(pl_module, "training_stage", pl_module.is_selectable)
        if stage != self._counted and not _is_compiled(pl_module):
            self._counted = stage
            self._flops = StepFlops()
            self._flops.__enter__()
        if batch_idx in self.measured_batches:
            assert self.fixed is not None
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
        """Store what was measured and counted."""
        assert isinstance(pl_module, MultimodalModule)
        if self._effects is not None:
            self._effects.finish()
            score = PRIMARY[pl_module.task.name].column
            for column, value in (*_changes(self._effects, score), *_cosines(self._effects)):
                self._values.setdefault(column, []).append(value)
        if self._flops is not None:
            self._num_flops = int(ranks.total(torch.tensor(self._flops.get_total_flops())))
            self._flops_per_sample = self._num_flops / len(batch["label"])
            self.uncounted |= self._flops.uncounted
        if self._flops_per_sample:
            flops = self._flops_per_sample * len(batch["label"])
            self.train_flops = (self.train_flops or 0.0) + flops
        self._stop(pl_module)

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Stop measuring and counting."""
        assert isinstance(pl_module, MultimodalModule)
        self._stop(pl_module)

    def _stop(self, module: MultimodalModule) -> None:
        module.step_observer = self._effects = None
        if self._flops is not None:
            self._flops.__exit__(None, None, None)
            self._flops = None

    @contextmanager
    def _outside_training(self, module: MultimodalModule) -> Iterator[None]:
        """Add the context's time to the diagnostics', and do not count its FLOPs."""
        if module.device.type == "cuda":
            torch.cuda.synchronize(module.device)
        started = time.perf_counter()
        try:
            with self._flops.paused() if self._flops is not None else nullcontext():
                yield
        finally:
            module.diagnostics_s += time.perf_counter() - started

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Add the epoch's diagnostics to its metrics."""
        assert isinstance(pl_module, MultimodalModule)
        with self._outside_training(pl_module):
            pl_module.epoch_metrics |= self._epoch_values(pl_module)
        self._values = {}

    def _epoch_values(self, module: MultimodalModule) -> dict[str, float]:
        values = {column: fmean(measured) for column, measured in self._values.items()}
        for name, projector in getattr(module, "projectors", {}).items():
            if not bool(projector.isfinite().all()):
                continue  # a non-finite loss, for which training itself raises an error
            state = projector_state(projector).items()
            values |= {columns.projector(statistic, name): value for statistic, value in state}
        values |= self._feature_values(module)
        if self._num_flops is not None:
            values[columns.STEP_FLOPS] = float(self._num_flops)
            self._num_flops = None
        return values

    @torch.no_grad()
    def _feature_values(self, module: MultimodalModule) -> dict[str, float]:
        if not self.probed:
            return {}
        features: dict[str, dict[str, Tensor]] = {}
        labels: dict[str, Tensor] = {}
        present: dict[str, dict[str, Tensor]] = {}
        names = module.modalities
        for split, batches in self.probed.items():
            encoded = []
            for batch in batches:  # one at a time, so that inputs do not stay in memory
                prepared = module.prepare_batch(batch)
                h = module.pooled_features(prepared)
                has = {m: prepared["present"][m].cpu() for m in names}
                encoded.append(({m: h[m].cpu() for m in names}, prepared["label"].cpu(), has))
            features[split] = {m: torch.cat([h[m] for h, _, _ in encoded]) for m in names}
            labels[split] = torch.cat([label for _, label, _ in encoded])
            present[split] = {m: torch.cat([has[m] for _, _, has in encoded]) for m in names}
        tensors = [h for by_modality in features.values() for h in by_modality.values()]
        if not all(bool(h.isfinite().all()) for h in tensors):
            return {}  # a non-finite loss, for which training itself raises an error
        task, num_classes = module.task.name, module.parts.num_classes
        scores = probe_scores(features, labels, present, num_classes, task)["val"]
        column = PRIMARY[task].column
        values = {columns.probe(column, name): value for name, value in scores.items()}
        head_inputs = at_head(module, features["val"])
        for a, b in combinations(names, 2):
            h_a, h_b = (head_inputs[m][present["val"][m]] for m in (a, b))
            if h_a.shape[1:] == h_b.shape[1:] and len(h_a) and len(h_b):
                gap = modality_gap(h_a, h_b)
                values |= {columns.gap(a, b): gap} if math.isfinite(gap) else {}
        return values


def _is_compiled(module: MultimodalModule) -> bool:
    """Return whether a part is compiled: first called under a counter, it would never be."""
    # nn.Module.compile leaves no other mark.
    return any(part._compiled_call_impl is not None for part in module.modules())


def _changes(effects: StepEffects, score: str) -> Iterator[tuple[str, float]]:
    """Yield column and value of what each measured step changed: losses, and the named score."""
    for prefix, changes in (("", effects.changes), ("own_", effects.own_changes)):
        for (step, name), pairs in changes.items():
            for loss_change, score_change in pairs:
                yield columns.forgetting(f"{prefix}loss", step, name), loss_change
                yield columns.forgetting(f"{prefix}{score}", step, name), score_change


def _cosines(effects: StepEffects) -> Iterator[tuple[str, float]]:
    """Yield column and value of the cosines between the measured steps' gradients of the head."""
    for kind, gradients in effects.gradients.items():
        for (a, b), cosine in gradient_cosines(gradients).items():
            yield columns.gradient(kind, a, b), cosine


@torch.no_grad()
def at_head(module: MultimodalModule, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return features as the shared head gets them, all of one width.

    Args:
        module: The module.
        features: Modality -> features (N, D_m).

    Returns:
        Modality -> features (N, D); unchanged if there is no shared head.
    """
    head_input = getattr(module.fusion, "head_input", None)
    if head_input is None:
        return dict(features)
    weight: Tensor = module.fusion.head.weight  # type: ignore[union-attr,assignment]
    return {name: head_input(name, h.to(weight)).to(h) for name, h in features.items()}
