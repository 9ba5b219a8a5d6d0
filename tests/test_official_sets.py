"""From official files to a printed Table 1 through the command line, for each data set."""

import re

import pytest

from mla_lightning.cli.main import main
from mla_lightning.run_folder import read_json
from tests.fakes.cremad import fake_cremad
from tests.fakes.food101 import fake_food101
from tests.fakes.iemocap import fake_iemocap
from tests.fakes.kinetics_sounds import fake_kinetics_sounds
from tests.fakes.mvsa import fake_mvsa

AUDIO = ("num_frames=96", "image_size=32")
TEXT = ("hashed=true", "length=16", "image_size=32")
#: Data set -> function that writes a small one, options of its preparation, number of classes.
SETS = {
    "cremad": (fake_cremad, AUDIO, 6),
    "kinetics_sounds": (fake_kinetics_sounds, AUDIO, 31),
    "food101": (fake_food101, TEXT, 4),
    "mvsa": (fake_mvsa, TEXT, 3),
    "iemocap": (fake_iemocap, (*TEXT, "num_frames=96"), 4),
}
#: Options of a small run: small default encoders, two epochs.
TINY = (
    *("encoder=auto", "trainer.max_epochs=2", "optimizer.lr=0.1", "data.batch_size=8"),
    "data.num_workers=0",
)


@pytest.mark.parametrize("name", SETS)
def test_two_commands_lead_to_table_1(tmp_path, monkeypatch, capfd, name):
    fake, options, _ = SETS[name]
    monkeypatch.chdir(tmp_path)
    fake(tmp_path / "raw")
    assert main(["data", "prepare", name, "raw=raw", *options, "jobs=2"]) == 0
    assert f"mla train data={name}" in capfd.readouterr().out
    assert main(["data", "check", name]) == 0
    assert main(["data", "show", name, "output=sheet.png", "per_class=1"]) == 0
    assert (tmp_path / "sheet.png").stat().st_size > 10_000
    size = f"data.inputs.{image_modality(tmp_path, name)}.size=32"
    methods = [] if name == "mvsa" else ["method=concat,mla,unimodal"]  # all nine with one of them
    words = [f"experiment=table1/{name}", "seed=0", *TINY, size, *methods]
    assert main(["train", "-m", *words]) == 0
    capfd.readouterr()
    assert main(["report", "table1", f"runs/table1/{name}"]) == 0
    printed = capfd.readouterr().out
    assert "failed" not in printed
    table = (tmp_path / "runs" / "table1" / name / "report" / "table1.md").read_text()
    multi = next(line for line in table.splitlines() if line.startswith("| multi |"))
    assert len(re.findall(r"\d+\.\d\S* \(1\)", multi)) == (3 if methods else 9)
    assert f"{name}: split" in printed
    assert "(paper)" in printed


def image_modality(folder, name):
    """Return the modality of images or frames."""
    modalities = read_json(folder / "data" / name / "manifest.json")["modalities"]
    return "visual" if "visual" in modalities else "image"


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=() if name == "cremad" else pytest.mark.slow) for name in SETS],
)
def test_the_classes_of_prepared_data_can_be_learnt(tmp_path, monkeypatch, name):
    """Encoders get the signal of the small data sets, with the labels of the same rows."""
    fake, options, num_classes = SETS[name]
    monkeypatch.chdir(tmp_path)
    more = {"per_class": 12, "num_classes": 6} if name == "kinetics_sounds" else {}
    fake(tmp_path / "raw", **more)
    assert main(["data", "prepare", name, "raw=raw", *options, "jobs=2"]) == 0
    split = ["data.split=random"] if name in {"mvsa", "cremad", "iemocap"} else []
    image_input = f"data.inputs.{image_modality(tmp_path, name)}"
    words = [
        *("train", f"data={name}", "method=late_fusion", *TINY[:1], *TINY[4:5]),
        *("trainer.max_epochs=25", "optimizer.lr=0.1", "data.batch_size=8", "run_dir=run", *split),
        *("scheduler=null", f"{image_input}.augment=none", f"{image_input}.size=32"),
    ]
    if name == "kinetics_sounds":
        # Only six of the 31 classes have clips here.
        assert main(words) == 3
        return
    assert main(words) == 0
    scores = read_json(tmp_path / "run" / "result.json")["test"]
    for modality, values in scores.items():
        assert values["accuracy"] > 2 / num_classes, (modality, values)
