"""MLA: multimodal learning with alternating unimodal adaptation."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from functools import partial
from typing import Unpack

from torch import Tensor
from torch.nn import Parameter

from mla_lightning.batch import Batch
from mla_lightning.errors import ConfigError
from mla_lightning.fusion.shared_head import SharedHead
from mla_lightning.methods.head.build import build_modification
from mla_lightning.methods.head.rules import HeadStep
from mla_lightning.methods.head.settings import ALPHA, Settings
from mla_lightning.methods.reference import Reference
from mla_lightning.module import MultimodalModule
from mla_lightning.parts import Composition


class MLA(MultimodalModule):
    """One modality per step through one shared head, whose gradient is projected.

    For each modality in turn: encode, loss (in the paper cross-entropy) through the shared head,
    step. The head's gradient is multiplied by a projector that shrinks the directions of the mean
    features that earlier steps were trained on (head gradient modification, HGM). At test time each
    sample's logits are weighted by their entropy (dynamic fusion, DF).

    An encoder runs just before its own step, so only one graph is in memory at a time. Encoders
    share no parameters, so this equals running all of them first.

    Example:
        >>> from functools import partial
        >>> import torch
        >>> from mla_lightning.batch import as_batch
        >>> parts = {
        ...     "encoders": {"audio": torch.nn.Linear(3, 4), "visual": torch.nn.Linear(5, 4)},
        ...     "num_classes": 2,
        ...     "optimizer": partial(torch.optim.SGD, lr=0.1),
        ... }
        >>> method = MLA(**parts)
        >>> inputs = {"audio": torch.randn(6, 3), "visual": torch.randn(6, 5)}
        >>> logits = method.evaluate_batch(as_batch(inputs, method.modalities, needs=()))
        >>> {name: z.shape for name, z in logits.items()}
        {'multi': torch.Size([6, 2]), 'audio': torch.Size([6, 2]), 'visual': torch.Size([6, 2])}

        The default has one projector per modality, the paper's projection one for all:

        >>> {name: projector.shape for name, projector in method.projectors.items()}
        {'audio': torch.Size([4, 4]), 'visual': torch.Size([4, 4])}
        >>> list(MLA(projection="owm", **parts).projectors)
        ['shared']

        Settings without effect are errors:

        >>> MLA(hgm=False, alpha=0.2, **parts)
        Traceback (most recent call last):
        ...
        mla_lightning.errors.ConfigError: method.alpha would have no effect with method.hgm=false
        and method.df=true
    """

    fusion: SharedHead
    trains_fused_logits = False
    follows_task = True
    takes_ranks = True
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
            hgm: Whether the shared head's gradient is modified. False is the paper's ablation.
            df: Whether logits are weighted by ``dynamic_weighting`` at test time, not by
                ``static_weighting``.
            projection: How the head's gradient is modified. ``owm``: the paper's recursion, over
                every earlier step. ``others``: the same recursion, with one projector per modality,
                of the other modalities' features only, which the recursion is meant to protect; the
                default. ``owm_fro``: ``owm`` divided by its Frobenius norm at each update.
                ``owm_unit``: the same times sqrt(D), which keeps the head's step size.
                ``released_formula``: the element-wise division of the released code; with
                ``source=current``, also its order, in which the very first step of a run is left
                alone. Not in the paper: ``means``, ``moments``, ``class_means`` project by a moving
                average of a moment of the other modalities' features: of their mean, of all
                directions, or of their class means; it decays, so the head never freezes.
                ``conflict`` removes the component that opposes the others' last gradients,
                ``centred`` the component that all samples of a batch share. ``own_momentum`` leaves
                the gradient unchanged and gives the head a momentum buffer per modality, so that a
                step on one modality does not repeat another's gradients.
            alpha: Ridge term of the recursion, > 0. A smaller one protects past features more.
            source: Whether the projector has the features of the ``previous`` steps, or also those
                of the ``current`` one, as in the released code.
            project_bias: Whether the bias is protected, too, by a constant 1 appended to the
                feature.
            project_update: Whether the optimiser's update is projected instead of the gradient, so
                that momentum and weight decay are projected, too.
            reset_every: Number of batches after which the projector is reset, None for never.
            forgetting: For the three memories: fraction of the memory kept at each step, in [0, 1);
                None for 0.95.
            order: The modalities in the order of their steps; the data's order by default.
            dynamic_weighting: ``entropy``, or ``batch_entropy`` as in the released code.
            static_weighting: ``mean``, or one weight per modality in the data's order.
            **parts: See :class:`~mla_lightning.parts.Parts`; the fusion must have one shared head.

        Raises:
            ConfigError: If a value is out of range or a setting would have no effect.
        """
        settings = Settings(
            projection, alpha, source, project_bias, project_update, reset_every, forgetting
        )
        without_effect = [] if hgm else [f"method.{name}" for name in settings.changed_names()]
        if df and static_weighting != "mean":
            without_effect.append("method.static_weighting")
        if not df and dynamic_weighting != "entropy":
            without_effect.append("method.dynamic_weighting")
        if without_effect:
            raise ConfigError(
                f"{', '.join(without_effect)} would have no effect with "
                f"method.hgm={str(hgm).lower()} and method.df={str(df).lower()}"
            )
        settings.check()
        fusion = parts.get("fusion") or self.default_fusion
        if "weighting" in getattr(fusion, "keywords", {}):
            raise ConfigError(
                "method.fusion.weighting has no effect on MLA; set method.dynamic_weighting or, "
                "with method.df=false, method.static_weighting"
            )
        needed = "MLA trains one shared head; use fusion@method.fusion=shared_head"
        options = inspect.signature(fusion).parameters
        takes_any = any(option.kind is option.VAR_KEYWORD for option in options.values())
        if "weighting" not in options and not takes_any:
            raise ConfigError(needed)
        weighting = dynamic_weighting if df else static_weighting
        super().__init__(**parts | {"fusion": partial(fusion, weighting=weighting)})
        if not hasattr(self.fusion, "head_input"):
            raise ConfigError(needed)
        self.order = tuple(order or self.modalities)
        if sorted(self.order) != sorted(self.modalities):
            raise ConfigError(f"method.order={list(self.order)} must name {list(self.modalities)}")
        self.reset_every = reset_every
        head = self.fusion.head
        self.modification = build_modification(settings, head, self.parts) if hgm else None

    @property
    def projectors(self) -> dict[str, Tensor]:
        """Modality -> its projector (D, D), or ``shared`` -> the one of all; may be empty."""
        projectors = getattr(self.modification, "projectors", ())
        names = self.modalities if len(projectors) > 1 else ("shared",)
        return dict(zip(names, projectors, strict=False))

    def trained_parameters(self) -> list[Parameter]:
        """Return the parameters of the optimiser, including those of a modification."""
        extra = self.modification.extra_parameters(self.fusion.head) if self.modification else ()
        return [*self.parameters(), *extra]

    def fit_batch(self, batch: Batch) -> dict[str, Tensor]:
        """Take one step per modality, in order."""
        batches = self.trainer.global_step  # of the whole run, so that it survives a resume
        is_start = batches % self.reset_every == 0 if self.reset_every else batches == 0
        if self.modification and self.reset_every and is_start:
            self.modification.reset()
        losses: dict[str, Tensor] = {}
        for name in self.order:
            samples = self.parts.samples_with(name, batch)
            if samples is not None:
                is_first = is_start and not losses
                losses |= self._fit_modality(name, samples, is_first=is_first)
        return losses

    def _fit_modality(self, name: str, batch: Batch, *, is_first: bool) -> dict[str, Tensor]:
        label = batch.get("label_in_batch", batch["label"])
        head, step = self.fusion.head, HeadStep(name, label, is_first)

        def losses_of(chunk: Batch) -> dict[str, Tensor]:
            feature = self.encode_rows(name, chunk["inputs"][name])
            feature = self.fusion.head_input(name, feature)
            step.add_features(feature)
            return {name: self.parts.loss(head(feature), chunk)}

        return self.step_through_head(step, batch, losses_of)

    def step_through_head(
        self, step: HeadStep, batch: Batch, losses_of: Callable[[Batch], dict[str, Tensor]]
    ) -> dict[str, Tensor]:
        """Take one optimisation step whose gradient of the head is modified.

        Args:
            step: The step, to which ``losses_of`` adds the features that it computes.
            batch: The batch.
            losses_of: Batch -> losses by name, as in :meth:`step_on`.

        Returns:
            The losses by name, without graph.
        """
        head = self.fusion.head
        if self.modification is None:
            return self.step_on(batch, losses_of)
        edit = partial(self.modification.edit_gradient, head, step)
        losses = self.step_on(batch, losses_of, edit_grads=edit)
        with self.full_precision():
            self.modification.after_step(head, step)
        return losses
