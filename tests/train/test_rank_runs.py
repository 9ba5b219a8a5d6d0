"""Jobs of two ranks: equal to one process, and to each other however they are started."""

import dataclasses
import os
import shutil
import signal
import subprocess
import sys

import pytest
import torch
from lightning.pytorch import Trainer
from tests.train.jobs import TINY, in_child, make_job, outcome, same
from tests.train.ranked import (
    LONG,
    exit_code,
    have_ended,
    ranks_of,
    start,
    start_tasks,
    wait_for_epochs,
)

from mla_lightning import run_folder as files
from mla_lightning.config import compose_jobs
from mla_lightning.errors import ConfigError
from mla_lightning.identity import identity_of
from mla_lightning.launchers.fork import ForkLauncher
from mla_lightning.launchers.serial import SerialLauncher
from mla_lightning.launchers.sweep import run_sweep
from mla_lightning.module import MultimodalModule
from mla_lightning.run.train import run_job, train_job
from mla_lightning.run.trainer import devices_of_ranks
from mla_lightning.run_folder.rank_variables import started_rank

TWO = ("trainer.devices=2", "method=mla")

#: Double precision, and no dropout, whose random numbers differ between ranks.
EXACT = ("trainer.precision=64-true", "encoder.audio.dropout=0", "encoder.visual.dropout=0")


@pytest.fixture(scope="module")
def forked(tmp_path_factory):
    job = make_job(tmp_path_factory.mktemp("forked"), *TWO)
    assert in_child(lambda: run_job(job)) == 0
    return outcome(job.run_dir)


def test_two_ranks_equal_one_process_in_double_precision(tmp_path):
    results = []
    for number in (1, 2):
        job = make_job(tmp_path, *EXACT, f"trainer.devices={number}")
        assert in_child(lambda job=job: run_job(job)) == 0
        results.append(outcome(job.run_dir))
        provenance = files.read_json(job.run_dir / files.PROVENANCE)
        result = files.read_json(job.run_dir / files.RESULT)
        assert provenance["devices"] == result["devices"] == number
        assert provenance["num_nodes"] == result["num_nodes"] == 1
    one, two = results
    for a, b in zip(one["rows"], two["rows"], strict=True):
        assert a == pytest.approx(b, abs=1e-9)
    weights = [run["checkpoint"]["state_dict"] for run in results]
    assert weights[0].keys() == weights[1].keys()
    for name, weight in weights[0].items():
        torch.testing.assert_close(weight, weights[1][name], rtol=0, atol=1e-7)
    assert one["result"]["num_batches_trained"] == two["result"]["num_batches_trained"] == 20


def test_ranks_of_srun_equal_forked_ones(tmp_path, forked):
    job = make_job(tmp_path, *TWO)
    pids = start_tasks(job, {})
    assert [exit_code(pid) for pid in pids] == [0, 0]
    assert same(outcome(job.run_dir), forked)
    again = start_tasks(job, {})  # finished: nobody waits for training
    assert [exit_code(pid) for pid in again] == [0, 0]


@pytest.mark.slow  # two processes import everything
def test_ranks_of_torchrun_equal_forked_ones(tmp_path, forked):
    job = make_job(tmp_path, *TWO)
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2"]
    main = [sys.executable, "-m", "mla_lightning.cli.main"]
    words = [*command, "--no-python", *main, "train", *job.overrides]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert same(outcome(job.run_dir), forked)
    assert done.stdout.count("val/acc") == 1


def test_a_signal_to_a_task_of_srun_stops_all_and_they_go_on(tmp_path):
    whole, job = (make_job(tmp_path / name, *LONG) for name in ("whole", "stopped"))
    assert in_child(lambda: run_job(whole)) == 0
    pids = start_tasks(job, {})
    wait_for_epochs(job, 2)
    os.kill(pids[1], signal.SIGTERM)
    assert [exit_code(pid) for pid in pids] == [143, 143]
    assert files.state_of(job.run_dir) == "preempted"
    again = start_tasks(job, {})
    assert [exit_code(pid) for pid in again] == [0, 0]
    assert same(outcome(job.run_dir), outcome(whole.run_dir))


def test_the_first_task_tells_the_others_why_there_is_nothing_to_do(tmp_path, capfd):
    job = make_job(tmp_path, *TWO)
    other = make_job(tmp_path, *TWO, "seed=1", f"run_dir={job.run_dir}")
    assert in_child(lambda: run_job(job)) == 0
    capfd.readouterr()
    pids = start_tasks(other, {})
    assert [exit_code(pid) for pid in pids] == [2, 2]
    assert capfd.readouterr().err.count("holds a finished run of another job") == 2


def test_a_second_task_of_a_job_of_one_device_says_what_is_meant(tmp_path, capfd):
    job = make_job(tmp_path, *LONG, "trainer.devices=1", "trainer.max_epochs=200")
    pids = start_tasks(job, {})
    assert sorted(exit_code(pid) for pid in pids) == [0, 1]
    error = capfd.readouterr().err
    assert "srun has started this command 2 times" in error
    assert "trainer.devices=2" in error
    assert files.state_of(job.run_dir) == "finished"


@pytest.mark.parametrize("launcher", [ForkLauncher, SerialLauncher])
def test_a_sweep_runs_jobs_of_two_ranks(tmp_path, forked, launcher):
    jobs = [make_job(tmp_path, *TWO, f"seed={seed}") for seed in (0, 1)]
    assert in_child(lambda: run_sweep(jobs, launcher())) == 0
    assert same(outcome(jobs[0].run_dir), forked)
    assert files.state_of(jobs[1].run_dir) == "finished"


def test_the_fast_loop_trains_ranks_as_well(tmp_path, monkeypatch):
    job = make_job(tmp_path, *TWO)
    original = MultimodalModule.on_train_epoch_end

    def recording(module):
        loop = module.trainer.fit_loop.epoch_loop
        is_fast = loop.is_step_plain and loop._is_plain
        (tmp_path / f"{module.trainer.global_rank}").write_text(str(is_fast))
        original(module)

    monkeypatch.setattr(MultimodalModule, "on_train_epoch_end", recording)
    assert in_child(lambda: run_job(job)) == 0
    assert [(tmp_path / f"{rank}").read_text() for rank in (0, 1)] == ["True", "True"]


def test_threads_are_those_of_the_config_on_all_ranks(tmp_path, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)  # Lightning would set it and the threads
    job = make_job(tmp_path, *TWO)
    original = MultimodalModule.on_train_epoch_end

    def recording(module):
        rank = module.trainer.global_rank
        names = ("OMP_NUM_THREADS", "MASTER_PORT", "RANK", "WORLD_SIZE", "LOCAL_RANK")
        variables = [name for name in names if name in os.environ]
        (tmp_path / f"{rank}").write_text(f"{torch.get_num_threads()} {variables}")
        original(module)

    monkeypatch.setattr(MultimodalModule, "on_train_epoch_end", recording)
    assert in_child(lambda: run_job(job)) == 0
    assert [(tmp_path / f"{rank}").read_text() for rank in (0, 1)] == ["1 []", "1 []"]


@pytest.mark.slow  # four threads on the two cores of CI wait for each other
def test_ranks_have_threads_of_their_own_after_a_fork(tmp_path, monkeypatch):
    """A forked process waits without end for threads of OpenMP that its parent had."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(4))
    job = make_job(tmp_path, *TWO, "trainer.threads=2", "data.num_train=16")

    def use_threads():
        torch.set_num_threads(2)
        torch.relu(torch.randn(1000, 1000)).sum()

    assert exit_code(start(job, use_threads)) == 0


def test_only_the_first_rank_writes(tmp_path):
    """Whatever Python opens to write, renames or removes is recorded, with its process."""
    job = make_job(tmp_path / "run", *TWO, "logger=tensorboard", "checkpoint.every_n_batches=4")
    record = os.open(tmp_path / "record", os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def hook(event, arguments):
        path = str(arguments[0]) if arguments else ""
        is_write = event == "open" and bool((arguments[2] or 0) & (os.O_WRONLY | os.O_RDWR))
        is_change = event in ("os.rename", "os.remove", "os.mkdir", "os.truncate")
        if (is_write or is_change) and path.startswith(str(tmp_path)):
            os.write(record, f"{os.getpid()} {event} {path}\n".encode())

    pid = start(job, lambda: sys.addaudithook(hook))
    assert exit_code(pid) == 0
    lines = (tmp_path / "record").read_text().splitlines()
    assert any("os.rename" in line for line in lines)
    assert [line for line in lines if not line.startswith(f"{pid} ")] == []
    assert len(list(job.run_dir.rglob("events.out.tfevents*"))) == 1


def test_the_identity_has_the_number_of_ranks_only_if_there_are_several():
    (job,) = compose_jobs([*TINY])
    tree = job.config.tree
    before = {k: v for k, v in tree["trainer"].items() if k not in NEW}
    assert identity_of({**tree, "trainer": before}, job.data_fingerprint) == job.identity

    def of(*words):
        (job,) = compose_jobs([*TINY, *words])
        return job

    two = of("trainer.devices=2")
    assert two.identity != job.identity
    assert two.run_dir != job.run_dir
    elsewhere = of("trainer.num_nodes=2")
    assert (elsewhere.identity, elsewhere.run_dir) == (two.identity, two.run_dir)
    assert of("trainer.devices=2", "trainer.num_nodes=2").identity != two.identity
    assert of("trainer.devices=2", "trainer.sync_batchnorm=false").identity != two.identity
    assert of("trainer.devices=1", "trainer.num_nodes=1").run_dir == job.run_dir


NEW = ("devices", "num_nodes", "sync_batchnorm")


def test_another_number_of_ranks_goes_on_only_if_asked_to(tmp_path):
    job = make_job(tmp_path, *LONG)
    pid = start_tasks(job, {"SLURM_STEP_NUM_TASKS": "1"}, number=1)[0]
    wait_for_epochs(job, 2)
    others = ranks_of(pid)
    os.kill(pid, signal.SIGTERM)
    assert exit_code(pid) == 143
    assert have_ended(others)
    one = make_job(tmp_path, *LONG, "trainer.devices=1", f"run_dir={job.run_dir}")
    with pytest.raises(ConfigError, match=r"trainer\.devices: 2 -> 1"):
        train_job(one)
    config = dataclasses.replace(one.config, force_resume=True)
    assert in_child(lambda: run_job(dataclasses.replace(one, config=config))) == 0
    assert files.state_of(job.run_dir) == "finished"


@pytest.mark.parametrize(
    ("devices", "nodes", "variables", "words"),
    [
        (1, 1, {"RANK": "0", "WORLD_SIZE": "2"}, "torchrun has started 2 processes"),
        (2, 1, {"RANK": "0", "WORLD_SIZE": "2"}, "not MASTER_ADDR and MASTER_PORT"),
        (2, 1, {"SLURM_STEP_NUM_TASKS": "3"}, "srun has started 3 processes"),
        (4, 1, {"SLURM_STEP_NUM_TASKS": "4", "SLURM_STEP_NUM_NODES": "2"}, "on 2 machines"),
        (2, 2, {"SLURM_STEP_NUM_TASKS": "1"}, "srun --nodes=2 --ntasks-per-node=2 mla train"),
    ],
)
def test_processes_that_do_not_fit_the_job_are_errors(devices, nodes, variables, words):
    with pytest.raises(ConfigError, match=words):
        started_rank(devices, nodes, variables)


@pytest.mark.parametrize(
    ("devices", "variables"),
    [
        (2, {}),
        (2, {"SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "0"}),
        (2, {"SLURM_NTASKS": "2", "SLURM_PROCID": "0"}),  # the script of a job, outside of srun
        (1, {"SLURM_STEP_NUM_TASKS": "2", "SLURM_PROCID": "1"}),  # perhaps of other jobs
        (1, {"WORLD_SIZE": "1", "RANK": "0"}),
    ],
)
def test_a_process_that_nobody_has_given_a_rank_starts_the_others(devices, variables):
    assert started_rank(devices, 1, variables) is None


def test_the_port_of_a_step_differs_after_a_requeue():
    names = {"SLURM_STEP_NUM_TASKS": "2", "MASTER_ADDR": "n1", "SLURM_JOB_ID": "17"}
    ports = {started_rank(2, 1, {**names, "SLURM_RESTART_COUNT": str(n)}).port for n in range(5)}
    assert len(ports) == 5
    assert all(10_000 <= port < 32_000 for port in ports)


def test_the_address_of_the_first_machine_is_that_of_slurm(tmp_path, monkeypatch):
    script = tmp_path / "scontrol"
    script.write_text(
        '#!/bin/sh\ncase "$2" in\nhostnames) echo n7; echo n8;;\n'
        'node) echo "NodeName=$3 Arch=x86"; echo " NodeAddr=10.0.0.7 NodeHostName=n7";;\nesac\n'
    )
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    names = {"SLURM_STEP_NUM_TASKS": "2", "SLURM_STEP_NUM_NODES": "2"}
    place = started_rank(1, 2, {**names, "SLURM_STEP_NODELIST": "n[7-8]", "SLURM_PROCID": "1"})
    assert (place.rank, place.local_rank, place.address) == (1, 0, "10.0.0.7")
    shutil.rmtree(tmp_path)
    with pytest.raises(ConfigError, match="Set MASTER_ADDR"):
        started_rank(1, 2, names)


@pytest.mark.parametrize(
    ("num_gpus", "is_forked", "expected"),
    [
        (4, True, ["cuda:0", "cuda:1"]),
        (2, False, ["cuda:0", "cuda:1"]),
        (1, False, ["cuda:0", "cuda:0"]),  # srun --gpus-per-task=1: each rank sees another one
        (1, True, None),
        (0, False, None),
    ],
)
def test_each_rank_has_a_gpu_of_its_own(monkeypatch, num_gpus, is_forked, expected):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: num_gpus)
    if expected is not None:
        assert devices_of_ranks("gpu", 2, is_forked=is_forked) == [*map(torch.device, expected)]
        return
    with pytest.raises(ConfigError, match=f"needs 2 GPUs, and this process may use {num_gpus}"):
        devices_of_ranks("gpu", 2, is_forked=is_forked)


def test_a_trainer_of_the_user_with_several_devices_is_refused():
    module = MultimodalModule(
        encoders={name: torch.nn.Linear(2, 2) for name in ("audio", "visual")},
        num_classes=2,
        optimizer=torch.optim.SGD,
    )
    trainer = Trainer(accelerator="cpu", devices=2, strategy="ddp", logger=False)
    module.trainer = trainer
    with pytest.raises(ConfigError, match=r'DDPStrategy .* Use mla.train\("trainer.devices=2"'):
        module.setup("fit")
