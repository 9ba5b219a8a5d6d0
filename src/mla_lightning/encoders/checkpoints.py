"""Read pretrained weights from plain tensor files: every key and shape accounted for."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mla_lightning.errors import DataError

#: Keys under which training scripts put the weights of a model beside other things.
_WRAPPERS = ("state_dict", "model", "model_state_dict")
#: Names that a message lists at most.
_LISTED = 6


@dataclass(frozen=True)
class Layout:
    """How files of one origin name the weights of an encoder.

    Attributes:
        name: Where such files come from.
        sources: Our name -> theirs, for every weight of the encoder.
        dropped: Patterns of their names that the encoder has no use for, such as a decoder's.
        optional: Our names that older files lack; these keep their first values.
    """

    name: str
    sources: Mapping[str, str]
    dropped: Sequence[str] = ()
    optional: frozenset[str] = frozenset()


def load_checkpoint(encoder: nn.Module, path: str | Path, layouts: Sequence[Layout] = ()) -> None:
    """Fill an encoder from a file, all of it or not at all.

    Args:
        encoder: The encoder.
        path: A ``.safetensors`` file, or what ``torch.save`` made of a state dict.
        layouts: Layouts of public files; the encoder's own names are always understood.

    Raises:
        DataError: As :func:`read_tensors` and :func:`fill` say.
    """
    fill(encoder, read_tensors(path), path, layouts)


def read_tensors(path: str | Path) -> dict[str, Tensor]:
    """Read a file of named tensors without running any code of it.

    A common prefix ``module.`` (of ``DataParallel``) is taken off.

    Args:
        path: A ``.safetensors`` file, or what ``torch.save`` made of a state dict; one that lies in
            the file as ``state_dict``, ``model`` or ``model_state_dict`` is found there.

    Returns:
        Name -> tensor, on the CPU.

    Raises:
        DataError: If the file is missing, broken, or holds anything else.
    """
    file = Path(path).expanduser()
    if not file.is_file():
        raise DataError(f"checkpoint {path}: no such file, seen from {Path.cwd()}")
    with file.open("rb") as opened:
        if opened.read(24).startswith(b"version https://git-lfs"):
            raise DataError(f"checkpoint {path} is a Git LFS pointer. Get the file: git lfs pull")
    found: Any
    try:
        if file.suffix == ".safetensors":
            from safetensors.torch import load_file

            found = load_file(file)
        else:
            found = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # of many kinds, by the damage
        raise DataError(
            f"checkpoint {path} cannot be read as plain tensors ({_first_line(error)}). A file of "
            "pickled objects is not opened, since that runs its code. Weights of M3AE in JAX: "
            "python -m mla_lightning.encoders.convert_m3ae FILE OUT.safetensors"
        ) from error
    for key in _WRAPPERS:
        if isinstance(found, Mapping) and isinstance(found.get(key), Mapping):
            found = found[key]
    if not isinstance(found, Mapping) or not found:
        raise DataError(f"checkpoint {path} holds no named tensors")
    others = [str(key) for key, value in found.items() if not isinstance(value, Tensor)]
    if others:
        raise DataError(f"checkpoint {path} holds more than tensors: {_listed(others)}")
    if all(key.startswith("module.") for key in found):
        return {key.removeprefix("module."): value for key, value in found.items()}
    return dict(found)


def fill(
    encoder: nn.Module,
    tensors: Mapping[str, Tensor],
    path: str | Path,
    layouts: Sequence[Layout] = (),
) -> None:
    """Fill an encoder from named tensors, all of it or not at all.

    Args:
        encoder: The encoder.
        tensors: Name -> tensor.
        path: Where they are from, for messages.
        layouts: Layouts of public files; the encoder's own names are always understood.

    Raises:
        DataError: If a weight is missing, of another shape or not finite, or if a name is neither
            used nor known to be of no use.
    """
    own = encoder.state_dict()
    known = [*layouts, Layout("mla_lightning", {name: name for name in own})]
    layout = max(known, key=lambda one: sum(name in tensors for name in one.sources.values()))
    if unnamed := own.keys() ^ layout.sources.keys():
        raise AssertionError(f"{layout.name}: the layout is wrong in {sorted(unnamed)}")
    missing, shapes, broken = [], [], []
    state = {}
    for name, theirs in layout.sources.items():
        if theirs not in tensors:
            if name in layout.optional:
                state[name] = own[name]
            else:
                missing.append(theirs)
        elif tensors[theirs].shape != own[name].shape:
            given, needed = tuple(tensors[theirs].shape), tuple(own[name].shape)
            shapes.append(f"{theirs} is {given} in the file, {needed} here")
        elif not tensors[theirs].isfinite().all():
            broken.append(theirs)
        else:
            state[name] = tensors[theirs]
    used = set(layout.sources.values())
    unexpected = [
        name
        for name in tensors
        if name not in used and not any(re.fullmatch(p, name) for p in layout.dropped)
    ]
    faults = [
        f"{what}: {_listed(names)}"
        for what, names in (
            ("missing", missing),
            ("unexpected", unexpected),
            ("other shapes", shapes),
            ("not finite", broken),
        )
        if names
    ]
    if faults:
        raise DataError(
            f"checkpoint {path} does not fit {type(encoder).__name__} (read as a file of "
            f"{layout.name}); nothing was loaded. {'. '.join(faults)}."
        )
    encoder.load_state_dict(state)


def _listed(names: Iterable[str]) -> str:
    names = list(names)
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return ", ".join(names[:_LISTED]) + more


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
