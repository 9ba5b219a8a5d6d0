"""Loading of pretrained weights from plain tensor files, with every name and shape checked."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mla_lightning.errors import DataError

#: Keys under which training scripts store the weights of a model, beside other values.
_WRAPPERS = ("state_dict", "model", "model_state_dict")
#: Largest number of names listed in a message.
_MAX_LISTED = 6


@dataclass(frozen=True)
class Layout:
    r"""The names that files of one origin give to the weights of an encoder.

    Attributes:
        name: Origin of such files, for messages.
        sources: Name in the encoder -> name in the file, for every weight of the encoder.
        dropped: Patterns of names in the file that the encoder does not use, such as a decoder's.
        optional: Names in the encoder that are missing in older files; these weights keep their
            initial values.

    Example:
        >>> encoder = nn.Linear(1, 1)
        >>> sources = {"weight": "fc.kernel", "bias": "fc.offset"}
        >>> layout = Layout("another library", sources, dropped=(r"decoder\..*",))
        >>> tensors = {
        ...     "fc.kernel": torch.tensor([[2.0]]),
        ...     "fc.offset": torch.tensor([3.0]),
        ...     "decoder.weight": torch.zeros(5),
        ... }
        >>> load_tensors(encoder, tensors, "weights.safetensors", [layout])
        >>> encoder(torch.tensor([[1.0]])).item()
        5.0
    """

    name: str
    sources: Mapping[str, str]
    dropped: Sequence[str] = ()
    optional: frozenset[str] = frozenset()


def load_checkpoint(encoder: nn.Module, path: str | Path, layouts: Sequence[Layout] = ()) -> None:
    """Load all weights of an encoder from a file, or none.

    Args:
        encoder: The encoder.
        path: A ``.safetensors`` file, or a state dict saved with ``torch.save``.
        layouts: Layouts of public files; the encoder's own names are always accepted.

    Raises:
        DataError: If the file cannot be read or does not fit; see :func:`read_tensors` and
            :func:`load_tensors`.

    Example:
        >>> import tempfile
        >>> source, encoder = nn.Linear(2, 3), nn.Linear(2, 3)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "weights.pth"
        ...     torch.save({"epoch": 7, "state_dict": source.state_dict()}, path)
        ...     load_checkpoint(encoder, path)
        >>> torch.equal(encoder.weight, source.weight)
        True
    """
    load_tensors(encoder, read_tensors(path), path, layouts)


def read_tensors(path: str | Path) -> dict[str, Tensor]:
    """Read a file of named tensors without running any code in it.

    A common prefix ``module.`` (of ``DataParallel``) is removed from the names.

    Args:
        path: A ``.safetensors`` file, or a state dict saved with ``torch.save``, alone or below one
            of the keys ``state_dict``, ``model`` and ``model_state_dict``.

    Returns:
        Name -> tensor, on the CPU.

    Raises:
        DataError: If the file is missing or broken, or has anything but named tensors.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "weights.pth"
        ...     torch.save({"model": {"module.weight": torch.zeros(2)}}, path)
        ...     read_tensors(path)
        {'weight': tensor([0., 0.])}
    """
    file = Path(path).expanduser()
    if not file.is_file():
        raise DataError(f"checkpoint {path}: no such file, seen from {Path.cwd()}")
    with file.open("rb") as stream:
        if stream.read(24).startswith(b"version https://git-lfs"):
            raise DataError(f"checkpoint {path} is a Git LFS pointer. Get the file: git lfs pull")
    content: Any
    try:
        if file.suffix == ".safetensors":
            from safetensors.torch import load_file

            content = load_file(file)
        else:
            content = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # its type depends on how the file is damaged
        raise DataError(
            f"checkpoint {path} cannot be read as plain tensors ({_first_line(error)}). A file of "
            "pickled objects is not opened, since that runs its code. For weights of M3AE in JAX, "
            "run: python -m mla_lightning.encoders.convert_m3ae FILE OUT.safetensors"
        ) from error
    for key in _WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping) or not content:
        raise DataError(f"checkpoint {path} has no named tensors")
    other_keys = [str(key) for key, value in content.items() if not isinstance(value, Tensor)]
    if other_keys:
        raise DataError(f"checkpoint {path} has more than tensors: {_listed(other_keys)}")
    if all(key.startswith("module.") for key in content):
        return {key.removeprefix("module."): value for key, value in content.items()}
    return dict(content)


def load_tensors(
    encoder: nn.Module,
    tensors: Mapping[str, Tensor],
    path: str | Path,
    layouts: Sequence[Layout] = (),
) -> None:
    """Load all weights of an encoder from named tensors, or none.

    The layout that has most names in common with the tensors is used.

    Args:
        encoder: The encoder.
        tensors: Name -> tensor.
        path: Origin of the tensors, for messages.
        layouts: Layouts of public files; the encoder's own names are always accepted.

    Raises:
        DataError: If a weight is missing, of another shape or not finite, or if a name is neither
            used nor among those that the layout drops.

    Example:
        >>> tensors = {"weight": torch.zeros(3, 2), "scale": torch.ones(3)}
        >>> load_tensors(nn.Linear(2, 3), tensors, "weights.pth")
        Traceback (most recent call last):
        ...
        mla_lightning.errors.DataError: checkpoint weights.pth does not fit Linear (read as a file
        of mla_lightning); nothing was loaded. missing: bias. unexpected: scale.
    """
    weights = encoder.state_dict()
    candidates = [*layouts, Layout("mla_lightning", {name: name for name in weights})]
    layout = max(
        candidates, key=lambda layout: sum(name in tensors for name in layout.sources.values())
    )
    if unnamed := weights.keys() ^ layout.sources.keys():
        raise AssertionError(f"{layout.name}: the layout is wrong in {sorted(unnamed)}")
    missing, wrong_shapes, not_finite = [], [], []
    state = {}
    for name, source in layout.sources.items():
        if source not in tensors:
            if name in layout.optional:
                state[name] = weights[name]
            else:
                missing.append(source)
        elif tensors[source].shape != weights[name].shape:
            file_shape, shape = tuple(tensors[source].shape), tuple(weights[name].shape)
            wrong_shapes.append(f"{source} is {file_shape} in the file, {shape} in the encoder")
        elif not tensors[source].isfinite().all():
            not_finite.append(source)
        else:
            state[name] = tensors[source]
    used = set(layout.sources.values())
    unexpected = [
        name
        for name in tensors
        if name not in used and not any(re.fullmatch(p, name) for p in layout.dropped)
    ]
    problems = [
        f"{problem}: {_listed(names)}"
        for problem, names in (
            ("missing", missing),
            ("unexpected", unexpected),
            ("other shapes", wrong_shapes),
            ("not finite", not_finite),
        )
        if names
    ]
    if problems:
        raise DataError(
            f"checkpoint {path} does not fit {type(encoder).__name__} (read as a file of "
            f"{layout.name}); nothing was loaded. {'. '.join(problems)}."
        )
    encoder.load_state_dict(state)


def _listed(names: Iterable[str]) -> str:
    names = list(names)
    rest = f" and {len(names) - _MAX_LISTED} more" if len(names) > _MAX_LISTED else ""
    return ", ".join(names[:_MAX_LISTED]) + rest


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
