"""Detection of secrets in configs, which are written to files, logs and tracking services."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

#: Words that name a secret at the end of a name, also as the end of a longer word: ``PGPASSWORD``.
_ENDINGS = r"(?:PASSWORD|PASSWD|PASSPHRASE|SECRET|CREDENTIALS?|APIKEY|AUTHTOKEN)"
#: Words that do so as a word of their own only: ``DB_PASS``, not ``bypass``.
_WORDS = (
    r"(?:PASS|PWD|PW|TOKEN|(?:API|ACCESS|PRIVATE|SECRET|AUTH|ACCOUNT|SSH|SIGNING|LICENSE)_?KEY)"
)
_SECRET_NAME = re.compile(rf"(?:{_ENDINGS}|(?:^|_){_WORDS})(?:_ID|_BASE64|_\d+)?$")
#: Prefixes of well-known access keys, and user:password in an address.
_SECRET_VALUE = re.compile(
    r"(?:\b(?:hf_|ghp_|gho_|github_pat_|glpat-|sk-|xox[abp]-|AKIA|wandb_v\d_)[A-Za-z0-9_\-]{12,})"
    r"|://[^/\s:@]+:[^/\s@]+@"
)
#: The same for environment variables, where more names are in use.
_SECRET_VARIABLE = re.compile(
    r"(?:PASSWORD|PASSWD|PASSPHRASE|SECRET|CREDENTIALS?)(?:_|$)"
    r"|TOKEN(?:_|$)"
    r"|(?:^|_)(?:KEY|APIKEY|PWD|PW|PAT|[A-Z0-9]*PASS)(?:_|$)"
)
#: Variables of every shell that such a name fits: the current folder, and the one before.
_NO_SECRETS = ("PWD", "OLDPWD", "INIT_PWD")
#: Shorter values of such variables ("1", "yes", "local") are no secrets.
_MIN_LENGTH = 6
#: Values that are as short occur within other texts, too: they are secrets as a whole only.
_MIN_LENGTH_WITHIN = 8

ADVICE = "Secrets belong in the environment (WANDB_API_KEY for W&B), never in a config."


def is_secret_key(key: str) -> bool:
    """Return whether a config key names a secret.

    Args:
        key: A dotted key.

    Example:
        >>> is_secret_key("logger.wandb.api_key"), is_secret_key("hf_token")
        (True, True)
        >>> is_secret_key("data.pgpassword"), is_secret_key("logger.apiKey")
        (True, True)
        >>> is_secret_key("data.num_tokens"), is_secret_key("method.bypass")
        (False, False)
    """
    leaf = re.split(r"[.@/]", key.replace("-", "_"))[-1]
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", leaf)
    return bool(_SECRET_NAME.search(words.upper()))


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
    return bool(_SECRET_VALUE.search(text)) or any(_is_within(value, text) for value in known)


def mask_secrets(text: str) -> str:
    """Replace secrets by ``***`` in a text that is about to be printed.

    Example:
        >>> mask_secrets("no data at https://me:password@host/data")
        'no data at https***host/data'
    """
    for value in sorted(_secret_values(), key=len, reverse=True):  # one may contain another
        text = re.sub(_whole(value), "***", text) if _is_within(value, text) else text
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
    for key, value in leaves_of(config, ""):
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


def leaves_of(node: Any, key: str) -> Iterator[tuple[str, Any]]:
    """Find the single values of a config, also those in lists.

    Args:
        node: A config or a node of it, as plain containers.
        key: The dotted key of the node, empty for a whole config.

    Yields:
        Dotted key and value.

    Example:
        >>> list(leaves_of({"seed": 0, "modalities": ["audio"]}, ""))
        [('seed', 0), ('modalities.0', 'audio')]
    """
    if isinstance(node, Mapping | list):
        pairs = node.items() if isinstance(node, Mapping) else enumerate(node)
        for name, value in pairs:
            yield from leaves_of(value, f"{key}.{name}" if key else str(name))
    else:
        yield key, node


def _is_within(value: str, text: str) -> bool:
    return re.search(_whole(value), text) is not None


def _whole(value: str) -> str:
    """Return the expression for a secret within a text; a short one only as a whole word."""
    if len(value) >= _MIN_LENGTH_WITHIN:
        return re.escape(value)
    return rf"(?<![A-Za-z0-9_]){re.escape(value)}(?![A-Za-z0-9_])"


def _secret_values() -> list[str]:
    return [
        value
        for name, value in os.environ.items()
        if len(value) >= _MIN_LENGTH
        and name.upper() not in _NO_SECRETS
        and _SECRET_VARIABLE.search(name.upper())
    ]
