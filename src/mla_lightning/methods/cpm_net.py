"""CPM-Nets: a latent code per sample from which all its modalities are decoded."""

from __future__ import annotations

from typing import Any, Unpack

import torch
from torch import Tensor

from mla_lightning.batch import Batch
from mla_lightning.encoders.vector import Vector
from mla_lightning.errors import ConfigError
from mla_lightning.functional.latent import class_scores, clustering_loss, decoding_loss
from mla_lightning.fusion.cross_partial import CrossPartial
from mla_lightning.methods.reference import Reference
from mla_lightning.module import MultimodalModule
from mla_lightning.parts import Composition, input_widths


class CPMNet(MultimodalModule):
    """Cross Partial Multi-View Networks.

    There are no encoders: each training sample has a code that is learnt, and affine decoders to
    every modality. An epoch takes, on all training samples at once, ``num_steps`` steps on the
    decoders (decoding error of what is present) and as many on the codes (the same plus
    ``clustering_weight`` times a loss that draws codes of a class together). Codes of other samples
    are found by decoding, see the fusion. Encoders of the config give the widths alone; batches are
    not used, an epoch's work is done with the first of them.
    """

    fusion: CrossPartial
    fits_all_at_once = True
    default_fusion = CrossPartial
    needs_num_train = True
    reference = Reference(
        "CPM-Nets: Cross Partial Multi-View Networks",
        "NeurIPS",
        2019,
        "https://proceedings.neurips.cc/paper/2019/hash/"
        "11b9842e0a271ff252c1903e7132cd68-Abstract.html",
    )

    def __init__(
        self,
        *,
        clustering_weight: float = 1.0,
        num_steps: int = 5,
        codes_lr: float = 0.01,
        **parts: Unpack[Composition],
    ) -> None:
        """Build the module.

        Args:
            clustering_weight: Weight of the clustering loss, >= 0.
            num_steps: Steps on decoders, and on codes, per epoch.
            codes_lr: Rate of the codes; the decoders have the optimiser's.
            **parts: As :class:`~mla_lightning.parts.Composition` names them; the fusion
                must be the cross partial one.

        Raises:
            ConfigError: If a value is out of range, or inputs are no vectors.
        """
        if clustering_weight < 0 or num_steps < 1 or codes_lr <= 0:
            raise ConfigError(
                "method.clustering_weight must be >= 0, num_steps >= 1 and codes_lr > 0"
            )
        widths = input_widths(parts["encoders"])
        vectors = {name: Vector(width) for name, width in widths.items()}
        super().__init__(**parts | {"encoders": vectors})
        self.clustering_weight, self.num_steps = clustering_weight, num_steps
        self.codes_lr = codes_lr
        self.fusion.allocate_codes(self.num_train)
        self._all: Batch | None = None
        self._is_first = True

    def configure_optimizers(self) -> Any:
        """Build one optimiser, the codes with their own rate."""
        codes = self.fusion.codes
        others = [p for p in self.parameters() if p is not codes]
        groups = [{"params": others}, {"params": [codes], "lr": self.codes_lr}]
        optimizer = self.parts.optimizer(groups)
        if self.parts.scheduler is None:
            return optimizer
        return [optimizer], [self.parts.scheduler(optimizer)]

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Note whether the batch is the epoch's first; of a resumed epoch it was another run's."""
        super().on_train_batch_start(batch, batch_idx)
        self._is_first = batch_idx == 0

    def fit_batch(self, batch: Batch) -> dict[str, Tensor]:
        """Take the epoch's steps on all training samples, with the first batch."""
        if not self._is_first:
            return {}
        everything = self._everything()
        self.fusion.label.copy_(everything["label"])
        losses: dict[str, Tensor] = {}
        for _ in range(self.num_steps):
            losses = self.step_on(everything, self._decoding)
        for _ in range(self.num_steps):
            losses = self.step_on(everything, self._clustering)
        return losses

    def _everything(self) -> Batch:
        """Gather the training split once."""
        if self._all is None:
            batches = list(self.training_batches())
            self._all = {
                "inputs": {
                    m: torch.cat([b["inputs"][m] for b in batches]) for m in self.modalities
                },
                "present": {
                    m: torch.cat([b["present"][m] for b in batches]) for m in self.modalities
                },
                "label": torch.cat([b["label"] for b in batches]),
                "index": torch.cat([b["index"] for b in batches]),
            }
        return self._all

    def _decoding(self, chunk: Batch) -> dict[str, Tensor]:
        codes = self.fusion.codes.detach()[chunk["index"]]
        return {"decoding": self._error(codes, chunk, learns_decoders=True)}

    def _clustering(self, chunk: Batch) -> dict[str, Tensor]:
        codes, label = self.fusion.codes[chunk["index"]], chunk["label"]
        everyone = self.fusion.codes
        scores = class_scores(
            codes, everyone, self.fusion.label, self.parts.num_classes, own_label=label
        )
        return {
            "decoding": self._error(codes, chunk, learns_decoders=False),
            "clustering": self.clustering_weight * clustering_loss(scores, label),
        }

    def _error(self, codes: Tensor, chunk: Batch, *, learns_decoders: bool) -> Tensor:
        errors = []
        for name in self.modalities:
            weight, bias = self.fusion.weights[name], self.fusion.biases[name]
            if not learns_decoders:
                weight, bias = weight.detach(), bias.detach()
            x, has = chunk["inputs"][name], chunk["present"][name]
            errors.append(decoding_loss(codes, x, weight, bias, has))
        return sum(errors[1:], errors[0])
