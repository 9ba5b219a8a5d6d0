"""Write the overview as one HTML file: figures inline, columns to choose, names on hover."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import count

from mla_lightning.report.diagnostic_figures import GID
from mla_lightning.report.overview import Overview, Part
from mla_lightning.report.page import document, escaped, notes_html, table_html

STYLE = """
figure svg { max-width: 100%; height: auto; background: #ffffff; padding: .5rem;
  border: 1px solid var(--line); border-radius: .3rem; }
[data-column-name].away { opacity: .06; }
[data-column-name] { transition: opacity .15s; }
fieldset { border: 1px solid var(--line); border-radius: .3rem; margin: 1rem 0; position: sticky;
  top: 0; background: var(--paper); z-index: 1; max-height: 30vh; overflow-y: auto; }
fieldset label { margin-right: 1rem; white-space: nowrap; }
@media print { fieldset { display: none; } }
"""
SCRIPT = """
for (const part of document.querySelectorAll("section[data-part]")) {
  const boxes = [...part.querySelectorAll("fieldset input")];
  const show = () => {
    const on = new Set(boxes.filter(box => box.checked).map(box => box.value));
    for (const drawn of part.querySelectorAll("[data-column-name]"))
      drawn.classList.toggle("away", !on.has(drawn.dataset.columnName));
  };
  for (const box of boxes) box.addEventListener("change", show);
  for (const button of part.querySelectorAll("fieldset button"))
    button.addEventListener("click", () => {
      for (const box of boxes) box.checked = button.value === "all";
      show();
    });
}
"""


def to_overview_page(content: Overview, drawn: dict[str, str]) -> str:
    """Write the page; nothing of it is fetched, and it tells the browser so.

    Args:
        content: What it shows.
        drawn: Stem -> SVG of every figure that has something to show.

    Returns:
        The document.
    """
    numbers = count()
    blocks: list[str] = []
    headings = [("what", "What was run")]
    blocks += ['<section id="what">', *table_html(content.what, "what-table"), "</section>"]
    for place, part in enumerate(content.parts):
        headings.append((f"part-{place}", part.name))
        blocks += _part(part, place, drawn, numbers)
    headings.append(("runs", "Every run"))
    blocks += ['<section id="runs">']
    for number, table in enumerate(content.runs.tables):
        blocks += table_html(table, f"runs-{number}")
    blocks.append("</section>")
    if content.commands:
        headings.append(("again", "To make it again"))
        commands = "\n".join(content.commands)
        blocks.append(
            '<section id="again"><h2>To make it again</h2>'
            f'<pre tabindex="0">{escaped(commands)}</pre></section>'
        )
    return document(content.title, headings, blocks, style=STYLE, script=SCRIPT)


def _part(part: Part, place: int, drawn: dict[str, str], numbers: Iterator[int]) -> Iterator[str]:
    yield f'<section id="part-{place}" data-part>'
    yield f"<h2>{escaped(part.name)}</h2>"
    for warning in part.report.warnings:
        yield f'<p class="alarm" role="alert"><strong>{escaped(warning)}</strong></p>'
    for number, table in enumerate(part.report.tables):
        if table.written_sections:
            yield from table_html(table, f"part-{place}-table-{number}")
    for stem in part.report.figures:
        if stem in drawn:
            title = stem.replace("-", " ")
            yield figure_html(drawn[stem], title, "The tables hold the same numbers.", numbers)
    if part.columns:
        yield _chooser(part.columns)
    for picture in part.pictures:
        if picture.stem in drawn:
            yield figure_html(drawn[picture.stem], picture.title, picture.reading, numbers)
    for number, table in enumerate(part.tables):
        yield from table_html(table, f"part-{place}-more-{number}")
    yield from notes_html((*part.report.notes, *part.notes))
    yield "</section>"


def _chooser(columns: Sequence[str]) -> str:
    boxes = "".join(
        f'<label><input type="checkbox" checked value="{escaped(name)}"> {escaped(name)}</label>'
        for name in columns
    )
    return (
        "<fieldset><legend>Show in the figures below</legend>"
        '<button type="button" value="all">all</button> '
        f'<button type="button" value="none">none</button> {boxes}</fieldset>'
    )


def figure_html(svg: str, title: str, reading: str, numbers: Iterator[int]) -> str:
    """Put a figure into the page: its ids its own, its columns named.

    Args:
        svg: The SVG document of one figure.
        title: Its heading.
        reading: How to read it.
        numbers: Gives each figure a number.

    Returns:
        HTML.
    """
    name = f"figure-{next(numbers)}"
    drawing = svg[svg.index("<svg") :]
    drawing = re.sub(r"<metadata>.*?</metadata>", "", drawing, flags=re.DOTALL)
    drawing = re.sub(rf'<g id="{GID}([^"]*)">', _named, drawing)
    seen: Counter[str] = Counter()

    def own(match: re.Match[str]) -> str:
        seen[match[1]] += 1  # what occurs twice is a name of several lines that nothing refers to
        more = f"-{seen[match[1]]}" if seen[match[1]] > 1 else ""
        return f'id="{name}-{match[1]}{more}"'

    drawing = re.sub(r'\bid="([^"]+)"', own, drawing)
    drawing = re.sub(r'(xlink:href="|url\()#', rf"\1#{name}-", drawing)
    drawing = re.sub(r"\s*<\?xml[^>]*>|<!DOCTYPE[^>]*>", "", drawing)
    spoken = escaped(f"{title}. {reading}")
    opening = f'<svg role="img" aria-label="{spoken}" '
    return (
        f'<figure id="{name}"><h3>{escaped(title)}</h3>'
        f"{drawing.replace('<svg ', opening, 1)}"
        f"<figcaption>{escaped(reading)}</figcaption></figure>"
    )


def _named(match: re.Match[str]) -> str:
    # matplotlib escapes what it writes into ids as XML, which HTML attributes take as it is.
    return f'<g data-column-name="{match[1]}"><title>{match[1]}</title>'
