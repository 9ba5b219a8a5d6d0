"""DCCA: encoders whose features correlate between modalities, then a linear classifier."""

from __future__ import annotations

from itertools import combinations
from typing import Unpack

import torch
from torch import Tensor, nn

from mla_lightning.batch import Batch
from mla_lightning.errors import ConfigError
from mla_lightning.functional import dcca_loss, fill_with_mean, mean_of_present
from mla_lightning.fusion.padded import PaddedFusion
from mla_lightning.methods.reference import Reference
from mla_lightning.module import MultimodalModule
from mla_lightning.parts import Composition, input_widths

#: Samples per component below which independent features seem to correlate.
ENOUGH = 25


class Projected(nn.Module):
    """An encoder and a linear layer to the common width."""

    def __init__(self, encoder: nn.Module, width: int) -> None:
        """Join the two."""
        super().__init__()
        self.encoder = encoder
        self.linear = nn.Linear(encoder.out_features, width)  # type: ignore[arg-type]
        self.out_features = width

    def forward(self, x: Tensor) -> Tensor:
        """Encode and project."""
        return self.linear(self.encoder(x))


class DCCA(MultimodalModule):
    r"""Deep canonical correlation analysis of all pairs, and a linear SVC on the joined features.

    Loss: minus the sum over pairs of the total correlation of their features, in float64 with
    Cholesky whitening. Absent input vectors are replaced by the training mean of those present. The
    classifier is fitted in closed form before each validation.

    GCNet's code sends the third modality through the second network; here each has its own.
    Batches of no more than k + 1 samples, where every correlation is 1, are passed over, and so is
    an epoch's last batch if it has fewer samples than the others and fewer than 25 k: what seems to
    correlate in it would outweigh what does in the others.
    """

    fusion: PaddedFusion
    takes_chunks = False
    default_fusion = PaddedFusion
    reference = Reference(
        "Deep Canonical Correlation Analysis",
        "ICML",
        2013,
        "https://proceedings.mlr.press/v28/andrew13.html",
    )

    def __init__(
        self, *, num_components: int = 10, ridge: float = 1e-3, **parts: Unpack[Composition]
    ) -> None:
        """Build the module.

        Args:
            num_components: Width k of each modality's correlated feature.
            ridge: Added to the covariances' diagonals, > 0.
            **parts: As :class:`~mla_lightning.parts.Composition` names them; the fusion
                must be the padded one.

        Raises:
            ConfigError: If a number is out of range, or inputs are no vectors.
        """
        if num_components < 1 or ridge <= 0:
            raise ConfigError("method.num_components must be >= 1 and method.ridge > 0")
        widths = input_widths(parts["encoders"])
        projected = {m: Projected(e, num_components) for m, e in parts["encoders"].items()}
        super().__init__(**parts | {"encoders": projected})
        self.num_components, self.ridge = num_components, ridge
        for name, width in widths.items():
            self.register_buffer(f"input_mean_{name}", torch.zeros(width))

    def on_train_start(self) -> None:
        """Take the means of the inputs."""
        batches = list(self.training_batches())
        for name in self.modalities:
            x = torch.cat([batch["inputs"][name] for batch in batches])
            has = torch.cat([batch["present"][name] for batch in batches])
            getattr(self, f"input_mean_{name}").copy_(mean_of_present(x, has))

    def encode(self, name: str, batch: Batch) -> Tensor:
        """Encode one modality, means in the place of absent inputs."""
        mean = getattr(self, f"input_mean_{name}")
        return self.encoders[name](
            fill_with_mean(batch["inputs"][name], batch["present"][name], mean)
        )

    def fit_batch(self, batch: Batch) -> dict[str, Tensor]:
        """Take one step towards more correlation."""
        size = len(batch["label"])
        enough = ENOUGH * self.num_components
        if size <= self.num_components + 1 or size < min(self.parts.batch_size, enough):
            self.notes.add(f"{type(self).__name__}: batches of {size} samples are passed over")
            return {}
        if size < enough:
            self.notes.add(
                f"{type(self).__name__}: batches of {size} samples are small for "
                f"{self.num_components} components; below {ENOUGH} samples per component "
                "independent features seem to correlate"
            )
        return self.step_on(batch, self.losses_of)

    def losses_of(self, chunk: Batch) -> dict[str, Tensor]:
        """Compute minus the correlations."""
        with torch.autocast(self.device.type, enabled=False):
            h = self.features(chunk)
            pairs = [dcca_loss(h[a], h[b], self.ridge) for a, b in combinations(h, 2)]
        return {"correlation": sum(pairs[1:], pairs[0]).float()}

    def on_validation_start(self) -> None:
        """Fit the classifier to the training split's features."""
        with torch.no_grad():
            was_training = self.training
            self.eval()
            parts = [(self.features(b), b["label"]) for b in self.training_batches()]
            self.train(was_training)
        h = {m: torch.cat([features[m] for features, _ in parts]) for m in self.modalities}
        self.fusion.fit_head(h, None, torch.cat([label for _, label in parts]))

    def logits(self, features: dict[str, Tensor], present: dict[str, Tensor]) -> dict[str, Tensor]:  # type: ignore[override]
        """Classify the joined features, those of mean inputs in the place of what is absent."""
        means = {m: self.encoders[m](getattr(self, f"input_mean_{m}")[None])[0] for m in features}

        def without(absent: dict[str, Tensor]) -> Tensor:
            return self.fusion(
                {m: fill_with_mean(h, ~absent[m], means[m]) for m, h in features.items()}
            )

        nowhere = torch.zeros_like(next(iter(present.values())))
        alone = {
            name: without({m: nowhere if m == name else ~nowhere for m in features})
            for name in features
        }
        return {"multi": without({m: ~has for m, has in present.items()}), **alone}
