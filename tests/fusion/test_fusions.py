"""Fusions: pinned numbers, sums of slices, absent modalities, any number of modalities."""

import pytest
import torch
from torch.testing import assert_close

from mla_lightning.errors import ConfigError
from mla_lightning.functional import energy_confidence, entropy_weights, fuse_logits
from mla_lightning.fusion import (
    BiGated,
    Concat,
    EnergyFusion,
    FiLM,
    LateFusion,
    SharedHead,
    Sum,
)

DIMS = {"audio": 2, "visual": 2}
H = {"audio": torch.tensor([[1.0, -1.0]]), "visual": torch.tensor([[2.0, 1.0]])}
ALL = (Sum, Concat, FiLM, BiGated, LateFusion, SharedHead, EnergyFusion)
NAMES = ("audio", "visual", "text")


def near(actual, *expected):
    assert_close(actual, torch.tensor([list(expected)]), atol=2e-6, rtol=0)


def fill(layer, weight, bias):
    layer.weight.data = torch.tensor(weight, dtype=torch.float32)
    layer.bias.data = torch.tensor(bias, dtype=torch.float32)


def random_case(fusion, num_modalities=3, widths=(4, 4, 4), size=5, **options):
    torch.manual_seed(0)
    dims = dict(zip(NAMES[:num_modalities], widths, strict=False))
    built = fusion(dims, 3, **options)
    for parameter in built.parameters():
        torch.nn.init.normal_(parameter, std=0.7)
    return built, {name: torch.randn(size, width) for name, width in dims.items()}


def test_concat():  # C
    fusion = Concat(DIMS, 2)
    fill(fusion.head, [[1, 2, -1, 0.5], [0, 1, 1, -2]], [0.2, -0.4])
    near(fusion(H), -2.3, -1.4)
    logits = fusion.unimodal(H)
    near(logits["audio"], -0.9, -1.2)
    near(logits["visual"], -1.4, -0.2)
    fusion.unimodal_rule = "zero_feature"
    near(fusion.unimodal(H)["audio"], -0.8, -1.4)


def test_film():  # F
    fusion = FiLM(DIMS, 2)
    fill(fusion.film, [[1, 0], [0, 2], [0.5, 0.5], [-1, 1]], [1, 1, 0, 0])
    fill(fusion.head, [[1, -1], [2, 0.5]], [0.1, 0.2])
    near(fusion(H), 7.1, 6.7)
    near(fusion.unimodal(H)["audio"], 2.1, -0.8)
    near(fusion.unimodal(H)["visual"], 1.1, 4.7)


def test_bigated():  # G
    fusion = BiGated(DIMS, 2)
    fill(fusion.projections["audio"], [[1, 0], [0, 1]], [0, 1])
    fill(fusion.projections["visual"], [[2, 0], [0, 1]], [1, 0])
    fill(fusion.head, [[1, -1], [2, 0.5]], [0.1, 0.2])
    near(fusion(H), 3.255293, 7.760586)
    near(fusion.unimodal(H)["audio"], 0.831059, 1.662117)
    near(fusion.unimodal(H)["visual"], 1.868941, 5.565529)


def test_energy():  # Q
    fusion = EnergyFusion({"audio": 3, "visual": 3}, 3)
    for head in fusion.heads.values():
        fill(head, torch.eye(3).tolist(), [0, 0, 0])
    features = {
        "audio": torch.tensor([[2.0, 0, 0], [0, 1.0, 0]]),
        "visual": torch.tensor([[0, 0, 1.0], [0, 3.0, 0]]),
    }
    fused = fusion(features)
    assert_close(
        fused, torch.tensor([[0.447909, 0, 0.155144], [0, 1.083621, 0]]), atol=2e-6, rtol=0
    )
    loss = torch.nn.functional.cross_entropy(fused, torch.tensor([0, 1]))
    assert loss.item() == pytest.approx(0.693058, abs=2e-6)


@pytest.mark.parametrize("detach", [True, False])
def test_energy_detaches_its_confidence_if_set(detach):
    fusion, features = random_case(EnergyFusion, detach_confidence=detach)
    logits = {m: z.detach().requires_grad_() for m, z in fusion.unimodal(features).items()}
    fusion.unimodal = lambda features: logits
    fusion(features)[:, 0].sum().backward()
    detached_gradient = torch.zeros_like(logits["audio"])
    detached_gradient[:, 0] = energy_confidence(logits["audio"]).detach()
    assert torch.allclose(logits["audio"].grad, detached_gradient) is detach


@pytest.mark.parametrize("num_modalities", [2, 3])
@pytest.mark.parametrize("fusion", ALL)
def test_any_number_of_modalities_of_any_width(fusion, num_modalities):
    built, features = random_case(fusion, num_modalities, widths=(3, 4, 5))
    assert built(features).shape == (5, 3)
    own_logits = built.unimodal(features)
    assert list(own_logits) == list(features)
    assert all(logits.shape == (5, 3) for logits in own_logits.values())
    assert built.unimodal_rule in ("own_head", "slice", "zero_feature", "shared_head")


@pytest.mark.parametrize("fusion", ALL)
def test_own_logits_of_a_modality_depend_on_it_alone(fusion):
    built, features = random_case(fusion)
    changed = {**features, "visual": features["visual"] + 1}
    before, after = built.unimodal(features), built.unimodal(changed)
    assert torch.equal(before["audio"], after["audio"])
    assert torch.equal(before["text"], after["text"])
    assert not torch.allclose(before["visual"], after["visual"])
    assert not torch.allclose(built(features), built(changed))


@pytest.mark.parametrize("fusion", ALL)
def test_features_of_absent_modalities_have_no_effect(fusion):
    built, features = random_case(fusion)
    present = {name: torch.ones(5, dtype=torch.bool) for name in features}
    assert_close(built(features, present), built(features))
    present["visual"] = torch.tensor([True, False, True, False, True])
    poisoned = {k: v.clone() for k, v in features.items()}
    poisoned["visual"][~present["visual"]] = torch.nan
    fused = built(poisoned, present)
    assert_close(fused, built(features, present))
    assert_close(fused[present["visual"]], built(features)[present["visual"]])
    assert not torch.allclose(fused[1], built(features)[1])


def test_slices_add_up_to_concat():
    built, features = random_case(Concat, widths=(3, 4, 5))
    assert_close(sum(built.unimodal(features).values()), built(features))


def test_sum_is_concat_with_its_weights_side_by_side():
    sum_fusion, features = random_case(Sum, widths=(3, 4, 5))
    concat = Concat({"audio": 3, "visual": 4, "text": 5}, 3)
    heads = sum_fusion.heads.values()
    concat.head.weight.data = torch.cat([head.weight for head in heads], dim=1)
    concat.head.bias.data = sum(head.bias for head in heads)
    assert_close(concat(features), sum_fusion(features))


@pytest.mark.parametrize("fusion", [FiLM, BiGated])
def test_own_logits_are_those_with_zeros_for_the_other_features(fusion):
    built, features = random_case(fusion)
    visual_only = {name: torch.zeros_like(value) for name, value in features.items()}
    visual_only["visual"] = features["visual"]
    assert_close(built.unimodal(features)["visual"], built(visual_only))


def test_film_with_scale_1_and_shift_0_equals_its_head():
    built, features = random_case(FiLM, 2)
    torch.nn.init.zeros_(built.film.weight)
    built.film.bias.data = torch.tensor([1.0] * 4 + [0.0] * 4)
    assert_close(built(features), built.head(features["visual"]))


def test_the_modulated_or_gated_modality_is_an_option():
    film, features = random_case(FiLM, 2)
    swapped_film = FiLM({"audio": 4, "visual": 4}, 3, modulated="audio")
    swapped_film.load_state_dict(film.state_dict())
    swapped_features = {"audio": features["visual"], "visual": features["audio"]}
    assert_close(swapped_film(swapped_features), film(features))
    gate, features = random_case(BiGated, 2)
    swapped_gate = BiGated({"audio": 4, "visual": 4}, 3, gated="audio")
    swapped = {"audio": "visual", "visual": "audio"}
    swapped_gate.load_state_dict(
        {
            ".".join(swapped.get(word, word) for word in key.split(".")): value
            for key, value in gate.state_dict().items()
        }
    )
    assert_close(swapped_gate({swapped[m]: h for m, h in features.items()}), gate(features))


@pytest.mark.parametrize("fusion", [LateFusion, SharedHead])
def test_weightings_of_logits(fusion):
    def fused(weighting):
        built, features = random_case(fusion, weighting=weighting)
        logits = torch.stack([*built.unimodal(features).values()])
        return built(features), logits

    mean, logits = fused("mean")
    assert_close(mean, logits.mean(dim=0))
    assert_close(fused("entropy")[0], fuse_logits(entropy_weights(logits), logits))
    weights = torch.tensor([0.2, 0.3, 0.5])
    assert_close(fused([0.2, 0.3, 0.5])[0], torch.einsum("m,mbc->bc", weights, logits))
    assert not torch.allclose(fused("batch_entropy")[0], fused("entropy")[0])


def test_mean_of_probabilities_is_not_mean_of_logits():
    built, features = random_case(LateFusion, weighting="mean_probability")
    logits = torch.stack([*built.unimodal(features).values()])
    assert_close(built(features).softmax(-1), logits.softmax(-1).mean(dim=0))
    assert not torch.allclose(built(features).softmax(-1), logits.mean(dim=0).softmax(-1))


def test_the_shared_head_has_adapters_for_other_widths_only():
    built, _ = random_case(SharedHead, widths=(4, 4, 4))
    assert not built.adapters
    built, features = random_case(SharedHead, widths=(3, 5, 5))
    assert set(built.adapters) == {"audio"}
    assert built.head_input("audio", features["audio"]).shape == (5, 5)
    assert set(random_case(SharedHead, widths=(3, 5, 5), dim=7)[0].adapters) == set(NAMES)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Concat(DIMS, 2, unimodal_rule="slices"), "Did you mean 'slice'"),
        (lambda: FiLM(DIMS, 2, modulated="visul"), "Did you mean 'visual'"),
        (lambda: BiGated(DIMS, 2, gated="text"), "Modalities: audio, visual"),
        (lambda: LateFusion(DIMS, 2, weighting="entropi"), "Did you mean 'entropy'"),
        (lambda: SharedHead(DIMS, 2, weighting=[1.0]), "2 numbers"),
        (lambda: SharedHead(DIMS, 2, dim=0), "dim must be at least 1"),
    ],
)
def test_bad_options(build, message):
    with pytest.raises(ConfigError, match=message):
        build()
