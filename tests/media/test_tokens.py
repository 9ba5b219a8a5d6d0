"""Hashed tokens: words and trigrams."""

import zlib

import torch

from mla_lightning.media.tokens import split_tokens, token_ids


def test_tokens_are_words_and_their_trigrams():
    assert split_tokens("Red ox") == ["<red>", "<re", "red", "ed>", "<ox>", "<ox", "ox>"]
    assert split_tokens("a") == ["<a>"]  # the word is its only trigram, so it counts once
    assert split_tokens("keycap #")[-1] == "<#>"
    assert split_tokens("") == []


def test_ids_are_the_crc_of_the_tokens():
    expected = [1 + zlib.crc32(token.encode()) % 99 for token in ("<a>", "<b>")]
    assert token_ids(["a b"], 100).tolist() == [expected]


def test_short_texts_are_padded_with_zeros():
    ids = token_ids(["red ox", "a", ""], 4096)
    assert ids.shape == (3, 7)
    assert ids.dtype == torch.int64
    assert (ids != 0).sum(dim=1).tolist() == [7, 1, 0]
    assert ids.min() == 0
    assert ids.max() < 4096


def test_other_texts_do_not_change_the_ids_of_a_text():
    together = token_ids(["red ox", "grinning face"], 4096)
    assert together[0, :7].tolist() == token_ids(["red ox"], 4096)[0].tolist()
    assert token_ids(["RED OX"], 4096).tolist() == token_ids(["red ox"], 4096).tolist()


def test_the_length_can_be_set():
    full = token_ids(["red ox"], 4096)
    assert token_ids(["red ox"], 4096, length=3).tolist() == full[:, :3].tolist()
    assert token_ids(["red ox"], 4096, length=9).shape == (1, 9)
