"""Two runs side by side."""

import json
import shutil

import numpy as np
import pytest

from mla_lightning.cli.main import main
from mla_lightning.errors import RunError
from mla_lightning.report.tables.bootstrap import gaps
from mla_lightning.report.tables.compare import compare_runs, mcnemar

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
            "lacking": ["method=mla", "missing=bernoulli_restore", "missing.rate=0.3"],
            "lacking_b": ["method=concat", "missing=bernoulli_restore", "missing.rate=0.3"],
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
    names = data.sample_names("test", [0, 5])
    assert all(len(name) > 2 and not name.startswith("test") for name in names)


def test_what_cannot_be_compared_is_said(runs):
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


@pytest.mark.parametrize("pair", [("a", "b"), ("lacking", "lacking_b")])
def test_numbers_are_the_runs_own_also_where_modalities_are_missing(runs, pair):
    report, _ = compare_runs(*(runs / name for name in pair))
    results = [json.loads((runs / name / "result.json").read_text())["test"] for name in pair]
    for slug, digits, scale in (("accuracy", 1, 100), ("macro_f1", 1, 100), ("ece", 3, 1)):
        found = table(report, slug)
        assert list(found) == ["audio", "visual", "multi"]
        for name, texts in found.items():
            own = [f"{scale * result[name][slug]:.{digits}f}" for result in results]
            assert texts[:2] == own, (slug, name)


def test_of_samples_that_lack_a_modality_nothing_is_asked_of_it(runs):
    with np.load(runs / "lacking" / "predictions.npz") as arrays:
        present = arrays["present_audio"]
    with np.load(runs / "a" / "predictions.npz") as arrays:
        assert not any(name.startswith("present_") for name in arrays.files)
    assert 0 < present.sum() < 40
    report, _ = compare_runs(runs / "lacking", runs / "a")
    assert f"audio: on the {present.sum()} samples that both runs had it of." in report.notes


def test_an_older_file_that_does_not_tell_what_is_missing_gives_no_number(runs, tmp_path):
    folder = tmp_path / "old"
    shutil.copytree(runs / "lacking", folder)
    with np.load(folder / "predictions.npz") as arrays:
        kept = {k: arrays[k] for k in arrays.files if not k.startswith("present_")}
    np.savez_compressed(folder / "predictions.npz", **kept)
    report, _ = compare_runs(folder, runs / "a")
    left = [note for note in report.notes if "is left out" in note]
    assert {note.split()[0] for note in left} | set(table(report, "accuracy")) == {
        *("audio", "visual", "multi")
    }
    assert any(note.startswith("audio is left out: predictions.npz of A does not") for note in left)


def test_intervals_are_seeded_and_hold_the_gap():
    rng = np.random.default_rng(3)
    label = rng.integers(0, 4, 300)
    good, bad = (rng.normal(size=(300, 4)) + boost * np.eye(4)[label] for boost in (3.0, 0.5))
    found = gaps(label, (bad, good))
    assert found == gaps(label, (bad, good))
    for name, sign in (("accuracy", 1), ("macro_f1", 1)):
        gap = found[name]
        assert gap.low < gap.difference < gap.high
        assert gap.low * sign > 0
    right = (good.argmax(axis=1) == label).astype(float) - (bad.argmax(axis=1) == label)
    error = right.std() / 300**0.5  # the bootstrap's interval is close to the normal one
    assert found["accuracy"].high - found["accuracy"].low == pytest.approx(3.92 * error, rel=0.1)
    same = gaps(label, (good, good))
    assert all((gap.low, gap.high) == (0, 0) for gap in same.values())


def test_origin_and_names_are_told(runs, capsys, monkeypatch):
    report, found = compare_runs(runs / "a", runs / "b", lambda numbers: [f"n{n}" for n in numbers])
    origin = table(report, "origin")
    assert origin["code"][1] == "the same"
    assert "optimizer.lr=0.02" in origin["command"][1]
    first = next(iter(table(report, "samples")))
    assert first == f"test {found[0].index}: n{found[0].index}"
    monkeypatch.chdir(runs)
    assert main(["compare", "a", "b"]) == 0
    assert f"test {found[0].index} " in capsys.readouterr().out


def test_pictures_have_their_colours_and_texts_their_words(tmp_path, monkeypatch):
    from mla_lightning.data.openmoji import OpenMoji
    from mla_lightning.prepare import sample_sheet

    drawn = []
    monkeypatch.setattr(sample_sheet, "_draw", lambda axis, *given: drawn.append(given))
    data = OpenMoji(batch_size=4)
    data.setup()
    sample_sheet.sample_sheet(data, "test", [0], ["x"], tmp_path / "sheet.png")
    (picture, _, name), (_, modality, said) = drawn
    assert picture[:, 0, 0] == pytest.approx(1.0)  # the corner of a drawing is white
    assert (name, modality) == (said, "text")
    assert said == data.sample_names("test", [0])[0]


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


def test_predictions_without_their_parts_are_told(runs, tmp_path):
    folder = tmp_path / "damaged"
    shutil.copytree(runs / "a", folder)
    np.savez(folder / "predictions.npz", index=np.arange(40))
    with pytest.raises(RunError, match=r"lacks label, class_names, logits_multi"):
        compare_runs(runs / "a", folder)


@pytest.mark.parametrize(("name", "told"), [("dis.txt", ".png, .pdf"), ("dis", ".png, .pdf")])
def test_an_output_that_is_no_picture_is_refused_first(runs, monkeypatch, capsys, name, told):
    monkeypatch.chdir(runs)
    assert main(["compare", "a", "b", "--output", name]) == 2
    out, err = capsys.readouterr()
    assert told in err
    assert out == ""


def test_an_output_that_is_a_folder_is_refused(runs, tmp_path, capsys):
    assert main(["compare", str(runs / "a"), str(runs / "b"), "--output", str(tmp_path)]) == 2
    assert "is a folder. Name a file" in capsys.readouterr().err
    assert not tmp_path.with_suffix(".png").exists()


def test_without_a_disagreement_it_is_said_that_nothing_is_drawn(runs, tmp_path, capsys):
    sheet = tmp_path / "sheet.png"
    assert main(["compare", str(runs / "a"), str(runs / "a"), "--output", str(sheet)]) == 0
    assert f"{sheet} is not written" in capsys.readouterr().out.replace("\n", " ")
    assert not sheet.exists()


def test_a_modality_that_one_run_alone_has_is_told(runs, tmp_path):
    folder = tmp_path / "more"
    shutil.copytree(runs / "a", folder)
    with np.load(folder / "predictions.npz") as arrays:
        kept = dict(arrays)
    np.savez(folder / "predictions.npz", **kept, logits_text=kept["logits_audio"])
    assert "text is left out: only B has it." in compare_runs(runs / "a", folder)[0].notes
    assert "text is left out: only A has it." in compare_runs(folder, runs / "a")[0].notes
