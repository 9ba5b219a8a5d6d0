"""The dependencies of pyproject.toml are what the package imports: no fewer, and no more."""

import ast
import re
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "src/mla_lightning"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
#: Extras with what only builds or tests the package.
DEVELOPMENT = ("dev", "docs")
#: Distribution -> the module that it installs, if the names differ.
MODULES = {
    "hydra-core": "hydra",
    "mlflow-skinny": "mlflow",
    "fonttools": "fontTools",
    "pillow": "PIL",
    "pyyaml": "yaml",
    "scikit-learn": "sklearn",
    "umap-learn": "umap",
}
#: Modules that no line imports -> why they are dependencies.
NOT_IMPORTED = {
    "torchmetrics": "configs name its classes and functions as metrics",
    "onnxscript": "torch.onnx imports it",
}
#: Modules that are imported, but that a user installs for one function alone -> which.
BY_USERS = {"pandas": "Runs.to_pandas(), whose error names the command"}


def module_of(requirement):
    """Return the module that a requirement installs, such as yaml of pyyaml>=6.0."""
    name = re.split(r"[<>=!~\[ ;]", requirement)[0]
    return MODULES.get(name.lower(), name.replace("-", "_"))


def modules_of(*extras):
    """Return the modules of the plain installation, and of extras."""
    asked = [*PROJECT["dependencies"], *(line for extra in extras for line in EXTRAS[extra])]
    return {module_of(line) for line in asked} - {"mla_lightning"}


def imports_of(path):
    """Yield the modules that a file imports, and whether they must be there for its import."""

    def walk(node, is_top):
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
                continue
            names = []
            if isinstance(child, ast.Import):
                names = [alias.name for alias in child.names]
            elif isinstance(child, ast.ImportFrom):
                names = [child.module]
            elif isinstance(child, ast.Call) and child.args:
                called = getattr(child.func, "attr", getattr(child.func, "id", ""))
                if called == "import_module":
                    names = [first_text(child.args[0])]
            yield from ((name.partition(".")[0], is_top) for name in names if name)
            is_function = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            yield from walk(child, is_top and not is_function)

    yield from walk(ast.parse(path.read_text(encoding="utf-8")), True)


def first_text(node):
    """Return the text with which an argument begins, empty if it is no text."""
    node = node.values[0] if isinstance(node, ast.JoinedStr) else node
    value = node.value if isinstance(node, ast.Constant) else ""
    return value if isinstance(value, str) else ""


IMPORTED: dict[str, set[bool]] = {}
for _path in PACKAGE.rglob("*.py"):
    for _name, _is_top in imports_of(_path):
        if _name != "mla_lightning" and _name not in sys.stdlib_module_names:
            IMPORTED.setdefault(_name, set()).add(_is_top)


def test_every_import_is_a_dependency_and_those_of_extras_are_inside_of_functions():
    plain = modules_of()
    optional = modules_of(*(name for name in EXTRAS if name not in DEVELOPMENT))
    assert {*IMPORTED} - plain - optional == {*BY_USERS}
    needed_at_once = {name for name, places in IMPORTED.items() if True in places}
    assert needed_at_once <= plain, "an extra must be imported where it is used"


def test_every_dependency_is_imported_or_has_a_reason():
    asked = modules_of(*(name for name in EXTRAS if name not in DEVELOPMENT))
    assert asked - {*IMPORTED} == {*NOT_IMPORTED}


def test_no_dependency_is_asked_for_twice():
    plain = {module_of(line) for line in PROJECT["dependencies"]}
    for extra, lines in EXTRAS.items():
        assert not plain & {module_of(line) for line in lines}, extra


def test_the_extra_of_development_has_all_that_tests_and_hooks_import():
    (own,) = (line for line in EXTRAS["dev"] if line.startswith("mla_lightning["))
    included = re.search(r"\[(.+)\]", own)[1].split(",")
    there = modules_of("dev", *included) | {"tests", "benchmarks", "experiments"}
    there |= {"_pytest", "hydra_plugins"}  # of pytest and of the launchers
    there |= {path.stem for path in (ROOT / "tests").rglob("*.py")}
    for path in (ROOT / "tests").rglob("*.py"):
        for name, is_top in imports_of(path):
            if is_top and name not in sys.stdlib_module_names and name != "mla_lightning":
                assert name in there, f"{path.relative_to(ROOT)} imports {name}"


@pytest.mark.parametrize("extra", [name for name in EXTRAS if name not in DEVELOPMENT])
def test_every_extra_is_named_in_the_documents_or_where_its_absence_is_reported(extra):
    places = [*PACKAGE.rglob("*.py"), *(ROOT / "docs").glob("*.md")]
    texts = "\n".join(path.read_text(encoding="utf-8") for path in places)
    assert f"mla_lightning[{extra}]" in texts or f"extra `{extra}`" in texts
