"""Sweeps remove and overwrite only what a run wrote."""

import os

import pytest
from tests.sweep.stand_in import launcher

from mla_lightning import run_folder as files
from mla_lightning.launchers.sweep import run_sweep


def test_overwrite_runs_finished_jobs_again_and_ignores_old_results(job_of):
    assert run_sweep([job_of("a"), job_of("b")], launcher()) == 0
    assert run_sweep([job_of("a"), job_of("b", "kill")], launcher(), overwrite=True) == 1
    assert (job_of("a").run_dir / "earlier/1" / files.RESULT).exists()
    assert files.state_of(job_of("a").run_dir) == "finished"
    assert files.state_of(job_of("b").run_dir) == "failed"
    assert files.state_of(job_of("b").run_dir / "earlier/1") == "finished"  # not lost


@pytest.mark.parametrize("kind", ["no run", "a link", "a file beside"])
def test_overwrite_in_a_sweep_removes_nothing_that_no_run_wrote(tmp_path, job_of, kind, capsys):
    job, other = job_of("a"), tmp_path / "thesis"
    if kind == "a file beside":
        assert run_sweep([job], launcher()) == 0
        other = job.run_dir
    other.mkdir(exist_ok=True)
    (other / "thesis.tex").write_text("text")
    if kind == "a link":
        job.run_dir.parent.mkdir()
        job.run_dir.symlink_to(other)
    elif kind == "no run":
        job.run_dir.parent.mkdir()
        other.rename(job.run_dir)
        other = job.run_dir
    names = sorted(os.listdir(other))
    assert run_sweep([job], launcher(), overwrite=True) == 2
    assert sorted(os.listdir(other)) == names
    assert "failed: a" in capsys.readouterr().out


def test_a_planted_log_is_not_followed(tmp_path, job_of, capsys):
    job, other = job_of("a"), tmp_path / "thesis.tex"
    other.write_text("text")
    job.run_dir.mkdir(parents=True)
    (job.run_dir / files.LOG).symlink_to(other)
    assert run_sweep([job], launcher()) == 1
    assert other.read_text() == "text"
    assert "log.txt" in capsys.readouterr().out
