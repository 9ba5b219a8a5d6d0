"""Diagnostics after training, against values computed by hand."""

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
from mla_lightning.metrics.geometry import principal_plane
from mla_lightning.run.class_diagnostics import calibration_before_and_after
from mla_lightning.run.diagnose import (
    count_parameters,
    feature_planes,
    fusion_weights,
    sample_batches,
)
from mla_lightning.run.evaluate import SplitPredictions

NAMES = ("a", "b")
WIDTHS = {"a": 3, "b": 3}


def predictions_of(a, b, label, present=None):
    present = present or {m: torch.ones(len(label), dtype=torch.bool) for m in NAMES}
    logits = {"a": torch.tensor(a), "b": torch.tensor(b)}
    return SplitPredictions(logits, torch.tensor(label), torch.arange(len(label)), {}, present)


def module_of(fusion):
    return SimpleNamespace(
        fusion=fusion, modalities=NAMES, selections=lambda: dict.fromkeys(("multi", *NAMES), "acc")
    )


def correct_in(predictions):
    return {m: z.argmax(dim=1) == predictions.label for m, z in predictions.logits.items()}


def test_fusion_weights_where_a_modality_is_correct_and_where_it_is_wrong():
    fusion = SharedHead(WIDTHS, 2, weighting="entropy")
    # a is certain and correct, then uncertain and wrong; b is always uncertain.
    predictions = predictions_of([[9.0, 0], [0.1, 0]], [[0.0, 0.2], [0, 0.2]], [0, 1])
    means = fusion_weights(module_of(fusion), predictions, correct_in(predictions), 256)
    weights = fusion.weights(torch.stack([predictions.logits[m] for m in NAMES]))
    assert means["a"]["when_right"] == pytest.approx(float(weights[0, 0]))
    assert means["a"]["when_wrong"] == pytest.approx(float(weights[0, 1]))
    assert means["b"]["when_right"] == pytest.approx(float(weights[1, 1]))
    assert means["b"]["when_wrong"] == pytest.approx(float(weights[1, 0]))
    assert means["a"]["when_right"] > means["a"]["when_wrong"] + 0.1
    assert means["a"]["mean"] + means["b"]["mean"] == pytest.approx(1)


def test_weights_that_use_batch_statistics_are_computed_in_evaluation_batches():
    fusion = SharedHead(WIDTHS, 2, weighting="batch_entropy")
    predictions = predictions_of(
        [[9.0, 0], [8, 0], [0, 0.1], [0, 0.3]], [[0.2, 0], [0.1, 0], [7, 0], [9, 0]], [0, 0, 1, 1]
    )
    module, is_correct = module_of(fusion), correct_in(predictions)
    halves = fusion_weights(module, predictions, is_correct, 2)
    whole = fusion_weights(module, predictions, is_correct, 4)
    logits_MNC = torch.stack([predictions.logits[m] for m in NAMES])
    weights_MN = torch.cat(
        [fusion.weights(logits_MNC[:, :2]), fusion.weights(logits_MNC[:, 2:])], dim=1
    )
    assert halves["a"]["mean"] == pytest.approx(float(weights_MN[0].double().mean()))
    assert halves["a"]["mean"] != pytest.approx(whole["a"]["mean"], abs=1e-3)


def test_the_weights_of_energy_fusion_are_its_confidences():
    fusion = EnergyFusion(WIDTHS, 2)
    present = {"a": torch.tensor([True, True]), "b": torch.tensor([True, False])}
    predictions = predictions_of([[2.0, 0], [0, 1.0]], [[1.0, 0], [5, 5]], [0, 0], present)
    is_correct = correct_in(predictions)
    is_correct["b"] = is_correct["b"] & present["b"]
    means = fusion_weights(module_of(fusion), predictions, is_correct, 256)
    confidence = [np.logaddexp(2, 0) / 10, np.logaddexp(0, 1) / 10, np.logaddexp(1, 0) / 10]
    assert means["a"]["when_right"] == pytest.approx(confidence[0], rel=1e-5)
    assert means["a"]["when_wrong"] == pytest.approx(confidence[1], rel=1e-5)
    assert means["b"] == {"mean": pytest.approx(confidence[2], rel=1e-5)} | {
        "when_right": pytest.approx(confidence[2], rel=1e-5)
    }
    logits = predictions.logits
    fused = sum(
        c[:, None] * z for c, z in zip(fusion.logit_weights(logits), logits.values(), strict=True)
    )
    fusion.unimodal = lambda features: logits
    assert torch.allclose(fusion({}), fused)


def test_a_fusion_without_weights_has_none():
    predictions = predictions_of([[2.0, 0]], [[1.0, 0]], [0])
    assert (
        fusion_weights(module_of(Concat(WIDTHS, 2)), predictions, correct_in(predictions), 8) == {}
    )
    assert LateFusion(WIDTHS, 2).logit_weights(predictions.logits) is not None


def test_the_temperature_is_that_of_validation_and_not_of_the_test():
    # Three of four are correct at a logit difference of z: the best temperature is z / log 3.
    val = (torch.tensor([[3.0, 0]] * 4), torch.tensor([0, 0, 0, 1]))
    test = (torch.tensor([[3.0, 0]] * 10), torch.tensor([0] * 9 + [1]))
    calibration = calibration_before_and_after(val, test)
    assert calibration["temperature"] == pytest.approx(3 / np.log(3), rel=1e-3)
    assert temperature(*test) == pytest.approx(3 / np.log(9), rel=1e-3)
    confidence = 1 / (1 + np.exp(-3))
    ece = {key: calibration[key]["width"]["ece"] for key in ("before", "after")}
    assert ece["before"] == pytest.approx(abs(0.9 - confidence), abs=1e-4)
    assert ece["after"] == pytest.approx(0.9 - 0.75, abs=1e-3)


def test_planes_are_fitted_to_present_modalities():
    generator = torch.Generator().manual_seed(0)
    features = {m: torch.randn(12, 5, generator=generator) for m in NAMES}
    present = {"a": torch.arange(12) % 3 > 0, "b": torch.ones(12, dtype=torch.bool)}
    predictions = SplitPredictions({}, torch.arange(12), torch.arange(12), features, present)
    planes = feature_planes(features, predictions, "full", 0)
    expected = principal_plane({m: features[m][present[m]] for m in NAMES})
    for m in NAMES:
        assert np.allclose(planes[f"pca/{m}"][present[m].numpy()], expected[m].float(), atol=1e-6)
        assert np.isnan(planes[f"pca/{m}"][~present[m].numpy()]).all()
        assert np.isfinite(planes[f"tsne/{m}"][present[m].numpy()]).all()
    zeroed = features["a"].masked_fill(~present["a"][:, None], 0)  # as evaluation returns them
    again = feature_planes({**features, "a": zeroed}, predictions, "epoch", 0)
    assert np.array_equal(again["pca/b"], planes["pca/b"])
    none = replace(predictions, present={**present, "a": torch.zeros(12, dtype=torch.bool)})
    assert "pca/a" not in feature_planes(features, none, "epoch", 0)


def test_parameters_are_counted_once_by_owner():
    class Method(nn.Module):
        modalities = NAMES

        def __init__(self):
            super().__init__()
            self.encoders = nn.ModuleDict({"a": nn.Linear(7, 3), "b": nn.Linear(7, 5)})
            self.fusion = SharedHead({"a": 3, "b": 5}, 2)
            self.teacher = nn.Linear(2, 2)
            self.again = self.encoders["a"]

    module = Method()
    # Encoders 7 * 3 + 3 and 7 * 5 + 5; a linear map from 3 to 5 for a; the head maps 5 to 2.
    assert count_parameters(module) == {"a": 24 + 20, "b": 40, "fusion": 12, "other": 6}
    assert sum(count_parameters(module).values()) == sum(p.numel() for p in module.parameters())


def test_batches_are_read_in_each_iteration():
    read = []

    class DataSet:
        def __len__(self):
            return 10

        def __getitem__(self, request):
            read.append(request.indices)
            return request.indices

    data = SimpleNamespace(loader=lambda split: SimpleNamespace(dataset=DataSet()), seed=0)
    batches = sample_batches(data, "train", None, size=4)
    assert read == []
    assert torch.equal(torch.cat(list(batches)), torch.arange(10))
    assert torch.equal(torch.cat(list(batches)), torch.arange(10))
    assert len(read) == 6
    assert len(torch.cat(list(sample_batches(data, "train", 5)))) == 5
