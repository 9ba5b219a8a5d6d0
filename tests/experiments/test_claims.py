"""Tests of the report on the claims, from runs with known differences."""

import json
import random
from dataclasses import replace

import pytest
from experiments.claims.__main__ import main
from experiments.claims.families import correct
from experiments.claims.report import claims_report, replace_repeated
from experiments.claims.rounds import ROUNDS, Round, modification_families
from experiments.claims.tables import forest_plot, power_note

from mla_lightning.errors import RunError
from mla_lightning.report.main import write_files
from mla_lightning.report.read.block import blocks
from mla_lightning.report.read.columns import diagnostics_columns
from mla_lightning.report.read.results_csv import read_csv, write_csv
from mla_lightning.report.read.run import Run
from mla_lightning.report.read.run_folders import read_runs
from mla_lightning.report.read.significance import compare, holm, least_effect
from mla_lightning.report.tables.tuning import rate_notes
from mla_lightning.run_folder.reader import RunFiles


def run_of(name, method, seed, multi, *, probe=50.0, ece=0.1, ablation="none", **more):
    overrides = more.pop("overrides", ())
    noise = random.Random(f"{name}{method}{ablation}{seed}{overrides}").gauss(0, 0.3)
    scores = {
        m: {"accuracy_percent": multi + noise, "macro_f1_percent": 50.0, "ece": ece + noise / 100}
        | ({} if p is None else {"probe_percent": p})
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
            "late_fusion": (64, 48),
            "joint_unimodal": (64, 50),
        }
        for method, (multi, probe) in table1.items():
            runs.append(run_of("table1", method, seed, multi, probe=probe))
        for ablation, multi in (("none", 64), ("no_df", 61), ("no_hgm", 64), ("no_hgm_no_df", 64)):
            runs.append(run_of("table3", "mla", seed, multi, ablation=ablation))
        change = -8.0 + 0.1 * (-1) ** seed
        runs.append(run_of("claims/none", "mla", seed, 63, ablation="no_hgm", forgetting=change))
        runs[-1] = replace(runs[-1], forgetting_own=-change, gradient_cosine=0.5)
        for mode, multi in (("owm", 60), ("moments", 66), ("others", 63)):
            overrides = [("method.projection", mode)]
            runs.append(
                run_of("claims/hgm", "mla", seed, multi, overrides=overrides, forgetting=2.0)
            )
        overrides = [("method.project_update", "True"), ("method.projection", "owm")]
        runs.append(run_of("claims/update", "mla", seed, 57, overrides=overrides))
        for method, time in (("concat", 1.0), ("mla", 1.5)):
            runs.append(run_of("claims/price", method, seed, 60, epoch_time_s=time * (seed + 1)))
    return runs


def rows(report, slug):
    table = next(t for t in report.tables if t.slug == slug)
    return {row.label: row.cells for section in table.sections for row in section.rows}


def fresh():
    """Return runs of a third round, whose new mode differs in its overrides alone."""
    new = (("method.memory", "apart"), ("method.projection", "class_means"))
    settings = {(): (63, 0.1), new[1:]: (65, 0.05), new: (63, 0.2)}
    return [
        run_of(
            "claims/fresh",
            "mla",
            seed,
            multi,
            ece=ece,
            ablation="none" if overrides else "no_hgm",
            overrides=overrides,
            forgetting=1.0,
            forgetting_pairs=f'{{"image > text": {seed % 2}, "text > image": 2.0}}',
        )
        for seed in range(30, 50)
        for overrides, (multi, ece) in settings.items()
    ]


def test_the_page_begins_with_an_answer_per_question_and_figures_say_what_they_show(tmp_path):
    report = claims_report(everything())
    points = report.finding
    assert [point[:2] for point in points] == ["1.", "2.", "3.", "4.", "5."]
    cells = rows(report, "behind")
    significant = [label for label, row in cells.items() if row[0].rank]
    assert len(significant) == 3
    found = f"Probe accuracy: 3 of {len(cells)} significantly different, lower "
    assert points[0].startswith(f"1. Does joint training leave encoders behind? {found}")
    for label in significant:
        assert f"{label} ({cells[label][0].text})" in points[0]
    write_files(report, [], tmp_path)
    page = (tmp_path / "claims.html").read_text()
    assert page.index(found) < page.index("<table") < page.index("<figure")
    assert "<figcaption>1. Does joint training leave encoders behind?" in page


def test_each_question_shows_the_differences_of_the_runs():
    report = claims_report(everything())
    behind = rows(report, "behind")
    assert behind["image: Concat minus Unimodal"][0].rank == 1  # significant
    assert behind["image: Concat minus Unimodal"][0].text.startswith("−")
    assert behind["text: Concat minus Unimodal"][0].rank == 0
    assert behind["image: Concat minus Late Fusion"][0].rank == 1
    assert behind["image: Late Fusion minus Unimodal"][0].rank == 1
    cured = rows(report, "cured")
    assert cured["image: MLA minus Concat"][0].text.startswith("+")
    assert [cured[f"image: MLA minus {m}"][0].rank for m in ("Concat", "Unimodal")] == [1, 0]
    assert rows(report, "cured-fused")["MLA minus Concat"][0].rank == 1
    assert set(rows(report, "simpler-fused")) == {
        "MLA minus Late Fusion",
        "MLA minus Joint + Unimodal",
    }
    modified = rows(report, "modified")
    assert [modified[m][0].rank for m in ("owm", "moments", "others")] == [1, 1, 0]
    assert float(modified["owm (update)"][0].text.replace("−", "-")) < -4  # a separate column
    assert modified["moments"][0].text.startswith("+")
    weighted = rows(report, "weighted")
    assert weighted["accuracy, with HGM"][0].rank == 1
    assert weighted["accuracy, without HGM"][0].rank == 0
    forgetting = rows(report, "forgetting")["none"]
    assert [cell.text for cell in forgetting[:2]] == ["-8.00 ± 0.11", "−8.08 to −7.92"]
    assert [cell.text for cell in forgetting[2:4]] == ["8.00 ± 0.11", "+7.92 to +8.08"]
    assert forgetting[4].text == "0.500 ± 0.000"
    # Runs of an earlier version have the other measures, but not the changes of loss.
    old_runs = [replace(run, forgetting=None, forgetting_own=None) for run in everything()]
    old = rows(claims_report(old_runs), "forgetting")["none"]
    assert [cell.text for cell in old] == ["–"] * 4 + [cell.text for cell in forgetting[4:]]
    verdicts = {table.slug: table.notes[0] for table in report.tables}
    assert verdicts["modified"] == (
        "Of 4 comparisons: 2 significantly lower, 1 significantly higher, 1 without a significant "
        "difference."
    )


def test_losses_per_modality_are_compared_where_an_encoder_is_behind():
    compared = rows(claims_report(everything()), "simpler")
    assert set(compared) == {
        "image: MLA minus Late Fusion",
        "image: MLA minus Joint + Unimodal",
    }
    without = [replace(run, scores={}) if run.method == "concat" else run for run in everything()]
    assert "simpler" not in {table.slug for table in claims_report(without).tables}


def test_the_price_is_paired_by_seed_in_percent():
    (mla,) = rows(claims_report(everything()), "price").values()
    assert (mla[0].text, mla[-1].text) == ("+50.0", "10")  # each seed 1.5 times as long as Concat
    runs = [run for run in everything() if run.name.startswith("claims/price")]
    for run in (run for run in runs if run.method == "mla"):
        object.__setattr__(run, "epoch_time_s", run.epoch_time_s * (1.0 + run.seed / 100))
    (mla,) = rows(claims_report(runs), "price").values()
    low, high = mla[1].text.split(" to ")
    assert 50 < float(low) < float(mla[0].text) < float(high) < 64
    assert mla[0].rank == 1


def test_memory_is_shown_above_that_of_the_leanest_method():
    memory = {"concat": 440.0, "mla": 452.0}
    runs = [
        run_of("table1", m, seed, 60, peak_memory_mb=memory[m]) for m in memory for seed in (0, 1)
    ]
    cells = {
        name: [c.text for c in row] for name, row in rows(claims_report(runs), "memory").items()
    }
    assert cells == {"Concat": ["440 ± 0", "0"], "MLA": ["452 ± 0", "12"]}


def test_a_round_is_shown_if_it_has_runs():
    without, report = claims_report(everything()), claims_report([*everything(), *fresh()])
    slugs = ["fresh", "fresh-single", "fresh-calibration"]
    assert not {t.slug for t in without.tables} & {*slugs, "forgetting-fresh", "pairs-fresh"}
    assert [t.slug for t in report.tables if t.slug.startswith("fresh")] == slugs
    new = set(report.figures) - set(without.figures)
    assert new == {f"claims-3-{slug}" for slug in slugs}
    accuracy, error = rows(report, "fresh"), rows(report, "fresh-calibration")
    assert list(accuracy) == ["class_means memory=apart", "class_means"]
    assert [cells[0].rank for cells in accuracy.values()] == [0, 1]
    assert [cells[0].text[0] for cells in error.values()] == ["+", "−"]
    assert len(rows(report, "fresh-single")) == 4
    pairs = rows(report, "pairs-fresh")
    assert [cell.text for cell in pairs["none: image > text"]] == ["+0.50", "+0.26 to +0.74", "20"]
    assert list(rows(report, "forgetting-fresh")) == ["none", *accuracy]
    # Each round is a separate family, so no other table changes.
    for table in without.tables:
        assert table in report.tables


def test_forgetting_of_a_run_is_read_by_pair_of_modalities(tmp_path):
    (tmp_path / "diagnostics.json").write_text('{"calibration": {}, "entropy": {}}')
    start = "forgetting/loss"
    (tmp_path / "metrics.csv").write_text(
        f"epoch,{start}/a/a,{start}/a/b,{start}/b/a,{start}/a+b/b\n0,-1,0.002,0.001,9\n1,-1,0,0.001,9\n"
    )
    columns = diagnostics_columns(RunFiles(tmp_path))
    assert json.loads(columns["forgetting_pairs"]) == {"a > b": 1.0, "b > a": 1.0}
    assert columns["forgetting"] == 1.0


def test_the_comparisons_of_a_question_are_one_family():
    lines = [line for line in _lines() if line.comparison.p is not None]
    assert [line.p for line in lines] == holm([line.comparison.p for line in lines])
    assert all(line.p >= line.comparison.p for line in lines)


def test_preregistered_comparisons_are_one_family_and_other_data_sets_another():
    by_name = {block.name: block for block in blocks(fresh())}
    round_ = Round("r", "Round", ("fresh",), {"toy": ("multi", "text")})
    asked, multi, *_ = modification_families(round_, by_name)
    assert multi.lines == ()
    assert [line.label.partition(": ")[2] for line in asked.lines] == ["multi", "text"] * 2
    assert [line.p for line in asked.lines] == holm([line.comparison.p for line in asked.lines])
    elsewhere = Round("r", "Round", ("fresh",), {"other": ("multi",)})
    asked, multi, *_ = modification_families(elsewhere, by_name)
    assert asked.lines == ()
    assert len(multi.lines) == 2


def _lines():
    runs = [run for run in everything() if run.name.startswith(ROUNDS[0].prefixes)]
    lines = modification_families(ROUNDS[0], {block.name: block for block in blocks(runs)})[1].lines
    assert correct(lines) == lines
    return lines


def test_the_smallest_significant_effect_has_the_corrected_p_of_the_level():
    num, family = 10, 48
    least = least_effect(num, family, 0.05)
    signs = [(-1) ** seed for seed in range(num)]  # mean 0, sd sqrt(10 / 9)
    values = {s: least * (num / (num - 1)) ** 0.5 + sign for s, sign in enumerate(signs)}
    comparison = compare(values, dict.fromkeys(values, 0.0))
    assert comparison.mean / comparison.sd == pytest.approx(least)
    assert comparison.p == pytest.approx(0.05 / family, rel=1e-6)
    (sentence,) = power_note(_lines())
    assert f"below {least_effect(10, 4, 0.05):.2f}" in sentence


def test_the_figure_shows_every_comparison():
    lines = _lines()
    figure = forest_plot(lines, "points")
    (axis,) = figure.axes
    dots = [line for line in axis.get_lines() if line.get_marker() == "o"]
    assert [line.get_xdata()[0] for line in dots] == [line.comparison.mean for line in lines]
    assert len({line.get_color() for line in dots}) == 3  # lower, higher, no significant difference


def test_rates_that_were_not_chosen_or_are_at_the_edge_are_noted():
    grid = {0.1: 60, 0.2: 62, 0.4: 61}
    tuned = [
        run_of(
            "claims/tuning",
            "mla",
            seed,
            multi,
            ablation=ablation,
            lr=lr,
            overrides=(("method.projection", "owm"), ("optimizer.lr", str(lr))),
        )
        for seed in (100, 101)
        for ablation in ("none", "no_hgm")
        for lr, multi in grid.items()
    ]
    owm = (("method.projection", "owm"),)
    used = [
        run_of("claims/hgm", "mla", 0, 60, lr=0.4, overrides=owm),
        run_of("claims/none", "mla", 0, 60, lr=0.2, ablation="no_hgm"),
    ]
    (before,), (after,) = blocks(used), blocks(tuned)
    assert rate_notes(before, after) == [
        "toy: learning rate at the edge of the grid: MLA projection=owm 0.4.",
        "toy: learning rate not selected on validation: MLA projection=owm 0.4 (selected: 0.2).",
    ]
    assert any("at the edge" in note for note in claims_report([*used, *tuned]).notes)


def test_warnings_of_the_runs_are_shown():
    runs = everything()
    runs[0] = replace(runs[0], code="new")
    runs[1] = replace(runs[1], state="failed", reason="diverged", scores={})
    report = claims_report([replace(run, protocol="paper") for run in runs])
    notes = "\n".join(report.notes)
    assert "MIXED code versions" in notes
    assert "No result: toy Unimodal seed 0: failed (diverged)" in notes
    assert any("selected on TEST" in warning for warning in report.warnings)


def test_runs_from_folders_replace_those_of_results_csv(tmp_path):
    old = [run_of("claims/price", "mla", seed, 60, epoch_time_s=1.0) for seed in (0, 1)]
    new = replace(old[1], path=tmp_path, identity="new", epoch_time_s=2.0)
    assert replace_repeated([*old, new]) == [old[0], new]
    assert replace_repeated([*old, *old]) == old
    failed = replace(new, state="failed", scores={})
    assert replace_repeated([*old, failed]) == old
    again = replace(new, run="again", identity="again")
    assert replace_repeated([new, again]) == [new, again]  # an error later: which one counts?


def test_results_are_added_and_none_is_lost(tmp_path):
    def write(*parts):
        runs = [run for part in parts for run in part]
        write_files(replace(claims_report(runs), figures={}), runs, tmp_path)
        return path.read_bytes()

    path = tmp_path / "results.csv"
    before = write(everything())
    written = read_csv(path)
    claimed = [run for run in everything() if run.name.startswith("claims/")]
    assert {run.key for run in written} == {run.key for run in claimed}
    with pytest.raises(RunError, match="Name it too"):
        write(fresh())
    assert path.read_bytes() == before
    grown = write(fresh(), written)
    assert len(read_csv(path)) == len(written) + len(fresh())
    assert write(read_csv(path), fresh()) == grown  # in any order, without duplicates


def test_results_csv_makes_the_same_page(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_csv(tmp_path / "results.csv", everything())
    again = claims_report(read_runs([tmp_path / "results.csv"]))
    assert [t.sections for t in again.tables] == [
        t.sections for t in claims_report(everything()).tables
    ]
    assert main(["results.csv", "--output", "out"]) == 0
    assert (tmp_path / "out" / "claims-3-modified.svg").is_file()


def test_runs_of_other_experiments_are_an_error():
    with pytest.raises(RunError, match="make claims"):
        claims_report([run_of("train", "mla", 0, 50)])


def test_errors_of_the_script_are_messages(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_csv(tmp_path / "results.csv", [run_of("train", "mla", 0, 50)])
    assert main(["--output", "out", "results.csv"]) == 1
    assert capsys.readouterr().err.startswith("error: The report on the claims needs runs")
