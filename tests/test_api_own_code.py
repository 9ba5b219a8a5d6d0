"""The Python interface with a user's own code: its errors, and its edits."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import mla_lightning as mla
from mla_lightning.api import runs as runs_module
from mla_lightning.api import start
from mla_lightning.config import bind, targets
from mla_lightning.errors import ConfigError, RunError
from mla_lightning.identity.code import code_of
from mla_lightning.identity.sources import find_source
from mla_lightning.run_folder import read_json

TINY = (
    *("data=synthetic", "data.num_train=80", "data.num_val=24", "data.num_test=24"),
    *("data.batch_size=8", "trainer.max_epochs=2", "optimizer.lr=0.05"),
)


OWN_METHOD = """
from mla_lightning.methods import MLA

class Own(MLA):
    def fit_batch(self, batch):
        BODY
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    """Return a function that trains a method of the user with a given body."""
    (tmp_path / "conf/method").mkdir(parents=True)
    text = Path(mla.__file__).parents[2] / "conf/method/mla.yaml"
    text = text.read_text().replace("mla_lightning.methods.mla.MLA", "own_method.Own")
    (tmp_path / "conf/method/own.yaml").write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def train(body, code=OWN_METHOD):
        Path("own_method.py").write_text(code.replace("BODY", body))
        for function in (find_source, code_of, bind._node_problems, bind.parameters_of):
            function.cache_clear()
        sys.modules.pop("own_method", None)
        start._first_times.pop("own_method", None)
        return mla.train(*TINY, method="own", config_dir="conf", allow=["own_method"])

    yield train
    sys.modules.pop("own_method", None)


@pytest.mark.parametrize(
    ("body", "reason"),
    [("raise KeyError('text')", "KeyError: 'text'"), ("raise SystemExit(3)", "SystemExit: 3")],
)
def test_errors_of_own_code_are_run_errors(own, body, reason):
    with pytest.raises(
        RunError, match=f"training, .*: {reason}.* is in runs/train.*mla train"
    ) as info:
        own(body)
    assert info.value.__cause__ is not None
    (folder,) = Path("runs/train").iterdir()
    status = read_json(folder / "status.json")
    assert status["state"] == "failed"
    assert status["reason"] == f"Failed in training, epoch 1, batch 1: {reason}"


def test_a_decomposition_that_fails_is_explained(own):
    body = "import torch; torch.linalg.cholesky(-torch.eye(2))"
    message = r"Epoch 1, batch 1: a matrix of the method has no decomposition.*optimizer\.lr"
    with pytest.raises(RunError, match=message) as info:
        own(body)
    assert "LinAlgError" in type(info.value.__cause__).__name__


def test_an_epoch_that_a_hook_ends_before_its_validation_is_explained(own):
    body = """return super().fit_batch(batch)

    def on_train_batch_start(self, batch, batch_idx):
        return -1 if batch_idx == 3 else None
"""
    message = "Epoch 1 was not validated.*on_train_batch_start.*let it return None"
    with pytest.raises(RunError, match=message):
        own(body)


@pytest.mark.parametrize(
    ("code", "message"),
    [("def", "SyntaxError: .*own_method.py"), ("raise RuntimeError('no key')", "no key")],
)
def test_own_modules_that_cannot_be_imported_are_config_errors(own, code, message):
    with pytest.raises(ConfigError, match=f"own_method.Own cannot be imported: .*{message}"):
        own("", code)
    assert not Path("runs").exists()


def test_packages_are_allowed_for_one_call_and_for_its_runs(own):
    run = own("return super().fit_batch(batch)")
    assert not targets.is_allowed("own_method.Own")
    with pytest.raises(ConfigError, match="is not allowed"):
        mla.train(*TINY, method="own", config_dir="conf")
    assert type(mla.load(run.folder).module).__name__ == "Own"
    runs_module._packages.clear()
    with pytest.raises(ConfigError, match="is not allowed"):
        _ = mla.load(run.folder).module
    assert type(mla.load(run.folder, allow=["own_method"]).module).__name__ == "Own"
    assert not targets.is_allowed("own_method.Own")


def test_code_that_was_edited_between_its_import_and_the_first_run_is_refused(tmp_path):
    (tmp_path / "conf/method").mkdir(parents=True)
    (tmp_path / "my_rules").mkdir()
    (tmp_path / "conf/method/mine.yaml").write_text(
        "# Mine.\ndefaults: [/fusion@fusion: concat]\n_target_: my_rules.mine.Mine\n"
    )
    rule = "from mla_lightning.methods import Joint\n\nclass Mine(Joint):\n    x = 1\n"
    (tmp_path / "my_rules/mine.py").write_text(rule)
    code = f"""
import my_rules.mine
from pathlib import Path
import mla_lightning as mla
Path("my_rules/mine.py").write_text({rule!r} + "    y = 10\\n")
try:
    mla.train("data=synthetic", "trainer.max_epochs=1", "optimizer.lr=0.1", method="mine",
              config_dir="conf", allow=["my_rules"])
except mla.errors.RunError as error:
    assert "was changed since this process imported it" in str(error)
else:
    raise AssertionError("it was trained")
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": ""},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
