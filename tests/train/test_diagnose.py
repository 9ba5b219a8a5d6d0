"""What is computed after training, against values worked out by hand."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from mla_lightning.fusion.concat import Concat
from mla_lightning.fusion.energy import EnergyFusion
from mla_lightning.fusion.late import LateFusion
from mla_lightning.fusion.shared_head import SharedHead
from mla_lightning.metrics.calibration import temperature
from mla_lightning.metrics.flops import StepFlops
from mla_lightning.metrics.geometry import principal_plane
from mla_lightning.run.diagnose import (
    calibration_of,
    fusion_weights,
    parameters_of,
    planes_of,
    some_batches,
)
from mla_lightning.run.evaluate import Predictions

NAMES = ("a", "b")
WIDTHS = {"a": 3, "b": 3}


def answers_of(a, b, label, present=None):
    there = present or {m: torch.ones(len(label), dtype=torch.bool) for m in NAMES}
    logits = {"a": torch.tensor(a), "b": torch.tensor(b)}
    return Predictions(logits, torch.tensor(label), torch.arange(len(label)), {}, there)


def module_of(fusion):
    return SimpleNamespace(
        fusion=fusion, modalities=NAMES, selections=lambda: dict.fromkeys(("multi", *NAMES), "acc")
    )


def right_of(answers):
    return {m: z.argmax(dim=1) == answers.label for m, z in answers.logits.items()}


def test_fusion_weights_are_those_where_a_modality_is_right_and_where_it_is_wrong():
    fusion = SharedHead(WIDTHS, 2, weighting="entropy")
    # a is sure and right, then unsure and wrong; b is unsure throughout.
    answers = answers_of([[9.0, 0], [0.1, 0]], [[0.0, 0.2], [0, 0.2]], [0, 1])
    found = fusion_weights(module_of(fusion), answers, right_of(answers), 256)
    weights = fusion.weights(torch.stack([answers.logits[m] for m in NAMES]))
    assert found["a"]["when_right"] == pytest.approx(float(weights[0, 0]))
    assert found["a"]["when_wrong"] == pytest.approx(float(weights[0, 1]))
    assert found["b"]["when_right"] == pytest.approx(float(weights[1, 1]))
    assert found["b"]["when_wrong"] == pytest.approx(float(weights[1, 0]))
    assert found["a"]["when_right"] > found["a"]["when_wrong"] + 0.1
    assert found["a"]["mean"] + found["b"]["mean"] == pytest.approx(1)


def test_weights_of_whole_batches_are_of_the_batches_of_evaluation():
    fusion = SharedHead(WIDTHS, 2, weighting="batch_entropy")
    answers = answers_of(
        [[9.0, 0], [8, 0], [0, 0.1], [0, 0.3]], [[0.2, 0], [0.1, 0], [7, 0], [9, 0]], [0, 0, 1, 1]
    )
    module, right = module_of(fusion), right_of(answers)
    halves = fusion_weights(module, answers, right, 2)
    whole = fusion_weights(module, answers, right, 4)
    own = torch.stack([answers.logits[m] for m in NAMES])
    by_hand = torch.cat([fusion.weights(own[:, :2]), fusion.weights(own[:, 2:])], dim=1)
    assert halves["a"]["mean"] == pytest.approx(float(by_hand[0].double().mean()))
    assert halves["a"]["mean"] != pytest.approx(whole["a"]["mean"], abs=1e-3)


def test_energy_fusion_tells_its_confidences():
    fusion = EnergyFusion(WIDTHS, 2)
    there = {"a": torch.tensor([True, True]), "b": torch.tensor([True, False])}
    answers = answers_of([[2.0, 0], [0, 1.0]], [[1.0, 0], [5, 5]], [0, 0], there)
    right = right_of(answers)
    right["b"] = right["b"] & there["b"]
    found = fusion_weights(module_of(fusion), answers, right, 256)
    confidence = [np.logaddexp(2, 0) / 10, np.logaddexp(0, 1) / 10, np.logaddexp(1, 0) / 10]
    assert found["a"]["when_right"] == pytest.approx(confidence[0], rel=1e-5)
    assert found["a"]["when_wrong"] == pytest.approx(confidence[1], rel=1e-5)
    assert found["b"] == {"mean": pytest.approx(confidence[2], rel=1e-5)} | {
        "when_right": pytest.approx(confidence[2], rel=1e-5)
    }
    own = {"a": answers.logits["a"], "b": answers.logits["b"]}
    fused = sum(
        c[:, None] * z for c, z in zip(fusion.logit_weights(own), own.values(), strict=True)
    )
    fusion.unimodal = lambda features: own
    assert torch.allclose(fusion({}), fused)


def test_a_fusion_without_weights_has_none():
    answers = answers_of([[2.0, 0]], [[1.0, 0]], [0])
    assert fusion_weights(module_of(Concat(WIDTHS, 2)), answers, right_of(answers), 8) == {}
    assert LateFusion(WIDTHS, 2).logit_weights(answers.logits) is not None


def test_the_temperature_is_that_of_validation_and_not_of_the_test():
    # Three of four right at a logit gap of z: the best temperature is z / log 3.
    val = (torch.tensor([[3.0, 0]] * 4), torch.tensor([0, 0, 0, 1]))
    test = (torch.tensor([[3.0, 0]] * 10), torch.tensor([0] * 9 + [1]))
    rows = tuple(torch.ones(n, dtype=torch.bool) for n in (4, 10))
    found = calibration_of(val, test, rows)
    assert found["temperature"] == pytest.approx(3 / np.log(3), rel=1e-3)
    assert temperature(*test) == pytest.approx(3 / np.log(9), rel=1e-3)
    sure = 1 / (1 + np.exp(-3))
    assert found["before"]["width"]["ece"] == pytest.approx(abs(0.9 - sure), abs=1e-4)
    assert found["after"]["width"]["ece"] == pytest.approx(0.9 - 0.75, abs=1e-3)


def test_planes_are_fitted_to_what_is_there():
    generator = torch.Generator().manual_seed(0)
    features = {m: torch.randn(12, 5, generator=generator) for m in NAMES}
    there = {"a": torch.arange(12) % 3 > 0, "b": torch.ones(12, dtype=torch.bool)}
    answers = Predictions({}, torch.arange(12), torch.arange(12), features, there)
    found = planes_of(features, answers, "full", 0)
    expected = principal_plane({m: features[m][there[m]] for m in NAMES})
    for m in NAMES:
        assert np.allclose(found[f"pca/{m}"][there[m].numpy()], expected[m].float(), atol=1e-6)
        assert np.isnan(found[f"pca/{m}"][~there[m].numpy()]).all()
        assert np.isfinite(found[f"tsne/{m}"][there[m].numpy()]).all()
    absent = features["a"].masked_fill(~there["a"][:, None], 0)  # as evaluation hands them over
    again = planes_of({**features, "a": absent}, answers, "epoch", 0)
    assert np.array_equal(again["pca/b"], found["pca/b"])
    none = replace(answers, present={**there, "a": torch.zeros(12, dtype=torch.bool)})
    assert "pca/a" not in planes_of(features, none, "epoch", 0)


def test_parameters_belong_to_somebody_and_sum_up():
    class Method(nn.Module):
        modalities = NAMES

        def __init__(self):
            super().__init__()
            self.encoders = nn.ModuleDict({"a": nn.Linear(7, 3), "b": nn.Linear(7, 5)})
            self.fusion = SharedHead({"a": 3, "b": 5}, 2)
            self.teacher = nn.Linear(2, 2)
            self.again = self.encoders["a"]

    module = Method()
    # Encoders 7 * 3 + 3 and 7 * 5 + 5; a's feature is brought from 3 to 5; the head is 5 to 2.
    assert parameters_of(module) == {"a": 24 + 20, "b": 40, "fusion": 12, "other": 6}
    assert sum(parameters_of(module).values()) == sum(p.numel() for p in module.parameters())


def test_batches_are_read_when_they_are_looked_at():
    read = []

    class Taken:
        def __len__(self):
            return 10

        def __getitem__(self, request):
            read.append(request.indices)
            return request.indices

    data = SimpleNamespace(loader=lambda split: SimpleNamespace(dataset=Taken()), seed=0)
    found = some_batches(data, "train", None, size=4)
    assert read == []
    assert torch.equal(torch.cat(list(found)), torch.arange(10))
    assert torch.equal(torch.cat(list(found)), torch.arange(10))
    assert len(read) == 6
    assert len(torch.cat(list(some_batches(data, "train", 5)))) == 5


def test_flops_of_products_that_pytorch_has_no_formula_for():
    def count(run):
        with StepFlops() as counter:
            run()
        return counter.get_total_flops(), counter.uncounted

    x = [torch.randn(2, 4, 7, 8, requires_grad=True) for _ in range(3)]
    attend = nn.functional.scaled_dot_product_attention
    product = 2 * 2 * 4 * 7 * 7 * 8
    assert count(lambda: attend(*x)) == (2 * product, set())
    assert count(lambda: attend(*x).sum().backward()) == (7 * product, set())
    layer, sequence = nn.LSTM(6, 5, batch_first=True), torch.randn(2, 3, 6, requires_grad=True)
    step = 2 * 2 * 3 * (20 * 6 + 20 * 5)
    assert count(lambda: layer(sequence)) == (step, set())
    assert count(lambda: layer(sequence)[0].sum().backward()) == (3 * step, set())
    matrix, one, other = torch.randn(3, 4), torch.randn(4), torch.randn(3)
    assert count(lambda: torch.mv(matrix, one)) == (2 * 12, set())
    assert count(lambda: torch.addr(matrix, other, one)) == (2 * 12, set())
    assert count(lambda: torch.dot(one, one)) == (2 * 4, set())


def test_what_is_not_counted_is_named_and_a_pause_counts_nothing():
    norm, x = nn.BatchNorm1d(4), torch.randn(6, 4)
    with StepFlops() as counter:
        norm(x)
        torch.linalg.eigh(torch.eye(3))
        (x * 2 + 1).relu().sum().item()
        with counter.paused():
            x @ x.T
            torch.linalg.svd(x)
    assert counter.get_total_flops() == 0
    assert {name for name in counter.uncounted if "batch_norm" not in name} == {"_linalg_eigh"}
    assert len(counter.uncounted) == 2
