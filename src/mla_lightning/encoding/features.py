"""Base of every method: from batches to features, through inputs and encoders."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Unpack

import torch
from torch import Tensor, nn

from mla_lightning import ranks
from mla_lightning.batch import Batch
from mla_lightning.composition import (
    check_composition,
    check_mixing,
    check_strategy,
    check_train_batches,
)
from mla_lightning.encoding.batches import BatchModule
from mla_lightning.errors import ConfigError
from mla_lightning.functional import fuse_logits, mean_weights
from mla_lightning.functional.sequences import mean_of_present_steps
from mla_lightning.fusion.base import Fusion
from mla_lightning.fusion.concat import Concat
from mla_lightning.parts import Composition, Parts, out_width
from mla_lightning.run_folder.tasks import MethodRules


class EncodingModule(BatchModule):
    """Encoders, a fusion, and the conversion of batches to what they take.

    Class attributes describe the training rule of a class; arguments are what an instance is
    composed of.
    """

    fusion: Fusion
    #: The fusion if none is given.
    default_fusion: Callable[..., Fusion] = Concat
    #: Name of the rule by which a single modality's logits are computed, if it is not the fusion's.
    unimodal_rule: str = ""
    #: Smallest number of modalities that the training rule is defined for.
    min_modalities = 2
    #: Whether the training rule is defined for samples with missing modalities.
    takes_incomplete = True
    #: Whether training batches must also hold the inputs before hiding (``truth``).
    needs_hidden_inputs = False
    #: Whether a batch may be trained on in chunks (``trainer.accumulate``) with the same gradient.
    takes_chunks = True
    #: Whether several ranks may train one job (``trainer.devices``), each on its part of a batch:
    #: then the gradients summed over ranks are those of the whole batch. That is so if the losses
    #: are means over samples, as for ``takes_chunks``, and whatever else depends on all samples of
    #: a batch is computed by :mod:`mla_lightning.ranks`, in the same order on every rank. A class
    #: that is derived from one of this package says it for itself.
    takes_ranks = False
    #: Whether there is a loss on the fused logits.
    trains_fused_logits = True
    #: Whether all training samples are fitted at once, with the masks of the first epoch.
    fits_all_at_once = False
    #: Seconds of the training of other runs that this one builds on; they count as its own.
    earlier_train_s = 0.0
    #: Whether :meth:`setup` has prepared the module for training; methods of users may override it.
    is_set_up = False
    #: Whether there are optimisation steps, on which optimiser and schedule have an effect.
    takes_steps = True
    #: Whether the fit itself selects a setting on validation, by ``select_by``.
    selects_settings = False
    #: Whether the training split is also read as a whole, for means or for a classifier.
    needs_train_batches = False
    #: Whether samples of the training split are needed that are not trained on (``data.held_out``);
    #: an instance may set it, if that depends on a setting.
    needs_held_out = False
    #: Fewest held-out samples, as a multiple of the number of outputs of a head (classes).
    min_held_out_per_class = 1
    #: Number of first epochs that do not depend on what is hidden, so that runs may share them.
    shared_epochs = 0
    #: Buffers whose numbers decide what is computed; they are constants of an exported graph.
    read_as_numbers: tuple[str, ...] = ()

    #: Whether the losses (or the fit) are those of ``self.parts.task``: then the training rule is
    #: defined for any task, and class weights have an effect.
    follows_task = False
    #: Task, or ``class_weights`` -> why the training rule is not defined for it, and what to use.
    not_for: Mapping[str, str] = {}

    def __init__(self, **parts: Unpack[Composition]) -> None:
        """Build the module.

        Args:
            **parts: ``encoders``, ``num_classes``, ``optimizer`` and others; see
                :class:`~mla_lightning.parts.Parts`.

        Raises:
            ConfigError: If the parts do not fit the training rule; see
                :func:`~mla_lightning.composition.check_composition`.
        """
        super().__init__()
        self.parts = Parts(**{"fusion": type(self).default_fusion} | parts)
        self.modalities = tuple(self.parts.encoders)
        check_composition(self, self.parts)
        self.task = self.parts.task
        self.encoders = nn.ModuleDict(self.parts.encoders)
        self.fusion = self.parts.build_fusion()
        #: Weights of earlier moments whose logits are averaged with the current ones', if any; see
        #: :class:`~mla_lightning.callbacks.snapshot_ensemble.SnapshotEnsemble`.
        self.snapshots: Any = None
        self._register_scales()
        if getattr(self.fusion, "residual_variance", None) is not None:
            check_train_batches(self, self.parts, "measures residuals on")
        check_mixing(self, self.parts)

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an attribute; some are set many times per batch, such as the current hook's name."""
        if name in ("_current_fx_name", "_edit_grads", "_edit_seed"):
            self.__dict__[name] = value  # torch would first look whether it is a parameter
        else:
            super().__setattr__(name, value)

    def shared_epochs_of(self, num_epochs: int) -> int:
        """Return the number of first epochs that runs may share, of a run of so many epochs."""
        return self.shared_epochs

    def stage_content(self, checkpoint: dict[str, Any]) -> dict[str, Any] | None:
        """Return what runs share of the checkpoint at their end, None if it cannot be shared."""
        return checkpoint

    def combine(self, logits_MBC: Tensor, present_MB: Tensor) -> Tensor:
        """Combine the logits of models that are each selected on its own; their mean by default."""
        return fuse_logits(mean_weights(present_MB), logits_MBC)

    @classmethod
    def check_modalities(cls, modalities: Sequence[str]) -> None:
        """Check that there are enough modalities for the training rule.

        Args:
            modalities: The modalities in use.

        Raises:
            ConfigError: If there are too few.
        """
        MethodRules.of(cls).check_modalities(modalities)

    @classmethod
    def check_task(cls, task: str, *, has_class_weights: bool = False) -> None:
        """Check that the training rule is defined for the task of the data.

        Args:
            task: The task of the data.
            has_class_weights: Whether classes are weighted in the loss.

        Raises:
            ConfigError: If it is not, with the reason and what to use.

        Example:
            >>> from mla_lightning.methods import QMF
            >>> QMF.check_task("multilabel")
            >>> QMF.check_task("regression")
            Traceback (most recent call last):
            ...
            mla_lightning.errors.ConfigError: QMF is not for regression: one number has no energy.
            Use method=late_fusion or method=mla.
        """
        MethodRules.of(cls).check_task(task, has_class_weights=has_class_weights)

    @property
    def feature_dtype(self) -> torch.dtype:
        """Precision of the weights, which features have outside autocast."""
        return next((p.dtype for p in self.parameters() if p.is_floating_point()), torch.float32)

    def setup(self, stage: str) -> None:
        """Prepare for the precision and the number of ranks, before weights are loaded."""
        if stage != "fit":
            return
        check_strategy(self.trainer)
        if self.trainer.precision == "64-true":
            self.double()  # Lightning would load weights into single precision, and convert that
        if (count := ranks.world_size()) != self.parts.num_ranks:
            raise ConfigError(
                f"{count} processes train this module together, and it was built for "
                f"{self.parts.num_ranks}: its gradients would not be those of a whole batch. Use "
                "one device, or train a job with trainer.devices."
            )
        ranks.copy_from_first(self)
        if count > 1 and self.parts.sync_batchnorm:
            ranks.synchronise_batch_norms(self)
        self.is_set_up = True

    def over_snapshots(self, compute: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
        """Compute something with the current weights, or its mean over all that are averaged.

        Args:
            compute: Uses the module; returns name -> tensor.

        Returns:
            Name -> the tensor, or the mean over the snapshots and the current weights.
        """
        return compute() if self.snapshots is None else self.snapshots.mean_of(self, compute)

    # ------------------------------------------------------------------ features

    def features(self, batch: Batch) -> dict[str, Tensor]:
        """Encode every modality.

        Args:
            batch: A batch or a chunk of one.

        Returns:
            Modality -> feature (B, D_m), zeros where the modality is absent; (B, T, D_m) for an
            encoder that returns sequences.
        """
        return {name: self.encode(name, batch) for name in self.modalities}

    def pooled_features(self, batch: Batch) -> dict[str, Tensor]:
        """Encode every modality, with sequences averaged over their present steps.

        Args:
            batch: A batch or a chunk of one.

        Returns:
            Modality -> feature (B, D_m).
        """
        return {
            name: h if h.ndim == 2 else mean_of_present_steps(h)
            for name, h in self.features(batch).items()
        }

    def encode(self, name: str, batch: Batch) -> Tensor:
        """Encode one modality of the samples that have it.

        Args:
            name: The modality.
            batch: A batch or a chunk of one.

        Returns:
            Features (B, D_m), zeros where the modality is absent.
        """
        return self.encode_by(self.encoders[name], name, batch)

    def encode_by(self, encoder: nn.Module, name: str, batch: Batch) -> Tensor:
        """Encode one modality by another encoder than its own, such as a teacher's.

        Args:
            encoder: The encoder.
            name: The modality.
            batch: A batch or a chunk of one.

        Returns:
            Features (B, D_m), zeros where the modality is absent.
        """
        x = batch["inputs"][name]
        if self.parts.is_complete:
            return encoder(x)
        has = batch["present"][name]
        if len(has) and bool(has.all()):
            return encoder(x)
        if not has.any():
            in_batch = batch.get("present_in_batch", batch["present"])[name]
            if not in_batch.any() or not ranks.is_synchronised(encoder):
                return x.new_zeros((len(x), out_width(name, encoder)), dtype=self.feature_dtype)
        h = self.encode_rows(name, x[has], encoder)
        return h.new_zeros((len(x), *h.shape[1:])).index_put((has.nonzero()[:, 0],), h)

    def encode_rows(self, name: str, x: Tensor, encoder: nn.Module | None = None) -> Tensor:
        """Encode inputs of one modality, of which a rank may have none.

        Its encoder then takes part in batch statistics that are those of all ranks.

        Args:
            name: The modality.
            x: Inputs (B, ...).
            encoder: The encoder; the modality's own by default.

        Returns:
            Features (B, D_m).
        """
        encoder = self.encoders[name] if encoder is None else encoder
        if len(x):
            return encoder(x)
        if not ranks.is_synchronised(encoder):
            return x.new_zeros((0, out_width(name, encoder)), dtype=self.feature_dtype)
        with ranks.without_samples():
            return encoder(x.new_zeros((1, *x.shape[1:])))[:0]
