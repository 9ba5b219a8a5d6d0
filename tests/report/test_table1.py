"""Table 1: accuracies, the paper's numbers, comparisons, laziness gaps, notes."""

import json
import os
import time

import pytest
from tests.report.synthetic_runs import change, write_run, write_table1

from mla_lightning.errors import RunError
from mla_lightning.report.read.block import Block, blocks
from mla_lightning.report.read.paper import DATASETS, read_table1
from mla_lightning.report.read.run_folders import read_runs
from mla_lightning.report.read.variant import Variant
from mla_lightning.report.tables.table1 import table1

#: Labels of the paper's methods.
LABELS = ("Sum", "Concat", "Late Fusion", "FiLM", "BiGated", "OGM-GE", "QMF", "MLA")


def report_of(root):
    return table1(read_runs([root]))


def row(table, title, label):
    """Return the cells of a row by column."""
    section = next(s for s in table.sections if s.title.startswith(title))
    cells = next(r for r in section.rows if r.label == label).cells
    return dict(zip(table.columns, cells, strict=True))


def write_seeds(method, root, levels, **options):
    """Write one run per seed with these accuracies (multi) in percent."""
    for seed, level in enumerate(levels):
        accuracy = {"image": level / 200, "text": level / 150, "multi": level / 100}
        write_run(root, method, seed, accuracy=accuracy, **options)


def test_cells_are_mean_sd_and_number_of_seeds(tmp_path):
    write_seeds("mla", tmp_path, (60, 61, 63))
    cells = row(report_of(tmp_path).tables[0], "openmoji", "multi")
    assert cells["MLA"].text == "61.3 ± 1.5 (3)"
    assert cells["Sum"].text == "missing"


def test_one_seed_has_no_standard_deviation_and_no_test(tmp_path):
    write_seeds("mla", tmp_path, (60,))
    write_seeds("concat", tmp_path, (58,))
    report = report_of(tmp_path)
    assert row(report.tables[0], "openmoji", "multi")["MLA"].text == "60.0 (1)"
    comparisons = report.tables[1].sections[0]
    assert [cell.text for cell in comparisons.rows[0].cells] == ["+2.0", "–", "–", "–", "1"]
    assert report.tables[1].notes == ("One seed: differences without a significance test.",)


def test_columns_are_in_the_papers_order_then_by_name(tmp_path):
    names = ("zeta", "unimodal", "mla_balancemm", "mla", "joint_unimodal", "mla_released", "concat")
    for method in names:
        write_run(tmp_path, method)
    write_run(tmp_path, "mla", ablation="no_df")
    write_run(tmp_path, "mla", overrides={"method.alpha": 10})
    write_run(tmp_path, "mla", overrides={"method.alpha": 9})
    columns = report_of(tmp_path).tables[0].columns
    assert columns[:7] == LABELS[:7]
    assert columns[7:] == (
        "MLA",
        "MLA alpha=9",
        "MLA alpha=10",
        "MLA no_df",
        "Joint + Unimodal",
        "Unimodal",
        "MLA (released code)",
        "MLA (BalanceMM)",
        "zeta",
    )


def test_overrides_that_all_runs_share_are_in_a_note_and_not_in_the_columns(tmp_path):
    for method in ("concat", "mla"):
        write_run(tmp_path, method, overrides={"trainer.max_epochs": 2})
    report = report_of(tmp_path)
    assert report.tables[0].columns == LABELS
    assert any("all runs with trainer.max_epochs=2" in note for note in report.notes)


def test_best_and_second_best_of_a_row_are_marked_but_never_the_reference(tmp_path):
    write_seeds("sum", tmp_path, (50, 52))
    write_seeds("concat", tmp_path, (54, 56))
    write_seeds("mla", tmp_path, (60, 62))
    write_seeds("unimodal", tmp_path, (90, 92))
    cells = row(report_of(tmp_path).tables[0], "openmoji", "multi")
    ranks = {name: cell.rank for name, cell in cells.items() if cell.text != "missing"}
    assert ranks == {"Sum": 0, "Concat": 2, "MLA": 1, "Unimodal": 0}


def test_numbers_that_round_to_the_same_text_share_a_rank(tmp_path):
    write_seeds("sum", tmp_path, (60.01,))
    write_seeds("concat", tmp_path, (60.04,))
    write_seeds("film", tmp_path, (55,))
    cells = row(report_of(tmp_path).tables[0], "openmoji", "multi")
    assert [cells[name].rank for name in ("Sum", "Concat", "FiLM")] == [1, 1, 2]


def test_missing_seeds_are_counted_and_explained(tmp_path):
    write_seeds("concat", tmp_path, (50, 51, 52))
    write_seeds("mla", tmp_path, (60, 61))
    write_run(tmp_path, "mla", 2, state="failed", reason="loss is nan")
    write_run(tmp_path, "film", 0, state="failed")
    write_run(tmp_path, "film", 1, state="running")
    write_run(tmp_path, "qmf", 0, state="preempted")
    write_run(tmp_path, "qmf", 1, state="preempted")
    write_run(tmp_path, "qmf", 2, state="preempted")
    table = report_of(tmp_path).tables[0]
    cells = row(table, "openmoji", "multi")
    assert cells["Concat"].text == "51.0 ± 1.0 (3)"
    assert cells["MLA"].text == "60.5 ± 0.7 (2 of 3)"
    assert cells["MLA"].rank == 0  # incomplete
    assert cells["FiLM"].text == "failed 1, killed 1, missing 1"
    assert cells["QMF"].text == "preempted"
    assert cells["Sum"].text == "missing"
    notes = "\n".join(table.notes)
    assert "(n of N)" in notes
    assert "openmoji MLA seed 2: failed (loss is nan). Retry: mla train data=openmoji" in notes


def test_a_truncated_result_counts_as_a_missing_seed(tmp_path):
    write_seeds("mla", tmp_path, (60, 61))
    folder = next(tmp_path.glob("*mla*seed1*"))
    (folder / "result.json").write_text((folder / "result.json").read_text()[:200])
    table = report_of(tmp_path).tables[0]
    assert row(table, "openmoji", "multi")["MLA"].text == "60.0 (1 of 2)"
    assert any("unreadable" in note and "result.json" in note for note in table.notes)


def test_a_run_that_does_not_state_what_it_is_of_is_named_in_a_note(tmp_path):
    write_seeds("mla", tmp_path, (60,))
    folder = write_run(tmp_path, "sum", state="failed")
    (folder / "config.yaml").write_text("")
    notes = report_of(tmp_path).tables[0].notes
    assert any(folder.name in note and "config.yaml" in note for note in notes)


def test_runs_without_test_results_are_shown_as_not_evaluated(tmp_path):
    write_run(tmp_path, "mla", test=False)
    cells = row(report_of(tmp_path).tables[0], "openmoji", "multi")
    assert cells["MLA"].text == "not evaluated"


def test_a_modality_that_a_method_does_not_have_is_shown_as_absent(tmp_path):
    write_run(tmp_path, "mla", modalities=("image", "text"))
    write_run(tmp_path, "concat", modalities=("image",))
    table = report_of(tmp_path).tables[0]
    assert row(table, "openmoji", "text")["Concat"].text == "absent"


def test_the_papers_numbers_are_shown_below_ours(tmp_path):
    write_run(tmp_path, "mla", dataset="cremad", modalities=("audio", "visual"))
    table = report_of(tmp_path).tables[0]
    assert row(table, "cremad", "audio (paper)")["MLA"].text == "59.27"
    assert row(table, "cremad", "visual (paper)")["MLA"].text == "64.91"  # the paper's video
    paper = row(table, "cremad", "multi (paper)")
    assert (paper["MLA"].text, paper["MLA"].rank) == ("79.70", 1)
    assert (paper["OGM-GE"].text, paper["OGM-GE"].rank) == ("68.14", 2)


def test_data_sets_of_the_paper_without_runs_are_listed_with_their_commands(tmp_path):
    write_run(tmp_path, "mla")
    table = report_of(tmp_path).tables[0]
    assert [section.title for section in table.sections] == ["openmoji", *DATASETS]
    assert table.sections[1].remark == (
        "not run: mla data prepare cremad raw=DIR, then make reproduce-table1 DATA=cremad"
    )
    assert [section.title for section in table.written_sections] == ["openmoji"]


def test_a_table_of_own_data_says_nothing_of_the_papers_sets_and_methods(tmp_path):
    for method in ("mla", "concat"):
        write_run(tmp_path, method, dataset="mine")
    table = report_of(tmp_path).tables[0]
    assert [section.title for section in table.sections] == ["mine"]
    assert table.columns == ("Concat", "MLA")


def test_the_papers_table1_is_complete():
    paper = read_table1()
    assert len(paper.accuracy) == 128
    assert paper.modalities["iemocap"] == ("audio", "image", "text", "multi")
    assert paper.get("mvsa", "image", "mla") == 54.99
    assert paper.get("openmoji", "image", "mla") is None


def test_an_installed_package_reads_its_own_copy_of_the_papers_tables(tmp_path, monkeypatch):
    from mla_lightning.report.read import paper

    content = paper._path("table1").read_text()
    package = tmp_path / "lib" / "site-packages" / "mla_lightning" / "report"
    (package / "paper").mkdir(parents=True)
    (package / "paper" / "table1.csv").write_text(content)
    monkeypatch.setattr(paper, "__file__", str(package / "read" / "paper.py"))
    assert paper._path("table1") == package / "paper" / "table1.csv"
    with pytest.raises(RunError, match="table3"):
        paper.read_table3()


def test_selection_on_test_is_marked_in_warnings_titles_and_notes(tmp_path):
    write_seeds("mla", tmp_path, (60, 61), protocol="paper")
    report = report_of(tmp_path)
    assert "selected on TEST" in report.warnings[0]
    assert all(
        "selected on TEST" in section.title
        for table in report.tables
        for section in table.written_sections
    )
    assert any("selected on TEST" in note for note in report.notes)


def test_each_protocol_and_split_has_its_own_section(tmp_path):
    write_seeds("mla", tmp_path, (60, 61))
    write_seeds("mla", tmp_path, (70, 71), protocol="paper")
    write_seeds("mla", tmp_path, (50, 51), split="actors")
    report = report_of(tmp_path)
    titles = [section.title for section in report.tables[0].written_sections]
    assert titles == [
        "openmoji split actors protocol validation",
        "openmoji split groups protocol validation",
        "openmoji split groups protocol paper (epoch selected on TEST)",
    ]
    means = [s.rows[-1].cells[7].text for s in report.tables[0].written_sections]
    assert means == ["50.5 ± 0.7 (2)", "60.5 ± 0.7 (2)", "70.5 ± 0.7 (2)"]
    assert len(report.figures) == 3


def test_differences_are_paired_by_seed_and_corrected_within_a_section(tmp_path):
    write_seeds("concat", tmp_path, (50, 52, 54))
    write_seeds("late_fusion", tmp_path, (55, 56, 60))
    write_seeds("mla", tmp_path, (60, 63, 64))
    write_seeds("unimodal", tmp_path, (40, 41, 42))
    sections = {s.title: s for s in report_of(tmp_path).tables[1].sections}
    section = sections["openmoji, compared with Concat"]
    assert [r.label for r in section.rows] == ["Late Fusion", "MLA"]  # not the reference
    texts = [cell.text for cell in section.rows[1].cells]
    assert texts == ["+10.3", "+8.9 to +11.8", "0.001", "0.002", "3"]
    assert section.rows[1].cells[0].rank == 1
    section = sections["openmoji, compared with Late Fusion"]
    assert [r.label for r in section.rows] == ["Concat", "MLA"]


def test_comparisons_use_the_common_seeds_and_show_their_number(tmp_path):
    write_seeds("concat", tmp_path, (50, 52, 54))
    write_seeds("mla", tmp_path, (60, 63))
    (comparison,) = report_of(tmp_path).tables[1].sections[0].rows
    assert (comparison.cells[0].text, comparison.cells[-1].text) == ("+10.5", "2")


def test_laziness_gap_is_the_difference_to_the_modality_trained_alone(tmp_path):
    write_seeds("unimodal", tmp_path, (80, 82))  # image 40, 41
    write_seeds("concat", tmp_path, (60, 66))  # image 30, 33
    table = report_of(tmp_path).tables[2]
    assert row(table, "openmoji", "image")["Concat"].text == "−9.0 ± 1.4 (2)"
    assert "Unimodal" not in table.columns


def test_measures_and_costs(tmp_path):
    write_seeds("mla", tmp_path, (60, 61))
    write_seeds("concat", tmp_path, (50, 51))
    table = report_of(tmp_path).tables[4]
    assert row(table, "openmoji", "macro F1, multi, percent")["MLA"].text == "55.5 ± 0.7 (2)"
    assert row(table, "openmoji", "calibration error, multi")["MLA"].text == "0.100 ± 0.000 (2)"
    assert row(table, "openmoji", "training time of a run, s")["MLA"].text == "3.2"
    assert row(table, "openmoji", "peak memory of a run, MB")["MLA"].text == "612"


def test_notes_state_split_seeds_settings_and_code(tmp_path):
    write_seeds("mla", tmp_path, (60, 61), lr=0.05)
    write_seeds("concat", tmp_path, (50, 51))
    text = "\n".join(report_of(tmp_path).notes)
    assert "split groups (976 train / 163 val / 490 test), epoch selected on validation" in text
    assert "2 seeds (0, 1)" in text
    assert "standard error of 2.2 points" in text
    assert "learning rate: 0.1 (Concat), 0.05 (MLA)." in text
    assert "epochs: 20." in text
    assert "a single modality: slice (Concat), own_head (MLA)" in text
    assert "torch 2.13.0" in text
    assert "code c0dec0dec0de" in text
    assert "MIXED" not in text


def test_notes_name_a_method_once_where_its_variants_have_the_same_setting(tmp_path):
    for rate in (0.3, 0.5):
        write_seeds("mla", tmp_path, (60, 61), overrides={"missing.rate": rate}, lr=rate / 10)
        write_seeds("concat", tmp_path, (50, 51), overrides={"missing.rate": rate})
    text = "\n".join(report_of(tmp_path).notes)
    assert "a single modality: slice (Concat), own_head (MLA)." in text
    assert "rate: 0.1 (Concat), 0.03 (MLA rate=0.3), 0.05 (MLA rate=0.5)." in text


def test_runs_of_one_method_by_different_code_are_marked(tmp_path):
    write_seeds("mla", tmp_path, (60, 61))
    write_seeds("concat", tmp_path, (50, 51), code="beef")  # another method has other code
    assert not any("MIXED code" in note for note in report_of(tmp_path).notes)
    write_run(tmp_path, "mla", 7, code="beef")
    write_run(tmp_path, "mla", 8, overrides={"method.alpha": "1"}, code="f00d")
    (note,) = [note for note in report_of(tmp_path).notes if "MIXED code" in note]
    assert all(code in note for code in ("c0de", "beef", "f00d"))


def test_conflicting_runs_of_one_seed_are_an_error_that_names_both(tmp_path):
    first = write_run(tmp_path / "a", "mla", 0)
    second = write_run(tmp_path / "b", "mla", 0, epochs=21)
    with pytest.raises(RunError) as caught:
        report_of(tmp_path)
    message = str(caught.value)
    assert str(first) in message
    assert str(second) in message
    assert "openmoji mla seed 0 has two finished runs" in message
    assert "name only the folders that it is to show" in message
    assert len(table1(read_runs([first])).tables) == 5


@pytest.mark.parametrize("newer", ["c0de", "beef"])
def test_a_later_run_by_other_code_replaces_the_earlier_one_with_a_note(tmp_path, newer):
    levels = {"c0de": 50, "beef": 51}
    for code, level in levels.items():
        accuracy = {"image": 0.4, "text": 0.4, "multi": level / 100}
        folder = write_run(tmp_path, "concat", 0, code=code, accuracy=accuracy)
        finished_at = time.time() + 60 * (code == newer)
        os.utime(folder / "result.json", (finished_at, finished_at))
    report = report_of(tmp_path)
    cell = row(report.tables[0], "openmoji", "multi")["Concat"]
    assert cell.text.startswith(f"{levels[newer]}.0")
    assert any("1 runs of earlier code" in note for note in report.notes)


def test_a_copy_of_a_run_and_a_failed_attempt_are_no_conflict(tmp_path):
    write_run(tmp_path / "a", "mla", 0)
    write_run(tmp_path / "b", "mla", 0)
    write_run(tmp_path / "c", "mla", 0, code="beef", state="failed")
    table = report_of(tmp_path).tables[0]
    assert row(table, "openmoji", "multi")["MLA"].text.endswith("(1)")
    assert not any("No result" in note for note in table.notes)


def test_runs_that_all_failed_give_a_table(tmp_path):
    for method in ("concat", "mla"):
        write_run(tmp_path, method, dataset="cremad", state="failed")
    report = report_of(tmp_path)
    assert row(report.tables[0], "cremad", "multi")["MLA"].text == "failed"
    assert row(report.tables[0], "cremad", "video (paper)")["MLA"].text == "64.91"
    assert report.figures == {}


def test_without_any_identified_run_there_is_an_error(tmp_path):
    folder = write_run(tmp_path, "mla", state="failed")
    (folder / "config.yaml").write_text("")
    with pytest.raises(RunError, match="none of them does"):
        report_of(tmp_path)


def test_three_modalities_have_one_row_each(tmp_path):
    names = ("audio", "image", "text")
    write_run(tmp_path, "mla", dataset="iemocap", modalities=names)
    labels = [r.label for r in report_of(tmp_path).tables[0].sections[0].rows]
    assert labels[::2] == [*names, "multi"]


def test_different_sizes_of_the_splits_are_marked(tmp_path):
    write_seeds("mla", tmp_path, (60,))
    folder = write_run(tmp_path, "concat")
    change(folder, "result.json", num_test=400)
    assert any("DIFFERENT SIZES" in note for note in report_of(tmp_path).notes)


def test_find_prefers_the_variant_without_overrides(tmp_path):
    write_table1(tmp_path, methods=("mla",), seeds=(0,))
    write_run(tmp_path, "mla", overrides={"method.alpha": 2})
    (block,) = blocks(read_runs([tmp_path]))
    assert isinstance(block, Block)
    assert block.find("mla") == Variant("mla")
    assert block.find("sum") is None


def test_probe_accuracies_have_a_table(tmp_path):
    for method, values in (("concat", (40, 44)), ("mla", (50, 52))):
        for seed, value in enumerate(values):
            folder = write_run(tmp_path, method, seed)
            result = json.loads((folder / "result.json").read_text())
            result["probe_accuracy"] = {"test": {"image": value / 100}}
            (folder / "result.json").write_text(json.dumps(result))
    table = report_of(tmp_path).tables[3]
    assert row(table, "openmoji", "image")["MLA"].text == "51.0 ± 1.4 (2)"
    assert row(table, "openmoji", "image")["Concat"].text == "42.0 ± 2.8 (2)"
    assert [r.label for r in table.sections[0].rows] == ["image"]
    plain = write_run(tmp_path / "plain", "mla", 0)
    assert not table1(read_runs([plain])).tables[3].written_sections
