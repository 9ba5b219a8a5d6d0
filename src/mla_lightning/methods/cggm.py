"""CGGM: classifier-guided gradient modulation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Unpack

import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity

from mla_lightning import ranks
from mla_lightning.batch import Batch, num_in_batch
from mla_lightning.errors import ConfigError, check_choice
from mla_lightning.functional import cggm_coefficients, direction_loss
from mla_lightning.fusion.base import linear
from mla_lightning.fusion.concat import Concat
from mla_lightning.methods.mechanisms.concat_fusions import with_slices
from mla_lightning.methods.mechanisms.encoder_gradients import own_parameters, scale_gradients
from mla_lightning.methods.reference import Reference
from mla_lightning.module import MultimodalModule
from mla_lightning.parts import Composition

DIRECTIONS = ("none", "weights", "gradients")
DIRECTION_WEIGHT = 0.2


class CGGM(MultimodalModule):
    """Joint training in which the encoder whose classifier improves faster learns more slowly.

    A linear classifier for each modality is trained on its feature, without an effect on the
    encoder. With the change of its accuracy from one batch to the next, the encoder's gradient is
    multiplied by ``rho * (1 - change / sum of all changes)``; before the first batch accuracies
    count as 0, as in the released code. The ratio has no limits where progress and regress cancel
    out, so it is cut to ``bounds``, which are ours; ``bounds=null`` is the released code. That the
    paper has the same ratio rests on notes of others on it. Adam, with which the authors train,
    nearly cancels what is constant or varies slowly in these factors, such as ``rho``.

    A second loss asks the fused head to point where the classifiers point, with the coefficients of
    the batch before. The released code takes the cosine of the weights (``direction=weights``; here
    those of the classifier and the modality's columns of the head, as they are before the step).
    The paper's direction is that of gradients, in a form that is not known to us; ``gradients``
    compares those of the batch with respect to these weights. Both train the fused head alone, and
    neither is used by default. The released classifiers are transformers of two layers. Gradients
    are clipped without those of the classifiers, as in the released code.

    Example:
        >>> from functools import partial
        >>> import torch
        >>> parts = {
        ...     "encoders": {"audio": torch.nn.Linear(3, 4), "visual": torch.nn.Linear(5, 4)},
        ...     "num_classes": 2,
        ...     "optimizer": partial(torch.optim.SGD, lr=0.1),
        ... }
        >>> CGGM(**parts).classifiers["audio"]
        Linear(in_features=4, out_features=2, bias=True)
        >>> CGGM(bounds=[1.0], **parts)
        Traceback (most recent call last):
        ...
        mla_lightning.errors.ConfigError: method.bounds must be two numbers, the lower one first, or
        null, got [1.0]
    """

    follows_task = True
    not_for: Mapping[str, str] = {
        "regression": "its classifiers are compared by accuracy. Use method=mlb or method=ogm",
        "multilabel": "its classifiers are compared by accuracy. Use method=mlb or method=ogm",
    }
    takes_ranks = True
    takes_incomplete = False
    default_fusion = Concat
    fusion: Concat
    reference = Reference(
        "Classifier-guided Gradient Modulation for Enhanced Multimodal Learning",
        "NeurIPS",
        2024,
        "https://arxiv.org/abs/2411.01409",
    )

    def __init__(
        self,
        *,
        rho: float = 1.3,
        bounds: Sequence[float] | None = (0.0, 2.0),
        direction: str = "none",
        direction_weight: float = DIRECTION_WEIGHT,
        classifier_lr_ratio: float = 0.5,
        **parts: Unpack[Composition],
    ) -> None:
        """Build the module.

        Args:
            rho: Factor of all encoder gradients, > 0.
            bounds: Lowest and highest coefficient before it is multiplied by ``rho``; None for no
                bounds.
            direction: What the direction loss compares: ``none``, ``weights`` or ``gradients``.
            direction_weight: Weight of the direction loss, > 0.
            classifier_lr_ratio: Learning rate of the classifiers, as a multiple of the
                optimiser's, > 0.
            **parts: See :class:`~mla_lightning.parts.Parts`; the fusion must be concat.

        Raises:
            ConfigError: If a value is out of range or has no effect, the fusion is not concat,
                encoders share parameters, all are frozen and there is no direction, or
                ``direction=gradients`` would not have the gradients of a whole batch.
        """
        for option, value in (("rho", rho), ("classifier_lr_ratio", classifier_lr_ratio)):
            if value <= 0:
                raise ConfigError(f"method.{option} must be > 0, got {value}")
        if bounds is not None and (len(bounds) != 2 or bounds[0] > bounds[1]):
            raise ConfigError(
                "method.bounds must be two numbers, the lower one first, or null, got "
                f"{list(bounds)}"
            )
        _check_direction(direction, direction_weight)
        super().__init__(**parts)
        with_slices(self)
        if direction == "gradients" and (self.parts.accumulate > 1 or self.parts.num_ranks > 1):
            raise ConfigError(
                "method.direction=gradients compares gradients of whole batches, which chunks and "
                "devices have a part of: set trainer.accumulate=1, trainer.devices=1 and "
                "trainer.num_nodes=1, or use method.direction=weights."
            )
        self.rho, self.bounds = rho, None if bounds is None else tuple(bounds)
        self.direction, self.direction_weight = direction, direction_weight
        self.classifier_lr_ratio = classifier_lr_ratio
        # The direction acts on the head, also where no encoder is trained.
        otherwise = "method=concat" if direction == "none" else None
        self.modulated = own_parameters(self.encoders, otherwise)
        widths, num_classes = self.fusion.feature_dims, self.parts.num_classes
        self.classifiers = nn.ModuleDict({m: linear(d, num_classes) for m, d in widths.items()})
        #: Number of samples that each classifier got right in the last batch (M,), of how many.
        self.num_right: Tensor
        self.num_seen: Tensor
        self.register_buffer("num_right", torch.zeros(len(widths), dtype=torch.long))
        self.register_buffer("num_seen", torch.tensor(1))
        #: Coefficient of each modality in the last batch (M,).
        self.coefficients: Tensor
        self.register_buffer("coefficients", torch.zeros(len(widths)))

    def on_train_epoch_start(self) -> None:
        """Begin a training with no earlier batch, whatever training the weights come from."""
        super().on_train_epoch_start()
        if self.trainer.global_step == 0:
            self.num_right.zero_()
            self.num_seen.fill_(1)
            self.coefficients.zero_()

    def configure_optimizers(self) -> Any:
        """Build one optimiser, with a learning rate of the classifiers' own, and its schedule."""
        groups = self._of_the_model(), self.classifiers.parameters()
        optimizer = self.parts.optimizer([{"params": [*group]} for group in groups])
        optimizer.param_groups[1]["lr"] *= self.classifier_lr_ratio
        if self.parts.scheduler is None:
            return optimizer
        return [optimizer], [self.parts.scheduler(optimizer)]

    def clipped_groups(self) -> list[list[nn.Parameter]]:
        """Clip the model's gradients, without those of the classifiers, as the released code does.

        Returns:
            One group, of the encoders and the fusion.
        """
        return [self._of_the_model()]

    def _of_the_model(self) -> list[nn.Parameter]:
        """Return all parameters but the classifiers'."""
        is_own = {id(parameter) for parameter in self.classifiers.parameters()}
        return [p for p in self.parameters() if id(p) not in is_own]

    def fit_batch(self, batch: Batch) -> dict[str, Tensor]:
        """Take one step on the joint and the classifiers' losses, with modulated gradients."""
        num_right: list[Tensor] = []  # of each chunk

        def losses_of(chunk: Batch) -> dict[str, Tensor]:
            features = self.features(chunk)
            frozen = {name: h.detach() for name, h in features.items()}
            logits = {name: self.classifiers[name](h) for name, h in frozen.items()}
            right = [(z.argmax(dim=1) == chunk["label"]).sum() for z in logits.values()]
            num_right.append(torch.stack(right))
            losses = {"joint": self.parts.loss(self.fusion(features), chunk)}
            own = self.parts.unimodal_losses(logits, chunk)
            losses |= {f"classifier/{name}": loss for name, loss in own.items()}
            if self.direction != "none":
                term = direction_loss(self.coefficients, self._cosines(frozen, chunk))
                losses["direction"] = self.direction_weight * term
            return losses

        def modulate() -> None:
            right, number = ranks.total(torch.stack(num_right).sum(dim=0)), num_in_batch(batch)
            # Whole numbers, since the coefficients jump where the changes add up to exactly 0.
            changes = right * self.num_seen - self.num_right * number
            unit = 1 / (self.num_seen * number)
            self.coefficients.copy_(cggm_coefficients(changes, self.bounds, unit=unit))
            self.num_right.copy_(right)
            self.num_seen.fill_(number)
            scale_gradients(self.modulated.values(), self.rho * self.coefficients)

        return self.step_on(batch, losses_of, edit_grads=modulate)

    def _cosines(self, frozen: Mapping[str, Tensor], chunk: Batch) -> Tensor:
        """Return the cosines between the fused head's columns and each classifier (M,)."""
        head: Tensor = self.fusion.head.weight
        classifiers: list[Any] = [c.weight for c in self.classifiers.values()]
        if self.direction == "gradients":
            with torch.autocast(self.device.type, enabled=False):
                inputs = {name: h.to(head.dtype) for name, h in frozen.items()}
                joint = self.parts.loss(self.fusion(inputs), chunk)
                (head,) = torch.autograd.grad(joint, [head], create_graph=True)
                own = {name: classify(inputs[name]) for name, classify in self.classifiers.items()}
                loss = torch.stack([*self.parts.unimodal_losses(own, chunk).values()]).sum()
                classifiers = [*torch.autograd.grad(loss, classifiers)]
        columns = self.fusion.columns(head).values()
        return torch.stack(
            [
                cosine_similarity(one.flatten(), other.detach().flatten(), dim=0)
                for one, other in zip(columns, classifiers, strict=True)
            ]
        )


def _check_direction(direction: str, weight: float) -> None:
    check_choice("method.direction", direction, DIRECTIONS)
    if weight <= 0:
        raise ConfigError(
            f"method.direction_weight must be > 0, got {weight}; without the direction loss this "
            "is method.direction=none"
        )
    if direction == "none" and weight != DIRECTION_WEIGHT:
        raise ConfigError(
            "method.direction_weight has no effect with method.direction=none. Use "
            "method.direction=weights."
        )
