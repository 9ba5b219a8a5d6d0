"""Confusion, F1 and calibration error against scikit-learn, by hand and in every place."""

import csv
import json
import tracemalloc
from fractions import Fraction

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, f1_score, recall_score
from sklearn.metrics import confusion_matrix as sklearn_confusion

import mla_lightning as mla
from mla_lightning import counts
from mla_lightning.loggers.wandb_result import summary_of
from mla_lightning.metrics import Outcome, ece, macro_f1, macro_recall, reliability, weighted_f1
from mla_lightning.metrics import accuracy as accuracy_of
from mla_lightning.report.tables.bootstrap import paired_differences
from mla_lightning.run.finished import evaluate_run


def error_by_definition(confidence, is_correct):
    """Compute the calibration error bin by bin, sample by sample, in exact fractions."""
    bins = {}
    for p, correct in zip(confidence.tolist(), is_correct.tolist(), strict=True):
        number = next(b for b in range(1, 16) if p <= b / 15)
        bins.setdefault(number, []).append((Fraction(p), int(correct)))
    gaps = (
        abs(Fraction(sum(c for _, c in rows), len(rows)) - sum(p for p, _ in rows) / len(rows))
        * Fraction(len(rows), len(confidence))
        for rows in bins.values()
    )
    return float(sum(gaps))


def test_the_last_bin_holds_a_confidence_of_one():
    confidence = np.array([1.0] * 100 + [0.95] * 100)
    is_correct = np.array([True] * 90 + [False] * 10 + [True] * 100)
    # One bin, (14/15, 1]: accuracy 0.95, confidence 0.975. Two bins would give 0.075.
    assert counts.calibration_error(confidence, is_correct) == pytest.approx(0.025, abs=1e-12)
    bins = reliability(torch.from_numpy(confidence), torch.from_numpy(is_correct))
    assert bins.num == (200,)
    assert bins.ece == pytest.approx(0.025, abs=1e-12)
    logits = torch.tensor([[200.0, 0.0]] * 100 + [[np.log(19.0), 0.0]] * 100)
    label = torch.tensor([0] * 90 + [1] * 10 + [0] * 100)
    assert float(ece(Outcome(logits, label))) == pytest.approx(0.025, abs=1e-7)


@pytest.mark.parametrize("seed", range(5))
def test_the_calibration_error_is_that_of_its_definition(seed):
    rng = np.random.default_rng(seed)
    edges = np.arange(16) / 15
    near = np.concatenate([edges, np.nextafter(edges, 0), np.nextafter(edges, 1)]).clip(0, 1)
    for confidence in (rng.random(200), rng.permutation(near), rng.choice(edges, 60)):
        is_correct = rng.random(len(confidence)) < 0.6
        expected = error_by_definition(confidence, is_correct)
        assert counts.calibration_error(confidence, is_correct) == pytest.approx(expected)
        bins = reliability(torch.from_numpy(confidence), torch.from_numpy(is_correct))
        assert bins.ece == pytest.approx(expected)


@pytest.mark.parametrize("num_classes", [2, 3, 5, 15])
def test_equal_logits_fall_on_the_upper_edge_of_a_bin(num_classes):
    _, confidence = counts.predict_classes(np.zeros((4, num_classes), dtype=np.float32))
    assert confidence.tolist() == [1 / num_classes] * 4
    expected = int(np.ceil(Fraction(15, num_classes))) - 1
    assert counts.confidence_bins(confidence).tolist() == [expected] * 4


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_confidence_is_the_largest_softmax_probability(dtype):
    logits = 30 * np.random.default_rng(0).normal(size=(300, 400)).astype(dtype)
    shifted = logits.astype(np.longdouble) - logits.max(axis=1, keepdims=True)
    exact = 1 / np.exp(shifted).sum(axis=1)
    prediction, confidence = counts.predict_classes(logits)
    assert (prediction == logits.argmax(axis=1)).all()
    assert confidence.dtype == np.float64
    np.testing.assert_allclose(confidence, exact.astype(float), rtol=10 * np.finfo(dtype).eps)
    one_by_one = np.concatenate([counts.predict_classes(row[None])[1] for row in logits])
    np.testing.assert_allclose(confidence, one_by_one, rtol=1e-14)


@pytest.mark.parametrize(("num", "num_classes"), [(1, 2), (40, 3), (500, 7), (300, 101)])
@pytest.mark.parametrize("seed", range(2))
def test_metrics_are_those_of_scikit_learn(num, num_classes, seed):
    rng = np.random.default_rng(seed)
    label = rng.integers(num_classes // 2 + 1, size=num)  # half of the classes do not occur
    logits = rng.normal(size=(num, num_classes)) + 2 * np.eye(num_classes)[label]
    outcome = Outcome(torch.from_numpy(logits), torch.from_numpy(label))
    predicted = logits.argmax(axis=1)
    expected = sklearn_confusion(label, predicted, labels=range(num_classes))
    assert outcome.confusion.dtype == torch.float64
    assert np.array_equal(outcome.confusion.numpy(), expected)
    assert float(accuracy_of(outcome)) == pytest.approx(accuracy_score(label, predicted))
    either = np.union1d(label, predicted)
    macro = f1_score(label, predicted, labels=either, average="macro")
    assert float(macro_f1(outcome)) == pytest.approx(macro)
    weighted = f1_score(label, predicted, average="weighted")
    assert float(weighted_f1(outcome)) == pytest.approx(weighted)
    recall = recall_score(label, predicted, labels=np.unique(label), average="macro")
    assert float(macro_recall(outcome)) == pytest.approx(recall)


def test_many_samples_are_counted_as_each_alone():
    rng = np.random.default_rng(0)
    label, prediction = rng.integers(4, size=(2, 3, 5, 20))
    confidence, is_correct = rng.random((3, 5, 20)), label == prediction
    confusion = counts.confusion_matrix(label, prediction, 4)
    assert confusion.shape == (3, 5, 4, 4)
    error = counts.calibration_error(confidence, is_correct)
    for place in np.ndindex(3, 5):
        alone = counts.confusion_matrix(label[place], prediction[place], 4)
        assert np.array_equal(confusion[place], alone)
        assert counts.macro_f1(confusion)[place] == counts.macro_f1(alone)
        assert counts.accuracy(confusion)[place] == is_correct[place].mean()
        assert error[place] == counts.calibration_error(confidence[place], is_correct[place])


def test_a_thousand_classes_take_memory_for_samples_and_cells_alone():
    logits, label = torch.randn(20_000, 1000), torch.randint(1000, (20_000,))
    torch.use_deterministic_algorithms(True)
    try:
        tracemalloc.start()
        outcome = Outcome(logits, label)
        values = [float(metric(outcome)) for metric in (accuracy_of, macro_f1, ece, weighted_f1)]
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        torch.use_deterministic_algorithms(False)
    assert np.isfinite(values).all()
    assert peak < 60e6  # the logits have 80 MB; a row of C x C cells per sample would take 160 GB


def test_half_precision_logits_are_scored_as_in_single_precision():
    logits = torch.randn(50, 4).bfloat16()
    label = torch.randint(4, (50,))
    half, single = Outcome(logits, label), Outcome(logits.float(), label)
    assert torch.equal(half.confidence, single.confidence)
    assert float(ece(half)) == float(ece(single))


def test_one_run_has_one_number_in_all_places(tmp_path):
    run = mla.train(
        *("data=synthetic", "method=concat", "trainer.max_epochs=2", "diagnostics=epoch"),
        *("data.num_train=64", "data.num_val=60", "data.num_test=60", "evaluate_probe=false"),
        folder=tmp_path / "run",
    )
    expected = run.result.test["multi"]
    assert expected["ece"] > 0.01
    with np.load(run.folder / "predictions.npz") as arrays:
        label, logits = arrays["label"], arrays["logits_multi"]
    prediction, confidence = counts.predict_classes(logits)
    assert expected["ece"] == pytest.approx(
        error_by_definition(confidence, prediction == label), abs=1e-12
    )
    present = np.union1d(label, prediction)
    macro = f1_score(label, prediction, labels=present, average="macro")
    assert expected["macro_f1"] == pytest.approx(macro, abs=1e-12)

    bootstrap = paired_differences(label, (logits, logits))
    for name in ("accuracy", "macro_f1", "ece"):
        assert bootstrap[name].values == (expected[name], expected[name])
    assert evaluate_run(run.folder, "test")["multi"] == expected
    predicted = run.predict()
    assert float(ece(Outcome(predicted.logits["multi"], predicted.label))) == expected["ece"]

    numbers = json.loads((run.folder / "diagnostics.json").read_text())
    before = numbers["calibration"]["multi"]["before"]["width"]["ece"]
    assert before == pytest.approx(expected["ece"], abs=1e-12)
    assert summary_of(run.folder)["result.test.multi.ece"] == expected["ece"]
    assert summary_of(run.folder)["calibration.multi.ece_before"] == before

    with (run.folder / "metrics.csv").open() as file:
        rows = {int(row["epoch"]): row for row in csv.DictReader(file)}
    row, val = rows[run.result.best_epoch], run.result.val["multi"]
    assert float(row["val/ece"]) == pytest.approx(val["ece"], abs=1e-12)
    assert float(row["val/f1_macro"]) == pytest.approx(val["macro_f1"], abs=1e-12)
    (cell,) = [
        r
        for t in run.table().tables
        for s in t.sections
        for r in s.rows
        if "calibration" in r.label
    ]
    assert cell.cells[0].text.startswith(f"{expected['ece']:.3f}")
