"""Tux Paint's stamps: which stamps are items, and groups of duplicates in one split."""

import zlib

import numpy as np
import pytest
import soundfile
from PIL import Image

from mla_lightning.data.sources.tuxstamps import STAMPS, TuxStamps, connected_groups, normalised
from mla_lightning.data.splits import TEST
from mla_lightning.data.store import open_store
from mla_lightning.errors import DataError
from mla_lightning.media.base import BadMedia, FileInput
from mla_lightning.media.drawing import Drawing
from mla_lightning.prepare.engine import prepare


def stamp(top, name, *, french=None, english=None, has_image=True, seed=None):
    """Write a stamp as in the package: text, recording and image."""
    path = top / name
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(zlib.crc32(name.encode()) if seed is None else seed)
    english = f"A {name}." if english is None else english
    french = f"Un {name}." if french is None else french
    lines = [english, "de.utf8=Ein Ding.", *([f"fr.utf8={french}"] if french else [])]
    path.with_name(f"{path.name}.txt").write_text("\n".join(lines), encoding="utf-8")
    samples = rng.normal(scale=0.1, size=9000)
    soundfile.write(path.with_name(f"{path.name}_desc_fr.ogg"), samples, 22050)
    if has_image:
        values = np.zeros((30, 40, 4), dtype=np.uint8)
        values[5:15, 5:25] = [*rng.integers(0, 255, 3), 255]
        Image.fromarray(values).save(path.with_name(f"{path.name}.png"))


@pytest.fixture
def raw(tmp_path):
    top = tmp_path / "raw" / STAMPS
    for name in TuxStamps.class_names:
        for number in "abcdefghij":
            stamp(top, f"{name}/kind/{number}")
    stamp(top, "sports/ball")
    stamp(top, "animals/mute", french="")
    stamp(top, "animals/unseen", has_image=False)
    return tmp_path / "raw"


def test_the_store_holds_all_stamps(raw, tmp_path):
    opened = open_store(prepare(TuxStamps(raw, svg=False), tmp_path / "store", jobs=1))
    assert len(opened) == 110
    left_out = opened.manifest["options"]["left_out"]
    assert left_out == {"other class": 1, "no French text": 1, "no picture": 1}
    assert np.bincount(opened.split("group")).tolist() == [66, 11, 33]
    shapes = {name: np.load(tmp_path / "store" / f"{name}.npy").shape for name in opened.modalities}
    assert shapes == {"audio": (110, 64, 40), "image": (110, 3, 32, 32), "text": (110, 256)}
    assert opened.ids[0] == "animals/kind/a"
    assert opened.attribute("text")[0] == "Un animals/kind/a."


def test_raw_may_be_the_inner_folder_and_other_folders_are_errors(raw, tmp_path):
    assert len(TuxStamps(raw / STAMPS, svg=False).items()) == 110
    with pytest.raises(DataError, match=r"such as animals does not exist.*holds raw"):
        TuxStamps(tmp_path, svg=False).items()


def test_possible_duplicates_are_in_one_group(raw):
    top = raw / STAMPS
    stamp(top, "food/apple1", english="An apple.", seed=1)
    stamp(top, "food/apple2", english="Another apple.", seed=2)  # same name without digits
    stamp(top, "plants/fruit", english="AN APPLE", seed=3)  # same English text
    stamp(top, "town/shop", french="Un plants/fruit!", seed=4)  # same French text
    stamp(top, "space/planet", seed=5)
    sound = (top / "space" / "planet_desc_fr.ogg").read_bytes()
    (top / "town" / "shop_desc_fr.ogg").write_bytes(sound)
    group = {item.id: item.attributes["group"] for item in TuxStamps(raw, svg=False).items()}
    names = ("food/apple1", "food/apple2", "plants/fruit", "town/shop", "space/planet")
    assert len({group[name] for name in names}) == 1
    assert len(set(group.values())) == 110 + 1


def test_groups_are_connected_through_others():
    groups = connected_groups([["a"], ["b"], ["c", "a"], ["d"], ["b", "c"]])
    assert groups[0] == groups[1] == groups[2] == groups[4] != groups[3]
    assert normalised("A  Dog!") == normalised("a dog")
    assert normalised("?") != normalised("!")


def test_a_drawing_is_cropped_and_centred_on_white(raw):
    pixels = Drawing(32)(raw, FileInput(STAMPS / "animals" / "kind" / "a.png"))
    ink = (pixels != 255).any(axis=0)
    # 20 x 10 pixels in a square of 20: the whole width, the middle half of the height.
    assert ink[16].all()
    assert not ink[:6].any()
    assert not ink[26:].any()
    blank = raw / "blank.png"
    Image.new("RGBA", (9, 9)).save(blank)
    with pytest.raises(BadMedia, match="blank"):
        Drawing(32)(raw, FileInput(blank))
    (raw / "broken.png").write_bytes(b"\x89PNG\r\n")
    with pytest.raises(BadMedia, match="truncated or damaged"):
        Drawing(32)(raw, FileInput(raw / "broken.png"))


@pytest.mark.slow
def test_the_complete_set():
    source = TuxStamps()
    items = source.items()
    codes = source.splits(items)["group"].codes
    assert len(items) == 861
    assert np.bincount(codes).tolist() == [514, 89, 258]
    for name in ("text", "english"):
        values = np.array([normalised(item.attributes[name]) for item in items])
        assert not set(values[codes == TEST]) & set(values[codes != TEST]), name
    svg_items = [item for item in items if item.inputs["image"].path.suffix == ".svg"]
    assert len(svg_items) == 134
    pixels = source.extractors()["image"](source.raw, svg_items[0].inputs["image"])
    assert (pixels != 255).any()
    tokens = source.extractors()["text"]
    longest = max(items, key=lambda item: len(item.inputs["text"].text))
    assert tokens(source.raw, longest.inputs["text"])[-1] == 0
