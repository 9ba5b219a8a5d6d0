"""Fusion of TATE: a transformer over the tokens of all modalities, with tags of missing ones."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations

import torch
from torch import Tensor, nn

from mla_lightning.errors import ConfigError
from mla_lightning.functional.sequences import is_present_step
from mla_lightning.fusion.base import Fusion, Present


class Tagged(Fusion):
    """Tag-Assisted Transformer Encoder, on sequences or on one token per modality.

    The steps of each modality pass through its own linear map and transformer block, and then
    through the projections that it shares with each other modality. A tag that encodes which
    modalities are missing is appended to every token. The tokens of all modalities pass through an
    encoding block (and in training a decoding block), and attention pools them.

    Single modality, ``others_missing``: the same network with all other modalities absent.

    Example:
        >>> fusion = Tagged({"audio": 2, "text": 3}, num_classes=4, width=12)
        >>> fusion({"audio": torch.randn(5, 2), "text": torch.randn(5, 3)}).shape  # one token each
        torch.Size([5, 4])
        >>> fusion({"audio": torch.randn(5, 7, 2), "text": torch.randn(5, 3)}).shape  # 7 + 1 tokens
        torch.Size([5, 4])

        The tag of a sample that has everything, and of one without text:

        >>> present = {"audio": torch.tensor([True, True]), "text": torch.tensor([True, False])}
        >>> fusion.tag(present, 2, torch.device("cpu"))
        tensor([[1., 0., 0.],
                [0., 0., 1.]])
    """

    unimodal_rule = "others_missing"
    mixes_modalities = True
    takes_sequences = True

    def __init__(
        self,
        feature_dims: Mapping[str, int],
        num_classes: int,
        *,
        width: int = 96,
        num_heads: int = 4,
        dropout: float = 0.2,
    ) -> None:
        """Build the network.

        Args:
            feature_dims: Modality -> width of its feature, at least two.
            num_classes: Number of classes C.
            width: Width of the tokens, a multiple of ``num_heads``. Each of the M - 1 pairs that a
                modality is in projects to width // (M - 1) of it. The published code has 300, for
                sequences.
            num_heads: Number of attention heads.
            dropout: Dropout in training at the four places of a standard transformer block: the
                attention weights, the hidden layer, and the outputs of both sublayers.

        Raises:
            ConfigError: If a number is out of range.
        """
        super().__init__(feature_dims, num_classes)
        num_modalities = len(feature_dims)
        if num_modalities < 2 or num_heads < 1 or width < num_heads * (num_modalities - 1):
            raise ConfigError(
                "fusion Tagged needs at least two modalities, num_heads >= 1 and width >= "
                "num_heads * (number of modalities - 1), got "
                f"{num_modalities} modalities, num_heads {num_heads} and width {width}"
            )
        if width % num_heads:
            raise ConfigError(
                f"fusion Tagged: width {width} is no multiple of num_heads {num_heads}. Use width "
                f"{width - width % num_heads} or {width - width % num_heads + num_heads}."
            )
        names = list(feature_dims)
        pair_width = width // (num_modalities - 1)
        self.tag_width = num_modalities + 1
        # The width of tokens with their tags must be a multiple of the number of heads, too.
        min_width = pair_width * (num_modalities - 1) + self.tag_width
        self.tagged_width = -(-min_width // num_heads) * num_heads
        self.inputs = nn.ModuleDict(
            {name: nn.Linear(dim, width, bias=False) for name, dim in feature_dims.items()}
        )
        self.blocks = nn.ModuleDict({name: _block(width, num_heads, dropout) for name in names})
        self.pairs = list(combinations(names, 2))
        self.shared = nn.ModuleDict(
            {f"{a}_{b}": nn.Linear(width, pair_width, bias=False) for a, b in self.pairs}
        )
        self.encode = _block(self.tagged_width, num_heads, dropout)
        self.decode = _block(self.tagged_width, num_heads, dropout)
        self.gate_u = nn.Linear(self.tagged_width, self.tagged_width, bias=False)
        self.gate_m = nn.Linear(self.tagged_width, self.tagged_width, bias=False)
        self.gate_r = nn.Linear(self.tagged_width, 1, bias=False)
        self.hidden = nn.Linear(self.tagged_width, width, bias=False)
        self.classifier = nn.Linear(width, num_classes)

    def forward(self, features: Mapping[str, Tensor], present: Present = None) -> Tensor:
        """Compute the fused logits of features (B, D_m) or sequences (B, T_m, D_m)."""
        tokens, is_token = self.tokens_of(features, present)
        return self.classify(self.encode_tokens(tokens, is_token), is_token)

    def tag(self, present: Present, size: int, device: torch.device) -> Tensor:
        """Compute the tags of samples.

        Args:
            present: Modality -> (B,) bool; None if nothing is missing.
            size: Number of samples B.
            device: Device of the tags.

        Returns:
            Tags (B, M + 1) of zeros and ones: the first entry is 1 if nothing is missing, the
            others are 1 for each missing modality.
        """
        if present is None:
            missing = torch.zeros(size, len(self.feature_dims), device=device)
        else:
            missing = torch.stack([~present[name] for name in self.feature_dims], dim=1).float()
        return torch.cat([(missing.sum(dim=1, keepdim=True) == 0).float(), missing], dim=1)

    def tokens_of(
        self, features: Mapping[str, Tensor], present: Present = None
    ) -> tuple[Tensor, Tensor | None]:
        """Compute the tokens of all modalities, each with the tag at its end.

        Args:
            features: Modality -> (B, D_m), one token, or (B, T_m, D_m), T_m tokens of which those
                that are all zero are padding.
            present: Modality -> (B,) bool; None if nothing is missing.

        Returns:
            Tokens (B, T, tagged_width), those of absent modalities zero except for the tag; and
            (B, T) bool, false for padding, or None if all features are vectors. An absent modality
            has one token.
        """
        features = self.zero_absent(features, present)
        is_token = self._is_token(features)
        names = list(self.feature_dims)
        tokens = []
        for name in names:
            x = features[name] if features[name].ndim == 3 else features[name][:, None]
            padding = None if is_token is None else ~is_token[name]
            x = self.blocks[name](self.inputs[name](x), src_key_padding_mask=padding)
            projections = [self.shared[f"{a}_{b}"] for a, b in self.pairs if name in (a, b)]
            token = torch.cat([project(x) for project in projections], dim=2)
            if present is not None:
                token = torch.where(present[name][:, None, None], token, torch.zeros_like(token))
            tokens.append(token)
        joined = torch.cat(tokens, dim=1)
        tag = self.tag(present, joined.shape[0], joined.device)
        joined = nn.functional.pad(
            joined, (0, self.tagged_width - joined.shape[2] - self.tag_width)
        )
        joined = torch.cat([joined, tag[:, None].expand(-1, joined.shape[1], -1)], dim=2)
        return joined, None if is_token is None else torch.cat(list(is_token.values()), dim=1)

    def _is_token(self, features: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
        """Return which steps of each modality are not padding; None if all are vectors."""
        if all(value.ndim == 2 for value in features.values()):
            return None
        is_token = {}
        for name in self.feature_dims:
            value = features[name]
            if value.ndim == 2:
                is_token[name] = torch.ones(
                    value.shape[0], 1, dtype=torch.bool, device=value.device
                )
                continue
            steps = is_present_step(value)
            # An empty sequence keeps its first step: attention over no token is undefined.
            is_first = torch.arange(steps.shape[1], device=steps.device) == 0
            is_token[name] = steps | (is_first & ~steps.any(dim=1, keepdim=True))
        return is_token

    def encode_tokens(self, tokens: Tensor, is_token: Tensor | None = None) -> Tensor:
        """Encode tokens.

        Args:
            tokens: (B, T, tagged_width).
            is_token: (B, T) bool, false for padding; None if there is none.

        Returns:
            The encoding (B, T, tagged_width).
        """
        return self.encode(tokens, src_key_padding_mask=None if is_token is None else ~is_token)

    def decode_tokens(self, encoding: Tensor, is_token: Tensor | None = None) -> Tensor:
        """Decode an encoding: (B, T, tagged_width) to the same shape; see :meth:`encode_tokens`."""
        return self.decode(encoding, src_key_padding_mask=None if is_token is None else ~is_token)

    def pool(self, encoding: Tensor, is_token: Tensor | None = None) -> Tensor:
        """Pool an encoding (B, T, tagged_width) by gated attention to (B, tagged_width).

        Padding is left out.
        """
        gate = self.gate_u(encoding) * self.gate_m(encoding).sigmoid()
        scores = self.gate_r(gate)
        if is_token is not None:
            scores = scores.masked_fill(~is_token[:, :, None], -torch.inf)
        return (scores.softmax(dim=1) * encoding).sum(dim=1)

    def classify(self, encoding: Tensor, is_token: Tensor | None = None) -> Tensor:
        """Compute the logits (B, C) of an encoding (B, T, tagged_width)."""
        return self.classifier(self.hidden(self.pool(encoding, is_token)))

    def unimodal(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Compute the logits of each modality with all others absent."""
        return self.unimodal_by_others_missing(features)


def _block(width: int, num_heads: int, dropout: float) -> nn.TransformerEncoderLayer:
    return nn.TransformerEncoderLayer(
        width, num_heads, 4 * width, dropout=dropout, activation="relu", batch_first=True
    )
