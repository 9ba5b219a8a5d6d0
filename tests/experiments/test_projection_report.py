"""Tests of the report on projection modes, from runs with known accuracies."""

import csv
from pathlib import Path

import pytest
from experiments.projection.__main__ import main
from experiments.projection.report import COMMAND, LAST, projection_report
from tests.report.synthetic_runs import write_run

from mla_lightning.errors import RunError
from mla_lightning.report.document.render import to_csv
from mla_lightning.report.read.run_folders import read_runs

COMMITTED = Path(__file__).parents[2] / "experiments" / "projection" / "openmoji"


def test_variants_are_compared_by_length_on_validation(tmp_path):
    for epochs in (2, 20):
        for seed in (0, 1):
            for name, last in (("none", 0.5 + seed / 10), ("no_hgm", 0.4)):
                write_run(
                    tmp_path,
                    "mla",
                    seed,
                    ablation=name,
                    epochs=epochs,
                    overrides={"trainer.max_epochs": epochs},
                    accuracy={"image": 0.3, "text": 0.4, "multi": 0.7},
                    curve=[0.1, last],
                )
    report = projection_report(read_runs([tmp_path]))
    assert [s.title for s in report.tables[0].sections] == [
        "openmoji, 2 epochs",
        "openmoji, 20 epochs",
    ]
    rows = {row.label: [c.text for c in row.cells] for row in report.tables[0].sections[0].rows}
    assert report.tables[0].columns == ("multi", "multi, last epoch", "image", "text", "best epoch")
    assert rows["MLA"][:3] == ["70.0 ± 0.0 (2)", "55.0 ± 7.1 (2)", "30.0 ± 0.0 (2)"]
    assert rows["MLA no_hgm"][1] == "40.0 ± 0.0 (2)"
    assert report.tables[1].sections[0].title == "openmoji, 2 epochs, against MLA no_hgm"
    assert sorted(report.figures) == [
        "projection-openmoji-20_epochs",
        "projection-openmoji-2_epochs",
    ]


def test_the_script_writes_and_prints(tmp_path, capsys):
    for seed in (0, 1):
        for lr in (0.1, 0.2):
            write_run(tmp_path / "r", "mla", seed, lr=lr, overrides={"optimizer.lr": lr})
    assert main([str(tmp_path / "r"), "--output", str(tmp_path / "out")]) == 0
    assert "MLA lr=0.1" in capsys.readouterr().out
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"projection.md", "projection.tex", "results.csv"} <= names
    page = (tmp_path / "out" / "projection.html").read_text()
    assert COMMAND in page
    assert "mla report" not in page


def test_the_committed_tables_equal_those_of_the_committed_results():
    """Compare all but the column of the last epoch, which needs the run folders."""
    main_table, differences = projection_report(read_runs([COMMITTED / "results.csv"])).tables
    assert to_csv(differences) == (COMMITTED / "projection-differences.csv").read_text("utf-8")
    written = (COMMITTED / "projection.csv").read_text("utf-8")
    assert without_last_epoch(to_csv(main_table)) == without_last_epoch(written)


def without_last_epoch(text):
    header, *rows = csv.reader(text.splitlines())
    place = header.index(LAST)
    return [header, *([*row[:place], *row[place + 1 :]] for row in rows)]


def test_no_runs_are_an_error():
    with pytest.raises(RunError, match="experiment=projection/openmoji"):
        projection_report([])
