"""Rules of imports: which package may import which, and which imports are lazy."""

from __future__ import annotations

import ast
import importlib
import sys
from pathlib import Path

import pytest

import mla_lightning
from mla_lightning.identity.sources import resolve

PACKAGE = Path(mla_lightning.__file__).parent
EXPERIMENTS = Path(__file__).parents[1] / "experiments"
#: Scripts that define encoders and methods, as users do, and what these are made of.
OWN_CODE = {"candidates/encoders.py", "candidates/methods.py"}
OWN_CODE_NEEDS = {"batch", "encoders", "functional", "fusion", "methods", "parts"}
BASE = {"errors", "identity", "paths", "randomness", "run_folder"}
#: Package or module -> those that it may import besides itself and BASE. Other classes are named
#: by configs (`_target_`), not imported.
MAY_IMPORT: dict[str, set[str]] = {
    "__init__": set(),
    "errors": set(),
    "paths": set(),
    "randomness": set(),
    "run_folder": set(),
    "identity": set(),
    "ranks": set(),
    "batch": {"ranks"},
    "counts": set(),
    "functional": set(),
    "encoders": {"functional", "media"},  # media: reading checkpoints
    "tasks": {"functional"},
    "fusion": {"functional"},
    "metrics": {"counts", "functional", "ranks"},
    "media": set(),
    "inputs": set(),
    "data": {"batch", "functional", "inputs", "media", "ranks"},
    "prepare": {"data", "inputs", "media", "report"},  # report: fonts of figures
    "parts": {"batch", "fusion", "inputs", "metrics", "ranks", "tasks"},
    "composition": {"inputs"},
    "encoding": {
        *("batch", "composition", "functional", "fusion", "inputs", "metrics", "parts", "ranks"),
        "tasks",
    },
    "module": {
        *("batch", "encoding", "functional", "fusion", "inputs", "metrics", "parts", "ranks"),
    },
    "methods": {"batch", "encoders", "functional", "fusion", "module", "parts", "ranks", "tasks"},
    "callbacks": {"batch", "metrics", "module", "ranks"},
    "config": set(),
    "loggers": {"config", "counts"},
    "publish": {"config", "loggers", "report"},
    "api": {"config", "data", "report", "run"},
    "run": {
        *("batch", "callbacks", "config", "data", "functional", "fusion", "loggers", "metrics"),
        *("module", "parts", "ranks", "tasks"),
    },
    "launchers": {"config"},  # which modules to import before forking
    "tune": {"config", "report"},
    "report": {"config", "counts"},  # which kinds, panels and metrics there are
    "cli": {
        "config",
        "data",
        "launchers",
        "loggers",
        "prepare",
        "publish",
        "report",
        "run",
        "tune",
    },
}
#: Third-party package -> the only packages and modules of ours that may import it.
ONLY_IN = {
    "hydra": {"config"},
    "omegaconf": {"config"},
    "matplotlib": {"report", "prepare"},
    "ray": {"launchers"},
    "scipy": {"report", "functional", "metrics"},
    "torch": {
        "encoding",
        *("functional", "encoders", "fusion", "metrics", "data", "module", "methods", "callbacks"),
        *("api", "batch", "run", "parts", "media", "prepare", "inputs", "tasks", "ranks"),
    },
    "lightning": {"data", "encoding", "module", "methods", "callbacks", "run", "loggers"},
}
#: Slow to import and rarely needed: inside functions only.
LAZY = {
    *(
        "wandb",
        "wandb_workspaces",
        "transformers",
        "torchaudio",
        "tensorboard",
        "mlflow",
        "matplotlib",
        "hydra",
        "omegaconf",
    ),
    *("av", "h5py", "soundfile", "PIL", "sklearn", "ray", "timm"),
}

FILES = sorted(PACKAGE.rglob("*.py"))


#: Largest number of layers of packages, and of modules outside of a package.
MAX_LAYERS, MAX_TOP_MODULES = 9, 9

#: The packages within `report/`, in order: each may import those before it.
REPORT = ("read", "document", "figures", "tables", "page")


def package_of(path: Path) -> str:
    """Return the name of the package, or of the module outside of one, that a file belongs to."""
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def imports_of(path: Path) -> list[tuple[str, bool]]:
    """List imported modules, and whether at the top level; those for type checkers do not count."""
    imports: list[tuple[str, bool]] = []

    def walk(node: ast.AST, is_top: bool) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
                continue
            if isinstance(child, ast.Import):
                imports.extend((alias.name, is_top) for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                assert child.level == 0, f"{path}: relative import"
                names = [f"{child.module}.{alias.name}" for alias in child.names]
                imports.extend((name, is_top) for name in names)
            is_function = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            walk(child, is_top and not is_function)

    walk(ast.parse(path.read_text(encoding="utf-8")), True)
    return imports


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_packages_import_only_what_they_may(path: Path) -> None:
    package = package_of(path)
    assert package in MAY_IMPORT, f"{package} is new: add to MAY_IMPORT what it may import"
    allowed = MAY_IMPORT[package] | BASE | {package}
    for name, is_top in imports_of(path):
        top, _, rest = name.partition(".")
        if top == "mla_lightning":
            imported = rest.partition(".")[0] or "__init__"
            assert imported in allowed | {"__version__", "_imported_at"}, (
                f"{package} must not import {imported}"
            )
            continue
        assert package in ONLY_IN.get(top, {package}), f"{package} must not import {top}"
        assert not (is_top and top in LAZY), f"{top} is imported where it is not used"


def imported_files(path: Path) -> set[Path]:
    """List the files of the package that a file imports anywhere, for type checkers, too."""
    imported = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("mla_lightning"):
            base = PACKAGE.joinpath(*(node.module or "").split(".")[1:])
            for place in (base, *(base / alias.name for alias in node.names)):
                imported |= {place.with_suffix(".py"), place / "__init__.py"} & set(FILES)
    return imported - {path}


def test_no_files_import_each_other_in_a_cycle() -> None:
    graph = {path: imported_files(path) for path in FILES}
    while graph:
        layer = {path for path, paths in graph.items() if not paths & graph.keys()}
        assert layer, f"in a cycle: {sorted(str(path.relative_to(PACKAGE)) for path in graph)}"
        graph = {path: paths for path, paths in graph.items() if path not in layer}


def test_packages_have_no_import_cycle_few_layers_and_few_modules_outside() -> None:
    graph: dict[str, set[str]] = {package_of(path): set() for path in FILES}
    for path in FILES:
        names = [name.split(".") for name, _ in imports_of(path)]
        packages = {n[1] for n in names if n[0] == "mla_lightning" and n[1] in graph}
        graph[package_of(path)] |= packages - {package_of(path)}
    num_layers = 0
    while graph:
        layer = {package for package, imported in graph.items() if not imported}
        assert layer, f"these import each other in a cycle: {graph}"
        graph = {p: imported - layer for p, imported in graph.items() if p not in layer}
        num_layers += 1
    assert num_layers <= MAX_LAYERS
    top_modules = [path.name for path in PACKAGE.glob("*.py") if path.name != "__init__.py"]
    assert len(top_modules) <= MAX_TOP_MODULES


def test_base_packages_import_the_standard_library_alone() -> None:
    for path in (path for path in FILES if package_of(path) in BASE):
        for imported, is_top in imports_of(path):
            top = imported.partition(".")[0]
            is_light = top == "mla_lightning" or top in sys.stdlib_module_names
            assert is_light or (not is_top and top in ("numpy", "yaml")), f"{path}: {imported}"


def test_only_one_place_instantiates_and_one_builds_a_trainer() -> None:
    for path in FILES:
        text = path.read_text(encoding="utf-8")
        assert "hydra.utils" not in text, f"{path}: config.instantiate is the only way"
        builds = [
            node
            for node in ast.walk(ast.parse(text))
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Trainer"
        ]
        assert not builds or path.relative_to(PACKAGE).as_posix() == "run/trainer.py"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_files_are_short_and_named_for_what_they_do(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400
    assert path.stem not in {"utils", "util", "helpers", "common", "misc"}


def test_packages_of_the_report_import_only_those_before_them() -> None:
    for path in (PACKAGE / "report").rglob("*.py"):
        place = path.relative_to(PACKAGE / "report").with_suffix("").parts
        allowed = REPORT[: REPORT.index(place[0]) + 1] if place[0] in REPORT else REPORT
        for name, _ in imports_of(path):
            if name.startswith("mla_lightning.report."):
                assert name.split(".")[2] in allowed, f"{'/'.join(place)} must not import {name}"


@pytest.mark.parametrize(
    "path", sorted(EXPERIMENTS.rglob("*.py")), ids=lambda path: str(path.relative_to(EXPERIMENTS))
)
def test_scripts_need_public_names_of_the_report_alone(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400
    is_own_code = path.relative_to(EXPERIMENTS).as_posix() in OWN_CODE
    may_import = {"errors", "report"} | (OWN_CODE_NEEDS if is_own_code else set())
    for name, is_top in imports_of(path):
        top, *rest = name.split(".")
        assert not any(part.startswith("_") and part != "__future__" for part in (top, *rest))
        assert is_own_code or not (is_top and top in LAZY), f"{top} is imported but not used"
        if top == "mla_lightning":
            assert rest[0] in may_import, f"{path} must not import {name}"
    assert is_own_code or not any(
        isinstance(node, ast.Attribute) and node.attr.startswith("_")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    )


@pytest.mark.parametrize("name", ["functional", "inputs"])
def test_packages_that_import_when_used_have_all_their_names(name: str) -> None:
    package = importlib.import_module(f"mla_lightning.{name}")
    for public in package.__all__:
        module = importlib.import_module(resolve(f"mla_lightning.{name}.{public}")[1])
        assert getattr(package, public) is getattr(module, public)
        assert module is not package
    assert set(package.__all__) <= set(dir(package))
    with pytest.raises(AttributeError, match="no_such_name"):
        package.no_such_name  # noqa: B018
