"""Fusion of CPM-Nets: latent codes from which all modalities of a sample are decoded."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from mla_lightning.errors import ConfigError
from mla_lightning.functional.latent import class_scores
from mla_lightning.fusion.base import Fusion, Present

#: Most steps that an ONNX graph can have, each of which takes the exporter a second.
MAX_STEPS_OF_GRAPH = 20


class CrossPartial(Fusion):
    """Affine decoders from a latent code to every modality, and the codes of the training samples.

    The code of a new sample is fitted in ``num_test_steps`` steps of Adam on its decoding error
    over its present modalities; the decoders are fixed. The logits of a class are the mean inner
    product with the training codes of that class. Every fit starts at the mean training code, so
    logits depend neither on random numbers nor on the batch; the published code starts at random.

    Single modality, ``others_missing``: the code is fitted to that modality alone.

    Example:
        A code that is fitted to audio alone decodes to the audio vector:

        >>> _ = torch.manual_seed(0)
        >>> fusion = CrossPartial({"audio": 2, "text": 3}, num_classes=2, num_latent=4)
        >>> fusion.allocate_codes(num_train=10)
        >>> vectors = {"audio": torch.rand(5, 2), "text": torch.rand(5, 3)}
        >>> true = torch.ones(5, dtype=torch.bool)
        >>> codes = fusion.find_codes(vectors, present={"audio": true, "text": ~true})
        >>> decoded = codes @ fusion.weights["audio"] + fusion.biases["audio"]
        >>> torch.allclose(decoded, vectors["audio"], atol=1e-2)
        True
        >>> fusion(vectors).shape
        torch.Size([5, 2])
    """

    unimodal_rule = "others_missing"
    mixes_modalities = True

    def __init__(
        self,
        feature_dims: Mapping[str, int],
        num_classes: int,
        *,
        num_latent: int = 128,
        num_test_steps: int = 200,
        test_lr: float = 0.05,
    ) -> None:
        """Build the decoders; :meth:`allocate_codes` then allocates the training codes.

        Args:
            feature_dims: Modality -> width of its vector.
            num_classes: Number of classes C.
            num_latent: Width K of a code.
            num_test_steps: Adam steps that find the code of a sample.
            test_lr: Learning rate of these steps.

        Raises:
            ConfigError: If a number is out of range.
        """
        if num_latent < 1 or num_test_steps < 1 or test_lr <= 0:
            raise ConfigError("fusion num_latent and num_test_steps must be >= 1, test_lr > 0")
        super().__init__(feature_dims, num_classes)
        self.num_latent, self.num_test_steps, self.test_lr = num_latent, num_test_steps, test_lr
        self.weights = nn.ParameterDict(
            {name: nn.Parameter(_glorot(num_latent, width)) for name, width in feature_dims.items()}
        )
        self.biases = nn.ParameterDict(
            {name: nn.Parameter(torch.zeros(width)) for name, width in feature_dims.items()}
        )
        self.codes: nn.Parameter
        self.label: Tensor

    def allocate_codes(self, num_train: int) -> None:
        """Allocate the codes and labels of the training samples.

        Args:
            num_train: Number of training samples N.
        """
        self.codes = nn.Parameter(_glorot(num_train, self.num_latent))
        self.register_buffer("label", torch.zeros(num_train, dtype=torch.int64))

    def forward(self, features: Mapping[str, Tensor], present: Present = None) -> Tensor:
        """Find the codes of samples and compute their mean inner products with each class."""
        codes = self.find_codes(features, present)
        return class_scores(codes, self.codes, self.label, self.num_classes)

    @property
    def no_graph(self) -> str:
        """Why the fusion cannot be written as an ONNX graph; empty if it can."""
        if self.num_test_steps <= MAX_STEPS_OF_GRAPH:
            return ""
        return (
            f"each of the {self.num_test_steps} steps that find the code of a sample "
            f"(num_test_steps) would be a part of the graph, which may have {MAX_STEPS_OF_GRAPH}"
        )

    @torch.no_grad()
    def find_codes(self, features: Mapping[str, Tensor], present: Present = None) -> Tensor:
        """Find the codes of samples by Adam, with the gradient written out.

        Args:
            features: Modality -> vector (B, D_m).
            present: Modality -> (B,) bool; None if nothing is missing.

        Returns:
            Codes (B, K).
        """
        num_samples = next(iter(features.values())).shape[0]
        h = self.codes.mean(dim=0, keepdim=True).expand(num_samples, -1).clone()
        first, second = torch.zeros_like(h), torch.zeros_like(h)
        constant, grams = torch.zeros_like(h), []
        for name, x in self.zero_absent(features, present).items():
            weight, bias = self.weights[name], self.biases[name]
            if present is None:
                present_B1 = h.new_ones(num_samples, 1)
            else:
                present_B1 = present[name][:, None].to(h)
            if not torch.compiler.is_exporting() and not present_B1.any():
                continue
            # d/dh of |hW + b - x|^2 is 2 (h W W^T + (b - x) W^T); both matrices serve all steps.
            constant += present_B1 * ((bias - x) @ weight.T)
            grams.append((present_B1, weight @ weight.T))
        for step in range(1, self.num_test_steps + 1):
            gradient = constant.clone()
            for present_B1, gram in grams:
                gradient += present_B1 * (h @ gram)
            gradient *= 2
            first.mul_(0.9).add_(gradient, alpha=0.1)
            second.mul_(0.999).addcmul_(gradient, gradient, value=0.001)
            mean, square = first / (1 - 0.9**step), second / (1 - 0.999**step)
            h -= self.test_lr * mean / (square.sqrt() + 1e-8)
        return h

    def unimodal(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Compute the logits of each modality with all others absent."""
        return self.unimodal_by_others_missing(features)


def _glorot(rows: int, columns: int) -> Tensor:
    limit = (6 / (rows + columns)) ** 0.5
    return torch.empty(rows, columns).uniform_(-limit, limit)
