"""DCCA: encoders whose features correlate between modalities, and a linear classifier."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from typing import Unpack

import torch
from torch import Tensor, nn

from mla_lightning.batch import Batch
from mla_lightning.errors import ConfigError
from mla_lightning.functional import at_least_single, dcca_loss, fill_with_mean, mean_of_present
from mla_lightning.fusion.padded import PaddedFusion
from mla_lightning.methods.reference import Reference
from mla_lightning.module import MultimodalModule
from mla_lightning.parts import Composition, input_widths, out_width

#: Number of samples per component below which independent features appear to correlate.
SAMPLES_PER_COMPONENT = 25


class ProjectedEncoder(nn.Module):
    """An encoder and a linear layer to a width that all modalities have in common."""

    def __init__(self, encoder: nn.Module, width: int, name: str) -> None:
        """Build the layer.

        Args:
            encoder: The encoder.
            width: Width of the output.
            name: The modality, for messages.
        """
        super().__init__()
        self.encoder = encoder
        self.linear = nn.Linear(out_width(name, encoder), width)
        self.out_features = width

    def forward(self, x: Tensor) -> Tensor:
        """Compute the projected features (B, width)."""
        return self.linear(self.encoder(x))


class DCCA(MultimodalModule):
    r"""Deep canonical correlation analysis of all pairs, and a linear SVC on their features.

    Loss: minus the sum over pairs of the total correlation of their features, in float64 with
    Cholesky whitening. Absent input vectors are replaced by the training mean of the present ones.
    The classifier is fitted in closed form before each validation.

    GCNet's code uses the second modality's network for the third, too; here each modality has its
    own. Batches of no more than k + 1 samples are skipped, since every correlation is 1 there. So
    is an epoch's last batch if it has fewer samples than the others and fewer than 25 k: its
    spurious correlations would outweigh the true ones of the other batches.

    Example:
        The loss of one pair lies between -k and 0:

        >>> from functools import partial
        >>> import torch
        >>> from mla_lightning.batch import as_batch
        >>> method = DCCA(
        ...     encoders={"audio": torch.nn.Linear(3, 4), "visual": torch.nn.Linear(5, 4)},
        ...     num_classes=2,
        ...     optimizer=partial(torch.optim.SGD, lr=0.1),
        ...     num_components=2,
        ...     train_batches=lambda: [],
        ... )
        >>> inputs = {"audio": torch.randn(60, 3), "visual": torch.randn(60, 5)}
        >>> loss = method.losses_of(as_batch(inputs, method.modalities, needs=()))["correlation"]
        >>> -2 < loss.item() < 0
        True
    """

    fusion: PaddedFusion
    takes_chunks = False
    needs_train_batches = True
    not_for: Mapping[str, str] = {
        "regression": "it ends with a linear SVC of classes. Use method=ae or method=concat",
        "multilabel": "it ends with a linear SVC of classes. Use method=ae or method=concat",
        "class_weights": "it minimises no loss of logits",
    }
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
            ridge: Added to the diagonals of the covariances, > 0.
            **parts: See :class:`~mla_lightning.parts.Parts`; the fusion must be the padded one.

        Raises:
            ConfigError: If a number is out of range, or inputs are not vectors.
        """
        if num_components < 1 or ridge <= 0:
            raise ConfigError("method.num_components must be >= 1 and method.ridge > 0")
        widths = input_widths(parts["encoders"])
        encoders = parts["encoders"]
        projected = {m: ProjectedEncoder(e, num_components, m) for m, e in encoders.items()}
        super().__init__(**parts | {"encoders": projected})
        self.num_components, self.ridge = num_components, ridge
        for name, width in widths.items():
            self.register_buffer(f"input_mean_{name}", torch.zeros(width))

    def on_train_start(self) -> None:
        """Compute the training means of the inputs."""
        batches = list(self.training_batches())
        for name in self.modalities:
            x = torch.cat([batch["inputs"][name] for batch in batches])
            has = torch.cat([batch["present"][name] for batch in batches])
            self.input_mean(name).copy_(mean_of_present(x, has))

    def input_mean(self, name: str) -> Tensor:
        """Return the training mean (D_m,) of a modality's inputs."""
        return getattr(self, f"input_mean_{name}")

    def encode(self, name: str, batch: Batch) -> Tensor:
        """Encode one modality, with the training mean in place of absent inputs."""
        x, has = batch["inputs"][name], batch["present"][name]
        return self.encoders[name](fill_with_mean(x, has, self.input_mean(name)))

    def fit_batch(self, batch: Batch) -> dict[str, Tensor]:
        """Take one step on the correlations, unless the batch is too small."""
        name, size = type(self).__name__, len(batch["label"])
        enough = SAMPLES_PER_COMPONENT * self.num_components
        if size <= self.num_components + 1 or size < min(self.parts.batch_size, enough):
            self.notes.add(f"{name}: batches of {size} samples are skipped")
            return {}
        if size < enough:
            self.notes.add(
                f"{name}: batches of {size} samples are small for {self.num_components} "
                f"components; below {SAMPLES_PER_COMPONENT} samples per component independent "
                "features appear to correlate"
            )
        return self.step_on(batch, self.losses_of)

    def losses_of(self, chunk: Batch) -> dict[str, Tensor]:
        """Compute minus the total correlation, summed over the pairs of modalities."""
        with torch.autocast(self.device.type, enabled=False):
            return {"correlation": self.correlation_loss(self.features(chunk))}

    def correlation_loss(self, features: dict[str, Tensor]) -> Tensor:
        """Compute minus the total correlation of features, summed over the pairs of modalities."""
        pairs = [
            dcca_loss(a, b, self.ridge)
            for a, b in combinations([features[m] for m in self.modalities], 2)
        ]
        dtype = at_least_single(features[self.modalities[0]]).dtype
        return sum(pairs[1:], pairs[0]).to(dtype)

    def on_validation_start(self) -> None:
        """Fit the classifier to the training split's features."""
        with torch.no_grad():
            was_training = self.training
            self.eval()
            batches = [(self.features(b), b["label"]) for b in self.training_batches()]
            self.train(was_training)
        h = {m: torch.cat([features[m] for features, _ in batches]) for m in self.modalities}
        self.fusion.fit_head(h, None, torch.cat([label for _, label in batches]))

    def logits(self, features: dict[str, Tensor], present: dict[str, Tensor]) -> dict[str, Tensor]:  # type: ignore[override]
        """Classify concatenated features; an absent modality has the feature of its mean input."""
        means = {m: self.encoders[m](self.input_mean(m)[None])[0] for m in features}

        def logits_of(present: dict[str, Tensor]) -> Tensor:
            filled = {m: fill_with_mean(h, present[m], means[m]) for m, h in features.items()}
            return self.fusion(filled)

        all_true = torch.ones_like(next(iter(present.values())))
        unimodal = {
            name: logits_of({m: all_true if m == name else ~all_true for m in features})
            for name in features
        }
        return {"multi": logits_of(present), **unimodal}
