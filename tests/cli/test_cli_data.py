"""`mla data`: list, prepare, check, show and import data sets, and wrong commands."""

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image as PILImage
from tests.media.media_files import tone, write_wav

import mla_lightning.data.sources
from mla_lightning.cli import data as cli_data
from mla_lightning.cli.main import main
from mla_lightning.config import conf_dir
from mla_lightning.prepare.catalogue import read_catalogue

MODULE = '''"""Tones."""
from pathlib import Path
from typing import Literal

from mla_lightning.data.sources.base import Item, Source
from mla_lightning.data.splits import NamedSplit, stratified
from mla_lightning.errors import DataError
from mla_lightning.media.audio import LogMel
from mla_lightning.media.image import Image
from mla_lightning.media.base import FileInput, TextInput
from mla_lightning.media.text import Tokens


class Tones(Source):
    """High and low tones with pictures and words.

    More of it.
    """

    name = "tones"
    class_names = ("high", "low")
    modalities = ("audio", "image", "text")
    how_to_get = (
        "Ask the piano tuner; raw is the folder "
        "with wav/."
    )
    default_split = "random"

    def __init__(
        self,
        raw: Path,
        *,
        num_mels: int = 8,
        loud: bool = False,
        rule: Literal["all", "even"] = "all",
        only: tuple[str, ...] | None = None,
        scale: float = 1.0,
    ) -> None:
        super().__init__(raw)
        self.given = {"loud": loud, "rule": rule, "only": only, "scale": scale}
        self.num_mels = num_mels

    def items(self):
        if not (self.raw / "wav").is_dir():
            raise DataError(f"{self.raw}/wav was not found. {self.how_to_get}")
        stems = sorted(path.stem for path in (self.raw / "wav").glob("*.wav"))
        return [
            Item(
                stem,
                stem.partition("_")[0],
                {
                    "audio": FileInput(Path("wav") / f"{stem}.wav"),
                    "image": FileInput(Path("jpg") / f"{stem}.jpg"),
                    "text": TextInput(f"a ${stem} tone"),
                },
                {"text": f"a ${stem} tone", "speaker": "piano"},
            )
            for stem in stems
        ]

    def extractors(self):
        return {
            "audio": LogMel(num_frames=20, num_mels=self.num_mels),
            "image": Image(8),
            "text": Tokens(length=5),
        }

    def splits(self, items):
        codes = stratified([item.label for item in items], (0.5, 0.25, 0.25), 0)
        return {"random": NamedSplit(codes, "At random.")}

    def options(self):
        return {**self.given, "only": list(self.given["only"] or ())}
'''


@pytest.fixture
def tones(tmp_path, monkeypatch):
    """Add a data set to the package, and change to an empty folder with its files in raw/."""
    place = tmp_path / "package"
    place.mkdir()
    (place / "tones.py").write_text(MODULE)
    sources = mla_lightning.data.sources
    monkeypatch.setattr(sources, "__path__", [*sources.__path__, str(place)])
    monkeypatch.delitem(sys.modules, "mla_lightning.data.sources.tones", raising=False)
    monkeypatch.chdir(tmp_path)
    raw = tmp_path / "raw"
    for number in range(8):
        for label, hertz in (("high", 2000.0), ("low", 200.0)):
            write_wav(raw / "wav" / f"{label}_{number}.wav", tone(0.2, 16000, hertz + number))
            (raw / "jpg").mkdir(exist_ok=True)
            PILImage.new("RGB", (9, 9), (number, 9, 9)).save(raw / "jpg" / f"{label}_{number}.jpg")
    return raw


def run(capsys, *words, code=0):
    exit_code = main(["data", *map(str, words)])
    captured = capsys.readouterr()
    assert exit_code == code, captured.err
    return captured.out if code == 0 else captured.err


def test_list_shows_all_data_sets_and_which_are_prepared(tones, capsys):
    listed = run(capsys, "list")
    assert "tones" in listed
    assert "High and low tones with pictures and words.\n" in listed
    assert "Ask the piano tuner; raw is the folder with wav/." in listed
    assert "not prepared in data/tones" in listed
    assert "openmoji" in listed
    run(capsys, "prepare", "tones", f"raw={tones}")
    assert "prepared: data/tones" in run(capsys, "list")


def test_every_source_of_the_package_is_listed_with_how_to_get_it():
    import importlib
    import inspect
    import pkgutil

    from mla_lightning.data.sources.base import Source

    classes = {}
    for module in pkgutil.iter_modules(
        mla_lightning.data.sources.__path__, "mla_lightning.data.sources."
    ):
        if module.ispkg or module.name.endswith("_build"):
            continue
        for kind in vars(importlib.import_module(module.name)).values():
            is_own = inspect.isclass(kind) and kind.__module__ == module.name
            if is_own and issubclass(kind, Source) and not inspect.isabstract(kind):
                classes[kind.name] = kind
    listed = {name: entry for name, entry in read_catalogue().items() if entry.class_name}
    assert listed.keys() == classes.keys()
    for name, entry in listed.items():
        assert entry.class_name == classes[name].__name__
        assert entry.how_to_get == " ".join(classes[name].how_to_get.split()), name
        assert entry.summary, name


def test_list_and_help_do_not_import_torch():
    code = (
        "import sys; from mla_lightning.cli.main import main; main(['data', 'list']); "
        "print(sorted({'torch', 'av', 'numpy', 'PIL', 'matplotlib'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_prepare_check_and_show(tones, capsys):
    output = run(capsys, "prepare", "tones", f"raw={tones}", "num_mels=6", "jobs=2")
    assert "split random (default): 8/4/4 train/val/test. At random." in output
    assert "train and test share 1 values of speaker" in output
    assert "mla train data=tones" in output
    assert np.load("data/tones/audio.npy").shape == (16, 20, 6)
    assert "was prepared before" in run(capsys, "prepare", "tones", f"raw={tones}", "num_mels=6")
    assert "tones matches its manifest" in run(capsys, "check", "tones")
    assert "Wrote tones.png" in run(capsys, "show", "tones", "per_class=2")
    with PILImage.open("tones.png") as sheet:
        assert sheet.size[0] > 200
        assert len(np.unique(np.asarray(sheet))) > 20
    run(capsys, "show", "data/tones", "output=out/sheet.png", "seed=1")
    assert Path("out/sheet.png").exists()
    array = np.load("data/tones/audio.npy", mmap_mode="r+")
    array[3, 3, 3] += 1
    array.flush()
    message = run(capsys, "check", "data/tones", code=3)
    assert "audio.npy" in message
    assert "rm -r data/tones" in message


def test_options_are_converted_to_their_types(tones, capsys):
    words = ["num_mels=5", "loud=true", "rule=even", "only=a,b", "scale=0.5", "target=elsewhere"]
    output = run(capsys, "prepare", "tones", f"raw={tones}", *words)
    assert "mla train data=tones data.path=elsewhere" in output
    options = json.loads(Path("elsewhere/manifest.json").read_text())["options"]
    options.pop("identity")
    assert options == {"loud": True, "rule": "even", "only": ["a", "b"], "scale": 0.5}
    output = run(capsys, "prepare", "tones", f"raw={tones}", "paths.data_dir=big")
    assert "mla train data=tones paths.data_dir=big" in output
    both = ["target=a", "paths.data_dir=big"]
    assert "give one" in run(capsys, "prepare", "tones", f"raw={tones}", *both, code=2)


@pytest.mark.parametrize("layout", ["file", "folder", "inside"])
def test_archives_are_unpacked(tones, capsys, layout):
    place = Path("download")
    place.mkdir()
    with zipfile.ZipFile(place / "tones.zip", "w") as archive:
        for path in sorted(tones.rglob("*.*")):
            name = path.relative_to(tones).as_posix()
            archive.write(path, f"tones-master/{name}" if layout == "file" else name)
    raw = place / "tones.zip" if layout == "file" else place
    output = run(capsys, "prepare", "tones", f"raw={raw}")
    assert "Unpacking download/tones.zip" in output
    assert np.load("data/tones/label.npy").tolist() == [0] * 8 + [1] * 8


def test_damaged_files_end_with_code_3_and_can_be_skipped(tones, capsys):
    (tones / "wav" / "low_3.wav").write_bytes(b"")
    message = run(capsys, "prepare", "tones", f"raw={tones}", code=3)
    assert "1 of 16 items of tones cannot be read:" in message
    assert "low_3, audio (wav/low_3.wav): empty: 0 bytes" in message
    assert "unfinished: data/tones.partial" in run(capsys, "list")
    assert "is not finished" in run(capsys, "check", "tones", code=3)
    output = run(capsys, "prepare", "tones", f"raw={tones}", "on_bad=skip")
    assert "15 of 16 items are done; continuing." in output
    assert "15 items, 1 bad ones left out" in output
    assert "1 failures recorded" in run(capsys, "check", "tones")


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["prepare", "tone"], 2, "Unknown data set 'tone'. Did you mean 'tones'?"),
        (["prepare", "tones"], 2, "raw is missing: mla data prepare tones raw=... Ask the piano"),
        (["prepare"], 2, "mla data prepare takes one NAME"),
        (["prepare", "tones", "more"], 2, "takes one NAME, got 'tones more'"),
        (["prepare", "tones", "raw=raw", "num_mel=3"], 2, "'num_mel'. Did you mean 'num_mels'?"),
        (["prepare", "tones", "raw=raw", "job=3"], 2, "unknown option 'job'. Did you mean 'jobs'?"),
        (["prepare", "tones", "raw=raw", "num_mels=x"], 2, "num_mels must be a whole number"),
        (["prepare", "tones", "raw=raw", "loud=1"], 2, "loud must be true or false, got '1'"),
        (["prepare", "tones", "raw=raw", "rule=al"], 2, "rule=al: must be one of all, even. Did"),
        (["prepare", "tones", "raw=raw", "scale=x"], 2, "scale must be a number, got 'x'"),
        (["prepare", "tones", "raw=raw", "jobs=x"], 2, "jobs must be a whole number"),
        (["prepare", "tones", "raw=raw", "on_bad=no"], 2, "on_bad must be stop or skip"),
        (["prepare", "tones", "raw=raw", "raw=b"], 2, "raw is given twice"),
        (["prepare", "tones", "raw=nowhere"], 3, "raw=nowhere does not exist. Ask the piano"),
        (["prepare", "tones", "raw=package"], 3, "package/wav was not found. Ask the piano"),
        (["prepare", "tones", "raw=package/tones.py"], 3, "neither a folder nor an archive"),
        (["check", "tones"], 3, "not prepared yet: mla data prepare tones raw=DIR"),
        (["check", "package"], 3, "No store in data/package or package."),
        (["check", "tones", "x=1"], 2, "mla data check takes no options, got x"),
        (["show", "tones"], 3, "not prepared yet"),
        (["list", "x"], 2, "mla data list takes no arguments"),
        (["import", "nothing.csv"], 3, "nothing.csv does not exist"),
        (["import", "package/tones.py"], 2, "a .csv or .npz file, or a folder of .npy"),
        (["import", "raw"], 2, "target is missing: mla data import raw target="),
        (["shwo"], 2, "mla data has no action 'shwo'. Did you mean 'show'?"),
    ],
)
def test_wrong_commands_have_their_exit_code_and_message(tones, capsys, words, code, message):
    assert message in run(capsys, *words, code=code)


def test_show_rejects_wrong_options(tones, capsys):
    run(capsys, "prepare", "tones", f"raw={tones}")
    for words, message in (
        (["per_class=0"], "per_class must be at least 1"),
        (["output=a.pdf"], "the sheet is a .png file"),
        (["per_clas=1"], "Did you mean 'per_class'"),
    ):
        assert message in run(capsys, "show", "tones", *words, code=2)


def test_import_converts_a_table_to_a_store(tones, capsys):
    rows = ["id,label,split,text"]
    splits = ("train", "train", "val", "test")
    rows += [f"{n},{'ab'[n % 2]},{splits[n // 4]},word {n}" for n in range(16)]
    Path("my.csv").write_text("\n".join(rows))
    output = run(capsys, "import", "my.csv", "target=data/my", "length=4")
    assert "split own (default): 8/4/4 train/val/test." in output
    assert "Train: mla train" in output
    assert "my matches its manifest" in run(capsys, "check", "my")
    assert np.load("data/my/text.npy").shape == (16, 4)


def test_stores_are_written_to_the_folder_that_training_reads():
    paths = yaml.safe_load((conf_dir() / "paths" / "default.yaml").read_text())
    assert Path(paths["data_dir"]) == cli_data.DATA_DIR
