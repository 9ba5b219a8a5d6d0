"""Comparison of two runs."""

import json
import shutil

import numpy as np
import pytest
from tests.report.synthetic_runs import unseal

from mla_lightning.cli.main import main
from mla_lightning.errors import RunError
from mla_lightning.report.figures.style import ABOVE, BELOW
from mla_lightning.report.read.significance import mcnemar
from mla_lightning.report.tables.bootstrap import paired_differences
from mla_lightning.report.tables.compare import compare_runs
from mla_lightning.report.tables.sample_pairs import MAX_LISTED

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
            "missing": ["method=mla", "missing=bernoulli_restore", "missing.rate=0.3"],
            "missing_b": ["method=concat", "missing=bernoulli_restore", "missing.rate=0.3"],
        }.items():
            settings = {word.partition("=")[0]: word for word in [*SIZE, *words]}
            assert main(["train", "data=synthetic", *settings.values(), f"run_dir={name}"]) == 0
    return root


def texts_of(report, slug):
    """Return the texts of a table's cells by row."""
    (table,) = [t for t in report.tables if t.slug == slug]
    return {row.label: [cell.text for cell in row.cells] for s in table.sections for row in s.rows}


def test_settings_results_and_samples_are_those_of_the_runs(runs):
    report, disagreements = compare_runs(runs / "a", runs / "b")
    assert texts_of(report, "settings")["optimizer.lr"][1] == "0.02"
    results = [json.loads((runs / name / "result.json").read_text())["test"] for name in "ab"]
    accuracy = texts_of(report, "accuracy")
    for name in ("audio", "visual", "multi"):
        for column, result in enumerate(results):
            assert accuracy[name][column] == f"{100 * result[name]['accuracy']:.1f}"
    a, b = (np.load(runs / name / "predictions.npz") for name in "ab")
    predictions = [arrays["logits_multi"].argmax(axis=1) for arrays in (a, b)]
    assert len(disagreements) == int((predictions[0] != predictions[1]).sum()) > 0
    counts = {label: int(texts[0]) for label, texts in texts_of(report, "counts").items()}
    assert sum(list(counts.values())[:4]) == 40
    is_correct = [classes == a["label"] for classes in predictions]
    assert counts["only A correct"] == int((is_correct[0] & ~is_correct[1]).sum())
    for sample in disagreements:
        n = int(np.flatnonzero(a["index"] == sample.index)[0])
        assert sample.label == str(a["class_names"][a["label"][n]])
        assert sample.predictions[0] == str(a["class_names"][predictions[0][n]])


def test_a_run_equals_itself(runs, capsys):
    report, disagreements = compare_runs(runs / "a", runs / "a")
    assert disagreements == []
    assert texts_of(report, "accuracy")["multi"][2:] == ["0.0", "0.0 to 0.0", "1.000"]
    assert main(["compare", str(runs / "a"), str(runs / "a")]) == 0
    assert "No setting differs" in capsys.readouterr().out


def test_samples_with_different_predictions_can_be_drawn(runs, monkeypatch, capsys):
    monkeypatch.chdir(runs)
    assert main(["compare", "a", "b", "--output", "sheet.png"]) == 0
    assert (runs / "sheet.png").stat().st_size > 5000
    assert "samples that they disagree on" in capsys.readouterr().out


def test_openmoji_samples_have_names():
    from mla_lightning.data.openmoji import OpenMoji

    data = OpenMoji(batch_size=4)
    data.setup()
    names = data.sample_names("test", [0, 5])
    assert all(len(name) > 2 and not name.startswith("test") for name in names)


def test_runs_that_cannot_be_compared_are_an_error(runs):
    with pytest.raises(RunError, match="different test samples"):
        compare_runs(runs / "a", runs / "other")
    with pytest.raises(RunError, match=r"no finished run\. Runs below it: "):
        compare_runs(runs, runs / "a")


def test_without_test_predictions_only_settings_and_provenance_are_compared(runs):
    report, disagreements = compare_runs(runs / "a", runs / "untested")
    assert disagreements == []
    assert any("evaluate_test=false" in note for note in report.notes)


def test_mcnemar_is_the_two_sided_binomial_test():
    assert mcnemar(0, 0) == 1
    assert mcnemar(0, 5) == pytest.approx(2 / 32)
    assert mcnemar(3, 3) == 1


@pytest.mark.parametrize("pair", [("a", "b"), ("missing", "missing_b")])
def test_results_equal_the_recorded_ones_also_with_missing_modalities(runs, pair):
    report, _ = compare_runs(*(runs / name for name in pair))
    results = [json.loads((runs / name / "result.json").read_text())["test"] for name in pair]
    for slug, digits, scale in (("accuracy", 1, 100), ("macro_f1", 1, 100), ("ece", 3, 1)):
        by_modality = texts_of(report, slug)
        assert list(by_modality) == ["audio", "visual", "multi"]
        for name, texts in by_modality.items():
            recorded = [f"{scale * result[name][slug]:.{digits}f}" for result in results]
            assert texts[:2] == recorded, (slug, name)


def test_a_modality_is_compared_on_the_samples_that_have_it(runs):
    with np.load(runs / "missing" / "predictions.npz") as arrays:
        present = arrays["present_audio"]
    with np.load(runs / "a" / "predictions.npz") as arrays:
        assert not any(name.startswith("present_") for name in arrays.files)
    assert 0 < present.sum() < 40
    report, _ = compare_runs(runs / "missing", runs / "a")
    assert f"audio: on the {present.sum()} samples that have it in both." in report.notes


def test_predictions_of_an_earlier_version_without_presence_are_left_out(runs, tmp_path):
    folder = tmp_path / "old"
    shutil.copytree(runs / "missing", folder)
    unseal(folder)
    with np.load(folder / "predictions.npz") as arrays:
        others = {k: arrays[k] for k in arrays.files if not k.startswith("present_")}
    np.savez_compressed(folder / "predictions.npz", **others)
    report, _ = compare_runs(folder, runs / "a")
    notes = [note for note in report.notes if "is left out" in note]
    assert {note.split()[0] for note in notes} | set(texts_of(report, "accuracy")) == {
        *("audio", "visual", "multi")
    }
    assert any(
        note.startswith("audio is left out: predictions.npz of A does not") for note in notes
    )


def test_confidence_intervals_are_reproducible_and_contain_the_difference():
    rng = np.random.default_rng(3)
    label = rng.integers(0, 4, 300)
    good, bad = (rng.normal(size=(300, 4)) + boost * np.eye(4)[label] for boost in (3.0, 0.5))
    differences = paired_differences(label, (bad, good))
    assert differences == paired_differences(label, (bad, good))
    for name in ("accuracy", "macro_f1"):
        assert 0 < differences[name].low < differences[name].difference < differences[name].high
    gain = (good.argmax(axis=1) == label).astype(float) - (bad.argmax(axis=1) == label)
    error = gain.std() / 300**0.5  # the bootstrap interval is close to the normal one
    width = differences["accuracy"].high - differences["accuracy"].low
    assert width == pytest.approx(3.92 * error, rel=0.1)
    same = paired_differences(label, (good, good))
    assert all((result.low, result.high) == (0, 0) for result in same.values())


def test_provenance_and_sample_names_are_shown(runs, capsys, monkeypatch):
    report, disagreements = compare_runs(
        runs / "a", runs / "b", lambda indices: [f"n{index}" for index in indices]
    )
    provenance = texts_of(report, "origin")
    assert provenance["code"][1] == "the same"
    assert "optimizer.lr=0.02" in provenance["command"][1]
    index = disagreements[0].index
    assert next(iter(texts_of(report, "samples"))) == f"test {index}: n{index}"
    monkeypatch.chdir(runs)
    assert main(["compare", "a", "b"]) == 0
    assert f"test {index} " in capsys.readouterr().out


def test_a_sample_sheet_shows_images_in_colour_and_texts_as_words(tmp_path, monkeypatch):
    from mla_lightning.data.openmoji import OpenMoji
    from mla_lightning.prepare import chosen_samples

    drawn = []
    monkeypatch.setattr(chosen_samples, "draw", lambda axis, *arguments: drawn.append(arguments))
    data = OpenMoji(batch_size=4)
    data.setup()
    chosen_samples.chosen_samples(data, "test", [0], [[("x", None)]], tmp_path / "sheet.png")
    (picture, _, name), (_, modality, text) = drawn
    assert picture[:, 0, 0] == pytest.approx(1.0)  # the corner of a drawing is white
    assert (name, modality) == (text, "text")
    assert text == data.sample_names("test", [0])[0]


def test_the_sheet_marks_right_and_wrong_predictions_and_says_which_runs_they_are_of(
    runs, tmp_path, monkeypatch
):
    from mla_lightning.prepare import chosen_samples

    sheets = []
    monkeypatch.setattr(chosen_samples, "save_sheet", lambda figure, output: sheets.append(figure))
    monkeypatch.chdir(runs)
    assert main(["compare", "a", "b", "--output", str(tmp_path / "sheet.png")]) == 0
    (figure,) = sheets
    texts = {text.get_text(): text.get_color() for text in figure.texts}
    assert "A: a    B: b" in texts
    _, different = compare_runs(runs / "a", runs / "b")
    for sample in different[:MAX_LISTED]:
        for run, prediction, text in zip(
            "AB", sample.predictions, sample.prediction_texts, strict=True
        ):
            mark, colour = ("✓", ABOVE) if prediction == sample.label else ("✗", BELOW)
            assert texts[f"{mark} {run} {text}"] == colour


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("predictions.npz", lambda content: content[: len(content) // 2]),
        ("predictions.npz", lambda content: b""),
        ("config.yaml", lambda content: b"a: ["),
        ("config.yaml", lambda content: b"word"),
    ],
)
def test_a_damaged_file_is_named_with_its_run(runs, tmp_path, name, damage):
    folder = tmp_path / "damaged"
    shutil.copytree(runs / "a", folder)
    (folder / name).write_bytes(damage((folder / name).read_bytes()))
    with pytest.raises(RunError, match=rf"damaged: {name} .*overwrite=true"):
        compare_runs(runs / "a", folder)


def test_predictions_with_missing_arrays_are_an_error(runs, tmp_path):
    folder = tmp_path / "damaged"
    shutil.copytree(runs / "a", folder)
    unseal(folder)
    np.savez(folder / "predictions.npz", index=np.arange(40))
    with pytest.raises(RunError, match=r"lacks label, class_names, logits_multi"):
        compare_runs(runs / "a", folder)


@pytest.mark.parametrize("name", ["samples.txt", "samples"])
def test_an_output_that_is_no_image_file_is_an_error_before_anything_is_printed(
    runs, monkeypatch, capsys, name
):
    monkeypatch.chdir(runs)
    assert main(["compare", "a", "b", "--output", name]) == 2
    out, err = capsys.readouterr()
    assert ".png, .pdf" in err
    assert out == ""


def test_an_output_that_is_a_folder_is_an_error(runs, tmp_path, capsys):
    assert main(["compare", str(runs / "a"), str(runs / "b"), "--output", str(tmp_path)]) == 2
    assert "is a folder. Name a file" in capsys.readouterr().err
    assert not tmp_path.with_suffix(".png").exists()


def test_equal_predictions_draw_no_sample_sheet(runs, tmp_path, capsys):
    sheet = tmp_path / "sheet.png"
    assert main(["compare", str(runs / "a"), str(runs / "a"), "--output", str(sheet)]) == 0
    assert f"{sheet} is not written" in capsys.readouterr().out.replace("\n", " ")
    assert not sheet.exists()


def test_a_modality_that_only_one_run_has_is_left_out_with_a_note(runs, tmp_path):
    folder = tmp_path / "more"
    shutil.copytree(runs / "a", folder)
    unseal(folder)
    with np.load(folder / "predictions.npz") as arrays:
        content = dict(arrays)
    np.savez(folder / "predictions.npz", **content, logits_text=content["logits_audio"])
    assert "text is left out: only B has it." in compare_runs(runs / "a", folder)[0].notes
    assert "text is left out: only A has it." in compare_runs(folder, runs / "a")[0].notes
