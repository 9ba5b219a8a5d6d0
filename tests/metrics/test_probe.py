"""The ridge probe: closed form, a fair choice of its ridge term, and its results in a run."""

import json

import pytest
import torch

from mla_lightning.cli.main import main
from mla_lightning.metrics.probe import RIDGES, probe_scores, ridge_probe

GENERATOR = torch.Generator().manual_seed(0)


def normal(*shape):
    return torch.randn(*shape, generator=GENERATOR, dtype=torch.float64)


def classes(num, spread=3.0, dim=4, num_classes=3):
    label = torch.arange(num) % num_classes
    return spread * torch.eye(num_classes, dim, dtype=torch.float64)[label] + normal(
        num, dim
    ), label


@pytest.mark.parametrize("dim", [4, 90])  # fewer features than samples, and more
def test_weights_are_those_of_the_augmented_least_squares(dim):
    train, val = classes(60, dim=dim), classes(30, dim=dim)
    probe = ridge_probe(train, val, 3)
    x = (train[0] - train[0].mean(dim=0)) / train[0].std(dim=0, correction=0)
    y = torch.eye(3, dtype=torch.float64)[train[1]]
    # Ridge regression is least squares with rows sqrt(N rho) e_d whose target is 0.
    rows = (60 * probe.ridge) ** 0.5 * torch.eye(dim, dtype=torch.float64)
    weight = torch.linalg.lstsq(
        torch.cat([x, rows]), torch.cat([y - y.mean(dim=0), torch.zeros(dim, 3)])
    ).solution
    torch.testing.assert_close(probe.weight, weight)
    torch.testing.assert_close(probe.bias, y.mean(dim=0))


def test_the_ridge_term_is_chosen_on_validation():
    # Many features, few samples: without a ridge term noise is learnt by heart.
    signal, label = classes(60, spread=2.0, dim=200)
    train, val = ((signal[s], label[s]) for s in (slice(0, 30), slice(30, 60)))
    probe = ridge_probe(train, val, 3)
    assert probe.ridge > RIDGES[0]
    # Where every ridge term is right, the largest is taken.
    easy = classes(90, spread=1000.0)
    assert ridge_probe(easy, easy, 3).ridge == RIDGES[-1]
    # The same choice by trying all ridge terms: the largest of those with the best accuracy.
    x, (y, mean) = train[0], (torch.eye(3, dtype=torch.float64)[train[1]], train[0].mean(dim=0))
    x = (x - mean) / x.std(dim=0, correction=0)
    val_x = (val[0] - mean) / train[0].std(dim=0, correction=0)
    correct = {}
    for ridge in RIDGES:
        inverse = torch.linalg.inv(x.T @ x / 30 + ridge * torch.eye(200))
        scores = val_x @ (inverse @ (x.T @ (y - y.mean(dim=0)) / 30)) + y.mean(dim=0)
        correct[ridge] = int((scores.argmax(dim=1) == val[1]).sum())
    assert len(set(correct.values())) > 1
    assert probe.ridge == max(RIDGES, key=lambda ridge: (correct[ridge], ridge))


def test_scale_and_shift_of_features_change_nothing():
    train, val, test = classes(60), classes(30), classes(30)
    scale, shift = normal(4).exp(), normal(4)
    plain = ridge_probe(train, val, 3)(test[0])
    moved = [(x * scale + shift, y) for x, y in (train, val, test)]
    torch.testing.assert_close(ridge_probe(moved[0], moved[1], 3)(moved[2][0]), plain)


def test_features_that_say_nothing_are_at_chance():
    train, val, test = ((normal(3000, 5), torch.arange(3000) % 3) for _ in range(3))
    probe = ridge_probe(train, val, 3)
    assert abs((probe(test[0]).argmax(dim=1) == test[1]).double().mean() - 1 / 3) < 0.04
    constant = (torch.ones(9, 2), torch.arange(9) % 3)
    assert ridge_probe(constant, constant, 3)(constant[0]).isfinite().all()


def test_samples_without_the_modality_do_not_count():
    features, label = {}, {}
    for split, num in (("train", 60), ("val", 30), ("test", 30)):
        features[split], label[split] = classes(num, spread=50.0)
    present = {split: torch.arange(len(label[split])) % 2 == 0 for split in label}
    dirty = {s: torch.where(present[s][:, None], features[s], float("nan")) for s in features}
    accuracies = probe_scores(
        {s: {"audio": dirty[s]} for s in dirty}, label, {s: {"audio": present[s]} for s in label}, 3
    )
    assert accuracies == {"val": {"audio": 1.0}, "test": {"audio": 1.0}}
    nothing = {s: {"audio": torch.zeros_like(present[s])} for s in label}
    by_split = {s: {"audio": features[s]} for s in features}
    assert probe_scores(by_split, label, nothing, 3) == {"val": {}, "test": {}}


def test_train_fits_and_val_selects():
    features, label = {}, {}
    for split, num in (("train", 40), ("val", 30), ("test", 50)):
        features[split], label[split] = classes(num, spread=1.5, dim=20)
    present = {split: {"audio": torch.ones(len(y), dtype=torch.bool)} for split, y in label.items()}
    accuracies = probe_scores({s: {"audio": x} for s, x in features.items()}, label, present, 3)
    probe = ridge_probe((features["train"], label["train"]), (features["val"], label["val"]), 3)
    for split in ("val", "test"):
        correct = probe(features[split]).argmax(dim=1) == label[split]
        assert accuracies[split] == {"audio": pytest.approx(float(correct.double().mean()))}
        assert 0.4 < accuracies[split]["audio"] < 1


@pytest.mark.parametrize("method", ["concat", "unimodal"])
def test_every_run_tells_what_its_encoders_know(tmp_path, monkeypatch, capfd, method):
    monkeypatch.chdir(tmp_path)
    words = ["train", "data=synthetic", f"method={method}", "trainer.max_epochs=2"]
    assert main([*words, "run_dir=with"]) == 0
    assert main([*words, "run_dir=without", "evaluate_probe=false"]) == 0
    with_probe, without = (
        json.loads((tmp_path / name / "result.json").read_text()) for name in ("with", "without")
    )
    for split in ("val", "test"):
        assert with_probe["probe_accuracy"][split].keys() == set(with_probe["modalities"])
        assert all(0 <= share <= 1 for share in with_probe["probe_accuracy"][split].values())
        assert with_probe[split] == without[split]  # the probe changes nothing else
    assert without["probe_accuracy"] is None
    capfd.readouterr()
    assert main(["report", "table1", "with"]) == 0
    assert "Ridge probe" in capfd.readouterr().out
    assert "Ridge probe" in (tmp_path / "report" / "table1.md").read_text()
