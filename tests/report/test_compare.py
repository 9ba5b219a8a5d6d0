"""Two runs side by side."""

import json

import numpy as np
import pytest

from mla_lightning.cli import main
from mla_lightning.report.compare import compare_runs, mcnemar

SIZE = ["data.num_train=96", "data.num_val=40", "data.num_test=40", "trainer.max_epochs=3"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    root = tmp_path_factory.mktemp("compare")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        for name, words in {
            "a": ["method=mla"],
            "b": ["method=mla", "optimizer.lr=0.02"],
            "other": ["method=mla", "data.num_test=30"],
            "untested": ["method=mla", "evaluate_test=false"],
        }.items():
            given = {word.partition("=")[0]: word for word in [*SIZE, *words]}
            assert main(["train", "data=synthetic", *given.values(), f"run_dir={name}"]) == 0
    return root


def table(report, slug):
    found = next(t for t in report.tables if t.slug == slug)
    return {row.label: [cell.text for cell in row.cells] for s in found.sections for row in s.rows}


def test_settings_numbers_and_samples_are_those_of_the_runs(runs):
    report, found = compare_runs(runs / "a", runs / "b")
    assert table(report, "settings")["optimizer.lr"][1] == "0.02"
    results = [json.loads((runs / name / "result.json").read_text())["test"] for name in "ab"]
    accuracy = table(report, "accuracy")
    for name in ("audio", "visual", "multi"):
        for place, result in enumerate(results):
            assert accuracy[name][place] == f"{100 * result[name]['accuracy']:.1f}"
    a, b = (np.load(runs / name / "predictions.npz") for name in "ab")
    answers = [arrays["logits_multi"].argmax(axis=1) for arrays in (a, b)]
    assert len(found) == int((answers[0] != answers[1]).sum()) > 0
    counts = table(report, "counts")
    numbers = [int(counts[key][0]) for key in list(counts)[:4]]
    assert sum(numbers) == 40
    right = [answer == a["label"] for answer in answers]
    assert numbers[1] == int((right[0] & ~right[1]).sum())
    for one in found:
        place = int(np.flatnonzero(a["index"] == one.index)[0])
        assert one.label == str(a["class_names"][a["label"][place]])
        assert one.answers[0] == str(a["class_names"][answers[0][place]])


def test_a_run_equals_itself(runs, capsys):
    report, found = compare_runs(runs / "a", runs / "a")
    assert found == []
    assert table(report, "accuracy")["multi"][2:] == ["0.0", "0.0 to 0.0", "1.000"]
    assert main(["compare", str(runs / "a"), str(runs / "a")]) == 0
    assert "No setting differs" in capsys.readouterr().out


def test_the_samples_can_be_seen(runs, monkeypatch, capsys):
    monkeypatch.chdir(runs)
    assert main(["compare", "a", "b", "--output", "sheet.png"]) == 0
    assert (runs / "sheet.png").stat().st_size > 5000
    assert "samples that they disagree on" in capsys.readouterr().out


def test_samples_are_called_what_people_call_them():
    from mla_lightning.data.openmoji import OpenMoji

    data = OpenMoji(batch_size=4)
    data.setup()
    names = data.called("test", [0, 5])
    assert all(len(name) > 2 and not name.startswith("test") for name in names)


def test_what_cannot_be_compared_is_said(runs):
    from mla_lightning.errors import RunError

    with pytest.raises(RunError, match="other test samples"):
        compare_runs(runs / "a", runs / "other")
    with pytest.raises(RunError, match=r"no finished run\. Below it: "):
        compare_runs(runs, runs / "a")
    report, found = compare_runs(runs / "a", runs / "untested")
    assert found == []
    assert any("evaluate_test=false" in note for note in report.notes)


def test_mcnemar_is_the_binomial_test():
    assert mcnemar(0, 0) == 1
    assert mcnemar(0, 5) == pytest.approx(2 / 32)
    assert mcnemar(3, 3) == 1
