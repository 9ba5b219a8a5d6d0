"""LFM: learning from the modality gap."""

from __future__ import annotations

from typing import Unpack

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from mla_lightning.batch import Batch
from mla_lightning.errors import ConfigError, check_choice
from mla_lightning.functional import fitted_classification_weight, modality_gap
from mla_lightning.functional.alignment import DIVERGENCES, FITTED_EPOCHS
from mla_lightning.fusion import late
from mla_lightning.methods.mechanisms.epoch_start import EpochStart
from mla_lightning.methods.reference import Reference
from mla_lightning.parts import Composition

WEIGHTS = ("fitted", "learnable", "constant")
SCOPES = ("all", "first")
#: Bounds of the learnable weight, its start, and its rate, which is halved every so many epochs.
LOWEST, HIGHEST, START = 0.05, 0.95, 0.95
RATE, HALVED_EVERY = 1e-4, 20
#: Words of torch's errors where there is no second derivative: of a layer, and of compiled code.
NO_SECOND_DERIVATIVE = "is not implemented", "double backward", "requires create_graph=False"


class LFM(EpochStart):
    r"""Late fusion in which the modalities' predictions are first aligned, then classify.

    The loss is :math:`2 [a_1 CE(z) + a_2 J]` with the mean z of the modalities' logits, the mean J
    over pairs of modalities of the divergence of their predictions, and :math:`a_1 + a_2 = 1`. With
    ``weight=fitted``, :math:`a_1` is a polynomial of the epoch, which rises from 0.2 to about 1 in
    the 200 epochs of the released code; here by default in all epochs of the run, of which epoch e
    of E has the weight of epoch 200 e / E. With ``learnable``, :math:`a_2` starts at 0.95, and
    before each further epoch :math:`a_2 \leftarrow clip(a_2 - \eta\, mean(H g), 0.05, 0.95)` with
    the gradient g of the cross-entropy and the Hessian H of :math:`a_1 CE + a_2 J`, both on
    held-out samples; the rate :math:`\eta = 10^{-4}` is halved every 20 epochs. This weight needs
    ``data.held_out``.

    ``divergence=released``, ``scope=first`` and ``clip_weight=false`` are what the released code
    computes: the divergence with the arguments of its terms exchanged; the mean of :math:`H g` over
    the first tensor of parameters alone; and a polynomial that exceeds 1 in the epochs 177 to 188
    of 200, where :math:`a_2` is negative. It takes 8 random training samples in place of all
    held-out ones. It is for two modalities; the mean over the pairs of more is ours. The paper also
    aligns features by a contrastive loss, which the released code does not have, and neither has
    this class.

    Example:
        >>> from functools import partial
        >>> parts = {
        ...     "encoders": {"audio": torch.nn.Linear(3, 4), "visual": torch.nn.Linear(5, 4)},
        ...     "num_classes": 2,
        ...     "optimizer": partial(torch.optim.SGD, lr=0.1),
        ... }
        >>> LFM(**parts).needs_held_out
        False
        >>> LFM(weight="learnable", **parts)
        Traceback (most recent call last):
        ...
        mla_lightning.errors.ConfigError: LFM needs training samples that are not trained on. Set
        data.held_out=0.1; ...
    """

    follows_task = True
    takes_ranks = True
    takes_incomplete = False
    default_fusion = late.LateFusion
    reference = Reference(
        "Facilitating Multimodal Classification via Dynamically Learning Modality Gap",
        "NeurIPS",
        2024,
        "https://papers.nips.cc/paper_files/paper/2024/hash/"
        "71b17f00017da0d73823ccf7fbce2d4f-Abstract-Conference.html",
    )
    not_for = {
        "regression": "a number is no prediction of classes to be aligned. Use method=late_fusion",
        "multilabel": "predictions are aligned as probabilities of one class. Use "
        "method=late_fusion",
    }

    def __init__(
        self,
        *,
        weight: str = "fitted",
        alignment_weight: float | None = None,
        fitted_epochs: int | None = None,
        clip_weight: bool = True,
        divergence: str = "js",
        scope: str = "all",
        **parts: Unpack[Composition],
    ) -> None:
        """Build the module.

        Args:
            weight: ``fitted``, ``learnable`` or ``constant``.
            alignment_weight: The weight a_2 of ``constant``, from 0 to below 1; None otherwise.
            fitted_epochs: Number of epochs in which the polynomial of ``fitted`` is passed through,
                at least trainer.max_epochs; None for these. 200 as in the released code.
            clip_weight: Whether both weights of ``fitted`` are kept between 0 and 1.
            divergence: ``js`` or ``released``.
            scope: Parameters over which ``learnable`` averages: ``all``, or the ``first`` tensor.
            **parts: See :class:`~mla_lightning.parts.Parts`; the fusion must be late, with the
                mean of the logits.

        Raises:
            ConfigError: If a value is unknown, out of range or without effect, the fusion is
                another one, or encoders are compiled with ``learnable``.
        """
        for key, value, known in (
            ("weight", weight, WEIGHTS),
            ("divergence", divergence, tuple(DIVERGENCES)),
            ("scope", scope, SCOPES),
        ):
            check_choice(f"method.{key}", value, known)
        if weight == "constant" and (alignment_weight is None or not 0 <= alignment_weight < 1):
            raise ConfigError(
                "method.weight=constant needs method.alignment_weight from 0 to below 1, got "
                f"{alignment_weight}"
            )
        if fitted_epochs is not None and fitted_epochs < 1:
            raise ConfigError(f"method.fitted_epochs must be at least 1, got {fitted_epochs}")
        for key, is_set, needed in (
            ("alignment_weight", alignment_weight is not None, "constant"),
            ("fitted_epochs", fitted_epochs is not None, "fitted"),
            ("clip_weight", not clip_weight, "fitted"),
            ("scope", scope != "all", "learnable"),
        ):
            if is_set and weight != needed:
                raise ConfigError(
                    f"method.{key} has no effect with method.weight={weight}: leave it out, or use "
                    f"weight={needed}"
                )
        self.needs_held_out = weight == "learnable"
        super().__init__(**parts)
        fusion = self.fusion
        is_late = type(fusion) is late.LateFusion and not fusion.averages_probabilities
        if not is_late or fusion.weighting != "mean":
            raise ConfigError(
                "LFM averages the logits of one head per modality. Use fusion@method.fusion=late "
                "with weighting=mean."
            )
        if weight == "learnable" and any(map(_is_compiled, self.encoders.modules())):
            raise ConfigError(
                "method.weight=learnable needs second derivatives, which compiled encoders do not "
                "have. Use trainer.compile=false, or weight=fitted."
            )
        self.weight, self.clip_weight, self.fitted_epochs = weight, clip_weight, fitted_epochs
        self.divergence, self.scope = divergence, scope
        self.constant = alignment_weight
        #: By how much the learnable weight a_2 is below its start: the steps are so small that the
        #: weight itself would lose them in single precision.
        self.lowered: Tensor
        self.register_buffer("lowered", torch.tensor(0.0))

    def on_train_start(self) -> None:
        """Check that the fitted weight is defined for all epochs."""
        num_epochs, fitted_epochs = self.trainer.max_epochs or 0, self.fitted_epochs
        if self.weight != "fitted" or 1 <= num_epochs <= (fitted_epochs or num_epochs):
            return
        if fitted_epochs is None:
            raise ConfigError(
                "method.fitted_epochs=null is trainer.max_epochs, which is "
                f"{num_epochs}. Give trainer.max_epochs a number >= 1, or use weight=learnable."
            )
        raise ConfigError(
            f"trainer.max_epochs={num_epochs}: method.weight=fitted ends after "
            f"method.fitted_epochs={fitted_epochs} epochs. Use from 1 to as many, "
            "fitted_epochs=null to pass through it in all epochs, or weight=learnable."
        )

    def prepare_epoch(self) -> None:
        """Update the learnable weight, but not before the first epoch."""
        if int(self.prepared_epoch) < 0:  # whatever training the weights come from
            self.lowered.zero_()
        if self.weight != "learnable":
            return
        try:
            curvature = self._curvature()  # in the first epoch, too: an error comes at the start
        except RuntimeError as error:
            if not any(words in str(error) for words in NO_SECOND_DERIVATIVE):
                raise
            raise ConfigError(
                "method.weight=learnable needs second derivatives, which a layer of an encoder "
                f"does not have ({error}). Use weight=fitted."
            ) from error
        if self.current_epoch:
            rate = RATE * 0.5 ** (self.current_epoch // HALVED_EVERY)
            self.lowered.add_(rate * curvature).clamp_(START - HIGHEST, START - LOWEST)

    def loss_weights(self) -> tuple[float, float]:
        """Return the weights a_1 of the cross-entropy and a_2 of the alignment in this epoch."""
        if self.weight == "fitted":
            num_epochs = self.fitted_epochs or self.trainer.max_epochs or 1
            position = FITTED_EPOCHS * self.current_epoch / num_epochs
            a_1 = fitted_classification_weight(position, clip=self.clip_weight)
            return a_1, 1 - a_1
        a_2 = START - float(self.lowered) if self.constant is None else self.constant
        return 1 - a_2, a_2

    def _losses(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the cross-entropy of the mean logits, and the modality gap."""
        own = torch.stack([*self.fusion.unimodal(self.features(batch)).values()])
        gap = modality_gap(own, self.divergence) if len(batch["label"]) else own.sum()
        return self.parts.loss(own.mean(dim=0), batch), gap

    def fit_batch(self, batch: Batch) -> dict[str, Tensor]:
        """Take one step on the weighted sum of cross-entropy and gap."""
        a_1, a_2 = self.loss_weights()

        def losses_of(chunk: Batch) -> dict[str, Tensor]:
            joint, gap = self._losses(chunk)
            return {"joint": 2 * a_1 * joint, "gap": 2 * a_2 * gap}

        return self.step_on(batch, losses_of)

    def _curvature(self) -> float:
        """Return the mean of the elements of H g on the held-out samples."""
        parameters = [p for p in self.parameters() if p.requires_grad]
        a_1, a_2 = self.loss_weights()
        chosen = parameters if self.scope == "all" else parameters[:1]
        gradient = [torch.zeros_like(p) for p in parameters]
        product = [torch.zeros_like(p) for p in chosen]
        # Fast kernels of attention and of recurrent networks have no second derivative.
        with (
            torch.enable_grad(),
            sdpa_kernel(SDPBackend.MATH),
            torch.backends.cudnn.flags(enabled=False),
        ):
            num, sum_of_weights = 0, 0.0  # the cross-entropy is a weighted mean, the gap is not
            for batch in self.held_out_batches():
                joint, _ = self._losses(batch)
                num, weight = num + len(batch["label"]), self._weight_of(batch)
                sum_of_weights += weight
                self._add(gradient, weight * joint, parameters)
            for batch in self.held_out_batches():
                joint, gap = self._losses(batch)
                share = self._weight_of(batch) / sum_of_weights
                loss = a_1 * share * joint + a_2 * len(batch["label"]) / num * gap
                first = torch.autograd.grad(
                    loss, parameters, create_graph=True, materialize_grads=True
                )
                along = sum(((d * g).sum() for d, g in zip(first, gradient, strict=True)), loss * 0)
                self._add(product, along / sum_of_weights, chosen)
        return sum(float(p.sum()) for p in product) / sum(p.numel() for p in chosen)

    def _weight_of(self, batch: Batch) -> float:
        """Return the sum of the weights of a batch's samples, or their number without any."""
        weights = self.task.sample_weights(batch["label"])
        return len(batch["label"]) if weights is None else float(weights.sum())

    @staticmethod
    def _add(sums: list[Tensor], loss: Tensor, parameters: list[torch.nn.Parameter]) -> None:
        """Add the gradients of a loss to the sums, in place."""
        gradients = torch.autograd.grad(loss, parameters, materialize_grads=True)
        for total, gradient in zip(sums, gradients, strict=True):
            total += gradient


def _is_compiled(module: torch.nn.Module) -> bool:
    """Return whether a module was compiled in place, as by trainer.compile."""
    return getattr(module, "_compiled_call_impl", None) is not None
