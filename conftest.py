"""One thread everywhere, and a folder for examples that write files."""

import gc
import os
from pathlib import Path

import pytest

import mla_lightning

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("WANDB_MODE", "offline")


def pytest_collection_finish() -> None:
    """Exclude what is imported by now from garbage collections: a full one took 0.4 s."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _names_of_examples(doctest_namespace: dict[str, object], tmp_path: Path) -> None:
    """Give examples in docstrings the names ``mla``, the package, and ``tmp``."""
    doctest_namespace |= {"mla": mla_lightning, "tmp": tmp_path}
