"""Replaced, foreign, linked and read-only run folders: nothing is lost, nothing else is removed."""

import os
import subprocess
from pathlib import Path

import pytest
from tests.train.jobs import TINY, in_child, killed, make_job, outcome, same

from mla_lightning import run_folder as files
from mla_lightning.callbacks.checkpoint_io import CheckedCheckpointIO
from mla_lightning.cli.main import main
from mla_lightning.errors import ConfigError
from mla_lightning.module import MultimodalModule
from mla_lightning.run.train import run_job, train_job
from mla_lightning.run_folder import completion, contents
from mla_lightning.run_folder.lock import LOCK

STEP = (MultimodalModule, "training_step")
FAST = ("method=concat", "trainer.max_epochs=1", "evaluate_probe=false")


def make(root, *words):
    return make_job(root, *FAST, *words)


def words_of(*more):
    by_key = {word.partition("=")[0]: word for word in [*TINY, *FAST, *more]}
    return ["train", *by_key.values()]


def content_of(folder):
    return {
        path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    job = make(tmp_path_factory.mktemp("finished"))
    assert in_child(lambda: run_job(job)) == 0
    return job


@pytest.fixture
def run_dir(tmp_path, finished):
    """A copy of a finished run."""
    target = make(tmp_path).run_dir
    target.parent.mkdir(parents=True)
    subprocess.run(["cp", "-r", str(finished.run_dir), str(target)], check=True)
    return target


# ---------------------------------------------------------------------- what is not a run's


@pytest.mark.parametrize("kind", ["folder", "link", "link to a run", "config", "run", "file"])
def test_overwrite_removes_nothing_that_no_run_wrote(tmp_path, run_dir, kind, capsys):
    place = {"run": run_dir, "file": tmp_path / "file"}.get(kind, tmp_path / "x")
    other = tmp_path / "other"
    if kind == "file":
        place.write_text("text")
    else:
        other.mkdir()
        (other / "thesis.tex").write_text("text")
    if kind == "folder":
        other.rename(place)
    elif kind == "link":
        place.symlink_to(other)
    elif kind == "link to a run":
        place.symlink_to(run_dir)
    elif kind == "config":  # of another program
        other.rename(place)
        (place / "config.yaml").write_text("seed: 0\n")
        (place / "status.json").write_text("[]")
    elif kind == "run":
        (place / "thesis.tex").write_text("text")
    before = content_of(tmp_path)
    for more in ((), ("overwrite=true",)) if kind != "run" else (("overwrite=true",),):
        assert main(words_of(f"run_dir={place}", *more)) == 2
        message = capsys.readouterr().err
        assert any(text in message for text in ("holds", "symbolic link", "is a file"))
        assert content_of(tmp_path) == before


@pytest.mark.parametrize("name", ["checkpoints", "earlier"])
def test_a_linked_folder_of_a_run_is_refused(tmp_path, run_dir, name):
    other = tmp_path / "other"
    other.mkdir()
    (other / "epoch=0001-batch=000000.ckpt").write_text("of another run")
    if (run_dir / name).exists():
        (run_dir / name).rename(tmp_path / "moved")
    (run_dir / name).symlink_to(other)
    before = content_of(other)
    with pytest.raises(ConfigError, match=rf"{name} is a symbolic link"):
        train_job(make(tmp_path, "overwrite=true"))
    assert content_of(other) == before


def test_a_removal_never_follows_a_link(tmp_path):
    other, run = tmp_path / "other", tmp_path / "run"
    (other / "wandb").mkdir(parents=True)
    (other / "thesis.tex").write_text("text")
    (run / "wandb" / "inner").mkdir(parents=True)
    files.write_json(run / files.STATUS, {"state": "failed"})
    (run / "wandb" / "inner" / "link").symlink_to(other)
    (run / "tensorboard").symlink_to(other)
    (run / files.METRICS).symlink_to(other / "thesis.tex")
    before = content_of(other)
    link = tmp_path / "link"
    link.symlink_to(run)
    assert contents.remove_run(link)  # nothing is removed through it
    assert contents.remove_run(run) == []
    assert not run.exists()
    assert content_of(other) == before


def test_a_folder_without_proof_is_not_removed(tmp_path):
    (tmp_path / files.CONFIG).write_text("seed: 0")
    (tmp_path / files.METRICS).write_text("")
    assert contents.remove_run(tmp_path) == [files.CONFIG, files.METRICS]


def test_rotation_removes_a_planted_link_and_not_its_target(tmp_path):
    other = tmp_path / "thesis.tex"
    other.write_text("text")
    link = tmp_path / "epoch=0001-batch=000000.ckpt"
    link.symlink_to(other)
    CheckedCheckpointIO().remove_checkpoint(link)
    assert not link.is_symlink()
    assert other.read_text() == "text"


# ---------------------------------------------------------------------- the result before


def test_the_result_before_is_kept_until_the_new_one_is_finished(tmp_path, run_dir):
    before = (run_dir / files.RESULT).read_bytes()
    (run_dir / "checkpoints" / "my.ckpt").write_text("copied by hand")
    job = make(tmp_path, "overwrite=true")
    assert killed(job, (*STEP, 5)) == -9
    assert not files.is_finished(run_dir)
    assert (run_dir / "earlier/1" / files.RESULT).read_bytes() == before
    assert files.state_of(run_dir / "earlier/1") == "finished"
    again = make(tmp_path)  # as a person would continue it
    assert in_child(lambda: run_job(again)) == 0
    assert files.is_finished(run_dir)
    left = [path.relative_to(run_dir).as_posix() for path in (run_dir / "earlier").rglob("*")]
    assert sorted(left) == ["earlier/1", "earlier/1/checkpoints", "earlier/1/checkpoints/my.ckpt"]


def test_overwrite_trains_the_same_again_and_leaves_nothing_behind(tmp_path, run_dir, finished):
    (run_dir / files.RESULT).write_text((run_dir / files.RESULT).read_text() + " ")
    before = {path.name for path in run_dir.iterdir()}
    job = make(tmp_path, "overwrite=true")
    assert in_child(lambda: run_job(job)) == 0
    assert {path.name for path in run_dir.iterdir()} == before
    assert same(outcome(run_dir), outcome(finished.run_dir))


def test_a_failed_run_does_not_lose_the_result_before(tmp_path, run_dir, monkeypatch):
    def fail(*args, **kwargs):
        raise ValueError("of the user's code")

    monkeypatch.setattr(MultimodalModule, "on_validation_epoch_end", fail)
    assert run_job(make(tmp_path, "overwrite=true")) == 1
    assert files.state_of(run_dir) == "failed"
    assert files.state_of(run_dir / "earlier/1") == "finished"


@pytest.mark.parametrize("number", range(1, 9, 2))
def test_a_kill_while_a_run_is_set_aside_loses_nothing(tmp_path, run_dir, number):
    before = content_of(run_dir)
    del before[Path(LOCK)]
    job = make(tmp_path, "overwrite=true")
    assert killed(job, (Path, "replace", number)) == -9
    contents.check_run_folder(run_dir)
    completion.complete_set_aside(run_dir)
    moved = content_of(run_dir / "earlier/1")
    assert {path: text for path, text in moved.items() if path.name != ".replaced"} == before
    assert contents.written_entries(run_dir) == []


def test_files_of_a_users_logger_are_the_runs(tmp_path, monkeypatch):
    original = MultimodalModule.on_validation_epoch_end

    def log_rows(self):
        (Path(self.trainer.default_root_dir) / "rows.jsonl").write_text("{}")
        original(self)

    monkeypatch.setattr(MultimodalModule, "on_validation_epoch_end", log_rows)
    job = make(tmp_path)
    assert run_job(job) == 0
    (job.run_dir / "notes.md").write_text("mine")
    with pytest.raises(ConfigError, match=r"also holds what no run wrote \(notes\.md\)"):
        train_job(make(tmp_path, "overwrite=true"))
    (job.run_dir / "notes.md").unlink()
    assert run_job(make(tmp_path, "overwrite=true")) == 0
    assert contents.other_entries(job.run_dir) == []
    assert not (job.run_dir / "earlier").exists()


# ---------------------------------------------------------------------- other states


def test_a_finished_job_needs_no_write(tmp_path, run_dir, capfd):
    job = make(tmp_path)
    before = content_of(run_dir)

    def without_rights():
        mounted = os.getuid() == 0 and not os.system(f"mount --bind {tmp_path} {tmp_path}")
        if mounted and os.system(f"mount -o remount,bind,ro {tmp_path}"):
            return 98
        try:
            return run_job(job)
        finally:
            if mounted:
                os.system(f"umount {tmp_path}")

    assert in_child(without_rights) == 0
    assert "already finished" in capfd.readouterr().out
    assert content_of(run_dir) == before


@pytest.mark.parametrize("is_finished", [True, False])
def test_a_dry_run_tells_another_jobs_run_apart(tmp_path, run_dir, is_finished, capsys):
    if not is_finished:
        (run_dir / files.RESULT).unlink()
        files.write_json(run_dir / files.STATUS, {"state": "failed"})
    words = words_of(f"run_dir={run_dir}", "--dry-run")
    assert main(words) == 0
    state = "finished" if is_finished else "failed"
    assert f"1 jobs: 1 {state}" in capsys.readouterr().out
    assert main([*words, "seed=7"]) == 0
    assert "1 jobs: 1 another job's" in capsys.readouterr().out


@pytest.mark.parametrize("umask", [0o000, pytest.param(0o022, marks=pytest.mark.slow)])
def test_no_file_of_a_run_is_world_writable(tmp_path, umask):
    job = make(tmp_path, "logger=tensorboard", "diagnostics=epoch", "missing=anchor")

    def action():
        os.umask(umask)
        return run_job(job)

    assert in_child(action) == 0
    for path in tmp_path.rglob("*"):
        assert not path.stat().st_mode & 0o002, path


def test_temporary_files_of_a_killed_run_are_removed_by_the_next(tmp_path):
    job = make(tmp_path)
    assert killed(job, (os, "fsync", 4)) == -9
    assert list(job.run_dir.rglob(".*.tmp"))
    (job.run_dir / "checkpoints").mkdir(exist_ok=True)
    (job.run_dir / "checkpoints" / ".best-acc.ckpt.1.tmp").write_text("half")
    assert in_child(lambda: run_job(job)) == 0
    assert list(job.run_dir.rglob(".*.tmp")) == []
