"""One linear model per modality and one of all modalities together, each fitted on its own."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from mla_lightning.fusion.base import Fusion, Present


class LinearModels(Fusion):
    """A linear model of the concatenated features, and one of each modality alone.

    The models share nothing: the fused logits are not computed from those of the modalities. They
    are fitted by the method, not trained.

    Single modality, ``own_head``: its own model.

    Example:
        >>> fusion = LinearModels({"audio": 2, "visual": 3}, num_classes=4)
        >>> fusion.set_model("visual", torch.ones(4, 3), torch.arange(4.0))
        >>> features = {"audio": torch.ones(1, 2), "visual": torch.ones(1, 3)}
        >>> fusion.unimodal(features)["visual"]
        tensor([[3., 4., 5., 6.]], grad_fn=<AddmmBackward0>)
        >>> fusion(features).tolist()  # the model of both is not set yet
        [[0.0, 0.0, 0.0, 0.0]]
    """

    unimodal_rule = "own_head"

    def __init__(self, feature_dims: Mapping[str, int], num_classes: int) -> None:
        """Allocate the models, all zeros; :meth:`set_model` sets them.

        Args:
            feature_dims: Modality -> width of its feature.
            num_classes: Number of classes C.
        """
        super().__init__(feature_dims, num_classes)
        widths = {**feature_dims, "": sum(feature_dims.values())}
        self.weights = nn.ParameterDict(
            {key(name): torch.zeros(num_classes, width) for name, width in widths.items()}
        )
        self.biases = nn.ParameterDict({key(name): torch.zeros(num_classes) for name in widths})

    def forward(self, features: Mapping[str, Tensor], present: Present = None) -> Tensor:
        """Compute the logits of the model of all modalities; absent features are zeros."""
        complete = self.zero_absent(features, present)
        return self._logits("", torch.cat([complete[name] for name in self.feature_dims], dim=1))

    def unimodal(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Compute the logits of each modality's own model."""
        return {name: self._logits(name, features[name]) for name in self.feature_dims}

    def _logits(self, name: str, x: Tensor) -> Tensor:
        return linear(x, self.weights[key(name)], self.biases[key(name)])

    @torch.no_grad()
    def set_model(self, name: str, weight: Tensor, bias: Tensor) -> None:
        """Set one of the models.

        Args:
            name: The modality; empty for the model of all modalities.
            weight: Weights (C, D).
            bias: Biases (C,).
        """
        for models, values in ((self.weights, weight), (self.biases, bias)):
            models[key(name)].data = values.to(models[key(name)])


def key(name: str) -> str:
    """Return the name of a model's parameters: that of the modality, or ``multi``.

    Example:
        >>> key("audio"), key("")
        ('of_audio', 'multi')
    """
    return f"of_{name}" if name else "multi"
