"""MMCosine: its formula, its invariance, and the released evaluation."""

from functools import partial

import pytest
import torch
from tests.methods.catalogue import build_method, incomplete_batch
from tests.methods.harness import batches, build, fit, weights
from torch.nn.functional import cross_entropy

from mla_lightning.errors import ConfigError
from mla_lightning.fusion import Concat, Cosine
from mla_lightning.methods.mmcosine import MMCosine


def features_and_fusion(**options):
    torch.manual_seed(0)
    features = {"audio": torch.randn(5, 2), "visual": torch.randn(5, 3)}
    return features, Cosine({"audio": 2, "visual": 3}, 4, **options)


def test_norms_of_features_and_of_weights_change_no_answer():
    features, fusion = features_and_fusion()
    fused, own = fusion(features), fusion.unimodal(features)
    longer = {name: h * torch.rand(5, 1) * 100 for name, h in features.items()}
    with torch.no_grad():
        for head in fusion.heads.values():
            head.weight.mul_(10 * torch.rand(4, 1) + 0.1)
    torch.testing.assert_close(fusion(longer), fused, rtol=1e-4, atol=1e-5)
    for name, z in fusion.unimodal(longer).items():
        torch.testing.assert_close(z, own[name], rtol=1e-4, atol=1e-5)
        assert z.abs().max() <= 10.0001


def test_the_term_of_an_absent_modality_is_zero():
    features, fusion = features_and_fusion()
    has = torch.tensor([True, False, True, True, True])
    present = {"audio": has, "visual": torch.ones(5, dtype=torch.bool)}
    own = fusion.unimodal(features)
    expected = own["audio"] * has[:, None] + own["visual"]
    assert torch.equal(fusion(features, present), expected)


def test_the_released_evaluation_is_not_normalised_and_training_is():
    features, fusion = features_and_fusion()
    _, released = features_and_fusion(released_eval=True)
    assert torch.equal(released(features), fusion(features))
    released.eval()
    expected = sum(h @ released.heads[m].weight.T for m, h in features.items())
    torch.testing.assert_close(released(features), expected)
    assert not torch.allclose(released(features), fusion.eval()(features))
    for name, z in fusion.unimodal(features).items():
        assert torch.equal(released.unimodal(features)[name], z)


@pytest.mark.parametrize("num_modalities", [2, 3])
def test_three_steps_are_a_plain_loop_with_missing_modalities(num_modalities):
    batch = incomplete_batch(num_modalities)
    ours = build_method("mmcosine", batch)
    plain = build_method("mmcosine", batch).double()
    fit(ours, [batch], epochs=3, precision="64-true")
    for _ in range(3):
        fused = 0.0
        for m, encoder in plain.encoders.items():
            h = batch["inputs"][m] @ encoder.weight.T + encoder.bias
            weight = plain.fusion.heads[m].weight
            norms = h.square().sum(dim=1).sqrt()[:, None] * weight.square().sum(dim=1).sqrt()
            fused = fused + 10 * h @ weight.T / norms * batch["present"][m][:, None]
        parameters = [*plain.parameters()]
        gradients = torch.autograd.grad(cross_entropy(fused, batch["label"]), parameters)
        with torch.no_grad():
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter -= 0.05 * gradient
    for key, value in plain.named_parameters():
        torch.testing.assert_close(ours.get_parameter(key), value, rtol=1e-8, atol=1e-10)


def test_the_scale_changes_the_training():
    data = batches(2)
    runs = []
    for scale in (10.0, 15.0):
        module = build(MMCosine, partial(Cosine, scale=scale), data)
        fit(module, data)
        runs.append(weights(module))
    assert not torch.equal(*runs)


def test_the_released_evaluation_changes_fused_answers_alone():
    data = batches(1)
    usual, released = (
        build(MMCosine, partial(Cosine, released_eval=is_released), data)
        for is_released in (False, True)
    )
    assert fit(usual, data) == fit(released, data)
    assert torch.equal(weights(usual), weights(released))
    answers = [module.eval().evaluate_batch(data[0]) for module in (usual, released)]
    assert not torch.allclose(answers[0]["multi"], answers[1]["multi"])
    assert all(torch.equal(answers[0][m], answers[1][m]) for m in usual.modalities)


def test_another_fusion_and_a_scale_of_zero_are_refused():
    with pytest.raises(ConfigError, match="with fusion Concat this is joint training"):
        build(MMCosine, Concat, batches(1))
    with pytest.raises(ConfigError, match="scale must be > 0"):
        build(MMCosine, partial(Cosine, scale=-1.0), batches(1))
