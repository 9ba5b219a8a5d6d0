"""How Sphinx makes the site: `make docs`.

The source folder is the repository, so that the pages keep their places and the links between them
are the same on the site and where the repository is browsed.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parent))

from pygments.lexers.special import TextLexer
from sphinx.application import Sphinx

import mla_lightning

project = "mla_lightning"
author = "The mla_lightning authors"
copyright = author
release = version = mla_lightning.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.mathjax",
    "tutorial_pages",
]
root_doc = "docs/index"
include_patterns = [
    "*.md",
    "docs/**.md",
    "docs/tutorials/*.py",
    "experiments/**.md",
    "benchmarks/README.md",
]
exclude_patterns = ["build", ".venv", "runs"]

myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 4

autodoc_typehints = "signature"
autodoc_member_order = "groupwise"
autodoc_preserve_defaults = True
python_maximum_signature_line_length = 88

html_theme = "furo"
html_title = "mla_lightning"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_additional_pages = {"index": "redirect.html"}
templates_path = ["templates"]
html_show_sphinx = False
html_copy_source = False


def setup(app: Sphinx) -> None:
    """Show blocks of CSV as they are."""
    app.add_lexer("csv", TextLexer)
