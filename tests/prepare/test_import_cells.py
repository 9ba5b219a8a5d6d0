"""Missing modalities, sequences, groups and folds of imported arrays."""

import re

import numpy as np
import pytest

from mla_lightning.cli.main import main
from mla_lightning.data.splits import overlap
from mla_lightning.data.store import open_store
from mla_lightning.errors import ConfigError, DataError
from mla_lightning.prepare.import_arrays import import_arrays

NUM = 40
LABEL = np.arange(NUM) % 2
RNG = np.random.default_rng(0)
SOUND = RNG.normal(size=(NUM, 5)).astype(np.float32)
STEPS = RNG.normal(size=(NUM, 6, 3)).astype(np.float32) + 5
LENGTHS = 1 + np.arange(NUM) % 6
IS_STEP = np.arange(6) < LENGTHS[:, None]


def imported(folder, *, options=None, **changes):
    arrays = {"label": LABEL, "sound": SOUND, "face": SOUND[:, :2]} | changes
    np.savez(folder / "a.npz", **{k: v for k, v in arrays.items() if v is not None})
    return open_store(import_arrays(folder / "a.npz", folder / "s", **(options or {})))


def with_values(array, value, *places):
    array = array.copy()
    for place in places:
        array[place] = value
    return array


def values(store, name):
    return np.load(store.folder / f"{name}.npy")


# ---------------------------------------------------------------------- missing modalities


def test_rows_of_nan_and_a_present_array_say_the_same(tmp_path, capsys):
    rows = [3, 17, 18]
    (tmp_path / "nan").mkdir()
    (tmp_path / "mask").mkdir()
    by_nan = imported(tmp_path / "nan", sound=with_values(SOUND, np.nan, *rows))
    assert re.search(r"sound .*, missing for 3 of 40 samples", capsys.readouterr().out)
    is_present = ~np.isin(np.arange(NUM), rows)
    sound = with_values(SOUND, np.inf, 17)  # what is said to be missing is not looked at
    by_mask = imported(tmp_path / "mask", sound=sound, **{"sound.present": is_present})
    assert by_nan.fingerprint == by_mask.fingerprint
    assert by_nan.present("sound").tolist() == is_present.tolist()
    assert by_nan.present("face") is None
    assert (values(by_nan, "sound") == np.where(is_present[:, None], SOUND, 0)).all()


def test_a_row_with_some_nan_is_an_error_or_left_out(tmp_path, capsys):
    sound = with_values(SOUND, np.nan, (3, 2), (5, 0), 9)
    sound[7, 1] = -np.inf
    with pytest.raises(DataError, match=r"'sound', row 3: a value is not finite \(nan; in 3 of 40"):
        imported(tmp_path, sound=sound)
    store = imported(tmp_path, sound=sound, options={"on_bad": "skip"})
    assert store.ids == [f"{row:02d}" for row in range(NUM) if row not in (3, 5, 7)]
    assert (store.label == np.delete(LABEL, [3, 5, 7])).all()
    assert np.flatnonzero(~store.present("sound")).tolist() == [store.ids.index("09")]
    assert (values(store, "face") == np.delete(SOUND, [3, 5, 7], axis=0)[:, :2]).all()
    failures = store.manifest["failures"]
    assert [(f["id"], f["modality"]) for f in failures] == [
        (i, "sound") for i in ("03", "05", "07")
    ]
    assert failures[2]["reason"] == "a value is not finite (-inf)"
    printed = capsys.readouterr().out
    assert "3 of 40 samples are left out" in printed
    assert "row 7, id 07, sound: a value is not finite (-inf)" in printed


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sound.present": np.ones(NUM)}, r"'sound.present' is float64 .* must be \(N,\) bool"),
        ({"sound.present": np.ones(NUM - 1, dtype=bool)}, "lengths differ: .*sound.present 39"),
        ({"sound.present": np.zeros(NUM, dtype=bool)}, "'sound' is missing in all rows"),
        ({"sound": SOUND * np.nan}, "'sound' is missing in all rows"),
        (
            {"sound": with_values(SOUND, np.nan, 4), "sound.present": np.ones(NUM, dtype=bool)},
            "'sound', row 4: a value is not finite",
        ),
        (
            {"sound": with_values(SOUND, np.nan, 4), "face": with_values(SOUND, np.nan, 4)},
            "row 4: no modality is present .in 1 rows.*on_bad=skip",
        ),
        ({"label": np.array(["a", "nan"] * 20)}, "'label', row 1: the label 'nan' is no class"),
        ({"label": np.array([b"a", b"\xff"] * 20)}, r"label.astype\(str\)"),
        ({"label": LABEL.astype(float)}, r"Convert whole numbers: label.astype\(int\)"),
        ({"label": LABEL + 0.5}, r"np.digitize\(label, bounds\)"),
        ({"label": np.eye(2)[LABEL]}, r"label.argmax\(axis=1\)"),
        ({"group": np.ones((NUM, 2))}, r"'group' has the shape \(40, 2\)"),
        ({"face": np.ones((NUM, 3, 4, 4), dtype=np.uint8)}, "image of 4 x 4: .* at least 8 x 8"),
    ],
)
def test_what_cannot_be_meant_is_an_error(tmp_path, changes, message):
    with pytest.raises(DataError, match=message):
        imported(tmp_path, **changes)


def test_samples_without_a_class_can_be_left_out(tmp_path):
    label = np.array(["cat", "dog"] * 20)
    label[[2, 30]] = ["nan", ""]
    store = imported(tmp_path, label=label, options={"on_bad": "skip"})
    assert store.manifest["class_names"] == ["cat", "dog"]
    assert [failure["id"] for failure in store.manifest["failures"]] == ["02", "30"]


def test_classes_that_are_numbers_are_in_their_order(tmp_path):
    label = np.array(["0", "1", "2", "10"] * 10)
    assert imported(tmp_path, label=label).manifest["class_names"] == ["0", "1", "2", "10"]


# ---------------------------------------------------------------------- sequences


@pytest.mark.parametrize("form", ["lengths", "nan", "zeros"])
def test_three_ways_to_say_where_sequences_end(tmp_path, capsys, form):
    padding = {"lengths": 7.0, "nan": np.nan, "zeros": 0.0}[form]
    padded = np.where(IS_STEP[:, :, None], STEPS, padding).astype(np.float32)
    extra = {"face.lengths": LENGTHS} if form == "lengths" else {}
    options = {"kinds": {"face": "sequence"}} if form == "zeros" else {}
    store = imported(tmp_path, face=padded, options=options, **extra)
    assert "sequences of 1 to 6 steps of 3 values" in capsys.readouterr().out
    assert store.manifest["modalities"]["face"]["kind"] == "features"
    assert (values(store, "face") == np.where(IS_STEP[:, :, None], STEPS, 0)).all()
    assert store.present("face") is None


def test_nothing_guesses_between_sequences_and_spectrograms(tmp_path):
    face = RNG.normal(size=(NUM, 9, 8)).astype(np.float32)
    with pytest.raises(ConfigError, match=r"arrays\.face=sequence or arrays\.face=spectrogram"):
        imported(tmp_path, face=face)
    kinds = {}
    for kind in ("sequence", "spectrogram"):
        (tmp_path / kind).mkdir()
        store = imported(tmp_path / kind, face=face, options={"kinds": {"face": kind}})
        kinds[kind] = store.manifest["modalities"]["face"]["kind"]
    assert kinds == {"sequence": "features", "spectrogram": "spectrogram"}


@pytest.mark.parametrize(
    ("kinds", "changes", "message"),
    [
        ({"fase": "sequence"}, {}, r"arrays\.fase: there is no array 'fase'. Did you mean 'face'"),
        ({"face": "sequenze"}, {}, "must be sequence or spectrogram. Did you mean 'sequence'"),
        ({"sound": "sequence"}, {}, r"'sound' is float32 of shape \(40, 5\); arrays.sound="),
        ({}, {"sound.lengths": LENGTHS}, "an array of lengths is for float"),
        ({"face": "spectrogram"}, {"face.lengths": LENGTHS}, "arrays.face=spectrogram takes none"),
        ({}, {"face.lengths": LENGTHS + 1}, "'face.lengths', row 5: 7 steps, but 'face' has 6"),
        ({}, {"face.lengths": LENGTHS + 0.5}, "'face.lengths' is float64 .* whole numbers"),
        ({"face": "spectrogram"}, {}, "spectrogram of 6 x 3: .* Use arrays.face=sequence"),
        (
            {"face": "sequence"},
            {"face": with_values(STEPS, np.nan, (2, 1))},
            "'face', row 2: a value is not finite",
        ),
    ],
)
def test_wrong_sequences_are_errors(tmp_path, kinds, changes, message):
    with pytest.raises((ConfigError, DataError), match=message):
        imported(tmp_path, **({"face": STEPS} | changes), options={"kinds": kinds})


@pytest.mark.parametrize(
    "method",
    [
        "method=mla",
        "method=mmin missing=anchor method.pretrain_epochs=1",
        "method=tate missing=anchor method.pretrain_epochs=1",
    ],
)
def test_methods_train_on_imported_sequences(tmp_path, monkeypatch, method):
    monkeypatch.chdir(tmp_path)
    face = np.where(IS_STEP[:, :, None], STEPS + LABEL[:, None, None], 0)
    np.savez("a.npz", label=LABEL, sound=SOUND, face=face)
    assert main(["data", "import", "a.npz", "target=s", "arrays.face=sequence"]) == 0
    train = ["train", "data=store", "data.path=s", *method.split(), "trainer.max_epochs=2"]
    assert main(train) == 0


# ---------------------------------------------------------------------- splits


def test_other_names_of_val_are_known(tmp_path):
    split = np.array(["train", "train", "dev", "test"])[np.arange(NUM) // 2 % 4]
    store = imported(tmp_path, split=split)
    assert store.manifest["splits"]["own"]["sizes"] == [20, 10, 10]
    with pytest.raises(DataError, match="the split 'vld' is unknown"):
        import_arrays_with(tmp_path, np.where(split == "dev", "vld", split))


def test_a_split_is_drawn_although_there_is_an_array_of_it(tmp_path):
    split = np.array(["train", "val"])[np.arange(NUM) // 2 % 2]
    with pytest.raises(DataError, match=r"no sample of split 'test'.*split=draw"):
        imported(tmp_path, split=split)
    store = imported(tmp_path, split=split, options={"split": "draw"})
    assert store.manifest["splits"]["own"]["sizes"] == [28, 4, 8]
    assert store.manifest["splits"]["own"]["description"].endswith("the data's own is left out")
    with pytest.raises(ConfigError, match=r"split=draw has no effect: .* no array 'split'"):
        import_arrays(imported_file(tmp_path), tmp_path / "u", split="draw")


def imported_file(folder):
    np.savez(folder / "c.npz", label=LABEL, sound=SOUND)
    return folder / "c.npz"


def import_arrays_with(folder, split):
    np.savez(folder / "b.npz", label=LABEL, sound=SOUND, split=split)
    import_arrays(folder / "b.npz", folder / "t")


def test_groups_stay_in_one_split_and_are_stored(tmp_path):
    group = np.array([f"p{number}" for number in np.arange(NUM) // 4])
    store = imported(tmp_path, group=group)
    assert store.attribute("group") == group.tolist()
    assert store.manifest["splits"]["own"]["group"] == "group"
    assert overlap(store.split("own"), group) == []


def test_validation_of_a_split_without_one_keeps_groups_together(tmp_path):
    group = np.array([f"p{number}" for number in np.arange(NUM) // 4])
    split = np.where(np.arange(NUM) < 32, "train", "test")
    codes = imported(tmp_path, group=group, split=split).split("own")
    assert set(group[codes == 1]).isdisjoint(group[codes != 1])
    assert (codes == 1).sum() == 4


def test_folds_are_named_splits_to_train_on(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.savez("a.npz", label=LABEL, sound=SOUND, group=np.arange(NUM) // 4)
    assert main(["data", "import", "a.npz", "target=s", "folds=5"]) == 0
    store = open_store(tmp_path / "s")
    assert list(store.manifest["splits"]) == [f"fold{number}" for number in range(5)]
    assert sum((store.split(f"fold{number}") == 2).astype(int) for number in range(5)).max() == 1
    np.savez("b.npz", label=LABEL, sound=SOUND, split=LABEL)
    assert main(["data", "import", "b.npz", "target=t", "folds=5"]) == 2


def test_rows_are_counted_in_the_file_when_samples_before_them_are_left_out(tmp_path):
    sound = with_values(SOUND, np.inf, 0)
    options = {"on_bad": "skip"}
    label = LABEL + (np.arange(NUM) == 5)
    names = np.array(["a", "b"])
    with pytest.raises(DataError, match="the label 2 of row 5 has no name"):
        imported(tmp_path, sound=sound, label=label, class_names=names, options=options)
    split = np.array(["train", "val", "test"])[np.arange(NUM) % 3].astype("<U5")
    split[7] = "tset"
    with pytest.raises(DataError, match="row 7: the split 'tset' is unknown"):
        imported(tmp_path, sound=sound, split=split, options=options)
