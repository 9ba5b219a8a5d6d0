"""The page of all runs: everything is in it, nothing is fetched, and a browser draws it."""

import csv
import itertools
import json
import re
import shutil
import subprocess
from html import escape
from html.parser import HTMLParser

import pytest

from mla_lightning.cli.main import main
from mla_lightning.report.figures.cache import Drawing
from mla_lightning.report.figures.panels import panels
from mla_lightning.report.page.html import figure_html

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("chrome")
SIZE = ["data.num_train=96", "data.num_val=40", "data.num_test=40", "trainer.max_epochs=3"]
VOID = {"meta", "link", "input", "img", "br", "hr"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A sweep with a failed run, its page, and where they are."""
    root = tmp_path_factory.mktemp("page")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        grid = ["method=mla,concat,late_fusion,unimodal", "seed=0"]
        words = ["data=synthetic", *SIZE, "name=table1/synthetic", "diagnostics=full"]
        assert main(["train", "-m", *words, *grid]) == 0
        bad = [*words, "method=mla", "seed=1", "optimizer.lr=1e30"]
        assert main(["train", *bad]) != 0
        assert main(["report", "page", "runs"]) == 0
    return root


@pytest.fixture(scope="module")
def page(folder):
    return (folder / "runs" / "report" / "page.html").read_text()


class Reader(HTMLParser):
    """Collects tags, ids and links, and checks that what opens closes."""

    def __init__(self):
        super().__init__()
        self.open, self.ids, self.links, self.tags = [], [], [], []

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.tags.append((tag, found))
        self.ids += [found["id"]] if "id" in found else []
        self.links += [found[k] for k in ("href", "src", "xlink:href") if k in found]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_it_is_whole_and_fetches_nothing(page):
    reader = Reader()
    reader.feed(page)
    assert reader.open == []
    assert len(set(reader.ids)) == len(reader.ids)
    assert all(link.startswith(("#", "data:")) for link in reader.links)
    known = {f"#{name}" for name in reader.ids}
    assert {link for link in reader.links if link.startswith("#")} <= known
    assert "://" not in re.sub(r'xmlns(:\w+)?="[^"]+"', "", page)


def test_every_kind_of_figure_is_drawn_and_says_how_to_read_it(page):
    for kind in panels():
        assert page.count(f"<h3>{escape(kind.title)}</h3>") == 1, kind.slug
        assert page.count(f"<figcaption>{escape(kind.reading)}</figcaption>") == 1
    reader = Reader()
    reader.feed(page)
    drawn = [found for tag, found in reader.tags if tag == "svg"]
    assert len(drawn) >= len(panels()) + 2
    assert all(found["role"] == "img" and len(found["aria-label"]) > 20 for found in drawn)


def test_columns_can_be_chosen_and_are_named_on_hover(page):
    for name in ("MLA", "Concat", "Late Fusion", "Unimodal"):
        assert f'<input type="checkbox" checked value="{name}">' in page
        assert f'<g data-column-name="{name}"><title>{name}</title>' in page


def test_values_show_on_hover_and_numbers_stand_below_each_figure(page):
    assert re.search(r"<title>MLA: [0-9.e+-]+ at 3(, highest [^<]+)?</title>", page)
    assert re.search(r"<title>Concat: audio [0-9.e-]+</title>", page)  # a part of a bar
    assert re.search(r"<title>MLA: [0-9.]+, seeds: [0-9.]+</title>", page)  # in the table's figure
    figures = re.findall(r"<figure .*?</figure>", page, re.DOTALL)
    clouds = {"Features in a plane (PCA)", "Features in a plane (t-SNE)"}
    for figure in figures:
        (title,) = re.findall(r"<h3>(.*?)</h3>", figure)
        is_told = "<details><summary>Numbers</summary>" in figure
        assert is_told != (title in clouds or title.startswith("Table 1")), title
    curves = next(figure for figure in figures if "Learning curves" in figure)
    assert 'aria-label="Learning curves. synthetic. Validation' in curves
    numbers = curves.partition("<details>")[2]
    assert numbers.count('<th scope="row">MLA</th>') == 3  # audio, visual, multi


def test_numbers_below_a_figure_are_the_runs_own(folder, page):
    curves = page[page.index("<h3>Learning curves</h3>") :].partition("</figure>")[0]
    cells = re.findall(r'<th scope="row">Concat</th>(.*?)</tr>', curves)
    (run,) = (folder / "runs" / "table1").rglob("*concat*seed0*/metrics.csv")
    with run.open() as file:
        own = [f"{100 * float(row['val/acc']):.4g}" for row in csv.DictReader(file)]
    assert own in [re.findall(r"<td[^>]*>(.*?)</td>", row) for row in cells]


def test_what_was_run_names_methods_and_tells_what_is_common_once(page):
    what = page[page.index('<section id="what">') :].partition("</section>")[0]
    assert "Concat, Late Fusion, MLA, Unimodal" in what
    assert "All runs: code " in what
    assert "trainer.max_epochs=3" in what


def test_headings_are_nested(page):
    levels = [int(level) for level in re.findall(r"<h([1-6])[ >]", page)]
    assert levels[0] == 1
    assert all(b - a <= 1 for a, b in itertools.pairwise(levels))
    part = page[page.index("data-part>") :].partition("</section>")[0]
    assert part.count("<h2") == 1


def test_failures_and_commands_are_there(page):
    again = page[page.index('<section id="again">') :]
    assert "mla train -m data=synthetic data.num_train=96" in again
    assert "mla report page runs --output runs/report" in again
    assert "loss is nan" in page or "loss is inf" in page
    assert "retry: mla train" in page
    assert "Differences in test accuracy (multi)" in page
    assert "temperature scaling" in page


def test_figures_lie_beside_it_for_papers(folder):
    files = {path.name for path in (folder / "runs" / "report").iterdir()}
    for ending in ("svg", "png", "pdf"):
        assert f"table1-synthetic-synthetic-forgetting.{ending}" in files
    for ending in ("md", "tex", "csv"):
        for stem in ("", "-synthetic-calibration"):
            assert f"table1-synthetic{stem}.{ending}" in files
        assert {f"what.{ending}", f"runs.{ending}"} <= files


def test_names_cannot_break_out():
    svg = '<?xml version="1.0"?><svg width="1"><g id="column:a&lt;b&quot;"><path id="p"/></g></svg>'
    found = figure_html(Drawing(svg, None), "<script>", 'say "x"', iter([3]))
    assert "<script>" not in found
    assert 'data-column-name="a&lt;b&quot;"' in found
    assert 'id="figure-3-p"' in found


def test_runs_without_diagnostics_say_how_to_have_them(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    assert main(["train", "data=synthetic", *SIZE, "method=concat"]) == 0
    assert main(["report", "runs/train"]) == 0
    assert "Open runs/train/report/page.html" in capfd.readouterr().out
    text = (tmp_path / "runs/train/report/page.html").read_text()
    assert "Train with diagnostics=epoch" in text
    assert "Forgetting of the shared head" not in text


def test_a_kind_needs_runs(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    assert main(["report", "table1"]) == 2
    assert "mla report table1 needs folders of runs" in capfd.readouterr().err


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here; Debian: apt install chromium")
def test_a_browser_draws_it_without_a_word_of_complaint(folder, tmp_path):
    page = folder / "runs" / "report" / "page.html"
    probe = """<script>addEventListener("load", () => {
      const bad = [...document.querySelectorAll("figure svg")].filter(
        svg => svg.getBoundingClientRect().width < 50 || svg.querySelectorAll("path").length < 5);
      const box = document.querySelector("fieldset input[value=mla]");
      box.click();
      const away = document.querySelectorAll("[data-column-name=mla].away").length;
      const rest = document.querySelectorAll("[data-column-name=concat].away").length;
      document.title = JSON.stringify({bad: bad.length, away: away, rest: rest,
        figures: document.querySelectorAll("figure svg").length});
    });</script>"""
    copy = tmp_path / "page.html"
    copy.write_text(page.read_text().replace("</body>", f"{probe}</body>"))
    command = [
        CHROMIUM,
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--enable-logging=stderr",
    ]
    command += ["--v=0", "--virtual-time-budget=5000", "--dump-dom", copy.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    told = re.search(r"<title>(\{.*?\})</title>", done.stdout)
    assert told is not None
    found = json.loads(told[1])
    assert found["bad"] == 0
    assert found["figures"] >= len(panels()) + 2
    assert found["away"] >= 5
    assert found["rest"] == 0
    assert "CONSOLE" not in done.stderr, done.stderr
