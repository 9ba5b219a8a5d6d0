"""IEMOCAP: utterances, the half of the image with the speaker, and splits by session."""

import numpy as np
import pytest
from tests.fakes.iemocap import fake_iemocap
from tests.fakes.media import COLOURS, write_image

from mla_lightning.data.sources.iemocap import IEMOCAP
from mla_lightning.data.splits import TEST, TRAIN, VAL, overlap
from mla_lightning.data.store import open_store
from mla_lightning.errors import ConfigError, DataError
from mla_lightning.media.base import BadMedia
from mla_lightning.prepare.engine import prepare

SMALL = {"hashed": True, "length": 12, "image_size": 24, "num_frames": 96}


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    return fake_iemocap(tmp_path_factory.mktemp("iemocap") / "IEMOCAP_full_release")


def test_the_folder_is_found_one_level_higher_or_lower(raw):
    for folder in (raw.parent, raw / "Session1"):
        assert IEMOCAP(folder, **SMALL).items() == IEMOCAP(raw, **SMALL).items()


def test_utterances_are_read_from_the_label_files(raw):
    source = IEMOCAP(raw, **SMALL)
    items = source.items()
    assert len(items) == 5 * 2 * 10
    assert source.options()["left_out"] == {"fru": 20}
    item = items[0]
    assert (item.id, item.label) == ("Ses01F_impro01_F000", "Angry")
    assert item.attributes["session"] == "1"
    assert item.attributes["dialog"] == "Ses01F_impro01"
    assert item.attributes["speaker"] == "1F"
    assert item.inputs["text"].text.startswith("I will not wait")
    assert (item.inputs["image"].start_s, item.inputs["image"].end_s) == (0.0, 1.0)
    labels = {i.id[-4:]: i.label for i in items if i.attributes["dialog"] == "Ses01F_impro01"}
    assert labels["F008"] == "Happy"  # excited
    assert {i.attributes["speaker"] for i in items} == {f"{s}{g}" for s in "12345" for g in "FM"}


def test_the_speaker_with_the_letter_of_the_dialogue_is_on_the_left(raw):
    sides = {item.id: item.inputs["image"].side for item in IEMOCAP(raw, **SMALL).items()}
    assert sides["Ses01F_impro01_F000"] == "left"
    assert sides["Ses01F_impro01_M001"] == "right"
    assert sides["Ses01M_impro01_M001"] == "left"
    assert sides["Ses01M_impro01_F000"] == "right"


def test_the_image_is_the_speakers_half_of_the_middle_frame(raw):
    for picture, is_grey in (("speaker", False), ("whole", True)):
        source = IEMOCAP(raw, picture=picture, **SMALL)
        read = source.extractors()["image"]
        for item in source.items()[:20]:
            mean = read(raw, item.inputs["image"]).astype(float).mean(axis=(1, 2))
            colour = np.array(COLOURS[IEMOCAP.class_names.index(item.label)], dtype=float)
            expected = (colour + 128) / 2 if is_grey else colour
            assert np.abs(mean - expected).max() < 35, item.id


def test_splits_by_session_share_no_speaker_and_random_ones_do(raw):
    source = IEMOCAP(raw, **SMALL)
    items = source.items()
    splits = source.splits(items)
    speakers = [item.attributes["speaker"] for item in items]
    dialogs = np.array([item.attributes["dialog"] for item in items])
    for number in range(1, 6):
        split = splits[f"session{number}"]
        assert not overlap(split.codes, speakers)
        sessions = np.array([item.attributes["session"] for item in items])
        assert set(sessions[split.codes == TEST]) == {str(number)}
        assert not set(dialogs[split.codes == TRAIN]) & set(dialogs[split.codes == VAL])
        assert (split.codes == VAL).any()
    assert overlap(splits["random"].codes, speakers)


def test_utterances_in_no_list_of_mla_are_validation(raw, tmp_path):
    items = IEMOCAP(raw, **SMALL).items()
    lines = [
        f"{i.id}.mp4 [split|sign] {i.inputs['text'].text} [split|sign] {i.label}\n" for i in items
    ]
    (tmp_path / "my_train_iemo.txt").write_text("".join(lines[:60]))
    (tmp_path / "my_test_iemo.txt").write_text("".join(lines[80:]))
    source = IEMOCAP(raw, lists=tmp_path, **SMALL)
    codes = source.splits(source.items())["paper"].codes
    assert (codes == np.repeat([TRAIN, VAL, TEST], [60, 20, 20])).all()
    (tmp_path / "my_test_iemo.txt").write_text("Ses01F_impro01_F000.mp4 Angry\n")
    with pytest.raises(DataError, match=r"my_test_iemo.txt, line 1: .* is not of the form"):
        IEMOCAP(raw, lists=tmp_path, **SMALL)


def test_face_crops_show_the_speaker_and_are_not_black(raw, tmp_path):
    items = IEMOCAP(raw, **SMALL).items()
    faces = raw / "faces"
    for item in items:
        for frame in range(5):
            for letter, level in (("F", 60), ("M", 200)):
                is_black = frame == 2  # the middle one
                pixels = np.full((20, 20, 3), 0 if is_black else level, dtype=np.uint8)
                write_image(faces / item.id / f"{frame:06d}_{letter}.jpg", pixels)
    source = IEMOCAP(raw, faces="faces", **SMALL)
    read = source.extractors()["image"]
    for item in source.items()[:6]:
        crop = item.inputs["image"]
        assert crop.path.name == f"000001_{item.attributes['speaker'][1]}.jpg"
        level = {"F": 60, "M": 200}[item.attributes["speaker"][1]]
        assert abs(read(raw, crop).mean() - level) < 5
    for path in (faces / items[0].id).iterdir():
        write_image(path, np.zeros((20, 20, 3), dtype=np.uint8))
    (without_face,) = [i for i in source.items() if i.id == items[0].id]
    with pytest.raises(BadMedia, match="missing"):
        read(raw, without_face.inputs["image"])


def test_wrong_options_and_files_are_errors(tmp_path):
    with pytest.raises(DataError, match=r"Session1/dialog/EmoEvaluation holds no .txt file"):
        IEMOCAP(tmp_path, **SMALL).items()
    raw = fake_iemocap(tmp_path / "raw", per_code=2)
    path = raw / "Session2" / "dialog" / "EmoEvaluation" / "Ses02F_impro01.txt"
    text = path.read_text()
    path.write_text(text.replace("[0.0000 - 1.0000]", "[0.0000 to 1.0000]"))
    with pytest.raises(DataError, match=r"Ses02F_impro01.txt, line 3: .* is not of the form"):
        IEMOCAP(raw, **SMALL).items()
    path.write_text(text.replace("Ses02F_impro01_F000", "Ses03F_impro01_F000"))
    with pytest.raises(DataError, match=r"line 3: .*Ses03F_impro01_F000"):
        IEMOCAP(raw, **SMALL).items()
    path.write_text(text)
    transcript = raw / "Session2" / "dialog" / "transcriptions" / "Ses02F_impro01.txt"
    transcript.write_text(transcript.read_text().partition("\n")[2])
    with pytest.raises(DataError, match="Ses02F_impro01_F000 has no line in the transcript"):
        IEMOCAP(raw, **SMALL).items()
    transcript.unlink()
    with pytest.raises(DataError, match=r"transcriptions/Ses02F_impro01.txt: missing"):
        IEMOCAP(raw, **SMALL).items()
    with pytest.raises(ConfigError, match="Did you mean 'speaker'"):
        IEMOCAP(raw, picture="speakr", **SMALL)
    with pytest.raises(ConfigError, match="picture has no effect with faces"):
        IEMOCAP(raw, picture="whole", faces="faces", **SMALL)


def test_a_video_that_ends_too_early_is_a_failure(tmp_path):
    raw = fake_iemocap(tmp_path / "raw", per_code=2)
    evaluation = raw / "Session1" / "dialog" / "EmoEvaluation" / "Ses01F_impro01.txt"
    text = evaluation.read_text()
    evaluation.write_text(text.replace("[0.0000 - 1.0000]", "[90.0000 - 91.0000]"))
    prepare(IEMOCAP(raw, **SMALL), tmp_path / "store", on_bad="skip", jobs=1)
    store = open_store(tmp_path / "store")
    (failure,) = store.manifest["failures"]
    assert failure["id"] == "Ses01F_impro01_F000"
    assert "before the stretch does" in failure["reason"]
    assert store.manifest["splits"]["random"]["overlap"]["speaker"]["num"] > 0
    assert store.manifest["splits"]["session5"]["overlap"]["speaker"]["num"] == 0
