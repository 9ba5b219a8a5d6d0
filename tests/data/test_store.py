"""Prepared stores: arrays are read as they were written, and all damage is reported."""

import json
import pickle
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from mla_lightning.data.mapped import MappedArray
from mla_lightning.data.prepared import Prepared
from mla_lightning.data.splits import NamedSplit, stratified
from mla_lightning.data.store import open_store, verify_store, write_store
from mla_lightning.data.store_problems import find_problems
from mla_lightning.errors import ConfigError, DataError
from mla_lightning.inputs.features import Features
from mla_lightning.inputs.images import Images
from mla_lightning.inputs.spectrograms import Spectrograms

N = 40
RNG = np.random.default_rng(0)
LABEL = np.arange(N) % 4
ARRAYS = {
    "picture": RNG.integers(0, 256, (N, 3, 8, 8), dtype=np.uint8),
    "film": RNG.integers(0, 256, (N, 2, 3, 8, 8), dtype=np.uint8),
    "sound": RNG.normal(size=(N, 10, 5)).astype(np.float16),
    "words": RNG.integers(0, 9, (N, 6)),
    "vector": RNG.normal(size=(N, 7)).astype(np.float32),
}
KINDS = dict(zip(ARRAYS, ("image", "frames", "spectrogram", "tokens", "features"), strict=True))
IDS = [f"s{number:02d}" for number in RNG.permutation(N)]
CODES = stratified([str(v) for v in LABEL], (0.5, 0.25, 0.25), seed=0)


def make(folder, **changes):
    arguments = {
        "name": "toy",
        "class_names": ("a", "b", "c", "d"),
        "ids": IDS,
        "label": LABEL,
        "arrays": ARRAYS,
        "kinds": KINDS,
        "splits": {"own": NamedSplit(CODES, "half, quarter, quarter")},
        "attributes": {"speaker": [f"p{number % 10}" for number in range(N)]},
    }
    write_store(folder, **(arguments | changes))
    return folder


def prepared(folder, **options):
    data = Prepared(path=folder, batch_size=8, **options)
    data.setup()
    return data


def test_rows_are_sorted_by_id_and_read_as_written(tmp_path):
    store = open_store(make(tmp_path / "s"))
    assert store.ids == sorted(IDS)
    order = np.argsort(IDS)
    assert (store.label == LABEL[order]).all()
    rows = torch.tensor([3, 0, 30])
    for name, values in ARRAYS.items():
        read = store.array(name).index_select(0, rows)
        assert torch.equal(read, torch.from_numpy(values[order][rows.numpy()]))
    assert store.attribute("speaker") == [f"p{number % 10}" for number in order]
    assert verify_store(store.folder) == []


def converted(data, batch, draws=None):
    return {
        name: data.inputs[name](values, draws) if name in data.inputs else values
        for name, values in batch["inputs"].items()
    }


def test_stored_rows_become_the_inputs_of_encoders(tmp_path):
    data = prepared(make(tmp_path / "s"))
    assert data.name == "toy"
    assert [len(data.splits[split]) for split in ("train", "val", "test")] == [20, 10, 10]
    batch = next(iter(data.test_dataloader()))
    stored = {name: values.dtype for name, values in batch["inputs"].items()}
    assert stored == {
        "picture": torch.uint8,  # a quarter of the bytes of float32 to copy to the device
        "film": torch.uint8,
        "sound": torch.float16,
        "words": torch.int64,
        "vector": torch.float32,
    }
    inputs = converted(data, batch)
    shapes = {name: tuple(values.shape[1:]) for name, values in inputs.items()}
    assert shapes == {
        "picture": (3, 8, 8),
        "film": (3, 2, 8, 8),
        "sound": (1, 10, 5),
        "words": (6,),
        "vector": (7,),
    }
    for name in ("picture", "film"):
        assert inputs[name].dtype == torch.float32
        assert 0 <= inputs[name].min() < 0.1 < 0.9 < inputs[name].max() <= 1
    assert inputs["words"].dtype == torch.int64
    order = np.argsort(IDS)
    rows = np.flatnonzero(CODES[order] == 2)
    assert batch["label"].tolist() == LABEL[order][rows].tolist()
    assert torch.equal(inputs["vector"], torch.from_numpy(ARRAYS["vector"][order][rows]))
    film = torch.from_numpy(ARRAYS["film"][order][rows]).float() / 255
    torch.testing.assert_close(inputs["film"], film.transpose(1, 2))


def test_inputs_of_the_config_replace_the_default_ones(tmp_path):
    folder = make(tmp_path / "s")
    data = prepared(folder, inputs={"sound": Spectrograms(-1.0, 3.0)})
    batch = next(iter(data.test_dataloader()))
    default = converted(prepared(folder), batch)
    scaled = converted(data, batch)
    torch.testing.assert_close(scaled["sound"], (default["sound"] + 1) / 3)
    assert torch.equal(scaled["picture"], default["picture"])
    assert prepared(folder, modalities=["words", "vector"]).inputs.keys() == {"vector"}
    for wrong, message in (
        ({"pictur": Images()}, "no such modality. Did you mean 'picture'"),
        ({"words": Features()}, "takes features, the store holds tokens. Leave it out"),
        ({"sound": Images()}, "takes frames and image, the store holds spectrogram. Use Spectro"),
    ):
        with pytest.raises(ConfigError, match=message):
            Prepared(path=folder, inputs=wrong, batch_size=8)
    with pytest.raises(ConfigError, match=r"data\.path is not set"):
        Prepared(path=None, batch_size=8)


def test_workers_and_a_second_reader_give_the_same_batches(tmp_path):
    folder = make(tmp_path / "s")
    batches = list(prepared(folder).train_dataloader())
    of_workers = list(prepared(folder, num_workers=2).train_dataloader())
    for batch, other in zip(batches, of_workers, strict=True):
        assert torch.equal(batch["index"], other["index"])
        assert all(torch.equal(batch["inputs"][m], other["inputs"][m]) for m in ARRAYS)


def test_a_mapped_array_pickles_as_its_path(tmp_path):
    array = open_store(make(tmp_path / "s")).array("vector")
    pickled = pickle.dumps(array)
    assert len(pickled) < 500
    assert len(pickle.loads(pickled)) == N
    with pytest.raises(DataError, match="cannot be read as an array"):
        MappedArray(tmp_path / "none.npy")


def test_the_fingerprint_depends_on_arrays_and_split(tmp_path):
    splits = {
        "own": NamedSplit(CODES, "x"),
        "other": NamedSplit(np.roll(CODES, 1), "y"),
    }
    first = make(tmp_path / "first", splits=splits)
    same = make(tmp_path / "same", splits=splits)
    changed = ARRAYS | {"vector": ARRAYS["vector"] + 1}
    different = make(tmp_path / "different", splits=splits, arrays=changed)
    fingerprints = [
        prepared(first).fingerprint,
        prepared(same).fingerprint,
        prepared(first, split="other").fingerprint,
        prepared(different).fingerprint,
    ]
    assert fingerprints[0] == fingerprints[1]
    assert len(set(fingerprints)) == 3


def test_the_description_has_the_overlap_of_train_and_test(tmp_path):
    description = prepared(make(tmp_path / "s")).describe()
    assert description["description"] == "half, quarter, quarter"
    order = np.argsort(IDS)
    speakers = np.array([f"p{number % 10}" for number in range(N)])[order]
    codes = CODES[order]
    assert description["overlap"] == {
        "speaker": len(set(speakers[codes == 0]) & set(speakers[codes == 2]))
    }
    assert description["overlap"]["speaker"] > 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ids": ["s00", *IDS[1:-1], "s00"]}, "'s00' occurs twice"),
        ({"label": LABEL + 1}, "labels must be 0 to 3"),
        ({"label": LABEL[1:]}, "lengths differ: .*label 39"),
        ({"class_names": ("a",)}, "at least two classes"),
        ({"arrays": ARRAYS | {"vector": ARRAYS["vector"].astype(complex)}}, "complex128"),
        ({"splits": {"own": NamedSplit(CODES * 0, "x")}}, "'own' has no validation sample"),
        ({"splits": {"own": NamedSplit(CODES + 3, "x")}}, "'own' does not fit"),
    ],
)
def test_wrong_stores_are_not_written(tmp_path, changes, message):
    with pytest.raises(DataError, match=message):
        make(tmp_path / "s", **changes)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_value_that_is_not_finite_is_located(tmp_path, value):
    vector = ARRAYS["vector"].copy()
    vector[IDS.index("s07"), 2] = value
    with pytest.raises(DataError, match=r"vector\.npy, row 7: a value is not finite"):
        make(tmp_path / "s", arrays=ARRAYS | {"vector": vector})


def flip(path):
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))


def test_all_damage_is_reported(tmp_path):
    folder = make(tmp_path / "s")
    flip(folder / "vector.npy")
    (folder / "split.own.npy").unlink()
    np.save(folder / "stray.npy", np.zeros(3))
    problems = "; ".join(verify_store(folder))
    for text in ("vector.npy is not the file", "split.own.npy is missing", "stray.npy is not in"):
        assert text in problems


def test_the_message_of_a_store_that_cannot_be_opened_says_what_to_do(tmp_path):
    with pytest.raises(DataError, match=r"Make it: mla data prepare mfeat$"):
        open_store(tmp_path / "mfeat")
    with pytest.raises(DataError, match="mla data prepare NAME raw=DIR"):
        Prepared(path=tmp_path / "none", batch_size=8)
    (tmp_path / "half.partial").mkdir()
    with pytest.raises(DataError, match="not finished; run the same"):
        open_store(tmp_path / "half")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"it has no manifest\.json"):
        open_store(tmp_path / "empty")
    folder = make(tmp_path / "s")
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(manifest | {"version": 2}))
    with pytest.raises(DataError, match=r"has format 2; this version .* reads format 1"):
        open_store(folder)
    (folder / "manifest.json").write_text(json.dumps(manifest))
    (folder / "sound.npy").unlink()
    with pytest.raises(DataError, match=r"has no file sound\.npy"):
        open_store(folder)
    with pytest.raises(DataError, match="exists"):
        make(folder)


def test_unknown_splits_and_modalities_are_errors(tmp_path):
    folder = make(tmp_path / "s")
    with pytest.raises(DataError, match=re.escape("no split 'won'. Did you mean 'own'")):
        Prepared(path=folder, split="won", batch_size=8)
    with pytest.raises(ConfigError, match=r"no modality 'sund'\. Did you mean 'sound'"):
        Prepared(path=folder, batch_size=8, modalities=["sund", "words"])


def test_absent_modalities_are_marked_in_batches(tmp_path):
    present = np.ones(N, dtype=bool)
    present[np.flatnonzero(CODES == 0)[:3]] = False
    folder = make(tmp_path / "s", present={"sound": present})
    data = prepared(folder)
    assert not data.is_complete
    assert int((~data.masks["train"]).sum()) == 3
    assert prepared(folder, modalities=["picture", "words"]).is_complete
    with pytest.raises(DataError, match=r"sample \d+ has none of sound"):
        prepared(folder, modalities=["sound"])
    data = prepared(folder, modalities=["picture", "words"])
    assert len(data.splits["train"]) == 20
    present = np.ones(N, dtype=bool)
    present[np.flatnonzero(CODES == 2)[:3]] = False
    data = prepared(make(tmp_path / "t", present={"sound": present}))
    (batch,) = list(data.test_dataloader())
    assert int((~batch["present"]["sound"]).sum()) == 3
    assert batch["present"]["words"].all()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda manifest: manifest.pop("arrays"), "is damaged: KeyError"),
        (lambda manifest: manifest.pop("modalities"), "is damaged: KeyError"),
        (lambda manifest: manifest["arrays"].pop("label.npy"), "does not list label.npy"),
        (lambda manifest: manifest.update(default_split="none"), "no split 'none', its default"),
        (lambda manifest: manifest.update(arrays=[]), "is damaged"),
    ],
)
def test_a_damaged_manifest_is_an_error(tmp_path, damage, message):
    folder = make(tmp_path / "s")
    manifest = json.loads((folder / "manifest.json").read_text())
    damage(manifest)
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(DataError, match=re.escape(message)):
        open_store(folder)
    if "default" not in message and "list" not in message:
        with pytest.raises(DataError, match=re.escape(message)):
            verify_store(folder)


def test_arrays_of_another_shape_or_type_are_errors(tmp_path):
    folder = make(tmp_path / "s")
    np.save(folder / "vector.npy", ARRAYS["vector"][:, :3])
    with pytest.raises(DataError, match=r"vector.npy is float32 of \(40, 3\), the manifest says"):
        open_store(folder)
    assert any("vector.npy" in problem for problem in verify_store(folder))
    np.save(folder / "vector.npy", ARRAYS["vector"].astype(np.float16))
    with pytest.raises(DataError, match="is float16"):
        open_store(folder)


def test_presence_and_attributes_must_have_a_row_per_sample(tmp_path):
    folder = make(tmp_path / "s")
    np.save(folder / "vector.present.npy", np.ones(3, dtype=bool))
    np.save(folder / "attribute.speaker.npy", np.array(["x"]))
    problems = "; ".join(find_problems(folder, ("a", "b", "c", "d"), ("vector",), ("own",)))
    assert "vector.present.npy has 3 rows for 40" in problems
    assert "attribute.speaker.npy has 1 rows for 40" in problems
    np.save(folder / "label.npy", LABEL.astype(float))
    problems = "; ".join(find_problems(folder, ("a", "b", "c", "d"), ("vector",), ("own",)))
    assert "labels must be whole numbers" in problems


READS = """
import re, sys
from pathlib import Path
import torch
from mla_lightning.data.mapped import MappedArray

def private_kb():
    text = Path("/proc/self/smaps_rollup").read_text()
    return int(re.search(r"Anonymous: +(\\d+) kB", text)[1])

rows = MappedArray(Path(sys.argv[1]))
rows.index_select(0, torch.arange(8))
before = private_kb()
for numbers in torch.randperm(len(rows)).split(64):
    rows.index_select(0, numbers).sum()
print(private_kb() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="only Linux has it")
def test_reading_all_rows_needs_no_memory_that_grows_with_their_number(tmp_path):
    increases = []
    for num in (1000, 20_000):
        np.save(tmp_path / "rows.npy", np.ones((num, 4096), dtype=np.uint8))  # 4 and 82 MB
        command = [sys.executable, "-c", READS, str(tmp_path / "rows.npy")]
        increases.append(int(subprocess.run(command, capture_output=True, check=True).stdout))
    assert max(increases) < 40_000  # kB; the larger file has 82,000
