"""One thread everywhere, and a folder for examples that write files."""

import gc
import os
from pathlib import Path

import pytest

import mla_lightning

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("WANDB_MODE", "offline")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let one worker run all tests of a fixture that a module shares: it is computed once."""
    for item in items:
        info = getattr(item, "_fixtureinfo", None)
        if info is None or item.get_closest_marker("xdist_group"):
            continue
        for definitions in info.name2fixturedefs.values():
            shared = definitions[-1]
            if shared.scope == "module" and shared.baseid:
                item.add_marker(pytest.mark.xdist_group(shared.baseid))
                break


def pytest_collection_finish() -> None:
    """Exclude what is imported by now from garbage collections: a full one took 0.4 s."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _names_of_examples(doctest_namespace: dict[str, object], tmp_path: Path) -> None:
    """Give examples in docstrings the names ``mla``, the package, and ``tmp``."""
    doctest_namespace |= {"mla": mla_lightning, "tmp": tmp_path}
