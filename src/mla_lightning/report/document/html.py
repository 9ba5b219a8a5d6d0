"""Rendering of a report as one self-contained HTML file."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence

from mla_lightning.report.document.seeds import state_seeds_once
from mla_lightning.report.document.table import Report, Table
from mla_lightning.report.document.template import as_html, rendered, source


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
    tables = [state_seeds_once(table) for table in report.tables if table.written_sections]
    headings = [(f"table-{place}", table.title) for place, table in enumerate(tables)]
    headings[1:1] = [("figures", "Figures")] if figures else []
    headings += [(f"text-{place}", name) for place, name in enumerate(report.listings)]
    headings += [("origin", "Where the numbers come from")]
    command = ""
    if report.runs is None:
        command = report.command or f"mla report {report.kind} results.csv --output ."
    body = rendered(
        "report.html",
        report=report,
        tables=tables,
        figures=[_figure(report, stem, svg) for stem, svg in figures.items()] if tables else [],
        command=command,
    )
    return document(report.title, headings, [body], lead=rendered("lead.html", report=report))


def to_fragment(report: Report) -> str:
    """Render a report's warnings and tables as an HTML fragment for a notebook."""
    blocks = [rendered("lead.html", report=Report("", "", (), warnings=report.warnings))]
    for place, table in enumerate(map(state_seeds_once, report.tables)):
        if table.written_sections:
            blocks.append(table_html(table, f"mla-{report.kind}-{place}", level=4))
    inner = "\n".join(blocks)
    return f'<div class="mla-report"><style>{source("fragment.css")}</style>\n{inner}</div>'


def document(
    title: str,
    headings: Sequence[tuple[str, str]],
    blocks: Iterable[str],
    *,
    lead: str = "",
    sources: Sequence[str] = (),
) -> str:
    """Assemble an HTML document that loads nothing from the network.

    Args:
        title: Title, unescaped.
        headings: Id and title of each entry of the table of contents, unescaped.
        blocks: Content, as HTML.
        lead: HTML between the title and the table of contents.
        sources: Names of additional style sheets and scripts.

    Returns:
        The document.
    """
    styles = ["document.css", *(name for name in sources if name.endswith(".css"))]
    scripts = ["document.js", *(name for name in sources if name.endswith(".js"))]
    return rendered(
        "document.html",
        title=title,
        headings=headings,
        lead=as_html(lead),
        body=as_html("\n".join(blocks)),
        style=as_html("\n".join(map(source, styles))),
        script=as_html("\n".join(map(source, scripts))),
    )


def table_html(table: Table, name: str, level: int = 2) -> str:
    """Render a table with its heading, column checkboxes and notes.

    Args:
        table: The table.
        name: Its id in the page.
        level: Level of the heading.

    Returns:
        HTML.
    """
    return rendered("one_table.html", item=table, name=name, level=level)


def cells_html(table: Table, name: str) -> str:
    """Render a table without heading and notes.

    Args:
        table: The table.
        name: Its id in the page.

    Returns:
        HTML.
    """
    return rendered("one_table.html", item=table, name=name, level=0)


def _figure(report: Report, stem: str, svg: str) -> dict[str, str]:
    title = stem.replace("-", " ").replace("_", " ")
    return {
        "content": base64.b64encode(svg.encode()).decode(),
        "caption": report.caption(stem),
        "alt": f"{report.title}, figure: {title}. The tables hold the same numbers.",
    }
