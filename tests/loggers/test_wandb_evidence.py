"""Weights & Biases without a server: logged runs, runs sent later, and dashboards."""

import json
import re
import shutil
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import yaml
from tests.loggers.wandb_files import offline_files, records_named, rows_of

from mla_lightning.cli.main import main
from mla_lightning.loggers.rows import LAST_STEP
from mla_lightning.loggers.wandb import Wandb
from mla_lightning.loggers.wandb_result import charts_of
from mla_lightning.publish.wandb_dashboard import describe_dashboard
from mla_lightning.publish.wandb_runs import send
from mla_lightning.publish.wandb_server import build_models, save_online
from mla_lightning.report.figures.panels import panels
from mla_lightning.report.tables.kinds import varied_keys

SIZE = ["data.num_train=96", "data.num_val=40", "data.num_test=40", "trainer.max_epochs=2"]
ROOT = Path(__file__).parents[2]


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
def test_an_offline_run_is_complete(trained, name):
    run_dir = trained / name
    assert len(offline_files(run_dir)) == 1
    (run,) = records_named(run_dir, "run")[:1]
    config = {item.key: json.loads(item.value_json) for item in run.config.update}
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


def test_a_live_run_logs_the_rows_that_are_sent_later(trained, tmp_path):
    """One row per epoch, at its step, with its 1-based epoch and its times: metrics.csv."""
    run_dir = tmp_path / "with"
    shutil.copytree(trained / "with", run_dir, ignore=shutil.ignore_patterns("wandb"))
    send([run_dir], Wandb())
    live, sent = (
        [
            {key: value for key, value in row.items() if key not in ("_timestamp", "_runtime")}
            for row in rows_of(folder)
            if "val/acc" in row
        ]
        for folder in (trained / "with", run_dir)
    )
    assert [(row["_step"], row["epoch"]) for row in live] == [(3, 1), (6, 2)]
    assert {"time/epoch_s", "time/step_s", "time/diagnostics_s"} <= live[0].keys()
    assert live == sent


def test_the_chart_of_confusion_has_the_counts_of_every_pair_of_classes(trained):
    import wandb

    chart = charts_of(trained / "with", wandb)["charts/confusion"]
    with np.load(trained / "with" / "predictions.npz") as arrays:
        pairs = list(zip(arrays["label"], arrays["logits_multi"].argmax(axis=1), strict=True))
        names = [str(name) for name in arrays["class_names"]]
    expected = [
        [true, predicted, float(pairs.count((a, b)))]
        for a, true in enumerate(names)
        for b, predicted in enumerate(names)
    ]
    assert chart.table.data == expected
    assert sum(row[2] for row in expected) == len(pairs) == 40
    logged = {key for row in rows_of(trained / "with") for key in row}
    assert any(key.startswith("charts/confusion") for key in logged)


def test_confusion_of_many_classes_is_a_table_alone(trained, monkeypatch):
    import wandb

    monkeypatch.setattr("mla_lightning.loggers.wandb_result.MAX_CLASSES_OF_CHART", 3)
    charts = charts_of(trained / "with", wandb)
    assert "tables/confusion" in charts
    assert "charts/confusion" not in charts


def test_plain_runs_have_a_dashboard(trained, tmp_path, monkeypatch, capfd):
    """Its filter is the tag of runs without a name, and its curves are logged over epochs."""
    monkeypatch.chdir(tmp_path)
    assert main(["dashboard", "train"]) == 0
    spec = json.loads((tmp_path / "dashboard.json").read_text())
    (run,) = records_named(trained / "with", "run")[:1]
    assert spec["filter"] == f"Tags() in {list(run.tags)}"
    assert "mla dashboard train RUNS" in spec["report"]["blocks"][0]["text"]
    assert "Warning" not in capfd.readouterr().out
    workspace, _ = build_models(spec)
    (runset,) = model_of(workspace)["spec"]["section"]["runSets"]
    grouping, filters = settings_of(runset)
    assert filters == [("tags", "IN", ["train"])]
    assert [name for _, name in grouping] == [
        f"choices.{name}.value" for name in ("data", "method", "ablation")
    ]
    defined = {
        metric.name: metric.step_metric for metric in records_named(trained / "with", "metric")
    }
    curves = [
        panel
        for section in spec["workspace"]["sections"]
        for panel in section["panels"]
        if panel["type"] == "line"
    ]
    assert len(curves) > 10
    for panel in curves:
        shown = [name for name in defined if re.search(panel["metrics"], name)]
        assert shown, panel["title"]
        assert {defined[name] for name in shown} == {panel["x"]} == {"epoch"}


def test_sending_counts_runs_without_a_result(trained, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    words = ["data=synthetic", "method=mla", *SIZE, "optimizer.lr=1e30", "run_dir=bad"]
    assert main(["train", *words]) != 0
    assert main(["report", "runs", "bad", "--to-wandb", "p"]) == 0
    out = capfd.readouterr().out
    assert "W&B, 1 runs: 0 sent, 0 kept for wandb sync, 1 without a result left out." in out


@pytest.mark.parametrize("kind", ["raises", "empty"])
def test_without_wandb_the_report_is_written_and_nothing_sent(
    trained, tmp_path, monkeypatch, capfd, kind
):
    module = None if kind == "raises" else types.ModuleType("wandb")
    monkeypatch.setitem(sys.modules, "wandb", module)
    words = ["report", "runs", str(trained), "--output", str(tmp_path), "--to-wandb", "p"]
    assert main(words) == 1
    out, err = capfd.readouterr()
    assert err.count("Nothing was sent: wandb") == 1
    assert "pip install" in err
    assert "metrics.csv only" not in out + err
    assert "without a result" not in out + err
    assert (tmp_path / "runs.html").is_file()


def test_a_project_that_wandb_rejects_is_reported_once(trained, tmp_path, capfd):
    words = ["report", "runs", str(trained), "--output", str(tmp_path), "--to-wandb"]
    assert main([*words, "bad/name"]) == 1
    out, err = capfd.readouterr()
    assert err.count("Invalid project name") == 1
    assert "without a result" not in out + err
    assert main([*words, ""]) == 2


def test_a_run_that_wandb_cannot_start_is_not_counted_as_without_a_result(
    trained, tmp_path, monkeypatch, capfd
):
    import wandb

    def refuse(**_):
        raise OSError("disk full")

    monkeypatch.setattr(wandb, "init", refuse)
    words = ["report", "runs", str(trained / "late"), "--output", str(tmp_path), "--to-wandb", "p"]
    assert main(words) == 1
    out, err = capfd.readouterr()
    assert "(disk full); this run is not sent." in out
    assert "0 kept for wandb sync, 1 rejected." in out
    assert "W&B accepted no run" in err


def test_a_table_of_results_has_no_runs_to_send(trained, tmp_path, capfd):
    out = tmp_path / "out"
    assert main(["report", "runs", str(trained), "--output", str(out)]) == 0
    table = str(out / "results.csv")
    assert main(["report", "runs", table, "--output", str(tmp_path), "--to-wandb", "p"]) == 1
    assert "holds no runs to send" in capfd.readouterr().err


def test_the_dashboard_has_the_panels_of_the_page(trained, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    assert main(["dashboard", "table1", str(trained)]) == 0
    assert "Save it on the server" in capfd.readouterr().out
    spec = json.loads((tmp_path / "dashboard.json").read_text())
    sections = {section["name"]: section for section in spec["workspace"]["sections"]}
    for kind in filter(None, (panel.for_task("classification") for panel in panels())):
        if kind.curves or kind.tables:
            assert sections[kind.title]["about"] == kind.reading
            metrics = [panel["metrics"] for panel in sections[kind.title]["panels"]]
            assert metrics == [*kind.curves, *kind.tables]
    texts = [b["text"] for b in spec["report"]["blocks"] if b["type"] == "markdown"]
    assert any("Test accuracy in percent" in text for text in texts)
    assert spec["group_by"] == ["choices.data", "choices.method", "choices.ablation"]


def test_curves_and_tables_of_panels_are_logged(trained):
    logged = {key for row in rows_of(trained / "with") for key in row}
    for kind in filter(None, (panel.for_task("classification") for panel in panels())):
        for regex in kind.curves:
            assert any(re.search(regex, key) for key in logged), regex
        for key in kind.tables:
            assert any(name.startswith(key) for name in logged), key


def test_the_library_accepts_the_workspace():
    spec = describe_dashboard("table1", None, project="p", entity="e")
    workspace, panels = build_models(spec)
    model = json.loads(workspace._to_model().model_dump_json(by_alias=True))
    names = [s["name"] for s in model["spec"]["section"]["panelBankConfig"]["sections"]]
    assert "Accuracy" in names
    assert "Forgetting of the shared head" in names
    assert sum(map(len, panels)) == sum(len(s["panels"]) for s in spec["workspace"]["sections"])


def test_a_server_error_keeps_the_file(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    monkeypatch.setattr("mla_lightning.publish.wandb_dashboard.save_online", _refused)
    assert main(["dashboard", "table3", "--online"]) == 1
    assert "W&B did not accept it (ConnectionError: no server)" in capfd.readouterr().out
    assert (tmp_path / "dashboard.json").is_file()
    assert main(["dashboard", "tabel1"]) == 2
    assert "Did you mean 'table1'" in capfd.readouterr().err


def _refused(spec):
    raise ConnectionError("no server")


def model_of(item):
    return json.loads(item._to_model().model_dump_json(by_alias=True))


def settings_of(runset):
    grouping = [(key["section"], key["name"]) for key in runset["grouping"]]
    filters = [(f["key"]["name"], f["op"], f["value"]) for f in runset["filters"]["filters"]]
    return grouping, filters


@pytest.mark.parametrize("entity", [None, "me"])
def test_workspace_and_report_group_and_filter_by_uploaded_keys(trained, monkeypatch, entity):
    import wandb_workspaces.reports.v2 as wr
    import wandb_workspaces.workspaces as ws

    saved = []
    for kind in (ws.Workspace, wr.Report):
        monkeypatch.setattr(kind, "save", lambda self: saved.append(self))
        monkeypatch.setattr(kind, "url", "address")
    spec = describe_dashboard("table1", None, project="p", entity=entity)
    assert save_online(spec) == ["address", "address"]
    workspace, report = saved
    assert report.entity == (entity or "")
    (runset,) = model_of(workspace)["spec"]["section"]["runSets"]
    grids = [block for block in report.blocks if isinstance(block, wr.PanelGrid)]
    for grid in grids:
        grid.runsets[0].entity = ""  # with one, the library asks the server for the project
    settings = [settings_of(runset), *(settings_of(model_of(grid.runsets[0])) for grid in grids)]
    (run,) = records_named(trained / "with", "run")[:1]
    uploaded = {item.key: json.loads(item.value_json) for item in run.config.update}
    assert list(run.tags) == [uploaded["name"].partition("/")[0]]
    for grouping, filters in settings:
        assert filters == [("tags", "IN", ["table1"])]
        assert [section for section, _ in grouping] == ["config"] * 3
        # A flat key "a.b" is kept by the server as {"a.b": {"value": ...}}.
        assert all(name.removesuffix(".value") in uploaded for _, name in grouping)
        assert all(name.endswith(".value") for _, name in grouping)


@pytest.mark.parametrize("kind", [*varied_keys()])
def test_only_seeds_are_averaged_over(kind):
    spec = describe_dashboard(kind, None, project="p", entity=None)
    varied = set()
    for path in (ROOT / "conf" / "experiment" / kind).glob("*.yaml"):
        grid = yaml.safe_load(path.read_text())["grid"]
        varied |= {key if "." in key else f"choices.{key}" for key in grid if key != "seed"}
    assert varied
    assert varied <= set(spec["group_by"])
    assert all(f"`{key}`" in spec["report"]["blocks"][0]["text"] for key in varied)
    workspace, _ = build_models(spec)
    (runset,) = model_of(workspace)["spec"]["section"]["runSets"]
    assert settings_of(runset)[0] == [("config", f"{key}.value") for key in spec["group_by"]]


def test_ablations_have_a_section_grouped_by_them():
    spec = describe_dashboard("table3", None, project="p", entity=None)
    (section,) = [s for s in spec["workspace"]["sections"] if s["name"] == "Ablations"]
    workspace, _ = build_models(spec)
    banks = model_of(workspace)["spec"]["section"]["panelBankConfig"]["sections"]
    (bank,) = [bank for bank in banks if bank["name"] == "Ablations"]
    assert len(bank["panels"]) == len(section["panels"]) == 3
    assert {panel["config"]["groupBy"] for panel in bank["panels"]} == {"choices.ablation.value"}


@pytest.mark.parametrize("name", ["with", "late"])
def test_a_run_that_was_logged_or_sent_before_is_sent_completely_again(trained, tmp_path, name):
    run_dir = tmp_path / name
    shutil.copytree(trained / name, run_dir)
    mark = run_dir / "wandb" / LAST_STEP
    before = mark.read_text() if mark.is_file() else None
    shutil.rmtree(run_dir / "wandb", ignore_errors=True)
    if before is not None:
        mark.parent.mkdir()
        mark.write_text(before)
    for times in (1, 2):
        sent = send([run_dir], Wandb())
        assert (sent.online, len(sent.kept), sent.left) == (0, 1, 0)
        epochs = [row for row in rows_of(run_dir) if "val/f1_macro" in row]
        assert len(epochs) == 2 * times
    assert (mark.read_text() if mark.is_file() else None) == before


def test_a_server_that_accepts_no_run_is_asked_once(trained, tmp_path, monkeypatch, capfd):
    runs = tmp_path / "runs"
    for name in ("with", "late"):
        shutil.copytree(trained / name, runs / name, ignore=shutil.ignore_patterns("wandb"))
    modes = []

    def refuse(self, wandb, arguments, mode):
        modes.append(mode)
        return None if mode == "online" else start(self, wandb, arguments, mode)

    start = Wandb._start
    monkeypatch.setattr(Wandb, "_start", refuse)
    words = ["report", "runs", str(runs), "--to-wandb", "p", "--online", "--output"]
    assert main([*words, str(tmp_path / "out")]) == 0
    assert modes == ["online", "offline", "offline"]
    assert "W&B, 2 runs: 0 sent, 2 kept for wandb sync." in capfd.readouterr().out


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("result.json", "{"),
        ("config.yaml", "a: ["),
        ("config.yaml", "name: no more\n"),
        ("metrics.csv", "epoch,step,val/acc\n1,3,zero\n"),
        ("metrics.csv", "epoch,val/acc\n1,0.5\n"),
        ("provenance.json", "{}"),
    ],
)
def test_a_damaged_run_is_reported_and_the_others_are_sent(trained, tmp_path, capfd, name, content):
    for run in ("a", "b"):
        ignored = shutil.ignore_patterns("wandb")
        shutil.copytree(trained / "late", tmp_path / run, ignore=ignored)
    (tmp_path / "a" / name).write_text(content)
    words = ["report", "runs", str(tmp_path), "--output", str(tmp_path / "out")]
    assert main([*words, "--to-wandb", "p"]) == 0
    out = capfd.readouterr().out
    assert "W&B, 2 runs: 0 sent, 1 kept for wandb sync, 1 damaged." in out
    (line,) = [line for line in out.splitlines() if "is damaged and left out" in line]
    assert str(tmp_path / "a") in line
    assert name.partition(".")[0] in line
    assert not offline_files(tmp_path / "a")
    assert offline_files(tmp_path / "b")
