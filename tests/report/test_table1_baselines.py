"""Which runs Table 1 compares its methods with."""

from tests.report.test_table1 import report_of, write_seeds


def test_baselines_have_the_same_overrides_if_possible_else_their_whole_label_is_shown(tmp_path):
    rate = {"missing.rate": 0.5}
    write_seeds("concat", tmp_path, (50, 52), overrides=rate)
    write_seeds("mla", tmp_path, (60, 63))
    write_seeds("mla", tmp_path, (55, 56), overrides=rate)
    write_seeds("late_fusion", tmp_path, (58, 59))
    write_seeds("unimodal", tmp_path, (40, 42), overrides=rate)
    report = report_of(tmp_path)
    sections = {s.title: [r.label for r in s.rows] for s in report.tables[1].sections}
    assert sections["openmoji, compared with Concat rate=0.5"] == [
        "Late Fusion",
        "MLA",
        "MLA rate=0.5",
    ]
    write_seeds("concat", tmp_path, (51, 53))
    report = report_of(tmp_path)
    sections = {s.title: [r.label for r in s.rows] for s in report.tables[1].sections}
    assert sections["openmoji, compared with Concat rate=0.5"] == ["MLA rate=0.5"]
    assert "MLA" in sections["openmoji, compared with Concat"]
    assert report.tables[2].notes[1] == (
        "openmoji: trained alone is Unimodal rate=0.5; columns with other settings are compared "
        "with it, too."
    )
    figure = next(iter(report.figures.values()))()
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert "trained alone (Unimodal rate=0.5)" in legend
