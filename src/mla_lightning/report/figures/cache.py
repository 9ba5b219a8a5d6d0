"""Figures that were drawn before and show the same today: a second page draws only what is new."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, fields
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mla_lightning.report.document.table import Cell, Row, Section, Table
from mla_lightning.report.figures.numbers import data_of, tell_values
from mla_lightning.report.figures.style import save
from mla_lightning.report.read.cache import stamp
from mla_lightning.report.read.run import Run
from mla_lightning.run_folder import write_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DRAWN = ".drawn.json"
ENDINGS = ("svg", "png", "pdf")
#: What says where a run lies and how old it is, not what it shows.
_PLACE = ("path", "where", "stale")


@dataclass(frozen=True)
class Drawing:
    """A figure as it goes into the page.

    Attributes:
        svg: The document.
        data: Its numbers, if a table can tell them.
    """

    svg: str
    data: Table | None


def fingerprint(runs: Iterable[Run]) -> str:
    """Hash what figures of some runs are made from: the runs, their files, and the code.

    Args:
        runs: The runs.

    Returns:
        SHA-256 as hex; the same as long as nothing of it changes.
    """
    digest = hashlib.sha256(_code().encode())
    names = [field.name for field in fields(Run) if field.name not in _PLACE]
    for run in runs:
        digest.update(repr([getattr(run, name) for name in names]).encode())
        digest.update(repr(stamp(run.path) if run.path else None).encode())
    return digest.hexdigest()


class Drawings:
    """The figures beside a page, each with the fingerprint of what it shows."""

    def __init__(self, folder: Path) -> None:
        """Look at what is there; a broken list counts as none.

        Args:
            folder: Where the figures lie.
        """
        self.folder = folder
        #: Stem -> why it could not be drawn.
        self.failed: dict[str, str] = {}
        self.num_drawn = 0
        self._kept: dict[str, Any] = {}
        self._seen: dict[str, Any] = {}
        with contextlib.suppress(OSError, ValueError, TypeError):
            self._kept = dict(json.loads((folder / DRAWN).read_text(encoding="utf-8")))

    def figure(self, stem: str, key: str, draw: Callable[[], Figure | None]) -> Drawing | None:
        """Draw a figure, or take it as it lies there.

        Args:
            stem: Stem of its files.
            key: Fingerprint of what it shows.
            draw: Draws it.

        Returns:
            The drawing; None where there is nothing to draw or it cannot be drawn.
        """
        known = self._known(stem, key)
        if known is None or (known["drawn"] and not self._is_there(stem)):
            try:
                figure = draw()
            except Exception as error:  # one figure must not cost the page
                self.failed[stem] = f"{type(error).__name__}: {error}"
                return None
            self.num_drawn += figure is not None
            known = {"key": key, "drawn": figure is not None, "data": None}
            if figure is not None:
                data = data_of(figure)
                known["data"] = None if data is None else asdict(data)
                tell_values(figure)
                save(figure, self.folder / stem)
        self._seen[stem] = known
        if not known["drawn"]:
            return None
        svg = (self.folder / f"{stem}.svg").read_text(encoding="utf-8")
        return Drawing(svg, _table(known["data"]))

    def table(self, stem: str, key: str, make: Callable[[], Table]) -> Table:
        """Make a table from the runs' files, or take it as it was made before.

        Args:
            stem: Stem of its files.
            key: Fingerprint of what it shows.
            make: Makes it.

        Returns:
            The table.
        """
        name = f"{stem}.csv"  # a figure may have the same stem
        known = self._known(name, key) or {"key": key, "data": asdict(make())}
        self._seen[name] = known
        table = _table(known["data"])
        assert table is not None
        return table

    def write(self) -> None:
        """Keep the list of what is there now."""
        write_text(self.folder / DRAWN, json.dumps(self._seen))

    def _known(self, stem: str, key: str) -> dict[str, Any] | None:
        known = self._kept.get(stem)
        return known if isinstance(known, dict) and known.get("key") == key else None

    def _is_there(self, stem: str) -> bool:
        return all((self.folder / f"{stem}.{ending}").is_file() for ending in ENDINGS)


def _table(content: dict[str, Any] | None) -> Table | None:
    if content is None:
        return None
    sections = tuple(
        Section(
            **one
            | {
                "rows": tuple(
                    Row(**row | {"cells": tuple(Cell(**cell) for cell in row["cells"])})
                    for row in one["rows"]
                )
            }
        )
        for one in content["sections"]
    )
    tuples = {name: tuple(content[name]) for name in ("columns", "notes")}
    return Table(**content | tuples | {"sections": sections})


@cache
def _code() -> str:
    """Hash what draws."""
    import matplotlib

    digest = hashlib.sha256(matplotlib.__version__.encode())
    for path in sorted(Path(__file__).parents[1].rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()
