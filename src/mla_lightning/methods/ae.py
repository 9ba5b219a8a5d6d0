"""AE: an autoencoder learns to complete joined features while they are classified."""

from __future__ import annotations

from typing import Unpack

from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from mla_lightning.batch import Batch
from mla_lightning.errors import ConfigError
from mla_lightning.functional.imputation import reconstruction_loss
from mla_lightning.fusion.imagination import AutoencodedFusion, build_mlp
from mla_lightning.methods.reference import Reference
from mla_lightning.module import MultimodalModule
from mla_lightning.parts import Composition, Parts, input_widths

TARGETS = ("oracle", "observed")


class AE(MultimodalModule):
    r"""Autoencoder baseline of GCNet's comparison: cross-entropy plus reconstruction of inputs.

    Encoders, an autoencoder on their joined features, a classifier and a decoder per modality on
    what comes out. Loss: cross-entropy + ``weight`` :math:`\sum \|\hat x - x\|^2 / d_m` over the
    cells that are the target, summed over the batch as in GCNet's code.

    ``recon_target=oracle`` reconstructs the hidden inputs, which are known in an experiment only;
    ``observed`` those that are there. Inputs must be vectors.
    """

    fusion: AutoencodedFusion
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
            **parts: As :class:`~mla_lightning.parts.Composition` names them; the fusion
                must be an autoencoder's.

        Raises:
            ConfigError: If a value is out of range or without effect, or inputs are no vectors.
        """
        if weight < 0:
            raise ConfigError(f"method.weight must be >= 0, got {weight}")
        if not weight and recon_target != "oracle":
            raise ConfigError("method.recon_target has no effect with method.weight=0")
        super().__init__(**parts)
        check_recon_target(recon_target, self.parts)
        self.weight, self.recon_target = weight, recon_target
        width = sum(encoder.out_features for encoder in self.encoders.values())  # type: ignore[misc]
        self.decoders = nn.ModuleDict(
            {
                name: build_mlp((width, *hidden, size), dropout)
                for name, size in input_widths(dict(self.encoders.items())).items()
            }
        )

    @property
    def needs_hidden_inputs(self) -> bool:  # type: ignore[override]
        """Whether training batches must hold what was hidden."""
        return self.recon_target == "oracle"

    def fit_batch(self, batch: Batch) -> dict[str, Tensor]:
        """Take one step on classification and reconstruction."""

        def losses_of(chunk: Batch) -> dict[str, Tensor]:
            joined = self.fusion.join(self.features(chunk), self.parts.presence(chunk))
            whole = self.fusion.reconstruct(joined)
            losses = {"joint": cross_entropy(self.fusion.classifier(whole), chunk["label"])}
            target, cells = self.parts.reconstruction_targets(chunk, self.recon_target)
            recon = [
                reconstruction_loss(decode(whole), target[name], cells[name])
                for name, decode in self.decoders.items()
            ]
            # A sum over the batch: what a chunk adds counts whole, not by its share.
            whole_batch = len(batch["label"]) / len(chunk["label"])
            return losses | {"recon": self.weight * whole_batch * sum(recon[1:], recon[0])}

        return self.step_on(batch, losses_of)


def check_recon_target(recon_target: str, parts: Parts) -> None:
    """Check what a method reconstructs.

    Args:
        recon_target: ``oracle`` or ``observed``.
        parts: What the method is composed of.

    Raises:
        ConfigError: If it is unknown, or there is nothing hidden to reconstruct.
    """
    if recon_target not in TARGETS:
        raise ConfigError(f"method.recon_target must be oracle or observed, got {recon_target!r}")
    if recon_target == "oracle" and not parts.hides_modalities:
        raise ConfigError(
            "method.recon_target=oracle reconstructs what is hidden in training, and nothing is: "
            "choose missing=anchor (or another), or method.recon_target=observed"
        )
