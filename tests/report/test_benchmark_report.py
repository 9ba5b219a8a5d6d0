"""The benchmark: verdicts against references, tables over data sets, what could be seen."""

import random
import re
import shutil
from pathlib import Path

import pytest
from tests.report.paper_checks import check
from tests.report.synthetic_runs import change, write_run

from mla_lightning.errors import RunError
from mla_lightning.report.main import write_report
from mla_lightning.report.read.block import blocks
from mla_lightning.report.read.run_folders import read_runs
from mla_lightning.report.read.significance import Comparison, compare, holm
from mla_lightning.report.tables.asked import Answer, answers, best_single, is_winner
from mla_lightning.report.tables.benchmark import benchmark
from mla_lightning.report.tables.levers import BALANCING, LEVERS

SEEDS = range(6)
EMA = {"overrides": {"trainer.ema": "0.99"}}


def write(root, method, level, *, dataset="openmoji", spread=0.4, single=(50, 40), **options):
    """Write a run per seed, with accuracies in percent."""
    rng = random.Random(f"{method}{dataset}")
    for seed in SEEDS:
        multi = (level + rng.gauss(0, spread)) / 100
        accuracy = {"image": single[0] / 100, "text": single[1] / 100, "multi": multi}
        write_run(root, method, seed, dataset=dataset, accuracy=accuracy, **options)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    for dataset in ("openmoji", "tuxstamps"):
        for method, level in (("concat", 60), ("mla", 66), ("ogm_ge", 55), ("qmf", 60.1)):
            write(folder, method, level, dataset=dataset)
        write(folder, "unimodal", 58, dataset=dataset, single=(57, 44))
    return folder


@pytest.fixture
def root(written, tmp_path):
    shutil.copytree(written, tmp_path, dirs_exist_ok=True)
    return tmp_path


def table_of(report, slug):
    return next(table for table in report.tables if table.slug == slug)


def cells(table, label):
    rows = {row.label: row for section in table.sections for row in section.rows}
    return [cell.text for cell in rows[label].cells]


def test_a_method_that_is_better_everywhere_wins(root):
    report = benchmark(read_runs([root]))
    verdicts = table_of(report, "verdicts")
    assert verdicts.columns == ("than Concat", "than the best single modality")
    assert cells(verdicts, "MLA")[0].endswith("2 better")
    assert cells(verdicts, "OGM-GE")[0].endswith("2 worse")
    assert "equal" in cells(verdicts, "QMF")[0]
    lines = report.texts["answers.md"].splitlines()
    assert lines[0] == (
        "- Significantly better than Concat on two or more of 2 data sets and worse on none: MLA "
        "(of 3 methods)."
    )
    assert "- Significantly worse than Concat somewhere and better nowhere: OGM-GE." in lines
    assert "Compared with Concat" not in report.texts["answers.md"]


def test_the_correction_is_over_all_methods_and_sets_of_a_question(root):
    table_blocks = blocks(read_runs([root]))
    found = answers(table_blocks, "concat")
    assert len(found) == 6
    expected = []
    for block in table_blocks:
        concat = block.values(block.find("concat"))
        others = [v for v in block.variants if v.method not in ("concat", "unimodal")]
        expected += [compare(block.values(variant), concat).p for variant in others]
    assert [answer.p for answer in found] == pytest.approx(holm(expected))


def test_the_best_single_modality_is_chosen_on_validation(root):
    (block, _) = blocks(read_runs([root]))
    assert best_single(block)[0] == "image"
    report = benchmark(read_runs([root]))
    assert cells(report.tables[0], "best single modality")[0] == "57.0 (6) image"


@pytest.mark.parametrize(
    ("mean", "low", "high", "p", "verdict"),
    [
        (2.0, 0.9, 3.0, 0.01, "better"),
        (-2.0, -3.0, -0.9, 0.01, "worse"),
        (0.8, 0.6, 1.0, 0.01, "slightly better"),
        (-0.8, -1.0, -0.6, 0.01, "slightly worse"),
        (0.8, 0.6, 1.01, 0.01, "better"),
        (0.2, -0.5, 0.9, 0.6, "equal"),
        (0.2, -0.5, 1.1, 0.6, "open"),
        (3.0, 1.0, 5.0, 0.06, "open"),
    ],
)
def test_a_verdict_follows_from_interval_and_corrected_p(root, mean, low, high, p, verdict):
    (block, _) = blocks(read_runs([root]))
    comparison = Comparison((0, 1), mean, 1.0, low, high, p)
    answer = Answer(block, block.variants[0], "concat", comparison, p, margin=1.0)
    assert answer.verdict == verdict
    assert is_winner([answer, answer], 2) == (verdict == "better")
    assert not is_winner([answer], 2)
    assert is_winner([answer], 1) == (verdict == "better")


def test_what_is_worse_on_one_set_is_no_winner(root):
    write(root, "late_fusion", 66)
    write(root, "late_fusion", 50, dataset="tuxstamps")
    write(root, "late_fusion", 66, dataset="third")
    write(root, "concat", 60, dataset="third")
    report = benchmark(read_runs([root]))
    assert cells(table_of(report, "verdicts"), "Late Fusion")[0].endswith("2 better, 1 worse")
    assert "Late Fusion" not in report.texts["answers.md"].splitlines()[0]


def test_a_single_set_has_no_table_over_sets(tmp_path):
    write(tmp_path, "concat", 60)
    write(tmp_path, "mla", 66)
    write(tmp_path, "ogm_ge", 55)
    report = benchmark(read_runs([tmp_path]))
    better, worse, *_ = report.texts["answers.md"].splitlines()
    assert better == "- Significantly better than Concat: MLA (of 2 methods)."
    assert worse == "- Significantly worse than Concat: OGM-GE."
    assert "across" not in [table.slug for table in report.tables]
    assert "benchmark-ranks" not in report.figures


def test_more_seeds_see_smaller_differences(root):
    few = table_of(benchmark(read_runs([root])), "detectable")
    for seed in range(6, 24):
        for method, level in (("concat", 60), ("mla", 66), ("ogm_ge", 55), ("qmf", 60.1)):
            accuracy = {"image": 0.5, "text": 0.4, "multi": (level + random.gauss(0, 0.4)) / 100}
            write_run(root, method, seed, accuracy=accuracy)
    many = table_of(benchmark(read_runs([root])), "detectable")
    assert few.sections[0].title == "to Concat"
    first, second = (
        [cell.text for cell in table.sections[0].rows[0].cells] for table in (few, many)
    )
    sentence = f"openmoji: a true difference to Concat of {second[2]} would have been found"
    assert sentence in benchmark(read_runs([root])).texts["answers.md"]
    assert float(second[2]) < float(first[2])
    assert (first[5], second[5]) == ("6", "24")
    # the largest possible gain, of a mean with one decimal
    concat = cells(benchmark(read_runs([root])).tables[0], "Concat")[0]
    assert float(second[3]) == pytest.approx(100 - float(concat.split()[0]), abs=0.1)


def test_a_reference_near_the_end_of_the_scale_is_named(tmp_path):
    for method, level in (("concat", 99), ("mla", 99.2), ("ogm_ge", 98.5)):
        write(tmp_path, method, level)
    lines = benchmark(read_runs([tmp_path])).texts["answers.md"].splitlines()
    (line,) = [line for line in lines if "true difference" in line]
    assert re.search(r"Concat is at 9\d\.\d, so that no gain can exceed [01]\.\d\.$", line)


def test_what_is_significant_and_small_is_said_apart(tmp_path):
    for dataset in ("openmoji", "tuxstamps"):
        for method, level in (("concat", 60), ("film", 60.5), ("mla", 63)):
            write(tmp_path, method, level, dataset=dataset, spread=0.01)
    for run_dir in tmp_path.iterdir():
        change(run_dir, "result.json", num_test=50_000)  # the margin is one point
    report = benchmark(read_runs([tmp_path]))
    assert cells(table_of(report, "verdicts"), "FiLM")[0].endswith("2 slightly better")
    text = report.texts["answers.md"]
    assert (
        "- Compared with Concat, significantly, but within the margin of what matters: slightly "
        "better: FiLM (openmoji, tuxstamps)."
    ) in text
    assert text.splitlines()[0].endswith("worse on none: MLA (of 2 methods).")
    figure = report.figures["benchmark-versus-concat"]()
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels[-1] == "significant, and too small to matter"
    dots = [line for line in figure.axes[0].lines if line.get_marker() == "o"]
    assert [line.get_markerfacecolor() == "white" for line in dots].count(True) == 1


def test_what_is_better_on_one_set_alone_is_named(root):
    write(root, "late_fusion", 66)
    write(root, "late_fusion", 60, dataset="tuxstamps")
    text = benchmark(read_runs([root])).texts["answers.md"]
    assert (
        "- Significantly better than Concat on one data set and worse on none: Late Fusion "
        "(openmoji)."
    ) in text


def test_modalities_alone_and_a_linear_model_stand_beside(root):
    write(root, "logistic", 60.05, dataset="openmoji", spread=0.01)
    report = benchmark(read_runs([root]))
    assert cells(table_of(report, "alone"), "openmoji") == ["image 57.0, text 44.0", "1.30"]
    lines = report.texts["answers.md"].splitlines()
    assert any("openmoji 1.3, tuxstamps 1.3; nowhere twice as strong" in line for line in lines)
    (line,) = [line for line in lines if "linear model" in line]
    assert line.startswith("- openmoji: a linear model of the inputs (Logistic) is at 60.")
    assert "of 4 methods" in line
    for run_dir in root.glob("tuxstamps-unimodal-*"):
        scores = {"image": {"accuracy": 0.6}, "text": {"accuracy": 0.3}, "multi": {"accuracy": 0.6}}
        change(run_dir, "result.json", test=scores)
    text = benchmark(read_runs([root])).texts["answers.md"]
    assert "tuxstamps 2.0; twice as strong or more on tuxstamps." in text


def test_other_measures_have_a_table_per_data_set(root):
    table = table_of(benchmark(read_runs([root])), "measures-openmoji")
    assert table.columns[-2:] == ("image", "text")
    assert cells(table, "MLA")[-2:] == ["50.0", "40.0"]


def test_methods_of_fewer_runs_are_named(root):
    shutil.rmtree(next(root.glob("openmoji-mla-*")))
    (_, note) = table_of(benchmark(read_runs([root])), "across").notes
    assert note.endswith("which may flatter the method: MLA (openmoji: 5 of 6).")


def test_cost_is_relative_to_concat(root):
    assert cells(table_of(benchmark(read_runs([root])), "cost"), "Concat") == ["1.0", "1.0"]


def test_flops_are_shown_where_they_were_counted(root):
    assert "benchmark-flops" not in benchmark(read_runs([root])).figures
    for run_dir in root.iterdir():
        flops = 30.0 if "-ogm_ge-" in run_dir.name else 10.0
        if "-qmf-" not in run_dir.name:
            change(run_dir, "result.json", train_gflop=flops)
    report = benchmark(read_runs([root]))
    table = table_of(report, "flops")
    assert cells(table, "OGM-GE") == ["3.0", "3.0"]
    assert cells(table, "QMF") == ["–", "–"]
    assert "benchmark-flops" in report.figures


def test_an_axis_of_costs_that_are_alike_has_several_numbers(root):
    for number, method in enumerate(("concat", "ogm_ge", "mla")):
        for run_dir in root.glob(f"openmoji-{method}-*"):
            change(run_dir, "result.json", train_gflop=100.0 * (1 + 0.3 * number))
    (axis, *_) = benchmark(read_runs([root])).figures["benchmark-flops"]().axes
    low, high = axis.get_xlim()
    labels = [x for x in axis.get_xticks() if low <= x <= high]
    assert labels == pytest.approx([1, 1.5])


def test_averaged_weights_are_compared_with_the_same_methods_without(root):
    without = benchmark(read_runs([root]))
    assert "averaged" not in [table.slug for table in without.tables]
    for dataset in ("openmoji", "tuxstamps"):
        for method, level in (("concat", 60), ("mla", 69), ("ogm_ge", 53)):
            write(root, method, level, dataset=dataset, spread=0.41, **EMA)
    report = benchmark(read_runs([root]))
    for slug in ("", "verdicts", "versus-concat"):
        assert table_of(report, slug) == table_of(without, slug)
    table = table_of(report, "averaged")
    assert [section.title for section in table.sections] == ["openmoji", "tuxstamps"]
    rows = {row.label: [cell.text for cell in row.cells] for row in table.sections[0].rows}
    assert rows.keys() == {"Concat", "MLA", "OGM-GE"}
    assert rows["MLA"][0] == "+3.0"
    assert rows["Concat"][0] == "0.0"
    assert rows["OGM-GE"][0] == "−2.0"
    verdicts = table_of(report, "verdicts-averaged")
    assert verdicts.columns == ("than Concat",)
    assert re.fullmatch(r"\+9\.\d: 2 better", *cells(verdicts, "MLA"))
    lines = report.texts["answers.md"].splitlines()
    line, _ = (line for line in lines if "averaged weights change" in line)
    assert (
        "- With averaged weights for every method, significantly better than Concat on two or more "
        "of 2 data sets and worse on none: MLA (of 2 methods)."
    ) in lines
    assert "openmoji: averaged weights change a method by +0.3 on average (−2.0 to +3.0" in line
    assert line.endswith("; significantly better: MLA; significantly worse: OGM-GE.")
    assert len(report.figures["benchmark-averaged"]().axes) == 2


def test_a_data_set_without_averaged_runs_has_no_panel(root):
    write(root, "mla", 69, spread=0.41, **EMA)
    report = benchmark(read_runs([root]))
    (axis,) = report.figures["benchmark-averaged"]().axes
    assert axis.get_title(loc="left") == "openmoji"
    assert len(report.figures["benchmark-versus-concat"]().axes) == 2


def test_runs_that_all_have_averaged_weights_are_the_benchmark(tmp_path):
    for method, level in (("concat", 60), ("mla", 66)):
        write(tmp_path, method, level, **EMA)
    report = benchmark(read_runs([tmp_path]))
    assert cells(table_of(report, "verdicts"), "MLA")[0].endswith(": better")


def test_each_help_has_tables_and_a_figure_of_its_own(root):
    for help_, level in ((EMA, 69), ({"overrides": {"trainer.snapshots": "5"}}, 64)):
        write(root, "mla", level, spread=0.41, **help_)
    report = benchmark(read_runs([root]))
    assert cells(table_of(report, "averaged"), "MLA")[0] == "+3.0"
    assert cells(table_of(report, "snapshots"), "MLA")[0] == "−2.0"
    assert {"benchmark-averaged", "benchmark-snapshots"} <= report.figures.keys()
    assert "with the learning rate falling" in table_of(report, "snapshots").notes[0]
    for draw in report.figures.values():
        check(draw())
    for run_dir in root.glob("openmoji-concat-*"):
        change(run_dir, "result.json", overrides={"trainer.snapshots": "null"})
    again = benchmark(read_runs([root]))
    assert table_of(again, "snapshots") == table_of(report, "snapshots")
    assert table_of(again, "") == table_of(report, "")
    text = report.texts["answers.md"]
    assert "openmoji: snapshot ensembles change a method by −2.0" in text
    assert "openmoji: averaged weights change a method by +3.0" in text


def test_several_decays_are_methods_of_their_own(root):
    for decay in ("0.9", "0.99"):
        write(root, "mla", 69, spread=0.41, overrides={"trainer.ema": decay})
    report = benchmark(read_runs([root]))
    assert "averaged" not in [table.slug for table in report.tables]
    assert cells(table_of(report, "verdicts"), "MLA ema=0.9")[0].endswith("1 better")
    assert cells(table_of(report, "verdicts"), "MLA")[0].endswith("2 better")


def test_averaged_runs_are_compared_with_those_of_the_same_split(root):
    for split, level in (("first", 60), ("second", 70)):
        write(root, "concat", level, dataset="third", split=split)
    write(root, "concat", 73, dataset="third", split="second", spread=0.41, **EMA)
    table = table_of(benchmark(read_runs([root])), "averaged")
    assert [section.title for section in table.sections] == ["third split second"]
    assert cells(table, "Concat")[0] == "+3.0"


def test_methods_that_are_trained_on_fewer_samples_are_named(root):
    for run_dir in root.glob("openmoji-ogm_ge-*"):
        change(run_dir, "result.json", num_train=878)
    notes = "\n".join(benchmark(read_runs([root])).notes)
    marked = "DIFFERENT SIZES, as where a part is held out: 878 with OGM-GE"
    assert f"976 train ({marked}) / 163 val / 490 test" in notes
    assert notes.count("DIFFERENT") == 1


def test_balancing_is_summed_up_by_lever(root):
    report = benchmark(read_runs([root]))
    table = table_of(report, "levers")
    assert table.columns == ("than Concat",)
    assert [section.title for section in table.sections] == ["openmoji", "tuxstamps"]
    rows = {row.label: row.cells[0].text for row in table.sections[0].rows}
    assert rows.keys() == {"losses (1)", "gradients of encoders (1)", "order of learning (1)"}
    assert re.fullmatch(
        r"\+[56]\.\d \(\+[56]\.\d to \+[56]\.\d\): 1 better, 0 worse", rows["order of learning (1)"]
    )
    (line, _) = [x for x in report.texts["answers.md"].splitlines() if "that balance" in x]
    assert "openmoji: methods that balance: 1 of 3 better and 1 worse than Concat (mean +" in line


def test_the_levers_are_those_of_the_page_on_balancing():
    page = (Path(__file__).parents[2] / "docs/balancing.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| ([a-z ]+) \| (`.*?`) \|", page, re.MULTILINE)
    listed = {lever: set(re.findall(r"`(\w+)`", methods)) for lever, methods in rows}
    assert {lever: set(methods) for lever, methods in LEVERS.items()} == {
        lever: methods & BALANCING for lever, methods in listed.items() if lever in LEVERS
    }


def test_nothing_to_compare_is_an_error(tmp_path):
    write(tmp_path, "unimodal", 58)
    with pytest.raises(RunError, match="experiment=benchmark/openmoji"):
        benchmark(read_runs([tmp_path]))


def test_the_files_are_written(root, tmp_path):
    assert write_report("benchmark", [root], tmp_path / "out") == 0
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert {
        "answers.md",
        "benchmark.md",
        "benchmark-versus-concat.png",
        "benchmark-cost.svg",
    } <= names
