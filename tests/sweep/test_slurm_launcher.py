"""The launcher of SLURM against a stand-in for its commands, with stand-ins for training."""

import signal
import subprocess
import sys

import pytest
from tests.sweep.slurm_queue import launcher
from tests.sweep.stand_in import run_stand_in, status_of, write_status

from mla_lightning import run_folder as files
from mla_lightning.cli.main import main
from mla_lightning.launchers import slurm, slurm_submission
from mla_lightning.launchers.slurm_script import read_list
from mla_lightning.launchers.sweep import run_sweep
from mla_lightning.run_folder.lock import RunLock


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
    assert "requeued: job0 as 17_0, start 2" in out
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


def test_slurm_may_be_silent_for_a_while(cluster, jobs_of, capsys):
    (job,) = jobs_of("finish")
    cluster.on_poll = lambda number: cluster.set(is_down=number in (1, 2))
    assert run_sweep([job], launcher()) == 0
    out = capsys.readouterr().out
    assert out.count("SLURM does not answer; waiting.") == 1
    assert out.count("SLURM answers again.") == 1


def test_a_dry_run_shows_scripts_and_submits_nothing(cluster, jobs_of):
    jobs = jobs_of("finish", "finish", "finish")
    assert run_sweep(jobs[:1], launcher(wait=False)) == 0
    text = launcher(setup=["module load cuda"]).describe(jobs)
    assert "# 1 job in SLURM already, as 17" in text
    assert "# 2 jobs would be submitted by runs/.slurm/" in text
    assert "\nmodule load cuda\nsrun " in text
    assert len(cluster.calls("sbatch")) == 1


@pytest.mark.parametrize("words", [["-m", "seed=0,1"], ["seed=0"]])
def test_the_command_line_submits_and_the_list_of_runs_shows_it(cluster, capsys, words):
    words = [*words, "data=synthetic", "trainer=gpu", "launcher=slurm", "launcher.wait=false"]
    words += ["launcher.partition=gpu", "launcher.sbatch={constraint: a100}"]
    assert main(["train", *words, "--dry-run"]) == 0
    out = capsys.readouterr().out
    number = 2 if "-m" in words else 1
    assert "would be submitted by runs/train/.slurm/train-" in out
    assert "#SBATCH --partition=gpu\n#SBATCH --constraint=a100\n" in out
    assert "#SBATCH --gres=gpu:1\n" in out  # though this machine has no GPU
    assert cluster.calls("sbatch") == []
    assert main(["train", *words]) == 0
    assert len(cluster.states()) == number
    (path,) = cluster.root.rglob("jobs.txt")
    lines = read_list(path)
    assert [files.state_of(line.run_dir) for line in lines] == ["queued"] * number
    capsys.readouterr()
    assert main(["report", "runs", "runs"]) == 0
    out = " ".join(capsys.readouterr().out.split())  # lines are as wide as the terminal
    assert f"{number} queued" in out
    assert "SLURM job 17_0 waits (Priority)" in out
    assert main(["train", *words, "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert out.count("queued  ") == number
    assert "in SLURM already, as 17" in out
    assert "#SBATCH" not in out


def test_lines_of_a_shell_are_taken_from_the_command_line_only(cluster, tmp_path, capsys):
    place = tmp_path / "conf" / "launcher"
    place.mkdir(parents=True)
    setup = "setup: [touch /tmp/owned]"
    (place / "mine.yaml").write_text(f"defaults: [slurm]\n{setup}\n")
    words = ["train", "--config-dir", str(place.parent), "data=synthetic", "launcher=mine"]
    assert main([*words, "--dry-run"]) == 2
    assert "no config may bring with it" in capsys.readouterr().err
    assert main([*words, "launcher.setup=[module load cuda]", "--dry-run"]) == 0
    assert "\nmodule load cuda\n" in capsys.readouterr().out


def test_jobs_are_submitted_and_adopted_without_torch(cluster, tmp_path):
    words = ["train", "-m", "data=synthetic", "seed=0,1", "launcher=slurm", "launcher.wait=false"]
    code = (
        "import sys; from mla_lightning.cli.main import main\n"
        f"assert main({words}) == 0 == main({words})\n"
        "assert not {'torch', 'lightning', 'transformers'} & {*sys.modules}"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert len(cluster.states()) == 2


def test_a_task_handles_signals_before_it_imports_anything_else():
    code = (
        "import sys; before = {*sys.modules}\n"
        "from mla_lightning.launchers import task\n"
        "names = {name.partition('.')[0] for name in {*sys.modules} - before}\n"
        "assert names <= {*sys.stdlib_module_names, 'mla_lightning'}, names\n"
        "ours = {name for name in sys.modules if name.startswith('mla_lightning')}\n"
        "assert ours == {'mla_lightning', 'mla_lightning.launchers', task.__name__}, ours\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
