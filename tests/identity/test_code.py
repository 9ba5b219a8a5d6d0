"""The code of jobs: which edits change its hash, for which jobs."""

import ast
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import mla_lightning
from mla_lightning.identity.code import changed_modules, code_of
from mla_lightning.identity.sources import find_definition, find_source, normalise

PACKAGE = Path(mla_lightning.__file__).parent
#: Prints the hash of the code of a job of every method on OpenMoji.
HASHES = """
import json
from mla_lightning.config import plan
from mla_lightning.config.jobs import reached_targets
from mla_lightning.config.search import options, search_path
from mla_lightning.identity.code import code_of
methods = options(search_path(None), "method")
jobs = {m: plan([f"method={m}", "data=openmoji", "optimizer.lr=0.1"])[0] for m in methods}
print(json.dumps({m: code_of(reached_targets(job.config)).hash for m, job in jobs.items()}))
"""


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """Copy the sources and configs, to change them."""
    root = tmp_path_factory.mktemp("checkout")
    ignored = shutil.ignore_patterns("__pycache__", "*.npz")
    shutil.copytree(PACKAGE, root / "src/mla_lightning", ignore=ignored)
    shutil.copytree(PACKAGE.parents[1] / "conf", root / "conf")
    return root


def hashes(root):
    process = subprocess.run(
        [sys.executable, "-c", HASHES],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(root / "src"), "PATH": "/usr/bin:/bin"},
    )
    assert process.returncode == 0, process.stderr
    return json.loads(process.stdout)


@pytest.fixture(scope="module")
def before(copy):
    return hashes(copy)


@pytest.fixture
def edit(copy):
    """Change files of the copy, and put them back afterwards."""
    original = {}

    def change(name, old="", new=""):
        path = copy / name
        original.setdefault(path, path.read_bytes() if path.exists() else None)
        text = path.read_text() if path.exists() else ""
        assert old in text, f"{name} has no {old!r} any more: name another line"
        path.write_text(text.replace(old, new, 1) if old else text + new)

    yield change
    for path, content in original.items():
        path.unlink() if content is None else path.write_bytes(content)


def changed(before, after):
    return {method for method in before if before[method] != after[method]}


def test_new_files_and_comments_change_no_job(copy, before, edit):
    edit("src/mla_lightning/methods/foo.py", new="class Foo: pass\n")
    edit("src/mla_lightning/data/bar.py", new="class Bar: pass\n")
    edit("src/mla_lightning/module.py", new="\n# a comment\n")
    edit("src/mla_lightning/methods/mla.py", "One modality per step", "A modality a step")
    edit("src/mla_lightning/module.py", "from typing import Any, Unpack\n", "")
    edit(
        "src/mla_lightning/module.py",
        "import torch\n",
        "import torch\n\n\nfrom typing import Any, Unpack\n",
    )
    edit("src/mla_lightning/report/main.py", new="\nx = 1\n")
    edit("src/mla_lightning/launchers/sweep.py", new="\nx = 1\n")
    assert changed(before, hashes(copy)) == set()


MLAS = {"mla", "mla_paper", "mla_released", "mla_balancemm"}


@pytest.mark.parametrize(
    ("name", "old", "new", "reached"),
    [
        ("methods/qmf.py", "self.rank_weight *", "-self.rank_weight *", {"qmf"}),
        ("methods/mla.py", "self.reset_every == 0", "self.reset_every == 1", MLAS),
        ("methods/tate.py", "self.weight *", "2 * self.weight *", {"tate"}),
        ("functional/latent.py", "return ", "return -", {"cpm_net"}),
        ("fusion/film.py", "    def __init__", "    x = 1\n\n    def __init__", {"film"}),
        ("module.py", "fraction == 1.0", "fraction == 2.0", None),
        ("callbacks/checkpoint.py", "score > self", "score >= self", None),
    ],
)
def test_an_edit_changes_exactly_the_jobs_that_use_the_code(
    copy, before, edit, name, old, new, reached
):
    edit(f"src/mla_lightning/{name}", old, new)
    assert changed(before, hashes(copy)) == (set(before) if reached is None else reached)


def test_the_definition_of_a_name_is_found():
    assert find_definition("mla_lightning.loggers.Wandb").module == "mla_lightning.loggers.wandb"
    assert find_definition("mla_lightning.methods.mla").module == "mla_lightning.methods.mla"
    assert find_definition("mla_lightning.methods.MLA").module == "mla_lightning.methods.mla"
    assert find_definition("mla_lightning.functional") is None
    assert find_definition("no_such_package.thing") is None


def test_libraries_and_modules_that_change_no_number_are_not_hashed():
    code = code_of(frozenset({"mla_lightning.data.openmoji.OpenMoji", "torch.optim.SGD"}))
    assert all(module.startswith("mla_lightning.") for module in code.modules)
    assert not any(".config" in module or ".report" in module for module in code.modules)


def test_a_users_own_code_is_hashed_but_not_installed_packages(tmp_path, monkeypatch):
    package = tmp_path / "own_methods"
    package.mkdir()
    (package / "__init__.py").write_text("SETUP = print\n")
    (package / "rule.py").write_text("from . import parts\nimport own_helper\nimport numpy\n")
    (package / "parts.py").write_text("x = 1\n")
    (tmp_path / "own_helper.py").write_text("y = 1\n")
    installed = tmp_path / "lib/site-packages"
    installed.mkdir(parents=True)
    (installed / "elsewhere.py").write_text("import neighbour\nz = 1\n")
    (installed / "neighbour.py").write_text("z = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.syspath_prepend(installed)
    modules = code_of(frozenset({"own_methods.rule.Rule"})).modules
    own = {name for name in modules if not name.startswith("mla_lightning")}
    assert own == {"own_methods", "own_methods.rule", "own_methods.parts", "own_helper"}


def test_changed_modules_are_returned_and_those_of_missing_packages_ignored():
    recorded = {
        "mla_lightning.errors": find_source("mla_lightning.errors").hash,
        "mla_lightning.module": "0" * 16,
        "mla_lightning.gone": "0" * 16,
        "not_installed_here.rule": "0" * 16,
    }
    assert changed_modules(recorded) == ("mla_lightning.module", "mla_lightning.gone")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("x = 1", "x = 2"),
        ("x = a + b", "x = a - b"),
        ("def f(a, b): return a", "def f(b, a): return a"),
        ("x = [1, 2]", "x = (1, 2)"),
        ("x = 'a'", "x = 'b'"),
        ("x: int = 1", "x = 1"),
        ("if a:\n    f()", "if a:\n    pass\nf()"),
        ("from a import b", "from a import c"),
        ("f(a)\ng(a)", "g(a)\nf(a)"),
    ],
)
def test_code_with_another_effect_has_another_normal_form(one, other):
    assert normalise(ast.parse(one)) != normalise(ast.parse(other))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("x = 1  # one", "x=1"),
        ("'''Doc.'''\nx = 1", "x = 1"),
        ("import b\nimport a", "import a\nimport b"),
        ("from a import b, c", "from a import c\nfrom a import b"),
        ("class A:\n    '''Doc.'''", "class A:\n    pass"),
        ("x = 'a'", 'x = "a"'),
        ("f(a,\n  b)", "f(a, b)"),
    ],
)
def test_code_with_the_same_effect_has_the_same_normal_form(one, other):
    assert normalise(ast.parse(one)) == normalise(ast.parse(other))
