"""CCA: canonical correlation analysis of each pair of modalities, and a linear classifier."""

from __future__ import annotations

from collections.abc import Mapping
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

    Absent vectors are replaced by the mean of the present ones in the training split; GCNet's code
    takes the mean over validation and test as well. The encoders give the widths of the vectors and
    are not used.

    There are no optimisation steps: one epoch is run regardless of trainer.max_epochs, and
    optimiser and scheduler have no effect. They are accepted so that all methods of a comparison
    can share one recipe; a schedule that a command sets for this method is refused.

    If no training sample has both modalities of a pair, as with two thirds missing of three
    modalities, the padded vectors of the pair do not correlate at all and the directions are
    arbitrary. The run reports this in a note.

    Example:
        >>> from functools import partial
        >>> import torch
        >>> from lightning.pytorch import Trainer
        >>> audio, label = torch.randn(40, 3), torch.arange(40) % 2
        >>> batch = {"audio": audio, "visual": audio @ torch.randn(3, 5), "label": label}
        >>> loader = torch.utils.data.DataLoader([batch], batch_size=None)
        >>> method = CCA(
        ...     encoders={"audio": torch.nn.Linear(3, 4), "visual": torch.nn.Linear(5, 4)},
        ...     num_classes=2,
        ...     optimizer=partial(torch.optim.SGD, lr=0.1),
        ...     train_batches=lambda: loader,
        ... )
        >>> trainer = Trainer(
        ...     max_epochs=1,
        ...     accelerator="cpu",
        ...     logger=False,
        ...     enable_checkpointing=False,
        ...     enable_progress_bar=False,
        ...     enable_model_summary=False,
        ... )
        >>> trainer.fit(method, loader, loader)
        >>> projections = method.fusion.project(batch)  # three directions of each modality
        >>> round(torch.corrcoef(projections[:, [0, 3]].T)[0, 1].item(), 2)
        1.0
    """

    fusion: CanonicalFusion
    fits_all_at_once = True
    takes_steps = False
    not_for: Mapping[str, str] = {
        "regression": "it ends with a linear SVC of classes. Use method=ae or method=concat",
        "multilabel": "it ends with a linear SVC of classes. Use method=ae or method=concat",
        "class_weights": "it minimises no loss of logits",
    }
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
            **parts: See :class:`~mla_lightning.parts.Parts`; the fusion must be the canonical one,
                and the scheduler is not used.

        Raises:
            ConfigError: If inputs are not vectors.
        """
        widths = input_widths(parts["encoders"])
        vectors = {name: Vector(width) for name, width in widths.items()}
        super().__init__(**parts | {"encoders": vectors, "scheduler": None})

    def fit_batch(self, batch: Batch) -> dict[str, Tensor]:
        """Return no losses: all samples are fitted at once, before validation."""
        return {}

    def on_validation_start(self) -> None:
        """Fit projections and classifier to the training samples, once."""
        x, present, label = self.training_vectors()
        self.fusion.learn_means(x, present)
        num_joint = self.fusion.learn_projections(x, present)
        self.fusion.fit_head(x, present, label)
        for pair, number in num_joint.items():
            num_arbitrary = self.fusion.widths[pair] + 1  # so few always correlate perfectly
            if number <= num_arbitrary:
                self.notes.add(
                    f"CCA: {number or 'no'} training sample{'s have' if number > 1 else ' has'} "
                    f"both {pair[0]} and {pair[1]}; their directions are arbitrary where no more "
                    f"than {num_arbitrary} have"
                )
        self.trainer.should_stop = True

    @torch.no_grad()
    def training_vectors(self) -> tuple[dict[str, Tensor], dict[str, Tensor], Tensor]:
        """Collect the vectors of the training split.

        Returns:
            Modality -> vectors (N, D_m), modality -> (N,) bool of presence, and labels (N,).
        """
        batches = [
            (self.features(batch), batch["present"], batch["label"])
            for batch in self.training_batches()
        ]
        x = {m: torch.cat([features[m] for features, *_ in batches]) for m in self.modalities}
        present = {m: torch.cat([has[m] for _, has, _ in batches]) for m in self.modalities}
        return x, present, torch.cat([label for *_, label in batches])
