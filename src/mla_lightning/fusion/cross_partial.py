"""CPM-Nets' latent codes: found for each sample by decoding what it has, compared with classes."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from mla_lightning.errors import ConfigError
from mla_lightning.functional.latent import class_scores
from mla_lightning.fusion.base import Fusion, Present


class CrossPartial(Fusion):
    """Affine decoders from a latent code to every modality, and the training codes to compare with.

    A sample's code is found by ``num_test_steps`` of Adam on its decoding error over the modalities
    that it has; the decoders stay. All starts are the mean training code, so an answer does not
    depend on chance nor on the batch; the published code starts at random. Single modality: the
    code is found from that modality alone.
    """

    unimodal_rule = "others_missing"

    def __init__(
        self,
        feature_dims: Mapping[str, int],
        num_classes: int,
        *,
        num_latent: int = 128,
        num_test_steps: int = 200,
        test_lr: float = 0.05,
    ) -> None:
        """Prepare decoders and codes.

        Args:
            feature_dims: Modality -> width of its vector.
            num_classes: Number of classes C.
            num_latent: Width K of a code.
            num_test_steps: Steps that find a code.
            test_lr: Their rate.

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

    def prepare(self, num_train: int) -> None:
        """Make room for the training samples' codes and labels."""
        self.codes = nn.Parameter(_glorot(num_train, self.num_latent))
        self.register_buffer("label", torch.zeros(num_train, dtype=torch.int64))

    def forward(self, features: Mapping[str, Tensor], present: Present = None) -> Tensor:
        """Find codes and compare them with the classes'."""
        codes = self.found(features, present)
        return class_scores(codes, self.codes, self.label, self.num_classes)

    @torch.no_grad()
    def found(self, features: Mapping[str, Tensor], present: Present = None) -> Tensor:
        """Find the codes of samples: (B, K), by Adam with the gradient written out."""
        size = len(next(iter(features.values())))
        h = self.codes.mean(dim=0, keepdim=True).expand(size, -1).clone()
        first, second = torch.zeros_like(h), torch.zeros_like(h)
        pull, grams = torch.zeros_like(h), []
        for name, x in self.zeroed(features, present).items():
            weight, bias = self.weights[name], self.biases[name]
            has = h.new_ones(size, 1) if present is None else present[name][:, None].to(h)
            if not has.any():
                continue
            # d/dh of |hW + b - x|^2 is 2 (h W W^T + (b - x) W^T): made once for all steps.
            pull += has * ((bias - x) @ weight.T)
            grams.append((has, weight @ weight.T))
        for step in range(1, self.num_test_steps + 1):
            gradient = pull.clone()
            for has, gram in grams:
                gradient += has * (h @ gram)
            gradient *= 2
            first.mul_(0.9).add_(gradient, alpha=0.1)
            second.mul_(0.999).addcmul_(gradient, gradient, value=0.001)
            mean, square = first / (1 - 0.9**step), second / (1 - 0.999**step)
            h -= self.test_lr * mean / (square.sqrt() + 1e-8)
        return h

    def unimodal(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Find codes from each modality alone."""
        return self.others_missing(features)


def _glorot(rows: int, columns: int) -> Tensor:
    limit = (6 / (rows + columns)) ** 0.5
    return torch.empty(rows, columns).uniform_(-limit, limit)
