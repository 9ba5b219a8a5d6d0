"""Reading run folders and results tables."""

import dataclasses
import json
import re
import subprocess
import sys
from dataclasses import replace

import pytest
from tests.report.synthetic_runs import change, write_run, write_table1

from mla_lightning.config.check import _metric_problems
from mla_lightning.errors import RunError
from mla_lightning.report.read.block import blocks
from mla_lightning.report.read.results_csv import columns_of, read_csv, write_csv
from mla_lightning.report.read.run import Run
from mla_lightning.report.read.run_folders import read_run, read_runs
from mla_lightning.report.tables.run_list import ledger
from mla_lightning.run_folder import write_json
from mla_lightning.run_folder.columns import RESULTS_COLUMNS


def test_a_finished_run_has_scores_settings_and_versions(tmp_path):
    accuracy = {"image": 0.4, "text": 0.5, "multi": 0.6122449}
    folder = write_run(tmp_path, "mla", 3, accuracy=accuracy, overrides={"method.alpha": 0.5})
    run = read_run(folder)
    assert (run.dataset, run.method, run.seed, run.state) == ("openmoji", "mla", 3, "finished")
    assert run.overrides == (("method.alpha", "0.5"),)  # seed and method have their own columns
    assert run.scores["test"]["multi"] == {
        "accuracy_percent": 61.2245,
        "macro_f1_percent": 56.2245,
        "ece": 0.1,
    }
    assert run.modalities == ("image", "text")
    assert (run.lr, run.best_epoch, run.epochs, run.num_test) == (0.1, 12, 20, 490)
    assert run.versions == "mla_lightning 0.1.0, torch 2.13.0, lightning 2.6.6"


def test_a_method_from_outside_the_package_is_shown_by_its_recorded_label(tmp_path):
    write_table1(tmp_path, ["mla", "concat"], (0, 1))
    runs = read_runs([tmp_path])
    assert "method_label" not in columns_of(runs)
    write_run(tmp_path, "flood", 0, method_label="FLOOD-Net")
    write_run(tmp_path, "flood", 1, method_label="FLOOD-Net", state="failed")
    runs = read_runs([tmp_path])
    write_csv(tmp_path / "results.csv", runs)
    for source in (runs, read_csv(tmp_path / "results.csv")):
        (block,) = blocks(source)
        assert [v.label for v in block.variants] == ["Concat", "MLA", "FLOOD-Net"]
        assert [v.key for v in block.variants] == ["concat", "mla", "flood"]
        assert block.find("flood").label == "FLOOD-Net"


@pytest.mark.parametrize("state", ["failed", "preempted", "interrupted"])
def test_an_unfinished_run_has_its_settings_and_a_reason_but_no_scores(tmp_path, state):
    run = read_run(write_run(tmp_path, "film", 1, state=state, reason="line one\nline two"))
    assert (run.method, run.seed, run.state) == ("film", 1, state)
    assert run.reason == "line one line two"
    assert run.retry == "mla train data=openmoji method=film ablation=none seed=1"
    assert run.scores == {}


def test_a_run_whose_process_is_gone_counts_as_killed(tmp_path):
    run = read_run(write_run(tmp_path, state="running"))
    assert run.state == "killed"
    assert "gone" in run.reason


def test_a_run_without_a_status_is_missing(tmp_path):
    folder = write_run(tmp_path, state="failed")
    (folder / "status.json").unlink()
    assert read_run(folder).state == "missing"


@pytest.mark.parametrize("name", ["result.json", "status.json", "provenance.json", "config.yaml"])
@pytest.mark.parametrize("content", ["", '{"schema": 1, "ident', "[1, 2]", "\x00\xff"])
def test_damaged_files_make_a_run_unreadable_without_scores(tmp_path, name, content):
    folder = write_run(tmp_path, state="finished" if name == "result.json" else "failed")
    (folder / name).write_text(content, encoding="latin-1")
    run = read_run(folder)
    assert run.state == "unreadable"
    assert run.scores == {}
    assert name in run.reason
    if name == "result.json":
        assert (run.dataset, run.method, run.seed) == ("openmoji", "mla", 0)


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"schema": 3}, "schema 3"),
        ({"identity": None}, "no 'identity'"),
        ({"test": {"multi": {"accuracy": 0.5, "macro_f1": 0.5, "ece": 0.1}}}, "image, text"),
        ({"test": {"multi": "half"}}, "result.json is not as expected"),
    ],
)
def test_a_result_with_unexpected_content_is_unreadable_with_a_reason(tmp_path, values, problem):
    folder = write_run(tmp_path)
    change(folder, "result.json", **values)
    run = read_run(folder)
    assert run.state == "unreadable"
    assert problem in run.reason


@pytest.mark.parametrize(
    ("diagnostics", "problem"),
    [
        ({"calibration": 3, "entropy": 4}, "no mapping in calibration, entropy"),
        ({"calibration": {"multi": {"after": {}}}, "entropy": {}}, "no 'width'"),
        ({"calibration": {}, "entropy": {}, "fusion": [1]}, "has no attribute"),
    ],
)
def test_damaged_diagnostics_are_named_in_the_reason(tmp_path, diagnostics, problem):
    folder = write_run(tmp_path)
    write_json(folder / "diagnostics.json", diagnostics)
    run = read_run(folder)
    assert run.state == "unreadable"
    assert run.reason.startswith("diagnostics.json is not as expected: ")
    assert problem in run.reason


@pytest.mark.parametrize("name", ["result.json", "metrics.csv"])
def test_the_retry_command_of_an_unreadable_run_overwrites_it(tmp_path, name):
    folder = write_run(tmp_path)
    (folder / name).write_text("epoch\nword\n")
    retry = "mla train data=openmoji method=mla ablation=none seed=0 overwrite=true"
    run = read_run(folder)
    assert (run.state, run.retry) == ("unreadable", retry)
    assert f"    retry: {retry}" in ledger([run]).tables[0].notes
    for file in ("status.json", "provenance.json"):
        content = json.loads((folder / file).read_text())
        old = retry.removesuffix(" overwrite=true")
        content = {key: retry if value == old else value for key, value in content.items()}
        write_json(folder / file, content)
    assert read_run(folder).retry == retry  # it is not added twice


@pytest.mark.parametrize(
    ("rows", "progress"),
    [("", "0 of 620"), ("1,310,0.5\n", "310 of 620"), ("1,310,0.5\n2,620,0.", "310 of 620")],
)
def test_truncated_metrics_make_a_run_unreadable(tmp_path, rows, progress):
    folder = write_run(tmp_path)
    complete = "epoch,step,val/acc\n1,310,0.5\n2,620,0.6\n"
    (folder / "metrics.csv").write_text(complete)
    assert read_run(folder).is_finished
    (folder / "metrics.csv").write_text(f"epoch,step,val/acc\n{rows}")
    run = read_run(folder)
    assert (run.state, run.scores) == ("unreadable", {})
    assert run.reason == f"metrics.csv was cut off: it ends at step {progress}"


def test_a_config_of_another_program_is_no_run(tmp_path):
    write_run(tmp_path)
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "config.yaml").write_text("defaults: [_self_]\n")
    assert len(read_runs([tmp_path])) == 1


def test_a_folder_that_is_given_twice_counts_once(tmp_path):
    folder = write_run(tmp_path)
    assert len(read_runs([tmp_path, folder, tmp_path / "." / folder.name])) == 1


def test_an_unfinished_run_has_the_overrides_of_its_command(tmp_path):
    write_run(tmp_path, "mla", 0, overrides={"optimizer.lr": 0.1})
    write_run(tmp_path, "mla", 0, overrides={"optimizer.lr": 0.1, "method.project_update": True})
    write_run(tmp_path, "mla", 1, overrides={"optimizer.lr": 0.2}, state="failed")
    write_run(tmp_path, "mla", 2, overrides={"method.alpha": 0.5}, state="failed")
    overrides = {run.seed: run.overrides for run in read_runs([tmp_path]) if not run.is_finished}
    assert overrides == {1: (("optimizer.lr", "0.2"),), 2: (("method.alpha", "0.5"),)}


def test_paths_without_runs_are_errors_that_name_what_was_expected(tmp_path):
    (tmp_path / "table1").mkdir()
    with pytest.raises(RunError, match=r"tabel1 does not exist\. Did you mean 'table1'\?"):
        read_runs([tmp_path / "tabel1"])
    with pytest.raises(RunError, match=r"holds no run: .*config\.yaml.*results\.csv.*Train first"):
        read_runs([tmp_path / "table1"])
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(RunError, match="is a file, not a run folder"):
        read_runs([tmp_path / "notes.txt"])


def test_csv_preserves_runs_exactly(tmp_path):
    root = write_table1(tmp_path / "runs", methods=("concat", "mla"))
    write_run(root, "film", 0, state="failed", reason='with, comma and "quotes"')
    write_run(root, "mla", 0, overrides={"a.b": "x y='1'", "c": [1, None]}, test=False)
    write_run(root, "mla", 7, ablation="no_hgm", protocol="paper")
    runs = read_runs([root])
    write_csv(tmp_path / "results.csv", runs)
    again = read_csv(tmp_path / "results.csv")
    assert again == runs
    assert [run.scores for run in again] == [run.scores for run in runs]
    write_csv(tmp_path / "again.csv", again)
    assert (tmp_path / "again.csv").read_text() == (tmp_path / "results.csv").read_text()


def test_csv_contains_no_absolute_paths(tmp_path):
    write_csv(tmp_path / "results.csv", read_runs([write_table1(tmp_path / "runs", ("mla",))]))
    assert str(tmp_path) not in (tmp_path / "results.csv").read_text()


def test_a_folder_with_only_a_csv_is_read(tmp_path):
    runs = read_runs([write_table1(tmp_path / "runs", methods=("mla",))])
    (tmp_path / "committed").mkdir()
    write_csv(tmp_path / "committed" / "results.csv", runs)
    assert read_runs([tmp_path / "committed"]) == runs


def test_a_csv_without_the_columns_of_results_is_an_error(tmp_path):
    path = tmp_path / "results.csv"
    path.write_text("dataset,method\na,b\n")
    with pytest.raises(RunError, match="columns lack ablation"):
        read_csv(path)


@pytest.mark.parametrize(
    ("edit", "problem"),
    [
        (lambda lines: [*lines, lines[-1][:40]], "wrong number of columns"),
        (lambda lines: [*lines, lines[-1]], "duplicate row: multi, test"),
        (lambda lines: [*lines, lines[-1].replace(",multi,test,", ",multi,test,x")], "line 8"),
    ],
)
def test_a_damaged_row_makes_its_run_unreadable_with_the_line(tmp_path, edit, problem):
    path = tmp_path / "results.csv"
    write_csv(path, read_runs([write_table1(tmp_path, ("mla",), seeds=(2,))]))
    path.write_text("\n".join(edit(path.read_text().splitlines())) + "\n")
    (run,) = read_csv(path)
    assert run.state == "unreadable"
    assert run.scores == {}
    assert re.search(rf"line \d.*{problem}|{problem}", run.reason)


def test_results_tables_have_the_documented_columns():
    documented = (
        "dataset method ablation seed modality split accuracy_percent macro_f1_percent ece "
        "best_epoch epochs lr train_time_s peak_memory_mb protocol data_split identity code"
    )
    assert set(documented.split()) <= set(columns_of([]))


def test_a_run_that_finishes_while_it_is_read_is_finished(tmp_path, monkeypatch):
    from mla_lightning.report.read import run_folders

    folder = write_run(tmp_path)
    read_json, calls = run_folders.files.read_json, []

    def result_from_second_call(path):
        calls.append(path.name)
        is_first = path.name == "result.json" and calls.count("result.json") == 1
        return None if is_first else read_json(path)

    monkeypatch.setattr(run_folders.files, "read_json", result_from_second_call)
    assert read_run(folder).scores["test"]


def test_reports_import_neither_torch_nor_any_model(tmp_path):
    root = write_table1(tmp_path, methods=("concat", "mla"), seeds=(0,))
    code = (
        "import sys; from pathlib import Path\n"
        "from mla_lightning.report.main import write_report\n"
        "write_report('table1', [Path(sys.argv[1])])\n"
        "bad = [m for m in sys.modules if m.split('.')[0] in ('torch', 'lightning', 'hydra')]\n"
        "own = [m for m in sys.modules if m.startswith('mla_lightning.')]\n"
        "allowed = ('report', 'errors', 'paths', 'run_folder', 'identity', 'config')\n"
        "bad += [m for m in own if m.split('.')[1] not in allowed]\n"
        "assert not bad, bad"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, str(root)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_runs_are_compared_without_their_path(tmp_path):
    run = read_run(write_run(tmp_path))
    assert run == replace(run, where="elsewhere", path=None)


def test_no_metric_can_have_the_name_of_a_column_of_results():
    fields = {item.name for item in dataclasses.fields(Run)}
    assert fields | {"modality", "split", "probe_percent", "majority_percent"} == RESULTS_COLUMNS
    node = {"_target_": "my.metric", "label": "x"}
    for name in ("epochs", "state", "seed"):
        (problem,) = _metric_problems({name: node})
        assert f"metrics.{name}: results.csv has a column '{name}'" in problem
    assert _metric_problems({"probe": {**node, "percent": True}})
    assert not _metric_problems({"accuracy": {**node, "percent": True}, "margin": node})
