"""The screenshots in docs/ show the page as it is now."""

import runpy
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"


def test_the_screenshots_are_of_this_style_and_these_templates():
    script = runpy.run_path(str(DOCS / "screenshots.py"))
    recorded = (DOCS / "page.sha256").read_text().strip()
    assert script["fingerprint"]() == recorded, "the page looks different: run `make screenshots`"
    assert all((DOCS / name).is_file() for name in script["SCREENSHOTS"])
