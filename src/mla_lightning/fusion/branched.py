"""One head for all modalities, to which each has a hidden layer and residual branches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce
from operator import add

import torch
from torch import Tensor, nn

from mla_lightning.errors import ConfigError
from mla_lightning.fusion.base import LogitFusion, linear


class Branched(LogitFusion):
    r"""A shared head on a hidden layer of each modality and on its branches, fused by weights.

    This is the classifier of AUG (NeurIPS 2025). :math:`z_m = \sum_k u_{m,k}` with
    :math:`u_{m,k} = W \,\mathrm{ReLU}(A_{m,k} h_m + a_{m,k}) + b`: k = 0 is the hidden layer that a
    modality has from the start, k = 1, 2, ... are the branches that have been added to it. The
    weights of all branches exist from the start, so the fusion always has the same parameters; a
    branch that has not been added has no effect and no gradient.

    Single modality, ``shared_head``: :math:`z_m`.

    Example:
        >>> fusion = Branched({"audio": 2, "visual": 3}, num_classes=4, hidden=8)
        >>> features = {"audio": torch.randn(5, 2), "visual": torch.randn(5, 3)}
        >>> fusion.unimodal(features)["audio"].shape, fusion.num_added
        (torch.Size([5, 4]), {'audio': 0, 'visual': 0})
        >>> fusion.add_branch("visual")
        True
        >>> first, branch = fusion.classifiers("visual", features["visual"])
        >>> torch.equal(fusion.unimodal(features)["visual"], first + branch)
        True
    """

    unimodal_rule = "shared_head"
    read_as_numbers = ("added",)

    def __init__(
        self,
        feature_dims: Mapping[str, int],
        num_classes: int,
        *,
        weighting: str | Sequence[float] = "mean",
        hidden: int = 256,
        num_branches: int = 11,
    ) -> None:
        """Build the head, the hidden layers, and all branches.

        Args:
            feature_dims: Modality -> width of its feature.
            num_classes: Number of classes C.
            weighting: ``mean``, ``entropy``, ``batch_entropy``, or one weight per modality.
            hidden: Width of the hidden layers.
            num_branches: Number of branches that may be added in all, >= 0.

        Raises:
            ConfigError: If ``hidden`` is below 1, ``num_branches`` is negative, or the weighting is
                unknown or of a wrong number.
        """
        super().__init__(feature_dims, num_classes, weighting=weighting)
        if hidden < 1:
            raise ConfigError(f"fusion hidden must be at least 1, got {hidden}")
        if num_branches < 0:
            raise ConfigError(f"fusion num_branches must be >= 0, got {num_branches}")
        self.num_branches = num_branches
        self.hidden = nn.ModuleDict({m: linear(d, hidden) for m, d in feature_dims.items()})
        self.head = linear(hidden, num_classes)
        self.branches = nn.ModuleDict(
            {
                name: nn.ModuleList(linear(width, hidden) for _ in range(num_branches))
                for name, width in feature_dims.items()
            }
        )
        self.added: Tensor
        self.register_buffer("added", torch.zeros(len(feature_dims), dtype=torch.long))

    @property
    def num_added(self) -> dict[str, int]:
        """Modality -> number of its branches that have been added."""
        return dict(zip(self.feature_dims, self.added.tolist(), strict=True))

    def add_branch(self, name: str) -> bool:
        """Add a branch to a modality.

        Args:
            name: The modality.

        Returns:
            Whether it was added: not if there are ``num_branches`` already.
        """
        if int(self.added.sum()) >= self.num_branches:
            return False
        self.added[list(self.feature_dims).index(name)] += 1
        return True

    def head_input(self, name: str, feature: Tensor) -> Tensor:
        """Compute a modality's hidden layer (B, hidden) from its feature (B, D_m)."""
        return self.hidden[name](feature).relu()

    def classifiers(self, name: str, feature: Tensor) -> list[Tensor]:
        """Compute the logits of a modality's hidden layer and of each branch added to it.

        Args:
            name: The modality.
            feature: Its feature (B, D_m).

        Returns:
            Logits (B, C) each, in the order in which they were added; their sum is the modality's.
        """
        added = self.branches[name][: self.num_added[name]]  # type: ignore[index]
        inputs = [self.head_input(name, feature), *(layer(feature).relu() for layer in added)]
        return [self.head(x) for x in inputs]

    def unimodal(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Compute each modality's logits: the sum over its classifiers."""
        return {m: reduce(add, self.classifiers(m, features[m])) for m in self.feature_dims}
