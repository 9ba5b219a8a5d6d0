"""Sweeps on a launcher plugin of Hydra, which is an imitation where none is installed."""

import importlib.util
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from types import ModuleType, SimpleNamespace

import pytest
from tests.sweep.stand_in import launcher as fork_launcher
from tests.sweep.stand_in import run_stand_in, status_of, wait_until
from tests.train.jobs import TINY, outcome, same

from mla_lightning import run_folder as files
from mla_lightning.config import compose_jobs, hydra_plugins
from mla_lightning.config.targets import is_allowed, targets_allowed
from mla_lightning.errors import ConfigError, RunError
from mla_lightning.identity.code import Code
from mla_lightning.launchers import hydra, hydra_task
from mla_lightning.launchers.foreign import enter_folder, job_from_text, job_to_text
from mla_lightning.launchers.hydra import FOLDER, HydraLauncher
from mla_lightning.launchers.sweep import run_sweep
from mla_lightning.run_folder import State
from mla_lightning.run_folder.lock import RunLock


@dataclass
class ImitationConfig:
    """Settings of the imitation; ``tasks`` says where it runs them."""

    _target_: str = "hydra_plugins.imitation.Imitation"
    tasks: str = "here"
    n_jobs: int = -1
    note: str | None = None


@pytest.fixture(scope="module")
def _plugin() -> Iterator[None]:
    from hydra.core.config_store import ConfigStore
    from hydra.core.plugins import Plugins
    from hydra.core.utils import run_job, setup_globals
    from hydra.plugins.launcher import Launcher

    class Imitation(Launcher):
        """Runs tasks one after another, as the plugins for joblib and submitit do."""

        def __init__(self, tasks: str, n_jobs: int, note: str | None) -> None:
            self.tasks, self.num_jobs = tasks, n_jobs

        def setup(self, *, hydra_context, task_function, config) -> None:
            self.context, self.function, self.config = hydra_context, task_function, config

        def launch(self, job_overrides, initial_job_idx):
            setup_globals()
            if self.tasks == "nowhere":
                raise OSError("the queue does not answer")
            for number, overrides in enumerate(job_overrides):
                {"here": self.run, "thread": self.in_thread, "process": self.in_process}[
                    self.tasks
                ](number, overrides)

        def run(self, number, overrides):
            config = self.context.config_loader.load_sweep_config(self.config, list(overrides))
            config.hydra.job.num = number
            done = run_job(
                hydra_context=self.context,
                config=config,
                task_function=self.function,
                job_dir_key="hydra.sweep.dir",
                job_subdir_key="hydra.sweep.subdir",
            )
            _ = done.return_value  # raises what the task raised

        def in_thread(self, *args):
            errors = []

            def run():
                try:
                    self.run(*args)
                except Exception as error:
                    errors.append(error)

            thread = threading.Thread(target=run)
            thread.start()
            thread.join()
            if errors:
                raise errors[0]

        def in_process(self, *args):
            if (pid := os.fork()) == 0:
                try:
                    self.run(*args)
                finally:
                    os._exit(0)
            if os.waitpid(pid, 0)[1]:
                raise RuntimeError("a worker was killed\nsecond line")

    Imitation.__module__, Imitation.__qualname__ = "hydra_plugins.imitation", "Imitation"
    package = importlib.util.find_spec("hydra_plugins") and importlib.import_module("hydra_plugins")
    module = ModuleType("hydra_plugins.imitation")
    module.Imitation = Imitation
    modules = {"hydra_plugins": package or ModuleType("hydra_plugins"), module.__name__: module}
    modules["hydra_plugins"].imitation = module
    before = {name: sys.modules.get(name) for name in modules}
    sys.modules |= modules
    Plugins.instance().register(Imitation)
    ConfigStore.instance().store(group="hydra/launcher", name="imitation", node=ImitationConfig)
    yield
    for name, value in before.items():
        del sys.modules[name]
        sys.modules |= {name: value} if value else {}
    del ConfigStore.instance().repo["hydra"]["launcher"]["imitation.yaml"]


@pytest.fixture(scope="module")
def planned() -> list:
    return compose_jobs([*TINY, "seed=0,1,2"], multirun=True)


@pytest.fixture
def jobs(planned, tmp_path, monkeypatch, _plugin):
    """Three jobs with folders below the test's, which is the current one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(hydra_task, "LOOK_S", 0.02)
    monkeypatch.setattr(hydra, "LOOK_S", 0.02)
    return planned


def hydra_launcher(behaviours="", tasks="here", **more):
    """Return the launcher; a job of seed n behaves as the n-th word says."""
    words = behaviours.split()

    def run(job):
        names = ("run_dir", "title", "identity", "code")
        more = {name: getattr(job, name) for name in names}
        behaviour = words[job.config.seed]
        more["duration_s"] = 20.0 * (behaviour == "checkpoint")
        return run_stand_in(SimpleNamespace(behaviour=behaviour, **more))

    options = {"tasks": tasks, **more}
    function = run if words else None
    launcher = HydraLauncher(
        plugin="imitation", options=options, grace_s=5.0, job_function=function
    )
    launcher.runs_here = True
    return launcher


def states(jobs):
    return [str(files.state_of(job.run_dir)) for job in jobs]


def test_runs_equal_those_of_the_fork_launcher_bit_for_bit(jobs, tmp_path, capfd):
    assert run_sweep(jobs[:2], hydra_launcher()) == 0
    runs = [outcome(job.run_dir) for job in jobs[:2]]
    assert run_sweep(jobs[:2], hydra_launcher()) == 0
    assert "2 jobs: 2 finished before" in capfd.readouterr().out.replace(" and not run again", "")
    assert [status_of(job)["attempt"] for job in jobs[:2]] == [1, 1]
    (tmp_path / "other").mkdir()
    os.chdir(tmp_path / "other")
    assert run_sweep(jobs[:2], fork_launcher(job_function=None)) == 0
    assert same([outcome(job.run_dir) for job in jobs[:2]], runs)
    assert list((tmp_path / jobs[0].run_dir.parent).glob(f"{FOLDER}*")) == []


def test_jobs_end_as_forked_ones_do(jobs, capsys):
    assert run_sweep(jobs, hydra_launcher("finish kill exit")) == 1
    assert states(jobs) == ["finished", "failed", "failed"]
    output = capsys.readouterr().out
    assert "killed by SIGKILL (out of memory?)" in output
    assert "ended with exit code 7; its log ends with: running train" in output
    assert f"mla train {' '.join(TINY)}" in output.replace("'", "")
    assert "running train" in (jobs[0].run_dir / files.LOG).read_text()


def test_a_job_has_the_environment_of_a_forked_one(jobs, tmp_path, monkeypatch):
    def look(job):
        print(os.environ["MKL_NUM_THREADS"], os.getcwd(), sys.stdin.read() == "", os.getpgid(0))
        print([signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)])
        raise SystemExit(f"{os.getpid()} in {os.getppid()}")

    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    texts = []
    for launcher in (HydraLauncher(plugin="imitation", job_function=look), fork_launcher()):
        launcher.job_function = look
        run_sweep(jobs[:1], launcher)
        *lines, last = (jobs[0].run_dir / files.LOG).read_text().splitlines()
        texts.append([line.replace(last.split()[0], "PID") for line in lines])
        assert int(last.split()[2]) == os.getpid()
        (jobs[0].run_dir / files.LOG).unlink()
    assert texts[0] == texts[1]
    assert texts[0][0].startswith(f"{jobs[0].config.trainer.threads} {tmp_path} True PID")
    assert "MKL_NUM_THREADS" not in os.environ


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_lets_jobs_write_a_checkpoint_and_starts_no_more(jobs, monkeypatch, number, code):
    before = signal.getsignal(number)

    def stop():
        wait_until(lambda: (jobs[1].run_dir / "begun_at").exists())
        os.kill(os.getpid(), number)

    thread = threading.Thread(target=stop)
    thread.start()
    monkeypatch.setattr(os, "waitpid", patient(os.waitpid))
    assert run_sweep(jobs, hydra_launcher("finish checkpoint finish", tasks="process")) == code
    thread.join()
    assert states(jobs) == ["finished", State.of_exit_code(code), "missing"]
    assert status_of(jobs[1])["reason"].startswith(f"{State.of_exit_code(code)} at ")
    assert not jobs[2].run_dir.exists()
    assert signal.getsignal(number) is before


@pytest.mark.parametrize("runs_here", [True, False])
def test_tasks_on_this_machine_end_with_a_sweep_that_was_killed(jobs, runs_here):
    """Those of a scheduler go on."""
    if (pid := os.fork()) == 0:
        launcher = hydra_launcher("checkpoint finish finish", tasks="process")
        launcher.runs_here = runs_here
        try:
            run_sweep(jobs, launcher)
        finally:
            os._exit(0)
    wait_until(lambda: (jobs[0].run_dir / "begun_at").exists())
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    if runs_here:
        wait_until(lambda: files.state_of(jobs[0].run_dir) == State.PREEMPTED)
        wait_until(lambda: RunLock(jobs[0].run_dir).holder() is None)  # released after the state
    else:
        time.sleep(0.5)
        assert files.state_of(jobs[0].run_dir) == State.RUNNING
        os.kill(RunLock(jobs[0].run_dir).holder()["pid"], signal.SIGKILL)


@pytest.mark.filterwarnings("ignore:Exception ignored in:pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("num_dropped", [0, 1])
def test_the_second_signal_kills(jobs, monkeypatch, num_dropped):
    """Python drops an exception that is raised beside a fork or in a finaliser."""

    def stop():
        wait_until(lambda: (jobs[0].run_dir / "begun_at").exists())
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.3)
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=stop)
    thread.start()
    started = time.monotonic()
    launcher = hydra_launcher("persist persist persist", tasks="process")
    launcher.grace_s = 60.0
    monkeypatch.setattr(os, "waitpid", patient(os.waitpid, num_dropped))
    assert run_sweep(jobs, launcher) == 143
    thread.join()
    assert time.monotonic() - started < 20
    wait_until(lambda: files.state_of(jobs[0].run_dir) != State.RUNNING)


def test_two_signals_before_the_plugin_runs_start_nothing(jobs, monkeypatch):
    load = hydra.load_plugin_config

    def load_slowly(*args):
        if signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:  # not in the check before
            os.kill(os.getpid(), signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGTERM)
        return load(*args)

    monkeypatch.setattr(hydra, "load_plugin_config", load_slowly)
    assert run_sweep(jobs, hydra_launcher("hang hang hang", tasks="process")) == 143
    assert {files.state_of(job.run_dir) for job in jobs} == {State.MISSING}


def patient(waitpid, num_dropped=0):
    """Return a ``waitpid`` which lets handlers of signals run meanwhile, as time.sleep does.

    It drops the first exceptions that they raise.
    """
    raised = []

    def wait(pid, options):
        while options == 0 and (found := waitpid(pid, os.WNOHANG))[0] == 0:
            try:
                time.sleep(0.02)
            except KeyboardInterrupt:
                raised.append(pid)
                if len(raised) > num_dropped:
                    raise
        return found if options == 0 else waitpid(pid, options)

    return wait


def test_jobs_go_on_although_a_worker_of_the_plugin_is_killed(jobs, monkeypatch):
    """The plugin starts nothing more then, so the other jobs are launched again."""
    original = hydra_task.fork_child

    def kill_worker(job, function, slot):
        if job.config.seed == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(job, function, slot)

    monkeypatch.setattr(hydra_task, "fork_child", kill_worker)
    assert run_sweep(jobs, hydra_launcher("finish finish finish", tasks="process")) == 1
    assert states(jobs) == ["finished", "failed", "finished"]
    assert status_of(jobs[1])["reason"] == "killed by SIGKILL (out of memory?)"


@pytest.mark.parametrize(
    ("tasks", "reason"),
    [
        ("nowhere", "launcher.plugin=imitation ended: the queue does not answer"),
        ("thread", "runs tasks in threads of one process, and jobs need processes"),
    ],
)
def test_a_plugin_that_cannot_work_is_named(jobs, tasks, reason, capsys):
    assert run_sweep(jobs, hydra_launcher("finish finish finish", tasks=tasks)) == 1
    assert states(jobs) == ["failed"] * 3
    assert all(reason in status_of(job)["reason"] for job in jobs)
    assert "Traceback" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("plugin", "options", "words"),
    [
        ("imitation", {"note_": 1}, r"options.note_: .* Did you mean 'note'\? It has: tasks"),
        ("imitation", {"n_jobs": "x"}, "launcher.options.n_jobs=x: .* converted to Integer"),
        ("imitatio", {}, "no such launcher plugin of Hydra .* Did you mean 'imitation'"),
        ("basic", {}, "launcher.plugin=basic: write launcher=serial"),
        ("rq", {}, "no such launcher plugin .* Or use launcher=fork"),
    ],
)
def test_wrong_settings_are_refused_before_anything_starts(jobs, plugin, options, words):
    with pytest.raises(ConfigError, match=words):
        run_sweep(jobs, HydraLauncher(plugin=plugin, options=options))
    assert not jobs[0].run_dir.exists()


def test_a_known_plugin_that_is_not_installed_is_named_with_its_package(jobs, monkeypatch):
    monkeypatch.setitem(hydra_plugins.PACKAGES, "absent", "hydra-absent-launcher")
    with pytest.raises(ConfigError, match="absent needs a package: pip install hydra-absent-laun"):
        run_sweep(jobs, HydraLauncher(plugin="absent"))


def test_jobs_at_a_time_follow_from_cores_and_from_the_plugins_settings(jobs):
    launcher = hydra_launcher()
    for options, expected in (({}, 2), ({"n_jobs": 1}, 1), ({"n_jobs": -2}, 1), ({"n_jobs": 9}, 3)):
        launcher.options = options
        launcher.check(jobs)
        assert launcher.concurrency == expected, options


@pytest.mark.usefixtures("_plugin")
def test_joblib_shares_no_gpus():
    jobs = compose_jobs([*TINY, "trainer.accelerator=gpu"])
    with pytest.raises(ConfigError, match=r"no job a GPU .* launcher.options.n_jobs=N"):
        hydra_launcher().check(jobs)
    hydra_launcher(n_jobs=2).check(jobs)


def test_a_job_is_the_same_in_another_process(planned):
    for job in planned:
        again = job_from_text(job_to_text(job))
        assert again == job
        assert (again.run_id, again.stage_id) == (job.run_id, job.stage_id)


def test_changed_code_is_refused_by_the_task(jobs, tmp_path, capsys):
    modules = dict(jobs[0].code.modules)
    modules[next(name for name in modules if name.startswith("mla_lightning.methods"))] = "0" * 16
    assert run_sweep([replace(jobs[0], code=Code(modules))], hydra_launcher()) == 1
    assert "changed since this command started" in status_of(jobs[0])["reason"]


def test_the_folder_and_the_packages_of_the_command(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)  # restores the path
    monkeypatch.chdir(tmp_path.parent)
    with targets_allowed():
        enter_folder(str(tmp_path), ["--config-dir", "conf", "--allow-target", "my_lab", "seed=1"])
        assert is_allowed("my_lab.Method")
    assert os.getcwd() == str(tmp_path)
    with pytest.raises(RunError, match="has no folder /nowhere, in which the sweep was started"):
        enter_folder("/nowhere", [])
