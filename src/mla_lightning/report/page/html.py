"""Write the overview as one HTML file: figures inline, columns to choose, names on hover."""

from __future__ import annotations

import html
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import count

from mla_lightning.report.document.html import cells_html, document, escaped, notes_html, table_html
from mla_lightning.report.figures.cache import Drawing
from mla_lightning.report.figures.style import GID, TELLS
from mla_lightning.report.page.content import Overview, Part

#: Pixels of a figure that no screen gets fewer of: it scrolls instead.
LEAST_WIDTH = 608
STYLE = """
figure svg { box-sizing: border-box; max-width: 100%; height: auto; background: #ffffff;
  padding: .5rem; border: 1px solid var(--line); border-radius: .3rem; }
figure h3 { margin-bottom: .4rem; }
[data-column-name].away { opacity: .06; }
[data-column-name] { transition: opacity .15s; }
fieldset { border: 1px solid var(--line); border-radius: .3rem; margin: 1rem 0; }
fieldset.columns { position: sticky; top: 0; background: var(--paper); z-index: 1;
  max-height: 30vh; overflow-y: auto; }
fieldset label { margin-right: 1rem; white-space: nowrap; }
@media print { fieldset { display: none; } figure { margin: .3rem 0; }
  figure h3, figcaption { margin: .1rem 0; }
  figure svg { min-width: 0 !important; max-height: 158mm; width: auto; } }
"""
SCRIPT = """
for (const part of document.querySelectorAll("section[data-part]")) {
  for (const set of part.querySelectorAll("fieldset")) {
    const boxes = [...set.querySelectorAll("input")];
    const show = () => {
      const on = new Set(boxes.filter(box => box.checked).map(box => box.value));
      if (set.className === "columns")
        for (const drawn of part.querySelectorAll("[data-column-name]"))
          drawn.classList.toggle("away", !on.has(drawn.dataset.columnName));
      else
        for (const figure of part.querySelectorAll("figure[data-figure]"))
          figure.hidden = !on.has(figure.dataset.figure);
    };
    for (const box of boxes) box.addEventListener("change", show);
    for (const button of set.querySelectorAll("button"))
      button.addEventListener("click", () => {
        for (const box of boxes) box.checked = button.value === "all";
        show();
      });
  }
}
"""


def to_overview_page(content: Overview, drawn: Mapping[str, Drawing]) -> str:
    """Write the page; nothing of it is fetched, and it tells the browser so.

    Args:
        content: What it shows.
        drawn: Stem -> drawing of every figure that has something to show.

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


def _part(
    part: Part, place: int, drawn: Mapping[str, Drawing], numbers: Iterator[int]
) -> Iterator[str]:
    yield f'<section id="part-{place}" data-part>'
    yield f"<h2>{escaped(part.name)}</h2>"
    for warning in (*part.report.warnings, *part.warnings):
        yield f'<p class="alarm" role="alert"><strong>{escaped(warning)}</strong></p>'
    for number, table in enumerate(part.report.tables):
        if table.written_sections:
            yield from table_html(table, f"part-{place}-table-{number}", 3)
    pictures = [picture for picture in part.pictures if picture.stem in drawn]
    kinds = list(dict.fromkeys(picture.title for picture in pictures))
    figures = [stem for stem in part.report.figures if stem in drawn]
    if figures:
        kinds.insert(0, part.report.title)
    if kinds:
        yield _chooser("figures", "Figures", kinds)
    columns = _columns(drawn[stem] for stem in (*figures, *(one.stem for one in pictures)))
    if columns:
        yield _chooser("columns", "Show in the figures", columns)
    for stem in figures:
        yield figure_html(drawn[stem], part.report.title, part.report.reading, numbers)
    for one in pictures:
        yield figure_html(drawn[one.stem], one.title, one.reading, numbers, one.about)
    for number, table in enumerate(part.tables):
        yield from table_html(table, f"part-{place}-more-{number}", 3)
    yield from notes_html((*part.report.notes, *part.notes))
    yield "</section>"


def _columns(drawings: Iterable[Drawing]) -> list[str]:
    """Find what figures draw apart, in the order in which they draw it."""
    names: dict[str, None] = {}
    for one in drawings:
        found = re.findall(rf'<g id="{GID}([^"{TELLS}]*)', _quoted(one.svg))
        names |= dict.fromkeys(map(html.unescape, found))
    return list(names)


def _chooser(kind: str, legend: str, names: Sequence[str]) -> str:
    boxes = "".join(
        f'<label><input type="checkbox" checked value="{escaped(name)}"> {escaped(name)}</label>'
        for name in names
    )
    return (
        f'<fieldset class="{kind}"><legend>{legend}</legend>'
        '<button type="button" value="all">all</button> '
        f'<button type="button" value="none">none</button> {boxes}</fieldset>'
    )


def figure_html(
    drawing: Drawing, title: str, reading: str, numbers: Iterator[int], about: str = ""
) -> str:
    """Put a figure into the page: its ids its own, its columns named, its numbers below it.

    Args:
        drawing: The figure.
        title: Its heading.
        reading: How to read it.
        numbers: Gives each figure a number.
        about: The data set; the drawing shows it, so only those who hear the page are told.

    Returns:
        HTML.
    """
    name = f"figure-{next(numbers)}"
    svg = _quoted(drawing.svg[drawing.svg.index("<svg") :])
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(rf'<g id="{GID}([^"]*)">', _named, svg)
    seen: Counter[str] = Counter()

    def own(match: re.Match[str]) -> str:
        seen[match[1]] += 1  # what occurs twice is a name of several lines that nothing refers to
        more = f"-{seen[match[1]]}" if seen[match[1]] > 1 else ""
        return f'id="{name}-{match[1]}{more}"'

    svg = re.sub(r'\bid="([^"]+)"', own, svg)
    svg = re.sub(r'(xlink:href="|url\()#', rf"\1#{name}-", svg)
    svg = re.sub(r"\s*<\?xml[^>]*>|<!DOCTYPE[^>]*>", "", svg)
    spoken = escaped(
        " ".join(text for text in (f"{title}.", about and f"{about}.", reading) if text)
    )
    width = re.search(r'<svg [^>]*?width="([0-9.]+)pt"', svg)
    least = min(LEAST_WIDTH, round(float(width[1]) * 4 / 3)) if width else LEAST_WIDTH
    opening = f'<svg role="img" aria-label="{spoken}" style="min-width: {least}px" '
    return (
        f'<figure id="{name}" data-figure="{escaped(title)}"><h3>{escaped(title)}</h3>'
        f'<div class="wide" tabindex="0" role="group" aria-label="{escaped(title)}, drawn">'
        f"{svg.replace('<svg ', opening, 1)}</div>"
        f"<figcaption>{escaped(reading)}</figcaption>{_numbers(drawing, name, title)}</figure>"
    )


def _numbers(drawing: Drawing, name: str, title: str) -> str:
    if drawing.data is None:
        return ""
    cells = "".join(cells_html(drawing.data, f"{name}-numbers"))
    return (
        f'<details><summary>Numbers</summary><div class="wide" tabindex="0" role="region" '
        f'aria-label="{escaped(title)}, numbers">{cells}</div></details>'
    )


def _quoted(svg: str) -> str:
    """Put all ids between double quotes: one that holds such is written between single ones."""
    return re.sub(
        r"\bid='([^']*)'", lambda match: f'id="{match[1].replace(chr(34), "&quot;")}"', svg
    )


def _named(match: re.Match[str]) -> str:
    # matplotlib escapes what it writes into ids as XML, which HTML attributes take as it is.
    column, _, told = match[1].partition(TELLS)
    title = f"{column}: {told}" if told else column
    return f'<g data-column-name="{column}"><title>{title}</title>'
