"""Reference rows without a network, and the sentence on networks below logistic regression."""

import pytest
from tests.report.synthetic_runs import write_run
from tests.report.test_table1 import report_of, row, write_seeds


def write_accuracies(root, method, images, texts=(50, 50, 50)):
    for seed, (image, text) in enumerate(zip(images, texts, strict=False)):
        accuracy = {"image": image / 100, "text": text / 100, "multi": 0.6}
        write_run(root, method, seed, accuracy=accuracy)


def sentences(root):
    return [note for note in report_of(root).notes if "logistic" in note.lower() and "than" in note]


def test_references_are_the_last_columns_unranked_explained_and_not_compared(tmp_path):
    write_seeds("cca", tmp_path, (50, 52))
    write_seeds("concat", tmp_path, (54, 56))
    write_seeds("majority", tmp_path, (95, 96))
    write_seeds("logistic", tmp_path, (90, 92))
    report = report_of(tmp_path)
    table = report.tables[0]
    assert table.columns[-3:] == ("CCA", "Logistic", "Majority")
    ranks = {name: cell.rank for name, cell in row(table, "openmoji", "multi").items()}
    assert (ranks["Concat"], ranks["CCA"], ranks["Logistic"], ranks["Majority"]) == (1, 2, 0, 0)
    assert "Logistic: logistic regression without a network; a reference" in table.notes[0]
    assert "Majority: the most frequent class of train; a reference" in table.notes[0]
    assert "Unimodal" not in table.notes[0]
    (section,) = report.tables[1].sections
    assert [r.label for r in section.rows] == ["CCA"]
    figure = next(iter(report.figures.values()))()
    names = [text.get_text() for text in figure.axes[0].get_yticklabels()]
    assert names == ["Concat", "CCA"]


@pytest.mark.parametrize(
    ("images", "expected"),
    [
        ((40, 45, 50), "image by 5.0 points (corrected p = 0.4"),  # more than 2 points
        ((48.9, 49.0, 49.1), "image by 1.0 points (corrected p = 0.0066)"),  # significant
        ((47, 50, 51), None),  # by 0.7 points, not significant
        ((60, 61, 63), None),  # above
    ],
)
def test_a_network_clearly_below_logistic_regression_is_named(tmp_path, images, expected):
    write_accuracies(tmp_path, "logistic", (50, 50, 50))
    write_accuracies(tmp_path, "unimodal", images, texts=(50, 51, 49))
    notes = sentences(tmp_path)
    assert len(notes) == (expected is not None)
    if expected:
        assert expected in notes[0]
        assert "text" not in notes[0].replace("text by", "!")
        assert notes[0].startswith("openmoji: the networks trained alone (Unimodal)")


def test_one_seed_is_judged_by_its_points_and_nothing_is_said_without_a_reference(tmp_path):
    write_accuracies(tmp_path, "unimodal", (40,))
    assert sentences(tmp_path) == []
    write_accuracies(tmp_path, "logistic", (50,))
    assert "image by 10.0 points (no test)" in sentences(tmp_path)[0]
