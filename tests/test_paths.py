"""Printed commands give back the paths that they were made of, whatever these are."""

import shlex
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mla_lightning.config.interpolation import resolve_interpolations
from mla_lightning.config.overrides import OverrideReader, format_override_value, parse_value
from mla_lightning.config.search import search_path
from mla_lightning.errors import DataError
from mla_lightning.paths import (
    OPTION,
    check_regular_file,
    command,
    path_override,
    quote_value,
    unquote_value,
)

READER = OverrideReader(search_path(None))
#: Texts of the characters that shells, Hydra or OmegaConf give a meaning to, and any others.
TEXTS = st.text(
    st.one_of(
        st.sampled_from(" ,[](){}#;='\"\\$éあ~/.-_:@+*!?|&<>%^`\n\tneEx1"),
        st.characters(exclude_characters="\0", exclude_categories=["Cs"]),
    ),
    min_size=1,
)
ODD = ("1", "1e5", "1_000", "null", "True", "-inf", "a.", "./", "a\\'\\${x}", "a\\\n", "\\", "''")


def test_a_path_survives_the_shell_the_grammar_and_the_config():
    @given(TEXTS)
    def survives(path):
        words = shlex.split(command("mla", "train", path_override("data.path", path)))
        assert len(words) == 3
        problems = []
        (override,) = READER.read(words[2:], problems)
        (value,) = override.values  # no axis of a sweep
        config = {"data": {"path": parse_value(value)}}
        assert resolve_interpolations(config, problems)["data"]["path"] == path
        assert problems == []
        assert unquote_value(words[2].partition("=")[2]) == path

    for odd in ODD:
        survives = example(odd)(survives)
    survives()


@given(TEXTS)
def test_a_text_survives_the_grammar(text):
    assert parse_value(quote_value(text)) == text
    assert parse_value(format_override_value(text)) == text
    assert unquote_value(quote_value(text)) == text or "${" in text or text[0] in "'\""


@given(TEXTS)
@example("target=x")
@example("-x=y")
@example("a=b/c d")
def test_a_positional_path_is_no_option(text):
    path = Path(text)
    words = shlex.split(command("mla", "data", "show", path))
    assert len(words) == 4
    assert Path(words[3]) == path
    assert not OPTION.match(words[3])
    assert not words[3].startswith("-")


def test_plain_paths_are_not_quoted():
    assert command("mla", "train", path_override("data.path", "data/my-1.2")) == (
        "mla train data.path=data/my-1.2"
    )


@pytest.mark.parametrize("path", ["/dev/zero", "/dev/null", "/", "/nowhere", "a\0b"])
def test_devices_folders_and_bad_paths_are_no_files(path):
    with pytest.raises(DataError, match=r"^'?tokenizer="):
        check_regular_file(Path(path), "tokenizer")
