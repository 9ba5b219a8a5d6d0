"""Logistic regression of each modality and of all together, the reference without a network."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, Unpack

import numpy as np
import torch
from torch import Tensor

from mla_lightning.batch import Batch
from mla_lightning.encoders.plain import Plain
from mla_lightning.fusion.linear_models import LinearModels
from mla_lightning.methods.linear_fits import (
    COSTS,
    MAX_ITERATIONS,
    PENALTIES,
    LinearModel,
    cost_text,
    fit_label_logistics,
    fit_logistic,
    fit_ridge,
)
from mla_lightning.module import MultimodalModule
from mla_lightning.parts import Composition
from mla_lightning.tasks import Regression


class Logistic(MultimodalModule):
    """Logistic regression (scikit-learn) of each modality alone, and of all features together.

    The inputs are vectors, standardised by the training samples that have the modality; see
    :class:`~mla_lightning.encoders.plain.Plain`. An absent modality counts as the mean of train, 0
    after standardising; a modality's own model is fitted to the samples that have it. The penalty
    of each model is selected as epochs are, by its accuracy (``select_by``) on validation, from C =
    0.0001, 0.001, 0.01, 0.1 and 1; of equal ones the strongest penalty. A note of the run has the
    selected values, and says which are at the end of the grid. ``multi`` is the model of all
    features. All training vectors are in memory at once.

    Several labels: a logistic regression of each label, with one penalty for all. Regression: ridge
    regression, with a penalty of 100 to 0.00001 of the features' mean variance.

    There are no optimisation steps: one epoch is run regardless of trainer.max_epochs, and
    optimiser and scheduler have no effect. They are accepted so that all methods of a comparison
    can share one recipe; a schedule that a command sets for this method is refused.

    Example:
        >>> from functools import partial
        >>> from lightning.pytorch import Trainer
        >>> _ = torch.manual_seed(0)
        >>> audio = torch.randn(40, 3)
        >>> label = (audio[:, 0] > 0).long()
        >>> batch = {"audio": audio, "visual": torch.randn(40, 5), "label": label}
        >>> loader = torch.utils.data.DataLoader([batch], batch_size=None)
        >>> method = Logistic(
        ...     encoders={"audio": torch.nn.Linear(3, 4), "visual": torch.nn.Linear(5, 4)},
        ...     num_classes=2,
        ...     optimizer=partial(torch.optim.SGD, lr=0.1),
        ...     train_batches=lambda: loader,
        ... )
        >>> trainer = Trainer(
        ...     max_epochs=1,
        ...     accelerator="cpu",
        ...     logger=False,
        ...     enable_checkpointing=False,
        ...     enable_progress_bar=False,
        ...     enable_model_summary=False,
        ... )
        >>> trainer.fit(method, loader, loader)
        >>> method.epoch_metrics["val/acc/audio"] > 0.9
        True
    """

    fusion: LinearModels
    fits_all_at_once = True
    takes_steps = False
    follows_task = True
    selects_settings = True
    min_modalities = 1
    default_fusion = LinearModels

    def __init__(self, **parts: Unpack[Composition]) -> None:
        """Build the module.

        Args:
            **parts: See :class:`~mla_lightning.parts.Parts`; the fusion must be linear models. The
                encoders and the scheduler are not used.
        """
        inputs = parts.get("inputs", {})
        encoders = {
            name: Plain(is_spectrogram="spectrogram" in getattr(inputs.get(name), "kinds", ()))
            for name in parts["encoders"]
        }
        super().__init__(**parts | {"encoders": encoders, "scheduler": None})

    def fit_batch(self, batch: Batch) -> dict[str, Tensor]:
        """Return no losses: all samples are fitted at once, before validation."""
        return {}

    @torch.no_grad()
    def on_validation_start(self) -> None:
        """Fit all models to the training samples, once."""
        train = [self._rows(batch) for batch in self.training_batches()]
        for name, encoder in self.encoders.items():
            assert isinstance(encoder, Plain)
            encoder.fit(torch.cat(_padded([x[name][has[name]] for x, has, _ in train])))
        fit, select = self._samples(self.training_batches()), self._samples(self._selecting())
        costs = {}
        for name in (*self.modalities, ""):
            model = self._fit(fit.of(name), select.of(name))
            self.fusion.set_model(name, model.weight, model.bias)
            costs[name or "all modalities"] = model.cost
            if not model.has_converged:
                self.notes.add(
                    f"Logistic: the model of {name or 'all modalities'} (C={model.cost:g}) had not "
                    f"converged after {MAX_ITERATIONS} iterations"
                )
        is_ridge = isinstance(self.task, Regression)
        setting = "Ridge regression: penalty" if is_ridge else "Logistic: C"
        text = cost_text(costs, PENALTIES if is_ridge else COSTS)
        self.notes.add(f"{setting} selected on validation: {text}")
        self.trainer.should_stop = True

    def _fit(
        self, train: tuple[np.ndarray, np.ndarray], select: tuple[np.ndarray, np.ndarray]
    ) -> LinearModel:
        """Fit a linear model of the task to vectors and labels."""
        task = self.task
        weights = getattr(task, "class_weights", None)
        weights = None if weights is None else weights.cpu().double().numpy()

        def score_of(logits: Tensor, label: Tensor) -> float:
            return self.parts.score(task.in_target_unit(logits), label)

        if isinstance(task, Regression):
            x, label = train
            target = (label.astype(float) - float(task.mean)) / float(task.std)
            return fit_ridge((x, target), select, score_of)
        if task.has_classes:
            return fit_logistic(train, select, self.parts.num_classes, score_of, weights)
        return fit_label_logistics(train, select, score_of, weights)

    def _rows(self, batch: Batch) -> tuple[dict[str, Tensor], Mapping[str, Tensor], Tensor]:
        x = {}
        for name, encoder in self.encoders.items():
            assert isinstance(encoder, Plain)
            x[name] = encoder.vectors(batch["inputs"][name])
        return x, batch["present"], batch["label"]

    def _selecting(self) -> Iterable[Batch]:
        """Iterate over the samples by which epochs are selected."""
        for batch in self.trainer.val_dataloaders or ():
            yield self.prepare_batch(self._as_batch(batch, ("label",)))

    def _samples(self, batches: Iterable[Batch]) -> Samples:
        rows = [(self.features(batch), batch["present"], batch["label"]) for batch in batches]
        return Samples(
            {m: torch.cat([x[m] for x, _, _ in rows]).double().cpu() for m in self.modalities},
            {m: torch.cat([has[m] for _, has, _ in rows]).cpu() for m in self.modalities},
            torch.cat([label for *_, label in rows]).cpu(),
        )

    def allocate(self, state: Mapping[str, Tensor]) -> None:
        """Resize what the data size to the widths of saved weights.

        Args:
            state: Weights and buffers by name.
        """
        for name, tensor in (*self.named_parameters(), *self.named_buffers()):
            saved = state.get(name)
            if saved is not None and saved.ndim and saved.shape[:-1] == tensor.shape[:-1]:
                tensor.data = torch.zeros(saved.shape).to(tensor)

    def load_state_dict(self, state_dict: Mapping[str, Any], *args: Any, **options: Any) -> Any:
        """Load weights of any widths."""
        self.allocate(state_dict)
        return super().load_state_dict(state_dict, *args, **options)


class Samples(NamedTuple):
    """Standardised vectors of a split.

    Attributes:
        x: Modality -> vectors (N, D_m), zeros where it is absent.
        present: Modality -> (N,) bool.
        label: Classes (N,), targets (N,) of regression, or (N, L) of several labels.

    Example:
        >>> has = torch.tensor([True, False])
        >>> samples = Samples({"audio": torch.ones(2, 3)}, {"audio": has}, torch.tensor([0, 1]))
        >>> [array.shape for array in samples.of("audio")], [a.shape for a in samples.of("")]
        ([(1, 3), (1,)], [(2, 3), (2,)])
    """

    x: Mapping[str, Tensor]
    present: Mapping[str, Tensor]
    label: Tensor

    def of(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Return the vectors and labels of the samples that have a modality, or of all together.

        Args:
            name: The modality; empty for the vectors of all modalities.
        """
        if not name:
            return torch.cat([*self.x.values()], dim=1).numpy(), self.label.numpy()
        has = self.present[name]
        return self.x[name][has].numpy(), self.label[has].numpy()


def _padded(rows: list[Tensor]) -> list[Tensor]:
    """Pad vectors with zeros to one width: counts of tokens end at the largest id of a batch."""
    width = max(x.shape[1] for x in rows)
    return [torch.nn.functional.pad(x, (0, width - x.shape[1])) for x in rows]
