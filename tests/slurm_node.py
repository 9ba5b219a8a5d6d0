"""A machine of the stand-in for SLURM, which runs the jobs of its queue as real training.

It forks for each job, in place of the Python that the script starts: torch is imported once.
"""

import os
import re
import shlex
import signal
import time
import traceback
from contextlib import contextmanager, suppress
from pathlib import Path

from mla_lightning.launchers import task as task_module
from mla_lightning.run_folder.forks import reset_multiprocessing
from tests.fake_slurm import FakeSlurm

CORES = 2


@contextmanager
def slurm_stand_in(folder):
    """Yield the folder of SLURM's commands, whose jobs a machine of two cores runs."""
    fake = FakeSlurm(folder)
    commands = fake.make()
    node = os.fork()
    if node == 0:
        try:
            reset_multiprocessing()
            serve(fake, os.getppid())
        finally:
            os._exit(1)
    try:
        yield commands
    finally:
        os.kill(node, signal.SIGKILL)
        os.waitpid(node, 0)
        for entry in fake.read()["tasks"].values():
            if "pid" in entry:
                with suppress(ProcessLookupError):  # it has ended just now
                    os.kill(entry["pid"], signal.SIGKILL)


def serve(fake, parent):
    """Run the jobs of the queue, until this process is killed or its parent has ended."""
    import mla_lightning.run.preflight
    import mla_lightning.run.train  # noqa: F401 - once, before the forks

    while os.getppid() == parent:
        with fake.changing() as queue:
            for name, entry in queue["tasks"].items():
                if "pid" in entry:
                    end_if_over(entry)
                elif is_next(name, entry, queue["tasks"]):
                    pid = os.fork()
                    if pid == 0:
                        run(name, entry, queue["cluster"])
                    entry |= {"state": "RUNNING", "reason": "", "node": "n1", "pid": pid}
        time.sleep(0.05)


def is_next(name, entry, tasks):
    """Return whether a task waits, and its array and the machine have room for it."""
    array = name.partition("_")[0]
    running = [other for other, its_entry in tasks.items() if "pid" in its_entry]
    of_array = [other for other in running if other.startswith(f"{array}_")]
    is_waiting = entry["state"] == "PENDING" and entry["reason"] != "JobHeldUser"
    return is_waiting and len(running) < CORES and len(of_array) < entry["limit"]


def end_if_over(entry):
    """Write the final state of a task whose process has ended."""
    pid, status = os.waitpid(entry["pid"], os.WNOHANG)
    if pid:
        del entry["pid"]
        state = "FAILED" if status else "COMPLETED"
        was_cancelled = entry["state"] == "COMPLETING"
        entry |= {"state": "CANCELLED" if was_cancelled else state, "exit_code": status}


def run(name, entry, cluster):
    """Do in this process what the script of a task does, and end the process."""
    try:
        array, _, number = name.partition("_")
        lines = Path(entry["script"]).read_text().splitlines()
        options = dict(re.findall(r"#SBATCH --([a-z-]+)=(.*)", "\n".join(lines)))
        output = shlex.split(options["output"])[0].replace("%A", array).replace("%a", number)
        log = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.chdir(shlex.split(options["chdir"])[0])
        os.environ |= dict(re.findall(r"export (\w+)=(\w+)", "\n".join(lines)))
        os.environ |= {"SLURM_JOB_ID": str(int(array) + 1 + int(number)), "SLURM_PROCID": "0"}
        os.environ |= {"SLURM_ARRAY_JOB_ID": array, "SLURM_ARRAY_TASK_ID": number}
        os.environ |= {"SLURM_CLUSTER_NAME": cluster}
        srun = shlex.split(lines[-1])
        module, *words = srun[srun.index("-m") + 1 :]
        assert (srun[0], module) == ("srun", task_module.__name__)
        task_module.main([word.replace("$SLURM_ARRAY_TASK_ID", number) for word in words])
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(1)
