"""Templates of HTML pages, which a designer can change without reading Python."""

from __future__ import annotations

import html
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jinja2 import Environment

#: Folders of the templates, style sheets and scripts.
FOLDERS = (
    Path(__file__).parent / "templates",
    Path(__file__).parent.parent / "page" / "templates",
)
#: Tables with more columns than this have a checkbox per column.
MANY_COLUMNS = 5
#: A table of contents with more entries than this is folded.
MANY_HEADINGS = 8


def escaped(text: str) -> str:
    r"""Escape a text for HTML, and replace unprintable characters by spaces.

    Example:
        >>> escaped("a < b\x07")
        'a &lt; b '
    """
    return html.escape("".join(c if c.isprintable() or c == "\n" else " " for c in text))


def rendered(template: str, **values: Any) -> str:
    """Return a template filled with values; all texts are escaped.

    Args:
        template: Name of its file.
        **values: Values of its variables; those of :func:`as_html` are inserted as they are.

    Example:
        >>> rendered("lead.html", report={"warnings": ["a < b"]}).strip()
        '<p class="alarm" role="alert"><strong>a &lt; b</strong></p>'
    """
    return _environment().get_template(template).render(values)


def as_html(text: str) -> Any:
    """Mark a text as HTML, which a template inserts without escaping it.

    Example:
        >>> str(as_html("<b>"))
        '<b>'
    """
    from markupsafe import Markup

    return Markup(text)


def source(name: str) -> Any:
    """Load a style sheet or script, to be inserted into a page.

    Args:
        name: Name of its file.

    Example:
        >>> "mla-report" in source("fragment.css")
        True
    """
    for folder in FOLDERS:
        if (folder / name).is_file():
            return as_html((folder / name).read_text("utf-8"))
    raise FileNotFoundError(name)


@cache
def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader

    def as_text(value: Any) -> Any:
        return value if hasattr(value, "__html__") else as_html(escaped(str(value)))

    environment = Environment(
        loader=FileSystemLoader(FOLDERS),
        autoescape=True,
        finalize=as_text,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals |= {"many_columns": MANY_COLUMNS, "many_headings": MANY_HEADINGS}
    return environment
