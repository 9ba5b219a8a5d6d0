"""Weights & Biases without a server: runs that are complete, sent late, and dashboards by code."""

import itertools
import json
from pathlib import Path

import pytest
import yaml
from wandb_files import offline_files, records_named, rows_of

from mla_lightning.cli import main
from mla_lightning.report.answer_figures import KINDS
from mla_lightning.report.dashboard import dashboard, models_of

SIZE = ["data.num_train=96", "data.num_val=40", "data.num_test=40", "trainer.max_epochs=2"]
SWEEPS = sorted(Path(__file__).parents[2].glob("experiments/sweeps/*.yaml"))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """One run with the logger and one without, sent later."""
    root = tmp_path_factory.mktemp("wandb")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        words = ["train", "data=synthetic", "method=mla", "diagnostics=epoch", *SIZE]
        assert main([*words, "logger=wandb", "run_dir=runs/with"]) == 0
        assert main([*words, "seed=1", "run_dir=runs/late"]) == 0
        assert main(["report", "runs", "runs/late", "--to-wandb", "mla_lightning"]) == 0
    return root / "runs"


def items(records):
    return {
        (item.key or ".".join(item.nested_key)): json.loads(item.value_json)
        for record in records
        for item in record.update
    }


@pytest.mark.parametrize("name", ["with", "late"])
def test_an_offline_run_has_everything_in_it(trained, name):
    run_dir = trained / name
    assert len(offline_files(run_dir)) == 1
    (about,) = records_named(run_dir, "run")[:1]
    config = {i.key: json.loads(i.value_json) for i in about.config.update}
    assert config["choices.method"] == "mla"
    assert config["optimizer.lr"] > 0
    rows = rows_of(run_dir)
    table = (run_dir / "metrics.csv").read_text().splitlines()
    epochs = [row for row in rows if "val/f1_macro" in row]
    assert len(epochs) == len(table) - 1 == 2
    assert any(key.startswith("forgetting/loss/") for key in epochs[0])
    charts = next(row for row in rows if any(k.startswith("tables/") for k in row))
    for key in ("scores", "shapley", "agreement", "reliability", "forgetting", "confusion"):
        assert any(k.startswith(f"tables/{key}") for k in charts), key
    assert any(k.startswith("charts/") for row in rows for k in row)
    summary = items(records_named(run_dir, "summary"))
    result = json.loads((run_dir / "result.json").read_text())
    assert summary["result.test.multi.accuracy"] == result["test"]["multi"]["accuracy"]
    assert summary["best_epoch"] == result["best_epoch"]
    assert "calibration.multi.temperature" in summary
    assert records_named(run_dir, "exit")[0].exit_code == 0


def test_sending_counts_what_has_no_result(trained, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    words = ["data=synthetic", "method=mla", *SIZE, "optimizer.lr=1e30", "run_dir=bad"]
    assert main(["train", *words]) != 0
    assert main(["report", "runs", "bad", "--to-wandb", "p"]) == 0
    assert "Sent 0 of 1 runs to W&B (offline)." in capfd.readouterr().out


def test_without_wandb_a_report_is_still_made(trained, tmp_path, monkeypatch, capfd):
    import mla_lightning.loggers as loggers

    def gone(name):
        print(f"{name} cannot be imported")

    monkeypatch.setattr(loggers, "_import", gone)
    words = ["report", "runs", str(trained / "late"), "--output", str(tmp_path), "--to-wandb", "p"]
    assert main(words) == 0
    out = capfd.readouterr().out
    assert "Sent 0 of 1" in out
    assert (tmp_path / "runs.html").is_file()


def test_the_dashboard_is_the_pages_panels(trained, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    assert main(["dashboard", "table1", str(trained)]) == 0
    assert "Save it on the server" in capfd.readouterr().out
    spec = json.loads((tmp_path / "dashboard.json").read_text())
    sections = {section["name"]: section for section in spec["workspace"]["sections"]}
    for kind in KINDS:
        if kind.curves or kind.tables:
            assert sections[kind.title]["about"] == kind.reading
            metrics = [panel["metrics"] for panel in sections[kind.title]["panels"]]
            assert metrics == [*kind.curves, *kind.tables]
    texts = [b["text"] for b in spec["report"]["blocks"] if b["type"] == "markdown"]
    assert any("Test accuracy in percent" in text for text in texts)
    assert spec["group_by"] == ["choices.data", "choices.method", "choices.ablation"]


def test_its_curves_are_what_runs_log(trained):
    import re

    logged = {key for row in rows_of(trained / "with") for key in row}
    for kind in KINDS:
        for regex in kind.curves:
            assert any(re.search(regex, key) for key in logged), regex
        for key in kind.tables:
            assert any(name.startswith(key) for name in logged), key


def test_the_library_takes_it():
    spec = dashboard("table1", None, project="p", entity="e")
    workspace, panels = models_of(spec)
    model = json.loads(workspace._to_model().model_dump_json(by_alias=True))
    names = [s["name"] for s in model["spec"]["section"]["panelBankConfig"]["sections"]]
    assert "Accuracy" in names
    assert "Forgetting of the shared head" in names
    assert sum(map(len, panels)) == sum(len(s["panels"]) for s in spec["workspace"]["sections"])


def test_a_server_that_does_not_take_it_costs_nothing(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    monkeypatch.setattr("mla_lightning.report.dashboard.save_online", _refused)
    assert main(["dashboard", "table3", "--online"]) == 1
    assert "W&B did not take it (ConnectionError: no server)" in capfd.readouterr().out
    assert (tmp_path / "dashboard.json").is_file()
    assert main(["dashboard", "tabel1"]) == 2
    assert "Did you mean 'table1'" in capfd.readouterr().err


def _refused(spec):
    raise ConnectionError("no server")


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_sweeps_start_this_command_line(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sweep = yaml.safe_load(path.read_text())
    assert sweep["metric"] == {"name": "val/acc", "goal": "maximize"}
    assert "evaluate_test=false" in sweep["command"]
    command = [word for word in sweep["command"] if not word.startswith("${")]
    assert command[:2] == ["mla", "train"]
    assert sweep["command"][-1] == "${args_no_hyphens}"
    choices = [
        [f"{key}={value}" for value in about.get("values", [about.get("min"), about.get("max")])]
        for key, about in sweep["parameters"].items()
    ]
    for chosen in itertools.islice(itertools.product(*choices), 0, None, 7):
        assert main([*command[1:], *chosen, "--dry-run"]) == 0
