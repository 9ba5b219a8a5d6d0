"""Rendering of a report as one self-contained HTML file."""

from __future__ import annotations

import base64
import html
from collections.abc import Iterator, Mapping, Sequence

from mla_lightning.report.document.table import BEST, SECOND, Cell, Report, Row, Section, Table

#: Tables with more columns than this have a checkbox per column.
MANY_COLUMNS = 5
STYLE = """
:root { color-scheme: light dark; --ink: #1b1b1b; --quiet: #6a6a6a; --paper: #ffffff;
  --line: #d9d9d9; --card: #f6f6f6; --accent: #0b5fa5; --alarm: #a8320a; }
@media (prefers-color-scheme: dark) { :root { --ink: #ececec; --quiet: #a6a6a6; --paper: #17191c;
  --line: #3a3d42; --card: #202327; --accent: #7db8ee; --alarm: #ff9d76; } }
body { margin: 0 auto; padding: 1.5rem; max-width: 76rem; background: var(--paper);
  color: var(--ink); font: 1rem/1.5 system-ui, sans-serif; }
a { color: var(--accent); } h1 { line-height: 1.2; } h2 { margin-top: 2.5rem; }
nav ul { list-style: none; padding: 0; display: flex; flex-wrap: wrap; gap: .3rem 1.2rem; }
.skip { position: absolute; left: -99rem; } .skip:focus { position: static; }
.wide { overflow-x: auto; } .wide:focus-visible { outline: 2px solid var(--accent); }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .92rem; }
caption { text-align: left; color: var(--quiet); padding-bottom: .3rem; }
th, td { padding: .25rem .7rem; text-align: right; white-space: nowrap; }
thead th { border-bottom: 2px solid var(--line); } tbody { border-bottom: 1px solid var(--line); }
th[scope=row], th[scope=rowgroup] { text-align: left; font-weight: 400; }
th[scope=rowgroup] { font-weight: 600; padding-top: .7rem; }
tbody tr:hover { background: var(--card); }
.quiet { color: var(--quiet); }
.alarm { border-left: .3rem solid var(--alarm); padding-left: 1rem; }
figure { margin: 1.5rem 0; } figure img { max-width: 100%; background: #ffffff; padding: .5rem;
  border: 1px solid var(--line); border-radius: .3rem; } figcaption { color: var(--quiet); }
details { margin: .5rem 0; } details label { margin-right: 1rem; white-space: nowrap; }
pre { background: var(--card); padding: .8rem; overflow-x: auto; border-radius: .3rem; }
ul.notes { color: var(--quiet); font-size: .92rem; padding-left: 1.2rem; }
@page { size: A4 landscape; margin: 12mm; }
@media print { nav, details, .skip { display: none; } body { max-width: none; padding: 0;
  font-size: .75rem; } .wide { overflow: visible; } table { font-size: .68rem; }
  th, td { white-space: normal; padding: .1rem .3rem; } thead th { overflow-wrap: anywhere; }
  pre { white-space: pre-wrap; overflow-wrap: anywhere; }
  h2, h3, thead, th[scope=rowgroup] { break-after: avoid; }
  h2, h3, figure, tr { break-inside: avoid; } }
"""
SCRIPT = """
for (const box of document.querySelectorAll("input[data-table]")) {
  box.addEventListener("change", () => {
    const cells = `#${box.dataset.table} [data-column="${box.dataset.column}"]`;
    for (const cell of document.querySelectorAll(cells)) cell.hidden = !box.checked;
  });
}
"""


class NotebookReport(Report):
    """A report that a notebook shows as HTML."""

    def _repr_html_(self) -> str:
        return to_fragment(self)


def to_html(report: Report, figures: Mapping[str, str]) -> str:
    """Render a report as one HTML page.

    Style, script and figures are inline, and a content security policy forbids the browser to load
    anything. Names and values are escaped.

    Args:
        report: The report.
        figures: File name without extension -> SVG, in the order of the report.

    Returns:
        The document.
    """
    tables = [table for table in report.tables if table.written_sections]
    headings = [(f"table-{place}", table.title) for place, table in enumerate(tables)]
    headings[1:1] = [("figures", "Figures")] if figures else []
    headings += [(f"text-{place}", name) for place, name in enumerate(report.listings)]
    headings += [("origin", "Where the numbers come from")]
    blocks = [
        f'<p class="alarm" role="alert"><strong>{escaped(warning)}</strong></p>'
        for warning in report.warnings
    ]
    if report.finding:
        points = [f"<li>{escaped(point)}</li>" for point in report.finding]
        blocks += ["<ul>", *points, "</ul>"]
    for place, table in enumerate(tables):
        blocks += table_html(table, f"table-{place}")
        if place == 0 and figures:
            blocks.append('<h2 id="figures">Figures</h2>')
            blocks += [_figure(report, stem, svg) for stem, svg in figures.items()]
    for place, (name, text) in enumerate(report.listings.items()):
        blocks.append(
            f'<h2 id="text-{place}">{escaped(name)}</h2><pre tabindex="0">{escaped(text)}</pre>'
        )
    blocks.append('<h2 id="origin">Where the numbers come from</h2>')
    blocks += notes_html(report.notes)
    if report.runs is None:
        command = report.command or f"mla report {report.kind} results.csv --output ."
        blocks.append(
            "<p>Command that makes this page again from results.csv, which has one row per run and "
            f'modality:</p><pre tabindex="0">{escaped(command)}</pre>'
        )
    return document(report.title, headings, blocks)


#: CSS of a report inside another page, such as a notebook.
FRAGMENT_STYLE = """
.mla-report table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
.mla-report th, .mla-report td { padding: .2rem .6rem; text-align: right; white-space: nowrap; }
.mla-report th[scope=row], .mla-report th[scope=rowgroup] { text-align: left; }
.mla-report .quiet, .mla-report .notes { opacity: .7; }
.mla-report .alarm { border-left: .3rem solid #a8320a; padding-left: 1rem; }
"""


def to_fragment(report: Report) -> str:
    """Render a report's warnings and tables as an HTML fragment for a notebook."""
    blocks = [f'<p class="alarm">{escaped(warning)}</p>' for warning in report.warnings]
    for place, table in enumerate(report.tables):
        if table.written_sections:
            blocks += table_html(table, f"mla-{report.kind}-{place}", level=4)
    inner = "\n".join(blocks)
    return f'<div class="mla-report"><style>{FRAGMENT_STYLE}</style>\n{inner}</div>'


def document(
    title: str,
    headings: Sequence[tuple[str, str]],
    blocks: Sequence[str],
    *,
    style: str = "",
    script: str = "",
) -> str:
    """Assemble an HTML document that loads nothing from the network.

    Args:
        title: Title, unescaped.
        headings: Id and title of each entry of the table of contents, unescaped.
        blocks: Content, as HTML.
        style: Additional CSS.
        script: Additional JavaScript.

    Returns:
        The document.
    """
    contents = "\n".join(
        f'<li><a href="#{name}">{escaped(heading)}</a></li>' for name, heading in headings
    )
    body = "\n".join(blocks)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:">
<link rel="icon" href="data:,">
<title>{escaped(title)}</title>
<style>{STYLE}{style}</style>
</head>
<body>
<a class="skip" href="#content">Skip to the tables</a>
<h1>{escaped(title)}</h1>
<nav aria-label="Contents"><ul>
{contents}
</ul></nav>
<main id="content">
{body}
</main>
<script>{SCRIPT}{script}</script>
</body>
</html>
"""


def escaped(text: str) -> str:
    r"""Escape a text for HTML, and replace unprintable characters by spaces.

    Example:
        >>> escaped("a < b\x07")
        'a &lt; b '
    """
    return html.escape("".join(c if c.isprintable() or c == "\n" else " " for c in text))


def table_html(table: Table, name: str, level: int = 2) -> Iterator[str]:
    """Render a table with its heading, column checkboxes and notes.

    Args:
        table: The table.
        name: Its id in the page.
        level: Level of the heading.

    Yields:
        HTML.
    """
    yield f'<h{level} id="{name}">{escaped(table.title)}</h{level}>'
    if len(table.columns) > MANY_COLUMNS:
        yield "<details><summary>Select columns</summary>"
        for place, column in enumerate(table.columns):
            yield (
                f'<label><input type="checkbox" checked data-table="{name}-cells" '
                f'data-column="{place}"> {escaped(column)}</label>'
            )
        yield "</details>"
    yield f'<div class="wide" tabindex="0" role="region" aria-labelledby="{name}">'
    yield from cells_html(table, f"{name}-cells")
    yield "</div>"
    yield from notes_html(table.notes)


def cells_html(table: Table, name: str) -> Iterator[str]:
    """Render a table without heading and notes.

    Args:
        table: The table.
        name: Its id in the page.

    Yields:
        HTML.
    """
    yield f'<table id="{name}"><thead><tr><th scope="col">{escaped(table.corner)}</th>'
    for place, column in enumerate(table.columns):
        yield f'<th scope="col" data-column="{place}">{escaped(column)}</th>'
    yield "</tr></thead>"
    for section in table.written_sections:
        yield from _section(section, len(table.columns))
    yield "</table>"


def _section(section: Section, num_columns: int) -> Iterator[str]:
    yield "<tbody>"
    if section.title:
        remark = f' <span class="quiet">{escaped(section.remark)}</span>' if section.remark else ""
        yield (
            f'<tr><th scope="rowgroup" colspan="{num_columns + 1}">{escaped(section.title)}{remark}'
            "</th></tr>"
        )
    for row in section.rows:
        yield _row(row)
    yield "</tbody>"


def _row(row: Row) -> str:
    cells = "".join(_cell(cell, place) for place, cell in enumerate(row.cells))
    quiet = ' class="quiet"' if row.is_quiet else ""
    return f'<tr{quiet}><th scope="row">{escaped(row.label)}</th>{cells}</tr>'


def _cell(cell: Cell, place: int) -> str:
    text = escaped(cell.text)
    text = {BEST: f"<strong>{text}</strong>", SECOND: f"<u>{text}</u>"}.get(cell.rank, text)
    quiet = ' class="quiet"' if cell.is_quiet else ""
    return f'<td data-column="{place}"{quiet}>{text}</td>'


def _figure(report: Report, stem: str, svg: str) -> str:
    content = base64.b64encode(svg.encode()).decode()
    title = stem.replace("-", " ").replace("_", " ")
    alt = escaped(f"{report.title}, figure: {title}. The tables hold the same numbers.")
    return (
        f'<figure><img src="data:image/svg+xml;base64,{content}" alt="{alt}">'
        f"<figcaption>{escaped(title)}</figcaption></figure>"
    )


def notes_html(notes: Sequence[str]) -> list[str]:
    """Render notes as an HTML list; an empty list without notes.

    Example:
        >>> notes_html(["Mean over seeds."])
        ['<ul class="notes">', '<li>Mean over seeds.</li>', '</ul>']
    """
    items = [f"<li>{escaped(note)}</li>" for note in notes]
    return ['<ul class="notes">', *items, "</ul>"] if items else []
