"""The sampler learns, is reproducible, and its ranges are checked."""

import json
import math
from functools import reduce
from operator import getitem
from types import SimpleNamespace

import pytest

from mla_lightning.cli.tune import _notes
from mla_lightning.config import plan
from mla_lightning.config.search import options, search_path
from mla_lightning.errors import ConfigError
from mla_lightning.report.read.metrics import primary_metric
from mla_lightning.run_folder.tasks import CLASSIFICATION, REGRESSION
from mla_lightning.tune.search import MethodSearch
from mla_lightning.tune.space import Range, read_space

RATE = {"lr": Range(1e-5, 10.0, log=True)}


def searched(score, number, *, batch=2, space=RATE, start=None, seed=0):
    search = MethodSearch("mla", space, start or {}, seed)
    for _ in range(number // batch):
        for trial in search.ask(batch):
            trial.score = score(trial.values)
        search.tell()
    return search


def near_tenth(values):
    """Score by the distance from 0.1, in powers of ten."""
    return 1 - abs(math.log10(values["lr"]) + 1) / 10


def test_later_trials_are_nearer_to_the_best_value():
    trials = searched(near_tenth, 40).trials
    first, last = ([t.score for t in part] for part in (trials[:10], trials[-10:]))
    assert sum(last) / 10 > sum(first) / 10 + 0.05
    assert 0.05 < searched(near_tenth, 40).best.values["lr"] < 0.2


def test_the_trials_depend_on_scores_and_seed_alone():
    values = [[t.values for t in searched(near_tenth, 24).trials] for _ in range(2)]
    assert values[0] == values[1]
    other = [t.values for t in searched(lambda v: -near_tenth(v), 24).trials]
    assert other[:10] == values[0][:10]  # drawn at random
    assert other[10:] != values[0][10:]
    assert [t.values for t in searched(near_tenth, 24, seed=1).trials] != values[0]


def test_a_longer_search_begins_with_the_shorter_one():
    shorter, longer = (searched(near_tenth, number).trials for number in (12, 20))
    assert [t.values for t in longer[:12]] == [t.values for t in shorter]


def test_the_first_trial_has_the_values_of_the_recipe():
    assert searched(near_tenth, 4, start={"lr": 0.05}).trials[0].values == {"lr": 0.05}
    assert searched(near_tenth, 4, start={"lr": 99.0}).trials[0].values["lr"] <= 10


def test_a_recipe_outside_of_the_ranges_is_said():
    search = MethodSearch("mla", RATE, {"lr": 99.0}, seed=0)
    assert search.notes == [
        "lr=99.0 of the recipe is not within the range that is searched for mla, so no trial has "
        "the recipe's own values"
    ]
    assert not MethodSearch("mla", RATE, {"lr": 0.05}, seed=0).notes


def test_failed_trials_are_never_the_best():
    search = searched(lambda v: None if v["lr"] > 1e-3 else v["lr"], 20)
    assert search.best.values["lr"] == max(
        t.values["lr"] for t in search.trials if t.values["lr"] <= 1e-3
    )
    assert searched(lambda v: None, 4).best is None


def test_values_have_few_digits_and_stay_within_their_range():
    space = {"lr": Range(0.0012345, 0.0012349, log=True), "rule": Range(values=("sum", "mean"))}
    for trial in searched(lambda v: 0.0, 20, space=space).trials:
        assert 0.0012345 <= trial.values["lr"] <= 0.0012349
        assert trial.values["rule"] in {"sum", "mean"}
    for trial in searched(near_tenth, 20).trials:
        assert float(f"{trial.values['lr']:.3g}") == trial.values["lr"]


def test_the_edges_of_a_range():
    assert [RATE["lr"].is_at_edge(v) for v in (1.1e-5, 0.01, 9.0)] == [True, False, True]
    assert [Range(0, 1).is_at_edge(v) for v in (0.04, 0.5, 0.96)] == [True, False, True]
    assert not Range(values=(1, 2)).is_at_edge(1)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("keys: {optimizer.lr: {low: 1, high: 1}}", "low must be a number below high"),
        ("keys: {optimizer.lr: {low: 0, high: 1, log: true}}", "low above 0 with log: true"),
        ("keys: {optimizer.lr: {low: a, high: 1}}", "low must be a number below high, got a"),
        ("keys: {optimizer.lr: {low: .nan, high: 1}}", "low must be a number below high"),
        ("keys: {optimizer.lr: {low: 0.1, hihg: 1}}", "must be a list, or {low"),
        ("keys: {optimizer.lr: [0.1]}", "a list needs two values"),
        ("keys: {optimizer.lr: 0.1}", "must be a list, or {low"),
        ("keyz: {}", "must have keys: and methods:"),
        ("methods: {sum: {method.a: [1, 2]}}", "no range for method=mla"),
        ("keys: [", "line 1: expected the node content"),
    ],
)
def test_a_wrong_space_is_named_with_its_file(tmp_path, content, message):
    (tmp_path / "search").mkdir()
    (tmp_path / "search" / "mine.yaml").write_text(content)
    with pytest.raises(ConfigError) as error:
        read_space("mine", "mla", tmp_path)
    assert message in str(error.value)
    assert str(tmp_path / "search" / "mine.yaml") in str(error.value)


def test_every_space_of_the_package_fits_its_methods():
    """Each key is a setting of the method; `mla tune` refuses others."""
    from tests.methods.catalogue import METHODS, method_node

    for name in ("default", "rate"):
        for method in METHODS:
            for key, values in read_space(name, method).items():
                node, *setting = key.split(".")
                default = (
                    None if node == "optimizer" else reduce(getitem, setting, method_node(method))
                )
                is_known = isinstance(default, float) or default in values.values
                assert node == "optimizer" or is_known, key


def test_the_ranges_of_the_package_hold_the_values_of_all_its_recipes():
    """So that the first trial of a search is the recipe itself."""
    recipes = options(search_path(None), "recipe")
    assert {"small", "paper", "openmoji"} <= set(recipes)
    for recipe in recipes:
        for method in ("mla", "qmf", "ogm_ge", "joint_unimodal"):
            words = ["data=synthetic", f"recipe={recipe}", f"method={method}"]
            (job,) = plan(words)
            for key, values in read_space("default", method).items():
                node, _, setting = key.partition(".")
                if setting in job.config[node]:  # recipe=incomplete has no weight decay
                    assert values.holds(job.config[node][setting]), (recipe, method, key)


def test_notes_say_where_validation_cannot_select(tmp_path):
    searches = [searched(lambda _: 1.0, 4), searched(near_tenth, 4)]
    for search in searches:
        for trial in search.trials:
            trial.jobs = [SimpleNamespace(run_dir=tmp_path)]
    counts = {"train": {"no": 19, "yes": 1}, "val": {"no": 9, "yes": 1}}
    provenance = {"data": {"class_counts": counts, "num_val": 10}}
    (tmp_path / "provenance.json").write_text(json.dumps(provenance))
    accuracy, mae = primary_metric(CLASSIFICATION), primary_metric(REGRESSION)
    equal, imbalanced = _notes(searches, ["MLA", "Concat"], accuracy)
    assert equal.startswith("MLA: all 4 trials have the same score on validation, 100.0 %")
    assert imbalanced.startswith("90.0 % of the validation samples have the most frequent class")
    (tmp_path / "provenance.json").write_text("{}")
    assert _notes(searches[1:], ["Concat"], accuracy) == []
    # An error of 1 or more is no ceiling; equal ones have no unit but that of the target.
    searches[1].trials[0].score = 2.0
    for trial in searches[1].trials[1:]:
        trial.score = 3.0
    assert _notes(searches[::-1], ["Sum", "MLA"], mae) == [
        "MLA: all 4 trials have the same score on validation, 1, which cannot select among them"
    ]
