# %% [markdown]
# # A sweep on a cluster
#
# Four small runs as jobs of Slurm: submitted, looked at, cancelled, continued, reported. Run it on
# a login node, in a folder that the nodes share. What is printed below comes from a stand-in
# for Slurm on one machine, on which the tests run this file, too.

# %%
import shlex
import subprocess
import time
from pathlib import Path

from mla_lightning.cli.main import main


def shell(line):
    """Run a command line that begins with `mla`."""
    print("$", line)
    assert main(shlex.split(line)[1:]) == 0


# %% [markdown]
# ## 1. What would be submitted
#
# `launcher=slurm` is all that a sweep needs; most clusters want a partition or an account besides,
# such as `launcher.partition=gpu launcher.account=lab`, and `trainer=gpu`. Here one job runs at a
# time. `--dry-run` lists the jobs and prints the script.

# %%
SWEEP = (
    "mla train -m data=synthetic data.num_train=160 method=mla,concat seed=0,1 "
    "trainer.max_epochs=40 diagnostics=off "
    "launcher=slurm launcher.time_min=10 launcher.jobs=1 launcher.poll_s=1"
)
shell(f"{SWEEP} --dry-run")

# %% [markdown]
# ## 2. Submit, and log out
#
# The command waits for the jobs and shows how they go on. It may be stopped at any time; the jobs
# stay in Slurm. With `launcher.wait=false` it does not wait at all.

# %%
shell(f"{SWEEP} launcher.wait=false")
shell("mla report runs runs")

# %% [markdown]
# ## 3. Cancel
#
# Once the first job has trained some epochs, all are cancelled. A running job writes a checkpoint
# first, as it does at its time limit, when it is preempted, and when its node is drained.


# %%
def wait_until(is_so, patience_s=3600):
    """Wait until a function returns something true."""
    end = time.monotonic() + patience_s
    while not is_so():
        assert time.monotonic() < end, "the jobs do not start, or do not end"
        time.sleep(0.1)


def is_over():
    """Return whether no job of the array waits or runs."""
    words = ["squeue", "-h", "-t", "PENDING,RUNNING,COMPLETING", "-j", array]
    return not subprocess.run(words, capture_output=True, check=False).stdout


wait_until(lambda: [*Path("runs/train").glob("*/metrics.csv")])
(array,) = (path.read_text().strip() for path in Path("runs/train/.slurm").glob("*/number"))
subprocess.run(["scancel", array], check=True)
wait_until(is_over)
shell("mla report runs runs")

# %% [markdown]
# ## 4. Continue
#
# The same command submits what is not finished. The first job goes on from its checkpoint, bit for
# bit as if nothing had happened. Where it runs does not matter either: without `launcher=slurm`,
# or with another launcher, the command continues on this machine.

# %%
shell(SWEEP)
(first,) = Path("runs/train").glob("*-mla-*-seed0-*")
print((first / "log.txt").read_text())

# %% [markdown]
# ## 5. Report
#
# Run folders are all that reports need: make them here, or copy `runs` to a laptop.

# %%
shell("mla report runs runs")

# %% [markdown]
# Everything else about machines, time limits, failures and other launchers:
# [from a laptop to a cluster](../cluster.md).
