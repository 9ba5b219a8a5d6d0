"""Subwords that an import learns: from the training texts alone, and kept in the store."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from mla_lightning.cli.main import main
from mla_lightning.data.prepared import Prepared
from mla_lightning.data.splits import SPLITS, TEST, TRAIN
from mla_lightning.data.store import OpenStore, open_store, verify_store
from mla_lightning.encoders import BagOfTokens
from mla_lightning.errors import ConfigError
from mla_lightning.media.base import TextInput
from mla_lightning.media.subwords import learn_subwords
from mla_lightning.media.text import Tokens
from mla_lightning.prepare.embed import embed_store
from mla_lightning.prepare.import_table import import_csv

NUM = 40
KNOWN, UNKNOWN = "river mountain", "xylophone quixotic"


def write_table(folder: Path, rows: list[dict[str, str]]) -> Path:
    path = folder / "my.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def table(folder: Path) -> Path:
    """Write texts, the words of which differ between train and the other splits."""
    rows = []
    for n in range(NUM):
        split = SPLITS[(0, 0, 1, 2)[n % 4]]
        words = KNOWN if split == "train" else UNKNOWN
        row = {"id": f"s{n:02d}", "label": "ab"[n // 4 % 2], "split": split}
        rows.append(row | {"words": f"the {words} number {n}"})
    return write_table(folder, rows)


def subwords_of(store: OpenStore) -> set[str]:
    content = json.loads((store.folder / "tokenizer.json").read_text(encoding="utf-8"))
    return set(content["model"]["vocab"])


def import_of(path: Path, target: Path, **options) -> OpenStore:
    options = {"tokenizer": Path("subwords"), "vocabulary": 400, "jobs": 1, **options}
    return open_store(import_csv(path, target, **options))


def test_words_of_validation_and_test_alone_are_never_learnt(tmp_path):
    store = import_of(table(tmp_path), tmp_path / "store")
    vocabulary = subwords_of(store)
    assert {"Ġriver", "Ġmountain"} <= vocabulary
    known = f"the {KNOWN} number"
    pairs = {UNKNOWN[n : n + 2] for n in range(len(UNKNOWN) - 1)}
    pairs = {pair for pair in pairs if pair not in known and " " not in pair}
    assert len(pairs) > 8
    assert not [word for word in vocabulary for pair in pairs if pair in word]
    texts = store.attribute("words")
    is_train = store.split("own") == TRAIN
    of_train = learn_subwords([t for t, used in zip(texts, is_train, strict=True) if used], 400)
    assert (store.folder / "tokenizer.json").read_bytes() == of_train
    everything = learn_subwords(texts, 400).decode()  # would have learnt them
    assert any(pair in word for word in json.loads(everything)["model"]["vocab"] for pair in pairs)
    options = store.manifest["modalities"]["words"]["options"]
    numbers = np.flatnonzero(store.split("own") == TEST)
    rows = store.array("words").index_select(0, torch.from_numpy(numbers))
    assert bool((rows > 0).any(dim=1).all())  # unknown words are their letters
    assert int(store.array("words")[0].max()) < options["num_tokens"] <= 400
    assert store.manifest["options"]["subwords"] == {
        "tokens": options["num_tokens"],
        "split": "own",
        "texts": NUM // 2,
    }


def test_another_store_uses_the_vocabulary_of_the_training_store(tmp_path, capsys):
    path = table(tmp_path)
    first = import_of(path, tmp_path / "first")
    again = import_of(path, tmp_path / "again", tokenizer=first.folder, vocabulary=None)
    np.testing.assert_array_equal(
        np.load(first.folder / "words.npy"), np.load(again.folder / "words.npy")
    )
    entry = first.manifest["modalities"]["words"]
    assert entry == again.manifest["modalities"]["words"]
    assert entry["options"]["sha256"] == first.manifest["files"]["tokenizer.json"]
    unlabelled = tmp_path / "new"
    unlabelled.mkdir()
    new = write_table(unlabelled, [{"words": f"a {KNOWN} {n}"} for n in range(3)])
    assert main(["data", "import", str(new), f"target={tmp_path / 'x'}", "labels=none"]) == 0
    words = ["data", "import", str(new), f"target={tmp_path / 'y'}", "labels=none"]
    assert main([*words, f"tokenizer={first.folder}"]) == 0
    ids = open_store(tmp_path / "y").array("words")[0]
    expected = Tokens(first.folder, len(ids))(Path(), TextInput(f"a {KNOWN} 0"))
    np.testing.assert_array_equal(np.asarray(ids), expected)
    assert main([*words, "tokenizer=subwords"]) == 2
    assert "tokenizer=data/NAME" in capsys.readouterr().err


def test_a_changed_vocabulary_is_found_and_a_kept_one_is_said(tmp_path, capsys):
    store = import_of(table(tmp_path), tmp_path / "store")
    assert main(["data", "check", str(store.folder)]) == 0
    said = capsys.readouterr().out
    assert "learnt from the 20 training texts of the split own" in said
    encoder = BagOfTokens(400, out_features=4)
    data = Prepared(path=store.folder, batch_size=4)
    embedded = open_store(embed_store(data, tmp_path / "embedded", {"words": encoder}, 8))
    assert embedded.manifest["files"] == store.manifest["files"]
    assert verify_store(embedded.folder) == []
    (store.folder / "tokenizer.json").write_text("{}")
    assert verify_store(store.folder) == [
        "tokenizer.json is not the file that was written (another SHA-256)"
    ]


def test_folds_say_whose_training_texts_were_seen(tmp_path, capsys):
    rows = [{"label": "ab"[n % 2], "words": f"the {KNOWN} number {n}"} for n in range(NUM)]
    store = import_of(write_table(tmp_path, rows), tmp_path / "store", folds=4)
    said = capsys.readouterr().out
    assert "of the split fold0; the test texts of the other folds are among them" in said
    num_train = int((store.split("fold0") == TRAIN).sum())
    assert store.manifest["options"]["subwords"]["texts"] == num_train


def test_rows_that_are_left_out_move_no_other_row_to_another_split(tmp_path):
    files = [f"{n}.npy" for n in range(NUM)]
    for n, file in enumerate(files):
        np.save(tmp_path / file, np.full(3, n, dtype=np.float32))
    rows = [
        {"id": f"s{n:02d}", "label": "ab"[n % 2], "words": f"the {KNOWN} {n}", "face": files[n]}
        for n in range(NUM)
    ]
    path = write_table(tmp_path, rows)
    whole = import_of(path, tmp_path / "whole")
    for n in (0, 7, 20):
        (tmp_path / files[n]).write_bytes(b"no array")
    left = import_of(path, tmp_path / "left", on_bad="skip")
    assert len(left) == NUM - 3
    codes = dict(zip(whole.ids, whole.split("own").tolist(), strict=True))
    assert [codes[name] for name in left.ids] == left.split("own").tolist()


def test_the_same_texts_give_the_same_vocabulary_in_every_process():
    code = (
        "import sys\nfrom mla_lightning.media.subwords import learn_subwords\n"
        "texts = [f'word{n % 17} other{n % 5} 中文 é{n % 3}' for n in range(200)]\n"
        "sys.stdout.buffer.write(learn_subwords(texts, 500))"
    )
    call = [sys.executable, "-c", code]
    first, second = (subprocess.run(call, capture_output=True, check=True).stdout for _ in range(2))
    assert first == second
    assert first != learn_subwords(["other texts and other words"] * 9, 500)


def test_padding_is_no_token_of_a_text():
    tokens = Tokens(learn_subwords([f"[PAD] {KNOWN}"] * 5, 300), length=12)
    assert tokens(Path(), TextInput("[PAD]"))[0] != 0
    assert tokens.count(Path(), TextInput("river 🎉")) > 1  # no text is unknown


def test_options_without_effect_are_errors(tmp_path):
    path = table(tmp_path)
    with pytest.raises(ConfigError, match="vocabulary=400 has no effect without tokenizer=subw"):
        import_of(path, tmp_path / "x", tokenizer=None)
    with pytest.raises(ConfigError, match="vocabulary must be at least 300, got 10"):
        import_of(path, tmp_path / "x", vocabulary=10)
    numbers = [{"label": "ab"[n % 2], "v": f"[0.{n}, 0.5]"} for n in range(NUM)]
    with pytest.raises(ConfigError, match="tokenizer=subwords has no effect"):
        import_of(write_table(tmp_path, numbers), tmp_path / "x")
