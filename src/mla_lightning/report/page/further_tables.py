"""Tables of the page that need the diagnostics of the runs."""

from __future__ import annotations

from collections.abc import Iterator

from mla_lightning.report.document.table import BLANK, Cell, Row, Section, Table
from mla_lightning.report.figures.training import number_at
from mla_lightning.report.read.diagnostics import BlockDiagnostics
from mla_lightning.report.read.run import MULTI


def calibration(diagnostics: BlockDiagnostics, slug: str) -> Table:
    """Make the table of calibration errors before and after scaling by a temperature."""
    columns = ("temperature", "width", "width after", "mass", "mass after")
    paths = (
        ("temperature",),
        *((when, bins, "ece") for bins in ("width", "mass") for when in ("before", "after")),
    )
    sections = []
    for name in (*diagnostics.modalities, MULTI):
        rows = []
        for label in diagnostics.labels:
            values = [
                diagnostics.mean(label, number_at("calibration", name, *path)) for path in paths
            ]
            cells = [Cell(BLANK if value is None else f"{value:.3f}") for value in values]
            rows.append(Row(label, tuple(cells)))
        sections.append(Section(name, tuple(rows)))
    return Table(
        slug=slug,
        title=f"{diagnostics.title}: expected calibration error before and after temperature "
        "scaling",
        corner="",
        columns=columns,
        sections=tuple(sections),
        notes=(
            "Means over seeds. Width: 15 bins of equal width; mass: 15 bins of equally many "
            "samples; after: after scaling by one temperature per modality, fitted on validation.",
        ),
    )


def parameters(diagnostics: BlockDiagnostics, slug: str) -> Table:
    """Make the table of numbers of parameters by modality."""
    components = (*diagnostics.modalities, "fusion", "other")
    rows = []
    for label in diagnostics.labels:
        counts = [diagnostics.mean(label, number_at("parameters", name)) for name in components]
        total = sum(count for count in counts if count is not None)
        texts = [BLANK if count is None else f"{count:,.0f}" for count in [*counts, total]]
        rows.append(Row(label, tuple(map(Cell, texts))))
    note = (
        "Modality: parameters of its encoder and of its projection to the width of a shared head."
    )
    return Table(
        slug=slug,
        title=f"{diagnostics.title}: number of parameters",
        corner="",
        columns=(*components, "sum"),
        sections=(Section("", tuple(rows)),),
        notes=(note, *_omissions(diagnostics)),
    )


def _omissions(diagnostics: BlockDiagnostics) -> Iterator[str]:
    """Yield what the figures leave out, and why."""
    for label, finals in diagnostics.finals.items():
        widths = finals[0].get("widths") or {}
        if len(set(widths.values())) > 1:
            listed = ", ".join(f"{name} {width}" for name, width in widths.items())
            yield (
                f"{label}: no modality gap and no features in two dimensions, because the features "
                f"have different widths ({listed}) and no shared head."
            )
    operations = {
        name
        for finals in diagnostics.finals.values()
        for final in finals
        for name in final.get("uncounted", ())
    }
    if operations:
        yield (
            f"FLOPs leave out {', '.join(sorted(operations))}, element-wise operations and sums."
        )
