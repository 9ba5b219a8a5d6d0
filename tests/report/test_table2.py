"""Table 2: accuracy by missing rate with equal masks, beside the paper's numbers."""

import json

import pytest
from tests.report.synthetic_runs import write_run

from mla_lightning.errors import RunError
from mla_lightning.report.main import write_files
from mla_lightning.report.read.paper import read_table2
from mla_lightning.report.read.results_csv import read_csv
from mla_lightning.report.read.run_folders import read_runs
from mla_lightning.report.read.variant import method_label
from mla_lightning.report.tables.table2 import METHODS, table2


def write_rate(root, method, seed, rate, level, masks=None):
    accuracy = {"image": 0.4, "text": 0.4, "multi": level}
    folder = write_run(
        root,
        method,
        seed,
        accuracy=accuracy,
        overrides={"missing.rate": rate, "missing.clip": True},
    )
    result = json.loads((folder / "result.json").read_text())
    result["test"]["multi"] |= {"macro_recall": level - 0.1, "weighted_f1": level - 0.2}
    result["missing"] = {
        "realised_rate": {"train": 0.3, "test": 0.31 if isinstance(rate, dict) else rate + 0.01},
        "mask_sha256": masks or f"{rate}-{seed}".ljust(64, "0"),
        "patterns": {
            "test": {
                "image": {"num": 60, "accuracy": level - 0.1},
                "image+text": {"num": 40, "accuracy": level + 0.15},
            }
        },
    }
    (folder / "result.json").write_text(json.dumps(result))
    return folder


@pytest.fixture
def runs(tmp_path):
    for rate, drop in ((0.3, 0.0), (0.5, 0.1)):
        for seed in (0, 1):
            write_rate(tmp_path / "runs", "mla", seed, rate, 0.7 - drop + 0.02 * seed)
            write_rate(tmp_path / "runs", "ae", seed, rate, 0.6 - drop)
    return tmp_path / "runs"


def row(table, label):
    return next(r for r in table.sections[0].rows if r.label == label)


def test_rows_are_methods_and_columns_are_rates(runs):
    report = table2(read_runs([runs]))
    accuracy, recall, f1, paper, patterns = report.tables
    assert accuracy.columns == ("30 %", "50 %")
    assert [c.text for c in row(accuracy, "MLA").cells] == ["71.0 ± 1.4 (2)", "61.0 ± 1.4 (2)"]
    assert [c.rank for c in row(accuracy, "MLA").cells] == [1, 1]
    assert [c.text for c in row(accuracy, "AE").cells] == ["60.0 ± 0.0 (2)", "50.0 ± 0.0 (2)"]
    assert [c.text for c in row(accuracy, "realised missing rate, test, %").cells] == [
        "31.0",
        "51.0",
    ]
    assert row(recall, "AE").cells[0].text == "50.0 ± 0.0 (2)"
    assert row(f1, "AE").cells[0].text == "40.0 ± 0.0 (2)"
    assert [r.label for r in paper.sections[0].rows] == [method_label(name) for name in METHODS]
    assert row(paper, "MLA").cells[0].text == "75.07"
    assert patterns.columns == ("image", "image+text")
    assert [c.text for c in row(patterns, "AE").cells] == ["45.0", "70.0"]
    assert len(read_table2()["iemocap"]) == 12
    assert all(len(rates) == 7 for rates in read_table2()["iemocap"].values())


def test_the_report_can_be_made_again_from_its_csv(runs, tmp_path):
    results = read_runs([runs])
    report = table2(results)
    written = write_files(report, results, tmp_path / "report")
    assert "table2.md" in written
    assert any(name.endswith(".svg") for name in written)
    report_of_csv = table2(read_csv(tmp_path / "report" / "results.csv"))
    assert report_of_csv.tables == report.tables


def test_runs_with_different_masks_at_one_rate_and_seed_are_an_error(runs):
    write_rate(runs, "qmf", 0, 0.3, 0.5, masks="f" * 64)
    with pytest.raises(RunError, match=r"had different masks at rate 0.3, seed 0"):
        table2(read_runs([runs]))


def test_rates_by_modality_have_columns_but_are_not_drawn(runs, tmp_path):
    for number, rates in enumerate(({"image": 0.5, "text": 0.1}, {"image": 0.1})):
        write_rate(runs, "mla", 0, rates, 0.6 + 0.1 * number)
    results = read_runs([runs])
    report = table2(results)
    assert report.tables[0].columns == ("30 %", "50 %", "image 10 %", "image 50 %, text 10 %")
    texts = [c.text for c in row(report.tables[0], "MLA").cells]
    assert texts == ["71.0 ± 1.4 (2)", "61.0 ± 1.4 (2)", "70.0 (1 of 2)", "60.0 (1 of 2)"]
    (draw,) = report.figures.values()
    lines = {line.get_label(): line.get_xdata() for line in draw().axes[0].get_lines()}
    assert list(lines["MLA"]) == [30, 50]
    by_modality = [result for result in results if '{"image"' in str(result.overrides)]
    assert not table2(by_modality).figures


def test_runs_without_missing_rate_are_an_error(tmp_path):
    write_run(tmp_path, "mla", 0)
    with pytest.raises(RunError, match=r"mla train -m experiment=table2/mfeat"):
        table2(read_runs([tmp_path]))
