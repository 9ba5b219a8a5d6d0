"""CSV files: nothing in them is a formula, and a damaged row hides its own run only."""

import csv
import random
import re

import pytest
from tests.report.synthetic_runs import write_run

from mla_lightning.report.document.render import to_csv
from mla_lightning.report.document.table import Cell, Row, Section, Table
from mla_lightning.report.main import make_report
from mla_lightning.report.read.results_csv import read_csv, write_csv
from mla_lightning.report.read.run_folders import read_runs
from mla_lightning.run_folder.csv_cells import csv_text, escape_cell, unescape_cell

FORMULAS = ("=1+1", "+SUM(A1)", "-2+3", "@now", "\tx", "\r=1", "'=1", "''@x")
TEXTS = (
    "",
    "'",
    "'a'",
    "'key=[a, b]'",
    "MLA",
    "–",
    "1",
    "-0.5",
    "+1e-5",
    "a=b",
    "x\ty",
    "+0.3 ± 1.2 (9 of 10)",
    "+0.1 to −0.8",
)


@pytest.mark.parametrize("text", FORMULAS + TEXTS)
def test_a_cell_is_read_back_and_is_no_formula(text):
    cell = escape_cell(text)
    assert unescape_cell(cell) == text
    is_number = re.fullmatch(r"[+-]?[\d.]+(e-?\d+)?( ± 1.2 .9 of 10.| to −0.8)?", text)
    assert is_number or not cell.startswith(("=", "+", "-", "@", "\t", "\r"))
    assert (cell == text) == (text in TEXTS)


def test_any_text_is_read_back():
    rng = random.Random(0)
    for _ in range(2000):
        text = "".join(rng.choices("=+-@\t\r'1e.a ", k=rng.randrange(5)))
        assert unescape_cell(escape_cell(text)) == text


def test_numbers_stay_numbers():
    assert csv_text(["x"], [[-1], [-0.5], [None], [1e-9]]) == 'x\n-1\n-0.5\n""\n1e-09\n'


def test_formulas_in_names_are_escaped_in_every_table(tmp_path):
    run = write_run(tmp_path / "runs", "mla", 0, name="=1+1", overrides={"data.note": "@x"})
    (run / "status.json").unlink()
    runs = read_runs([tmp_path / "runs"])
    write_csv(tmp_path / "results.csv", runs)
    with (tmp_path / "results.csv").open(newline="") as file:
        cells = [cell for row in csv.reader(file) for cell in row]
    assert "'=1+1" in cells
    assert not any(cell.startswith(("=", "@")) for cell in cells)
    (again,) = read_csv(tmp_path / "results.csv")
    assert (again.name, again.overrides) == ("=1+1", (("data.note", "@x"),))
    rows = (Row("=1+1", (Cell("-SUM(A1)"), Cell("-0.5"))),)
    text = to_csv(Table("", "", "@", ("a", "b"), (Section("+x", rows),)))
    assert text == "section,'@,a,b\n'+x,'=1+1,'-SUM(A1),-0.5\n"


@pytest.fixture
def table(tmp_path):
    """A results table of two runs, six rows each."""
    for seed in (0, 1):
        write_run(tmp_path / "runs", "mla", seed)
    write_csv(tmp_path / "results.csv", read_runs([tmp_path / "runs"]))
    return tmp_path / "results.csv"


def replaced(column, text):
    def damage(lines):
        cells = lines[2].split(",")
        cells[lines[0].split(",").index(column)] = text
        return [*lines[:2], ",".join(cells), *lines[3:]]

    return damage


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (replaced("accuracy_percent", "500.9"), "accuracy_percent is 500.9, not between 0 and 100"),
        (replaced("accuracy_percent", "nan"), "nan"),
        (replaced("ece", "-0.1"), "ece is -0.1"),
        (replaced("ece", "1e308"), "1e308"),
        (replaced("accuracy_percent", "5x"), "5x"),
        (replaced("seed", "7"), "seed is not that of line 2"),
        (replaced("epochs", "many"), "epochs is not that of line 2"),
        (replaced("state", "finishe"), "state is not that"),
        (replaced("modality", "image"), "duplicate row"),
        (replaced("code", "\udcff"), "code is not that"),
        (replaced("reason", '"'), "wrong number of columns"),
        (lambda lines: [*lines[:2], lines[2] + ",x", *lines[3:]], "wrong number of columns"),
        (lambda lines: [*lines[:2], lines[2][:40], *lines[3:]], "wrong number of columns"),
    ],
)
def test_a_damaged_row_is_named_and_other_runs_are_read(table, damage, reason):
    lines = table.read_text().split("\n")
    table.write_text("\n".join(damage(lines)), errors="surrogateescape")
    good = [run for run in read_csv(table) if run.is_finished and run.seed == 1]
    assert [len(scores) for scores in good[0].scores.values()] == [3, 3]
    assert len(read_csv(table)) == 2  # none of the other rows of the damaged run is shown
    (damaged,) = [run for run in read_csv(table) if run.state == "unreadable"]
    assert reason in damaged.reason
    assert "line" in damaged.reason
    assert damaged.scores == {}
    shown = make_report("runs", [table])
    assert "unreadable" in shown.title
    assert make_report("table1", [table]).tables
