"""The launcher of SLURM against a stand-in for its commands, with stand-ins for training."""

import os
import shlex
import signal

import pytest
from tests.fake_slurm import FakeSlurm
from tests.sweep.stand_in import run_stand_in, status_of, write_status

from mla_lightning import run_folder as files
from mla_lightning.errors import ConfigError, RunError
from mla_lightning.launchers import slurm, slurm_submission, slurm_watch
from mla_lightning.launchers.slurm import SlurmLauncher
from mla_lightning.launchers.slurm_script import read_list
from mla_lightning.launchers.sweep import run_sweep
from mla_lightning.run_folder import scheduler
from mla_lightning.run_folder.lock import RunLock
from mla_lightning.run_folder.squeue import ask_queue


class Cluster(FakeSlurm):
    """A queue in which every question of a watching sweep moves the jobs on."""

    def __init__(self, folder):
        super().__init__(folder)
        self.jobs = {}  # by run folder
        self.starts = []
        self.num_polls = 0
        self.on_poll = lambda number: None

    def job_of(self, task):
        number = task.partition("_")[2]
        for folder in self.root.rglob(".slurm/*/jobs.txt"):
            name = self.read()["tasks"][task]["name"]
            if folder.parent.name == name:
                return self.jobs[read_list(folder)[int(number)].run_dir]
        raise AssertionError(task)

    def step(self):
        """Start the jobs that wait, and end those that run as their behaviour says."""
        for task, entry in self.read()["tasks"].items():
            if entry["state"] == "PENDING" and entry["reason"] != "JobHeldUser":
                self.move(task, "RUNNING", node="n1")
            elif entry["state"] == "RUNNING":
                self.end(task)

    def end(self, task):
        job = self.job_of(task)
        self.starts.append(job.title)
        match job.behaviour.split():
            case ["finish"]:
                assert run_stand_in(job) == 0
                self.move(task, "COMPLETED")
            case ["fail"]:
                write_status(job, "running")
                write_status(job, "failed", exit_code=3, reason="its data are gone")
                self.move(task, "FAILED", exit_code=3 << 8)
            case ["no", "python"]:
                (place,) = self.root.rglob(f".slurm/{self.read()['tasks'][task]['name']}")
                (place / f"{task}.log").write_text("srun: error\nexecve: No such file\n\n")
                self.move(task, "FAILED", exit_code=2 << 8)
            case [("OUT_OF_MEMORY" | "NODE_FAIL" | "TIMEOUT") as state]:
                write_status(job, "running")
                self.move(task, state)
            case ["CANCELLED"]:
                self.move(task, "CANCELLED", exit_code=15)
            case ["TIMEOUT", "preempted"]:
                write_status(job, "running")
                write_status(job, "preempted", exit_code=143, reason="Ended by SIGUSR2")
                self.move(task, "TIMEOUT")
            case other:
                raise AssertionError(other)

    def ask(self, tasks):
        self.num_polls += 1
        self.on_poll(self.num_polls)
        self.step()
        return ask_queue(tasks)


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    for name in [name for name in os.environ if name.startswith("SLURM")]:
        monkeypatch.delenv(name)
    scheduler._cluster.cache_clear()
    scheduler._starts.cache_clear()
    monkeypatch.chdir(tmp_path)
    fake = Cluster(tmp_path / "slurm")
    fake.root = tmp_path / "runs"
    fake.install(monkeypatch)
    monkeypatch.setattr(slurm_watch, "ask_queue", fake.ask)
    monkeypatch.setattr(slurm_watch, "SETTLE_S", 0.05)
    monkeypatch.setattr(slurm_watch, "TICK_S", 0.001)
    return fake


@pytest.fixture
def jobs_of(cluster, job_of):
    def make(*behaviours, **more):
        jobs = [job_of(f"job{i}", behaviour, **more) for i, behaviour in enumerate(behaviours)]
        cluster.jobs |= {job.run_dir: job for job in jobs}
        return jobs

    return make


def launcher(**options):
    return SlurmLauncher(**{"poll_s": 0.001, **options})


def test_jobs_are_queued_under_their_task_and_then_run(cluster, jobs_of, capsys):
    jobs, seen = jobs_of("finish", "finish", "finish"), []
    cluster.on_poll = lambda number: seen.append([status_of(job) for job in jobs])
    assert run_sweep(jobs, launcher(jobs=2)) == 0
    assert [status["state"] for status in seen[0]] == ["queued"] * 3
    for number, status in enumerate(seen[0]):
        place = {"scheduler": "slurm", "cluster": "lab", "task": f"17_{number}"}
        assert status["scheduler_job"] == place
        assert status["attempt"] == 0
    assert len(cluster.calls("sbatch")) == 1
    assert cluster.starts == ["job0", "job1", "job2"]
    out = capsys.readouterr().out
    assert "Submitted 3 jobs to SLURM as 17" in out
    assert "3 jobs: 3 finished" in out
    assert run_sweep(jobs, launcher()) == 0
    assert len(cluster.calls("sbatch")) == 1


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


def test_without_waiting_the_command_ends_and_the_next_one_adopts(cluster, jobs_of, capsys):
    jobs = jobs_of("finish", "finish")
    assert run_sweep(jobs, launcher(wait=False)) == 0
    out = capsys.readouterr().out
    assert "2 jobs: 2 queued" in out
    assert "2 jobs go on in SLURM as 17" in out
    assert "`scancel 17`" in out
    assert "retry" not in out
    assert [files.state_of(job.run_dir) for job in jobs] == ["queued"] * 2
    third = jobs_of("finish", "finish", "finish")[2]
    assert run_sweep([*jobs, third], launcher()) == 0
    assert [words[-1].count("array.sh") for words in cluster.calls("sbatch")] == [1, 1]
    assert sorted(cluster.starts) == ["job0", "job1", "job2"]  # each once
    assert "2 jobs in SLURM already, as 17" in capsys.readouterr().out


def test_a_job_that_runs_in_slurm_is_adopted_too(cluster, jobs_of):
    (job,) = jobs_of("finish")
    assert run_sweep([job], launcher(wait=False)) == 0
    cluster.move("17_0", "RUNNING")
    write_status(job, "running", scheduler_job=status_of(job)["scheduler_job"])
    lock = RunLock(job.run_dir).__enter__()
    cluster.on_poll = lambda number: number == 1 and lock.__exit__(None, None, None)
    assert run_sweep([job], launcher(), patience_s=0) == 0
    assert cluster.starts == ["job0"]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_watching_and_not_the_jobs(cluster, jobs_of, capsys, number, code):
    jobs = jobs_of("finish", "finish")
    cluster.on_poll = lambda polls: signal.raise_signal(number)
    assert run_sweep(jobs, launcher()) == code
    assert cluster.calls("scancel") == []
    out = capsys.readouterr().out
    assert "2 jobs: 2 running" in out
    assert "The same command watches them again; `scancel 17` cancels them." in out
    cluster.on_poll = lambda polls: None
    assert run_sweep(jobs, launcher()) == 0
    assert len(cluster.calls("sbatch")) == 1


def test_a_signal_while_it_submits_leaves_the_rest_for_the_next_command(
    cluster, jobs_of, monkeypatch
):
    cluster.set(max_array=2)  # arrays of one job
    jobs = jobs_of("finish", "finish")

    def stopped(*args):
        signal.raise_signal(signal.SIGINT)
        return slurm_submission.submit(*args)

    with monkeypatch.context() as patch:
        patch.setattr(slurm, "submit", stopped)
        assert run_sweep(jobs, launcher()) == 130
    assert len(cluster.calls("sbatch")) == 1
    assert run_sweep(jobs, launcher()) == 0
    assert sorted(cluster.starts) == ["job0", "job1"]


def test_arrays_are_as_large_as_the_cluster_allows(cluster, jobs_of):
    cluster.set(max_array=4)
    jobs = jobs_of(*["finish"] * 5)
    assert run_sweep(jobs, launcher()) == 0
    assert [*cluster.states()] == ["17_0", "17_1", "17_2", "21_0", "21_1"]


def test_jobs_with_other_needs_are_in_another_array(cluster, jobs_of, job_of):
    jobs = [*jobs_of("finish", "finish"), job_of("threads", threads=2)]
    cluster.jobs[jobs[2].run_dir] = jobs[2]
    assert run_sweep(jobs, launcher()) == 0
    scripts = [path.read_text() for path in cluster.root.rglob("array.sh")]
    pairs = [(("0-1", 1) if "--array=0-1" in s else ("0-0", 2)) for s in scripts]
    assert sorted(pairs) == [("0-0", 2), ("0-1", 1)]
    for text, (_, threads) in zip(scripts, pairs, strict=True):
        assert f"#SBATCH --cpus-per-task={threads}\n" in text
        assert f"export OMP_NUM_THREADS={threads}\n" in text


@pytest.mark.parametrize(
    ("behaviour", "state", "code", "reason"),
    [
        ("OUT_OF_MEMORY", "failed", 1, "SLURM job 17_0: out of memory (launcher.memory_gb)"),
        ("NODE_FAIL", "failed", 1, "SLURM job 17_0: its node failed (n1)"),
        ("TIMEOUT", "failed", 1, "SLURM job 17_0: its time limit was over"),
        ("TIMEOUT preempted", "preempted", 143, "Ended by SIGUSR2"),
        ("CANCELLED", "preempted", 1, "SLURM job 17_0: cancelled in SLURM"),
        ("fail", "failed", 3, "its data are gone"),
        ("no python", "failed", 1, "exit code 2; runs/.slurm/"),
    ],
)
def test_ends_of_jobs(cluster, jobs_of, capsys, behaviour, state, code, reason):
    (job,) = jobs_of(behaviour)
    assert run_sweep([job], launcher(requeue=False)) == code
    status = status_of(job)
    assert status["state"] == state
    assert reason in status["reason"]
    assert reason in capsys.readouterr().out
    if behaviour == "no python":
        assert status["reason"].endswith("17_0.log ends with: execve: No such file")


def test_a_requeued_job_has_not_ended(cluster, jobs_of, capsys):
    (job,) = jobs_of("finish")

    def requeue(number):
        if number == 2:
            write_status(job, "running")
            write_status(job, "preempted", exit_code=143, reason="Ended by SIGUSR2")
            cluster.move("17_0", "COMPLETING")
        elif number == 3:
            cluster.move("17_0", "PENDING", reason="BeginTime", restart=1)

    cluster.on_poll = requeue
    assert run_sweep([job], launcher()) == 0
    out = capsys.readouterr().out
    assert "requeued: job0 as 17_0, goes on by itself" in out
    assert "preempted" not in out
    assert status_of(job)["attempt"] == 2


@pytest.mark.parametrize("is_finished", [True, False])
def test_a_task_that_slurm_has_forgotten_is_judged_by_its_folder(
    cluster, jobs_of, capsys, is_finished
):
    (job,) = jobs_of("finish")
    assert run_sweep([job], launcher(wait=False)) == 0

    def forget(number):
        if number == 1:
            assert run_stand_in(job) == 0
            if not is_finished:
                (job.run_dir / files.RESULT).unlink()
                write_status(job, "running")
            cluster.forget("17_0")

    cluster.on_poll = forget
    assert run_sweep([job], launcher()) == (0 if is_finished else 1)
    if not is_finished:
        assert "SLURM does not know job 17_0 any more" in capsys.readouterr().out
    assert len(cluster.calls("sbatch")) == 1
    cluster.on_poll = lambda number: None
    assert run_sweep([job], launcher()) == 0  # a forgotten one is submitted anew
    assert len(cluster.calls("sbatch")) == (1 if is_finished else 2)


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


def test_slurm_may_be_silent_for_a_while(cluster, jobs_of, capsys):
    (job,) = jobs_of("finish")
    cluster.on_poll = lambda number: cluster.set(is_down=number in (1, 2))
    assert run_sweep([job], launcher()) == 0
    out = capsys.readouterr().out
    assert out.count("SLURM does not answer; waiting.") == 1
    assert out.count("SLURM answers again.") == 1


def test_missing_commands_are_named_before_anything(cluster, jobs_of, monkeypatch):
    (cluster.folder / "bin" / "sbatch").unlink()
    (job,) = jobs_of("finish")
    with pytest.raises(ConfigError, match=r"sbatch is not on the PATH.*login node"):
        run_sweep([job], launcher())
    assert not cluster.root.exists()


def test_a_dry_run_shows_scripts_and_submits_nothing(cluster, jobs_of):
    jobs = jobs_of("finish", "finish", "finish")
    assert run_sweep(jobs[:1], launcher(wait=False)) == 0
    text = launcher(setup=["module load cuda"]).describe(jobs)
    assert "# 1 job in SLURM already, as 17" in text
    assert "# 2 jobs would be submitted by runs/.slurm/" in text
    assert "\nmodule load cuda\nsrun " in text
    assert len(cluster.calls("sbatch")) == 1
