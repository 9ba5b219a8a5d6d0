"""TATE: a transformer that is told what is missing, taught by one that sees everything."""

from __future__ import annotations

from typing import Unpack, cast

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from mla_lightning.batch import Batch
from mla_lightning.errors import ConfigError
from mla_lightning.functional.divergence import symmetric_divergence
from mla_lightning.fusion.tagged import Tagged
from mla_lightning.methods.reference import Reference
from mla_lightning.methods.taught import Taught
from mla_lightning.parts import Composition


class TATE(Taught):
    r"""Tag-Assisted Transformer Encoder.

    First the network is trained on complete samples. A frozen copy then shows the encoding of the
    complete sample, which that of the incomplete one is drawn to; the decoding is drawn to the
    tokens, and the last entries of the pooled encoding to the tag that tells what is missing. Loss:
    cross-entropy + ``weight`` (forward + backward + tag), all means over the batch; the code sums
    the first three over the batch, next to which its mean tag loss is too small to act.
    Divergences are symmetric, over the features. The penalty on the last layer's weights is left
    to the optimiser's weight decay.

    The released code feeds the masked batch to the teacher and mixes up its tags; this is what the
    paper means. Vectors are sequences of one token per modality; encoders ``Steps`` hand on whole
    sequences.
    """

    fusion: Tagged
    default_fusion = Tagged
    reference = Reference(
        "Tag-assisted Multimodal Sentiment Analysis under Uncertain Missing Modalities",
        "SIGIR",
        2022,
        "https://arxiv.org/abs/2204.13707",
    )

    def __init__(
        self,
        *,
        weight: float = 0.1,
        pretrain_epochs: int = 20,
        recon_target: str = "oracle",
        **parts: Unpack[Composition],
    ) -> None:
        """Build the module.

        Args:
            weight: Weight of the forward, backward and tag losses, >= 0.
            pretrain_epochs: Epochs on complete samples, of trainer.max_epochs.
            recon_target: ``oracle``, the paper's, whose teacher sees what is hidden; ``observed``:
                the teacher sees what is there.
            **parts: As :class:`~mla_lightning.parts.Composition` names them; the fusion
                must be the tagged one.

        Raises:
            ConfigError: If a value is out of range.
        """
        if weight < 0:
            raise ConfigError(f"method.weight must be >= 0, got {weight}")
        super().__init__(pretrain_epochs=pretrain_epochs, recon_target=recon_target, **parts)
        self.weight = weight
        self.add_teacher("fusion")

    def pretraining_losses(self, chunk: Batch) -> dict[str, Tensor]:
        """Classify complete samples."""
        return {"full": cross_entropy(self.fusion(*self.encode_known(chunk)), chunk["label"])}

    def taught_losses(self, chunk: Batch) -> dict[str, Tensor]:
        """Classify; be like the teacher; decode the tokens; tell what is missing."""
        present = self.parts.presence(chunk)
        tokens, there = self.fusion.tokens_of(self.features(chunk), present)
        encoding = self.fusion.encode_tokens(tokens, there)
        decoding = self.fusion.decode_tokens(encoding, there)
        with torch.no_grad():
            network = cast("Tagged", self.teacher["fusion"])
            shown = network.encode_tokens(*network.tokens_of(*self.encode_by_teacher(chunk)))
        tag = tokens[:, 0, -self.fusion.tag_width :]
        told = self.fusion.pool(encoding, there)[:, -self.fusion.tag_width :].sigmoid()
        size = len(chunk["label"])
        return {
            "joint": cross_entropy(self.fusion.classify(encoding, there), chunk["label"]),
            "forward": self.weight * symmetric_divergence(encoding, shown) / size,
            "backward": self.weight * symmetric_divergence(decoding, tokens.detach()) / size,
            "tag": self.weight * (told - tag).abs().mean(),
        }
