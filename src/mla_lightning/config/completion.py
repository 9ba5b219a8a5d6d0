"""The words that can complete a ``KEY=VALUE`` of a command line, read from YAML without Hydra."""

from __future__ import annotations

import contextlib
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from mla_lightning.config.listing import describe, summary_of
from mla_lightning.config.option_settings import Setting, settings_of
from mla_lightning.config.search import PLURALS, PURPOSES, options, search_path
from mla_lightning.config.settings import SETTING_TYPES

#: A word that completes another one, and what it is.
Word = tuple[str, str]
#: Options whose file chooses options of other groups.
_CHOOSING = ("data", "experiment", "debug")
#: Groups that replace what the recipe has below the key of their name.
_REPLACING = ("optimizer", "scheduler")
#: Keys that are set by the package itself.
_AUTOMATIC = ("choices", "metrics", "grid", "callbacks", "tuned_lr")
_FUSION = "fusion@method.fusion"


def complete_setting(
    current: str, given: Sequence[str], config_dir: Path | None = None
) -> list[Word]:
    """Return the words of ``mla train`` that begin with a text.

    Keys are completed to their next dot. After ``=`` these are the options of a group or the values
    of a setting, also behind a comma.

    Args:
        current: The text; may be empty.
        given: The other words, whose choices decide which keys there are.
        config_dir: A user's own folder of groups, None for none.

    Returns:
        Words with descriptions, sorted; none where only the user knows the value.

    Example:
        >>> [word for word, _ in complete_setting("optim", [])]
        ['optimizer=']
        >>> [word for word, _ in complete_setting("optimizer", [])]
        ['optimizer.', 'optimizer=']
        >>> [word for word, _ in complete_setting("method=concat,mla_p", [])]
        ['method=concat,mla_paper']
        >>> [word for word, _ in complete_setting("method.rank", ["method=qmf"])]
        ['method.rank_mode=', 'method.rank_weight=']
        >>> [word for word, _ in complete_setting("trainer.precision=16", [])]
        ['trainer.precision=16-mixed']
    """
    folders = search_path(config_dir)
    chosen, settings = _composed(folders, given)
    key, equals, value = current.partition("=")
    if equals:
        return _values(key, value, folders, chosen)
    taken = {word.partition("=")[0] for word in given}
    words = {f"{group}=": PURPOSES.get(group, "") for group in chosen if group not in taken}
    if current.startswith("~"):
        words = {}
    for name, setting in settings.items():
        if name in taken:
            continue
        start = len(current.lstrip("~"))
        dot = name.find(".", start)
        if current.startswith("~"):
            words[f"~{name}" if dot < 0 else f"~{name[: dot + 1]}"] = ""
        elif dot < 0:
            words[f"{name}="] = f"{setting.value}  {setting.comment}".strip()
        elif not current or name[:dot] not in chosen or start == dot:
            # meth -> method=, the group; its settings follow method. or the whole name
            words.setdefault(name[: dot + 1], "settings")
    return sorted((word, text) for word, text in words.items() if word.startswith(current))


def _composed(
    folders: tuple[Path, ...], given: Sequence[str]
) -> tuple[dict[str, str], dict[str, Setting]]:
    """Return the chosen option of every group, and the settings that these have."""
    base = {s.key: s for s in settings_of("", folders[0] / "config.yaml", {})}
    groups = [key for key in base if key in PLURALS]
    words = dict(word.split("=", 1) for word in given if "=" in word)
    # of a sweep the first option, of a list every one
    said = {k: v if v.startswith("[") else v.partition(",")[0] for k, v in words.items()}
    chosen = {group: base[group].value for group in groups}
    found = {key: setting for key, setting in base.items() if key not in groups}
    for group in _CHOOSING:
        for setting in _settings(folders, group, said.get(group, chosen[group])):
            if setting.key in chosen:
                chosen[setting.key] = setting.value
    chosen |= {key: option for key, option in said.items() if key in chosen}
    replaced = tuple(f"{g}." for g in _REPLACING if g in said and said[g] != "null")
    chosen[_FUSION] = said.get(_FUSION, "")
    for group in groups:
        for setting in _settings(folders, group, chosen[group]):
            if setting.key == _FUSION:
                chosen[_FUSION] = chosen[_FUSION] or setting.value
            elif setting.key not in chosen and not (
                group == "recipe" and setting.key.startswith(replaced)
            ):
                found[setting.key] = setting
    found |= {s.key: s for s in _settings(folders, "fusion", chosen[_FUSION])}
    for key in SETTING_TYPES:
        found.setdefault(key, Setting(key, ""))
    own = {k: s for k, s in found.items() if k.partition(".")[0] not in _AUTOMATIC or "." in k}
    return chosen, {k: s for k, s in own.items() if not k.startswith(("choices.", "tuned_lr."))}


def _settings(folders: tuple[Path, ...], group: str, option: str) -> list[Setting]:
    """Return the settings of an option, or of several in brackets; none of unknown ones."""
    known = options(folders, group)
    names = [name for name in option.strip("[]").split(",") if name in known]
    found = [setting for name in names for setting in settings_of(group, known[name], known)]
    return [setting for setting in found if not setting.is_grid]


def _values(
    key: str, value: str, folders: tuple[Path, ...], chosen: Mapping[str, str]
) -> list[Word]:
    """Return words ``key=value`` for the options of a group, or the values of a setting."""
    begin = max(value.rfind(","), value.rfind("[")) + 1
    earlier = value.replace("[", ",").split(",")[:-1]
    group = key.partition("@")[0]
    if group in PLURALS:
        known = options(folders, group)
        texts = {name: "" for name in known if name not in earlier}
        if group in ("experiment", *_REPLACING, "callbacks", "debug") and not begin:
            texts["null"] = "none"
    else:
        texts = dict.fromkeys(_texts_of(_hint_of(key, folders, chosen)), "")
    found = [name for name in texts if name.startswith(value[begin:]) and name not in earlier]
    descriptions = {
        name: summary_of(options(folders, group)[name])
        for name in found
        if group in PLURALS and name != "null"
    }
    return [(f"{key}={value[:begin]}{name}", descriptions.get(name, "")) for name in sorted(found)]


def _hint_of(key: str, folders: tuple[Path, ...], chosen: Mapping[str, str]) -> Any:
    """Return the type of a setting: of the config, or of the class of the chosen option."""
    from mla_lightning.config.annotations import Unreadable
    from mla_lightning.config.signatures import constructors_of

    if key in SETTING_TYPES:
        return SETTING_TYPES[key]
    node, _, name = key.rpartition(".")
    group = _FUSION if node == "method.fusion" else node
    known = options(folders, group.partition("@")[0]) if group in chosen else {}
    if chosen.get(group) not in known:
        return None
    target = describe(group.partition("@")[0], chosen[group], known).target
    with contextlib.suppress(Unreadable):  # its class would be imported
        for constructor in constructors_of(target):
            if name in constructor.hints:
                return constructor.hints[name]
    return None


def _texts_of(hint: Any) -> Iterator[str]:
    """Yield the values that a type lists, as the command line takes them."""
    origin = typing.get_origin(hint)
    if hint is bool:
        yield from ("true", "false")
    elif hint is types.NoneType:
        yield "null"
    elif origin is Literal:
        yield from map(str, typing.get_args(hint))
    elif origin is typing.Annotated:
        yield from _texts_of(typing.get_args(hint)[0])
    elif origin in (typing.Union, types.UnionType):
        for inner in typing.get_args(hint):
            yield from _texts_of(inner)
