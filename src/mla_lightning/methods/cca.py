"""CCA: project each pair of modalities to where they correlate most, and classify."""

from __future__ import annotations

from typing import Unpack

import torch
from torch import Tensor

from mla_lightning.batch import Batch
from mla_lightning.encoders.vector import Vector
from mla_lightning.fusion.padded import CanonicalFusion
from mla_lightning.methods.reference import Reference
from mla_lightning.module import MultimodalModule
from mla_lightning.parts import Composition, input_widths


class CCA(MultimodalModule):
    """Canonical correlation analysis of every pair, in closed form, and a linear SVC.

    Absent vectors are replaced by the training mean of those present; GCNet's code takes the mean
    over validation and test as well. Encoders of the config give the widths of the vectors and are
    not used. There is nothing to iterate: one epoch is trained, whatever trainer.max_epochs is.

    Where no training sample has both modalities of a pair, as at two thirds missing of three, their
    padded vectors do not correlate at all and the directions are arbitrary; the run says so.
    """

    fusion: CanonicalFusion
    fits_all_at_once = True
    default_fusion = CanonicalFusion
    reference = Reference(
        "Relations Between Two Sets of Variates",
        "Biometrika",
        1936,
        "https://doi.org/10.1093/biomet/28.3-4.321",
    )

    def __init__(self, **parts: Unpack[Composition]) -> None:
        """Build the module.

        Args:
            **parts: As :class:`~mla_lightning.parts.Composition` names them; the fusion
                must be the canonical one.

        Raises:
            ConfigError: If inputs are no vectors.
        """
        widths = input_widths(parts["encoders"])
        vectors = {name: Vector(width) for name, width in widths.items()}
        super().__init__(**parts | {"encoders": vectors, "scheduler": None})

    def fit_batch(self, batch: Batch) -> dict[str, Tensor]:
        """Do nothing: all samples are fitted at once, before validation."""
        return {}

    def on_validation_start(self) -> None:
        """Fit projections and classifier to the training samples, once."""
        x, present, label = self.training_vectors()
        self.fusion.learn_means(x, present)
        joint = self.fusion.learn_projections(x, present)
        self.fusion.fit_head(x, present, label)
        for pair, number in joint.items():
            few = self.fusion.widths[pair] + 1  # so many fit perfectly, whatever they are
            if number <= few:
                self.notes.add(
                    f"CCA: {number or 'no'} training sample{'s have' if number > 1 else ' has'} "
                    f"both {pair[0]} and {pair[1]}; their directions are arbitrary where no more "
                    f"than {few} have"
                )
        self.trainer.should_stop = True

    @torch.no_grad()
    def training_vectors(self) -> tuple[dict[str, Tensor], dict[str, Tensor], Tensor]:
        """Gather the training split's features, presence and labels."""
        parts = [
            (self.features(batch), batch["present"], batch["label"])
            for batch in self.training_batches()
        ]
        x = {m: torch.cat([features[m] for features, *_ in parts]) for m in self.modalities}
        present = {m: torch.cat([has[m] for _, has, _ in parts]) for m in self.modalities}
        return x, present, torch.cat([label for *_, label in parts])
