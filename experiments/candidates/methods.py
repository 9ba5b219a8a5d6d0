"""Training rules between Late Fusion and MLA that were tried; none is a method of the package."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations, permutations
from typing import Any, Unpack

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, kl_div, linear, log_softmax, normalize, softmax
from torch.nn.parameter import Parameter

from mla_lightning.batch import Batch
from mla_lightning.errors import ConfigError
from mla_lightning.fusion.shared_head import SharedHead
from mla_lightning.methods import MLA, LateFusion
from mla_lightning.methods.head.rules import HeadStep
from mla_lightning.parts import Composition


class Members(LateFusion):
    """Late Fusion of several narrow encoders per modality, each with a loss of its own.

    The feature of a modality is (h_1, ..., h_R). Each part has its own logits, from its columns of
    the modality's head; what a modality answers is their mean.
    """

    takes_ranks = True

    def __init__(self, *, members: int = 2, **parts: Unpack[Composition]) -> None:
        """Build the module.

        Args:
            members: Number R of encoders per modality.
            **parts: See :class:`~mla_lightning.parts.Parts`.
        """
        super().__init__(**parts)
        self.members = members

    def member_logits(self, name: str, feature: Tensor) -> list[Tensor]:
        """Compute the logits (B, C) of each member of a modality."""
        head = self.fusion.heads[name]
        columns = zip(
            feature.chunk(self.members, 1), head.weight.chunk(self.members, 1), strict=True
        )
        return [linear(h, weight, head.bias) for h, weight in columns]

    def fit_batch(self, batch: Batch) -> dict[str, Tensor]:
        """Take one step on the sum of the members' losses."""

        def losses_of(chunk: Batch) -> dict[str, Tensor]:
            return {
                f"{name}/{member}": self.parts.loss(z, chunk)
                for name, h in self.features(chunk).items()
                for member, z in enumerate(self.member_logits(name, h))
            }

        return self.step_on(batch, losses_of)

    def logits(
        self, features: Mapping[str, Tensor], present: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """Compute the mean over members, of each modality and of all."""
        own = {name: _mean(self.member_logits(name, h)) for name, h in features.items()}
        return {"multi": _mean([*own.values()]), **own}


class Heads(LateFusion):
    """Late Fusion whose encoders also serve a head that all share, and one on all features.

    Logits are the mean over the heads, as if they were an ensemble.
    """

    def __init__(
        self, *, shared: bool = True, joint: bool = False, **parts: Unpack[Composition]
    ) -> None:
        """Build the module.

        Args:
            shared: Whether there is a head that takes the feature of any modality.
            joint: Whether there is a head on all features, which changes no encoder.
            **parts: See :class:`~mla_lightning.parts.Parts`.
        """
        super().__init__(**parts)
        widths = [*self.fusion.feature_dims.values()]
        if shared and len(set(widths)) > 1:
            raise ConfigError(f"One head needs features of one width, and they have {widths}")
        outputs = self.parts.num_classes
        self.shared = nn.Linear(widths[0], outputs) if shared else None
        self.joint = nn.Linear(sum(widths), outputs) if joint else None

    def fit_batch(self, batch: Batch) -> dict[str, Tensor]:
        """Take one step on the sum of the heads' losses."""

        def losses_of(chunk: Batch) -> dict[str, Tensor]:
            features = self.features(chunk)
            own, shared, joint = self._of_heads(features)
            losses = self.parts.unimodal_losses(own, chunk)
            losses |= {f"shared/{name}": self.parts.loss(z, chunk) for name, z in shared.items()}
            return losses if joint is None else {**losses, "joint": self.parts.loss(joint, chunk)}

        return self.step_on(batch, losses_of)

    def _of_heads(
        self, features: Mapping[str, Tensor]
    ) -> tuple[dict[str, Tensor], dict[str, Tensor], Tensor | None]:
        shared = {m: self.shared(h) for m, h in features.items()} if self.shared else {}
        joined = torch.cat([*features.values()], dim=1).detach()
        return self.fusion.unimodal(features), shared, self.joint(joined) if self.joint else None

    def logits(
        self, features: Mapping[str, Tensor], present: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """Compute the mean over the heads, of each modality and of all."""
        own, shared, joint = self._of_heads(features)
        if shared:
            own = {name: _mean([z, shared[name]]) for name, z in own.items()}
        return {"multi": _mean([*own.values(), *([] if joint is None else [joint])]), **own}


class Paired(LateFusion):
    """Late Fusion whose features also tell which samples of a batch belong together.

    For each pair of modalities a contrastive loss on their features, mapped linearly to one space:
    the other modality of the same sample is the answer, that of any other sample of the batch is
    not (CLIP; Radford et al., 2021).
    """

    takes_chunks = False
    takes_ranks = False

    def __init__(
        self,
        *,
        weight: float = 1.0,
        temperature: float = 0.2,
        width: int = 64,
        within: bool = False,
        **parts: Unpack[Composition],
    ) -> None:
        """Build the module.

        Args:
            weight: Weight of each pair's loss.
            temperature: Temperature of the cosines.
            width: Width of the common space.
            within: Whether only samples of the same class are told apart.
            **parts: See :class:`~mla_lightning.parts.Parts`.
        """
        super().__init__(**parts)
        self.weight, self.temperature, self.within = weight, temperature, within
        dims = self.fusion.feature_dims
        self.maps = nn.ModuleDict({name: nn.Linear(d, width) for name, d in dims.items()})

    def clipped_groups(self) -> list[list[Parameter]]:
        """Return no groups: the losses of pairs connect all modalities."""
        return []

    def fit_batch(self, batch: Batch) -> dict[str, Tensor]:
        """Take one step on the modalities' losses and on those of pairs."""

        def losses_of(chunk: Batch) -> dict[str, Tensor]:
            features = self.features(chunk)
            losses = self.parts.unimodal_losses(self.fusion.unimodal(features), chunk)
            z = {name: normalize(self.maps[name](h), dim=1) for name, h in features.items()}
            label = chunk["label"]
            for a, b in combinations(z, 2):
                cosine = z[a] @ z[b].T / self.temperature
                if self.within:
                    cosine = cosine.masked_fill(label[:, None] != label, float("-inf"))
                own = torch.arange(len(label), device=label.device)
                loss = cross_entropy(cosine, own) + cross_entropy(cosine.T, own)
                losses[f"pair/{a}+{b}"] = self.weight / 2 * loss
            return losses

        return self.step_on(batch, losses_of)


class OneRight(LateFusion):
    """Late Fusion whose wrong modalities learn from the right ones, sample by sample.

    Where modality n is right and m is wrong, the cross-entropy of m has the softened answer of n as
    a further target (Hinton et al., 2015).
    """

    takes_incomplete = False

    def __init__(
        self, *, weight: float = 1.0, temperature: float = 2.0, **parts: Unpack[Composition]
    ) -> None:
        """Build the module.

        Args:
            weight: Weight of the distillation.
            temperature: Temperature T of both answers; the loss is multiplied by its square.
            **parts: See :class:`~mla_lightning.parts.Parts`.
        """
        super().__init__(**parts)
        self.weight, self.temperature = weight, temperature

    def clipped_groups(self) -> list[list[Parameter]]:
        """Return no groups: modalities teach each other."""
        return []

    def fit_batch(self, batch: Batch) -> dict[str, Tensor]:
        """Take one step on the modalities' losses and on what the right ones teach."""

        def losses_of(chunk: Batch) -> dict[str, Tensor]:
            logits = self.fusion.unimodal(self.features(chunk))
            losses = self.parts.unimodal_losses(logits, chunk)
            is_right = {m: z.argmax(dim=1) == chunk["label"] for m, z in logits.items()}
            for m, n in permutations(logits, 2):
                taught = divergence(logits[m], logits[n], self.temperature)
                losses[f"{m} of {n}"] = self.weight * (taught * (is_right[n] & ~is_right[m])).mean()
            return losses

        return self.step_on(batch, losses_of)


class Together(LateFusion):
    """Late Fusion whose modalities also learn the fused answer, that of the averaged weights."""

    takes_ranks = False

    def __init__(
        self,
        *,
        weight: float = 1.0,
        temperature: float = 2.0,
        decay: float = 0.99,
        **parts: Unpack[Composition],
    ) -> None:
        """Build the module.

        Args:
            weight: Weight of the distillation.
            temperature: Temperature T of both answers; the loss is multiplied by its square.
            decay: Decay of the teacher's weights per batch (mean teacher).
            **parts: See :class:`~mla_lightning.parts.Parts`.
        """
        super().__init__(**parts)
        self.weight, self.temperature, self.decay = weight, temperature, decay
        own = nn.ModuleDict({"encoders": self.encoders, "fusion": self.fusion})
        self.teacher = copy.deepcopy(own).requires_grad_(False)
        self.num_batches: Tensor
        self.register_buffer("num_batches", torch.zeros((), dtype=torch.int64))

    def trained_parameters(self) -> Iterable[Parameter]:
        """Return all parameters but the teacher's."""
        return [*self.encoders.parameters(), *self.fusion.parameters()]

    def clipped_groups(self) -> list[list[Parameter]]:
        """Return no groups: the fused answer connects all modalities."""
        return []

    def fit_batch(self, batch: Batch) -> dict[str, Tensor]:
        """Take one step on the modalities' losses and on the teacher's answer; move the teacher."""

        def losses_of(chunk: Batch) -> dict[str, Tensor]:
            logits = self.fusion.unimodal(self.features(chunk))
            losses = self.parts.unimodal_losses(logits, chunk)
            with torch.no_grad():
                encoders: Any = self.teacher["encoders"]
                features = {m: self.encode_by(encoders[m], m, chunk) for m in self.modalities}
                answer = self.teacher["fusion"](features, self.parts.presence(chunk))
            for name, z in logits.items():
                taught = divergence(z, answer, self.temperature)
                losses[f"{name} of all"] = self.weight * taught.mean()
            return losses

        losses = self.step_on(batch, losses_of)
        self._move_teacher()
        return losses

    @torch.no_grad()
    def _move_teacher(self) -> None:
        count = int(self.num_batches)
        share = 1 - min(self.decay, (1 + count) / (10 + count))
        own = nn.ModuleDict({"encoders": self.encoders, "fusion": self.fusion})
        pairs = zip(self.teacher.state_dict().values(), own.state_dict().values(), strict=True)
        for average, x in pairs:
            average.lerp_(x, share) if average.is_floating_point() else average.copy_(x)
        self.num_batches += 1


class MembersHead(SharedHead):
    """One head for all members of all modalities; a modality answers the mean of its members."""

    def __init__(
        self,
        feature_dims: Mapping[str, int],
        num_classes: int,
        *,
        weighting: str | Sequence[float] = "mean",
        members: int = 2,
    ) -> None:
        """Build the head.

        Args:
            feature_dims: Modality -> width of the features of all its members.
            num_classes: Number of classes C.
            weighting: As of :class:`~mla_lightning.fusion.SharedHead`.
            members: Number R of members.
        """
        widths = {name: width // members for name, width in feature_dims.items()}
        super().__init__(widths, num_classes, weighting=weighting)
        self.members = members

    def unimodal(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Compute the mean logits of each modality's members."""
        return {
            name: _mean([self.head(h) for h in feature.chunk(self.members, dim=1)])
            for name, feature in features.items()
        }


class MembersMLA(MLA):
    """MLA over several narrow encoders per modality: each takes its turn on the one head.

    A turn of any member of a modality adds to what the head remembers of that modality.
    """

    takes_ranks = False
    takes_incomplete = False
    takes_chunks = False
    fusion: Any

    def fit_batch(self, batch: Batch) -> dict[str, Tensor]:
        """Take one step per modality and member, in order."""
        losses: dict[str, Tensor] = {}
        for member in range(self.fusion.members):
            for name in self.order:
                losses |= self._fit_member(name, member, batch)
        return losses

    def _fit_member(self, name: str, member: int, batch: Batch) -> dict[str, Tensor]:
        encoder: Any = self.encoders[name]
        head, step = self.fusion.head, HeadStep(name, batch["label"])

        def losses_of(chunk: Batch) -> dict[str, Tensor]:
            feature = encoder.members[member](chunk["inputs"][name])
            step.add_features(feature)
            return {f"{name}/{member}": self.parts.loss(head(feature), chunk)}

        return self.step_through_head(step, batch, losses_of)


def divergence(logits: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Compute how far softened answers are from a teacher's, KL times the squared temperature.

    Args:
        logits: Logits (B, C).
        teacher: Logits (B, C), which get no gradient.
        temperature: Temperature T.

    Returns:
        One number per sample (B,).

    Example:
        >>> z = torch.tensor([[0.0, 2.0]])
        >>> divergence(z, z, 2.0), round(divergence(z, torch.zeros(1, 2), 2.0).item(), 3)
        (tensor([0.]), 0.48)
    """
    target = softmax(teacher.detach() / temperature, dim=1)
    log_probability = log_softmax(logits / temperature, dim=1)
    return temperature**2 * kl_div(log_probability, target, reduction="none").sum(dim=1)


def _mean(logits: Sequence[Tensor]) -> Tensor:
    return torch.stack([*logits]).mean(dim=0)
