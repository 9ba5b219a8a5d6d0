"""The table of the means over the named splits of a data set."""

import statistics

import pytest
from tests.report.synthetic_runs import write_run

from mla_lightning.report.read.run_folders import read_runs
from mla_lightning.report.tables.table1 import table1


def write_splits(folder, scores, *, seeds=(0, 1)):
    """Write runs: split -> method -> accuracy of seed 0; seed 1 has 0.1 more."""
    for split, methods in scores.items():
        for method, accuracy in methods.items():
            for seed in seeds:
                values = dict.fromkeys(("image", "text", "multi"), accuracy + 0.1 * seed)
                write_run(folder / split, seed=seed, method=method, accuracy=values, split=split)


def test_the_mean_over_splits_has_the_spread_over_splits(tmp_path):
    accuracy = {"fold0": 0.5, "fold1": 0.6, "fold2": 0.8}
    write_splits(tmp_path, {s: {"mla": a, "concat": a - 0.1} for s, a in accuracy.items()})
    report = table1(read_runs([tmp_path]))
    (table,) = [table for table in report.tables if table.slug == "splits"]
    (section,) = table.sections
    assert section.title.endswith("3 splits")
    row = section.rows[-1]
    assert row.label == "multi"
    cells = dict(zip(table.columns, row.cells, strict=True))
    means = [100 * (a + 0.05) for a in accuracy.values()]
    text = f"{statistics.fmean(means):.1f} ± {statistics.stdev(means):.1f} (3)"
    assert cells["MLA"].text == text
    assert cells["MLA"].rank == 1
    assert "no test is made" in table.notes[0]


@pytest.mark.parametrize("splits", [("fold0",), ()])
def test_one_split_has_no_such_table(tmp_path, splits):
    write_splits(tmp_path, {s: {"mla": 0.5} for s in splits or ("own",)})
    assert all(table.slug != "splits" for table in table1(read_runs([tmp_path])).tables)


def test_a_method_without_all_splits_is_shown_with_their_number_and_not_ranked(tmp_path):
    write_splits(tmp_path, {"fold0": {"mla": 0.5, "concat": 0.9}, "fold1": {"mla": 0.5}})
    report = table1(read_runs([tmp_path]))
    (table,) = [table for table in report.tables if table.slug == "splits"]
    cells = dict(zip(table.columns, table.sections[0].rows[-1].cells, strict=True))
    assert cells["Concat"].text.endswith("(1 of 2)")
    assert cells["Concat"].rank == 0
