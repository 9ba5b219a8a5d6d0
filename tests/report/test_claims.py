"""The claims' page, from runs whose answers are known."""

import random

import pytest

from mla_lightning.cli import main
from mla_lightning.errors import RunError
from mla_lightning.report.claims import claims, corrected, forest
from mla_lightning.report.results import Run, Score, read_runs
from mla_lightning.report.results_csv import write_csv
from mla_lightning.report.significance import holm


def run_of(name, method, seed, multi, *, probe=50.0, ablation="none", overrides=(), **more):
    noise = random.Random(f"{name}{method}{ablation}{seed}{overrides}").gauss(0, 0.3)
    scores = {
        m: Score(accuracy_percent=multi + noise, macro_f1_percent=50.0, ece=0.1, probe_percent=p)
        for m, p in (("image", probe + noise), ("text", 60.0 + noise), ("multi", None))
    }
    return Run(
        run=f"{name}-{method}-{ablation}-{overrides}-{seed}",
        where="here",
        state="finished",
        name=f"{name}/toy",
        dataset="toy",
        method=method,
        ablation=ablation,
        overrides=tuple(overrides),
        seed=seed,
        protocol="validation",
        data_split="s",
        identity=f"{name}{method}{ablation}{overrides}{seed}",
        scores={"val": scores, "test": scores},
        **more,
    )


def everything():
    runs = []
    for seed in range(10):
        table1 = {
            "concat": (60, 45),
            "unimodal": (55, 50),
            "mla": (64, 50),
            "late_fusion": (64, 50),
        }
        for method, (multi, probe) in table1.items():
            runs.append(run_of("table1", method, seed, multi, probe=probe))
        for ablation, multi in (("none", 64), ("no_df", 61), ("no_hgm", 64), ("no_hgm_no_df", 64)):
            runs.append(run_of("table3", "mla", seed, multi, ablation=ablation))
        runs.append(run_of("claims/hgm", "mla", seed, 63, ablation="no_hgm", forgetting=-8.0))
        for mode, multi in (("owm", 60), ("moments", 66), ("others", 63)):
            given = [("method.projection", mode)]
            runs.append(run_of("claims/hgm", "mla", seed, multi, overrides=given, forgetting=2.0))
        given = [("method.project_update", "True"), ("method.projection", "owm")]
        runs.append(run_of("claims/update", "mla", seed, 57, overrides=given))
        for method, time in (("concat", 1.0), ("mla", 1.5)):
            runs.append(run_of("claims/price", method, seed, 60, epoch_time_s=time * (seed + 1)))
    return runs


def rows(report, slug):
    table = next(t for t in report.tables if t.slug == slug)
    return {row.label: row.cells for section in table.sections for row in section.rows}


def test_each_question_is_answered_as_the_runs_are():
    report = claims(everything())
    behind = rows(report, "behind")
    assert behind["concat: image"][0].rank == 1  # told from chance
    assert behind["concat: image"][0].text.startswith("−")
    assert behind["concat: text"][0].rank == 0
    modified = rows(report, "modified")
    assert [modified[m][0].rank for m in ("owm", "moments", "others")] == [1, 1, 0]
    assert float(modified["owm (update)"][0].text.replace("−", "-")) < -4  # a column of its own
    assert modified["moments"][0].text.startswith("+")
    weighted = rows(report, "weighted")
    assert weighted["accuracy, with HGM"][0].rank == 1
    assert weighted["accuracy, without HGM"][0].rank == 0
    assert rows(report, "price")["mla"][0].text == "1.50"
    assert rows(report, "forgetting")["none"][0].text == "-8.00 ± 0.00"
    verdicts = {table.slug: table.notes[0] for table in report.tables}
    assert verdicts["modified"] == ("Of 4 comparisons 2 worse, 1 better, 1 not told from chance.")


def test_a_questions_comparisons_are_one_family():
    lines = [line for line in _lines() if line.found.p is not None]
    assert [line.p for line in lines] == holm([line.found.p for line in lines])
    assert all(line.p >= line.found.p for line in lines)


def _lines():
    from mla_lightning.report.cells import blocks
    from mla_lightning.report.claims import _modified

    return corrected(_modified(blocks(r for r in everything() if r.name.startswith("claims/hgm"))))


def test_the_figure_shows_every_comparison():
    lines = _lines()
    figure = forest(lines, "points")
    (axis,) = figure.axes
    dots = [line for line in axis.get_lines() if line.get_marker() == "o"]
    assert [line.get_xdata()[0] for line in dots] == [line.found.mean for line in lines]
    assert len({line.get_color() for line in dots}) == 3  # worse, better, not told


def test_a_table_of_results_makes_the_same_page(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_csv(tmp_path / "results.csv", everything())
    again = claims(read_runs([tmp_path / "results.csv"]))
    assert [t.sections for t in again.tables] == [t.sections for t in claims(everything()).tables]
    assert main(["report", "claims", "results.csv", "--output", "out"]) == 0
    assert (tmp_path / "out" / "claims-3-modified.svg").is_file()


def test_other_runs_are_no_answer():
    with pytest.raises(RunError, match="make claims"):
        claims([run_of("train", "mla", 0, 50)])
