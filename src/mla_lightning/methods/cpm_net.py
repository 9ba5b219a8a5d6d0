"""CPM-Net: a latent code per sample, from which all its modalities are decoded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Unpack

import torch
from torch import Tensor

from mla_lightning.batch import Batch
from mla_lightning.encoders.vector import Vector
from mla_lightning.errors import ConfigError, DataError
from mla_lightning.functional.latent import class_scores, clustering_loss, decoding_loss
from mla_lightning.fusion.cross_partial import CrossPartial
from mla_lightning.methods.reference import Reference
from mla_lightning.module import MultimodalModule
from mla_lightning.parts import Composition, input_widths


class CPMNet(MultimodalModule):
    """Cross Partial Multi-View Networks: learnt codes of the samples, decoded to all modalities.

    There are no encoders; those of the config give the widths of the vectors alone. Each training
    sample has a learnt code, and each modality an affine decoder. An epoch takes, on all training
    samples at once, ``num_steps`` steps on the decoders (decoding error of the present modalities)
    and as many on the codes (the same error, plus ``clustering_weight`` times a loss that brings
    codes of one class together). Codes of other samples are fitted to them, see
    :class:`~mla_lightning.fusion.cross_partial.CrossPartial`.

    All steps of an epoch are taken with its first batch; its content and the other batches are not
    used.

    Example:
        >>> from functools import partial
        >>> import torch
        >>> parts = {
        ...     "encoders": {"audio": torch.nn.Linear(3, 4), "visual": torch.nn.Linear(5, 4)},
        ...     "num_classes": 2,
        ...     "optimizer": partial(torch.optim.SGD, lr=0.1),
        ...     "num_train": 100,
        ... }
        >>> audio, visual = torch.randn(100, 3), torch.randn(100, 5)
        >>> samples = {"audio": audio, "visual": visual, "label": torch.arange(100) % 2}
        >>> samples["index"] = torch.arange(100)
        >>> method = CPMNet(train_batches=lambda: [samples], **parts)
        >>> method.fusion.codes.shape  # a code for each training sample
        torch.Size([100, 128])
        >>> {name: weight.shape for name, weight in method.fusion.weights.items()}  # the decoders
        {'audio': torch.Size([128, 3]), 'visual': torch.Size([128, 5])}
        >>> CPMNet(**parts)
        Traceback (most recent call last):
        ...
        mla_lightning.errors.ConfigError: CPMNet fits all training samples at once: give
        train_batches=lambda: loader, a function that returns the training batches in a fixed order.
    """

    fusion: CrossPartial
    fits_all_at_once = True
    not_for: Mapping[str, str] = {
        "regression": "it brings the codes of a class together. Use method=ae or method=concat",
        "multilabel": "it brings the codes of a class together. Use method=ae or method=concat",
        "class_weights": "it minimises no loss of logits",
    }
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
            num_steps: Steps on the decoders, and on the codes, per epoch.
            codes_lr: Learning rate of the codes; the decoders have the optimiser's.
            **parts: See :class:`~mla_lightning.parts.Parts`; the fusion must be the cross partial
                one.

        Raises:
            ConfigError: If a value is out of range, or inputs are not vectors.
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
        self._train_split: Batch | None = None
        self._is_first = True

    def configure_optimizers(self) -> Any:
        """Build one optimiser, in which the codes have their own learning rate."""
        codes = self.fusion.codes
        others = [p for p in self.parameters() if p is not codes]
        groups = [{"params": others}, {"params": [codes], "lr": self.codes_lr}]
        optimizer = self.parts.optimizer(groups)
        if self.parts.scheduler is None:
            return optimizer
        return [optimizer], [self.parts.scheduler(optimizer)]

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Store whether the batch is the epoch's first, which a resumed epoch may not have."""
        super().on_train_batch_start(batch, batch_idx)
        self._is_first = batch_idx == 0

    def fit_batch(self, batch: Batch) -> dict[str, Tensor]:
        """Take all steps of the epoch with its first batch: on the decoders, then on the codes."""
        if not self._is_first:
            return {}
        samples = self._all_samples()
        self.fusion.label[samples["index"]] = samples["label"]
        losses: dict[str, Tensor] = {}
        for _ in range(self.num_steps):
            losses = self.step_on(samples, self._decoder_losses)
        for _ in range(self.num_steps):
            losses = self.step_on(samples, self._code_losses)
        return losses

    def _all_samples(self) -> Batch:
        """Collect the training split, once, and check that every sample has its own number."""
        if self._train_split is None:
            batches = list(self.training_batches())
            self._train_split = {
                "inputs": {
                    m: torch.cat([b["inputs"][m] for b in batches]) for m in self.modalities
                },
                "present": {
                    m: torch.cat([b["present"][m] for b in batches]) for m in self.modalities
                },
                "label": torch.cat([b["label"] for b in batches]),
                "index": torch.cat([b["index"] for b in batches]),
            }
            index = self._train_split["index"]
            if not torch.equal(index.sort()[0], torch.arange(self.num_train, device=index.device)):
                raise DataError(
                    f"CPMNet has a code for each training sample: with num_train={self.num_train}, "
                    f"batch['index'] must have each number from 0 to {self.num_train - 1} once; "
                    f"train_batches gives {len(index)} samples, {len(index.unique())} different "
                    f"numbers from {int(index.min())} to {int(index.max())}."
                )
        return self._train_split

    def _decoder_losses(self, chunk: Batch) -> dict[str, Tensor]:
        codes = self.fusion.codes.detach()[chunk["index"]]
        return {"decoding": self._decoding_error(codes, chunk, trains_decoders=True)}

    def _code_losses(self, chunk: Batch) -> dict[str, Tensor]:
        codes, label = self.fusion.codes[chunk["index"]], chunk["label"]
        all_codes = self.fusion.codes
        scores = class_scores(
            codes, all_codes, self.fusion.label, self.parts.num_classes, own_label=label
        )
        return {
            "decoding": self._decoding_error(codes, chunk, trains_decoders=False),
            "clustering": self.clustering_weight * clustering_loss(scores, label),
        }

    def _decoding_error(self, codes: Tensor, chunk: Batch, *, trains_decoders: bool) -> Tensor:
        errors = []
        for name in self.modalities:
            weight, bias = self.fusion.weights[name], self.fusion.biases[name]
            if not trains_decoders:
                weight, bias = weight.detach(), bias.detach()
            x, has = chunk["inputs"][name], chunk["present"][name]
            errors.append(decoding_loss(codes, x, weight, bias, has))
        return sum(errors[1:], errors[0])
