"""Options that users of Hydra write by habit: what they do here, or what to write instead."""

from __future__ import annotations

from collections.abc import Sequence

from mla_lightning.errors import ConfigError

#: Option of Hydra -> why it has no effect here, and what to write.
_INSTEAD = {
    "--config-name": "there is one config; write experiment=NAME for a file of experiment/",
    "-cn": "there is one config; write experiment=NAME for a file of experiment/",
    "--config-path": "write --config-dir DIR for a folder with your own groups",
    "-cp": "write --config-dir DIR for a folder with your own groups",
    "-cd": "write --config-dir DIR",
    "--hydra-help": "Hydra's own settings have no effect; `mla train --help` has what does",
    "--experimental-rerun": "run the command in RUN/provenance.json again",
    "--run": "mla train runs one job, and several with -m",
    "-r": "mla train runs one job, and several with -m",
    "--shell-completion": 'write once: eval "$(mla completion bash)"',
    "-sc": 'write once: eval "$(mla completion bash)"',
}
_PRINTED = ("job", "hydra", "all")


def without_hydra_flags(words: Sequence[str]) -> list[str]:
    """Return the words of ``mla train`` with Hydra's options in the form that it takes.

    Args:
        words: The words after ``mla train``.

    Returns:
        The words: ``--cfg job`` is ``--cfg``, and ``--resolve`` beside it is left out, since
        configs are printed with their values.

    Raises:
        ConfigError: If an option has no effect here; the message says what to write.

    Example:
        >>> without_hydra_flags(["--cfg", "job", "--resolve", "method=qmf"])
        ['--cfg', 'method=qmf']
        >>> without_hydra_flags(["--config-name", "mine"])
        Traceback (most recent call last):
        mla_lightning.errors.ConfigError: --config-name: there is one config; write experiment=...
    """
    kept: list[str] = []
    is_printed = any(word.partition("=")[0] in ("--cfg", "-c") for word in words)
    value_of = ""
    for word in words:
        name, equals, value = word.partition("=")
        if value_of and word in _PRINTED:
            _check_printed(word)
        elif name in ("--cfg", "-c") and equals:
            _check_printed(value)
            kept.append("--cfg")
        elif name == "--info" and equals:
            kept.append("--info")
        elif name == "--resolve":
            if not is_printed:
                raise ConfigError("--resolve has no effect without --cfg, which prints the config")
        elif name in _INSTEAD:
            raise ConfigError(f"{name}: {_INSTEAD[name]}")
        else:
            kept.append(word)
        value_of = word if word in ("--cfg", "-c") else ""
    return kept


def _check_printed(value: str) -> None:
    if value not in _PRINTED:
        raise ConfigError(f"--cfg={value}: write --cfg, or --cfg job")
    if value != "job":
        raise ConfigError(
            f"--cfg {value}: Hydra's own settings have no effect here. --cfg prints the config of "
            "the job, and --info the chosen file of every group."
        )
