"""Devices, warm-up and the live display."""

import logging
import os
import pty
import re
import subprocess
import sys
import types

import pytest
from tests.sweep.stand_in import StandInJob

from mla_lightning.errors import ConfigError, RunError
from mla_lightning.launchers import devices
from mla_lightning.launchers.base import JobExit
from mla_lightning.launchers.child import fork_child
from mla_lightning.launchers.display import PlainDisplay, Progress, choose_display, format_duration
from mla_lightning.launchers.fork import ForkLauncher, require_no_cuda, warm_up
from mla_lightning.launchers.serial import SerialLauncher

TWO_GPUS = """\
GPU 0: NVIDIA H200 (UUID: GPU-11111111-2222-3333-4444-555555555555)
GPU 1: NVIDIA H200 (UUID: GPU-66666666-2222-3333-4444-555555555555)
"""
PARTITIONED = """\
GPU 0: NVIDIA A100-SXM4-40GB (UUID: GPU-1)
  MIG 3g.20gb     Device  0: (UUID: MIG-a)
  MIG 3g.20gb     Device  1: (UUID: MIG-b)
GPU 1: NVIDIA A100-SXM4-40GB (UUID: GPU-2)
"""


@pytest.fixture
def nvidia_smi(tmp_path, monkeypatch):
    """Put a command of that name on the path, which prints a listing."""

    def install(listing, code=0):
        path = tmp_path / "nvidia-smi"
        path.write_text(f"#!/bin/sh\ncat <<'END'\n{listing}END\nexit {code}\n")
        path.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    return install


def test_partitioned_gpus_are_listed_by_their_mig_devices():
    assert devices.parse_listing(PARTITIONED) == ("MIG-a", "MIG-b", "GPU-2")
    assert devices.parse_listing("No devices were found\n") == ()


def test_visible_gpus(nvidia_smi, monkeypatch):
    nvidia_smi(TWO_GPUS)
    assert len(devices.visible_gpus()) == 2
    for value, expected in [("1", ("1",)), ("1,0", ("1", "0")), ("0,-1,1", ("0",)), ("", ())]:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", value)
        assert devices.visible_gpus() == expected


def test_no_gpu_without_a_driver(nvidia_smi, monkeypatch, tmp_path):
    nvidia_smi("NVIDIA-SMI has failed\n", 9)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    assert devices.visible_gpus() == ()
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    assert devices.visible_gpus() == ()


@pytest.mark.parametrize(
    ("jobs", "threads", "gpus", "expected"),
    [
        (None, 1, 0, 8),
        (None, 3, 0, 2),
        (None, 8, 0, 1),
        (2, 4, 0, 2),
        (None, 1, 2, 2),  # one per GPU
        (None, 4, 4, 2),  # but no more than the cores allow
        (6, 1, 2, 6),  # small models may share
    ],
)
def test_slots(monkeypatch, jobs, threads, gpus, expected):
    monkeypatch.setattr(devices, "visible_cores", lambda: 8)
    monkeypatch.setattr(devices, "visible_gpus", lambda: tuple("abcd"[:gpus]))
    slots = devices.plan_slots(jobs, threads, ["auto"])
    assert len(slots) == expected
    used = [slot.get("CUDA_VISIBLE_DEVICES") for slot in slots]
    assert used == [("abcd"[i % gpus] if gpus else None) for i in range(expected)]
    assert devices.plan_slots(1, threads, ["cpu"]) == [{}]


@pytest.mark.parametrize(
    ("jobs", "options", "gpus", "expected"),
    [
        (None, {"devices": 2}, 4, ["a,b", "c,d"]),
        (None, {"devices": 2}, 5, ["a,b", "c,d"]),  # the fifth is left over
        (1, {"devices": 4}, 4, ["a,b,c,d"]),
        (None, {"devices": 2}, 0, [None] * 4),  # eight cores
        (None, {"jobs_per_gpu": 3}, 2, ["a", "b"] * 3),
        (None, {"jobs_per_gpu": 9}, 1, ["a"] * 8),  # eight cores
        (3, {"jobs_per_gpu": 2}, 2, ["a", "b", "a"]),
    ],
)
def test_slots_of_jobs_with_several_devices_and_of_several_jobs_per_gpu(
    monkeypatch, jobs, options, gpus, expected
):
    monkeypatch.setattr(devices, "visible_cores", lambda: 8)
    monkeypatch.setattr(devices, "visible_gpus", lambda: tuple("abcde"[:gpus]))
    slots = devices.plan_slots(jobs, 1, ["gpu"], **options)
    assert [slot.get("CUDA_VISIBLE_DEVICES") for slot in slots] == expected


@pytest.mark.parametrize(
    ("jobs", "threads", "options", "gpus", "words"),
    [
        (None, 1, {"devices": 4}, 2, r"needs 4 GPUs, .* use 2\. Write trainer\.devices=2"),
        (None, 1, {"devices": 9}, 0, r"needs 9 cores, .* use 8: .* Use trainer\.devices=8"),
        (None, 4, {"devices": 3}, 0, r"needs 12 cores, .* Use trainer\.devices=2"),
        (None, 16, {"devices": 3}, 0, r"trainer\.threads=16 needs 16 cores.* trainer\.threads=8"),
        (3, 1, {"devices": 2}, 4, r"needs 6 GPUs, .* use 4\. Use launcher\.jobs=2"),
        (3, 2, {"devices": 2}, 0, r"trainer\.devices=2 needs 12 cores.* Use launcher\.jobs=2"),
        (5, 1, {"jobs_per_gpu": 2}, 2, r"jobs=5 is more than .*=2 on 2 GPUs.* launcher\.jobs=4"),
        (None, 1, {"jobs_per_gpu": 2}, 0, r"jobs_per_gpu=2 has no effect: these jobs use no GPU"),
        (None, 1, {"jobs_per_gpu": 2, "devices": 2}, 4, r"leaves no room for others"),
    ],
)
def test_slots_that_do_not_fit_are_errors(monkeypatch, jobs, threads, options, gpus, words):
    monkeypatch.setattr(devices, "visible_cores", lambda: 8)
    monkeypatch.setattr(devices, "visible_gpus", lambda: tuple("abcde"[:gpus]))
    with pytest.raises(ConfigError, match=words):
        devices.plan_slots(jobs, threads, ["gpu"], **options)


def test_several_jobs_per_gpu_need_jobs_that_use_it(nvidia_smi, tmp_path):
    nvidia_smi(TWO_GPUS)
    jobs = [StandInJob(tmp_path / "a", accelerator="cpu")]
    with pytest.raises(ConfigError, match="has no effect"):
        ForkLauncher(jobs_per_gpu=2).check(jobs)
    jobs = [StandInJob(tmp_path / "a", accelerator="gpu")]
    launcher = ForkLauncher(jobs_per_gpu=2)
    launcher.check(jobs)
    assert launcher.concurrency == min(4, devices.visible_cores())


@pytest.mark.parametrize("launcher", [ForkLauncher, SerialLauncher])
def test_jobs_of_several_machines_or_within_ranks_are_errors(launcher, monkeypatch, tmp_path):
    with pytest.raises(ConfigError, match=r"launcher=slurm trainer\.num_nodes=2"):
        launcher().check([StandInJob(tmp_path / "a", num_nodes=2)])
    names = {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "n1", "MASTER_PORT": "29500"}
    for name, value in names.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match="started this sweep several times"):
        launcher().check([StandInJob(tmp_path / "a", devices=2)])


def test_serial_jobs_of_several_gpus_cannot_follow_each_other(tmp_path):
    jobs = [StandInJob(tmp_path / name, devices=2, accelerator="gpu") for name in "ab"]
    SerialLauncher().check(jobs[:1])
    with pytest.raises(ConfigError, match=r"launcher=fork launcher\.jobs=1"):
        SerialLauncher().check(jobs)


def test_limits_that_are_not_positive_are_errors():
    wrong = ({"jobs": 0}, {"jobs_per_gpu": 0}, {"timeout_s": 0}, {"grace_s": -1.0})
    for limits in wrong:
        with pytest.raises(ConfigError, match=f"launcher.{next(iter(limits))} must be positive"):
            ForkLauncher(**limits)


def test_no_fork_after_cuda_was_initialised(monkeypatch):
    for is_initialized in (False, True):
        cuda = types.SimpleNamespace(is_initialized=lambda value=is_initialized: value)
        monkeypatch.setitem(sys.modules, "torch", types.SimpleNamespace(cuda=cuda))
        if is_initialized:
            with pytest.raises(RunError, match="CUDA was initialised"):
                require_no_cuda()
        else:
            require_no_cuda()


def test_a_job_computes_with_threads_after_this_process_has(tmp_path):
    """As in a notebook that used torch before it starts a sweep."""
    code = """
import sys
from pathlib import Path
import torch
from mla_lightning.launchers.child import fork_child
from tests.sweep.stand_in import StandInJob

def compute(job=None):
    torch.set_num_threads(2)
    return int(torch.rand(4_000_000).exp().sum() <= 0)

compute()
child = fork_child(StandInJob(Path(sys.argv[1])), compute, {})
while not child.has_ended():
    pass
print(child.job_exit().exit_code)
"""
    words = [sys.executable, "-c", code, str(tmp_path)]
    variables = {k: v for k, v in os.environ.items() if k != "OMP_NUM_THREADS"}
    done = subprocess.run(words, env=variables, capture_output=True, text=True, timeout=60)
    assert done.stdout == "0\n", done.stderr


def test_warm_up_imports_allowed_targets_only(monkeypatch, tmp_path):
    def run_job(job):
        return 0

    (tmp_path / "evil_module.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    modules = {
        "mla_lightning.run.train": types.SimpleNamespace(run_job=run_job),
        "mla_lightning.loggers.build": types.SimpleNamespace(import_ahead=lambda config: None),
    }
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.delitem(sys.modules, "mla_lightning.launchers.serial", raising=False)
    launcher = {"_target_": "mla_lightning.launchers.serial.SerialLauncher"}
    config = {"a": [launcher], "b": {"_target_": "evil_module.Thing"}}
    job = StandInJob(tmp_path / "a", tree={**config, "c": {"_target_": "mla_lightning.no.No"}})
    assert warm_up([job]) is run_job
    assert "mla_lightning.launchers.serial" in sys.modules
    assert "evil_module" not in sys.modules


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (3, "ended with exit code 3"),
        (-9, "killed by SIGKILL (out of memory?)"),
        (-11, "killed by SIGSEGV"),
        (-40, "killed by signal 40"),
    ],
)
def test_description_of_exits(code, words):
    assert JobExit(code, 1.0, 1).describe() == words


def test_plain_lines(capsys):
    display = choose_display(has_free_terminal=True)
    assert type(display) is PlainDisplay  # the captured output is no terminal
    progress = Progress(24, num_finished=4, num_failed=1, running=[("x", 1.0)], left_s=83.4)
    display.show_end(progress, "table1/openmoji: mla seed=1", "finished", "val 0.612  4.3 s")
    display.refresh(progress)
    expected = "[ 5/24] done      table1/openmoji: mla seed=1  val 0.612  4.3 s  (1:23 left)\n"
    assert capsys.readouterr().out == expected
    durations = [format_duration(s) for s in (0.4, 59.6, 3600, 90061)]
    assert durations == ["0:00", "1:00", "1:00:00", "25:01:01"]


def test_live_display_on_a_terminal():
    code = (
        "from mla_lightning.launchers.display import LiveDisplay, Progress, choose_display\n"
        "with choose_display(True) as display:\n"
        "    assert type(display) is LiveDisplay\n"
        "    progress = Progress(24, 4, 1, [(f'job {i}', 61.0) for i in range(10)], 83.4)\n"
        "    display.refresh(progress)\n"
        "    display.show_end(progress, 'the [bold]title', 'failed', 'a reason')\n"
        "    import threading; assert threading.active_count() == 1\n"
    )
    parent, child = pty.openpty()
    pid = os.fork()
    if pid == 0:
        try:
            for number in (1, 2):
                os.dup2(child, number)
            environment = {**os.environ, "TERM": "xterm", "COLUMNS": "80"}
            os.execve(sys.executable, [sys.executable, "-c", code], environment)
        finally:
            os._exit(1)
    os.close(child)
    printed = b""
    while True:
        try:
            chunk = os.read(parent, 4096)
        except OSError:  # the other end is closed
            break
        if not chunk:
            break
        printed += chunk
    os.close(parent)
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", printed.decode())
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0, text
    for words in ("4 done", "10 running", "1 failed", "9 to go", "1:23 left", "1:01  job 0"):
        assert words in text
    assert "and 2 more" in text
    assert "the [bold]title" in text


def test_the_log_of_a_job_masks_the_values_of_secrets(tmp_path, monkeypatch):
    monkeypatch.setenv("PGPASSWORD", "pearl-swan")
    job = StandInJob(tmp_path / "job")
    job.run_dir.mkdir()
    monkeypatch.setattr(logging.getLogger("earlier"), "handlers", [logging.StreamHandler()])

    def print_secret(job):
        print("printed", os.environ["PGPASSWORD"], "größe")
        sys.stderr.writelines(["written pearl-swan\n"])
        logging.getLogger("earlier").error("logged pearl-swan")
        raise ValueError("raised pearl-swan")

    child = fork_child(job, print_secret, {})
    os.waitpid(child.pid, 0)
    text = (job.run_dir / "log.txt").read_text()
    assert "pearl-swan" not in text
    for words in ("printed *** größe", "written ***", "logged ***", "ValueError: raised ***"):
        assert words in text
