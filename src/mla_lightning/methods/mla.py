"""MLA: alternate the modalities and keep the shared head from forgetting."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from mla_lightning.errors import ConfigError, near
from mla_lightning.functional import (
    centred_gradient,
    class_moment,
    mean_moment,
    moment_projector,
    project_gradient,
    second_moment,
    update_projector_,
    update_projector_frobenius_,
    update_projector_released_,
    update_projector_unit_,
    without_conflict,
)
from mla_lightning.methods.reference import Reference
from mla_lightning.module import Batch, MultimodalModule, Parts

if TYPE_CHECKING:
    from mla_lightning.fusion.shared_head import SharedHead

#: How the projector learns of a batch: (projector, mean feature, alpha), in place.
UPDATES: dict[str, Callable[[Tensor, Tensor, float], Tensor]] = {
    "owm": update_projector_,
    "others": update_projector_,
    "owm_fro": update_projector_frobenius_,
    "owm_unit": update_projector_unit_,
    "released_formula": update_projector_released_,
}
#: What is remembered of the other modalities' features, with forgetting.
MOMENTS: dict[str, Callable[[Tensor, Tensor, int], Tensor]] = {
    "means": mean_moment,
    "moments": second_moment,
    "class_means": class_moment,
}
#: Rules without a projector.
RULES = ("conflict", "centred")
#: How much of the memory is kept at each of a modality's steps.
KEPT = 0.95
#: The ridge term: the released code starts its schedule there.
ALPHA = 0.1


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
    reference = Reference(
        "Multimodal Representation Learning by Alternating Unimodal Adaptation",
        "CVPR",
        2024,
        "https://arxiv.org/abs/2311.10707",
    )

    def __init__(
        self,
        parts: Parts,
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
    ) -> None:
        """Build the module.

        Args:
            parts: What the method is composed of; the fusion must have one shared head.
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
                of a batch share.
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

        Raises:
            ConfigError: If a value is out of range or a setting would have no effect.
        """
        known = (*UPDATES, *MOMENTS, *RULES)
        if projection not in known:
            raise ConfigError(
                f"method.projection={projection!r} is unknown.{near(projection, known)} "
                f"Known: {', '.join(known)}; use method.hgm=false for no projection"
            )
        given = {
            "projection": projection != "others",
            "alpha": alpha != ALPHA,
            "source": source != "previous",
            "project_bias": project_bias,
            "project_update": project_update,
            "reset_every": reset_every is not None,
            "forgetting": forgetting is not None,
        }
        idle = [f"method.{name}" for name, is_given in given.items() if is_given and not hgm]
        if df and static_weighting != "mean":
            idle.append("method.static_weighting")
        if not df and dynamic_weighting != "entropy":
            idle.append("method.dynamic_weighting")
        if idle:
            raise ConfigError(
                f"{', '.join(idle)} would have no effect with "
                f"method.hgm={str(hgm).lower()} and method.df={str(df).lower()}"
            )
        if forgetting is not None and projection not in MOMENTS:
            raise ConfigError(
                f"method.forgetting has no effect with method.projection={projection}; it is for "
                f"{', '.join(MOMENTS)}"
            )
        if forgetting is not None and not 0 <= forgetting < 1:
            raise ConfigError(f"method.forgetting must be in [0, 1), got {forgetting}")
        if projection in RULES and any(given[key] for key in given if key != "projection"):
            raise ConfigError(
                f"method.projection={projection} has no projector: method.alpha, source, "
                "project_bias, project_update and reset_every have no effect"
            )
        if alpha <= 0:
            raise ConfigError(f"method.alpha must be > 0, got {alpha}")
        if source not in ("previous", "current"):
            raise ConfigError(f"method.source must be 'previous' or 'current', got {source!r}")
        if source == "current" and (projection == "others" or projection not in UPDATES):
            raise ConfigError(
                f"method.source=current has no effect with method.projection={projection}, which "
                "never remembers the modality's own features; add method.projection=owm"
            )
        if reset_every is not None and reset_every < 1:
            raise ConfigError(f"method.reset_every must be >= 1 or null, got {reset_every}")
        if "weighting" in getattr(parts.fusion, "keywords", {}):
            raise ConfigError(
                "method.fusion.weighting has no effect on MLA; set method.dynamic_weighting or, "
                "with method.df=false, method.static_weighting"
            )
        weighting = dynamic_weighting if df else static_weighting
        super().__init__(replace(parts, fusion=partial(parts.fusion, weighting=weighting)))
        if not hasattr(self.fusion, "head_input"):
            raise ConfigError("MLA trains one shared head; use fusion@method.fusion=shared_head")
        self.order = tuple(order or self.modalities)
        if sorted(self.order) != sorted(self.modalities):
            raise ConfigError(f"method.order={list(self.order)} must name {list(self.modalities)}")
        self.hgm, self.df = hgm, df
        self.projection, self.alpha, self.source = projection, alpha, source
        self.project_bias, self.project_update = project_bias, project_update
        self.reset_every = reset_every
        self.kept = KEPT if forgetting is None else forgetting
        self.projectors: Tensor
        self.memory: Tensor
        self.last_gradients: Tensor
        num, head = len(self.modalities), self.fusion.head
        width = head.in_features + project_bias
        if hgm and projection not in RULES:
            rows = 1 if projection in UPDATES and projection != "others" else num
            self.register_buffer("projectors", torch.eye(width).repeat(rows, 1, 1))
        if hgm and projection in MOMENTS:
            self.register_buffer("memory", torch.zeros(num, width, width))
        if hgm and projection == "conflict":
            self.register_buffer("last_gradients", torch.zeros(num, *head.weight.shape))

    def fit_batch(self, batch: Batch) -> dict[str, Tensor]:
        """Take one step per modality."""
        if self.hgm and self.reset_every and self.trainer.global_step % self.reset_every == 0:
            self.projectors.copy_(torch.eye(self.projectors.shape[-1], device=self.device))
            if self.projection in MOMENTS:
                self.memory.zero_()
        losses: dict[str, Tensor] = {}
        for name in self.order:
            own = self.parts.having(name, batch)
            if own is not None:  # no step and no update of the projector without a sample
                losses |= self._fit_modality(name, own)
        return losses

    def _fit_modality(self, name: str, batch: Batch) -> dict[str, Tensor]:
        head = self.fusion.head
        feature_sum = torch.zeros(head.in_features, device=self.device)
        seen: list[Tensor] = []

        def losses_of(chunk: Batch) -> dict[str, Tensor]:
            feature = self.fusion.head_input(name, self.encoders[name](chunk["inputs"][name]))
            feature_sum.add_(feature.detach().float().sum(dim=0))
            if self.projection in MOMENTS:
                seen.append(feature.detach().float())
            return {name: cross_entropy(head(feature), chunk["label"])}

        if not self.hgm:
            return self.step_on(batch, losses_of)

        def update() -> None:
            with self.full_precision():
                if self.projection in MOMENTS:
                    self._remember(name, torch.cat(seen), batch["label"])
                elif self.projection in UPDATES:
                    self._update_projectors(name, feature_sum / len(batch["label"]))

        def edit() -> None:
            if self.projection in RULES:
                self._edit_by_rule(name, feature_sum / len(batch["label"]))
                return
            if self.source == "current":
                update()
            if not self.project_update:
                assert head.weight.grad is not None
                assert head.bias.grad is not None
                self._project(name, head.weight.grad, head.bias.grad)

        before = [p.detach().clone() for p in head.parameters()] if self.project_update else []
        losses = self.step_on(batch, losses_of, edit_grads=edit)
        if self.project_update:
            with self.full_precision():
                self._project_step(name, before)
        if self.source == "previous":
            update()
        return losses

    def _projector_for(self, name: str) -> Tensor:
        return self.projectors[self.modalities.index(name) if len(self.projectors) > 1 else 0]

    def _project(self, name: str, weight_CD: Tensor, bias_C: Tensor) -> None:
        """Project a gradient (or an update) of the shared head in place."""
        projector = self._projector_for(name)
        if not self.project_bias:
            weight_CD.copy_(self.modified(weight_CD, projector))
            return
        whole = self.modified(torch.cat([weight_CD, bias_C[:, None]], dim=1), projector)
        weight_CD.copy_(whole[:, :-1])
        bias_C.copy_(whole[:, -1])

    def modified(self, gradient: Tensor, projector: Tensor) -> Tensor:
        """Apply the projector to the head's gradient.

        Args:
            gradient: Gradient (C, D).
            projector: Projector (D, D).

        Returns:
            The gradient (C, D) that the optimiser sees.
        """
        return project_gradient(gradient, projector)

    def _project_step(self, name: str, before: list[Tensor]) -> None:
        head = self.fusion.head
        weight, bias = head.weight - before[0], head.bias - before[1]
        self._project(name, weight, bias)
        head.weight.copy_(before[0] + weight)
        head.bias.copy_(before[1] + bias)

    def _update_projectors(self, name: str, mean_D: Tensor) -> None:
        if self.project_bias:
            mean_D = torch.cat([mean_D, mean_D.new_ones(1)])
        update = UPDATES[self.projection]
        if self.projection != "others":
            update(self.projectors[0], mean_D, self.alpha_now())
            return
        for row, other in enumerate(self.modalities):
            if other != name:
                update(self.projectors[row], mean_D, self.alpha_now())

    def _remember(self, name: str, feature_BD: Tensor, label_B: Tensor) -> None:
        """Blend the batch into the modality's memory; the others' projectors follow."""
        if self.project_bias:
            feature_BD = torch.cat([feature_BD, feature_BD.new_ones(len(feature_BD), 1)], dim=1)
        moment_DD = MOMENTS[self.projection](feature_BD, label_B, self.parts.num_classes)
        own = self.memory[self.modalities.index(name)]
        kept = self.kept if bool(own.any()) else 0.0  # the first batch counts whole
        own.mul_(kept).add_(moment_DD, alpha=1 - kept)
        everything = self.memory.sum(dim=0)
        for row, other in enumerate(self.modalities):
            if other != name:
                moment_of_others = everything - self.memory[row]
                self.projectors[row].copy_(moment_projector(moment_of_others, self.alpha_now()))

    def _edit_by_rule(self, name: str, mean_D: Tensor) -> None:
        weight, bias = self.fusion.head.weight.grad, self.fusion.head.bias.grad
        assert weight is not None
        assert bias is not None
        if self.projection == "centred":
            weight.copy_(centred_gradient(weight, bias, mean_D.to(weight.dtype)))
            return
        row = self.modalities.index(name)
        others = [g for place, g in enumerate(self.last_gradients) if place != row]
        self.last_gradients[row].copy_(weight)
        weight.copy_(without_conflict(weight, others))

    def alpha_now(self) -> float:
        """Tell the ridge term of this batch: constant in the paper."""
        return self.alpha
