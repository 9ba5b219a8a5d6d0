"""Compose the package's own YAMLs once for all tests; nothing changes them meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mla_lightning.config import plan as _  # noqa: F401  the module is looked up by its full name
from mla_lightning.config.compose import Composer, composer

COMPOSED: dict = {}
RESOLVED: dict = {}


@pytest.fixture(autouse=True)
def _compose_once(monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def caching(folders: tuple[Path, ...]) -> Iterator[Composer]:
        with composer(folders) as found:
            if len(folders) == 1:
                found._composed, found._resolved = COMPOSED, RESOLVED
            yield found

    import sys

    monkeypatch.setattr(sys.modules["mla_lightning.config.plan"], "composer", caching)
