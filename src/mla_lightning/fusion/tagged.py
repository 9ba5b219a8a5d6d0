"""TATE's network: modalities projected pairwise, tagged by what is missing, and attended to."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations

import torch
from torch import Tensor, nn

from mla_lightning.errors import ConfigError
from mla_lightning.functional.sequences import steps_there
from mla_lightning.fusion.base import Fusion, Present


class Tagged(Fusion):
    """Tag-Assisted Transformer Encoder, on sequences or on one token per modality.

    Each modality's steps go through a linear map and a transformer block of its own, then
    through the projections that it shares with each other modality; the tokens of all modalities,
    with a tag that tells what is missing, go through an encoding and a decoding block; attention
    pools them. Single modality: the same network, all others missing.
    """

    unimodal_rule = "others_missing"
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
            width: Width of the tokens, rounded down so that it divides among pairs and heads. The
                published code has 300, for sequences.
            num_heads: Attention heads.
            dropout: Dropout of attention.

        Raises:
            ConfigError: If a number is out of range.
        """
        super().__init__(feature_dims, num_classes)
        num = len(feature_dims)
        if num < 2 or num_heads < 1 or width < num_heads * (num - 1):
            raise ConfigError("fusion Tagged needs two modalities, and width >= heads * pairs")
        names = list(feature_dims)
        part = width // (num - 1)
        self.tag_width = num + 1
        # Tokens with their tags must divide among the heads, too.
        self.wide = -(-(part * (num - 1) + self.tag_width) // num_heads) * num_heads
        self.inputs = nn.ModuleDict(
            {name: nn.Linear(own, width, bias=False) for name, own in feature_dims.items()}
        )
        self.blocks = nn.ModuleDict({name: _block(width, num_heads, dropout) for name in names})
        self.pairs = list(combinations(names, 2))
        self.shared = nn.ModuleDict(
            {f"{a}_{b}": nn.Linear(width, part, bias=False) for a, b in self.pairs}
        )
        self.encode = _block(self.wide, num_heads, dropout)
        self.decode = _block(self.wide, num_heads, dropout)
        self.gate_u = nn.Linear(self.wide, self.wide, bias=False)
        self.gate_m = nn.Linear(self.wide, self.wide, bias=False)
        self.gate_r = nn.Linear(self.wide, 1, bias=False)
        self.hidden = nn.Linear(self.wide, width, bias=False)
        self.classifier = nn.Linear(width, num_classes)

    def forward(self, features: Mapping[str, Tensor], present: Present = None) -> Tensor:
        """Classify the pooled encoding."""
        tokens, there = self.tagged(features, present)
        return self.classified(self.encoded(tokens, there), there)

    def tag(self, present: Present, size: int, device: torch.device) -> Tensor:
        """Tell what is missing: (B, M + 1), the first bit for nothing, one for each modality."""
        if present is None:
            missing = torch.zeros(size, len(self.feature_dims), device=device)
        else:
            missing = torch.stack([~present[name] for name in self.feature_dims], dim=1).float()
        return torch.cat([(missing.sum(dim=1, keepdim=True) == 0).float(), missing], dim=1)

    def tagged(
        self, features: Mapping[str, Tensor], present: Present = None
    ) -> tuple[Tensor, Tensor | None]:
        """Make the tokens, the tag at the end of each.

        Args:
            features: Modality -> (B, D_m), one token, or (B, T_m, D_m), T_m tokens of which those
                that are all zero are padding.
            present: Modality -> (B,) bool; None if nothing is missing.

        Returns:
            Tokens (B, T, wide), those of absent modalities zero but for the tag, and (B, T) bool,
            which of them are no padding; None for vectors alone. An absent modality has one token.
        """
        given = self.zeroed(features, present)
        there = self._there(given)
        names = list(self.feature_dims)
        tokens = []
        for name in names:
            x = given[name] if given[name].ndim == 3 else given[name][:, None]
            padding = None if there is None else ~there[name]
            x = self.blocks[name](self.inputs[name](x), src_key_padding_mask=padding)
            own = [self.shared[f"{a}_{b}"] for a, b in self.pairs if name in (a, b)]
            token = torch.cat([project(x) for project in own], dim=2)
            if present is not None:
                token = torch.where(present[name][:, None, None], token, torch.zeros_like(token))
            tokens.append(token)
        joined = torch.cat(tokens, dim=1)
        tag = self.tag(present, len(joined), joined.device)
        joined = nn.functional.pad(joined, (0, self.wide - joined.shape[2] - self.tag_width))
        joined = torch.cat([joined, tag[:, None].expand(-1, joined.shape[1], -1)], dim=2)
        return joined, None if there is None else torch.cat(list(there.values()), dim=1)

    def _there(self, given: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
        if all(value.ndim == 2 for value in given.values()):
            return None
        found = {}
        for name in self.feature_dims:
            value = given[name]
            if value.ndim == 2:
                found[name] = torch.ones(len(value), 1, dtype=torch.bool, device=value.device)
                continue
            steps = steps_there(value)
            first = torch.arange(steps.shape[1], device=steps.device) == 0
            found[name] = steps | (first & ~steps.any(dim=1, keepdim=True))
        return found

    def encoded(self, tokens: Tensor, there: Tensor | None = None) -> Tensor:
        """Encode tokens: (B, T, wide) to the same shape."""
        return self.encode(tokens, src_key_padding_mask=None if there is None else ~there)

    def decoded(self, encoding: Tensor, there: Tensor | None = None) -> Tensor:
        """Decode an encoding: (B, T, wide) to the same shape."""
        return self.decode(encoding, src_key_padding_mask=None if there is None else ~there)

    def pooled(self, encoding: Tensor, there: Tensor | None = None) -> Tensor:
        """Pool tokens by gated attention: (B, T, wide) to (B, wide); padding has no part."""
        gate = self.gate_u(encoding) * self.gate_m(encoding).sigmoid()
        scores = self.gate_r(gate)
        if there is not None:
            scores = scores.masked_fill(~there[:, :, None], -torch.inf)
        return (scores.softmax(dim=1) * encoding).sum(dim=1)

    def classified(self, encoding: Tensor, there: Tensor | None = None) -> Tensor:
        """Compute logits of an encoding."""
        return self.classifier(self.hidden(self.pooled(encoding, there)))

    def unimodal(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Answer by each modality as if the others were missing."""
        return self.others_missing(features)


def _block(width: int, num_heads: int, dropout: float) -> nn.TransformerEncoderLayer:
    return nn.TransformerEncoderLayer(
        width, num_heads, 4 * width, dropout=dropout, activation="relu", batch_first=True
    )
