"""Signals to a job and to its process group, in training, validation and evaluation."""

import os
import signal
import time
from contextlib import contextmanager

import pytest
from tests.train.jobs import in_child, make_job, outcome, same

from mla_lightning import run_folder as files
from mla_lightning.callbacks import signals
from mla_lightning.launchers.fork import ForkLauncher
from mla_lightning.launchers.sweep import run_sweep
from mla_lightning.module import MultimodalModule
from mla_lightning.run import fit, measure, train
from mla_lightning.run.explain import describe_error
from mla_lightning.run.train import run_job
from mla_lightning.run_folder.forks import reset_multiprocessing
from mla_lightning.run_folder.lock import RunLock
from mla_lightning.run_folder.stop_signals import STOP_SIGNALS

#: Phase -> the owner and name of a function, and the number of the call in which signals come.
PHASES = {
    "data": (fit, "build_data", 1),
    "training": (MultimodalModule, "training_step", 13),
    "validation": (MultimodalModule, "validation_step", 1),
    "evaluation": (MultimodalModule, "predict_step", 1),
    "scores": (measure, "score_predictions", 1),
}
WORDS = ("method=mla", "data.batch_size=8")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    job = make_job(tmp_path_factory.mktemp("whole"), *WORDS)
    assert in_child(lambda: run_job(job)) == 0
    return outcome(job.run_dir)


def pause_in(phase, writing, *, seconds=0.4):
    """Report by a pipe that a phase is reached, and stay in it for a while."""
    owner, name, number = PHASES[phase]
    original, count = getattr(owner, name), [0]

    def paused(*args, **kwargs):
        count[0] += 1
        if count[0] == number:
            os.write(writing, b"x")
            until = time.monotonic() + seconds
            while time.monotonic() < until:
                time.sleep(0.01)
        return original(*args, **kwargs)

    setattr(owner, name, paused)


@contextmanager
def group_of(action, phase, **more):
    """Start a process group that runs an action; yield its number when the phase is reached."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = 99
        try:
            os.setpgid(0, 0)
            reset_multiprocessing()
            os.close(reading)
            pause_in(phase, writing, **more)
            code = action()
        finally:
            os._exit(code)
    os.close(writing)
    try:
        assert os.read(reading, 1) == b"x"
        yield pid
    finally:
        os.close(reading)


def code_of(pid):
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def members_of(group):
    """Return the living processes of a group."""
    members = []
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            try:
                with open(f"/proc/{entry.name}/stat") as file:
                    state, _, number = file.read().rpartition(")")[2].split()[:3]
            except OSError:
                continue
            if int(number) == group and state != "Z":
                members.append(int(entry.name))
    return members


@pytest.mark.parametrize(
    ("phase", "workers"),
    [
        *[(phase, 0) for phase in PHASES],
        *[(phase, 2) for phase in ("training", "evaluation")],
        pytest.param("validation", 2, marks=pytest.mark.slow),
    ],
)
def test_sigterm_to_the_group_is_a_preemption(tmp_path, whole, phase, workers):
    job = make_job(tmp_path, *WORDS, f"data.num_workers={workers}")
    with group_of(lambda: run_job(job), phase) as group:
        if workers:
            assert len(members_of(group)) > workers
        started = time.monotonic()
        os.killpg(group, signal.SIGTERM)
        assert code_of(group) == 143
    assert time.monotonic() - started < 10
    assert files.read_json(job.run_dir / files.STATUS)["exit_code"] == 143
    assert files.state_of(job.run_dir) == "preempted"
    assert RunLock(job.run_dir).holder() is None
    if phase == "training":  # the batch was finished: no worker died of the signal
        assert (job.run_dir / files.CHECKPOINTS / "epoch=0001-batch=000003.ckpt").exists()
    trained = tmp_path / "trained"

    def again():
        original = MultimodalModule.training_step

        def counted(*args, **kwargs):
            trained.touch()
            return original(*args, **kwargs)

        MultimodalModule.training_step = counted
        return run_job(job)

    assert in_child(again) == 0
    assert same(outcome(job.run_dir), whole)
    assert trained.exists() is (phase not in ("evaluation", "scores"))
    until = time.monotonic() + 5
    while members_of(group):
        assert time.monotonic() < until, "processes of the group are left"
        time.sleep(0.05)


def test_a_long_validation_is_stopped(tmp_path, whole, monkeypatch):
    monkeypatch.setattr(signals, "VALIDATION_S", 0.1)
    job = make_job(tmp_path, *WORDS)
    with group_of(lambda: run_job(job), "validation") as group:
        os.killpg(group, signal.SIGTERM)
        assert code_of(group) == 143
    assert not list((job.run_dir / files.CHECKPOINTS).glob("epoch=*.ckpt"))  # none of the epoch
    assert in_child(lambda: run_job(job)) == 0
    assert same(outcome(job.run_dir), whole)


@pytest.mark.parametrize("phase", ["training", "evaluation"])
def test_later_signals_do_not_spoil_the_record(tmp_path, whole, phase, monkeypatch):
    """A scheduler and the launcher may both send one, also while the first is heeded."""
    fail = train.StatusFile.fail

    def slow(*args, **kwargs):
        time.sleep(0.3)
        return fail(*args, **kwargs)

    monkeypatch.setattr(train.StatusFile, "fail", slow)
    job = make_job(tmp_path, *WORDS)
    with group_of(lambda: run_job(job), phase) as group:
        os.kill(group, signal.SIGTERM)
        while not os.waitid(os.P_PID, group, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            os.kill(group, signal.SIGTERM)
            time.sleep(0.02)
        assert code_of(group) == 143
    assert files.state_of(job.run_dir) == "preempted"
    assert in_child(lambda: run_job(job)) == 0
    assert same(outcome(job.run_dir), whole)


@pytest.mark.parametrize("phase", ["data", "evaluation"])
def test_ctrl_c_outside_of_training_is_an_interruption(tmp_path, phase):
    job = make_job(tmp_path, *WORDS)
    with group_of(lambda: run_job(job), phase) as group:
        os.killpg(group, signal.SIGINT)
        assert code_of(group) == 130
    assert files.state_of(job.run_dir) == "interrupted"


def test_an_error_without_a_signal_stays_a_failure(tmp_path):
    job = make_job(tmp_path, *WORDS, "data.num_workers=2")

    def action():
        def kill_worker(self, batch, batch_idx):
            (first, *_) = [pid for pid in members_of(os.getpgid(0)) if pid != os.getpid()]
            os.kill(first, signal.SIGKILL)
            time.sleep(5)

        os.setpgid(0, 0)
        MultimodalModule.training_step = kill_worker
        return run_job(job)

    assert in_child(action) == 1
    assert files.state_of(job.run_dir) == "failed"
    reason = files.read_json(job.run_dir / files.STATUS)["reason"]
    assert reason.startswith("A loader worker was killed")


def test_handlers_are_restored():
    before = [signal.getsignal(number) for number in STOP_SIGNALS]
    with pytest.raises(signals.StopRequested), signals.StopSignals():
        signal.raise_signal(signal.SIGTERM)
    assert [signal.getsignal(number) for number in STOP_SIGNALS] == before


@pytest.mark.parametrize(
    ("phase", "reach"), [("training", "every process"), ("evaluation", "the launcher")]
)
def test_sigterm_to_a_sweep(tmp_path, whole, phase, reach):
    job = make_job(tmp_path, *WORDS, "data.num_workers=2")

    def sweep():
        return run_sweep([job], ForkLauncher(jobs=1, grace_s=20))

    with group_of(sweep, phase) as group:
        own = files.read_json(job.run_dir / files.STATUS)["pid"]
        others = members_of(own) if reach == "every process" else []
        for pid in (group, *others):
            os.kill(pid, signal.SIGTERM)
        assert code_of(group) == 143
    assert files.state_of(job.run_dir) == "preempted"
    assert members_of(own) == []
    assert in_child(lambda: run_job(job)) == 0
    assert same(outcome(job.run_dir), whole)


def test_a_signal_is_not_lost_where_its_exception_is(tmp_path):
    """As in a callback of a library that suppresses all errors."""
    job = make_job(tmp_path, *WORDS)
    predict_step = MultimodalModule.predict_step

    def suppressing(*args, **kwargs):
        try:
            signal.raise_signal(signal.SIGTERM)
        except BaseException:
            return predict_step(*args, **kwargs)

    def action():
        MultimodalModule.predict_step = suppressing
        return run_job(job)

    assert in_child(action) == 143
    assert files.state_of(job.run_dir) == "preempted"


@pytest.mark.parametrize(
    "error", [ConnectionResetError(104, "Connection reset by peer"), EOFError()]
)
def test_other_signs_of_a_killed_worker_are_named_as_such(error):
    assert describe_error(error, 2).startswith("A loader worker was killed")
    assert "worker" not in describe_error(error, 0)
