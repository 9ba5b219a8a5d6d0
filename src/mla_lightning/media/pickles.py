"""Reading pickles without running them.

A pickle is a program. This reader runs none of it: of everything that a file names, it builds
NumPy arrays and plain containers, and puts an inert stand-in in the place of all else.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import IO, Any

import numpy as np

from mla_lightning.errors import DataError


def read_pickle(path: Path, encoding: str = "ASCII") -> Any:
    """Read a pickle's containers, numbers, texts and arrays.

    Args:
        path: The file.
        encoding: How texts of Python 2 are encoded.

    Returns:
        What it holds; :class:`Inert` stands for objects of any other kind.

    Raises:
        DataError: If it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return _Reader(file, encoding).load()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error
    except Exception as error:  # of many kinds, by the damage
        raise DataError(f"{path} cannot be read as a pickle: {error}") from error


class Inert:
    """Stands for any object or function of a pickle: remembers what it is given, does nothing."""

    def __new__(cls, *arguments: Any, **named: Any) -> Inert:
        """Remember what it is given."""
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

    def __call__(self, *arguments: Any, **named: Any) -> Inert:
        """Stand for the result, too."""
        return Inert(*arguments, **named)

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

    def __init__(self, file: IO[bytes], encoding: str) -> None:
        """Read from a file."""
        super().__init__(file, encoding=encoding)

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
        if module in ("builtins", "__builtin__") and name in ("set", "frozenset"):
            return {"set": set, "frozenset": frozenset}[name]
        return Inert

    def persistent_load(self, pid: Any) -> Any:
        """Stand for what lies outside of the file."""
        return Inert(pid)
