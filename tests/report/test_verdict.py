"""The verdict of Table 1 in a sentence, compared with paired tests of scipy."""

import pytest
from scipy import stats
from tests.report.synthetic_runs import write_run

from mla_lightning.report.main import make_report

SCORES = {
    "mla": (61.0, 63.0, 64.0, 62.0, 65.0),
    "concat": (58.0, 61.5, 59.5, 57.5, 60.0),
    "late_fusion": (60.0, 64.0, 63.0, 63.0, 64.0),
    "sum": (66.0, 50.0, 58.0, 49.0, 62.0),
}


def verdict_of(root, scores):
    for method, levels in scores.items():
        for seed, level in enumerate(levels):
            accuracy = {"image": 0.4, "text": 0.5, "multi": level / 100}
            write_run(root, method, seed, accuracy=accuracy)
    return make_report("table1", [root]).texts["verdict.md"]


def corrected(method, baseline, scores):
    """Return Holm's corrected p of one method among all compared with a baseline."""
    others = [name for name in scores if name != baseline]
    p = {name: stats.ttest_rel(scores[name], scores[baseline]).pvalue for name in others}
    largest = 0.0
    for place, name in enumerate(sorted(others, key=p.get)):
        largest = max(largest, min(1.0, (len(others) - place) * p[name]))
        if name == method:
            return largest
    raise AssertionError(method)


def test_differences_and_corrected_p_are_those_of_paired_t_tests(tmp_path):
    text = verdict_of(tmp_path, SCORES)
    p = corrected("mla", "concat", SCORES)
    assert p < 0.05
    assert "MLA 63.0 ± 1.6 % test accuracy (5 seeds), best of 4 methods by its mean" in text
    assert f"significantly better than Concat (+3.7, corrected p = {p:.3f})" in text
    p = corrected("mla", "late_fusion", SCORES)
    assert p > 0.05
    assert f"no significant difference to Late Fusion (+0.2, corrected p = {p:.3f})" in text


def test_a_method_that_loses_is_said_to_lose(tmp_path):
    swapped = {**SCORES, "mla": SCORES["concat"], "concat": SCORES["mla"]}
    text = verdict_of(tmp_path, swapped)
    assert "MLA 59.3 ± 1.6 % test accuracy (5 seeds), third of 4 methods by its mean" in text
    assert "significantly worse than Concat (−3.7, corrected p = " in text


@pytest.mark.parametrize(
    ("scores", "words"),
    [
        ({"mla": (60.0,), "concat": (58.0,)}, "+2.0 to Concat, too few seeds for a test"),
        ({"mla": (60.0, 61.0)}, "no baseline was run"),
        ({"qmf": (60.0, 61.0), "concat": (58.0, 57.0)}, "QMF 60.5 ± 0.7 % test accuracy"),
    ],
)
def test_what_is_not_there_is_said(tmp_path, scores, words):
    assert words in verdict_of(tmp_path, scores)


def test_the_page_of_table_1_begins_with_it_and_questions_stand_out(tmp_path):
    from mla_lightning.report.document.html import to_html
    from mla_lightning.report.document.table import Report

    verdict_of(tmp_path, SCORES)
    page = to_html(make_report("table1", [tmp_path]), {})
    assert page.index("best of 4 methods") < page.index("<nav") < page.index("<table")
    report = Report("k", "r", (), texts={"answers.md": "- Is a < b? Yes.\n- No question.\n"})
    assert "<strong>Is a &lt; b?</strong> Yes." in to_html(report, {})
    assert "<li>No question.</li>" in to_html(report, {})
