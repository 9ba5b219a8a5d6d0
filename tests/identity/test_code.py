"""The code of jobs: which edits change its hash, for which jobs."""

import ast
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import mla_lightning
from mla_lightning.identity.code import changed_modules, code_of, forget_code
from mla_lightning.identity.sources import find_definition, find_source, normalise

PACKAGE = Path(mla_lightning.__file__).parent
#: Prints the targets of a job of every method on OpenMoji.
TARGETS = """
import json
from mla_lightning.config import plan
from mla_lightning.config.jobs import reached_targets
from mla_lightning.config.search import options, search_path
methods = options(search_path(None), "method")
jobs = {m: plan([f"method={m}", "data=openmoji", "optimizer.lr=0.1"])[0] for m in methods}
print(json.dumps({m: sorted(reached_targets(job.config)) for m, job in jobs.items()}))
"""
#: Prints the hash of the code of each of these jobs.
HASHES = """
import json, sys
from mla_lightning.identity.code import code_of
jobs = json.load(sys.stdin)
print(json.dumps({m: code_of(frozenset(targets)).hash for m, targets in jobs.items()}))
"""


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """Copy the sources and configs, to change them."""
    root = tmp_path_factory.mktemp("checkout")
    ignored = shutil.ignore_patterns("__pycache__", "*.npz")
    shutil.copytree(PACKAGE, root / "src/mla_lightning", ignore=ignored)
    shutil.copytree(PACKAGE.parents[1] / "conf", root / "conf")
    return root


def printed(code, root, text=""):
    process = subprocess.run(
        [sys.executable, "-c", code],
        input=text,
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(root / "src"), "PATH": "/usr/bin:/bin"},
    )
    assert process.returncode == 0, process.stderr
    return process.stdout


@pytest.fixture(scope="module")
def hashes(copy):
    """Return a function that hashes the code of all jobs; edits of sources change no config."""
    targets = printed(TARGETS, copy)
    return lambda: json.loads(printed(HASHES, copy, targets))


@pytest.fixture(scope="module")
def before(hashes):
    return hashes()


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


def test_new_files_and_comments_change_no_job(before, hashes, edit):
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
    assert changed(before, hashes()) == set()


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
        ("callbacks/checkpoint.py", "not in self.best or", "in self.best and", None),
    ],
)
def test_an_edit_changes_exactly_the_jobs_that_use_the_code(
    before, hashes, edit, name, old, new, reached
):
    edit(f"src/mla_lightning/{name}", old, new)
    assert changed(before, hashes()) == (set(before) if reached is None else reached)


def test_the_definition_of_a_name_is_found():
    assert find_definition("mla_lightning.loggers.Wandb").module == "mla_lightning.loggers.wandb"
    assert find_definition("mla_lightning.methods.mla").module == "mla_lightning.methods.mla"
    assert find_definition("mla_lightning.methods.MLA").module == "mla_lightning.methods.mla"
    assert find_definition("mla_lightning.functional").is_package
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


RULE = "class Rule: pass\n"
#: Kind of dependence -> the files of a user's folder, the file that changes, and its new content.
USES = {
    "the rule itself, in a folder without __init__": ({}, "rule.py", RULE + "y = 1\n"),
    "a helper, in a folder without __init__": (
        {"rule.py": "from lab.signs import f\n" + RULE, "signs.py": "f = 1\n"},
        "signs.py",
        "f = -1\n",
    ),
    "a package used as a whole": (
        {
            "rule.py": "from lab import maths\n" + RULE,
            "maths/__init__.py": "from .signs import f\n",
            "maths/signs.py": "f = 1\n",
        },
        "maths/signs.py",
        "f = -1\n",
    ),
    "a star import through a package": (
        {
            "rule.py": "from lab.maths import *\n" + RULE,
            "maths/__init__.py": "from .signs import *\n",
            "maths/signs.py": "f = 1\n",
        },
        "maths/signs.py",
        "f = -1\n",
    ),
    "a module that the package imports first": (
        {"__init__.py": "from . import patch\n", "patch.py": "x = 1\n"},
        "patch.py",
        "x = 2\n",
    ),
    "code that comes into an empty package": ({"__init__.py": ""}, "__init__.py", "x = 1\n"),
    "another function under the same name": (
        {
            "rule.py": "from lab.maths import f\n" + RULE,
            "maths/__init__.py": "from .signs import plus as f\n",
            "maths/signs.py": "plus = 1\nminus = -1\n",
        },
        "maths/__init__.py",
        "from .signs import minus as f\n",
    ),
    "the same name from another module": (
        {
            "rule.py": "from lab.maths import f\n" + RULE,
            "maths/__init__.py": "from .old import f\n",
            "maths/old.py": "f = 1\n",
            "maths/new.py": "f = -1\n",
        },
        "maths/__init__.py",
        "from .new import f\n",
    ),
    "a target that its package imports": (
        {"__init__.py": "from .rule import Rule\n", "other.py": RULE, "TARGET": "lab.Rule"},
        "__init__.py",
        "from .other import Rule\n",
    ),
    "a module that is tried first and comes later": (
        {
            "rule.py": "try:\n    from lab.fast import f\n"
            "except ImportError:\n    from lab.slow import f\n" + RULE,
            "slow.py": "f = 1\n",
        },
        "fast.py",
        "f = -1\n",
    ),
    "the first of two imports of one name": (
        {
            "rule.py": "try:\n    from lab.fast import f\n"
            "except ImportError:\n    from lab.slow import f\n" + RULE,
            "slow.py": "f = 1\n",
            "fast.py": "f = 1\n",
        },
        "fast.py",
        "f = -1\n",
    ),
    "a helper in another folder": (
        {"rule.py": "from helperlib import f\n" + RULE, "../ext/helperlib.py": "f = 1\n"},
        "../ext/helperlib.py",
        "f = -1\n",
    ),
}


@pytest.mark.parametrize("kind", USES)
def test_a_change_of_what_own_code_uses_is_noticed(tmp_path, monkeypatch, kind):
    files, name, content = USES[kind]
    files = {"rule.py": RULE, **files}
    target = files.pop("TARGET", "lab.rule.Rule")
    for path, text in files.items():
        (tmp_path / "lab" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "lab" / path).resolve().write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.syspath_prepend(tmp_path / "ext")
    forget_code()
    before = code_of(frozenset({target}))
    assert not changed_modules(before.modules)
    (tmp_path / "lab" / "unused.py").write_text("x = 1\n")
    (tmp_path / "lab/rule.py").write_text(f"# A comment.\n{files['rule.py']}")
    forget_code()
    assert code_of(frozenset({target})) == before
    (tmp_path / "lab" / name).resolve().write_text(content)
    forget_code()
    assert code_of(frozenset({target})).hash != before.hash
    assert changed_modules(before.modules)
    forget_code()


def test_a_module_is_parsed_again_only_if_its_text_differs(tmp_path, monkeypatch):
    parsed = []
    parse = ast.parse
    monkeypatch.setattr(ast, "parse", lambda text: parsed.append(text) or parse(text))
    monkeypatch.syspath_prepend(tmp_path)
    path = tmp_path / "own_rule.py"
    hashes = []
    for text in (RULE, RULE, RULE + "y = 1\n", RULE):
        path.write_text(text)
        forget_code()
        hashes.append(find_source("own_rule").hash)
    assert parsed == [RULE.encode(), f"{RULE}y = 1\n".encode()]
    assert hashes[0] == hashes[1] == hashes[3] != hashes[2]
    forget_code()


def test_own_code_is_found_from_the_current_folder_without_importing_it(tmp_path, monkeypatch):
    (tmp_path / "lab").mkdir()
    (tmp_path / "lab/rule.py").write_text(RULE)
    forget_code()
    assert changed_modules({"lab.rule": "0" * 16}) == ()
    monkeypatch.chdir(tmp_path)
    forget_code()
    assert changed_modules({"lab.rule": "0" * 16}) == ("lab.rule",)
    forget_code()


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
        ("class A:\n    x = 1\n    '''Doc.'''", "class A:\n    x = 1"),
        ("x = 'a'", 'x = "a"'),
        ("f(a,\n  b)", "f(a, b)"),
    ],
)
def test_code_with_the_same_effect_has_the_same_normal_form(one, other):
    assert normalise(ast.parse(one)) == normalise(ast.parse(other))
