"""Turn a JAX checkpoint of M3AE, a pickle, into a plain tensor file.

    python -m mla_lightning.encoders.convert_m3ae IN.pkl OUT.safetensors --i-trust-this-file

A pickle is a program. This reader runs none of it: of everything that the file names, it builds
NumPy arrays and plain containers, and puts an inert stand-in in the place of all else.
"""

from __future__ import annotations

import argparse
import pickle
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from torch import Tensor

from mla_lightning.errors import ConfigError, DataError, MLAError

#: Part of a path in Flax -> the name in MLA's PyTorch port.
_PARTS = (
    (r"^encoder\.Block_(\d+)\.", r"encoder.blocks.\1."),
    (r"^encoder\.LayerNorm_0\.", "encoder.layer_norm."),
    (r"\.LayerNorm_0\.", ".layer_norm1."),
    (r"\.LayerNorm_1\.", ".layer_norm2."),
    (r"\.Attention_0\.Dense_0\.", ".attention.qkv_linear."),
    (r"\.Attention_0\.Dense_1\.", ".attention.fc."),
    (r"\.TransformerMLP_0\.", ".transformer_mlp."),
    (r"^text_embedding\.embedding$", "text_embedding.weight"),
    (r"\.scale$", ".weight"),
)
_DECODER = re.compile(r"decoder[._].*|decoder|(image|text)_mask_embedding")


def convert(source: Path, target: Path) -> tuple[list[str], list[str]]:
    """Convert a checkpoint.

    Args:
        source: The pickle.
        target: The ``.safetensors`` file to write; must not exist.

    Returns:
        The names of the weights written, as MLA's PyTorch port has them, and those of the
        decoder's that were left out, as the file has them.

    Raises:
        ConfigError: If the target is no ``.safetensors`` file, or exists.
        DataError: If the source is no such checkpoint.
    """
    from safetensors.torch import save_file

    if target.suffix != ".safetensors":
        raise ConfigError(f"The target must end in .safetensors, got {target}")
    if target.exists():
        raise ConfigError(f"{target} exists. Choose another name, or remove it.")
    tensors, dropped = {}, []
    for name, values in _weights(source):
        if _DECODER.fullmatch(name):
            dropped.append(name)
        else:
            own, tensor = _ported(name, values)
            tensors[own] = tensor
    save_file(tensors, target)
    return sorted(tensors), sorted(dropped)


def _ported(name: str, values: np.ndarray) -> tuple[str, Tensor]:
    for pattern, replacement in _PARTS:
        name = re.sub(pattern, replacement, name)
    if name.endswith(".kernel"):  # Flax multiplies from the left
        name, values = name.removesuffix("kernel") + "weight", values.T
    return name, torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))


def _weights(source: Path) -> Iterator[tuple[str, np.ndarray]]:
    try:
        with source.open("rb") as file:
            content = _Reader(file).load()
    except OSError as error:
        raise DataError(f"{source} cannot be read: {error.strerror}") from error
    except Exception as error:  # of many kinds, by the damage
        raise DataError(f"{source} cannot be read as a pickle: {error}") from error
    found = next((tree for tree in _trees(content) if "cls_token" in tree), None)
    if found is None:
        raise DataError(f"{source} holds no weights of M3AE: nothing is called cls_token in it")
    for name, values in _leaves(found, ""):
        if not isinstance(values, np.ndarray) or values.dtype.kind != "f":
            raise DataError(f"{source}: {name} is no array of floating-point numbers")
        yield name, values


def _trees(node: Any, depth: int = 0) -> Iterator[Mapping[str, Any]]:
    """Find every mapping, outer ones first, in containers and in what stands for objects."""
    if depth > 20:
        return
    if isinstance(node, Mapping):
        yield node
        inner: Sequence[Any] = list(node.values())
    elif isinstance(node, _Inert):
        inner = [*node.arguments, node.state]
    elif isinstance(node, list | tuple):
        inner = node
    else:
        return
    for value in inner:
        yield from _trees(value, depth + 1)


def _leaves(node: Any, at: str) -> Iterator[tuple[str, Any]]:
    if isinstance(node, _Inert):
        node = next(iter(_trees(node)), node)
    if not isinstance(node, Mapping):
        yield at, node
        return
    for name, value in node.items():
        yield from _leaves(value, f"{at}.{name}" if at else str(name))


class _Inert:
    """Stands for any object or function of a pickle: remembers what it is given, does nothing."""

    def __new__(cls, *arguments: Any, **named: Any) -> _Inert:
        made = object.__new__(cls)
        made.arguments, made.state = (*arguments, named), None
        return made

    arguments: tuple[Any, ...]
    state: Any

    def __init__(self, *arguments: Any, **named: Any) -> None:
        """Do nothing."""

    def __setstate__(self, state: Any) -> None:
        """Remember the state."""
        self.state = state

    def __call__(self, *arguments: Any, **named: Any) -> _Inert:
        """Stand for the result, too."""
        return _Inert(*arguments, **named)

    def __setitem__(self, key: Any, value: Any) -> None:
        """Ignore items of containers that are unknown."""

    def append(self, value: Any) -> None:
        """Ignore items of containers that are unknown."""


def _jax_array(build: Any, arguments: tuple, state: tuple, *_: Any) -> np.ndarray:
    """Rebuild what JAX saves of an array: NumPy's own parts."""
    if build is not _NUMPY["_reconstruct"]:
        raise pickle.UnpicklingError("an array of JAX is not made of NumPy's parts")
    array = build(*arguments)
    array.__setstate__(state)
    return array


def _bytes(text: str, encoding: str) -> bytes:
    """Rebuild the bytes of an array, which old protocols write as text."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"bytes in the encoding {encoding!r}")
    return text.encode("latin1")


#: What NumPy's arrays are made of in a pickle, wherever its version keeps them.
_NUMPY: dict[str, Any] = {
    "_reconstruct": np.ndarray([]).__reduce__()[0],
    "_frombuffer": np.zeros(1).__reduce_ex__(5)[0],
    "scalar": np.float32(0).__reduce__()[0],
    "ndarray": np.ndarray,
    "dtype": np.dtype,
}
_JAX = {"_reconstruct_array", "reconstruct_array", "reconstruct_device_array"}


class _Reader(pickle.Unpickler):
    """Reads a pickle without running anything of it."""

    def __init__(self, file: IO[bytes]) -> None:
        """Read from a file."""
        super().__init__(file)

    def find_class(self, module: str, name: str) -> Any:
        """Give NumPy's array functions, and a stand-in for everything else."""
        package = module.partition(".")[0]
        if package == "numpy" and name in _NUMPY:
            return _NUMPY[name]
        if package in ("jax", "jaxlib") and name in _JAX:
            return _jax_array
        if (module, name) == ("_codecs", "encode"):
            return _bytes
        if (module, name) == ("collections", "OrderedDict"):
            return dict
        return _Inert

    def persistent_load(self, pid: Any) -> Any:
        """Stand for what lies outside of the file."""
        return _Inert(pid)


def main(words: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        words: The arguments; the process's by default.

    Returns:
        The exit code.
    """
    parser = argparse.ArgumentParser(
        prog="python -m mla_lightning.encoders.convert_m3ae",
        description="Turn a JAX checkpoint of M3AE (a pickle) into a plain tensor file.",
    )
    parser.add_argument("source", type=Path, metavar="IN")
    parser.add_argument("target", type=Path, metavar="OUT.safetensors")
    parser.add_argument("--i-trust-this-file", action="store_true", dest="is_trusted")
    given = parser.parse_args(words)
    try:
        if not given.is_trusted:
            raise ConfigError(
                f"{given.source} is a pickle, which is a program. It is read without being run, "
                "but take such a file only from where you trust it, and say so: add "
                "--i-trust-this-file"
            )
        written, dropped = convert(given.source, given.target)
    except MLAError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    print(f"Wrote {given.target}: {len(written)} tensors; left out the decoder's {len(dropped)}.")
    print(f"Use it: mla train ... encoder=m3ae encoder.image.checkpoint={given.target}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
