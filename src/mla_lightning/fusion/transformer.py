"""A late-fusion transformer: modalities attend to each other, absent ones are masked."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from mla_lightning.errors import ConfigError
from mla_lightning.functional import at_least_single
from mla_lightning.functional.sequences import is_present_step, sinusoidal_positions
from mla_lightning.fusion.base import Fusion, Present, linear


class TransformerFusion(Fusion):
    """A transformer over the tokens of all modalities; a linear head reads its class token.

    A feature (B, D_m) is one token, a sequence (B, T_m, D_m) is T_m. Each modality has a linear map
    to the common width, whose bias is its embedding; steps of a sequence also get sinusoidal
    positions. The tokens follow a learnt class token. Nothing attends to the tokens of absent
    modalities and to padding, so absent modalities are left out and not imputed.

    With ``num_bottlenecks`` (MBT), each modality has layers of its own and a copy of the class
    token, and attends to itself; from ``fusion_layer`` on also to the bottleneck tokens. Each
    modality computes its version of these; the next layer starts with their mean over the present
    modalities. The head reads the mean of the class tokens of these, so it gives the mean of their
    logits.

    Single modality, ``others_missing``: the same network with all other modalities absent.

    The layers and the masks are those of SimBaMM (Rheude et al., arXiv 2512.22991), whose public
    code normalises after each sublayer (``norm_first=False``), and has positions of all tokens
    in a row in place of embeddings of the modalities. Bottlenecks: Attention Bottlenecks for
    Multimodal Fusion (Nagrani et al., NeurIPS 2021).

    Example:
        >>> fusion = TransformerFusion({"audio": 2, "text": 3}, num_classes=4, width=8).eval()
        >>> audio, text = torch.randn(5, 2), torch.randn(5, 3)
        >>> fusion({"audio": audio, "text": text}).shape  # one token each
        torch.Size([5, 4])
        >>> fusion({"audio": torch.randn(5, 7, 2), "text": text}).shape  # 7 + 1 tokens
        torch.Size([5, 4])

        What an absent modality holds reaches no output:

        >>> present = {"audio": torch.zeros(5, dtype=torch.bool), "text": torch.ones(5).bool()}
        >>> fused = fusion({"audio": audio, "text": text}, present)
        >>> torch.equal(fused, fusion({"audio": audio + torch.nan, "text": text}, present))
        True
        >>> torch.allclose(fused, fusion.unimodal({"audio": audio, "text": text})["text"])
        True
    """

    unimodal_rule = "others_missing"
    mixes_modalities = True
    takes_sequences = True

    def __init__(
        self,
        feature_dims: Mapping[str, int],
        num_classes: int,
        *,
        width: int = 128,
        num_layers: int = 2,
        num_heads: int = 4,
        mlp_ratio: float = 2.0,
        dropout: float = 0.1,
        norm_first: bool = True,
        num_bottlenecks: int = 0,
        fusion_layer: int = 0,
    ) -> None:
        """Build the network.

        Args:
            feature_dims: Modality -> width of its feature.
            num_classes: Number of classes C.
            width: Width of the tokens, a multiple of ``num_heads``.
            num_layers: Number of layers, at least 1.
            num_heads: Number of attention heads.
            mlp_ratio: Width of a layer's hidden units, as a multiple of ``width``; > 0.
            dropout: Dropout in training at the four places of a transformer layer, in [0, 1).
            norm_first: Whether each sublayer normalises its input, and the class token is
                normalised at the end; otherwise the output of each sublayer is normalised.
            num_bottlenecks: Number of bottleneck tokens; 0 for attention among all tokens.
            fusion_layer: First layer, from 0, with bottlenecks.

        Raises:
            ConfigError: If a number is out of range or would have no effect.
        """
        super().__init__(feature_dims, num_classes)
        _check(num_layers, num_heads, width, mlp_ratio, dropout)
        _check_bottlenecks(num_bottlenecks, fusion_layer, num_layers)
        self.num_bottlenecks, self.fusion_layer = num_bottlenecks, fusion_layer
        projections = {name: linear(dim, width) for name, dim in feature_dims.items()}
        self.projections = nn.ModuleDict(projections)
        self.class_token = nn.Parameter(torch.randn(width) * 0.02)
        if num_bottlenecks:
            self.bottlenecks = nn.Parameter(torch.randn(num_bottlenecks, width) * 0.02)

        def layers() -> nn.ModuleList:
            return nn.ModuleList(
                nn.TransformerEncoderLayer(
                    width,
                    num_heads,
                    max(1, round(mlp_ratio * width)),
                    dropout,
                    batch_first=True,
                    norm_first=norm_first,
                )
                for _ in range(num_layers)
            )

        if num_bottlenecks:
            self.layers_of = nn.ModuleDict({name: layers() for name in feature_dims})
        else:
            self.layers = layers()
        self.norm = nn.LayerNorm(width) if norm_first else nn.Identity()
        self.head = linear(width, num_classes)
        for learnt in (*(layer.bias for layer in projections.values()), self.head.weight):
            nn.init.normal_(learnt, std=0.02)  # as the tokens: the head reads numbers of size 1

    def forward(self, features: Mapping[str, Tensor], present: Present = None) -> Tensor:
        """Compute the fused logits of features (B, D_m) or sequences (B, T_m, D_m)."""
        features = self.zero_absent(features, present)
        tokens = {name: self._tokens(name, features[name]) for name in self.feature_dims}
        is_padding = {
            name: _is_padding(features[name], None if present is None else present[name])
            for name in self.feature_dims
        }
        if self.num_bottlenecks:
            read = self._attend_by_bottlenecks(tokens, is_padding, present)
        else:
            read = self._attend(tokens, is_padding)
        return self.head(read)

    def _tokens(self, name: str, feature: Tensor) -> Tensor:
        """Return the tokens (B, T_m, width) of a modality."""
        tokens = at_least_single(self.projections[name](feature))
        if feature.ndim == 2:
            return tokens[:, None]
        return tokens + sinusoidal_positions(*tokens.shape[1:]).to(tokens)

    def _attend(self, tokens: dict[str, Tensor], is_padding: dict[str, Tensor]) -> Tensor:
        """Return the class token (B, width) after attention among all tokens."""
        x = torch.cat([self._begin(self.class_token[None], tokens), *tokens.values()], dim=1)
        mask = _with_tokens(torch.cat([*is_padding.values()], dim=1), before=1)
        for layer in self.layers:
            x = layer(x, src_key_padding_mask=mask)
        return self.norm(x[:, 0])

    def _attend_by_bottlenecks(
        self, tokens: dict[str, Tensor], is_padding: dict[str, Tensor], present: Present
    ) -> Tensor:
        """Return the mean class token (B, width) of the present modalities, linked by few."""
        count, start = self.num_bottlenecks, self._begin(self.class_token[None], tokens)
        x = {name: torch.cat([start, values], dim=1) for name, values in tokens.items()}
        shared = self._begin(self.bottlenecks, tokens)
        layers = zip(*(self.layers_of[name].children() for name in tokens), strict=True)
        for number, layers_of_all in enumerate(layers):
            is_fused = number >= self.fusion_layer
            versions = {}
            for layer, (name, values) in zip(layers_of_all, x.items(), strict=True):
                mask = _with_tokens(is_padding[name], before=1, after=count if is_fused else 0)
                joined = torch.cat([values, shared], dim=1) if is_fused else values
                out = layer(joined, src_key_padding_mask=mask)
                x[name], versions[name] = out.tensor_split([values.shape[1]], dim=1)
            if is_fused:
                shared = _mean_of_present(versions, present)
        return _mean_of_present({name: self.norm(v[:, 0]) for name, v in x.items()}, present)

    def _begin(self, learnt: Tensor, tokens: dict[str, Tensor]) -> Tensor:
        """Return learnt tokens (N, width) for each sample, (B, N, width)."""
        first = next(iter(tokens.values()))
        return learnt.expand(first.shape[0], -1, -1)

    def unimodal(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Compute the logits of each modality with all others absent."""
        return self.unimodal_by_others_missing(features)


def _is_padding(feature: Tensor, has: Tensor | None) -> Tensor:
    """Return which tokens of a modality nothing attends to (B, T_m); absent ones are zero."""
    if feature.ndim == 3:
        return ~is_present_step(feature)
    if has is None:
        return torch.zeros(feature.shape[0], 1, dtype=torch.bool, device=feature.device)
    return ~has[:, None]


def _with_tokens(is_padding: Tensor, *, before: int, after: int = 0) -> Tensor:
    """Return a padding mask (B, T) with tokens before and after it that are none."""
    return nn.functional.pad(is_padding, (before, after), value=False)


def _mean_of_present(values: dict[str, Tensor], present: Present) -> Tensor:
    """Return the mean over the modalities that a sample has, zeros if it has none."""
    stacked = torch.stack([*values.values()])
    if present is None:
        return stacked.mean(dim=0)
    has_MB = torch.stack([present[name] for name in values])
    has = has_MB.view(*has_MB.shape, *[1] * (stacked.ndim - 2))
    kept = torch.where(has, stacked, torch.zeros_like(stacked))
    return kept.sum(dim=0) / has.sum(dim=0).clamp(min=1)


def _check(num_layers: int, num_heads: int, width: int, mlp_ratio: float, dropout: float) -> None:
    if min(num_layers, num_heads) < 1 or width < num_heads or mlp_ratio <= 0:
        raise ConfigError(
            "fusion TransformerFusion needs num_layers >= 1, num_heads >= 1, width >= num_heads "
            f"and mlp_ratio > 0, got {num_layers}, {num_heads}, {width} and {mlp_ratio}"
        )
    if width % num_heads:
        raise ConfigError(
            f"fusion TransformerFusion: width {width} is no multiple of num_heads {num_heads}. Use "
            f"width {width - width % num_heads} or {width - width % num_heads + num_heads}."
        )
    if not 0 <= dropout < 1:
        raise ConfigError(f"fusion TransformerFusion: dropout must be in [0, 1), got {dropout}")


def _check_bottlenecks(num_bottlenecks: int, fusion_layer: int, num_layers: int) -> None:
    if num_bottlenecks < 0 or not 0 <= fusion_layer < num_layers:
        raise ConfigError(
            "fusion TransformerFusion needs num_bottlenecks >= 0 and 0 <= fusion_layer < "
            f"num_layers, got {num_bottlenecks}, {fusion_layer} and {num_layers}"
        )
    if fusion_layer and not num_bottlenecks:
        raise ConfigError(
            f"fusion TransformerFusion: fusion_layer={fusion_layer} has no effect without "
            "bottlenecks. Use num_bottlenecks=4, or leave fusion_layer out."
        )
