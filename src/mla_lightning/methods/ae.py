"""AE: an autoencoder reconstructs concatenated features while they are classified."""

from __future__ import annotations

from typing import Unpack

from torch import Tensor, nn

from mla_lightning.batch import Batch, num_in_batch
from mla_lightning.errors import ConfigError
from mla_lightning.functional.imputation import reconstruction_loss
from mla_lightning.fusion.imagination import AutoencodedFusion, build_mlp
from mla_lightning.methods.reference import Reference
from mla_lightning.module import MultimodalModule
from mla_lightning.parts import Composition, Parts, input_widths

RECON_TARGETS = ("oracle", "observed")


class AE(MultimodalModule):
    r"""Autoencoder baseline of GCNet's comparison: cross-entropy plus reconstruction of inputs.

    Encoders, an autoencoder on their concatenated features, and a classifier and one decoder per
    modality on its output. Loss: cross-entropy + ``weight`` :math:`\sum \|\hat x - x\|^2 / d_m`
    over the inputs that are targets, summed over the batch as in GCNet's code.

    Targets are the hidden inputs (``recon_target=oracle``), which are known in experiments only,
    or the present ones (``observed``). Inputs must be vectors.

    Example:
        >>> from functools import partial
        >>> import torch
        >>> parts = {
        ...     "encoders": {"audio": torch.nn.Linear(3, 4), "visual": torch.nn.Linear(5, 4)},
        ...     "num_classes": 2,
        ...     "optimizer": partial(torch.optim.SGD, lr=0.1),
        ... }
        >>> method = AE(recon_target="observed", **parts)
        >>> reconstruction = method.fusion.reconstruct(torch.randn(6, 4 + 4))
        >>> {name: decode(reconstruction).shape for name, decode in method.decoders.items()}
        {'audio': torch.Size([6, 3]), 'visual': torch.Size([6, 5])}
        >>> AE(**parts)
        Traceback (most recent call last):
        ...
        mla_lightning.errors.ConfigError: method.recon_target=oracle reconstructs what is hidden in
        training, and nothing is: ...
    """

    fusion: AutoencodedFusion
    follows_task = True
    takes_ranks = True
    default_fusion = AutoencodedFusion
    reference = Reference(
        "GCNet: Graph Completion Network for Incomplete Multimodal Learning in Conversation (AE)",
        "TPAMI",
        2023,
        "https://arxiv.org/abs/2203.02177",
    )

    def __init__(
        self,
        *,
        weight: float = 0.003,
        recon_target: str = "oracle",
        hidden: tuple[int, ...] = (128, 128),
        dropout: float = 0.5,
        **parts: Unpack[Composition],
    ) -> None:
        """Build the module.

        Args:
            weight: Weight of the reconstruction, >= 0.
            recon_target: ``oracle`` or ``observed``.
            hidden: Widths of the decoders' hidden layers.
            dropout: Dropout of the decoders.
            **parts: See :class:`~mla_lightning.parts.Parts`; the fusion must be an autoencoder's.

        Raises:
            ConfigError: If a value is out of range or without effect, or inputs are not vectors.
        """
        if weight < 0:
            raise ConfigError(f"method.weight must be >= 0, got {weight}")
        if not weight and recon_target != "oracle":
            raise ConfigError("method.recon_target has no effect with method.weight=0")
        super().__init__(**parts)
        check_recon_target(recon_target, self.parts)
        self.weight, self.recon_target = weight, recon_target
        width = sum(self.fusion.feature_dims.values())
        self.decoders = nn.ModuleDict(
            {
                name: build_mlp((width, *hidden, input_width), dropout)
                for name, input_width in input_widths(dict(self.encoders.items())).items()
            }
        )

    @property
    def needs_hidden_inputs(self) -> bool:  # type: ignore[override]
        """Return whether training batches must also contain the hidden inputs."""
        return self.recon_target == "oracle"

    def fit_batch(self, batch: Batch) -> dict[str, Tensor]:
        """Take one step on classification and reconstruction."""

        def losses_of(chunk: Batch) -> dict[str, Tensor]:
            joined = self.fusion.join(self.features(chunk), self.parts.presence(chunk))
            reconstruction = self.fusion.reconstruct(joined)
            joint = self.parts.loss(self.fusion.classifier(reconstruction), chunk)
            inputs, is_target = self.parts.reconstruction_targets(chunk, self.recon_target)
            errors = [
                reconstruction_loss(decode(reconstruction), inputs[name], is_target[name])
                for name, decode in self.decoders.items()
            ]
            # The error is summed over the batch; step_on multiplies a chunk by its fraction of it.
            inverse_fraction = num_in_batch(chunk) / len(chunk["label"])
            recon = self.weight * inverse_fraction * sum(errors[1:], errors[0])
            return {"joint": joint, "recon": recon}

        return self.step_on(batch, losses_of)


def check_recon_target(recon_target: str, parts: Parts) -> None:
    """Check which inputs a method learns to reconstruct.

    Args:
        recon_target: ``oracle`` or ``observed``.
        parts: The method's parts.

    Raises:
        ConfigError: If it is unknown, or nothing is hidden that could be reconstructed.
    """
    if recon_target not in RECON_TARGETS:
        raise ConfigError(f"method.recon_target must be oracle or observed, got {recon_target!r}")
    if recon_target == "oracle" and not parts.hides_modalities:
        raise ConfigError(
            "method.recon_target=oracle reconstructs what is hidden in training, and nothing is: "
            "choose missing=anchor (or another), or method.recon_target=observed. (In Python: "
            'recon_target="observed", or hides_modalities=True and batches with truth and hidden.)'
        )
