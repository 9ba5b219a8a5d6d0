"""InfoReg: regulation of the modality that leads while information is acquired."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Unpack

import torch
from torch import Tensor

from mla_lightning.batch import Batch
from mla_lightning.errors import ConfigError, near
from mla_lightning.functional import information_growth, regulation_strengths
from mla_lightning.fusion.concat import Concat
from mla_lightning.methods.mechanisms.encoder_gradients import (
    encoders_with_adapters,
    own_parameters,
)
from mla_lightning.methods.mechanisms.epoch_start import EpochStart
from mla_lightning.methods.mechanisms.scores import BatchScores
from mla_lightning.methods.mechanisms.snapshots import Snapshot
from mla_lightning.methods.reference import Reference
from mla_lightning.parts import Composition


class InfoReg(EpochStart):
    """Joint training that pulls a leading encoder back to its weights at the epoch's start.

    The pull acts in the prime learning window: as long as the trace of the encoder's Fisher
    information grows by more than ``threshold``, relative to its sum over the last ``window``
    epochs. The trace of an epoch is the sum over the encoder's weight tensors (those of two or more
    axes, such as of convolutions and linear layers) of the mean square of the gradient, summed over
    batches. For each batch a modality leads whose score exceeds the mean of the others'; its
    encoder's gradient gets ``exp(beta * tanh(lead))`` times the way that its weights have moved in
    this epoch. Scores are those of OGM-GE.

    The window is each modality's own; the released code looks at one modality's trace
    (``trace_of``). Its lead is a sum over the batch, so the tanh is nearly always 1; ``delta=mean``
    divides it by the number of samples. It has a factor per modality in place of ``beta``
    (``scale``) and trains on each modality's own logits, too (``unimodal_weight=1``). The paper's
    ``beta`` and threshold of each data set, and its rule for more than two modalities, are not
    known. A public re-implementation for three modalities also holds back the second best one, by
    its lead over the weakest; that rule is not implemented here.

    The adapter of a shared head is part of its modality's encoder. An encoder without a weight of
    two or more axes shows no information: with a threshold of 0 or more it is regulated in the
    first epoch alone, unless ``trace_of`` names another modality.

    Example:
        >>> from functools import partial
        >>> import torch
        >>> parts = {
        ...     "encoders": {"audio": torch.nn.Linear(3, 4), "visual": torch.nn.Linear(5, 4)},
        ...     "num_classes": 2,
        ...     "optimizer": partial(torch.optim.SGD, lr=0.1),
        ... }
        >>> InfoReg(**parts).traces.shape  # of two modalities and the last 11 epochs
        torch.Size([2, 11])
        >>> InfoReg(scale={"audio": 0.95}, **parts)
        Traceback (most recent call last):
        ...
        mla_lightning.errors.ConfigError: method.scale must have a factor > 0 for each modality:
        audio, visual; got {'audio': 0.95}
    """

    follows_task = True
    takes_ranks = True
    takes_incomplete = False
    default_fusion = Concat
    reference = Reference(
        "Adaptive Unimodal Regulation for Balanced Multimodal Information Acquisition",
        "CVPR",
        2025,
        "https://arxiv.org/abs/2503.18595",
    )

    def __init__(
        self,
        *,
        window: int = 10,
        threshold: float = 0.05,
        beta: float = 1.0,
        scale: Mapping[str, float] | None = None,
        delta: str = "sum",
        trace_of: str | None = None,
        unimodal_weight: float = 0.0,
        **parts: Unpack[Composition],
    ) -> None:
        """Build the module.

        Args:
            window: Number of epochs w over which the growth of information is measured, >= 1.
            threshold: Smallest growth K of the prime learning window, below 1.
            beta: Influence of the lead on the strength of the pull, >= 0.
            scale: Modality -> factor > 0 of the strength, with ``beta=1``; None for 1.
            delta: Whether the lead is a ``sum`` or a ``mean`` over the batch.
            trace_of: The modality whose trace decides for all; None for each one's own.
            unimodal_weight: Weight of the loss on each modality's own logits, >= 0.
            **parts: See :class:`~mla_lightning.parts.Parts`.

        Raises:
            ConfigError: If a value is out of range, two settings exclude each other, encoders share
                parameters or are all frozen, or no encoder has a trained weight of two or more
                axes, or not the one that ``trace_of`` names.
        """
        if window < 1:
            raise ConfigError(f"method.window must be >= 1, got {window}")
        if not threshold < 1:
            raise ConfigError(
                f"method.threshold must be below 1, the largest growth, got {threshold}: nothing "
                "would be regulated. Use method=concat, or method=joint_unimodal."
            )
        for option, value in (("beta", beta), ("unimodal_weight", unimodal_weight)):
            if value < 0:
                raise ConfigError(f"method.{option} must be >= 0, got {value}")
        if delta not in ("sum", "mean"):
            raise ConfigError(f"method.delta must be sum or mean, got {delta!r}")
        super().__init__(**parts)
        if trace_of is not None and trace_of not in self.modalities:
            raise ConfigError(
                f"method.trace_of={trace_of!r} is not a modality."
                f"{near(trace_of, self.modalities)} Modalities: {', '.join(self.modalities)}"
            )
        self._check_scale(scale, beta)
        self.threshold, self.beta, self.scale = threshold, beta, scale
        self.delta, self.trace_of, self.unimodal_weight = delta, trace_of, unimodal_weight
        encoders = encoders_with_adapters(self.encoders, self.fusion)
        unregulated = "method=joint_unimodal" if unimodal_weight else "method=concat"
        trained = {
            name: [p for p in parameters if p.requires_grad]
            for name, parameters in own_parameters(encoders, otherwise=unregulated).items()
        }
        self.measured = {
            name: [p for p in of_one if p.ndim > 1] for name, of_one in trained.items()
        }
        self.regulated = trained
        self._check_measured()
        #: The encoders' weights at the epoch's start.
        self.start = Snapshot(self.regulated)
        #: Each modality's traces of the last epochs, oldest first, and of the current one so far.
        self.traces: Tensor
        self.trace: Tensor
        #: Each modality's growth of information at the epoch's start.
        self.growth: Tensor
        num_modalities = len(self.modalities)
        self.register_buffer("traces", torch.zeros(num_modalities, window + 1))
        self.register_buffer("trace", torch.zeros(num_modalities))
        self.register_buffer("growth", torch.ones(num_modalities))

    def _check_scale(self, scale: Mapping[str, float] | None, beta: float) -> None:
        if scale is None:
            return
        if set(scale) != set(self.modalities) or min(scale.values()) <= 0:
            raise ConfigError(
                "method.scale must have a factor > 0 for each modality: "
                f"{', '.join(self.modalities)}; got {dict(scale)}"
            )
        if beta != 1.0:
            raise ConfigError(f"method.scale takes the place of method.beta={beta}. Use beta=1.")

    def _check_measured(self) -> None:
        """Check that there are weights by whose gradients information is measured."""
        lacking = [name for name, parameters in self.measured.items() if not parameters]
        measured = ", ".join(name for name in self.modalities if name not in lacking)
        why = "no weight of two or more axes, by whose gradients InfoReg measures information"
        if not measured:
            raise ConfigError(
                f"The encoders have {why}: none would be regulated after the first epoch. Use "
                "method=concat, or method=joint_unimodal."
            )
        if self.trace_of in lacking:
            raise ConfigError(
                f"method.trace_of={self.trace_of}: the encoder of that modality has {why}, so none "
                f"would be regulated after the first epoch. Modalities that have one: {measured}"
            )
        if self.trace_of is None and self.threshold >= 0:
            for name in (name for name in lacking if self.regulated[name]):
                self.notes.add(
                    f"The encoder of {name!r} has {why}: it is regulated in the first epoch alone. "
                    f"method.trace_of lets the information of another modality decide: {measured}"
                )

    def prepare_epoch(self) -> None:
        """Remember the weights, and measure how much information the last epochs brought."""
        self.start.take()
        if int(self.prepared_epoch) < 0:  # the first epoch, which is in the window
            self.traces.zero_()
            self.trace.zero_()
            self.growth.fill_(1)
            return
        self.traces.copy_(torch.cat([self.traces[:, 1:], self.trace[:, None]], dim=1))
        self.trace.zero_()
        growth = information_growth(self.traces)
        if self.trace_of is not None:
            growth = growth[self.modalities.index(self.trace_of)]
        self.growth.copy_(growth.expand_as(self.growth))

    def fit_batch(self, batch: Batch) -> dict[str, Tensor]:
        """Take one step on the fused loss, with the leading encoders pulled back."""
        scores = BatchScores(self.task)

        def losses_of(chunk: Batch) -> dict[str, Tensor]:
            features = self.features(chunk)
            own_logits = self.fusion.unimodal(features)
            scores.add(own_logits, chunk)
            losses = {"joint": self.parts.loss(self.fusion(features), chunk)}
            if self.unimodal_weight:
                unimodal = self.parts.unimodal_losses(own_logits, chunk)
                losses |= {name: self.unimodal_weight * loss for name, loss in unimodal.items()}
            return losses

        def regulate() -> None:
            lead = scores.total() if self.delta == "sum" else scores.mean()
            strengths = regulation_strengths(lead, self.beta)
            strengths = torch.where(self.growth > self.threshold, strengths, 0.0)
            for name, strength in zip(self.modalities, strengths.tolist(), strict=True):
                if strength:
                    self._pull_back(name, strength)
            self._measure()

        return self.step_on(batch, losses_of, edit_grads=regulate)

    def _pull_back(self, name: str, strength: float) -> None:
        strength *= 1.0 if self.scale is None else self.scale[name]
        for parameter, move in zip(self.regulated[name], self.start.moves(name), strict=True):
            if parameter.grad is not None:
                parameter.grad.add_(move, alpha=strength)

    def _measure(self) -> None:
        """Add the squares of the batch's gradients to the traces of the epoch."""
        squares = [
            sum((p.grad.square().mean() for p in self.measured[m] if p.grad is not None), 0.0)
            for m in self.modalities
        ]
        added = torch.stack([torch.as_tensor(s).to(self.trace) for s in squares])
        # A step that half precision skips has gradients without a square.
        self.trace += torch.where(added.isfinite(), added, 0.0)
