"""Turn a JAX checkpoint of M3AE, a pickle, into a plain tensor file.

    python -m mla_lightning.encoders.convert_m3ae IN.pkl OUT.safetensors --i-trust-this-file

A pickle is a program. This reader runs none of it: of everything that the file names, it builds
NumPy arrays and plain containers, and puts an inert stand-in in the place of all else.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mla_lightning.errors import ConfigError, DataError, MLAError
from mla_lightning.media.pickles import Inert, read_pickle

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
    content = read_pickle(source)
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
    elif isinstance(node, Inert):
        inner = [*node.arguments, node.state]
    elif isinstance(node, list | tuple):
        inner = node
    else:
        return
    for value in inner:
        yield from _trees(value, depth + 1)


def _leaves(node: Any, at: str) -> Iterator[tuple[str, Any]]:
    if isinstance(node, Inert):
        node = next(iter(_trees(node)), node)
    if not isinstance(node, Mapping):
        yield at, node
        return
    for name, value in node.items():
        yield from _leaves(value, f"{at}.{name}" if at else str(name))


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
