"""Detection of secrets in configs, which are written to files, logs and tracking services."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

#: Keys whose last word, or last two words joined, is one of these name a secret.
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
#: Prefixes of well-known access keys, and user:password in an address.
_SECRET_VALUE = re.compile(
    r"(?:\b(?:hf_|ghp_|gho_|github_pat_|glpat-|sk-|xox[abp]-|AKIA|wandb_v\d_)[A-Za-z0-9_\-]{12,})"
    r"|://[^/\s:@]+:[^/\s@]+@"
)
_SECRET_VARIABLE = re.compile(
    r"(?:^|_)(?:KEY|APIKEY|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIALS?)(?:_|$)"
)
#: Shorter values of such variables ("1", "yes", "local") are no secrets, and occur in other texts.
_MIN_LENGTH = 8

ADVICE = "Secrets belong in the environment (WANDB_API_KEY for W&B), never in a config."


def is_secret_key(key: str) -> bool:
    """Return whether a config key names a secret.

    Args:
        key: A dotted key.

    Example:
        >>> is_secret_key("logger.wandb.api_key"), is_secret_key("hf_token")
        (True, True)
        >>> is_secret_key("data.num_tokens")
        False
    """
    leaf = re.split(r"[.@/]", key.lower().replace("-", "_"))[-1]
    words = leaf.split("_")
    return words[-1] in _SECRET_WORDS or "_".join(words[-2:]) in _SECRET_WORDS


def contains_secret(text: str, values: Iterable[str] | None = None) -> bool:
    """Return whether a text contains the value of a secret environment variable, or an access key.

    Args:
        text: The text.
        values: The values of the variables, None to look them up.

    Example:
        >>> contains_secret("x-long-secret-x", ["long-secret"]), contains_secret("abc", [])
        (True, False)
        >>> contains_secret("https://me:password@host/data", [])
        True
    """
    known = _secret_values() if values is None else values
    return bool(_SECRET_VALUE.search(text)) or any(value in text for value in known)


def mask_secrets(text: str) -> str:
    """Replace secrets by ``***`` in a text that is about to be printed.

    Example:
        >>> mask_secrets("no data at https://me:password@host/data")
        'no data at https***host/data'
    """
    for value in _secret_values():
        text = text.replace(value, "***")
    return _SECRET_VALUE.sub("***", text)


def find_secrets(config: Mapping[str, Any]) -> list[str]:
    """Find the secrets in a config.

    Args:
        config: A config or a node of it, as plain containers.

    Returns:
        One message per secret, which names its key and never its value.

    Example:
        >>> find_secrets({"logger": {"api_key": "1a2b"}, "data": {"num_tokens": 4}})
        ['logger.api_key looks like a secret and is rejected. Secrets belong in the ...']
    """
    values = _secret_values()
    problems = []
    for key, value in _leaves(config, ""):
        if value is not None and not isinstance(value, bool):
            problems += secret_problems(key, value, values)
    return problems


def secret_problems(key: str, value: Any, secrets: Iterable[str] | None = None) -> list[str]:
    """Return a message if a key names a secret or its value contains one.

    Args:
        key: A dotted key.
        value: Its value, which the message does not show.
        secrets: The values of secret environment variables, None to look them up.

    Example:
        >>> secret_problems("seed", 0)
        []
    """
    if is_secret_key(key):
        return [f"{key} looks like a secret and is rejected. {ADVICE}"]
    if isinstance(value, str) and contains_secret(value, secrets):
        return [f"The value of {key} is a secret and is rejected. {ADVICE}"]
    return []


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
        if len(value) >= _MIN_LENGTH and _SECRET_VARIABLE.search(name.upper())
    ]
