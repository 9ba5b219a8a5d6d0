"""Token ids of texts: WordPiece against that of transformers, hashed tokens, wrong vocabularies."""

import pickle
from pathlib import Path

import numpy as np
import pytest

from mla_lightning.errors import ConfigError, DataError
from mla_lightning.media.base import ArrayInput, BadMedia, FileInput, TextInput
from mla_lightning.media.text import Tokens
from mla_lightning.media.tokens import token_ids

WORDS = (
    *("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "cafe", "is", "un", "##believ"),
    *("##able", "!", ",", "中", "a", "b", "##c"),
)
TEXTS = [
    "The Café is unbelievable!!",
    "THE CAFE, the cafe\tis\n\nunknownword",
    "中the中 [LAUGHTER] abc bc",
    "the " * 40,
]


@pytest.fixture
def vocabulary(tmp_path):
    path = tmp_path / "vocab.txt"
    path.write_text("\n".join(WORDS) + "\n", encoding="utf-8")
    return path


def test_word_pieces_equal_those_of_bert(vocabulary):
    from transformers import BertTokenizer

    bert = BertTokenizer(str(vocabulary), do_lower_case=True)
    tokens = Tokens(vocabulary, length=20)
    for text in TEXTS:
        expected = bert(
            text, add_special_tokens=False, padding="max_length", truncation=True, max_length=20
        )["input_ids"]
        ids = tokens(Path(), TextInput(text))
        assert ids.dtype == np.int64
        assert ids.tolist() == expected
    first = tokens(Path(), TextInput(TEXTS[0])).tolist()
    assert first[:9] == [5, 6, 7, 8, 9, 10, 11, 11, 0]


def test_a_model_folder_can_be_the_vocabulary(vocabulary, tmp_path):
    from transformers import BertTokenizer

    folder = tmp_path / "model"
    BertTokenizer(str(vocabulary), do_lower_case=True).save_pretrained(folder)
    from_folder, from_file = Tokens(folder, 16), Tokens(vocabulary, 16)
    for text in TEXTS:
        np.testing.assert_array_equal(
            from_folder(Path(), TextInput(text)), from_file(Path(), TextInput(text))
        )
    assert from_folder.num_tokens == from_file.num_tokens == len(WORDS)
    assert from_folder.options()["sha256"] != from_file.options()["sha256"]
    again = pickle.loads(pickle.dumps(from_folder))
    assert again(Path(), TextInput("the cafe"))[:2].tolist() == [5, 6]


def test_without_a_vocabulary_words_and_trigrams_are_hashed(tmp_path):
    tokens = Tokens(length=12, num_buckets=100)
    expected = token_ids(["some words"], 100, 12)[0].numpy()
    np.testing.assert_array_equal(tokens(Path(), TextInput("some words")), expected)
    (tmp_path / "a.txt").write_bytes("Caf\xe9 words".encode("latin-1"))
    latin = Tokens(length=12, num_buckets=100, encoding="latin-1")
    np.testing.assert_array_equal(
        latin(tmp_path, FileInput(Path("a.txt"))), tokens(Path(), TextInput("Café words"))
    )
    with pytest.raises(BadMedia, match=r"^not utf-8: .* at byte 3$"):
        tokens(tmp_path, FileInput(Path("a.txt")))


@pytest.mark.parametrize("text", ["", " \t\n", "\x00"])
def test_blank_texts_are_errors(text, tmp_path):
    with pytest.raises(BadMedia, match="blank text"):
        Tokens()(Path(), TextInput(text))
    (tmp_path / "a.txt").write_bytes(b"")
    with pytest.raises(BadMedia, match="empty"):
        Tokens()(tmp_path, FileInput(Path("a.txt")))
    with pytest.raises(TypeError):
        Tokens()(tmp_path, ArrayInput(np.zeros(3)))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("[CLS]\n[UNK]\n", r"token 0 is '\[CLS\]'"),
        ("[PAD]\nthe\n", r"no line \[UNK\]"),
        ("[PAD]\n[UNK]\nthe\nthe\n", "line 3: 'the' occurs again"),
    ],
)
def test_wrong_vocabularies_are_errors(tmp_path, content, reason):
    (tmp_path / "vocab.txt").write_text(content)
    with pytest.raises(DataError, match=reason):
        Tokens(tmp_path)


def test_missing_vocabularies_and_wrong_options_are_errors(tmp_path, vocabulary):
    with pytest.raises(DataError, match="no such vocabulary"):
        Tokens(tmp_path / "nothing")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").touch()
    with pytest.raises(DataError, match=r"neither tokenizer.json nor vocab.txt, but config.json"):
        Tokens(tmp_path / "model")
    with pytest.raises(ConfigError, match="num_buckets has no effect"):
        Tokens(vocabulary, num_buckets=7)
    with pytest.raises(ConfigError, match="encoding 'klingon' is unknown"):
        Tokens(encoding="klingon")
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(DataError, match="no tokenizer of Hugging Face"):
        Tokens(tmp_path / "tokenizer.json")
