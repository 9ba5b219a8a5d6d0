"""Cache the composed configs of the package for all tests; nothing changes its YAMLs meanwhile."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mla_lightning.config import plan as _  # noqa: F401  the module is looked up by its full name
from mla_lightning.config.compose import Composer, open_composer

COMPOSED: dict = {}
RESOLVED: dict = {}


def compose_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compose the package's own configs once for all commands of a process."""

    @contextmanager
    def open_caching_composer(folders: tuple[Path, ...]) -> Iterator[Composer]:
        with open_composer(folders) as composer:
            if len(folders) == 1:
                composer._composed, composer._resolved = COMPOSED, RESOLVED
            yield composer

    plan_module = sys.modules["mla_lightning.config.plan"]
    monkeypatch.setattr(plan_module, "open_composer", open_caching_composer)


@pytest.fixture(autouse=True)
def _compose_once(monkeypatch: pytest.MonkeyPatch) -> None:
    compose_once(monkeypatch)
