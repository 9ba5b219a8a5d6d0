"""Consistency of the documents, the committed results and the configs."""

import re
import subprocess
from functools import cache
from pathlib import Path

import pytest
import yaml
from experiments.claims.report import claims_report

from mla_lightning.config import plan
from mla_lightning.report.document.render import to_csv, to_markdown
from mla_lightning.report.main import make_report
from mla_lightning.report.read.results_csv import read_csv, write_csv
from mla_lightning.report.read.run_folders import read_runs
from mla_lightning.report.tables.notes import EARLIER_CODE

ROOT = Path(__file__).parents[1]
EXPERIMENTS = ROOT / "experiments"
SETS = ("openmoji", "tuxstamps", "mfeat", "avdigits")
PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "METHODS.md")]
PAGES += sorted(
    page for place in ("docs", "experiments", "benchmarks") for page in (ROOT / place).rglob("*.md")
)
# Without those of projections, whose column of the last epoch needs the run folders.
TABLES = [
    table
    for kind in ("table1", "table2", "table3", "tuning")
    for table in sorted(EXPERIMENTS.rglob(f"{kind}.csv"))
]


@pytest.fixture(scope="module")
def cloned():
    """Files and folders of a fresh clone: all that git tracks or does not ignore."""
    listed = subprocess.run(
        ["git", "-C", ROOT, "ls-files", "-co", "--exclude-standard"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    files = {(ROOT / name).resolve() for name in listed}
    return files | {folder for file in files for folder in file.parents}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_to_a_file_of_a_clone(page, cloned):
    text = page.read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)#\s]+)", text) if "://" not in link]
    assert not [link for link in links if (page.parent / link).resolve() not in cloned]


def test_the_index_links_every_folder_of_results():
    index = (EXPERIMENTS / "README.md").read_text(encoding="utf-8")
    for page in EXPERIMENTS.rglob("README.md"):
        place = page.relative_to(EXPERIMENTS)
        assert place.name == str(place) or f"({place})" in index


def test_no_results_are_ignored(cloned):
    files = {file.resolve() for file in EXPERIMENTS.rglob("*") if file.is_file()}
    assert {file for file in files if file.parent.name != "__pycache__"} <= cloned


@pytest.mark.parametrize("table", TABLES, ids=lambda table: str(table.relative_to(EXPERIMENTS)))
def test_committed_tables_equal_those_of_the_committed_results(table):
    report = make_report(table.stem, [table.parent / "results.csv"])
    (main_table,) = (candidate for candidate in report.tables if not candidate.slug)
    assert to_csv(main_table) == table.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("folder", "results"), [("benchmark", "*/results.csv"), ("references", "results.csv")]
)
def test_committed_answers_equal_those_of_the_committed_results(folder, results):
    folder = EXPERIMENTS / folder
    report = make_report("benchmark", sorted(folder.glob(results)))
    assert report.texts["answers.md"] == (folder / "answers.md").read_text(encoding="utf-8")
    for table in report.tables:
        name = f"benchmark-{table.slug}.csv" if table.slug else "benchmark.csv"
        assert to_csv(table) == (folder / name).read_text(encoding="utf-8"), name


def test_the_references_are_those_of_the_question_about_candidates():
    of_five, of_all = (
        {(run.dataset, run.method, run.seed): run.scores for run in read_csv(path) if run.name}
        for path in (EXPERIMENTS / name / "results.csv" for name in ("references", "candidates"))
    )
    assert len(of_five) == 4 * 5 * 20
    assert of_five.items() <= of_all.items()


def test_the_claims_equal_those_of_the_committed_results(tmp_path):
    command = re.search(
        r"python -m experiments\.claims (.*?) --output",
        (ROOT / "Makefile").read_text(),
        re.DOTALL,
    )
    patterns = command[1].replace("\\", "").replace("$(RUNS)", "").split()
    inputs = [path for pattern in patterns for path in sorted(ROOT.glob(pattern))]
    report = claims_report(read_runs(inputs))
    committed = EXPERIMENTS / "claims"
    tables = {f"claims-{table.slug}.csv": table for table in report.tables}
    assert set(tables) == {path.name for path in committed.glob("claims-*.csv")}
    for name, table in tables.items():
        assert to_csv(table) == (committed / name).read_text(encoding="utf-8")
    figures = [f"{name}.svg" for name in report.figures]
    written = (committed / "claims.md").read_text(encoding="utf-8")
    # Which runs are of earlier code was true on the day of the report.
    written = re.sub(rf"\*\*[^\n]*{EARLIER_CODE}[^\n]*\n\n", "", written)
    assert to_markdown(report, figures) == written
    assert set(figures) == {path.name for path in committed.glob("claims-*.svg")}
    write_csv(tmp_path / "results.csv", report.runs)
    assert (tmp_path / "results.csv").read_bytes() == (committed / "results.csv").read_bytes()


@pytest.mark.slow
def test_every_run_of_the_claims_has_a_config():
    names = {path.stem for path in (ROOT / "conf/experiment/claims").glob("*.yaml")} - {"tuning"}
    planned = {
        (job.config["name"], data, *cell_of(job), seed)
        for name in names
        for data in SETS
        for job in jobs_of(name, data)
        for seed in job.config["grid"]["seed"]
    }
    runs = read_csv(EXPERIMENTS / "claims/results.csv")
    finished = {
        (r.name, r.dataset, r.method, r.ablation, frozenset(r.overrides), r.lr, r.seed)
        for r in runs
    }
    assert finished <= planned


@cache
def jobs_of(name, data):
    """Return the jobs of one experiment of the claims, with one seed for all of its grid."""
    return plan([f"experiment=claims/{name}", f"data={data}", "seed=0"], multirun=True)


def cell_of(job):
    """Return method, ablation, overrides and learning rate of a job, as in ``results.csv``."""
    choices = job.config["choices"]
    overrides = frozenset(
        (key, str(value).lower() if isinstance(value, bool) else str(value))
        for key, value in job.distinguishing_overrides.items()
        if key.startswith("method.")
    )
    ablation = choices["ablation"] or "none"
    return choices["method"], ablation, overrides, job.config["optimizer"]["lr"]


def label_of(config):
    """Return the row of the tuning table to which a job of the claims belongs."""
    method = config["method"]
    if not method["hgm"]:
        return "mla no_hgm projection=others"
    update = "project_update=true " if method["project_update"] else ""
    return f"mla {update}projection={method['projection']}"


@pytest.mark.parametrize("data", SETS)
@pytest.mark.parametrize(
    "name",
    [
        *("hgm", "none", "update", "confirm", "confirm_none", "confirm_update"),
        *("fresh", "fresh_none", "sixty", "sixty_none", "long", "long_none"),
    ],
)
def test_the_claims_run_at_the_rates_that_validation_chose(name, data):
    rates = {label_of(job.config): job.config["optimizer"]["lr"] for job in jobs_of(name, data)}
    if data in ("openmoji", "tuxstamps"):
        chosen = yaml.safe_load((EXPERIMENTS / f"claims/tuning/tuned_lr-{data}.yaml").read_text())
    else:  # validation accuracy is at its ceiling, so all runs use the rate of MLA
        recipe = yaml.safe_load((ROOT / f"conf/recipe/{data}.yaml").read_text())
        chosen = dict.fromkeys(rates, recipe["tuned_lr"]["mla"])
    assert rates == {label: chosen[label] for label in rates}


def test_no_committed_command_has_a_folder_of_another_machine():
    for path in EXPERIMENTS.rglob("*.csv"):
        assert "paths.output_dir=/" not in path.read_text(encoding="utf-8"), path
