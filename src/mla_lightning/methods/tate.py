"""TATE: a transformer with tags of missing modalities, and a teacher with complete inputs."""

from __future__ import annotations

from typing import Unpack, cast

import torch
from torch import Tensor

from mla_lightning.batch import Batch
from mla_lightning.errors import ConfigError
from mla_lightning.functional.divergence import symmetric_divergence
from mla_lightning.fusion.tagged import Tagged
from mla_lightning.methods.reference import Reference
from mla_lightning.methods.taught import Taught
from mla_lightning.parts import Composition


class TATE(Taught):
    r"""Tag-Assisted Transformer Encoder.

    First, the network is trained on complete samples. Then a frozen copy encodes the complete
    sample, and three losses are added to the cross-entropy, ``weight`` times: forward, the
    divergence of the encoding from the teacher's; backward, the divergence of the decoding from the
    tokens; and tag, the difference of the last entries of the pooled encoding from the tag that
    encodes the missing modalities. All four are means over the batch; the released code sums all
    but the tag loss over the batch, so that its mean is too small to act. Divergences are
    symmetric, over the features; the backward one trains both of its sides, as in the released
    code. The penalty on the last layer's weights is left to the optimiser's weight decay.

    The released code passes the masked batch to the teacher and confuses its tags; this class
    implements the paper's algorithm. The released dropout is on the attention weights alone, and
    also at test time; here it is that of a standard transformer block, in training. Vectors are
    sequences of one token per modality; the encoder ``Steps`` passes whole sequences on.

    Example:
        The tag of a sample without text, and of a complete one:

        >>> from functools import partial
        >>> import torch
        >>> method = TATE(
        ...     encoders={"audio": torch.nn.Linear(3, 4), "text": torch.nn.Linear(5, 4)},
        ...     num_classes=2,
        ...     optimizer=partial(torch.optim.SGD, lr=0.1),
        ...     fusion=partial(Tagged, width=12),
        ...     hides_modalities=True,
        ... )
        >>> features = {"audio": torch.randn(2, 4), "text": torch.randn(2, 4)}
        >>> present = {"audio": torch.tensor([True, True]), "text": torch.tensor([False, True])}
        >>> tokens, _ = method.fusion.tokens_of(features, present)
        >>> tokens.shape, tokens[:, 0, -method.fusion.tag_width :]
        (torch.Size([2, 2, 16]), tensor([[0., 0., 1.], [1., 0., 0.]], ...))
    """

    fusion: Tagged
    follows_task = True
    takes_ranks = True
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
            pretrain_epochs: Epochs on complete samples, included in trainer.max_epochs.
            recon_target: ``oracle``, as in the paper: the teacher encodes complete samples;
                ``observed``: the present modalities.
            **parts: See :class:`~mla_lightning.parts.Parts`; the fusion must be the tagged one.

        Raises:
            ConfigError: If a value is out of range.
        """
        if weight < 0:
            raise ConfigError(f"method.weight must be >= 0, got {weight}")
        super().__init__(pretrain_epochs=pretrain_epochs, recon_target=recon_target, **parts)
        self.weight = weight
        self.add_teacher("fusion")

    def pretraining_losses(self, chunk: Batch) -> dict[str, Tensor]:
        """Compute the cross-entropy of complete samples."""
        features, is_known = self.encode_known(chunk)
        return {"full": self.parts.loss(self.fusion(features, is_known), chunk)}

    def taught_losses(self, chunk: Batch) -> dict[str, Tensor]:
        """Compute the losses of classification, forward, backward and tag."""
        present = self.parts.presence(chunk)
        tokens, is_token = self.fusion.tokens_of(self.features(chunk), present)
        encoding = self.fusion.encode_tokens(tokens, is_token)
        decoding = self.fusion.decode_tokens(encoding, is_token)
        with torch.no_grad():
            teacher = cast("Tagged", self.teacher["fusion"])
            teacher_tokens = teacher.tokens_of(*self.encode_by_teacher(chunk))
            teacher_encoding = teacher.encode_tokens(*teacher_tokens)
        tag_width = self.fusion.tag_width
        tag = tokens[:, 0, -tag_width:]
        predicted_tag = self.fusion.pool(encoding, is_token)[:, -tag_width:].sigmoid()
        size = len(chunk["label"])
        return {
            "joint": self.parts.loss(self.fusion.classify(encoding, is_token), chunk),
            "forward": self.weight * symmetric_divergence(encoding, teacher_encoding) / size,
            "backward": self.weight * symmetric_divergence(decoding, tokens) / size,
            "tag": self.weight * (predicted_tag - tag).abs().mean(),
        }
