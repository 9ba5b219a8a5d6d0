"""Pages of the site from the scripts in `docs/tutorials`, with what each cell prints.

A script is divided into cells by lines `# %%`; a cell that begins with `# %% [markdown]` is text.
To make a page, the script is run once; it fails the build if it fails.
"""

import hashlib
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from docutils import nodes
from myst_parser.parsers.sphinx_ import MystParser
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment

_MARK = "\x1e"


class Cell(NamedTuple):
    """A part of a script: Markdown or code."""

    is_text: bool
    content: str


def read_cells(script: str) -> list[Cell]:
    r"""Return the cells of a script.

    Example:
        >>> read_cells("# %% [markdown]\n# # Title\n\n# %%\nprint(1)\n")
        [Cell(is_text=True, content='# Title'), Cell(is_text=False, content='print(1)')]
    """
    cells = []
    for part in re.split(r"^# %%", script, flags=re.MULTILINE)[1:]:
        head, _, body = part.partition("\n")
        is_text = "[markdown]" in head
        lines = (re.sub(r"^# ?", "", x) if is_text else x for x in body.splitlines())
        cells.append(Cell(is_text, "\n".join(lines).strip("\n")))
    return cells


def run_cells(cells: list[Cell], work: Path) -> list[str]:
    """Run the code cells in one process and return what each of them prints.

    Args:
        cells: The cells of the script.
        work: An empty folder that the script runs in.

    Raises:
        RuntimeError: The script fails; with what it wrote to stderr.
    """
    path = work / "tutorial.py"
    code = [f"print({_MARK!r}, flush=True)\n{c.content}" for c in cells if not c.is_text]
    path.write_text("\n\n".join(code), encoding="utf-8")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "100", "NO_COLOR": "1"}
    done = subprocess.run(
        [sys.executable, str(path)], cwd=work, env=environment, capture_output=True, text=True
    )
    if done.returncode:
        raise RuntimeError(f"the tutorial fails:\n{done.stderr[-3000:]}")
    printed = iter(done.stdout.replace(str(work), "...").split(f"{_MARK}\n")[1:])
    return ["" if cell.is_text else next(printed).strip("\n") for cell in cells]


def to_markdown(cells: list[Cell], printed: list[str]) -> str:
    """Return the cells as one Markdown page, with what each of them printed below it."""
    parts = []
    for cell, output in zip(cells, printed, strict=True):
        parts.append(cell.content if cell.is_text else f"```python\n{cell.content}\n```")
        if output:
            parts.append(f"```{{code-block}} text\n:class: printed\n\n{output}\n```")
    return "\n\n".join(parts) + "\n"


class TutorialParser(MystParser):
    """Parse a script as the Markdown page of its cells."""

    supported = ("tutorial",)

    def parse(self, inputstring: str, document: nodes.document) -> None:
        """Run the script, unless its page is in the cache, and parse the page."""
        digest = hashlib.sha256(inputstring.encode()).hexdigest()[:16]
        work = Path(document.settings.env.doctreedir) / "tutorials" / digest
        page = work.with_suffix(".md")
        if not page.exists():
            work.mkdir(parents=True, exist_ok=True)
            cells = read_cells(inputstring)
            text = to_markdown(cells, run_cells(cells, work))
            page.write_text(text, encoding="utf-8")
        super().parse(page.read_text(encoding="utf-8"), document)


def link_scripts_as_files(app: Sphinx, env: BuildEnvironment, docnames: list[str]) -> None:
    """Let links to other scripts, which are no pages, download them."""
    env.project.source_suffix = tuple(s for s in env.project.source_suffix if s != ".py")


def mark_orphan(app: Sphinx, docname: str, source: list[str]) -> None:
    """Leave the tables of an experiment, which its README links to, out of the menu."""
    if docname.startswith("experiments/") and not docname.endswith("README"):
        source[0] = f"---\norphan: true\n---\n\n{source[0]}"


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the parser."""
    app.connect("env-before-read-docs", link_scripts_as_files)
    app.connect("source-read", mark_orphan)
    app.add_source_suffix(".py", "tutorial")
    app.add_source_parser(TutorialParser)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
