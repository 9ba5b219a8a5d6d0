"""Pages of the site from the scripts in `docs/tutorials`, with what each cell prints and draws.

A script is divided into cells by lines `# %%`; a cell that begins with `# %% [markdown]` is text.
To make a page, the script is run once; it fails the build if it fails. A script that submits jobs
to Slurm has the tests' stand-in for it.
"""

import base64
import hashlib
import os
import re
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from docutils import nodes
from myst_parser.parsers.sphinx_ import MystParser
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment

_MARK = "\x1e"
#: What prints the mark and the pictures that the cells before it wrote to the working folder.
_PRINT_MARK = "print({mark!r}, *sorted(__import__('glob').glob('*.png')), flush=True)\n"


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


class Output(NamedTuple):
    """What a cell printed, and the pictures that it wrote to the working folder."""

    text: str = ""
    pictures: tuple[Path, ...] = ()


def run_cells(cells: list[Cell], work: Path) -> list[Output]:
    """Run the code cells in one process and return what each of them prints and draws.

    Args:
        cells: The cells of the script.
        work: An empty folder that the script runs in.

    Raises:
        RuntimeError: The script fails; with what it wrote to stderr.
    """
    path = work / "tutorial.py"
    mark = _PRINT_MARK.format(mark=_MARK)
    code = "\n\n".join([*(f"{mark}{c.content}" for c in cells if not c.is_text), mark])
    path.write_text(code, encoding="utf-8")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "100", "NO_COLOR": "1"}
    with ExitStack() as stack:
        if "launcher=slurm" in code:
            from tests.slurm_node import slurm_stand_in

            commands = stack.enter_context(slurm_stand_in(work / "slurm"))
            environment["PATH"] = f"{commands}{os.pathsep}{environment['PATH']}"
        done = subprocess.run(
            [sys.executable, str(path)], cwd=work, env=environment, capture_output=True, text=True
        )
    if done.returncode:
        raise RuntimeError(f"the tutorial fails:\n{done.stderr[-3000:]}")
    outputs, known = [], set[str]()
    for part in done.stdout.replace(str(work), "...").split(_MARK)[1:]:
        names, _, text = part.partition("\n")
        outputs.append(Output(text.strip("\n")))
        new = sorted(set(names.split()) - known)  # of the cell before
        if new:
            outputs[-2] = outputs[-2]._replace(pictures=tuple(work / name for name in new))
        known |= set(new)
    of_code = iter(outputs)
    return [Output() if cell.is_text else next(of_code) for cell in cells]


def to_markdown(cells: list[Cell], outputs: list[Output]) -> str:
    """Return the cells as one Markdown page, with what each of them printed and drew below it."""
    parts = []
    for cell, output in zip(cells, outputs, strict=True):
        parts.append(cell.content if cell.is_text else f"```python\n{cell.content}\n```")
        if output.text:
            parts.append(f"```{{code-block}} text\n:class: printed\n\n{output.text}\n```")
        for path in output.pictures:
            data = base64.b64encode(path.read_bytes()).decode()
            parts.append(f"![{path.name}](data:image/png;base64,{data})")
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
