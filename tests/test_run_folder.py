"""The run folder: atomic and damaged files, state, identity and lock."""

import errno
import os
import resource
import signal

import pytest

from mla_lightning import run_folder as files
from mla_lightning.errors import RunError
from mla_lightning.identity import NOT_IDENTITY, identity_of
from mla_lightning.run_folder.lock import LOCK, RunLock


def in_child(function):
    """Run a function in a forked process and return its exit code."""
    pid = os.fork()
    if pid == 0:
        code = 99
        try:
            code = function() or 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


# ---------------------------------------------------------------------- files


def test_json_is_read_back(tmp_path):
    path = tmp_path / "a.json"
    files.write_json(path, {"name": "ä", "value": 0.1})
    assert files.read_json(path) == {"name": "ä", "value": 0.1}
    assert files.read_json(tmp_path / "b.json") is None
    assert files.read_json(path / "c.json") is None  # below a file


@pytest.mark.parametrize("text", ["", "{", "[1]", "\x00\x00"])
def test_an_error_names_the_broken_json_file(tmp_path, text):
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(RunError, match=r"a\.json"):
        files.read_json(path)


def test_non_finite_numbers_are_refused_and_change_nothing(tmp_path):
    path = tmp_path / "a.json"
    files.write_json(path, {"value": 1.0})
    with pytest.raises(ValueError, match="Out of range"):
        files.write_json(path, {"value": float("nan")})
    assert files.read_json(path) == {"value": 1.0}


def test_a_full_disk_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    path = tmp_path / "a.json"
    files.write_json(path, {"value": 1})
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        files.write_json(path, {"value": 2})
    assert files.read_json(path) == {"value": 1}
    assert os.listdir(tmp_path) == ["a.json"]


def test_a_limit_on_the_size_of_files(tmp_path):
    path = tmp_path / "a.json"
    files.write_json(path, {"value": 1})

    def write_too_much():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
        try:
            files.write_json(path, {"value": "x" * 100_000})
        except OSError as error:
            return error.errno
        return 0

    assert in_child(write_too_much) == errno.EFBIG
    assert files.read_json(path) == {"value": 1}
    assert os.listdir(tmp_path) == ["a.json"]


def test_an_incomplete_last_line_of_metrics_is_ignored(tmp_path):
    path = tmp_path / files.METRICS
    assert files.read_metrics(tmp_path) == []
    path.write_text("epoch,val/acc,lr\n1,0.5,\n2,0.75,0.1\n")
    whole = files.read_metrics(tmp_path)
    assert whole == [{"epoch": 1, "val/acc": 0.5}, {"epoch": 2, "val/acc": 0.75, "lr": 0.1}]
    text = path.read_text()
    for end in range(len(text)):
        path.write_text(text[:end])
        rows = files.read_metrics(tmp_path)
        assert rows == whole[: len(rows)]


def test_configs_below_a_run_folder_are_no_runs(tmp_path):
    for name in ("b/run2", "a/run1", "a/run1/wandb/offline-run-x/files", "c"):
        (tmp_path / name).mkdir(parents=True, exist_ok=True)
        (tmp_path / name / files.CONFIG).touch()
    (tmp_path / "d").mkdir()
    assert list(files.find_runs(tmp_path)) == [tmp_path / n for n in ("a/run1", "b/run2", "c")]
    assert list(files.find_runs(tmp_path / "c")) == [tmp_path / "c"]


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_no_file_becomes_world_writable(tmp_path, umask):
    before = os.umask(umask)
    try:
        with files.not_world_writable():
            (tmp_path / "a" / "b").mkdir(parents=True)
            files.write_json(tmp_path / "a" / "c.json", {})
            with RunLock(tmp_path / "a"):
                assert not (tmp_path / "a" / LOCK).stat().st_mode & 0o002
        assert os.umask(umask) == umask
    finally:
        os.umask(before)
    for path in (tmp_path / "a").rglob("*"):
        assert not path.stat().st_mode & 0o002
        assert path.stat().st_mode & 0o600


# ---------------------------------------------------------------------- state and identity


def test_states(tmp_path):
    assert files.state_of(tmp_path) == "missing"
    for state in ("failed", "preempted", "interrupted"):
        files.write_json(tmp_path / files.STATUS, {"state": state})
        assert files.state_of(tmp_path) == state
    files.write_json(tmp_path / files.STATUS, {"state": "running"})
    assert files.state_of(tmp_path) == "killed"
    with RunLock(tmp_path):
        assert files.state_of(tmp_path) == "running"
    files.write_json(tmp_path / files.RESULT, {"identity": "a"})
    assert files.state_of(tmp_path) == "finished"


def test_identity_depends_on_settings_that_change_numbers():
    config = {"seed": 0, "trainer": {"threads": 1, "progress_bar": True}, "optimizer": {"lr": 0.1}}
    identity = identity_of(config, "data")
    for key in NOT_IDENTITY:
        assert identity_of({**config, key: "other"}, "data") == identity
    quiet = {**config, "trainer": {"threads": 1, "progress_bar": False}}
    assert identity_of(quiet, "data") == identity
    reordered = dict(reversed(config.items()))
    assert identity_of(reordered, "data") == identity
    others = [
        identity_of(config, "other data"),
        identity_of({**config, "seed": 1}, "data"),
        identity_of({**config, "trainer": {"threads": 2}}, "data"),
        identity_of({**config, "optimizer": {"lr": 0.2}}, "data"),
    ]
    assert len({identity, *others}) == 5


def test_retry_command_can_be_pasted():
    overrides = ("method=mla", "data.note=it's", "seed=0")
    assert files.retry_command(overrides) == """mla train method=mla 'data.note=it'"'"'s' seed=0"""
