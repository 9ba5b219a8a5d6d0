"""Rendering of the page as one HTML file with inline figures and selectable columns."""

from __future__ import annotations

import html
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import count
from typing import Any

from mla_lightning.report.document.html import document
from mla_lightning.report.document.seeds import state_seeds_once
from mla_lightning.report.document.template import as_html, escaped, rendered
from mla_lightning.report.figures.cache import Drawing
from mla_lightning.report.figures.style import GID, TOOLTIP_SEPARATOR
from mla_lightning.report.page.content import STORY, Overview, PageFigure, PageSection
from mla_lightning.report.page.story import CHAPTERS, REST

#: Minimum width of a figure in pixels; on narrower screens it scrolls.
MIN_WIDTH = 608
#: Style sheet and scripts of the page.
SOURCES = ("page.css", "page.js", "zoom.js")
PIXELS_PER_POINT = 4 / 3
#: Figures have the size of a paper's; on the page their texts are as large as the page's.
SCALE = 1.4


def to_overview_page(content: Overview, drawings: Mapping[str, Drawing]) -> str:
    """Render the page; it loads nothing from the network.

    Args:
        content: The content.
        drawings: File name without extension -> drawing, of every figure that was drawn.

    Returns:
        The document.
    """
    numbers = count()
    parts = [
        _part(section, f"section-{place}", drawings, numbers)
        for place, section in enumerate(content.sections)
    ]
    headings = _headings(parts)
    headings += [("runs", "All runs"), ("what", "What was run")]
    headings += [("again", "Commands")] if content.commands else []
    stems = [stem for section in content.sections for stem in _stems(section)]
    columns = _columns(drawings[stem] for stem in stems if stem in drawings)
    body = rendered("page.html", content=content, parts=parts, columns=columns)
    lead = rendered("page_lead.html", content=content, parts=parts)
    return document(content.title, headings, [body], lead=lead, sources=SOURCES)


def _headings(parts: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Return id and title of the experiments, or of the chapters of a single one."""
    if len(parts) > 1:
        return [(part["id"], part["section"].name) for part in parts]
    chapters = [(chapter["id"], chapter["title"]) for part in parts for chapter in part["chapters"]]
    return [*((part["id"], "Result") for part in parts), *chapters]


def _stems(section: PageSection) -> list[str]:
    return [*section.report.figures, *(figure.stem for figure in section.figures)]


def _part(
    section: PageSection, name: str, drawings: Mapping[str, Drawing], numbers: Iterator[int]
) -> dict[str, Any]:
    """Return the values of a section's template, with figures in the order of the story."""
    report = section.report
    first = [
        figure_values(drawings[stem], report.title, report.caption(stem), numbers)
        for stem in report.figures
        if stem in drawings
    ]
    chapters: list[dict[str, Any]] = []
    for chapter in (*CHAPTERS, REST):
        figures = [
            figure
            for figure in section.figures
            if figure.chapter == chapter.title and figure.stem in drawings
        ]
        findings = section.findings.get(chapter.title, [])
        if not figures and not findings:
            continue
        shown = _leading(figures, chapter.panels)
        values = {
            key: [
                figure_values(drawings[f.stem], f.title, f.reading, numbers, f.dataset)
                for f in chosen
            ]
            for key, chosen in (
                ("shown", shown),
                ("folded", [figure for figure in figures if figure not in shown]),
            )
        }
        place = f"{name}-chapter-{len(chapters)}"
        chapters.append({"id": place, "title": chapter.title, "findings": findings, **values})
    tables = [state_seeds_once(table) for table in report.tables if table.written_sections]
    tables += [table for table in section.tables if not table.slug.endswith(STORY)]
    return {
        "id": name,
        "section": section,
        "first": first,
        "chapters": chapters,
        "tables": tables,
    }


def _leading(figures: list[PageFigure], panels: tuple[str, ...]) -> list[PageFigure]:
    """Return the figures of the first panel of a chapter that was drawn, one per data set."""
    for panel in panels:
        if chosen := [figure for figure in figures if figure.stem.endswith(f"-{panel}")]:
            return chosen
    return []


def _columns(drawings: Iterable[Drawing]) -> list[str]:
    """Return the names of the columns that figures show, in the order of drawing."""
    names: dict[str, None] = {}
    for drawing in drawings:
        ids = re.findall(rf'<g id="{GID}([^"{TOOLTIP_SEPARATOR}]*)', _double_quote_ids(drawing.svg))
        names |= dict.fromkeys(map(html.unescape, ids))
    return list(names)


def figure_values(
    drawing: Drawing, title: str, reading: str, numbers: Iterator[int], dataset: str = ""
) -> dict[str, Any]:
    """Return the values of a figure's template: SVG with unique ids, caption and numbers.

    Args:
        drawing: The figure.
        title: Title.
        reading: Caption.
        numbers: Iterator over the numbers of figures.
        dataset: Name of the data set for screen readers; the drawing shows it.

    Returns:
        Id, title, caption, SVG and table of numbers.
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
    reading = " ".join(text for text in (reading, drawing.remark) if text)
    label = escaped(
        " ".join(text for text in (f"{title}.", dataset and f"{dataset}.", reading) if text)
    )
    svg, min_width = _enlarged(svg)
    opening = f'<svg role="img" aria-label="{label}" style="min-width: {min_width}px" '
    return {
        "id": name,
        "title": title,
        "reading": reading,
        "svg": as_html(svg.replace("<svg ", opening, 1)),
        "data": drawing.data,
    }


def _enlarged(svg: str) -> tuple[str, int]:
    """Return a drawing in the size of the page, and its smallest width in pixels."""
    width = re.search(r'<svg [^>]*?width="([0-9.]+)pt"', svg)
    if width is None:
        return svg, MIN_WIDTH

    def enlarge(match: re.Match[str]) -> str:
        return f'{match[1]}="{SCALE * PIXELS_PER_POINT * float(match[2]):.0f}"'

    opening, end, rest = svg.partition(">")
    opening = re.sub(r'\b(width|height)="([0-9.]+)pt"', enlarge, opening)
    return opening + end + rest, min(MIN_WIDTH, round(float(width[1]) * PIXELS_PER_POINT))


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
