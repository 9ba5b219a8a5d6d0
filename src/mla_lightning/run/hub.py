"""Publication of an exported model at a hub such as huggingface.co, if it is asked for."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from mla_lightning.errors import ConfigError, RunError


def check_hub(repository: str) -> None:
    """Check that a model can be published, before anything is written.

    Args:
        repository: The name of the model there, ``OWNER/NAME``.

    Raises:
        ConfigError: If the name is not allowed there, there is no token, or the hub is switched
            off.

    Example:
        >>> check_hub("mine")
        Traceback (most recent call last):
        mla_lightning.errors.ConfigError: hub=mine: write OWNER/NAME, the name of the model at ...
    """
    from huggingface_hub import constants, get_token
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

    reason = "" if repository.count("/") == 1 else "it has no owner"
    try:
        validate_repo_id(repository)
    except HFValidationError as error:
        reason = str(error).splitlines()[0]
    if reason:
        raise ConfigError(
            f"hub={repository}: write OWNER/NAME, the name of the model at {constants.ENDPOINT} "
            f"({reason})"
        )
    if constants.HF_HUB_OFFLINE:
        raise ConfigError("hub=... needs a network, and HF_HUB_OFFLINE is set. Leave hub out.")
    if get_token() is None:
        raise ConfigError(
            f"hub={repository} needs a token of {constants.ENDPOINT}: run `hf auth login`, or set "
            "HF_TOKEN. Without hub=... the folder is written all the same, and can be uploaded "
            f"later: hf upload {repository} FOLDER"
        )


def push(folder: Path, repository: str) -> str:
    """Upload a folder as a model, which is private if it is new.

    Args:
        folder: The folder.
        repository: The name of the model, ``OWNER/NAME``.

    Returns:
        The address of the model.

    Raises:
        RunError: If the upload fails; the folder stays.
    """
    from huggingface_hub import HfApi

    api: Any = HfApi()
    try:
        address = api.create_repo(repository, private=True, exist_ok=True)
        api.upload_folder(
            repo_id=repository, folder_path=folder, commit_message="Add the model and its card"
        )
    except Exception as error:  # of the library of its version, such as httpx
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise RunError(
            f"{folder} was written, and could not be uploaded: {reason[0]}. Again: "
            f"hf upload {repository} {os.fspath(folder)}"
        ) from error
    return str(address)
