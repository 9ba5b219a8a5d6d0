"""Submission to SLURM: refused, interrupted at any point, or without an answer."""

import shlex

import pytest
from tests.sweep.slurm_queue import launcher
from tests.sweep.stand_in import run_stand_in, write_status

from mla_lightning import run_folder as files
from mla_lightning.errors import ConfigError, RunError
from mla_lightning.launchers import slurm, slurm_submission
from mla_lightning.launchers.sweep import run_sweep


def test_nothing_has_started_before_all_folders_say_queued(cluster, jobs_of, monkeypatch):
    jobs, held = jobs_of("finish", "finish"), []
    write = slurm_submission.write_queued

    def watch(array, number, job):
        held.append({entry["reason"] for entry in cluster.read()["tasks"].values()})
        write(array, number, job)

    monkeypatch.setattr(slurm, "write_queued", watch)
    assert run_sweep(jobs, launcher(wait=False)) == 0
    assert held == [{"JobHeldUser"}] * 2
    assert {entry["reason"] for entry in cluster.read()["tasks"].values()} == {"Priority"}


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_refusal_changes_nothing(cluster, jobs_of, overwrite):
    jobs = jobs_of("finish", "finish")
    jobs[0].run_dir.mkdir(parents=True)
    if overwrite:
        run_stand_in(jobs[0])
    else:
        write_status(jobs[0], "failed", reason="of old")
    before = {path: path.read_bytes() for path in jobs[0].run_dir.rglob("*") if path.is_file()}
    cluster.set(refusal="Batch job submission failed: Invalid account or partition specified")
    with pytest.raises(RunError, match="Invalid account or partition specified"):
        run_sweep(jobs, launcher(), overwrite=overwrite)
    assert {p: p.read_bytes() for p in jobs[0].run_dir.rglob("*") if p.is_file()} == before
    assert not jobs[1].run_dir.exists()
    assert [path.name for path in (cluster.root / ".slurm").iterdir()] == ["lock"]
    cluster.set(refusal="")
    assert run_sweep(jobs, launcher(), overwrite=overwrite) == 0


class Killed(BaseException):
    pass


@pytest.mark.parametrize("number", range(6))
def test_no_job_is_lost_or_submitted_twice_after_a_kill_while_submitting(
    cluster, jobs_of, monkeypatch, number
):
    jobs, calls = jobs_of("finish", "finish"), []

    def killed(*_):
        raise Killed

    def killing(name, original):
        def call(*args):
            calls.append(name)
            if len(calls) == number + 1:
                raise Killed
            return original(*args)

        return call

    with monkeypatch.context() as patch:
        if number == 5:  # SLURM has released them, but the sweep could not note their number
            write = files.write_text
            patch.setattr(
                slurm_submission.files,
                "write_text",
                lambda path, text: killed() if path.name == "number" else write(path, text),
            )
        for name in ("submit", "write_queued", "release"):
            patch.setattr(slurm, name, killing(name, getattr(slurm, name)))
        if number == 4:
            patch.setattr(slurm, "submit", _killed_after(slurm_submission.submit))
        with pytest.raises(Killed):
            run_sweep(jobs, launcher())
    assert run_sweep(jobs, launcher()) == 0
    assert sorted(cluster.starts) == ["job0", "job1"]
    assert set(cluster.states().values()) <= {"COMPLETED", "CANCELLED"}
    assert len(cluster.calls("sbatch")) == {0: 1, 5: 1}.get(number, 2)


def _killed_after(function):
    def call(*args):
        function(*args)
        raise Killed

    return call


def test_a_lost_answer_of_sbatch_is_no_refusal(cluster, jobs_of, monkeypatch):
    (job,) = jobs_of("finish")
    wrapped = cluster.folder / "bin" / "sbatch"
    real = cluster.folder / "bin" / "real" / "sbatch"
    real.parent.mkdir()
    text = wrapped.read_text().replace(".parents[1]", ".parents[2]")
    real.write_text(text)
    real.chmod(0o755)
    wrapped.write_text(f'#!/bin/sh\n{shlex.quote(str(real))} "$@" >/dev/null; exit 1\n')
    assert run_sweep([job], launcher()) == 0
    assert len(cluster.calls("sbatch")) == 1


def test_missing_commands_are_named_before_anything(cluster, jobs_of, monkeypatch):
    commands = cluster.folder / "bin"
    (commands / "sbatch").unlink()
    monkeypatch.setenv("PATH", str(commands))  # the machine may have a SLURM of its own
    (job,) = jobs_of("finish")
    with pytest.raises(ConfigError, match=r"sbatch is not on the PATH.*login node"):
        run_sweep([job], launcher())
    assert not cluster.root.exists()
