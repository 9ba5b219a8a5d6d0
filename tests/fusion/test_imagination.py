"""Networks that imagine what is absent, against numbers computed by hand."""

import pytest
import torch

from mla_lightning.errors import ConfigError
from mla_lightning.fusion.cross_partial import CrossPartial
from mla_lightning.fusion.imagination import (
    AutoencodedFusion,
    InvariantCascade,
    ResidualCascade,
)
from mla_lightning.fusion.latent_codes import InvariantCodes, LatentCodes
from mla_lightning.fusion.padded import CanonicalFusion, PaddedFusion
from mla_lightning.fusion.tagged import Tagged

EYE = torch.eye(2)


def simple(cascade):
    """Give every encoder the identity and every decoder half of it."""
    with torch.no_grad():
        for name, parameter in cascade.named_parameters():
            if parameter.ndim == 1:
                parameter.zero_()
            else:
                parameter.copy_(0.5 * EYE if name.startswith("decoders") else EYE)
    return cascade


def test_the_residual_cascade_is_the_published_recursion():
    out, codes = simple(ResidualCascade(2, [2], 2))(torch.tensor([[1.0, 2]]))
    assert out.tolist() == [[2.25, 4.5]]
    assert codes.tolist() == [[1, 2, 1.5, 3]]


@pytest.mark.parametrize(
    ("variant", "out", "codes"),
    [("head", [1, 0.5], [2, 2, 2, 1]), ("2022", [4.5, 3], [2, 2, 3, 2])],
)
def test_the_invariant_cascade_has_its_two_published_forms(variant, out, codes):
    cascade = simple(InvariantCascade(2, [2], 2, variant))
    found = cascade.imagine(torch.tensor([[1.0, 2]]), torch.tensor([[1.0, 0]]))
    assert found[0].tolist() == [out]
    assert found[1].tolist() == [codes]
    with pytest.raises(ConfigError, match="variant must be"):
        InvariantCascade(2, [2], 2, "2023")


DIMS = {"audio": 4, "image": 4, "text": 4}
FUSIONS = [
    AutoencodedFusion(DIMS, 3, layers=(6, 4)),
    AutoencodedFusion(DIMS, 3, layers=(6, 4), num_blocks=2),
    LatentCodes(DIMS, 3, layers=(6, 4), num_blocks=2),
    InvariantCodes(DIMS, 3, layers=(6, 4), num_blocks=2),
    PaddedFusion(DIMS, 3),
    CanonicalFusion(DIMS, 3, num_components=2),
    Tagged(DIMS, 3, width=12),
]


def filled(fusion):
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for buffer in fusion.buffers():
            if buffer.is_floating_point():
                buffer.copy_(torch.randn(buffer.shape, generator=generator))
    return fusion.eval()


@pytest.mark.parametrize("fusion", FUSIONS, ids=lambda f: type(f).__name__)
def test_what_is_absent_is_never_looked_at(fusion):
    fusion = filled(fusion)
    generator = torch.Generator().manual_seed(1)
    features = {m: torch.randn(5, 4, generator=generator) for m in DIMS}
    present = {m: torch.rand(5, generator=generator) < 0.6 for m in DIMS}
    present["audio"][:] = True
    fused = fusion(features, present)
    assert fused.shape == (5, 3)
    poisoned = {m: torch.where(present[m][:, None], x, float("nan")) for m, x in features.items()}
    assert torch.equal(fusion(poisoned, present), fused)
    assert not torch.allclose(fusion(features), fused)
    rows = torch.ones(5, dtype=torch.bool)
    alone = {m: rows if m == "image" else ~rows for m in DIMS}
    torch.testing.assert_close(fusion.unimodal(features)["image"], fusion(features, alone))


def test_codes_are_found_alike_in_any_batch_and_decode_what_is_there():
    torch.manual_seed(0)
    fusion = CrossPartial(DIMS, 3, num_latent=5, num_test_steps=400)
    fusion.prepare(12)
    fusion.label.copy_(torch.arange(12) % 3)
    truth = torch.randn(6, 5)
    with torch.no_grad():
        x = {m: truth @ fusion.weights[m] + fusion.biases[m] for m in DIMS}
    present = {m: torch.arange(6) % 3 != i for i, m in enumerate(DIMS)}
    codes = fusion.found(x, present)
    part = {m: v[2:4] for m, v in x.items()}
    has = {m: v[2:4] for m, v in present.items()}
    torch.testing.assert_close(fusion.found(part, has), codes[2:4], atol=1e-5, rtol=1e-5)
    for name in DIMS:
        rows = present[name]
        decoded = codes[rows] @ fusion.weights[name] + fusion.biases[name]
        assert (decoded - x[name][rows]).abs().max() < 0.05
    poisoned = {m: torch.where(present[m][:, None], v, float("nan")) for m, v in x.items()}
    assert torch.equal(fusion.found(poisoned, present), codes)


def test_the_tag_tells_what_is_missing():
    fusion = Tagged(DIMS, 3, width=12)
    present = {
        "audio": torch.tensor([True, False]),
        "image": torch.tensor([True, True]),
        "text": torch.tensor([True, False]),
    }
    assert fusion.tag(present, 2, torch.device("cpu")).tolist() == [[1, 0, 0, 0], [0, 1, 0, 1]]
    assert fusion.tag(None, 1, torch.device("cpu")).tolist() == [[1, 0, 0, 0]]
    features = {m: torch.randn(2, 4) for m in DIMS}
    tokens, there = fusion.tagged(features, present)
    assert there is None
    assert tokens.shape == (2, 3, fusion.wide)
    assert tokens[1, 0, :-4].abs().sum() == 0  # audio is absent there
    assert tokens[1, 1, :-4].abs().sum() > 0


def test_a_head_fitted_in_closed_form_separates_what_can_be_separated():
    fusion = PaddedFusion(DIMS, 3)
    label = torch.arange(60) % 3
    generator = torch.Generator().manual_seed(0)
    features = {
        m: 4 * torch.eye(3, 4)[label] + torch.randn(60, 4, generator=generator) for m in DIMS
    }
    fusion.fit_head(features, None, label)
    assert (fusion(features).argmax(dim=1) == label).double().mean() > 0.95
    two = PaddedFusion(DIMS, 2)
    two.fit_head(features, None, (label > 0).long())
    assert (two(features).argmax(dim=1) == (label > 0)).double().mean() > 0.9


def test_features_of_unequal_width_have_no_common_map():
    with pytest.raises(ConfigError, match="one map for all modalities"):
        InvariantCodes({"audio": 4, "text": 5}, 3)


def test_tate_attends_to_steps_and_never_to_padding():
    torch.manual_seed(0)
    fusion = Tagged(DIMS, 3, width=12).eval()
    features = {
        "audio": torch.randn(2, 5, 4),
        "image": torch.randn(2, 3, 4),
        "text": torch.randn(2, 4),
    }
    tokens, there = fusion.tagged(features)
    assert tokens.shape == (2, 9, fusion.wide)
    assert there.all()
    found = fusion(features)
    padded = {**features, "audio": torch.cat([features["audio"], torch.zeros(2, 4, 4)], dim=1)}
    torch.testing.assert_close(fusion(padded), found)
    longer = {**features, "audio": torch.cat([features["audio"], torch.ones(2, 1, 4)], dim=1)}
    assert (fusion(longer) - found).abs().max() > 1e-3
    as_one = {name: value[:, :1] if value.ndim == 3 else value for name, value in features.items()}
    vectors = {name: value.reshape(2, 4) for name, value in as_one.items()}
    torch.testing.assert_close(fusion(as_one), fusion(vectors))


def test_an_absent_sequence_is_one_zero_token_whatever_it_holds():
    torch.manual_seed(0)
    fusion = Tagged(DIMS, 3, width=12).eval()
    features = {name: torch.randn(2, 5, 4) for name in DIMS}
    present = {name: torch.tensor([True, name != "audio"]) for name in DIMS}
    _, there = fusion.tagged(features, present)
    assert there[1, :5].tolist() == [True, False, False, False, False]
    poisoned = {**features, "audio": features["audio"].clone()}
    poisoned["audio"][1] = float("nan")
    assert torch.equal(fusion(poisoned, present), fusion(features, present))
    assert fusion(features, present).isfinite().all()
