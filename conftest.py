"""One thread everywhere, and a folder for examples that write files."""

import gc
import os
from functools import cache
from pathlib import Path
from typing import Any

import pytest

import mla_lightning

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("WANDB_MODE", "offline")


@cache
def shares_fixtures(path: Path) -> bool:
    """Return whether a file of tests has a fixture that is computed once for all of them."""
    return 'scope="module"' in path.read_text(encoding="utf-8")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Let one worker run all tests of a file whose fixtures are shared: each is computed once."""
    from xdist.scheduler import LoadScopeScheduling

    class LoadSharedFixtures(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            path = nodeid.partition("::")[0]
            return path if shares_fixtures(config.rootpath / path) else nodeid

    return LoadSharedFixtures(config, log)


def pytest_collection_finish() -> None:
    """Exclude what is imported by now from garbage collections: a full one took 0.4 s."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _names_of_examples(doctest_namespace: dict[str, object], tmp_path: Path) -> None:
    """Give examples in docstrings the names ``mla``, the package, and ``tmp``."""
    doctest_namespace |= {"mla": mla_lightning, "tmp": tmp_path}
