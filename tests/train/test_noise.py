"""Noisy inputs: what they change, what they leave, and that they are the same for all."""

from __future__ import annotations

import csv
import statistics

import pytest

import mla_lightning as mla
from mla_lightning.cli.main import main
from mla_lightning.run.noise import ALL, evaluate_with_noise


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    words = ("data=synthetic", "method=late_fusion", "trainer.max_epochs=3", "scheduler=null")
    return mla.train(*words, folder=tmp_path_factory.mktemp("noise"))


@pytest.fixture(scope="module")
def rows(run):
    rows = evaluate_with_noise(run.folder, [0.0, 1.0, 50.0])
    return {(row.noisy, row.level): row.scores for row in rows}


def test_without_noise_the_scores_are_those_of_the_run(run, rows) -> None:
    for noisy in ("audio", "visual", ALL):
        assert rows[noisy, 0.0] == run.result.test


def test_noise_on_a_modality_changes_that_one_and_the_fusion_alone(run, rows) -> None:
    clean, noisy = run.result.test, rows["audio", 50.0]
    assert noisy["visual"] == clean["visual"]
    assert noisy["audio"]["accuracy"] < clean["audio"]["accuracy"]
    assert noisy["multi"] != clean["multi"]


def test_with_much_noise_on_all_nothing_is_left(rows) -> None:
    """Four classes of equal size, 160 samples: chance is 0.25, four deviations of it 0.14."""
    for name in ("audio", "visual", "multi"):
        assert rows[ALL, 50.0][name]["accuracy"] == pytest.approx(0.25, abs=0.14)


def test_all_is_the_noise_of_each_modality_at_once(rows) -> None:
    for name in ("audio", "visual"):
        assert rows[ALL, 1.0][name] == rows[name, 1.0][name]


def test_tokens_are_replaced(tmp_path) -> None:
    words = ("data=openmoji", "method=late_fusion", "trainer.max_epochs=1", "scheduler=null")
    run = mla.train(*words, "evaluate_probe=false", folder=tmp_path)
    clean, noisy = (row.scores for row in evaluate_with_noise(run.folder, [0.0, 1.0])[2:4])
    assert clean == run.result.test
    assert noisy["text"]["accuracy"] < clean["text"]["accuracy"]
    assert noisy["image"] == clean["image"]


def test_the_command_prints_and_writes_every_level(run, tmp_path, capsys) -> None:
    output = tmp_path / "noise.csv"
    words = ["eval", str(run.folder), "noise=0,1", "split=val", f"output={output}"]
    assert main(words) == 0
    out = capsys.readouterr().out
    assert "accuracy with noise on the inputs" in out
    with output.open() as file:
        written = list(csv.DictReader(file))
    value = next(
        float(row["value"])
        for row in written
        if (row["noise_on"], row["level"], row["modality"], row["metric"])
        == ("audio", "0.0", "multi", "accuracy")
    )
    assert value == run.result.val["multi"]["accuracy"]
    assert main(words) == 2  # nothing is overwritten
    assert "exists already" in capsys.readouterr().err


def test_several_runs_are_compared_by_method_in_a_table_a_figure_and_numbers(
    run, rows, tmp_path, capsys
) -> None:
    words = ("data=synthetic", "method=concat", "trainer.max_epochs=3", "scheduler=null")
    for seed in (0, 1):
        mla.train(*words, f"seed={seed}", folder=tmp_path / "runs")
    figure = tmp_path / "noise.svg"
    words = ["eval", str(tmp_path / "runs"), str(run.folder), "noise=0,50", f"output={figure}"]
    assert main(words) == 0
    out = capsys.readouterr().out
    assert "noise on visual" in out
    with (tmp_path / "noise.csv").open() as file:
        written = list(csv.DictReader(file))
    values = {
        (row["method"], row["seed"], row["noise_on"], row["level"]): float(row["value"])
        for row in written
        if (row["modality"], row["metric"]) == ("multi", "accuracy")
    }
    assert values["Late Fusion", "0", "audio", "50.0"] == rows["audio", 50.0]["multi"]["accuracy"]
    pair = [100 * values["Concat", seed, "all", "50.0"] for seed in "01"]
    mean, sd = statistics.fmean(pair), statistics.stdev(pair)
    assert f"{mean:.1f} ± {sd:.1f} (2)" in out
    for label in ("Concat", "Late Fusion"):
        assert f'id="column:{label}' in figure.read_text()


def test_runs_of_two_data_sets_are_not_compared(run, tmp_path, capsys) -> None:
    other = mla.train("data=openmoji", "method=concat", "debug=fast", folder=tmp_path)
    assert main(["eval", str(run.folder), str(other.folder), "noise=1"]) == 1
    assert "runs of one data set; these are of: " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["noise=-1"], "at least 0"),
        (["noise=loud"], "must be a number"),
        (["output=a.csv"], "no effect without noise"),
        (["noise=1", "output=a.txt"], "must end with .csv"),
    ],
)
def test_refusals(run, words, message, capsys) -> None:
    assert main(["eval", str(run.folder), *words]) == 2
    assert message in capsys.readouterr().err
