"""Ensemble of unimodal models, the simplest reference of multimodal training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Unpack

import torch
from torch import Tensor

from mla_lightning.errors import ConfigError, check_choice
from mla_lightning.functional import (
    fixed_weights,
    fuse_logits,
    fuse_probabilities,
    mean_weights,
    simplex_grid,
)
from mla_lightning.methods.mechanisms.scores import validation_score
from mla_lightning.methods.reference import Reference
from mla_lightning.methods.unimodal import Unimodal
from mla_lightning.parts import Composition
from mla_lightning.run_folder.columns import MULTI

AVERAGES = ("logits", "probabilities")
WEIGHTINGS = ("mean", "validation")
#: Steps from 0 to 1 of the weights that are compared on validation.
STEPS = 10
NOTE = (
    "The weights of the ensemble were selected by its score on validation, which is therefore too "
    "good."
)
#: Key of a checkpoint: each model's best score and its logits on validation.
_BEST = "ensemble_best"


class Ensemble(Unimodal):
    """The average of models of one modality each, all trained and selected alone.

    Training is that of ``method=unimodal``: each model has the weights of its own best epoch. What
    is averaged are their logits or their probabilities. With ``weighting=validation`` the weights
    are those of a grid (tenths that sum to 1, and equal weights) with the best score on validation;
    of equal scores the weights nearest to equal ones. Their score on validation is then the one
    that they were selected by. Absent modalities are left out of a sample's average.

    Example:
        >>> from functools import partial
        >>> parts = {
        ...     "encoders": {"audio": torch.nn.Linear(3, 4), "visual": torch.nn.Linear(5, 4)},
        ...     "num_classes": 2,
        ...     "optimizer": partial(torch.optim.SGD, lr=0.1),
        ... }
        >>> method = Ensemble(weighting="validation", **parts)
        >>> method.ensemble_weights  # until the first epoch ends
        tensor([0.5000, 0.5000])
        >>> logits = torch.tensor([[[2.0, 0.0]], [[0.0, 4.0]]])
        >>> method.combine(logits, torch.tensor([[True], [True]]))
        tensor([[1., 2.]])
    """

    takes_ranks = True
    read_as_numbers = ("ensemble_weights",)
    reference = Reference(
        "On Uni-Modal Feature Learning in Supervised Multi-Modal Learning (uni-modal ensemble)",
        "ICML",
        2023,
        "https://arxiv.org/abs/2305.01233",
    )
    min_modalities = 2

    def __init__(
        self, *, average: str = "logits", weighting: str = "mean", **parts: Unpack[Composition]
    ) -> None:
        """Build the module.

        Args:
            average: What is averaged: ``logits``, or ``probabilities`` of classes.
            weighting: Weights of the models: ``mean``, or ``validation``: the best on validation.
            **parts: See :class:`~mla_lightning.parts.Parts`; the fusion must have one head per
                modality.

        Raises:
            ConfigError: If a setting is unknown, or the task has no probabilities of classes.
        """
        for key, value, known in (
            ("average", average, AVERAGES),
            ("weighting", weighting, WEIGHTINGS),
        ):
            check_choice(f"method.{key}", value, known)
        super().__init__(**parts)
        if average == "probabilities" and not self.task.has_classes:
            raise ConfigError(
                f"method.average=probabilities is not defined for {self.task.name}, which has no "
                "probabilities of classes. Use method.average=logits."
            )
        self.average, self.weighting = average, weighting
        number = len(self.modalities)
        #: Weights of the models (M,).
        self.ensemble_weights: Tensor
        self.register_buffer("ensemble_weights", torch.full((number,), 1 / number))
        self._best: dict[str, tuple[float, Tensor]] = {}
        self._seen: tuple[dict[str, Tensor], Tensor, Tensor] | None = None

    def combine(self, logits_MBC: Tensor, present_MB: Tensor) -> Tensor:
        """Average the logits, or the probabilities, of the modalities that a sample has."""
        return self._combined(self.ensemble_weights.tolist(), logits_MBC, present_MB)

    def _combined(self, weights: list[float], logits_MBC: Tensor, present_MB: Tensor) -> Tensor:
        weights_MB = fixed_weights(weights, present_MB, logits_MBC.dtype)
        # A sample that only has modalities of weight zero gets their plain average.
        plain = mean_weights(present_MB, logits_MBC.dtype)
        weights_MB = torch.where(weights_MB.sum(dim=0) > 0, weights_MB, plain)
        fuse = fuse_probabilities if self.average == "probabilities" else fuse_logits
        return fuse(weights_MB, logits_MBC)

    def logits(
        self, features: Mapping[str, Tensor], present: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """Compute each model's logits and, of the models as they are now, the average."""
        own = self.fusion.unimodal(features)
        logits_MBC = torch.stack([own[m] for m in self.modalities])
        present_MB = torch.stack([present[m] for m in self.modalities])
        return {MULTI: self.combine(logits_MBC, present_MB), **own}

    # ------------------------------------------------------------------ weights by validation

    def on_validation_epoch_end(self) -> None:
        """Compute the metrics, and keep the logits until the epoch ends."""
        if self.weighting == "validation":
            self._evaluation.gather()
            logits, label, _ = self._evaluation.arrays()
            present = self._evaluation.presence()
            all_MN = torch.ones(len(self.modalities), len(label), dtype=torch.bool)
            present_MN = torch.stack([present[m] for m in self.modalities]) if present else all_MN
            self._seen = logits, label, present_MN
        super().on_validation_epoch_end()

    def on_train_epoch_end(self) -> None:
        """End the epoch; fit the weights if a model is better than before."""
        super().on_train_epoch_end()
        if self.weighting != "validation":
            return
        scores = {m: validation_score(self, m, "Weights of the models") for m in self.modalities}
        assert self._seen is not None
        (logits, label, present_MN), self._seen = self._seen, None
        selection, is_new = self.parts.selection, False
        for name, score in scores.items():
            if name not in self._best or selection.is_better(score, self._best[name][0]):
                self._best[name], is_new = (score, logits[name]), True
        if is_new:
            best_MNC = torch.stack([self._best[m][1] for m in self.modalities])
            self.ensemble_weights.copy_(self._best_weights(best_MNC, label, present_MN))
            self.notes.add(NOTE)

    def _best_weights(self, logits_MNC: Tensor, label: Tensor, present_MN: Tensor) -> Tensor:
        """Return the weights (M,) with the best score, of equals the nearest to equal ones."""
        equal = torch.full((len(logits_MNC),), 1 / len(logits_MNC))
        grid = torch.cat([equal[None], simplex_grid(len(equal), STEPS)])
        grid = grid[(grid - equal).abs().sum(dim=1).argsort(stable=True)]
        scores = [
            self.parts.score(self._combined(w.tolist(), logits_MNC, present_MN), label)
            for w in grid
        ]
        return grid[scores.index(max(scores))]

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Save each model's best score and logits on validation."""
        super().on_save_checkpoint(checkpoint)
        checkpoint[_BEST] = {name: list(entry) for name, entry in self._best.items()}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Load each model's best score and logits on validation."""
        super().on_load_checkpoint(checkpoint)
        self._best = {name: (score, z) for name, (score, z) in checkpoint[_BEST].items()}
        self.notes |= {NOTE} if self._best and self.weighting == "validation" else set()
