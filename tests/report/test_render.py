import base64
import csv
import io
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from tests.report.synthetic_runs import write_run, write_table1

from mla_lightning.errors import ConfigError, RunError
from mla_lightning.report.document import render
from mla_lightning.report.document.html import to_html
from mla_lightning.report.document.table import Cell, Report, Row, Section, Table
from mla_lightning.report.main import default_output, write_custom_report, write_report

NASTY = "<script>|[red]a_b*c`d\\e$f%g&h#i{j}~k^l\n\x1b[31mm"


def small(text=NASTY):
    cells = (Cell("60.0 ± 1.0 (3)", 1), Cell("59.0 ± 1.0 (3)", 2), Cell(text))
    rows = (Row(text, cells), Row("[x]", cells))
    table = Table(
        "", f"Title {text}", text, ("a", "b", text), (Section(text, rows, text),), (text,)
    )
    return Report("kind", text, (table,), (text,), (text,), texts={"x.yaml": "a: 1\n"})


def printed(report, width=100):
    out = io.StringIO()
    render.to_terminal(report, Console(file=out, width=width))
    return out.getvalue()


def check_latex(text):
    """Check balanced braces, nested environments and the number of cells of each row."""
    text = "\n".join(re.sub(r"(?<!\\)%.*", "", line) for line in text.splitlines())
    depth = 0
    for brace in re.findall(r"(?<!\\)[{}]", text.replace("\\\\", "")):
        depth += 1 if brace == "{" else -1
        assert depth >= 0
    assert depth == 0
    open_environments = []
    for command, name in re.findall(r"\\(begin|end)\{([a-z*]+)\}", text):
        if command == "begin":
            open_environments.append(name)
        else:
            assert open_environments.pop() == name
    assert open_environments == []
    for columns, body in re.findall(
        r"\\begin\{tabular\}\{(\w+)\}(.*?)\\end\{tabular\}", text, re.DOTALL
    ):
        for line in body.splitlines():
            if line.endswith("\\\\") and "multicolumn" not in line:
                assert len(re.findall(r"(?<!\\)&", line)) == len(columns) - 1
    for char in "#$":
        unescaped = re.sub(r"(?<!\\)\$(\\pm|-|\\times)\$", "", text)
        assert not re.search(rf"(?<!\\)\{char}", unescaped)


def test_latex_is_balanced_and_escaped():
    text = render.to_latex(small())
    check_latex(text)
    assert r"\textbf{60.0 $\pm$ 1.0}" in text
    assert r"\underline{59.0 $\pm$ 1.0}" in text
    assert "\n{[}x{]} &" in text  # else the line break before takes it as its argument
    tabulars = text.count(r"\begin{tabular}")
    assert text.count(r"\toprule") == text.count(r"\bottomrule") == tabulars


def latex_of(*texts, columns=None):
    columns = columns or tuple(f"method{number}" for number in range(len(texts)))
    rows = (Row("multi", tuple(map(Cell, texts))),)
    note = "Mean ± sample standard deviation over seeds (number of seeds)."
    table = Table("more", "Accuracy", "", columns, (Section("openmoji", rows),), (note,))
    return render.to_latex(Report("my_kind", "r", (table,)))


def test_latex_states_equal_numbers_of_seeds_once_and_different_ones_in_each_cell():
    equal = latex_of("61.0 ± 1.4 (3)", "60.0 ± 0.1 (3)", "failed")
    assert r"\caption{Accuracy, over 3 seeds.}" in equal
    assert "(3)" not in equal
    assert "(number of seeds)" not in equal
    for other in ("60.0 ± 0.1 (2)", "60.0 ± 0.1 (2 of 3)", "60.0 (3)"):
        mixed = latex_of("61.0 ± 1.4 (3)", other)
        assert r"\caption{Accuracy.}" in mixed
        assert r"61.0 $\pm$ 1.4 (3)" in mixed
        assert "(number of seeds)" in mixed
        assert other.replace("±", r"$\pm$") in mixed


def test_pages_state_equal_numbers_of_seeds_once_and_csv_keeps_them_in_each_cell():
    cells = (Cell("61.0 ± 1.4 (3)"), Cell("60.0 ± 0.1 (3)"), Cell("failed"))
    rows = (Row("multi", cells),)
    table = Table("", "Accuracy", "", ("a", "b", "c"), (Section("", rows),))
    report = Report("k", "r", (table,))
    for text in (to_html(report, {}), render.to_markdown(report), printed(report)):
        assert "Accuracy, over 3 seeds" in text
        assert "(3)" not in text
    assert "61.0 ± 1.4 (3)" in render.to_csv(table)


def test_latex_is_never_shrunk_but_divided_into_parts_that_fit_and_hold_every_cell_once():
    texts = [f"{number}.{number} ± 1.0 (3)" for number in range(10, 40)]
    wide = latex_of(*texts)
    check_latex(wide)
    assert "resizebox" not in wide
    assert r"\begin{table*}" in wide
    assert wide.count(r"\begin{tabular}") == wide.count("\nmulti &") > 1
    assert all(wide.count(f"{number}.{number} $") == 1 for number in range(10, 40))
    printed = wide.replace(r"$\pm$", "±").replace(" & ", "  ").splitlines()
    assert max(len(line) for line in printed if line.startswith("multi")) <= 114
    assert r"\begin{table}" in latex_of("1.0 ± 0.1 (3)", "2.0 ± 0.1 (3)")


def test_latex_divides_long_tables_between_pages_and_holds_every_row_once():
    names = [f"method{number}" for number in range(130)]
    sections = [
        Section(f"set{k}", tuple(Row(name, (Cell(f"{k}.{n}"),)) for n, name in enumerate(part)))
        for k, part in enumerate((names[:100], names[100:102], names[102:]))
    ]
    table = Table("", "Accuracy", "", ("score",), tuple(sections), ("A note.",))
    text = render.to_latex(Report("k", "r", (table,)))
    check_latex(text)
    pages = text.split(r"\end{table}")[:-1]
    assert len(pages) == 3
    assert all(page.count("&") <= 54 for page in pages)
    assert [text.count(f"{name} &") for name in names] == [1] * 130
    assert text.count("A note.") == 1
    assert r"\caption{Accuracy, part 2.}" in pages[1]
    assert r"\label{tab:k}" in pages[0]
    assert r"\label{tab:k-2}" in pages[1]


def test_latex_breaks_long_cells_into_lines_and_labels_every_table():
    text = latex_of("a sentence " * 12, "1.0")
    assert r"\begin{tabular}{lLr}" in text
    assert r"\newcolumntype{L}" in text
    assert r"\label{tab:my-kind-more}" in text


@given(st.text(max_size=30))
def test_any_name_survives_latex_and_markdown(text):
    check_latex(render.to_latex(small(text)))
    rows = [line for line in render.to_markdown(small(text)).splitlines() if line.startswith("| ")]
    assert all(len(re.findall(r"(?<!\\)\|", row)) == 5 for row in rows)


def test_markdown_marks_and_escapes():
    text = render.to_markdown(small())
    assert "**60.0 ± 1.0**" in text
    assert "<u>59.0 ± 1.0</u>" in text
    assert ", over 3 seeds" in text
    assert "<script>" not in text
    assert r"&lt;script&gt;\|\[red\]a_b\*c\`d" in text
    assert "\x1b" not in text
    assert render.escape_markdown("late_fusion _x_") == r"late_fusion \_x\_"


def test_terminal_prints_names_verbatim_without_control_characters():
    text = printed(small(), width=200)
    assert "<script>|[red]a_b" in text
    assert "\x1b" not in text


def test_terminal_styles_best_and_second():
    out = io.StringIO()
    console = Console(file=out, width=100, force_terminal=True, color_system="standard")
    render.to_terminal(small("x"), console)
    assert "\x1b[1m60.0 ± 1.0" in out.getvalue()
    assert "\x1b[4m59.0 ± 1.0" in out.getvalue()


def test_a_table_wider_than_the_terminal_is_split_between_columns():
    cells = tuple(Cell(f"{number}.0 ± 1.0 ({number})") for number in range(10, 22))
    columns = tuple(f"method{number}" for number in range(10, 22))
    table = Table("", "t", "", columns, (Section("openmoji", (Row("multi", cells),)),))
    lines = printed(Report("k", "r", (table,)), width=80).splitlines()
    assert all(len(line) <= 80 for line in lines)
    assert sum(line.startswith("  multi") for line in lines) == 3
    assert all(cell.text in "\n".join(lines) for cell in cells)


def test_columns_that_are_empty_for_a_data_set_are_not_printed():
    rows = (Row("multi", (Cell("1.0"), Cell("–"))),)
    table = Table("", "t", "", ("sum", "extra"), (Section("cremad", rows),))
    assert "extra" not in printed(Report("k", "r", (table,)))


def test_csv_of_a_table_is_read_back():
    rows = list(csv.reader(io.StringIO(render.to_csv(small().tables[0]))))
    assert rows[0][2:] == ["a", "b", NASTY]
    assert rows[1][2:] == ["60.0 ± 1.0 (3)", "59.0 ± 1.0 (3)", NASTY]


def files_of(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_report_writes_its_files_and_prints_where(tmp_path, capsys):
    root = write_table1(tmp_path / "runs")
    assert write_report("table1", [root]) == 0
    out = capsys.readouterr().out
    assert set(files_of(root / "report")) == {
        "results.csv",
        "table1.md",
        "table1.tex",
        "table1.csv",
        "table1-comparisons.csv",
        "table1-laziness.csv",
        "table1-measures.csv",
        "table1-openmoji.svg",
        "table1-openmoji.png",
        "table1-openmoji.pdf",
        "table1.html",
        "verdict.md",
    }
    assert "table1.html in a browser." in out
    assert "kinetics_sounds  not run: mla data prepare kinetics_sounds raw=DIR, then make" in out
    assert "54.14" in out
    check_latex((root / "report" / "table1.tex").read_text())
    assert "![table1-openmoji.svg](table1-openmoji.svg)" in (root / "report/table1.md").read_text()


def test_table_from_the_csv_equals_the_table_from_the_folders(tmp_path, capsys):
    root = write_table1(tmp_path / "runs", methods=("concat", "mla", "unimodal"))
    write_run(root, "film", 0, state="failed")
    write_report("table1", [root], tmp_path / "first")
    printed_first = capsys.readouterr().out.partition(" files in ")[0]
    write_report("table1", [tmp_path / "first" / "results.csv"], tmp_path / "second")
    printed_second = capsys.readouterr().out.partition(" files in ")[0]
    assert files_of(tmp_path / "first") == files_of(tmp_path / "second")
    assert printed_first == printed_second
    write_report("table1", [tmp_path / "first"], tmp_path / "first")  # in place
    assert files_of(tmp_path / "first") == files_of(tmp_path / "second")


class PageChecker(HTMLParser):
    """Collect tags, attributes and text, and check that tags are nested."""

    VOID = ("meta", "img", "input", "link")

    def __init__(self):
        super().__init__()
        self.open, self.tags, self.words = [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


def test_the_page_is_complete_and_loads_nothing(tmp_path):
    root = write_table1(tmp_path / "runs")
    write_report("table1", [root])
    text = (root / "report" / "table1.html").read_text()
    page = PageChecker()
    page.feed(text)
    assert not page.open
    words = " ".join(page.words)
    for cell in ("Table 1: each modality", "Late Fusion", "Laziness gap", "mla report table1"):
        assert cell in words
    images = [attrs for tag, attrs in page.tags if tag == "img"]
    assert len(images) == 1
    assert images[0]["alt"]
    svg = base64.b64decode(images[0]["src"].removeprefix("data:image/svg+xml;base64,"))
    assert svg == (root / "report" / "table1-openmoji.svg").read_bytes()
    for tag, attrs in page.tags:
        for address in (attrs.get("src", ""), attrs.get("href", "")):
            assert not address or address.startswith(("data:", "#")), (tag, address)
    targets = {attrs["id"] for _, attrs in page.tags if "id" in attrs}
    links = {attrs["href"][1:] for tag, attrs in page.tags if tag == "a"}
    assert links <= targets
    boxes = [attrs for tag, attrs in page.tags if tag == "input"]
    assert {attrs["data-table"] for attrs in boxes} <= targets
    assert "default-src 'none'" in text


def test_the_page_escapes_names():
    page = PageChecker()
    page.feed(to_html(small(), {"a<b": "<svg/>"}))
    assert not page.open
    assert {tag for tag, _ in page.tags} <= {
        *("html", "head", "meta", "title", "style", "body", "a", "h1", "main", "p", "strong"),
        *("nav", "ul", "li", "h2", "figure", "img", "figcaption", "div", "table", "thead", "tr"),
        *("th", "td", "tbody", "pre", "script", "u", "span", "link"),
    }
    assert [dict(more)["href"] for tag, more in page.tags if tag == "link"] == ["data:,"]
    assert " ".join(page.words).count(NASTY.split()[0]) >= 6


@pytest.mark.parametrize("kind", ["table3", "tuning", "runs"])
def test_other_kinds_write_and_print(tmp_path, capsys, kind):
    for seed in (0, 1):
        for lr in (0.1, 0.2):
            write_run(tmp_path / "r", "mla", seed, lr=lr, overrides={"optimizer.lr": lr})
    assert write_report(kind, [tmp_path / "r"], tmp_path / "out") == 0
    assert f"{kind}.md" in files_of(tmp_path / "out")
    check_latex((tmp_path / "out" / f"{kind}.tex").read_text())
    assert "mla" in capsys.readouterr().out


def test_a_custom_function_makes_a_report_with_all_files(tmp_path, capsys):
    write_run(tmp_path / "runs", "mla")

    def make(runs):
        assert [run.method for run in runs] == ["mla"]
        return replace(small("x"), command="python my_report.py results.csv")

    assert write_custom_report(make, [tmp_path / "runs"]) == 0
    files = files_of(tmp_path / "runs" / "report")
    assert set(files) == {"results.csv", "kind.md", "kind.tex", "kind.csv", "kind.html", "x.yaml"}
    assert "python my_report.py results.csv" in files["kind.html"].decode()
    assert "mla report" not in files["kind.html"].decode()
    assert " files in " in capsys.readouterr().out


def test_unknown_kind_and_unwritable_output(tmp_path):
    write_run(tmp_path / "runs")
    with pytest.raises(ConfigError, match="Did you mean 'table1'"):
        write_report("tabel1", [tmp_path / "runs"])
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="Cannot write the report"):
        write_report("runs", [tmp_path / "runs"], tmp_path / "file")


def test_default_output_is_beside_the_runs(tmp_path, monkeypatch):
    first = write_run(tmp_path / "runs" / "a")
    second = write_run(tmp_path / "runs" / "b", seed=1)
    (tmp_path / "runs" / "results.csv").write_text("")
    assert default_output([tmp_path / "runs"]) == tmp_path / "runs" / "report"
    assert default_output([first]) == tmp_path / "runs" / "a" / "report"
    assert default_output([first, second]) == tmp_path / "runs" / "report"
    assert default_output([tmp_path / "runs" / "results.csv"]) == tmp_path / "runs" / "report"
    monkeypatch.chdir(tmp_path)
    assert str(default_output([tmp_path / "runs"])) == "runs/report"
