"""One line says it when validation is far from test or at its ceiling, and none cries wolf."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from tests.report.synthetic_runs import write_run

from mla_lightning.report.read.run_folders import read_runs
from mla_lightning.report.tables.table1 import table1
from mla_lightning.report.tables.tuning import tuning
from mla_lightning.run.measure import _distance_note
from mla_lightning.run_folder import write_json
from mla_lightning.run_folder.ceiling import are_apart, distance_note, selection_note


@pytest.mark.parametrize(
    ("val", "test", "num_val", "num_test", "expected"),
    [
        (0.996, 0.747, 500, 1000, True),
        (0.747, 0.996, 500, 1000, True),  # and the other way round
        (0.996, 0.747, 10, 10, False),  # so few samples tell nothing
        (0.95, 0.90, 10**6, 10**6, False),  # five points, whatever the number of samples
        (0.95, 0.8999, 10**6, 10**6, True),
        (1.0, 0.94, 50, 10**6, False),  # 50 of 50 has no standard error of zero
        (1.0, 0.94, 500, 10**6, True),
        (0.99, 0.89, None, 1000, False),
        (0.99, 0.89, 0, 1000, False),
        (None, 0.5, 500, 1000, False),
        (1.0, None, 500, 1000, False),
    ],
)
def test_the_rule_at_its_limits(val, test, num_val, num_test, expected):
    assert are_apart(val, test, num_val, num_test) is expected
    assert bool(distance_note(val, test, num_val, num_test)) is expected


@pytest.mark.parametrize(("num_val", "num_test"), [(40, 400), (100, 1000), (1000, 200)])
@pytest.mark.parametrize("accuracy", [0.3, 0.7, 0.9, 0.99])
def test_splits_of_one_population_are_hardly_ever_apart(num_val, num_test, accuracy):
    rng = np.random.default_rng(0)
    num_runs, num_epochs = 2000, 8
    val = rng.binomial(num_val, accuracy, (num_runs, num_epochs)).max(axis=1)  # the best epoch
    test = rng.binomial(num_test, accuracy, num_runs)
    pairs = zip((val / num_val).tolist(), (test / num_test).tolist(), strict=True)
    assert sum(are_apart(*pair, num_val, num_test) for pair in pairs) < 0.01 * num_runs


def test_splits_of_two_populations_are_found():
    rng = np.random.default_rng(0)
    val, test = rng.binomial(200, 0.996, 500) / 200, rng.binomial(400, 0.747, 500) / 400
    pairs = zip(val.tolist(), test.tolist(), strict=True)
    assert all(are_apart(*pair, 200, 400) for pair in pairs)


def with_scores(root, method, val, test, seed=0, **options):
    folder = write_run(root, method, seed, test=test is not None, **options)
    scores = {
        split: {
            name: {"accuracy": accuracy, "macro_f1": accuracy, "ece": 0.1}
            for name in ("image", "text", "multi")
        }
        for split, accuracy in (("val", val), ("test", test))
        if accuracy is not None
    }
    content = json.loads((folder / "result.json").read_text()) | scores
    write_json(folder / "result.json", content)


def notes_of(report, text="not independent of train"):
    return [note for note in report.notes if text in note]


def test_a_table_says_it_where_it_holds_for_most_methods(tmp_path):
    with_scores(tmp_path, "mla", 0.996, 0.747)
    with_scores(tmp_path, "sum", 0.75, 0.74)
    assert notes_of(table1(read_runs([tmp_path]))) == []  # one of two methods
    with_scores(tmp_path, "majority", 0.3, 0.9)  # says nothing of what was learnt
    assert notes_of(table1(read_runs([tmp_path]))) == []
    with_scores(tmp_path, "concat", 0.99, 0.76)
    (note,) = notes_of(table1(read_runs([tmp_path])))
    assert note.startswith("openmoji: 2 of 3 methods: validation accuracy is 99.6 %, test 74.7 %")


def test_a_table_judges_the_mean_over_seeds(tmp_path):
    for seed, val in enumerate((0.996, 0.76, 0.75)):
        with_scores(tmp_path, "mla", val, 0.747, seed)
    assert notes_of(table1(read_runs([tmp_path]))) == []
    for seed in (1, 2):
        with_scores(tmp_path / "more", "sum", 0.99, 0.747, seed)
    (note,) = notes_of(table1(read_runs([tmp_path / "more"])))
    assert note.startswith("openmoji: 1 method: validation accuracy is 99.0 %")


def test_validation_far_below_test_has_its_own_advice(tmp_path):
    with_scores(tmp_path, "mla", 0.4, 0.9)
    (note,) = notes_of(table1(read_runs([tmp_path])), "not like those of validation")
    assert "independent" not in note


@pytest.mark.parametrize(("val", "is_noted"), [(0.996, True), (0.98, False)])
def test_tuning_says_it_at_the_ceiling_without_a_look_at_test(tmp_path, val, is_noted):
    with_scores(tmp_path, "mla", val, None)
    assert len(notes_of(tuning(read_runs([tmp_path])))) == is_noted


@pytest.mark.parametrize(("second", "is_noted"), [(0.8, True), (0.81, False)])
def test_tuning_says_it_if_all_rates_are_equal(tmp_path, second, is_noted):
    with_scores(tmp_path, "mla", 0.8, None, lr=0.1, overrides={"optimizer.lr": 0.1})
    with_scores(tmp_path, "mla", second, None, lr=0.2, overrides={"optimizer.lr": 0.2})
    notes = notes_of(tuning(read_runs([tmp_path])), "all 2 rates with all seeds have")
    assert len(notes) == is_noted


@pytest.mark.parametrize(
    ("scores", "words"),
    [
        ([0.7, 0.7, 0.7], "all 3 trials have the same score on validation, 70.0 %"),
        ([1.0, 1.0], "all 2 trials"),
        ([1.0, 0.99, 0.5, 0.4], "2 of 4 trials have at least 99 %"),
        ([1.0, 0.9899, 0.5, 0.4], ""),
        ([0.8, 0.81], ""),
        ([1.0], ""),
        ([], ""),
    ],
)
def test_scores_that_cannot_select(scores, words):
    note = selection_note(scores)
    assert note.startswith(words) if words else note == ""


def test_a_page_of_a_search_says_it_of_its_settings(tmp_path):
    for lr in (0.1, 0.2):
        with_scores(tmp_path, "mla", 1.0, None, lr=lr, overrides={"optimizer.lr": lr})
        with_scores(tmp_path, "sum", lr, None, lr=lr, overrides={"optimizer.lr": lr})
    notes = notes_of(table1(read_runs([tmp_path])), "have the same score")
    assert notes == [
        "openmoji, MLA: all 2 settings have the same score on validation, 100.0 %, which cannot "
        "select among them."
    ]


def result(val, test, **values):
    scores = {"val": {"multi": val}, "test": test and {"multi": test}}
    defaults = {"protocol": "validation", "missing": None, "num_val": 500, "num_test": 1000}
    return SimpleNamespace(**scores, **(defaults | values))


def test_the_end_of_a_run_says_it_where_validation_selected_its_epoch():
    val, test = {"accuracy": 1.0}, {"accuracy": 0.7}
    assert _distance_note(result(val, test)).startswith("validation accuracy is 100.0 %, test 70")
    assert _distance_note(result(val, test, num_val=5)) == ""
    assert _distance_note(result(val, None)) == ""
    assert _distance_note(result(val, test, protocol="paper")) == ""
    assert _distance_note(result({"mae": 1.0}, {"mae": 0.7})) == ""


@pytest.mark.parametrize(("rates", "is_noted"), [((0.5, 0.5), True), ((0.0, 0.5), False)])
def test_splits_that_miss_different_shares_differ_on_purpose(rates, is_noted):
    missing = {"realised_rate": dict(zip(("val", "test"), rates, strict=True))}
    note = _distance_note(result({"accuracy": 1.0}, {"accuracy": 0.7}, missing=missing))
    assert bool(note) == is_noted
