"""The page of all runs: it is complete, loads nothing and is drawn by a browser."""

import csv
import itertools
import json
import re
import shutil
import subprocess
from html import escape
from html.parser import HTMLParser

import pytest
from tests.report.paper_checks import fonts_of, sizes_of, width_of

from mla_lightning.cli.main import main
from mla_lightning.report.figures.cache import Drawing
from mla_lightning.report.figures.panels import panels
from mla_lightning.report.page.html import figure_values

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("chrome")
SIZE = ["data.num_train=96", "data.num_val=40", "data.num_test=40", "trainer.max_epochs=3"]
VOID = {"meta", "link", "input", "img", "br", "hr"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Folder with a sweep, one of whose runs failed, and its page."""
    root = tmp_path_factory.mktemp("page")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        grid = ["method=mla,concat,late_fusion,unimodal", "seed=0"]
        settings = ["data=synthetic", *SIZE, "name=table1/synthetic", "diagnostics=full"]
        assert main(["train", "-m", *settings, *grid]) == 0
        bad = [*settings, "method=mla", "seed=1", "optimizer.lr=1e30"]
        assert main(["train", *bad]) != 0
        assert main(["report", "page", "runs"]) == 0
    return root


@pytest.fixture(scope="module")
def page(folder):
    return (folder / "runs" / "report" / "page.html").read_text()


class Reader(HTMLParser):
    """Collect tags, ids and links, and check that tags are nested."""

    def __init__(self):
        super().__init__()
        self.open, self.ids, self.links, self.tags = [], [], [], []

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.tags.append((tag, attributes))
        self.ids += [attributes["id"]] if "id" in attributes else []
        self.links += [attributes[k] for k in ("href", "src", "xlink:href") if k in attributes]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_is_well_formed_and_loads_nothing(page):
    reader = Reader()
    reader.feed(page)
    assert reader.open == []
    assert len(set(reader.ids)) == len(reader.ids)
    assert all(link.startswith(("#", "data:")) for link in reader.links)
    known = {f"#{name}" for name in reader.ids}
    assert {link for link in reader.links if link.startswith("#")} <= known
    assert "://" not in re.sub(r'xmlns(:\w+)?="[^"]+"', "", page)


def panels_of_classes():
    """Return the panels that a page of classes with diagnostics=full has."""
    found = [panel for panel in panels() if panel.for_task("classification") is not None]
    return [panel for panel in found if panel.slug != "umap"]


def test_every_panel_is_drawn_with_its_caption(page):
    assert "(UMAP)" not in page
    for panel in panels_of_classes():
        assert page.count(f"<h4>{escape(panel.title)}</h4>") == 1, panel.slug
        assert page.count(f"<figcaption>{escape(panel.reading)}</figcaption>") == 1
    reader = Reader()
    reader.feed(page)
    drawings = [attributes for tag, attributes in reader.tags if tag == "svg"]
    assert len(drawings) >= len(panels_of_classes()) + 2
    assert all(svg["role"] == "img" and len(svg["aria-label"]) > 20 for svg in drawings)


def test_columns_have_checkboxes_and_tooltips(page):
    for name in ("MLA", "Concat", "Late Fusion", "Unimodal"):
        assert f'<input type="checkbox" checked value="{name}">' in page
        assert f'<g data-column-name="{name}"><title>{name}</title>' in page


def test_tooltips_show_values_and_each_figure_has_a_table_of_numbers(page):
    assert re.search(r"<title>MLA: [0-9.e+-]+ at 3(, maximum [^<]+)?</title>", page)
    assert re.search(r"<title>Concat: audio [0-9.e-]+</title>", page)  # a segment of a bar
    assert re.search(r"<title>MLA: [0-9.]+, seeds: [0-9.]+</title>", page)  # in the table's figure
    figures = re.findall(r"<figure .*?</figure>", page, re.DOTALL)
    scatter_plots = {"Features in two dimensions (PCA)", "Features in two dimensions (t-SNE)"}
    for figure in figures:
        (title,) = re.findall(r"<h[34]>(.*?)</h[34]>", figure)
        has_numbers = "<details><summary>Numbers</summary>" in figure
        assert has_numbers != (title in scatter_plots or title.startswith("Table 1")), title
    curves = next(figure for figure in figures if "Learning curves" in figure)
    assert 'aria-label="Learning curves. synthetic. Validation' in curves
    numbers = curves.partition("<details>")[2]
    assert numbers.count('<th scope="row">MLA</th>') == 3  # audio, visual, multi


def test_numbers_below_a_figure_are_those_of_the_run(folder, page):
    curves = page[page.index("<h4>Learning curves</h4>") :].partition("</figure>")[0]
    cells = re.findall(r'<th scope="row">Concat</th>(.*?)</tr>', curves)
    (run,) = (folder / "runs" / "table1").rglob("*concat*seed0*/metrics.csv")
    with run.open() as file:
        values = [f"{100 * float(row['val/acc']):.4g}" for row in csv.DictReader(file)]
    assert values in [re.findall(r"<td[^>]*>(.*?)</td>", row) for row in cells]


def test_what_was_run_lists_methods_and_common_settings_once(page):
    what = page[page.index('<section id="what">') :].partition("</section>")[0]
    assert "Concat, Late Fusion, MLA, Unimodal" in what
    assert "All runs: code " in what
    assert "trainer.max_epochs=3" in what


def test_headings_are_nested(page):
    levels = [int(level) for level in re.findall(r"<h([1-6])[ >]", page)]
    assert levels[0] == 1
    assert all(b - a <= 1 for a, b in itertools.pairwise(levels))
    section = page[page.index("data-section>") :].partition("</section>")[0]
    assert section.count("<h2") == 1


def test_failures_and_commands_are_shown(page):
    commands = page[page.index('<section id="again">') :]
    assert "mla train -m data=synthetic data.num_train=96" in commands
    assert "mla report page runs --output runs/report" in commands
    assert "loss is nan" in page or "loss is inf" in page
    assert "retry: mla train" in page
    assert "Differences in test accuracy (multi)" in page
    assert "temperature scaling" in page


def test_figures_and_tables_are_written_beside_the_page(folder):
    files = {path.name for path in (folder / "runs" / "report").iterdir()}
    for ending in ("svg", "png", "pdf"):
        assert f"table1-synthetic-synthetic-forgetting.{ending}" in files
    for ending in ("md", "tex", "csv"):
        for stem in ("", "-synthetic-calibration"):
            assert f"table1-synthetic{stem}.{ending}" in files
        assert {f"what.{ending}", f"runs.{ending}"} <= files


def test_every_figure_is_written_for_a_column_or_two_of_a_paper(folder):
    files = sorted((folder / "runs" / "report").glob("*.pdf"))
    assert len(files) >= len(panels_of_classes())
    for path in files:
        assert width_of(path) in (pytest.approx(3.3), pytest.approx(6.8)), path.name
        assert sizes_of(path) == {8}, path.name
        assert fonts_of(path) == ({"Type0", "CIDFontType2"}, True), path.name


def test_the_caption_says_what_the_figure_leaves_out_and_the_page_enlarges_it():
    svg = '<?xml version="1.0"?><svg height="72pt" viewBox="0 0 489.6 72" width="489.6pt"></svg>'
    drawing = Drawing(svg, None, "Left out for lack of room: <QMF>.")
    values = figure_values(drawing, "Cost", "A dot per method.", iter([0]))
    assert values["reading"] == "A dot per method. Left out for lack of room: <QMF>."
    text = str(values["svg"])
    assert "A dot per method. Left out for lack of room: &lt;QMF&gt;." in text
    assert 'width="914"' in text
    assert 'height="134"' in text
    assert "min-width: 608px" in text


def test_names_are_escaped():
    svg = '<?xml version="1.0"?><svg width="1"><g id="column:a&lt;b&quot;"><path id="p"/></g></svg>'
    text = str(figure_values(Drawing(svg, None), "<script>", 'say "x"', iter([3]))["svg"])
    assert "<script>" not in text
    assert 'data-column-name="a&lt;b&quot;"' in text
    assert 'id="figure-3-p"' in text


def test_runs_without_diagnostics_name_the_option_that_records_them(tmp_path, monkeypatch, capfd):
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
def test_a_browser_draws_the_page_without_console_messages(folder, tmp_path):
    page = folder / "runs" / "report" / "page.html"
    probe = """<script>addEventListener("load", () => {
      for (const folded of document.querySelectorAll("details")) folded.open = true;
      const bad = [...document.querySelectorAll("figure svg")].filter(
        svg => svg.getBoundingClientRect().width < 50 || svg.querySelectorAll("path").length < 5);
      const box = document.querySelector("fieldset input[value=MLA]");
      box.click();
      const dimmed = document.querySelectorAll("[data-column-name=MLA].dimmed").length;
      const rest = document.querySelectorAll("[data-column-name=Concat].dimmed").length;
      const enlarged = document.querySelector("figure svg");
      const home = enlarged.parentElement;
      const extent = () => enlarged.viewBox.baseVal.width;
      const whole = extent();
      document.querySelector(".enlarge").click();
      const stage = document.querySelector("dialog[open] div");
      const isMoved = stage.contains(enlarged);
      stage.dispatchEvent(new WheelEvent("wheel", {deltaY: -1, cancelable: true}));
      const zoomed = extent() / whole;
      document.querySelector("dialog").dispatchEvent(new Event("close"));
      document.title = JSON.stringify({bad: bad.length, dimmed: dimmed, rest: rest,
        zoom: [isMoved, zoomed, extent() / whole, home.contains(enlarged)],
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
    title = re.search(r"<title>(\{.*?\})</title>", done.stdout)
    assert title is not None
    counts = json.loads(title[1])
    assert counts["bad"] == 0
    assert counts["figures"] >= len(panels_of_classes()) + 2
    assert counts["dimmed"] >= 5
    assert counts["rest"] == 0
    is_moved, zoomed, after, is_back = counts["zoom"]
    assert (is_moved, is_back) == (True, True)
    assert zoomed == pytest.approx(0.8)
    assert after == pytest.approx(1)
    assert "CONSOLE" not in done.stderr, done.stderr
