"""Rendering of the page as one HTML file with inline figures and selectable columns."""

from __future__ import annotations

import html
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import count

from mla_lightning.report.document.html import cells_html, document, escaped, notes_html, table_html
from mla_lightning.report.figures.cache import Drawing
from mla_lightning.report.figures.style import GID, TOOLTIP_SEPARATOR
from mla_lightning.report.page.content import Overview, PageSection

#: Minimum width of a figure in pixels; on narrower screens it scrolls.
MIN_WIDTH = 608
STYLE = """
figure svg { box-sizing: border-box; max-width: 100%; height: auto; background: #ffffff;
  padding: .5rem; border: 1px solid var(--line); border-radius: .3rem; }
figure h3 { margin-bottom: .4rem; }
[data-column-name].dimmed { opacity: .06; }
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
for (const section of document.querySelectorAll("section[data-section]")) {
  for (const fieldset of section.querySelectorAll("fieldset")) {
    const boxes = [...fieldset.querySelectorAll("input")];
    const show = () => {
      const selected = new Set(boxes.filter(box => box.checked).map(box => box.value));
      if (fieldset.className === "columns")
        for (const element of section.querySelectorAll("[data-column-name]"))
          element.classList.toggle("dimmed", !selected.has(element.dataset.columnName));
      else
        for (const figure of section.querySelectorAll("figure[data-figure]"))
          figure.hidden = !selected.has(figure.dataset.figure);
    };
    for (const box of boxes) box.addEventListener("change", show);
    for (const button of fieldset.querySelectorAll("button"))
      button.addEventListener("click", () => {
        for (const box of boxes) box.checked = button.value === "all";
        show();
      });
  }
}
"""


def to_overview_page(content: Overview, drawings: Mapping[str, Drawing]) -> str:
    """Render the page; it loads nothing from the network.

    Args:
        content: The content.
        drawings: File name without extension -> drawing, of every figure that was drawn.

    Returns:
        The document.
    """
    numbers = count()
    headings = [("what", "What was run")]
    blocks = [
        '<section id="what">',
        *table_html(content.settings, "what-table"),
        "</section>",
    ]
    for place, section in enumerate(content.sections):
        headings.append((f"section-{place}", section.name))
        blocks += _section(section, f"section-{place}", drawings, numbers)
    headings.append(("runs", "All runs"))
    blocks += ['<section id="runs">']
    for number, table in enumerate(content.runs.tables):
        blocks += table_html(table, f"runs-{number}")
    blocks.append("</section>")
    if content.commands:
        headings.append(("again", "Commands"))
        commands = "\n".join(content.commands)
        blocks.append(
            '<section id="again"><h2>Commands that make all of this again</h2>'
            f'<pre tabindex="0">{escaped(commands)}</pre></section>'
        )
    return document(content.title, headings, blocks, style=STYLE, script=SCRIPT)


def _section(
    section: PageSection, name: str, drawings: Mapping[str, Drawing], numbers: Iterator[int]
) -> Iterator[str]:
    report = section.report
    yield f'<section id="{name}" data-section>'
    yield f"<h2>{escaped(section.name)}</h2>"
    for warning in (*report.warnings, *section.warnings):
        yield f'<p class="alarm" role="alert"><strong>{escaped(warning)}</strong></p>'
    for number, table in enumerate(report.tables):
        if table.written_sections:
            yield from table_html(table, f"{name}-table-{number}", 3)
    stems = [stem for stem in report.figures if stem in drawings]
    figures = [figure for figure in section.figures if figure.stem in drawings]
    titles = list(dict.fromkeys(figure.title for figure in figures))
    if stems:
        titles.insert(0, report.title)
    if titles:
        yield _checkboxes("figures", "Figures", titles)
    columns = _columns(drawings[stem] for stem in (*stems, *(figure.stem for figure in figures)))
    if columns:
        yield _checkboxes("columns", "Columns shown in the figures", columns)
    for stem in stems:
        yield figure_html(drawings[stem], report.title, report.reading, numbers)
    for figure in figures:
        drawing = drawings[figure.stem]
        yield figure_html(drawing, figure.title, figure.reading, numbers, figure.dataset)
    for number, table in enumerate(section.tables):
        yield from table_html(table, f"{name}-more-{number}", 3)
    yield from notes_html((*report.notes, *section.notes))
    yield "</section>"


def _columns(drawings: Iterable[Drawing]) -> list[str]:
    """Return the names of the columns that figures show, in the order of drawing."""
    names: dict[str, None] = {}
    for drawing in drawings:
        ids = re.findall(rf'<g id="{GID}([^"{TOOLTIP_SEPARATOR}]*)', _double_quote_ids(drawing.svg))
        names |= dict.fromkeys(map(html.unescape, ids))
    return list(names)


def _checkboxes(kind: str, legend: str, names: Sequence[str]) -> str:
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
    drawing: Drawing, title: str, reading: str, numbers: Iterator[int], dataset: str = ""
) -> str:
    """Render a figure with unique ids, tooltips, a caption and a table of its numbers.

    Args:
        drawing: The figure.
        title: Title.
        reading: Caption.
        numbers: Iterator over the numbers of figures.
        dataset: Name of the data set for screen readers; the drawing shows it.

    Returns:
        HTML.
    """
    name = f"figure-{next(numbers)}"
    svg = _double_quote_ids(drawing.svg[drawing.svg.index("<svg") :])
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(rf'<g id="{GID}([^"]*)">', _add_title, svg)
    counts: Counter[str] = Counter()

    def unique_id(match: re.Match[str]) -> str:
        counts[match[1]] += 1  # only ids that nothing refers to occur more than once
        suffix = f"-{counts[match[1]]}" if counts[match[1]] > 1 else ""
        return f'id="{name}-{match[1]}{suffix}"'

    svg = re.sub(r'\bid="([^"]+)"', unique_id, svg)
    svg = re.sub(r'(xlink:href="|url\()#', rf"\1#{name}-", svg)
    svg = re.sub(r"\s*<\?xml[^>]*>|<!DOCTYPE[^>]*>", "", svg)
    label = escaped(
        " ".join(text for text in (f"{title}.", dataset and f"{dataset}.", reading) if text)
    )
    width = re.search(r'<svg [^>]*?width="([0-9.]+)pt"', svg)
    min_width = min(MIN_WIDTH, round(float(width[1]) * 4 / 3)) if width else MIN_WIDTH
    opening = f'<svg role="img" aria-label="{label}" style="min-width: {min_width}px" '
    return (
        f'<figure id="{name}" data-figure="{escaped(title)}"><h3>{escaped(title)}</h3>'
        f'<div class="wide" tabindex="0" role="group" aria-label="{escaped(title)}, figure">'
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


def _double_quote_ids(svg: str) -> str:
    """Put all ids between double quotes; matplotlib puts one with double quotes in single ones."""
    return re.sub(
        r"\bid='([^']*)'", lambda match: f'id="{match[1].replace(chr(34), "&quot;")}"', svg
    )


def _add_title(match: re.Match[str]) -> str:
    """Replace the id of an element by its column's name and a tooltip."""
    # matplotlib escapes ids as XML, which is valid in HTML attributes.
    column, _, tooltip = match[1].partition(TOOLTIP_SEPARATOR)
    title = f"{column}: {tooltip}" if tooltip else column
    return f'<g data-column-name="{column}"><title>{title}</title>'
