"""Sections of the page: each shows its own experiment, and a failed one affects no other."""

import json
import re

import pytest
from tests.report.synthetic_runs import write_run

from mla_lightning.cli.main import main
from mla_lightning.report.figures import cache as figure_cache
from mla_lightning.report.figures.cache import DRAWN
from mla_lightning.report.page.content import slugs
from mla_lightning.report.read.cache import RunCache
from mla_lightning.report.read.diagnostics import read_diagnostics
from mla_lightning.report.read.run_folders import read_runs
from mla_lightning.run_folder import write_json

pytestmark = pytest.mark.usefixtures("only_svg")


def page_of(root):
    assert main(["report", "page", str(root), "--output", str(root / "out")]) == 0
    return (root / "out" / "page.html").read_text()


def section_of(page, name):
    start = rf"<section id=\"section-\d+\" data-section>\s*<h2(?: class=\"unseen\")?>{name}</h2>"
    return re.search(rf"{start}.*?</section>", page, re.DOTALL)[0]


def levels(multi):
    return {"image": 0.4, "text": 0.5, "multi": multi}


def diagnosed(temperature=1.5):
    bins = {"confidence": [0.5, 0.9], "accuracy": [0.4, 0.8], "num": [9, 11], "ece": 0.1}
    reliability = {"width": bins, "mass": bins}
    names = ("image", "text", "multi")
    return {
        "calibration": {
            m: {"temperature": temperature, "before": reliability, "after": reliability}
            for m in names
        },
        "entropy": {m: {"entropy": [0.1, 0.9], "accuracy": [0.9, 0.2]} for m in names},
    }


def test_two_experiments_on_one_data_set_show_their_own_figures(tmp_path):
    for seed in (0, 1):
        write_run(tmp_path, "mla", seed, name="table1/openmoji", accuracy=levels(0.5123))
        write_run(tmp_path, "mla", seed, name="mine/openmoji", accuracy=levels(0.7345))
    page = page_of(tmp_path)
    files = {path.name for path in (tmp_path / "out").iterdir()}
    for slug in ("table1-openmoji", "mine-openmoji"):
        assert {f"{slug}.md", f"{slug}-openmoji.svg", f"{slug}-openmoji-curves.svg"} <= files
    first, second = (
        (tmp_path / "out" / f"{slug}-openmoji.svg").read_text()
        for slug in ("table1-openmoji", "mine-openmoji")
    )
    assert first != second
    for name, svg in (("table1/openmoji", first), ("mine/openmoji", second)):
        shapes = re.findall(r' d="([^"]+)"', svg)
        assert all(shape in section_of(page, name) for shape in shapes)
    assert "![table1-openmoji-openmoji.svg]" in (tmp_path / "out/table1-openmoji.md").read_text()


def test_a_label_with_quotes_has_a_checkbox(tmp_path):
    for overrides in ({}, {"modalities": '["a", "b"]'}):
        write_run(tmp_path, "mla", 0, accuracy=levels(0.5), overrides=overrides)
    page = page_of(tmp_path)
    names = set(re.findall(r'data-column-name="([^"]*)"', page))
    assert any("&quot;a&quot;" in name for name in names), names
    boxes = re.search(r'<details class="columns".*?</details>', page, re.DOTALL)[0]
    assert all(f'value="{name}"' in boxes for name in names)
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    assert "id='" not in page


def test_the_page_explains_missing_diagnostics(tmp_path):
    write_run(tmp_path / "runs", "mla", 0, accuracy=levels(0.5))
    assert "made with diagnostics=off" in page_of(tmp_path / "runs")
    assert main(["report", "page", str(tmp_path / "runs/out/results.csv")]) == 0
    text = (tmp_path / "runs/out/report/page.html").read_text()
    assert "results.csv does not hold them" in text
    write_run(tmp_path / "bad", "mla", 0, state="failed")
    assert "no run has finished" in page_of(tmp_path / "bad")


def test_file_names_are_safe_and_unique_per_section():
    names = ["../../up", "a/b", "a b", "a_b", "A_b", "page", "results", ""]
    by_name = slugs(names)
    assert len({slug.lower() for slug in by_name.values()}) == len(names)
    assert all(re.fullmatch(r"[\w.-]+", slug) and slug[0] != "." for slug in by_name.values())
    assert not {"page", "results"} & set(by_name.values())
    assert by_name["a/b"] == "a-b"


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("metrics.csv", b"epoch,val/acc\n1,zero\n", "metrics.csv cannot be read"),
        ("diagnostics.json", b"", "diagnostics.json is not valid JSON"),
        ("diagnostics.json", b"{}", "diagnostics.json has no calibration, entropy"),
        ("planes.npz", b"PK\x03\x04no", "planes.npz cannot be read"),
        ("planes.npz", b"", "planes.npz cannot be read"),
        ("result.json", b'{"schema": 1', "result.json is not valid JSON"),
        (
            "result.json",
            b'{"schema": 1}',
            "result.json is not as expected: no &#x27;identity&#x27;",
        ),
    ],
)
def test_a_damaged_run_is_listed_as_failed_with_its_reason(tmp_path, name, content, reason):
    for seed in (0, 1):
        folder = write_run(tmp_path, "mla", seed, accuracy=levels(0.5))
    cache = RunCache(tmp_path)
    read_runs([tmp_path], cache)
    cache.write()
    (folder / name).write_bytes(content)
    page = page_of(tmp_path)
    assert f"{folder.name}: unreadable" in page
    assert reason in page
    assert "50.0 (1 of 2)" in page


def test_a_cell_that_was_run_twice_affects_its_own_section_only(tmp_path):
    write_run(tmp_path / "a", "mla", 0, name="mine/twice", dataset="mfeat")
    write_run(tmp_path / "b", "mla", 0, name="mine/twice", dataset="mfeat", lr=0.2)
    write_run(tmp_path / "c", "mla", 0, accuracy=levels(0.5123))
    page = page_of(tmp_path)
    twice = section_of(page, "mine/twice")
    assert 'role="alert"><strong>mfeat mla seed 0 has two finished runs' in twice
    assert twice.count('<th scope="row">') == 2  # the plain table: both runs
    assert "51.2 (1)" in section_of(page, "table1/openmoji")


def test_an_experiment_that_does_not_fit_its_kind_has_the_plain_table(tmp_path):
    write_run(tmp_path, "mla", 0, name="table2/foo", accuracy=levels(0.5123))
    section = section_of(page_of(tmp_path), "table2/foo")
    assert "Table 2 needs runs with missing modalities" in section
    assert "51.2 (1)" in section


def test_each_experiment_without_a_kind_is_a_section_and_no_empty_file_is_written(tmp_path):
    names = ("claims/hgm/openmoji", "claims/tuning/openmoji")
    for name, level in zip(names, (0.5123, 0.5345), strict=True):
        write_run(tmp_path, "mla", 0, name=name, ablation="no_hgm")
        options = {"overrides": {"method.projection": "owm"}, "accuracy": levels(level)}
        write_run(tmp_path, "mla", 0, name=name, **options)
    page = page_of(tmp_path)
    assert len(re.findall("data-section>", page)) == 2
    for name, own, other in zip(names, ("51.2", "53.5"), ("53.5", "51.2"), strict=True):
        section = re.sub(r"<svg.*?</svg>", "", section_of(page, name), flags=re.DOTALL)
        assert section.count("<h4>Learning curves</h4>") == 1
        assert "Test accuracy in percent" in section
        assert own in section
        assert other not in section
        assert 'role="alert"' not in section  # without a kind there is nothing to warn of
    files = [
        path for path in (tmp_path / "out").iterdir() if path.suffix in (".md", ".csv", ".tex")
    ]
    tables = [path for path in files if not path.name.endswith("-verdict.md")]
    assert all(len(path.read_text().splitlines()) > 1 for path in tables)
    assert len(files) - len(tables) == 2  # a verdict in a line for each
    assert (tmp_path / "out/claims-hgm-openmoji-openmoji-curves.svg").is_file()


def test_a_figure_that_cannot_be_drawn_gives_a_warning_in_its_section(tmp_path, monkeypatch):
    write_run(tmp_path, "mla", 0)
    monkeypatch.setattr("mla_lightning.report.page.content.curves_figure", broken_figure)
    page = page_of(tmp_path)
    assert "table1-openmoji-openmoji-curves cannot be drawn: ValueError: no" in page


def broken_figure(*_):
    raise ValueError("no")


def test_the_second_page_draws_only_figures_that_changed(tmp_path, monkeypatch):
    for name in ("table1/openmoji", "mine/openmoji"):
        folder = write_run(tmp_path, "mla", 0, name=name)
        write_json(folder / "diagnostics.json", diagnosed())
    page = page_of(tmp_path)
    saved, read = [], []
    save = figure_cache.save
    monkeypatch.setattr(
        figure_cache, "save", lambda f, stem: saved.append(stem.name) or save(f, stem)
    )
    monkeypatch.setattr(
        "mla_lightning.report.page.content.read_diagnostics", lambda block: read.append(block)
    )
    assert page_of(tmp_path) == page
    assert saved == read == []
    monkeypatch.setattr("mla_lightning.report.page.content.read_diagnostics", read_diagnostics)
    write_json(folder / "diagnostics.json", diagnosed(temperature=2.5))
    assert "2.500" in page_of(tmp_path)
    assert saved
    assert all(stem.startswith("mine-openmoji") for stem in saved)
    (tmp_path / "out" / "table1-openmoji-openmoji-curves.pdf").unlink()
    saved.clear()
    page_of(tmp_path)
    assert saved == ["table1-openmoji-openmoji-curves"]


def test_a_damaged_list_of_figures_counts_as_empty(tmp_path):
    write_run(tmp_path, "mla", 0)
    page = page_of(tmp_path)
    (tmp_path / "out" / DRAWN).write_text('["x"]')
    assert page_of(tmp_path) == page
    assert json.loads((tmp_path / "out" / DRAWN).read_text())
