"""Keep secrets out of configs: what a config holds ends in files, logs and run services."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

#: The last word of a key, or its last two joined, that names a secret.
_SECRET_WORDS = {
    "secret",
    "token",
    "password",
    "passwd",
    "passphrase",
    "credential",
    "credentials",
    "apikey",
    "api_key",
    "access_key",
    "private_key",
    "secret_key",
    "auth_key",
}
#: Shapes of well-known keys, and user:password in an address.
_SECRET_VALUE = re.compile(
    r"(?:\b(?:hf_|ghp_|gho_|github_pat_|glpat-|sk-|xox[abp]-|AKIA|wandb_v\d_)[A-Za-z0-9_\-]{12,})"
    r"|://[^/\s:@]+:[^/\s@]+@"
)
_SECRET_VARIABLE = re.compile(
    r"(?:^|_)(?:KEY|APIKEY|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIALS?)(?:_|$)"
)
#: Shorter values of such variables ("1", "yes", "local") are no secrets and would hit everywhere.
_SHORTEST = 8

ADVICE = "Secrets belong in the environment (WANDB_API_KEY for W&B), never in a config."


def is_secret_key(key: str) -> bool:
    """Whether a config key asks for a secret by its name.

    Args:
        key: A dotted key.

    Returns:
        True for ``logger.wandb.api_key`` or ``hf_token``, False for ``num_tokens``.
    """
    leaf = re.split(r"[.@/]", key.lower().replace("-", "_"))[-1]
    words = leaf.split("_")
    return words[-1] in _SECRET_WORDS or "_".join(words[-2:]) in _SECRET_WORDS


def contains_secret(text: str, values: Iterable[str] | None = None) -> bool:
    """Whether a text holds the value of a secret environment variable, or looks like a key.

    Args:
        text: The text.
        values: The values, None to look them up.
    """
    known = _secret_values() if values is None else values
    return bool(_SECRET_VALUE.search(text)) or any(value in text for value in known)


def mask_secrets(text: str) -> str:
    """Blot out secrets, for text that others wrote and that is about to be printed."""
    for value in _secret_values():
        text = text.replace(value, "***")
    return _SECRET_VALUE.sub("***", text)


def find_secrets(config: Mapping[str, Any]) -> list[str]:
    """Find the secrets in a config.

    Args:
        config: A config or a part of it, as plain containers.

    Returns:
        One fault per secret, which names its key and never its value.
    """
    values = _secret_values()
    faults = []
    for key, value in _leaves(config, ""):
        if value is None or isinstance(value, bool):
            continue
        if is_secret_key(key):
            faults.append(f"{key} looks like a secret, so it is refused. {ADVICE}")
        elif isinstance(value, str) and contains_secret(value, values):
            faults.append(f"The value of {key} is a secret, so it is refused. {ADVICE}")
    return faults


def _leaves(node: Any, key: str) -> Iterator[tuple[str, Any]]:
    if isinstance(node, Mapping | list):
        pairs = node.items() if isinstance(node, Mapping) else enumerate(node)
        for name, value in pairs:
            yield from _leaves(value, f"{key}.{name}" if key else str(name))
    else:
        yield key, node


def _secret_values() -> list[str]:
    return [
        value
        for name, value in os.environ.items()
        if len(value) >= _SHORTEST and _SECRET_VARIABLE.search(name.upper())
    ]
