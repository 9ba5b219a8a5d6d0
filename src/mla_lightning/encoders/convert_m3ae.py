"""Conversion of a JAX checkpoint of M3AE, a pickle, to a plain tensor file.

    python -m mla_lightning.encoders.convert_m3ae IN.pkl OUT.safetensors --i-trust-this-file

A pickle is a program. This reader runs none of it: it builds NumPy arrays and plain containers
alone, and replaces every other object by an inert placeholder.
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
from mla_lightning.paths import command, path_override

#: Pattern of a name in Flax -> the name in MLA's PyTorch port.
_RENAMINGS = (
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
    """Convert a pickled JAX checkpoint of M3AE to a ``.safetensors`` file.

    Args:
        source: The pickle.
        target: The ``.safetensors`` file to write; must not exist.

    Returns:
        The names of the written weights in MLA's PyTorch port, and the names in the source of the
        decoder's weights, which are left out.

    Raises:
        ConfigError: If the target is not a ``.safetensors`` file, or exists.
        DataError: If the source is not such a checkpoint.

    Example:
        >>> import pickle, tempfile
        >>> tree = {
        ...     "cls_token": np.zeros((1, 1, 4), np.float32),
        ...     "encoder": {"Block_0": {"Attention_0": {"Dense_1": {"bias": np.zeros(4)}}}},
        ...     "decoder": {"bias": np.zeros(4)},
        ... }
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     source, target = Path(folder, "m3ae.pkl"), Path(folder, "m3ae.safetensors")
        ...     _ = source.write_bytes(pickle.dumps(tree))
        ...     convert(source, target)
        (['cls_token', 'encoder.blocks.0.attention.fc.bias'], ['decoder.bias'])
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
            ported_name, tensor = _ported(name, values)
            tensors[ported_name] = tensor
    save_file(tensors, target)
    return sorted(tensors), sorted(dropped)


def _ported(name: str, values: np.ndarray) -> tuple[str, Tensor]:
    """Convert a weight of Flax to its name and tensor in MLA's PyTorch port."""
    for pattern, replacement in _RENAMINGS:
        name = re.sub(pattern, replacement, name)
    if name.endswith(".kernel"):  # Flax stores (in, out)
        name, values = name.removesuffix("kernel") + "weight", values.T
    return name, torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))


def _weights(source: Path) -> Iterator[tuple[str, np.ndarray]]:
    content = read_pickle(source)
    parameters = next((tree for tree in _trees(content) if "cls_token" in tree), None)
    if parameters is None:
        raise DataError(f"{source} has no weights of M3AE: it has no entry cls_token")
    for name, values in _leaves(parameters, ""):
        if not isinstance(values, np.ndarray) or values.dtype.kind != "f":
            raise DataError(f"{source}: {name} is not an array of floating-point numbers")
        yield name, values


def _trees(node: Any, depth: int = 0) -> Iterator[Mapping[str, Any]]:
    """Yield every mapping in containers and placeholders of objects, outer ones first."""
    if depth > 20:
        return
    if isinstance(node, Mapping):
        yield node
        children: Sequence[Any] = list(node.values())
    elif isinstance(node, Inert):
        children = [*node.arguments, node.state]
    elif isinstance(node, list | tuple):
        children = node
    else:
        return
    for value in children:
        yield from _trees(value, depth + 1)


def _leaves(node: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Yield every value that is not a mapping, with its path joined by dots."""
    if isinstance(node, Inert):
        node = next(iter(_trees(node)), node)
    if not isinstance(node, Mapping):
        yield path, node
        return
    for name, value in node.items():
        yield from _leaves(value, f"{path}.{name}" if path else str(name))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: The arguments; those of the process by default.

    Returns:
        The exit code.
    """
    parser = argparse.ArgumentParser(
        prog="python -m mla_lightning.encoders.convert_m3ae",
        description="Convert a JAX checkpoint of M3AE (a pickle) to a plain tensor file.",
    )
    parser.add_argument("source", type=Path, metavar="IN")
    parser.add_argument("target", type=Path, metavar="OUT.safetensors")
    parser.add_argument("--i-trust-this-file", action="store_true", dest="is_trusted")
    options = parser.parse_args(arguments)
    try:
        if not options.is_trusted:
            raise ConfigError(
                f"{options.source} is a pickle, which is a program. It is read without being run, "
                "but use such a file only from a source that you trust. If you trust it, add "
                "--i-trust-this-file"
            )
        written, dropped = convert(options.source, options.target)
    except MLAError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    print(
        f"Wrote {options.target}: {len(written)} tensors; left out {len(dropped)} of the decoder."
    )
    checkpoint = path_override("encoder.image.checkpoint", options.target)
    print(f"Use it: {command('mla', 'train', '...', 'encoder=m3ae', checkpoint)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
