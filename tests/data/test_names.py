"""Names never become paths unchecked: of data sets, modalities, splits, attributes and files."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mla_lightning.cli.main import main
from mla_lightning.data.prepared import Prepared
from mla_lightning.data.sources.base import Item, Source
from mla_lightning.data.splits import NamedSplit
from mla_lightning.data.store import open_store, verify_store, write_store
from mla_lightning.errors import DataError
from mla_lightning.inputs.names import modality_name_problem
from mla_lightning.media.base import ArrayInput, FileInput
from mla_lightning.media.values import Values
from mla_lightning.paths import name_problem
from mla_lightning.prepare.engine import prepare
from mla_lightning.prepare.import_arrays import import_arrays

BAD = ("../../x", "a/b", "/x", "..", ".", "", "a\nb", "a\0b", "x" * 201, "\ud800")


@given(st.text())
def test_a_name_without_problem_stays_in_its_folder(name):
    if not name_problem(name):
        path = Path("/a/b") / f"{name}.npy"
        assert path.parent == Path("/a/b")
        assert path.name == f"{name}.npy"
        assert Path("/a/b", name).parent == Path("/a/b")


def test_bad_names_have_a_problem_and_usual_ones_have_none():
    for name in (*BAD, 3, None):
        assert name_problem(name)
    for name in ("my data", "größe=3", "日本", "a\\b", "a,b [1]", "-x", ".hidden"):
        assert name_problem(name) == ""
    for name in BAD:
        assert modality_name_problem(name)


def arguments(**changes):
    label = np.arange(12) % 2
    return {
        "name": "toy",
        "class_names": ("a", "b"),
        "ids": [f"s{k:02d}" for k in range(12)],
        "label": label,
        "arrays": {"one": np.eye(2, 3, dtype=np.float32)[label]},
        "kinds": {"one": "features"},
        "splits": {"own": NamedSplit(np.arange(12) // 2 % 3, "in turn")},
        "attributes": {"speaker": ["p"] * 12},
    } | changes


@pytest.mark.parametrize("bad", ["../../x", "a/b", "\0"])
def test_a_store_with_a_bad_name_is_not_written(tmp_path, bad):
    usual = arguments()
    values = usual["arrays"]["one"]
    for change in (
        {"name": bad},
        {"arrays": {bad: values}, "kinds": {bad: "features"}},
        {"splits": {bad: usual["splits"]["own"]}},
        {"attributes": {bad: ["p"] * 12}},
    ):
        with pytest.raises(DataError, match="since it names files"):
            write_store(tmp_path / "in" / "s", **arguments(**change))
    assert list(tmp_path.rglob("*")) == []


@pytest.mark.parametrize(
    "damage",
    [
        lambda manifest: manifest.update(name="../../x"),
        lambda manifest: manifest["arrays"].update({"../x.npy": manifest["arrays"]["one.npy"]}),
        lambda manifest: manifest["splits"].update({"../own": manifest["splits"]["own"]}),
        lambda manifest: manifest["modalities"].update({"../one": manifest["modalities"]["one"]}),
        lambda manifest: manifest.update(name=["toy"]),
    ],
)
def test_a_manifest_with_a_bad_name_is_refused_before_a_file_is_opened(tmp_path, damage, capfd):
    folder = tmp_path / "in" / "s"
    write_store(folder, **arguments())
    manifest = json.loads((folder / "manifest.json").read_text())
    damage(manifest)
    (folder / "manifest.json").write_text(json.dumps(manifest))
    before = sorted(tmp_path.rglob("*"))
    for use in (open_store, verify_store, lambda path: Prepared(path=path, batch_size=4)):
        with pytest.raises(DataError, match=r"manifest\.json: the "):
            use(folder)
    words = ["data=store", f"data.path={folder}", f"target={tmp_path / 'new'}"]
    assert main(["data", "embed", *words, "encoder=auto"]) == 3
    assert "manifest.json" in capfd.readouterr().err
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("name", ["../../x", "a/b"])
def test_an_import_with_a_bad_name_fails_before_any_work(tmp_path, monkeypatch, capsys, name):
    monkeypatch.chdir(tmp_path)
    label = np.arange(20) % 2
    np.savez("a.npz", label=label, one=np.eye(2, 3)[label])
    Path("a.csv").write_text("id,label,words\n" + "".join(f"{k},{k % 2},x\n" for k in range(20)))
    before = sorted(tmp_path.rglob("*"))
    for file in ("a.npz", "a.csv"):
        assert main(["data", "import", file, "target=in/s", f"name={name}"]) == 2
        assert f"name={name!r} must have no '/'" in capsys.readouterr().err
    assert sorted(tmp_path.rglob("*")) == before
    with pytest.raises(DataError, match="'a/b'"):
        import_arrays(Path("a.npz"), Path("in/s"), name="a/b")


class Listed(Source):
    """A source whose list names a file."""

    name = "listed"
    class_names = ("a", "b")
    modalities = ("one",)
    how_to_get = "Nowhere."
    default_split = "own"

    def __init__(self, raw, file=None, split="own"):
        super().__init__(raw)
        self.file, self.split = file, split

    def items(self):
        items = [Item(f"s{k}", "ab"[k % 2], {"one": ArrayInput(np.ones(2))}) for k in range(6)]
        file = {"one": FileInput(Path(self.file))} if self.file else items[0].inputs
        return [Item("s0", "a", file), *items[1:]]

    def extractors(self):
        return {"one": Values((2,))}

    def splits(self, items):
        return {self.split: NamedSplit(np.arange(len(items)) // 2 % 3, "in turn")}


@pytest.mark.parametrize("file", ["../x.npy", "/etc/passwd", "a/../../x"])
def test_an_official_list_cannot_name_files_outside_of_raw(tmp_path, file):
    with pytest.raises(DataError, match=r"listed, s0: .* leads out of .*authors"):
        prepare(Listed(tmp_path, file), tmp_path / "s", jobs=1)
    with pytest.raises(DataError, match="the split 'a/b'"):
        prepare(Listed(tmp_path, split="a/b"), tmp_path / "s", jobs=1)
    assert list(tmp_path.iterdir()) == []


def test_names_of_hdf5_features_and_of_pickled_utterances_are_checked(tmp_path):
    from tests.fakes.iemocap_features import fake_gcnet_features, fake_mmin_features

    from mla_lightning.data.sources import iemocap_features as features
    from mla_lightning.errors import ConfigError
    from mla_lightning.media import pickles

    with pytest.raises(ConfigError, match=r"audio=\.\./x\.h5 must be a path below raw"):
        features.IEMOCAPFeatures(tmp_path, layout="mmin", audio="../x.h5")
    raw = fake_mmin_features(tmp_path / "m", per_class=2)
    import h5py

    with h5py.File(raw / "V" / "denseface.h5", "a") as file:
        values = file["Ses02M_impro01_F000"][()]
        values.tofile(tmp_path / "secret.bin")
        del file["Ses02M_impro01_F000"]
        outside = [(str(tmp_path / "secret.bin"), 0, values.nbytes)]
        file.create_dataset("Ses02M_impro01_F000", values.shape, values.dtype, external=outside)
    with pytest.raises(DataError, match="is not read: its values are in another file"):
        features.IEMOCAPFeatures(raw, layout="mmin").items()
    raw = fake_gcnet_features(tmp_path / "g", per_class=2)
    table = raw / "IEMOCAP_features_raw_4way.pkl"
    content = list(pickles.read_pickle(table, encoding="latin1"))
    dialog = next(iter(content[0]))
    content[0][dialog][0] = "../../secret"
    table.write_bytes(__import__("pickle").dumps(tuple(content), protocol=2))
    with pytest.raises(DataError, match=r"the id '\.\./\.\./secret' must have no '/'"):
        features.IEMOCAPFeatures(raw).items()
