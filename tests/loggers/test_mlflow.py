"""MLflow runs, read back with MLflow's own client."""

import os
import socket
from types import SimpleNamespace

import pytest

pytest.importorskip("mlflow")

from tests.loggers.test_loggers import config_with

from mla_lightning.loggers.build import build_loggers, finish_loggers

IDENTITY = "0123456789abcdef" * 4
TARGET = "mla_lightning.loggers.Mlflow"


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    for name in ("TRACKING_URI", "HTTP_REQUEST_TIMEOUT", "HTTP_REQUEST_MAX_RETRIES"):
        monkeypatch.delenv(f"MLFLOW_{name}", raising=False)
    for name in ("DISABLE_TELEMETRY", "ALLOW_FILE_STORE"):
        monkeypatch.setenv(f"MLFLOW_{name}", "true")


def attempt(run_dir, steps, code=0, *, is_killed=False, **options):
    config = config_with(TARGET, **options)
    (logger,) = build_loggers(config, run_dir, IDENTITY)
    for step in steps:
        logger.log_metrics({"train/loss/joint": step / 10, "epoch": 0}, step=step)
        logger.log_metrics({"val/acc": 0.5, "val/acc/image": 0.4}, step=step)
    if not is_killed:
        finish_loggers([logger], code)


def runs_in(folder):
    from mlflow.tracking import MlflowClient

    client = MlflowClient(folder.absolute().as_uri())
    (experiment,) = [e for e in client.search_experiments() if e.name != "Default"]
    return client, experiment, client.search_runs([experiment.experiment_id])


@pytest.mark.parametrize(
    ("code", "status"), [(0, "FINISHED"), (1, "FAILED"), (130, "KILLED"), (143, "KILLED")]
)
def test_a_run_has_name_parameters_metrics_and_status(tmp_path, code, status, capsys):
    attempt(tmp_path, range(3), code)
    client, experiment, (run,) = runs_in(tmp_path / "mlflow")
    assert experiment.name == "table1/openmoji"
    assert run.info.run_name == "openmoji mla no_df seed=3"
    assert run.info.status == status
    assert run.data.params["optimizer.lr"] == "0.1"
    assert run.data.metrics["val/acc"] == 0.5
    assert run.data.metrics["val/acc.image"] == 0.4
    history = client.get_metric_history(run.info.run_id, "train/loss.joint")
    assert [(m.step, m.value) for m in history] == [(0, 0.0), (1, 0.1), (2, 0.2)]
    assert f"mlflow ui --backend-store-uri {tmp_path}/mlflow" in capsys.readouterr().out


def test_a_resumed_job_continues_its_run_without_repeating_steps(tmp_path):
    attempt(tmp_path, range(6), is_killed=True)
    attempt(tmp_path, range(3, 8))  # from an earlier checkpoint
    client, _, (run,) = runs_in(tmp_path / "mlflow")
    steps = [m.step for m in client.get_metric_history(run.info.run_id, "val/acc")]
    assert steps == list(range(8))
    assert run.info.status == "FINISHED"


def test_the_variable_and_the_setting_name_another_place(tmp_path, monkeypatch):
    (tmp_path / "run").mkdir()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "a").as_uri())
    attempt(tmp_path / "run", range(2))
    assert len(runs_in(tmp_path / "a")[2]) == 1
    attempt(tmp_path / "run", range(2), tracking_uri=(tmp_path / "b").as_uri())
    assert len(runs_in(tmp_path / "b")[2]) == 1


def test_a_server_that_does_not_answer_is_left_out(tmp_path, capsys):
    with socket.create_server(("127.0.0.1", 0)) as server:  # accepts connections, never answers
        address = f"127.0.0.1:{server.getsockname()[1]}"
        attempt(tmp_path, range(2), tracking_uri=f"http://me:pass@{address}", timeout_s=1)
    printed = capsys.readouterr().out
    assert f"MLflow could not start at http://{address}" in printed
    assert f"continuing in {tmp_path}/mlflow" in printed
    assert len(runs_in(tmp_path / "mlflow")[2]) == 1
    assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "1"


def test_without_mlflow_metrics_are_in_the_csv_only(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(__import__("sys").modules, "mlflow", None)
    assert build_loggers(config_with(TARGET), tmp_path, IDENTITY) == []
    assert "mlflow cannot be imported" in capsys.readouterr().out
    assert build_loggers(SimpleNamespace(logger=None), tmp_path, IDENTITY) == []
