"""Figures for tests of pages: drawn once instead of in three formats."""

import pytest

from mla_lightning.report.figures import cache as figure_cache
from mla_lightning.report.figures.style import style


@pytest.fixture
def only_svg(monkeypatch):
    """Draw each figure once, as SVG, and in this process: the page shows nothing else."""

    def save(figure, stem):
        with style():
            figure.savefig(f"{stem}.svg")
        for extension in ("png", "pdf"):
            stem.with_name(f"{stem.name}.{extension}").touch()

    monkeypatch.setattr(figure_cache, "save", save)
    monkeypatch.setattr(figure_cache, "num_processes", lambda: 1)
