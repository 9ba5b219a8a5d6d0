"""The verb ``mla completion``: a shell's script, and the words that complete a command line."""

from __future__ import annotations

import argparse
import os
import re
import shlex
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from mla_lightning.cli.data import ACTIONS
from mla_lightning.cli.export import FORMATS
from mla_lightning.cli.export import OPTIONS as EXPORT_OPTIONS
from mla_lightning.cli.predict import OPTIONS as PREDICT_OPTIONS
from mla_lightning.cli.tune import OPTIONS as TUNE_OPTIONS
from mla_lightning.errors import ConfigError, near

COMPLETION = """\
examples:
  eval "$(mla completion bash)"                      in ~/.bashrc
  eval "$(mla completion zsh)"                       in ~/.zshrc, after compinit
  mla completion fish > ~/.config/fish/completions/mla.fish

Then TAB completes verbs, options such as --dry-run, groups (meth -> method=), their options
(method=ml -> method=mla), settings (optimizer.l -> optimizer.lr=) and their values, data sets and
files. Options in the folder of --config-dir are found if it is written first.
"""
#: The first word with which a shell asks for words; it is no verb of users.
ASK = "complete"

_BASH = """\
# Completion of mla in bash:  eval "$(mla completion bash)"
_mla() {
    local line="${COMP_LINE:0:COMP_POINT}" word before part="$2"
    # bash replaces what follows the last of its word breaks, such as =
    [[ $part == = ]] && part=
    word="${line##*[[:space:]]}"
    before="${word%"$part"}"
    COMPREPLY=()
    while IFS=$'\\t' read -r word _; do
        [[ $word == "$before"* ]] && COMPREPLY+=("${word#"$before"}")
    done < <("$1" complete "$line" 2>/dev/null)
    [[ ${#COMPREPLY[@]} -gt 0 && ${COMPREPLY[0]} == *[=./] ]] && compopt -o nospace
    return 0
}
complete -o default -F _mla mla
"""
_ZSH = """\
#compdef mla
# Completion of mla in zsh, after compinit:  eval "$(mla completion zsh)"
_mla() {
    local -a whole begun
    local word text
    while IFS=$'\\t' read -r word text; do
        word="${word//:/\\\\:}"
        if [[ $word == *[=./] ]]; then begun+=("$word:$text"); else whole+=("$word:$text"); fi
    done < <("${words[1]}" complete "${(j: :)words[1,CURRENT-1]} $PREFIX" 2>/dev/null)
    if (( $#begun + $#whole )); then
        _describe -V 'mla' begun -S '' -- whole
    else
        compset -P '*='
        _files
    fi
}
compdef _mla mla
"""
_FISH = """\
# Completion of mla in fish:  mla completion fish > ~/.config/fish/completions/mla.fish
function __mla_words
    set -l found (mla complete (commandline -cp | string collect) 2>/dev/null)
    if test (count $found) -gt 0
        printf '%s\\n' $found
        return
    end
    set -l token (commandline -ct)
    set -l before (string match -r '^.*=' -- $token)
    for path in (__fish_complete_path (string replace -r '^.*=' '' -- $token))
        printf '%s%s\\n' "$before" $path
    end
end
complete -c mla -f -a '(__mla_words)'
"""
#: Shell -> its script.
SCRIPTS = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}

#: Words of `mla data`, by action: KEY= words.
_DATA_WORDS = {
    "prepare": ("raw=", "target=", "on_bad=skip", "jobs="),
    "show": ("output=", "per_class=", "seed="),
    "import": (
        *("target=", "label=", "labels=", "split=", "group=", "columns.", "on_bad=skip", "like="),
        *("name=", "task=", "size=", "num_frames=", "jobs="),
    ),
    "embed": ("target=", "data=", "encoder=", "ckpt=", "batch_size=", "device="),
}
_SPLITS = ("split=test", "split=train", "split=val")

#: A word that completes another one, and what it is.
Word = tuple[str, str]


def completion(options: argparse.Namespace) -> int:
    """Print the script that completes the commands of ``mla`` in a shell.

    Args:
        options: ``shell``: bash, zsh or fish.

    Returns:
        The exit code 0.

    Raises:
        ConfigError: If the shell is not known.

    Example:
        >>> completion(argparse.Namespace(shell="bash"))
        # Completion of mla in bash:  eval "$(mla completion bash)"
        ...
        0
    """
    if options.shell not in SCRIPTS:
        raise ConfigError(
            f"mla completion: unknown shell {options.shell!r}.{near(options.shell, SCRIPTS)} "
            f"Known: {', '.join(SCRIPTS)}."
        )
    print(SCRIPTS[options.shell], end="")
    return 0


def print_words(lines: Sequence[str], parser: argparse.ArgumentParser) -> int:
    """Print the words that complete a command line, with their descriptions after a tab.

    Args:
        lines: The command line up to the cursor, as one text.
        parser: The parser of all verbs.

    Returns:
        The exit code 0; nothing is printed where a shell should complete files.
    """
    for word, text in complete(" ".join(lines), parser):
        sys.stdout.write(f"{word}\t{text}\n")
    return 0


def complete(line: str, parser: argparse.ArgumentParser) -> list[Word]:
    """Return the words that complete a command line.

    Args:
        line: The line up to the cursor, ``mla`` included.
        parser: The parser of all verbs.

    Returns:
        Words that begin with the last one of the line, with descriptions; none where only a file
        can follow, or only the user knows the value.

    Example:
        >>> from mla_lightning.cli.main import build_parser
        >>> [word for word, _ in complete("mla re", build_parser())]
        ['reproduce', 'report']
        >>> [word for word, _ in complete("mla train --dr", build_parser())]
        ['--dry-run']
        >>> [word for word, _ in complete("mla train seed=1 method=ogm", build_parser())]
        ['method=ogm', 'method=ogm_ge']
    """
    try:
        words, current = _split(line)
    except ValueError:  # within quotes
        return []
    verbs = _verbs(parser)
    if not words:
        found = [(name, verb.description or "") for name, verb in verbs.items()]
        return _beginning(current, [*found, *_flags(parser)])
    verb, *rest = words
    if verb not in verbs:
        return []
    flags = _flags(verbs[verb])
    if current.startswith("-"):
        return _beginning(current, flags)
    if rest and rest[-1] in _taking_values(verbs[verb]):
        return []
    return _beginning(current, _words(verb, rest, current))


def _split(line: str) -> tuple[list[str], str]:
    """Return the whole words of a line after the first, and the word that is being written."""
    begun = re.split(r"\s", line)[-1]
    words = shlex.split(line[: len(line) - len(begun)])
    return words[1:], begun if words else ""


def _beginning(current: str, words: Iterable[Word]) -> list[Word]:
    """Return the words that begin with a text; a key is not completed by itself."""
    found = ((word, " ".join(text.split())) for word, text in words if word.startswith(current))
    return [(word, text) for word, text in found if word != current or not word.endswith("=")]


def _verbs(parser: argparse.ArgumentParser) -> Mapping[str, argparse.ArgumentParser]:
    """Return the parsers of the verbs."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            return action.choices
    raise AssertionError("the parser has no verbs")


def _flags(parser: argparse.ArgumentParser) -> list[Word]:
    return [
        (name, action.help or "")
        for action in parser._actions
        for name in action.option_strings
        if action.help != argparse.SUPPRESS
    ]


def _taking_values(parser: argparse.ArgumentParser) -> list[str]:
    """Return the options that take the next word."""
    actions = [action for action in parser._actions if action.nargs != 0]
    return [name for action in actions for name in action.option_strings]


def _words(verb: str, rest: Sequence[str], current: str) -> list[Word]:
    """Return the words that can follow in a verb, beside its options."""
    config_dir, given = _own_folder(rest)
    if verb in _OF_VERB:
        return _OF_VERB[verb](given, current, config_dir)
    return []


def _own_folder(rest: Sequence[str]) -> tuple[Path | None, list[str]]:
    """Return the folder of ``--config-dir``, if it exists, and the words that are no options."""
    given, folder, before = [], None, ""
    for word in rest:
        if before == "--config-dir" or word.startswith("--config-dir="):
            place = Path(word.removeprefix("--config-dir=")).expanduser()
            folder = place if place.is_dir() else None
        elif before != "--allow-target" and not word.startswith("-"):
            given.append(word)
        before = word
    return folder, given


def _of_train(given: Sequence[str], current: str, config_dir: Path | None) -> list[Word]:
    from mla_lightning.config.completion import complete_setting

    return complete_setting(current, given, config_dir)


def _of_tune(given: Sequence[str], current: str, config_dir: Path | None) -> list[Word]:
    if current.startswith("search="):
        return [(f"search={name}", text) for name, text in _options("search", config_dir)]
    own = [(f"{key}=", f"default: {default}") for key, (_, default) in TUNE_OPTIONS.items()]
    pruners = [(f"pruner={name}", "") for name in ("none", "median")]
    return [*own, *pruners * current.startswith("pruner="), *_of_train(given, current, config_dir)]


def _of_reproduce(given: Sequence[str], current: str, config_dir: Path | None) -> list[Word]:
    if not given:
        return []  # the file
    return [("target=", "folder of the store"), *_of_tune(given, current, config_dir)]


def _of_eval(given: Sequence[str], current: str, config_dir: Path | None) -> list[Word]:
    return [(word, "") for word in (*_SPLITS, "data.path=")] if given else []


def _of_predict(given: Sequence[str], current: str, config_dir: Path | None) -> list[Word]:
    if not given:
        return []  # the run folder
    if current.startswith("data="):
        return [(f"data={name}", text) for name, text in _options("data", config_dir)]
    if current.startswith("split="):
        return [(word, "") for word in _SPLITS]
    return [(f"{key}=", "") for key in PREDICT_OPTIONS]


def _of_export(given: Sequence[str], current: str, config_dir: Path | None) -> list[Word]:
    if current.startswith("format="):
        return [(f"format={name}", "") for name in FORMATS] if given else []
    return [(f"{key}=", "") for key in EXPORT_OPTIONS] if given else []


def _of_report(given: Sequence[str], current: str, config_dir: Path | None) -> list[Word]:
    page = ("page", "all runs as one HTML page")
    return [] if given else [page, *_options("report", config_dir)]


def _of_dashboard(given: Sequence[str], current: str, config_dir: Path | None) -> list[Word]:
    return [] if given else [(kind, "") for kind in ("table1", "table2", "table3", "tuning")]


def _of_list(given: Sequence[str], current: str, config_dir: Path | None) -> list[Word]:
    from mla_lightning.config.search import PLURALS, PURPOSES

    if not given:
        return [(plural, PURPOSES[group]) for group, plural in PLURALS.items()]
    kinds = {name: group for group, plural in PLURALS.items() for name in (group, plural)}
    return _options(kinds[given[0]], config_dir) if given[0] in kinds and not given[1:] else []


def _of_data(given: Sequence[str], current: str, config_dir: Path | None) -> list[Word]:
    if not given:
        return [(action, "") for action in ACTIONS]
    action, *others = given
    if action in ("prepare", "check", "show") and not others:
        from mla_lightning.prepare.catalogue import read_catalogue

        known = [(entry.name, entry.summary) for entry in read_catalogue().values()]
        is_path = action != "prepare" and os.sep in current
        return [] if is_path else known
    if action == "embed" and current.startswith(("data=", "encoder=")):
        group = current.partition("=")[0]
        return [(f"{group}={name}", text) for name, text in _options(group, config_dir)]
    if action == "import" and not others:
        return []  # the file
    return [(word, "") for word in _DATA_WORDS.get(action, ())]


def _of_completion(given: Sequence[str], current: str, config_dir: Path | None) -> list[Word]:
    return [] if given else [(shell, "") for shell in SCRIPTS]


def _options(group: str, config_dir: Path | None) -> list[Word]:
    """Return the options of a group with their summaries."""
    from mla_lightning.config.listing import summary_of
    from mla_lightning.config.search import options, search_path

    known = options(search_path(config_dir), group)
    return [(name, summary_of(path)) for name, path in known.items()]


#: Verb -> the words that can follow, given those before, the one begun and the user's folder.
_OF_VERB: Mapping[str, Callable[[Sequence[str], str, Path | None], list[Word]]] = {
    "train": _of_train,
    "tune": _of_tune,
    "reproduce": _of_reproduce,
    "eval": _of_eval,
    "predict": _of_predict,
    "export": _of_export,
    "report": _of_report,
    "dashboard": _of_dashboard,
    "list": _of_list,
    "data": _of_data,
    "completion": _of_completion,
}
