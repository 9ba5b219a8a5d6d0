"""Wrong commands are refused before anything starts: exit code, message, and nothing on the disk.

The commands are in ``wrong_commands.txt``. They run in this process.
"""

from __future__ import annotations

import importlib
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tests.config.conftest import compose_once

import mla_lightning as mla
from mla_lightning.cli.main import main
from mla_lightning.data.splits import NamedSplit
from mla_lightning.data.store import write_store

JOINT = "_target_: mla_lightning.methods.joint.Joint\n"
BOMB = "a0: &a0 [1,1,1,1,1,1,1,1,1]\n" + "".join(
    f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 9)
)
#: Folder of configs -> content of its ``method/mine.yaml``.
BAD_YAML = {
    "bom": b"\xef\xbb\xbf# @package _global_\na: 1\n",
    "latin": "# mine\na: größe\n".encode("latin-1"),
    "utf16": "a: 1\n".encode("utf-16"),
    "deep": b"[" * 5000,
    "deeper": "".join("  " * n + "b:\n" for n in range(60)).encode(),
    "bomb": BOMB.encode(),
    "big": b"#" * 1_000_001,
    "list": b"- 1\n",
    "tab": b"a:\n\t- 1\n",
    "twice": b"a: 1\na: 2\n",
    "alias": b"a: &x [*x]\n",
    "anchor": b"a: *nope\n",
    "nul": b"a: \x00\n",
    "colon": b"a: b: c\n",
    "documents": b"a: 1\n---\nb: 2\n",
    "nullkey": b"null: 3\n",
    "tag": b"a: !!python/object:os.system x\n",
    "owntag": b"a: !mine x\n",
    "interpolation": b"a: ${b\n",
    "loop": b"defaults: [other]\n",
    "nan": f"{JOINT}x: .nan\n".encode(),
    "infinite": f"{JOINT}x: [.inf]\n".encode(),
    "fusion": f"defaults: [/fusion@fusion: concatt]\n{JOINT}".encode(),
    "mapping": f"defaults: {{a: b}}\n{JOINT}".encode(),
    "header": f"# @package\n{JOINT}".encode(),
    "self": b"defaults: [_self_, _self_]\n",
    "empty": b"",
    "target": b"_target_: [1]\n",
    "foreign": b"_target_: my_lab.Method\n",
    "secret": f"{JOINT}api_key: abc\n".encode(),
}
RECIPE = (
    "# @package _global_\noptimizer: {{_target_: torch.optim.{optimizer}, _partial_: true}}\n"
    "scheduler: {scheduler}\ntrainer: {{max_epochs: 4}}\ndata: {{batch_size: 32}}\n"
)
#: Option in a user's own folder -> its optimiser and schedule.
RECIPES = {
    "adagrad": ("Adagrad, lr: 0.1, lr_decay: 0", None),
    "adamw": ("AdamW, lr: 0.1, weight_decay: 0", None),
    "muon": ("Muon, lr: 0.1", None),
    "rmsprop": ("RMSprop, lr: 0.1, alpha: 0.9", None),
    "multistep": ("SGD, lr: 0.1", "MultiStepLR, milestones: [2]"),
    "cosine": ("SGD, lr: 0.1", "CosineAnnealingLR, T_max: 4"),
    "onecycle": ("SGD, lr: 0.1, momentum: 0.9", "OneCycleLR, max_lr: 0.1, total_steps: 2"),
    "plateau": ("SGD, lr: 0.1", "ReduceLROnPlateau"),
}
CODE = """
from mla_lightning.data.synthetic import Synthetic

class Raising(Synthetic):
    def __init__(self, **options):
        1 / 0
"""
SECRETS = {"PGPASSWORD": "pearl-swan", "SSH_PASSPHRASE": "correct-horse-battery"}
#: What no message may hold: errors of libraries and of Python, and advice of theirs.
FOREIGN = re.compile(
    r"Traceback|\b(?!Config|Data|Run|MLA|ZeroDivision)[A-Z][A-Za-z]*(Error|Exception)\b|Errno"
    r"|allow_pickle|hydra\.cc|has no attribute|NoneType|This is a bug|Config search path"
)


def _commands() -> Iterator[tuple[str, str, tuple[str, ...]]]:
    lines = (Path(__file__).parent / "wrong_commands.txt").read_text("utf-8").splitlines()
    for line in lines:
        if line and not line.startswith("#"):
            code, command, words = line.split(" | ")
            yield code, command, tuple(words.split(" ; "))


COMMANDS = list(_commands())


def _write_configs(folder: Path) -> None:
    for name, content in BAD_YAML.items():
        path = folder / "bad" / name / "method" / "mine.yaml"
        path.parent.mkdir(parents=True)
        path.write_bytes(content)
    (folder / "bad" / "loop" / "method" / "other.yaml").write_text("defaults: [mine]\n")
    for name, file in (("yml", "mine.yml"), ("repeated", "mla.yaml")):
        path = folder / "bad" / name / "method" / file
        path.parent.mkdir(parents=True)
        path.write_text(JOINT)
    own = folder / "own"
    for group in ("recipe", "data", "method"):
        (own / group).mkdir(parents=True)
    for name, (optimizer, schedule) in RECIPES.items():
        target = "torch.optim.lr_scheduler."
        node = f"{{_target_: {target}{schedule}, _partial_: true}}" if schedule else "null"
        text = RECIPE.format(optimizer=optimizer, scheduler=node)
        (own / "recipe" / f"{name}.yaml").write_text(text)
    (own / "data" / "raising.yaml").write_text(
        "# @package _global_\ndefaults:\n  - override /encoder: mlp_synthetic\n"
        "  - override /recipe: synthetic\ndata: {_target_: wrong_code.Raising, num_features: 16}\n"
    )
    (own / "method" / "unimportable.yaml").write_text("_target_: wrong_code.nothing.Method\n")
    (folder / "wrong_code.py").write_text(CODE)


def _write_damaged_files(folder: Path) -> None:
    folder.mkdir()
    (folder / "text.txt").write_text("no run\n")
    (folder / "text.csv").write_text("id,text,label\n1,hello,a\n2,world,b\n")
    (folder / "empty.csv").write_text("")
    (folder / "page.npz").write_text("<html>not found</html>")
    np.savez(folder / "object.npz", a=np.array([{}], dtype=object), label=np.array([0]))
    (folder / "garbage.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(range(256)))
    (folder / "dangling").symlink_to("nowhere")
    write_store(
        folder / "leaving",
        name="toy",
        class_names=["a", "b"],
        ids=list("abcdef"),
        label=[0, 1, 0, 1, 0, 1],
        arrays={"one": np.zeros((6, 2), np.float32)},
        kinds={"one": "features"},
        splits={"own": NamedSplit(np.repeat([0, 1, 2], 2).astype(np.int8), "In order.")},
    )
    manifest = folder / "leaving" / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"toy"', '"../../x"'))


def _write_odd_folders(folder: Path) -> None:
    for name in ("a=b", "a b", "a#b", "a'b", "größe"):
        (folder / name).mkdir(parents=True)
        (folder / name / "manifest.json").write_text("{}")


def _damage_config(path: Path, name: str) -> None:
    text = path.read_text()
    if name == "latin":
        path.write_bytes(f"{text}# größe\n".encode("latin-1"))
    elif name == "nan":
        path.write_text(re.sub(r"\blr: .*", "lr: .nan", text))
    elif name == "bomb":
        path.write_text(BOMB)
    else:
        (path.parent / "result.json").unlink()


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The folders that the commands name."""
    folder = tmp_path_factory.mktemp("wrong")
    _write_configs(folder)
    _write_damaged_files(folder / "files")
    run = mla.train("data=synthetic", "trainer.max_epochs=1", folder=folder / "runs")
    for name in ("latin", "nan", "bomb", "unfinished"):
        shutil.copytree(run.folder, folder / "damaged" / name)
        _damage_config(folder / "damaged" / name / "config.yaml", name)
    _write_odd_folders(folder / "odd")
    names = {name: folder / name for name in ("bad", "own", "files", "damaged", "odd")}
    return {**names, "run": run.folder, "all": folder}


@pytest.fixture(autouse=True)
def _plan_quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compose configs once for all commands, and do not look for changes of code."""
    compose_once(monkeypatch)
    jobs_module = importlib.import_module("mla_lightning.config.jobs")
    monkeypatch.setattr(jobs_module, "forget_code", lambda: None)  # no file changes meanwhile


@pytest.mark.parametrize(("code", "command", "words"), COMMANDS, ids=[c for _, c, _ in COMMANDS])
def test_a_wrong_command_is_refused_in_words_of_ours(
    code: str,
    command: str,
    words: tuple[str, ...],
    places: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(places["all"]))
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    for name, path in places.items():
        command = command.replace(f"{{{name}}}", str(path))
        words = tuple(word.replace(f"{{{name}}}", str(path)) for word in words)
    before = set(places["all"].rglob("*"))
    assert main(shlex.split(command)) == int(code)
    output = capsys.readouterr()
    message = output.err
    assert message.startswith("error: ")
    for word in words:
        assert word in message
    assert FOREIGN.search(message) is None, message
    assert not any(value in message for value in SECRETS.values())
    assert len(message) < 2500
    assert not list(tmp_path.iterdir())
    assert {p for p in places["all"].rglob("*") if "__pycache__" not in p.parts} <= before


def test_the_table_covers_every_verb_and_group() -> None:
    assert len(COMMANDS) >= 250
    first_words = {command.split()[0] for _, command, _ in COMMANDS}
    assert {"train", "eval", "predict", "report", "compare", "dashboard", "list", "data"} <= (
        first_words
    )
    text = "\n".join(command for _, command, _ in COMMANDS)
    groups = ("method", "data", "encoder", "recipe", "ablation", "missing", "trainer", "logger")
    for group in (*groups, "launcher", "debug", "paths", "experiment", "fusion"):
        assert re.search(rf" {group}(@[\w.]+)?=", text), group


def test_an_error_that_nobody_foresaw_is_a_short_message_with_the_file_of_its_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    def broken(_options: object) -> int:
        raise KeyError(f"lost pearl-swan in {tmp_path}")

    monkeypatch.setenv("PGPASSWORD", "pearl-swan")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setattr("mla_lightning.cli.main.list_options", broken)
    assert main(["list", "methods"]) == 1
    message = capsys.readouterr().err
    assert "This is a bug in mla_lightning" in message
    assert "KeyError" in message
    assert "mla list methods" in message
    assert "Traceback" not in message
    (file,) = tmp_path.iterdir()
    assert str(file) in message
    text = file.read_text()
    assert "Traceback" in text
    assert "in broken" in text
    assert "pearl-swan" not in message + text
