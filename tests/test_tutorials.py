"""The tutorials of the site: every script runs from an empty folder and is a page."""

import importlib.util
import os
import re
import runpy
import sys
from pathlib import Path

import lightning.pytorch  # noqa: F401 - so that the forks that run scripts do not import it again
import pytest

from tests.slurm_node import slurm_stand_in
from tests.train.jobs import in_child

ROOT = Path(__file__).parent.parent
SCRIPTS = sorted((ROOT / "docs/tutorials").glob("*.py"))
# What each prints when it has done what its text says.
PRINTED = {
    "cluster_sweep": r"(?s)4 queued.*1 preempted.*4 finished.*Ended by SIGTERM.*4 runs: 4 finished",
    "first_table": r"multi +MLA +\d\d\.\d ± ",
    "arrays_to_table": "validation accuracy: ",
    "own_method": r"<Run synthetic-flooding.*multi 0\.[3-9]",
    "missing_modalities": r"(?s)<Run .*mla.*<Run .*concat",
    "own_files": r"(?s)sounds of 0.2 s, all kept.*multi +\d\d\.\d ± .*6 samples.*\n5,cone",
}


def run_script(path, folder):
    """Run a script in a folder, in a fork of this process; return its output."""

    def action():
        if "launcher=slurm" in path.read_text():
            with slurm_stand_in(folder / "slurm") as commands:
                os.environ["PATH"] = f"{commands}:{os.environ['PATH']}"
                run()
        else:
            run()

    def run():
        log = os.open(folder / "output.txt", os.O_WRONLY | os.O_CREAT, 0o600)
        os.dup2(log, 1)
        os.dup2(log, 2)
        sys.stdout, sys.stderr = (os.fdopen(number, "w", closefd=False) for number in (1, 2))
        os.chdir(folder)
        runpy.run_path(str(path), run_name="__main__")
        sys.stdout.flush()

    code = in_child(action)
    output = (folder / "output.txt").read_text()
    assert code == 0, output[-3000:]
    return output


@pytest.mark.parametrize("name", sorted(PRINTED))
def test_a_tutorial_runs_and_prints_its_result(name, tmp_path):
    output = run_script(ROOT / f"docs/tutorials/{name}.py", tmp_path)
    assert re.search(PRINTED[name], output), output


def test_every_tutorial_is_run_by_a_test():
    assert {path.stem for path in SCRIPTS} == set(PRINTED)


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
    draw = "from pathlib import Path\nPath('a.png').write_bytes(b'PNG')"
    script = (
        f"# %% [markdown]\n# # Title\n\n# %%\nx = 20\nprint(x + 1)\n\n# %%\n{draw}\n\n# %%\nx\n"
    )
    cells = pages.read_cells(script)
    assert [cell.is_text for cell in cells] == [True, False, False, False]
    outputs = pages.run_cells(cells, tmp_path)
    assert [output.text for output in outputs] == ["", "21", "", ""]
    assert [output.pictures for output in outputs] == [(), (), (tmp_path / "a.png",), ()]
    page = pages.to_markdown(cells, outputs)
    assert page.startswith("# Title\n\n```python\nx = 20\n")
    assert page.count(":class: printed") == 1
    assert f"{draw}\n```\n\n![a.png](data:image/png;base64,UE5H)" in page
    with pytest.raises(RuntimeError, match="ZeroDivisionError"):
        pages.run_cells(pages.read_cells("# %%\n1 / 0\n"), tmp_path)
