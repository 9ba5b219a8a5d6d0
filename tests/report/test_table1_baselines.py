"""Which runs Table 1 compares its methods with."""

from tests.report.synthetic_runs import write_run

from mla_lightning.report.read.run_folders import read_runs
from mla_lightning.report.tables.table1 import table1


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
