"""Jobs of several ranks in processes of their own, which may be stopped and killed."""

import os
import socket
import time
import traceback
from functools import partial
from pathlib import Path

from mla_lightning import run_folder as files
from mla_lightning.run.train import run_job
from mla_lightning.run_folder.forks import reset_multiprocessing

EPOCHS = 12
#: Long enough to be stopped in the middle.
LONG = ("trainer.devices=2", "method=mla", f"trainer.max_epochs={EPOCHS}", "data.num_workers=0")
LONG += ("data.num_train=48", "data.num_val=16")


def start(job, prepare=lambda: None) -> int:
    """Run a job in a forked process, as its first rank; return the process."""
    pid = os.fork()
    if pid == 0:
        code = 99
        try:
            reset_multiprocessing()
            prepare()
            code = run_job(job)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    return pid


def start_tasks(job, variables, number: int = 2, prepare=lambda: None) -> list[int]:
    """Run a job as srun does, in processes that differ in their variables; return them."""
    names = {"SLURM_JOB_ID": "17", "SLURM_STEP_ID": "0", "SLURM_STEP_NUM_NODES": "1"}
    names |= {"SLURM_STEP_NUM_TASKS": str(number), "MASTER_ADDR": "127.0.0.1"}
    with socket.create_server(("127.0.0.1", 0)) as one:
        names["MASTER_PORT"] = str(one.getsockname()[1])

    def prepare_task(rank):
        prepare()
        os.environ |= names | {"SLURM_PROCID": str(rank), "SLURM_LOCALID": str(rank)} | variables

    return [start(job, partial(prepare_task, rank)) for rank in range(number)]


def exit_code(pid: int) -> int:
    """Return the exit code of a process when it has ended, -n if signal n killed it."""
    until = time.monotonic() + 60
    while True:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > until:
            os.kill(pid, 9)
            raise AssertionError("the job does not end")
        time.sleep(0.01)


def ranks_of(pid: int) -> list[int]:
    """Return the processes that a process has forked."""
    return [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def wait_for_epochs(job, number: int) -> None:
    until = time.monotonic() + 60
    while len(files.read_metrics(job.run_dir)) < number:
        assert time.monotonic() < until
        time.sleep(0.005)


def have_ended(pids, limit_s=5.0) -> bool:
    """Return whether processes, which need not be children, end within some seconds."""
    until = time.monotonic() + limit_s
    while any(Path(f"/proc/{pid}").exists() and _state(pid) not in "ZX" for pid in pids):
        if time.monotonic() > until:
            return False
        time.sleep(0.01)
    return True


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "X"
