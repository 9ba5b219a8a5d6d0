"""Table of noisy modalities: the fused score of each method at each level of noise."""

from __future__ import annotations

from mla_lightning.report.document.table import Row, Section, Table, summary_cell
from mla_lightning.report.figures.noise import NoiseCurves
from mla_lightning.report.read.block import Summary
from mla_lightning.report.read.metrics import MetricDisplay
from mla_lightning.report.tables.rows import MEAN_LEGEND


def noise_table(curves: NoiseCurves, metric: MetricDisplay, title: str) -> Table:
    """Make the table of noisy modalities: a section per modality, a row per level.

    Args:
        curves: The scores.
        metric: Their metric.
        title: Data set and split.

    Example:
        >>> from mla_lightning.report.read.metrics import primary_metric
        >>> scores = {"MLA": {0.5: [60.0, 62.0]}, "Concat": {0.5: [50.0, 51.0]}}
        >>> table = noise_table({"audio": scores}, primary_metric(), "toy, test")
        >>> [cell.text for cell in table.sections[0].rows[0].cells]
        ['61.0 ± 1.4 (2)', '50.5 ± 0.7 (2)']
    """
    columns = list(dict.fromkeys(label for by_label in curves.values() for label in by_label))
    sections = []
    for noisy, by_label in curves.items():
        rows = []
        for level in next(iter(by_label.values())):
            seeds = [dict(enumerate(by_label[label][level])) for label in columns]
            summaries = [Summary(values, tuple(values)) for values in seeds]
            cells = [summary_cell(summary, metric.digits) for summary in summaries]
            rows.append(Row(f"level {level:g}", tuple(cells)))
        sections.append(Section(f"noise on {noisy}", tuple(rows)))
    return Table(
        "",
        f"{title}: {metric.label} (multi){metric.unit} with noise on the inputs of a modality",
        "",
        tuple(columns),
        tuple(sections),
        (f"{MEAN_LEGEND}.",),
    )
