"""The plan of an import of arrays: facts that agree with numpy, and warnings where due."""

import re
from pathlib import Path

import numpy as np
import pytest

from mla_lightning.cli.main import main
from mla_lightning.data.store import open_store
from mla_lightning.errors import ConfigError, DataError
from mla_lightning.prepare import array_facts
from mla_lightning.prepare.array_facts import ArrayFacts
from mla_lightning.prepare.import_arrays import import_arrays

NUM = 60
LABEL = np.arange(NUM) * 7 % 3
RNG = np.random.default_rng(0)


def plan(folder, capsys, **changes):
    """Print the plan of arrays and return its lines by array, and the warnings."""
    arrays = {"label": LABEL, "audio": RNG.normal(size=(NUM, 4))} | changes
    np.savez(folder / "a.npz", **{k: v for k, v in arrays.items() if v is not None})
    import_arrays(folder / "a.npz", folder / "store", plan=True)
    assert not (folder / "store").exists()
    lines = capsys.readouterr().out.splitlines()
    entries = {line.split()[0]: line for line in lines if line.startswith("  ")}
    return entries, [x.removeprefix("warning: ") for x in lines if x.startswith("warning: ")]


def test_a_plan_has_a_line_per_array_and_nothing_is_written(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    audio = RNG.normal(2, 3, size=(NUM, 5))
    audio[4] = np.nan
    face = RNG.normal(size=(NUM, 6, 2))
    face[::2, 4:] = np.nan
    np.savez(
        "my.npz",
        label=np.array(["cat", "dog", "emu"])[LABEL],
        split=np.array(["train", "dev", "test"])[np.arange(NUM) // 20],
        audio=audio,
        face=face,
        words=RNG.integers(1, 40, size=(NUM, 7)),
        picture=RNG.integers(0, 200, size=(NUM, 3, 8, 8), dtype=np.uint8),
    )
    assert main(["data", "import", "my.npz", "--plan"]) == 0
    output = capsys.readouterr().out
    assert not Path("data").exists()
    assert "Nothing was written" in output
    present = np.delete(audio, 4, axis=0).astype(np.float32)
    mean, deviation = present.mean(axis=0), present.std(axis=0)
    for line in (
        "my.npz: 60 rows, 6 arrays",
        "  label    label     3 classes: cat 20, dog 20, emu 20",
        "  split    split     train 20, val 20, test 20",
        "  audio    features  float64 (60, 5), missing for 1 of 60 samples, "
        f"{present.min():.3g} to {present.max():.3g}, means {mean.min():.3g} to {mean.max():.3g}, "
        "deviations "
        f"{deviation.min():.3g} to {deviation.max():.3g}: float (N, D) -> a feature vector, each "
        "column standardised",
        "(no array id: the ids are the numbers of the rows)",
    ):
        assert line in output
    assert re.search(r"face +sequence +.*, sequences of 4 to 6 steps of 2 values, .*NaN at", output)
    assert re.search(r"words +tokens +int64 \(60, 7\), 1 to 39: int \(N, L\) -> token ids", output)
    assert re.search(r"picture +image +uint8 \(60, 3, 8, 8\), 0 to 199: .* -> pixels", output)
    assert "warning" not in output
    assert main(["data", "import", "my.npz", "target=store"]) == 0
    assert capsys.readouterr().out.startswith(output.partition("Nothing was")[0])
    assert len(open_store(Path("store"))) == NUM


def wide(column, values):
    array = RNG.normal(size=(NUM, 4))
    array[:, column] = values
    return array


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x": LABEL[:, None].astype(float)}, "x: each value occurs with one label only"),
        ({"x": LABEL[:, None] + 5}, "x: each value occurs with one label only"),
        ({"x": np.eye(3)[LABEL]}, "x: each value occurs with one label only"),
        ({"x": wide(2, LABEL * 2.5)}, "x: each value of column 2 occurs with one label only"),
        ({"x": wide(1, np.arange(NUM) + 100)}, "x: column 1 counts the rows, as an identifier"),
        ({"x": np.full((NUM, 3), 7.0)}, "x is the same in all rows"),
        ({"x": np.zeros((NUM, 1, 8, 8), np.uint8)}, "x is the same in all rows"),
        ({"x": np.full((NUM, 3), 4)}, "x is the same in all rows"),
        ({"x": wide(3, 1e6)}, "x: column 3 is constant and becomes 0"),
        ({"x": wide(0, RNG.normal(size=NUM) * 1e5)}, "x: the deviations of its columns differ"),
        ({"x": np.where(np.arange(NUM)[:, None] < 9, 0, wide(0, 1.5))}, "x: 9 of 60 rows hold zer"),
        ({"x": np.where(np.arange(NUM)[:, None] < 9, 0, 3 + LABEL[:, None] * [1, 0])}, "no tokens"),
        ({"label": np.array(["cat", "Cat", "dog"])[LABEL]}, "'Cat', 'cat' differ only in spelling"),
        ({"label": np.char.add("c", np.arange(NUM).astype(str))}, "60 classes have fewer than 3"),
    ],
)
def test_what_may_mislead_is_warned_of(tmp_path, capsys, changes, message):
    _, warnings = plan(tmp_path, capsys, **changes)
    assert any(message in warning for warning in warnings), warnings
    assert all(not warning.startswith("audio") for warning in warnings)


def test_a_value_far_from_the_others_is_warned_of(tmp_path, capsys):
    num = 6000
    x = RNG.normal(size=(num, 2))
    x[77, 1] = -1e5
    label = np.arange(num) % 2
    arrays = {"label": label, "audio": RNG.normal(size=(num, 3)), "x": x}
    _, warnings = plan(tmp_path, capsys, **arrays)
    far = (x[:, 1].mean() + 1e5) / x[:, 1].std()
    assert any(f"column 1 holds -1e+05, {far:.0f} deviations off its mean" in w for w in warnings)
    assert "data.scale=robust" in "".join(warnings)


def test_a_column_of_nan_is_named(tmp_path, capsys):
    with pytest.raises(DataError, match=r"row 0: a value is not finite \(nan; in 60 of 60"):
        plan(tmp_path, capsys, x=wide(2, np.nan))
    assert "warning: x: column 2 is mostly NaN" in capsys.readouterr().out


def test_spectrograms_are_not_scaled_and_large_ones_are_warned_of(tmp_path, capsys):
    sound = RNG.normal(size=(NUM, 9, 8)) * 1e5
    np.savez(tmp_path / "a.npz", label=LABEL, sound=sound, audio=RNG.normal(size=(NUM, 3)))
    with pytest.raises(ConfigError, match=r"arrays\.sound=sequence or arrays\.sound=spectrogram"):
        import_arrays(tmp_path / "a.npz", tmp_path / "s", plan=True)
    assert "sound  unclear" in capsys.readouterr().out
    import_arrays(tmp_path / "a.npz", tmp_path / "s", plan=True, kinds={"sound": "spectrogram"})
    output = capsys.readouterr().out
    assert "arrays.sound=spectrogram -> a spectrogram" in output
    assert "warning: sound holds values of up to" in output


@pytest.mark.parametrize("seed", range(3))
def test_facts_of_blocks_are_those_of_the_whole(seed, monkeypatch):
    rng = np.random.default_rng(seed)
    monkeypatch.setattr(array_facts, "_MAX_ROWS", 50)
    x = (rng.normal(size=(333, 6)) * [1, 10, 1e3, 1e-3, 1, 0] + [0, 1e4, 0, 0, 0, 4]).astype("f4")
    is_missing = rng.random(333) < 0.2
    label = rng.integers(0, 4, 333)
    x[:, 4] = label
    facts = ArrayFacts("x", "features", 333)
    for rows in np.split(np.arange(333), np.sort(rng.integers(0, 333, 5))):
        facts.add(x[rows], is_missing[rows])
    present = x[~is_missing].astype(np.float64)
    np.testing.assert_allclose(facts.mean, present.mean(axis=0), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(facts.deviation, present.std(axis=0), rtol=1e-6, atol=1e-12)
    assert (facts.low, facts.high) == (present.min(), present.max())
    assert (facts.num, facts.constant_columns) == (len(present), [5])
    assert any("column 4 occurs with one label" in w for w in facts.warnings(list(map(str, label))))
    assert not any("one label" in w for w in facts.warnings(list(map(str, rng.permutation(label)))))


@pytest.mark.parametrize(
    ("array", "remedy"),
    [
        (np.zeros((NUM, 16, 16), np.uint8), lambda x: x[:, None]),
        (np.zeros((NUM, 16, 16, 3), np.uint8), lambda x: x[..., :3].transpose(0, 3, 1, 2)),
        (np.zeros((NUM, 16, 16, 4), np.uint8), lambda x: x[..., :3].transpose(0, 3, 1, 2)),
        (np.zeros((NUM, 2, 8, 8, 3), np.uint8), lambda x: x[..., :3].transpose(0, 1, 4, 2, 3)),
        (np.zeros((NUM, 3, 16, 16)), lambda x: (255 * x).round().astype("uint8")),
        (np.arange(NUM), lambda x: x[:, None].astype("float32")),
        (np.zeros((NUM, 9), np.uint8), lambda x: x.astype("float32")),
        (np.zeros((NUM, 9), complex), np.abs),
    ],
)
def test_the_remedy_for_an_array_of_no_kind_is_one(tmp_path, array, remedy):
    """The code of the message is run, and its result can be imported."""
    path = tmp_path / "a.npz"
    np.savez(path, label=LABEL, x=array)
    with pytest.raises(DataError, match=r"Convert it with (.*)") as raised:
        import_arrays(path, tmp_path / "s", plan=True)
    code = str(raised.value).partition("Convert it with ")[2].partition(" for ")[0]
    converted = eval(code, {"x": array, "np": np})
    np.testing.assert_array_equal(converted, remedy(array))
    np.savez(path, label=LABEL, x=converted)
    import_arrays(path, tmp_path / "s", plan=True)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("X_train", "y_train", "X_test", "y_test"), r"an array for each split .*'split' \(N,\)"),
        (("X", "y"), "If it is 'y', name it 'label'"),
        (("x", "labels"), "Did you mean 'labels'"),
    ],
)
def test_arrays_without_a_label_come_with_what_may_be_meant(tmp_path, names, message):
    np.savez(tmp_path / "a.npz", **{name: np.zeros((4, 2)) for name in names})
    with pytest.raises(DataError, match=message):
        import_arrays(tmp_path / "a.npz", tmp_path / "s")


def test_token_ids_without_an_embedding_are_an_error(tmp_path, capsys):
    with pytest.raises(DataError, match=r"'x' has token ids up to 1,000,000,000,.*np\.unique"):
        plan(tmp_path, capsys, x=np.full((NUM, 3), 10**9) - LABEL[:, None])
    plan(tmp_path, capsys, x=np.full((NUM, 3), 10**6) - LABEL[:, None])
