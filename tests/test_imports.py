"""The house rules: who may know whom, and what is imported only when it is used."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

import mla_lightning

PACKAGE = Path(mla_lightning.__file__).parent
EXPERIMENTS = Path(__file__).parents[1] / "experiments"
GROUND = {"errors", "identity", "randomness", "run_folder", "run_lock"}
#: Room -> the rooms it may know besides itself and the ground floor. Classes of other rooms reach
#: a room through configs (`_target_`), not through imports.
MAY_KNOW: dict[str, set[str]] = {
    "__init__": set(),
    "errors": set(),
    "randomness": set(),
    "run_folder": set(),
    "run_lock": set(),
    "identity": set(),
    "batch": set(),
    "functional": set(),
    "encoders": {"functional", "media"},  # media: reading checkpoints
    "fusion": {"functional"},
    "metrics": {"functional"},
    "media": set(),
    "inputs": set(),
    "data": {"batch", "functional", "inputs", "media"},
    "prepare": {"data", "inputs", "media"},
    "parts": {"batch", "fusion", "inputs", "metrics"},
    "encoding": {"batch", "functional", "fusion", "inputs", "metrics", "parts"},
    "module": {"batch", "encoding", "functional", "fusion", "inputs", "metrics", "parts"},
    "methods": {"batch", "encoders", "functional", "fusion", "module", "parts"},
    "callbacks": {"batch", "metrics", "module"},
    "config": set(),
    "loggers": {"config"},
    "publish": {"config", "loggers", "report"},
    "api": {"config", "data", "report", "run"},
    "run": {
        *("batch", "callbacks", "config", "data", "functional", "fusion", "loggers", "metrics"),
        *("module", "parts"),
    },
    "launchers": {"config"},  # what to import before forking
    "report": {"config"},  # which kinds, panels and metrics there are
    "cli": {"config", "data", "launchers", "loggers", "prepare", "publish", "report", "run"},
}
#: Third-party package -> the only rooms that may import it.
ONLY_IN = {
    "hydra": {"config"},
    "omegaconf": {"config"},
    "matplotlib": {"report", "prepare"},
    "scipy": {"report", "functional", "metrics"},
    "torch": {
        "encoding",
        *("functional", "encoders", "fusion", "metrics", "data", "module", "methods", "callbacks"),
        *("api", "batch", "run", "parts", "media", "prepare", "inputs"),
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
        "matplotlib",
        "hydra",
        "omegaconf",
    ),
    *("av", "h5py", "soundfile", "PIL", "sklearn"),
}

FILES = sorted(PACKAGE.rglob("*.py"))


#: How many floors the house may have, and how many files outside of rooms.
FLOORS, LOOSE_FILES = 9, 8

#: The rooms within `report/`, a chain: each may know those before it.
REPORT = ("read", "document", "figures", "tables", "page")


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def imports_of(path: Path) -> list[tuple[str, bool]]:
    """List imported modules, and whether at the top level; those for type checkers do not count."""
    found: list[tuple[str, bool]] = []

    def walk(node: ast.AST, is_top: bool) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
                continue
            if isinstance(child, ast.Import):
                found.extend((alias.name, is_top) for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                assert child.level == 0, f"{path}: relative import"
                names = [f"{child.module}.{alias.name}" for alias in child.names]
                found.extend((name, is_top) for name in names)
            is_function = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            walk(child, is_top and not is_function)

    walk(ast.parse(path.read_text(encoding="utf-8")), True)
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_arrows_point_the_right_way(path: Path) -> None:
    room = room_of(path)
    assert room in MAY_KNOW, f"{room} is a new room: say in MAY_KNOW whom it may know"
    allowed = MAY_KNOW[room] | GROUND | {room}
    for name, is_top in imports_of(path):
        top, _, rest = name.partition(".")
        if top == "mla_lightning":
            known = rest.partition(".")[0] or "__init__"
            assert known in allowed | {"__version__"}, f"{room} must not know {known}"
            continue
        assert room in ONLY_IN.get(top, {room}), f"{room} must not import {top}"
        assert not (is_top and top in LAZY), f"{top} is imported where it is not used"


def modules_known_to(path: Path) -> set[Path]:
    """List the files of the package that a file imports anywhere, for type checkers, too."""
    known = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("mla_lightning"):
            base = PACKAGE.joinpath(*(node.module or "").split(".")[1:])
            for place in (base, *(base / alias.name for alias in node.names)):
                known |= {place.with_suffix(".py"), place / "__init__.py"} & set(FILES)
    return known - {path}


def test_no_files_import_each_other_in_a_circle() -> None:
    known = {path: modules_known_to(path) for path in FILES}
    while known:
        ground = {path for path, paths in known.items() if not paths & known.keys()}
        assert ground, f"in a circle: {sorted(str(path.relative_to(PACKAGE)) for path in known)}"
        known = {path: paths for path, paths in known.items() if path not in ground}


def test_the_house_has_no_circle_few_floors_and_few_loose_files() -> None:
    known: dict[str, set[str]] = {room_of(path): set() for path in FILES}
    for path in FILES:
        names = [name.split(".") for name, _ in imports_of(path)]
        rooms = {n[1] for n in names if n[0] == "mla_lightning" and n[1] in known}
        known[room_of(path)] |= rooms - {room_of(path)}
    floors = 0
    while known:
        ground = {room for room, rooms in known.items() if not rooms}
        assert ground, f"these know each other in a circle: {known}"
        known = {room: rooms - ground for room, rooms in known.items() if room not in ground}
        floors += 1
    assert floors <= FLOORS
    loose = [path.name for path in PACKAGE.glob("*.py") if path.name != "__init__.py"]
    assert len(loose) <= LOOSE_FILES


def test_the_ground_floor_needs_the_standard_library_alone() -> None:
    for path in (path for path in FILES if room_of(path) in GROUND):
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
        assert not builds or path.relative_to(PACKAGE).as_posix() == "run/train.py"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_files_are_short_and_named_for_what_they_do(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400
    assert path.stem not in {"utils", "util", "helpers", "common", "misc"}


def test_the_report_is_a_chain() -> None:
    for path in (PACKAGE / "report").rglob("*.py"):
        place = path.relative_to(PACKAGE / "report").with_suffix("").parts
        allowed = REPORT[: REPORT.index(place[0]) + 1] if place[0] in REPORT else REPORT
        for name, _ in imports_of(path):
            if name.startswith("mla_lightning.report."):
                assert name.split(".")[2] in allowed, f"{'/'.join(place)} must not know {name}"


@pytest.mark.parametrize(
    "path", sorted(EXPERIMENTS.rglob("*.py")), ids=lambda path: str(path.relative_to(EXPERIMENTS))
)
def test_scripts_need_public_names_of_the_report_alone(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400
    for name, is_top in imports_of(path):
        top, *rest = name.split(".")
        assert not any(part.startswith("_") and part != "__future__" for part in (top, *rest))
        assert not (is_top and top in LAZY), f"{top} is imported where it is not used"
        if top == "mla_lightning":
            assert rest[0] in {"errors", "report"}, f"{path} must not know {name}"
    assert not any(
        isinstance(node, ast.Attribute) and node.attr.startswith("_")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    )
