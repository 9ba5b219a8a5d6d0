"""Every logger records config and provenance, as the run folder has them."""

import json
import subprocess
from types import SimpleNamespace

import pytest
import yaml
from tests.loggers.test_loggers import config_with
from tests.loggers.wandb_files import records_named

from mla_lightning.cli.main import main
from mla_lightning.loggers.build import build_loggers
from mla_lightning.loggers.parameters import flatten, parameters_of
from mla_lightning.run import record

WORDS = [
    *("train", "data=synthetic", "method=mla", "seed=3", "trainer.max_epochs=1"),
    *("data.num_train=96", "data.num_val=40", "data.num_test=40", "run_dir=run"),
    "+logger.more._target_=lightning.pytorch.loggers.CSVLogger",
    *("+logger.more.save_dir=run", "+logger.more.name=more", "+logger.more.version=0"),
]
#: Keys of provenance.json that are recorded as they are.
RECORDED = ("identity", "data_fingerprint", "git_commit", "git_dirty", "command", "python")


@pytest.fixture(scope="module")
def logged(tmp_path_factory):
    """One run with four loggers; logger -> what it recorded, and the content of the folder."""
    pytest.importorskip("mlflow")
    root = tmp_path_factory.mktemp("logged")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        for name in ("DISABLE_TELEMETRY", "ALLOW_FILE_STORE"):
            patch.setenv(f"MLFLOW_{name}", "true")
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        assert main([*WORDS, "logger=[wandb,tensorboard,mlflow]"]) == 0
        run_dir = root / "run"
        (run,) = records_named(run_dir, "run")[:1]
        (mlflow,) = mlflow_runs(run_dir)
        recorded = {
            "wandb": {item.key: json.loads(item.value_json) for item in run.config.update},
            "tensorboard": tensorboard_parameters(run_dir / "tensorboard"),
            "mlflow": mlflow.data.params,
            "other": yaml.unsafe_load(
                (run_dir / "more" / "version_0" / "hparams.yaml").read_text()
            ),
        }
    names = {"wandb": run.display_name, "mlflow": mlflow.info.run_name}
    tags = {"wandb": (list(run.tags), run.run_group, run.job_type), "mlflow": mlflow.data.tags}
    return SimpleNamespace(run_dir=run_dir, recorded=recorded, names=names, tags=tags)


def mlflow_runs(run_dir):
    from mlflow.tracking import MlflowClient

    client = MlflowClient((run_dir / "mlflow").as_uri())
    return client.search_runs([e.experiment_id for e in client.search_experiments()])


def tensorboard_parameters(folder):
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
    from tensorboard.plugins.hparams import plugin_data_pb2

    (path,) = folder.glob("events.out.tfevents.*")
    for event in EventFileLoader(str(path)).Load():
        for value in event.summary.value:
            if value.metadata.plugin_data.plugin_name == "hparams":
                data = plugin_data_pb2.HParamsPluginData()
                data.ParseFromString(value.metadata.plugin_data.content)
                if data.HasField("session_start_info"):
                    start = data.session_start_info.hparams
                    return {
                        key: getattr(item, item.WhichOneof("kind")) for key, item in start.items()
                    }
    return None


@pytest.mark.parametrize("name", ["wandb", "tensorboard", "mlflow", "other"])
def test_every_logger_records_config_and_provenance(logged, name):
    provenance = json.loads((logged.run_dir / "provenance.json").read_text())
    recorded = logged.recorded[name]
    expected = {key: provenance[key] for key in RECORDED}
    expected |= {f"versions.{key}": value for key, value in provenance["versions"].items()}
    expected["code.hash"] = provenance["code"]["hash"]
    assert {"versions.torch", "versions.lightning"} <= expected.keys()
    for key, value in expected.items():
        found = recorded[f"provenance.{key}"]
        assert found == value or str(found) == str(value)[:500], key  # MLflow has texts
    tree = yaml.safe_load((logged.run_dir / "config.yaml").read_text())
    assert str(recorded["optimizer.lr"]) == str(tree["optimizer"]["lr"])
    assert str(recorded["seed"]).removesuffix(".0") == "3"  # numbers are floats in TensorBoard
    modules = [key for key in recorded if ".modules" in key]
    assert not modules


def test_runs_are_named_by_data_method_and_seed(logged):
    assert logged.names == dict.fromkeys(("wandb", "mlflow"), "synthetic mla seed=3")
    assert logged.tags["wandb"] == (["train"], "train", "mla")
    provenance = json.loads((logged.run_dir / "provenance.json").read_text())
    commit = logged.tags["mlflow"].get("mlflow.source.git.commit")
    assert commit == provenance["git_commit"]


def test_tensorboard_shows_parameters_beside_validation_metrics(logged):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams import plugin_data_pb2

    events = EventAccumulator(str(logged.run_dir / "tensorboard"))
    events.Reload()
    content = events.summary_metadata["_hparams_/experiment"].plugin_data.content
    data = plugin_data_pb2.HParamsPluginData()
    data.ParseFromString(content)
    columns = {info.name.tag for info in data.experiment.metric_infos}
    assert columns == {"val/acc", "val/ece", "val/f1_macro"}
    assert columns <= set(events.Tags()["scalars"])


def test_secrets_are_replaced_in_the_command(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", "keythatmustnotreachanyfile")
    content = {"command": "mla train +note=keythatmustnotreachanyfile", "code": "hash of a string"}
    (tmp_path / "provenance.json").write_text(json.dumps(content))
    parameters = parameters_of(SimpleNamespace(tree={"seed": 0}), tmp_path)
    assert parameters == {
        "seed": 0,
        "provenance.command": "mla train +note=***",
        "provenance.code": "hash of a string",
    }


def test_a_logger_that_takes_no_config_does_not_end_the_job(tmp_path, capsys):
    target = f"{__name__}.Refusing"
    config = SimpleNamespace(tree={}, logger={"mine": {"_target_": target}})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mla_lightning.loggers.build.instantiate", lambda node: Refusing())
        (logger,) = build_loggers(config, tmp_path, "id")
    assert isinstance(logger, Refusing)
    assert "Refusing takes no config: not this" in capsys.readouterr().out


class Refusing:
    def log_hyperparams(self, parameters):
        raise ValueError("not this")


def git(folder, *words):
    identity = ["-c", "user.name=me", "-c", "user.email=me@example.org"]
    subprocess.run(["git", "-C", str(folder), *identity, *words], check=True, capture_output=True)


def test_the_commit_is_that_of_the_files_and_says_whether_they_differ(tmp_path, monkeypatch):
    package = tmp_path / "src" / "package"
    package.mkdir(parents=True)
    monkeypatch.setattr(record, "_PACKAGE", package)
    nowhere = {"git_commit": None, "git_dirty": None}
    assert record._git_state() == nowhere
    git(tmp_path, "init")
    (tmp_path / "notes.txt").write_text("a")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-m", "first")
    (package / "__init__.py").write_text("")
    assert record._git_state() == nowhere  # a repository that does not hold the package
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-m", "second")
    head = (tmp_path / ".git" / "HEAD").read_text().split()[1]
    commit = (tmp_path / ".git" / head).read_text().strip()
    assert record._git_state() == {"git_commit": commit, "git_dirty": False}
    (tmp_path / "notes.txt").write_text("b")  # not a file of the package
    assert record._git_state() == {"git_commit": commit, "git_dirty": False}
    (package / "new.py").write_text("")
    assert record._git_state() == {"git_commit": commit, "git_dirty": True}
    (package / "new.py").unlink()
    (package / "__init__.py").write_text("changed = True")
    assert record._git_state() == {"git_commit": commit, "git_dirty": True}


def test_dotted_keys_of_a_nested_config():
    assert dict(flatten({"a": {"b": 1, "c": {}}, "d": [2]})) == {"a.b": 1, "d": [2]}


def test_tensorboard_that_takes_no_config_still_logs_metrics(tmp_path, monkeypatch, capsys):
    def refuse(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("mla_lightning.loggers.tensorboard.write_parameters", refuse)
    config = config_with("mla_lightning.loggers.TensorBoard")
    (logger,) = build_loggers(config, tmp_path, "id")
    assert "TensorBoard accepts no config ([Errno 28]" in capsys.readouterr().out
    logger.log_metrics({"val/acc": 0.5}, step=1)
    logger.finalize("success")
    assert list((tmp_path / "tensorboard").glob("events.out.tfevents.*"))
