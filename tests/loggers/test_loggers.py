"""Tracking services do not affect training; ids are those of the fault catalogue."""

import os
import re
import shutil
import signal
import socket
import sys
import time
from types import SimpleNamespace

import pytest
from tests.loggers.wandb_files import offline_files, records_named, rows_of
from tests.report.synthetic_runs import write_run

from mla_lightning import run_folder as files
from mla_lightning.launchers.child import fork_child
from mla_lightning.loggers import wandb as wandb_logger
from mla_lightning.loggers.build import build_loggers, finish_loggers, import_ahead

IDENTITY = "0123456789abcdef" * 4
KEY = "keythatmustnotreachanyfile" + "0123456789" * 3
WANDB = "mla_lightning.loggers.Wandb"


def config_with(target=WANDB, **options):
    tree = {
        "name": "table1/openmoji",
        "seed": 3,
        "overwrite": False,
        "choices": {"data": "openmoji", "method": "mla", "ablation": "no_df"},
        "metrics": {"accuracy": {"epoch": "acc"}, "r2": {"lower_is_better": False}},
        "optimizer": {"lr": 0.1},
        "logger": {"name": {"_target_": target, **options}},
    }
    return SimpleNamespace(**tree, tree=tree)


@pytest.fixture
def attempt(tmp_path, monkeypatch):
    """Run one attempt of a job in a forked process, as a sweep does; return its log."""
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setenv("NETRC", str(tmp_path / "no-netrc"))
    run_dir = tmp_path / "run"
    run_dir.mkdir()
    import_ahead(config_with())

    def run(config, steps=(), code=0, *, kills=False):
        def job_function(job):
            loggers = build_loggers(config, run_dir, IDENTITY)
            print(f"{len(loggers)} loggers")
            for step in steps:
                for logger in loggers:
                    logger.log_metrics({"train/loss/joint": step / 10}, step=step)
                    logger.log_metrics({"val/acc": 0.5}, step=step)
            if kills:
                time.sleep(2.0)
                os.kill(os.getpid(), signal.SIGKILL)
            finish_loggers(loggers, code)
            return code

        log = run_dir / files.LOG
        log.unlink(missing_ok=True)
        child = fork_child(SimpleNamespace(run_dir=run_dir), job_function, {})
        while not child.has_ended():
            time.sleep(0.02)
        assert child.job_exit().exit_code == (-signal.SIGKILL if kills else code), log.read_text()
        return log.read_text()

    run.run_dir = run_dir
    return run


def test_no_loggers():
    assert build_loggers(SimpleNamespace(logger=None), None, IDENTITY) == []
    assert build_loggers(SimpleNamespace(logger={}), None, IDENTITY) == []


def test_l01_offline_run_is_named_grouped_and_complete(attempt):
    finished = write_run(
        attempt.run_dir.parent / "finished",
        test=False,
        accuracy={"image": 0.7, "text": 0.7, "multi": 0.75},
    )
    shutil.copy(finished / files.RESULT, attempt.run_dir / files.RESULT)
    printed = attempt(config_with(), range(5))
    assert f"wandb sync {attempt.run_dir}/wandb/offline-run-" in printed
    (run,) = records_named(attempt.run_dir, "run")
    assert run.run_id == IDENTITY[:16]
    assert run.run_group == "table1/openmoji"
    assert run.display_name == "openmoji mla no_df seed=3"
    uploaded = {item.key: item.value_json for item in run.config.update}
    assert uploaded["optimizer.lr"] == "0.1"
    *rows, charts = rows_of(attempt.run_dir)
    assert [row["_step"] for row in rows] == [0, 1, 2, 3, 4]
    assert all({"train/loss/joint", "val/acc"} <= row.keys() for row in rows)
    assert any(key.startswith("tables/scores") for key in charts)
    summaries = [
        item for record in records_named(attempt.run_dir, "summary") for item in record.update
    ]
    values = {item.key or "/".join(item.nested_key): item.value_json for item in summaries}
    assert values["result.val.multi.accuracy"] == "0.75"


def test_l01_disabled_and_not_installed(attempt, monkeypatch):
    assert attempt(config_with(mode="disabled"), range(3)) == "0 loggers\n"
    monkeypatch.setitem(sys.modules, "wandb", None)
    printed = attempt(config_with(), range(3))
    assert "wandb cannot be imported" in printed
    assert "metrics.csv" in printed
    assert printed.endswith("0 loggers\n")
    assert not (attempt.run_dir / "wandb").exists()


@pytest.mark.parametrize("code", [1, 130, 143])
def test_a_failed_job_has_a_failed_run(attempt, code):
    attempt(config_with(), range(2), code)
    (record,) = records_named(attempt.run_dir, "exit")
    assert record.exit_code == code
    assert len(records_named(attempt.run_dir, "preempting")) == (code > 1)


def unused_address():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{server.getsockname()[1]}"


def test_l02_unreachable_server_falls_back_to_offline_in_time(attempt, monkeypatch):
    monkeypatch.setenv("WANDB_BASE_URL", unused_address())
    begin = time.monotonic()
    printed = attempt(config_with(mode="online", init_timeout_s=2.0), range(3))
    assert time.monotonic() - begin < 8
    assert re.search(r"W&B could not start online after \d+ s", printed)
    assert "continuing offline" in printed
    assert f"wandb sync {attempt.run_dir}/wandb/offline-run-" in printed
    assert len(rows_of(attempt.run_dir)) == 3


def test_l03_server_that_never_answers(attempt, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as server:  # accepts connections, never answers
        monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{server.getsockname()[1]}")
        printed = attempt(config_with(mode="online", init_timeout_s=1.0), range(3))
    assert "continuing offline" in printed
    assert len(rows_of(attempt.run_dir)) == 3


@pytest.mark.parametrize("key", ["short", None])
def test_l03_wrong_or_no_key(attempt, monkeypatch, key):
    monkeypatch.setenv("WANDB_BASE_URL", unused_address())
    monkeypatch.delenv("WANDB_API_KEY")
    if key is not None:
        monkeypatch.setenv("WANDB_API_KEY", key)
    printed = attempt(config_with(mode="online"), range(3))
    assert "continuing offline" in printed
    assert len(rows_of(attempt.run_dir)) == 3


def test_l03_an_error_of_logging_stops_logging_only(attempt, monkeypatch):
    def fill_the_disk(*args, **kwargs):
        raise OSError(28, "No space left on device")

    original = wandb_logger.WandbRun.__init__

    def init(self, wandb, run, *arguments, **options):
        original(self, wandb, run, *arguments, **options)
        run.log = fill_the_disk

    monkeypatch.setattr(wandb_logger.WandbRun, "__init__", init)
    printed = attempt(config_with(), range(5))
    assert printed.count("W&B accepts no more metrics ([Errno 28]") == 1


def test_l04_l05_a_resumed_job_continues_its_run_without_repeating_steps(attempt):
    attempt(config_with(), range(10), kills=True)
    attempt(config_with(), range(6, 14), code=143)  # from an earlier checkpoint
    attempt(config_with(), range(14, 18))
    assert len(offline_files(attempt.run_dir)) == 3
    assert {run.run_id for run in records_named(attempt.run_dir, "run")} == {IDENTITY[:16]}
    steps = [row["_step"] for row in rows_of(attempt.run_dir)]
    assert steps == list(range(18))


def test_one_run_per_job_in_one_process(tmp_path):
    """Serial sweeps run many jobs in one process."""

    def two_jobs(job):
        for name, identity in (("a", "a" * 64), ("b", "b" * 64)):
            run_dir = tmp_path / name
            run_dir.mkdir()
            loggers = build_loggers(config_with(), run_dir, identity)
            loggers[0].log_metrics({"loss": 1.0}, step=0)
            finish_loggers(loggers, 0)
        return 0

    child = fork_child(SimpleNamespace(run_dir=tmp_path), two_jobs, {})
    while not child.has_ended():
        time.sleep(0.02)
    for name in ("a", "b"):
        (run,) = records_named(tmp_path / name, "run")
        assert run.run_id == name * 16
        assert len(rows_of(tmp_path / name)) == 1


def test_x04_no_secret_reaches_a_file(attempt, monkeypatch):
    monkeypatch.setenv("WANDB_BASE_URL", unused_address())
    monkeypatch.setattr(sys, "argv", ["mla", f"--note={KEY}"])
    config = config_with(mode="online", init_timeout_s=1.0)
    # Secrets in a config are errors, and are removed here, too.
    config.tree |= {"note": f"my key is {KEY}", "hub": {"api_key": KEY}}
    printed = attempt(config, range(3))
    assert KEY not in printed
    written = [path for path in attempt.run_dir.rglob("*") if path.is_file()]
    assert len(written) > 5
    for path in written:
        assert KEY.encode() not in path.read_bytes(), path


def test_the_wandb_service_of_the_parent_is_not_used(attempt, monkeypatch):
    monkeypatch.setenv("WANDB_SERVICE", "3-1-unix-/nowhere")
    attempt(config_with(), range(2))
    assert len(rows_of(attempt.run_dir)) == 2


def test_import_ahead_starts_no_thread():
    before = len(os.listdir("/proc/self/task"))
    import_ahead(config_with())
    import_ahead(SimpleNamespace(logger=None))
    assert "wandb" in sys.modules
    assert len(os.listdir("/proc/self/task")) == before


def test_tensorboard_writes_events(attempt):
    attempt(config_with("mla_lightning.loggers.TensorBoard"), range(3))
    assert list((attempt.run_dir / "tensorboard").glob("events.out.tfevents.*"))


def test_tensorboard_not_installed(attempt, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    printed = attempt(config_with("mla_lightning.loggers.TensorBoard"), range(3))
    assert "tensorboard cannot be imported" in printed


def test_any_lightning_logger_can_be_named(attempt):
    target = "lightning.pytorch.loggers.CSVLogger"
    attempt(config_with(target, save_dir=str(attempt.run_dir), name="more", version="0"), range(3))
    assert "val/acc" in (attempt.run_dir / "more" / "0" / "metrics.csv").read_text()


def test_a_broken_logger_does_not_change_the_exit_code(capsys):
    class Broken:
        def finalize(self, status):
            raise RuntimeError(status)

    finish_loggers([Broken()], 1)
    assert "Broken did not finish: failed" in capsys.readouterr().out
