"""MLA: alternate the modalities and keep the shared head from forgetting."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Unpack

from torch import Tensor
from torch.nn import Parameter
from torch.nn.functional import cross_entropy

from mla_lightning.batch import Batch
from mla_lightning.errors import ConfigError
from mla_lightning.fusion.shared_head import SharedHead
from mla_lightning.methods.head.build import build_modification
from mla_lightning.methods.head.rules import HeadStep
from mla_lightning.methods.head.settings import ALPHA, Settings
from mla_lightning.methods.reference import Reference
from mla_lightning.module import MultimodalModule
from mla_lightning.parts import Composition

if TYPE_CHECKING:
    from mla_lightning.fusion.shared_head import SharedHead


class MLA(MultimodalModule):
    """One modality per step through one shared head, whose gradient is projected.

    For each modality in turn: encode, cross-entropy through the shared head, step. The head's
    gradient is multiplied by a projector that shrinks the directions of the mean features which
    earlier steps trained on (head gradient modification, HGM). At test time each sample's logits
    are weighted by their entropy (dynamic fusion, DF).

    An encoder runs forward just before its own step, so one graph is alive at a time; encoders
    share nothing, so this equals running all of them first.
    """

    fusion: SharedHead
    default_fusion = SharedHead
    reference = Reference(
        "Multimodal Representation Learning by Alternating Unimodal Adaptation",
        "CVPR",
        2024,
        "https://arxiv.org/abs/2311.10707",
    )

    def __init__(
        self,
        *,
        hgm: bool = True,
        df: bool = True,
        projection: str = "others",
        alpha: float = ALPHA,
        source: str = "previous",
        project_bias: bool = False,
        project_update: bool = False,
        reset_every: int | None = None,
        forgetting: float | None = None,
        order: Sequence[str] | None = None,
        dynamic_weighting: str = "entropy",
        static_weighting: str | Sequence[float] = "mean",
        **parts: Unpack[Composition],
    ) -> None:
        """Build the module.

        Args:
            hgm: Project the shared head's gradient. Off is the paper's ablation.
            df: Weight logits by ``dynamic_weighting`` at test time, else by ``static_weighting``.
            projection: How the projector is built. ``owm``: the paper's recursion, over every
                earlier step. ``others``: the same recursion, one projector per modality, of the
                other modalities' features only; measured best on validation, which is why it is
                the default. ``owm_fro``: ``owm`` divided by its Frobenius norm at each update.
                ``owm_unit``: times sqrt(D) in addition, so that the head's step size is kept.
                ``released_formula``: the element-wise division of the released code.
                Not of the paper: ``means``, ``moments``, ``class_means`` project with a memory of
                the other modalities' mean features, of all directions that their features use, or
                of their class means; it forgets, so the head never freezes. ``conflict`` takes
                away what points against the others' last gradients, ``centred`` what all samples
                of a batch share. ``own_momentum`` changes no gradient but what the optimiser adds
                to it: the head has a momentum buffer per modality, so no step repeats another's.
            alpha: Ridge term of the recursion, > 0. Smaller protects past features more.
            source: Project with features of the ``previous`` steps, or with the ``current`` ones
                included, as the released code would.
            project_bias: Protect the bias too, by a constant 1 appended to the feature.
            project_update: Project the optimiser's update instead of the gradient, so that momentum
                and weight decay are projected as well.
            reset_every: Forget the projector every so many batches, None for never.
            forgetting: For the three memories: what is kept of one at each step, in [0, 1); None
                for 0.95.
            order: The modalities in the order of their steps; the data's order by default.
            dynamic_weighting: ``entropy``, or ``batch_entropy`` as in the released code.
            static_weighting: ``mean``, or one weight per modality in the data's order.
            **parts: As :class:`~mla_lightning.parts.Composition` names them; the fusion
                must have one shared head.

        Raises:
            ConfigError: If a value is out of range or a setting would have no effect.
        """
        settings = Settings(
            projection, alpha, source, project_bias, project_update, reset_every, forgetting
        )
        idle = [] if hgm else [f"method.{name}" for name in settings.changed_names()]
        if df and static_weighting != "mean":
            idle.append("method.static_weighting")
        if not df and dynamic_weighting != "entropy":
            idle.append("method.dynamic_weighting")
        if idle:
            raise ConfigError(
                f"{', '.join(idle)} would have no effect with "
                f"method.hgm={str(hgm).lower()} and method.df={str(df).lower()}"
            )
        settings.check()
        fusion = parts.get("fusion") or self.default_fusion
        if "weighting" in getattr(fusion, "keywords", {}):
            raise ConfigError(
                "method.fusion.weighting has no effect on MLA; set method.dynamic_weighting or, "
                "with method.df=false, method.static_weighting"
            )
        weighting = dynamic_weighting if df else static_weighting
        super().__init__(**parts | {"fusion": partial(fusion, weighting=weighting)})
        if not hasattr(self.fusion, "head_input"):
            raise ConfigError("MLA trains one shared head; use fusion@method.fusion=shared_head")
        self.order = tuple(order or self.modalities)
        if sorted(self.order) != sorted(self.modalities):
            raise ConfigError(f"method.order={list(self.order)} must name {list(self.modalities)}")
        self.reset_every = reset_every
        self.modification = (
            build_modification(settings, self.fusion.head, self.parts) if hgm else None
        )

    @property
    def projectors(self) -> dict[str, Tensor]:
        """The projectors (D, D) by modality, or the one that is ``shared``; empty without any."""
        found = getattr(self.modification, "projectors", ())
        names = self.modalities if len(found) > 1 else ("shared",)
        return dict(zip(names, found, strict=False))

    def trained_parameters(self) -> list[Parameter]:
        """Name what the optimiser steps on: a modification may add to it."""
        more = self.modification.extra_parameters(self.fusion.head) if self.modification else ()
        return [*self.parameters(), *more]

    def fit_batch(self, batch: Batch) -> dict[str, Tensor]:
        """Take one step per modality."""
        step = self.trainer.global_step
        if self.modification and self.reset_every and step % self.reset_every == 0:
            self.modification.reset()
        losses: dict[str, Tensor] = {}
        for name in self.order:
            own = self.parts.samples_with(name, batch)
            if own is not None:  # no step and nothing to remember without a sample
                losses |= self._fit_modality(name, own)
        return losses

    def _fit_modality(self, name: str, batch: Batch) -> dict[str, Tensor]:
        head, step = self.fusion.head, HeadStep(name, batch["label"])

        def losses_of(chunk: Batch) -> dict[str, Tensor]:
            feature = self.fusion.head_input(name, self.encoders[name](chunk["inputs"][name]))
            step.add_features(feature)
            return {name: cross_entropy(head(feature), chunk["label"])}

        if self.modification is None:
            return self.step_on(batch, losses_of)
        edit = partial(self.modification.edit_gradient, head, step)
        losses = self.step_on(batch, losses_of, edit_grads=edit)
        with self.full_precision():
            self.modification.after_step(head, step)
        return losses
