"""Sweeps on an imitation of Ray; ``test_ray.py`` has those on Ray itself."""

import importlib.util
import json
import os
import signal
import threading
import time
from types import SimpleNamespace

import pytest
from tests.fakes.ray import Ray
from tests.sweep.stand_in import launcher as fork_launcher
from tests.sweep.stand_in import run_stand_in, status_of, wait_until
from tests.train.jobs import TINY, outcome, same

from mla_lightning import run_folder as files
from mla_lightning.cli.main import main
from mla_lightning.config import compose_jobs
from mla_lightning.errors import ConfigError, RunError
from mla_lightning.launchers import ray as ray_module
from mla_lightning.launchers.ray import RayLauncher
from mla_lightning.launchers.sweep import run_sweep
from mla_lightning.run_folder import State, scheduler
from mla_lightning.run_folder.lock import LOCK, RunLock


@pytest.fixture(autouse=True)
def ray(monkeypatch, tmp_path):
    """The imitation; the current folder is the test's."""
    module = Ray()
    module.install(monkeypatch)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(ray_module, "visible_cores", lambda: 2)
    monkeypatch.setattr(ray_module, "visible_gpus", lambda: ())
    monkeypatch.setattr(ray_module, "POLL_S", 0.05)
    before = signal.getsignal(signal.SIGTERM)
    yield module
    assert not module.is_up
    assert scheduler.ENDED == {}
    assert signal.getsignal(signal.SIGTERM) is before


def ray_launcher(**options):
    return RayLauncher(**{"job_function": run_stand_in, "grace_s": 5.0, **options})


def first_attempt(action):
    """Return a function that does something in the first attempt, and finishes in the second."""

    def run(job):
        if not (job.run_dir / "began").exists():
            (job.run_dir / "began").touch()
            action(job)
        return run_stand_in(job)

    return run


def kill_holding_the_lock(job):
    RunLock(job.run_dir).__enter__()
    os.kill(os.getpid(), signal.SIGKILL)


def signalled(condition, *numbers):
    """Send signals to this process, the first when a condition holds."""

    def send():
        wait_until(condition)
        for number in numbers:
            os.kill(os.getpid(), number)
            time.sleep(0.3)

    thread = threading.Thread(target=send)
    thread.start()
    return thread


def test_runs_equal_those_of_the_fork_launcher_bit_for_bit(tmp_path, monkeypatch):
    jobs = compose_jobs([*TINY, "method=mla,concat"], multirun=True)
    assert run_sweep(jobs, RayLauncher()) == 0
    runs = [outcome(job.run_dir) for job in jobs]
    assert run_sweep(jobs, RayLauncher()) == 0
    assert [status_of(job)["attempt"] for job in jobs] == [1, 1]
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    assert run_sweep(jobs, fork_launcher(job_function=None)) == 0
    assert same([outcome(job.run_dir) for job in jobs], runs)


def test_jobs_end_as_forked_ones_do(job_of, capsys):
    jobs = [job_of("a"), job_of("b", "raise"), job_of("c", "exit"), job_of("d", "hang")]
    (jobs[3].run_dir).mkdir(parents=True)
    (jobs[3].run_dir / files.LOG).mkdir()  # a log that cannot be written
    assert run_sweep(jobs, ray_launcher()) == 1
    assert [files.state_of(job.run_dir) for job in jobs] == ["finished", *["failed"] * 3]
    assert "running a" in (jobs[0].run_dir / files.LOG).read_text()
    assert "ValueError: a wrong value" in (jobs[1].run_dir / files.LOG).read_text()
    output = capsys.readouterr().out
    assert "ended with exit code 7; its log ends with: running c" in output
    assert "could not be started: " in status_of(jobs[3])["reason"]
    assert "running" not in output.partition("failed")[0].replace("Running", "")


def test_a_job_whose_worker_is_killed_goes_on_by_itself(ray, job_of):
    job = job_of("a")
    launcher = ray_launcher(job_function=first_attempt(kill_holding_the_lock))
    assert run_sweep([job], launcher) == 0
    assert ray.tasks[0].attempt == 1


def test_a_job_whose_worker_is_killed_too_often_has_failed(ray, job_of):
    job = job_of("a", "kill")
    assert run_sweep([job, job_of("b")], ray_launcher(retries=1)) == 1
    assert status_of(job)["reason"] == "its worker of Ray was killed 2 times (out of memory?)"
    assert [task.attempt for task in ray.tasks] == [1, 0]
    assert run_sweep([job], ray_launcher(retries=0)) == 1
    assert status_of(job)["reason"] == "its worker of Ray was killed once (out of memory?)"


def test_a_preempted_job_goes_on_by_itself(ray, job_of):
    def preempt(job):
        raise SystemExit(143)

    launcher = ray_launcher(job_function=first_attempt(preempt))
    assert run_sweep([job_of("a")], launcher) == 0
    assert ray.tasks[0].attempt == 1
    launcher = ray_launcher(job_function=first_attempt(preempt), retries=0)
    assert run_sweep([job_of("b")], launcher) == 143
    assert files.state_of(job_of("b").run_dir) == State.PREEMPTED


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_lets_jobs_write_a_checkpoint_and_starts_no_more(ray, job_of, number, code):
    ray.capacity = 1  # somebody else uses the other CPU
    jobs = [job_of("a", "checkpoint", 20.0), job_of("b", "checkpoint", 20.0), job_of("c")]
    thread = signalled((jobs[0].run_dir / "begun_at").exists, number)
    assert run_sweep(jobs, ray_launcher()) == code
    thread.join()
    assert status_of(jobs[0])["reason"].startswith("interrupted at ")  # Ray's only signal
    assert [job.run_dir.exists() for job in jobs] == [True, False, False]
    assert len(ray.tasks) == 2
    count = int((jobs[0].run_dir / "checkpoint").read_text())
    assert count > 0


def test_the_second_signal_kills_and_so_does_the_end_of_the_time_of_grace(job_of):
    for options, numbers in (
        ({"grace_s": 60.0}, [signal.SIGINT, signal.SIGINT]),
        ({"grace_s": 0.3}, [signal.SIGINT]),
    ):
        job = job_of(f"a{len(numbers)}", "hang for ever")
        thread = signalled(lambda job=job: files.state_of(job.run_dir) == State.RUNNING, *numbers)
        assert run_sweep([job], ray_launcher(**options)) == 130
        thread.join()
        assert files.state_of(job.run_dir) == State.INTERRUPTED
        assert status_of(job)["reason"] == "interrupted by SIGINT"


def test_a_failure_stops_the_sweep_if_asked(job_of):
    jobs = [job_of("a", "exit"), job_of("b", "checkpoint", 20.0), job_of("c")]
    assert run_sweep(jobs, ray_launcher(fail_fast=True)) == 1
    assert [files.state_of(job.run_dir) for job in jobs][::2] == ["failed", "missing"]
    assert files.state_of(jobs[1].run_dir) in (State.INTERRUPTED, State.MISSING)


def test_ray_is_started_here_without_a_network_page_or_a_large_store(ray, job_of, monkeypatch):
    for name in ("RAY_USAGE_STATS_ENABLED", "RAY_AUTH_MODE"):
        monkeypatch.delenv(name, raising=False)
    assert run_sweep([job_of("a")], ray_launcher(retries=2)) == 0
    (options,) = ray.inits
    assert options["address"] == "local"  # whatever RAY_ADDRESS says
    assert (options["num_cpus"], options["include_dashboard"]) == (2, False)
    assert options["object_store_memory"] < 2**28
    assert options["_system_config"] == {"task_oom_retries": 2}
    assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"
    monkeypatch.delenv("RAY_USAGE_STATS_ENABLED")
    assert run_sweep([job_of("b")], ray_launcher(address="auto")) == 0
    assert {key for options in ray.inits[1:] for key in options} == {
        *("address", "log_to_driver", "logging_level")
    }


def test_a_ray_of_the_calling_program_is_used_and_left(ray, job_of):
    ray.is_up = True
    assert run_sweep([job_of("a")], ray_launcher(address="auto")) == 0
    assert ray.is_up
    assert ray.inits == []
    ray.is_up = False


def test_a_task_has_the_threads_and_the_devices_of_its_job(ray, job_of):
    ray.node_list = [ray.node("a", CPU=2.0, GPU=1.0)]
    jobs = [job_of("a", threads=2), job_of("b", accelerator="gpu"), job_of("c", accelerator="auto")]
    for job in jobs:
        assert run_sweep([job], ray_launcher(address="auto")) == 0
    assert run_sweep([job_of("d", accelerator="gpu")], ray_launcher(address="auto", gpus=0.25)) == 0
    assert run_sweep([job_of("e")], ray_launcher(address="auto", cpus=0.5)) == 0
    needs = [(task.options["num_cpus"], task.options["num_gpus"]) for task in ray.tasks]
    assert needs == [(2, 0), (1, 1), (1, 1), (1, 0.25), (0.5, 0)]
    variables = ray.tasks[0].options["runtime_env"]["env_vars"]
    assert variables == dict.fromkeys(variables, "2")
    assert "OMP_NUM_THREADS" in variables


@pytest.mark.parametrize(
    ("nodes", "options", "threads", "expected"),
    [
        ([(2, 0)], {}, 1, 2),
        ([(2, 0)], {"cpus": 0.5}, 1, 4),
        ([(2, 0), (3, 0)], {}, 2, 2),  # one on each: the third CPU is of no use
        ([(8, 2), (8, 0)], {"gpus": 0.25}, 1, 8),
        ([(8, 2)], {"gpus": 2}, 1, 1),
        ([(8, 2)], {}, 1, 2),
        ([(2, 0)], {"jobs": 1}, 1, 1),
        ([(2, 0)], {"jobs": 9}, 1, 9),  # a cluster that grows
        ([], {"jobs": 9}, 4, 9),
    ],
)
def test_jobs_at_a_time_follow_from_the_nodes(ray, job_of, nodes, options, threads, expected):
    ray.node_list = [ray.node(str(c), CPU=float(c), GPU=float(g)) for c, g in nodes]
    launcher = ray_launcher(address="auto", **options)
    accelerator = "gpu" if any(g for _, g in nodes) else "cpu"
    launcher.check([job_of("a", threads=threads, accelerator=accelerator)])
    assert launcher.concurrency == expected


@pytest.mark.parametrize(
    ("options", "job", "words"),
    [
        ({"address": "auto"}, {"threads": 3}, r"needs 3 CPUs and 0 GPUs.* has 2 CPUs.* on demand"),
        ({}, {"threads": 3}, r"needs 3 CPUs and 0 GPUs.* has 2 CPUs and 0 GPUs. Use fewer"),
        ({}, {"accelerator": "gpu"}, "needs 1 CPUs and 1 GPUs"),
        ({"gpus": 0.5}, {}, "launcher.gpus=0.5 has no effect: the jobs use no GPU"),
        ({"jobs": 9}, {"threads": 3}, "needs 3 CPUs"),
    ],
)
def test_what_fits_nowhere_is_refused_before_anything_starts(job_of, options, job, words):
    job = job_of("a", **job)
    with pytest.raises(ConfigError, match=words):
        run_sweep([job], ray_launcher(**options))
    assert not job.run_dir.exists()


def test_a_job_of_several_processes_gets_the_cores_and_gpus_of_all(job_of):
    trainer = SimpleNamespace(threads=2, devices=3, num_nodes=1, accelerator="gpu")
    job = SimpleNamespace(config=SimpleNamespace(trainer=trainer))
    assert RayLauncher().needs_of(job, True) == (6, 3)
    assert RayLauncher(cpus=4, gpus=0.5).needs_of(job, True) == (4, 0.5)
    trainer.num_nodes = 2
    with pytest.raises(
        ConfigError, match=r"num_nodes=2: launcher=ray runs each job on one machine"
    ):
        RayLauncher().check([job])


def test_settings_that_ray_cannot_have_are_refused():
    with pytest.raises(ConfigError, match=r"gpus=1.5: above 1 it must be a whole number"):
        RayLauncher(gpus=1.5)
    with pytest.raises(ConfigError, match=r"ray://head:10001: Ray Client cannot be used"):
        RayLauncher(address="ray://head:10001")


def test_a_cluster_that_does_not_answer_and_a_ray_that_is_not_installed(ray, job_of, monkeypatch):
    ray.refusal = ConnectionError("Could not find any running Ray instance.\nmore")
    words = r"address=auto: no cluster .* \(Could not find any running Ray instance\.\).*ray start"
    with pytest.raises(ConfigError, match=words):
        run_sweep([job_of("a")], ray_launcher(address="auto"))
    with pytest.raises(RunError, match="Ray does not start on this machine: Could not find"):
        run_sweep([job_of("a")], ray_launcher())
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"needs Ray: pip install 'mla_lightning\[ray\]'"):
        run_sweep([job_of("a")], ray_launcher())


def test_the_jobs_of_a_cluster_are_listed_without_asking_it(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = ["launcher=ray", "launcher.address=auto", "data=synthetic", "--dry-run"]
    assert main(["train", "-m", *words]) == 0
    assert capsys.readouterr().out.startswith("missing ")


def test_a_node_without_the_folder_of_the_sweep_is_named(job_of, monkeypatch):
    enter = ray_module.enter_folder
    monkeypatch.setattr(ray_module, "enter_folder", lambda _, words: enter("/nowhere", words))
    assert run_sweep([job_of("a")], ray_launcher()) == 1
    reason = status_of(job_of("a"))["reason"]
    assert "has no folder /nowhere, in which the sweep was started" in reason


TASK = {"scheduler": "ray", "cluster": "session_1", "job": "task0", "restart": 0, "node": "b"}
OTHER = TASK | {"job": "task7"}
HOLDER = {"host": "other", "boot": "of other", "pid": 5, "born": "1", "since": "noon"}


def test_the_lock_of_a_task_is_taken_over_by_its_next_attempt_alone(tmp_path):
    (tmp_path / LOCK).write_text(json.dumps(HOLDER | {"scheduler_job": TASK}))
    lock = RunLock(tmp_path)
    for mine, is_free in (
        (None, False),
        (TASK, False),
        (TASK | {"restart": 1, "job": "task1"}, False),
        (TASK | {"restart": 1, "cluster": "session_2"}, False),
        (TASK | {"restart": 1}, True),
    ):
        scheduler.enter_task(mine)
        try:
            assert (lock.holder() is None) is is_free
        finally:
            scheduler.enter_task(None)
    with pytest.raises(RunError, match=r"process 5 \(Ray task task0\) on other"):
        lock.__enter__()


@pytest.mark.parametrize(
    ("task", "alive", "is_free"),
    [(OTHER, False, True), (OTHER, True, False), (OTHER | {"cluster": "x"}, False, False)],
)
def test_the_lock_of_a_task_on_a_dead_node_is_free_for_the_sweep(
    ray, job_of, task, alive, is_free, monkeypatch
):
    ray.node_list.append(ray.node("b", alive))
    job = job_of("a")
    job.run_dir.mkdir(parents=True)
    (job.run_dir / LOCK).write_text(json.dumps(HOLDER | {"scheduler_job": task}))
    code = run_sweep([job], ray_launcher(), patience_s=0.2)
    assert files.state_of(job.run_dir) == ("finished" if is_free else "missing")
    assert code == (0 if is_free else 1)


def test_a_task_within_a_job_of_slurm_names_both_and_ends_with_either(monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    monkeypatch.setenv("SLURM_CLUSTER_NAME", "lab")
    scheduler.enter_task(TASK)
    try:
        job = scheduler.this_job()
    finally:
        scheduler.enter_task(None)
    assert (job["job"], job["within"]["job"]) == ("task0", "17")
    assert not scheduler.has_ended(job)
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")  # the whole allocation was started again
    assert scheduler.has_ended(job)
