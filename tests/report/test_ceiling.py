"""One line says it when validation is at the ceiling and tells nothing about test."""

import pytest
from tests.report.synthetic_runs import change, write_run

from mla_lightning.report.read.run_folders import read_runs
from mla_lightning.report.tables.table1 import table1
from mla_lightning.report.tables.tuning import tuning
from mla_lightning.run.measure import _ceiling_notes
from mla_lightning.run_folder.ceiling import ceiling_note, is_uninformative


@pytest.mark.parametrize(
    ("val", "test", "expected"),
    [
        (0.996, 0.747, True),
        (0.99, 0.89, True),  # both limits are reached
        (0.9899, 0.5, False),
        (0.99, 0.8901, False),
        (1.0, 0.9, True),
        (0.96, 0.95, False),
        (None, 0.5, False),
        (1.0, None, False),
    ],
)
def test_the_rule_at_its_limits(val, test, expected):
    assert is_uninformative(val, test) is expected
    assert bool(ceiling_note(val, test)) is expected


def with_scores(root, seed, val, test):
    folder = write_run(root, "mla", seed)
    scores = {
        split: {
            name: {"accuracy": accuracy, "macro_f1": accuracy, "ece": 0.1}
            for name in ("image", "text", "multi")
        }
        for split, accuracy in (("val", val), ("test", test))
    }
    change(folder, "result.json", **scores)


@pytest.mark.parametrize(("val", "is_noted"), [(0.996, True), (0.98, False)])
def test_tables_and_tuning_say_it_in_one_line(tmp_path, val, is_noted):
    with_scores(tmp_path, 0, val, 0.747)
    with_scores(tmp_path, 1, 0.8, 0.747)
    runs = read_runs([tmp_path])
    notes = [note for note in table1(runs).notes if "not independent of train" in note]
    assert len(notes) == is_noted
    if is_noted:
        assert notes[0].startswith("openmoji: 1 of 2 runs: validation accuracy is 99.6 %, test")
    one = [run for run in runs if run.seed == 0]
    notes = [note for note in tuning(one).notes if "not independent of train" in note]
    assert len(notes) == is_noted


def test_the_end_of_a_run_says_it_where_validation_selected_its_epoch():
    class Config:
        protocol = "validation"

    scores = {"val": {"multi": {"accuracy": 1.0}}, "test": {"multi": {"accuracy": 0.7}}}
    (note,) = _ceiling_notes(Config, scores)
    assert note.startswith("validation accuracy is 100.0 %, test 70.0 %")
    assert _ceiling_notes(Config, {"val": scores["val"]}) == []
    Config.protocol = "paper"
    assert _ceiling_notes(Config, scores) == []
