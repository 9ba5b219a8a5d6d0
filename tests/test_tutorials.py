"""The tutorials of the site: every script runs from an empty folder and is a page."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SCRIPTS = sorted((ROOT / "docs/tutorials").glob("*.py"))
# What each prints when it has done what its text says.
PRINTED = {
    "first_table": r"multi +MLA +\d\d\.\d ± ",
    "own_method": r"<Run synthetic-flooding.*multi 0\.[3-9]",
    "missing_modalities": r"(?s)<Run .*mla.*<Run .*concat",
}


@pytest.mark.parametrize("name", sorted(PRINTED))
def test_a_tutorial_runs_and_prints_its_result(name, tmp_path):
    script = ROOT / f"docs/tutorials/{name}.py"
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert re.search(PRINTED[name], done.stdout), done.stdout


def test_every_tutorial_is_run_by_a_test():
    elsewhere = {"arrays_to_table"}  # tests/test_api.py
    assert {path.stem for path in SCRIPTS} == set(PRINTED) | elsewhere


def test_the_menu_of_the_site_has_every_page():
    index = (ROOT / "docs/index.md").read_text(encoding="utf-8")
    for path in [*SCRIPTS, *(ROOT / "docs").glob("*.md")]:
        place = path.relative_to(ROOT / "docs").with_suffix("").as_posix()
        assert place == "index" or re.search(rf"\b{place}>?$", index, re.MULTILINE), place


def test_a_page_has_the_text_and_what_each_cell_printed(tmp_path):
    pytest.importorskip("sphinx")
    spec = importlib.util.spec_from_file_location("pages", ROOT / "docs/tutorial_pages.py")
    pages = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(pages)
    cells = pages.read_cells(
        "# %% [markdown]\n# # Title\n\n# %%\nx = 20\nprint(x + 1)\n\n# %%\nx\n"
    )
    assert [cell.is_text for cell in cells] == [True, False, False]
    printed = pages.run_cells(cells, tmp_path)
    assert printed == ["", "21", ""]
    page = pages.to_markdown(cells, printed)
    assert page.startswith("# Title\n\n```python\nx = 20\n")
    assert page.count(":class: printed") == 1
    with pytest.raises(RuntimeError, match="ZeroDivisionError"):
        pages.run_cells(pages.read_cells("# %%\n1 / 0\n"), tmp_path)
