"""Real jobs on tiny synthetic data, run in forked children that may be killed."""

import os
import traceback
from pathlib import Path

import torch
from tests.methods import catalogue
from tests.methods.incomplete_runs import METHODS as INCOMPLETE

from mla_lightning.callbacks.checkpoint import resumable
from mla_lightning.callbacks.checkpoint_io import read_checkpoint
from mla_lightning.config import compose_jobs
from mla_lightning.run.train import run_job
from mla_lightning.run_folder import CHECKPOINTS, RESULT, read_json, read_metrics
from mla_lightning.run_folder.forks import reset_multiprocessing

BATCHES, EPOCHS = 10, 2
TINY = (
    "data=synthetic",
    "data.num_train=80",
    "data.num_val=24",
    "data.num_test=24",
    "data.batch_size=8",
    f"trainer.max_epochs={EPOCHS}",
    "scheduler.step_size=1",
    "optimizer.lr=0.05",
)
#: Methods that take steps on complete samples, each with its own words for two epochs.
METHODS = {
    name: ()
    for name in catalogue.METHODS
    if catalogue.class_of(name).takes_steps
    and not catalogue.class_of(name).fits_all_at_once
    and name not in INCOMPLETE
}
METHODS |= {"opm": ("method.start_epoch=0",)}
METHODS |= {"simbamm": ("method.modality_dropout=0.5",)}
METHODS |= {"reconboost": (*catalogue.SETTINGS["reconboost"], "trainer.max_epochs=5")}
#: Of three epochs the second is in the window in which one encoder learns.
METHODS |= {
    "g2d": ("method.teacher_epochs=1", "method.suppress_epochs=1", "trainer.max_epochs=3"),
}
#: With 20 held-out samples per class, and as many to train on as the others have.
METHODS |= {"gblend": ("data.num_train=160", "data.held_out=0.5", "method.lookahead_epochs=1")}


def make_job(root: Path, *overrides: str):
    words = [*TINY, f"paths.output_dir={root}", *overrides]
    by_key = {word.partition("=")[0]: word for word in words}  # later ones replace earlier ones
    if by_key.get("scheduler") == "scheduler=null":
        by_key = {key: word for key, word in by_key.items() if not key.startswith("scheduler.")}
    if "trainer.snapshots" in by_key:  # which have a schedule of their own
        del by_key["scheduler.step_size"]
    (job,) = compose_jobs([*by_key.values()], multirun=False)
    return job


def in_child(action) -> int:
    """Run a function in a forked child; return its exit code, or -n if signal n killed it."""
    pid = os.fork()
    if pid == 0:
        code = 99
        try:
            reset_multiprocessing()
            code = action() or 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def kill_at(owner, name: str, number: int, *, before: bool = True) -> None:
    """Kill this process by SIGKILL before or after a call, counted from 1, of a function."""
    original, count = getattr(owner, name), [0]

    def counting(*args, **kwargs):
        count[0] += 1
        if before and count[0] == number:
            os.kill(os.getpid(), 9)
        result = original(*args, **kwargs)
        if count[0] == number:
            os.kill(os.getpid(), 9)
        return result

    setattr(owner, name, counting)


def killed(job, *calls, before: bool = True) -> int:
    """Run a job in a child that kills itself at one of the calls; return its exit code."""

    def action():
        for owner, name, number in calls:
            kill_at(owner, name, number, before=before)
        return run_job(job)

    return in_child(action)


def outcome(run_dir: Path) -> dict:
    """Return what two equal runs must have in common: all results except times."""
    last = read_checkpoint(resumable(run_dir / CHECKPOINTS)[0])
    result = read_json(run_dir / RESULT)
    rows = [
        {k: v for k, v in row.items() if not k.startswith("time/")} for row in read_metrics(run_dir)
    ]
    keys = ("state_dict", "optimizer_states", "lr_schedulers", "epoch", "global_step", "callbacks")
    return {
        "rows": rows,
        "checkpoint": {key: last[key] for key in keys},
        "result": {k: result[k] for k in ("val", "test", "best_epoch", "num_batches_trained")},
    }


def same(one, other) -> bool:
    """Return whether two nested structures are equal bit for bit."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[k], other[k]) for k in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other
