"""Reader of pickles that does not run their code.

A pickle is a program. This reader runs none of it: it builds NumPy arrays and plain containers, and
replaces every other object that a file names by an inert placeholder.
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
        encoding: Encoding of texts that Python 2 wrote.

    Returns:
        The content; objects of any other class are :class:`Inert`.

    Raises:
        DataError: If the file cannot be read.

    Example:
        The path is not created as an object, and nothing else of the file runs:

        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder, "a.pkl")
        ...     _ = path.write_bytes(pickle.dumps({"x": np.arange(3), "folder": Path("/tmp")}))
        ...     content = read_pickle(path)
        >>> content["x"], type(content["folder"]).__name__
        (array([0, 1, 2]), 'Inert')
    """
    try:
        with path.open("rb") as file:
            return _Reader(file, encoding).load()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error
    except Exception as error:  # of any class, depending on the damage
        raise DataError(f"{path} cannot be read as a pickle: {error}") from error


class Inert:
    """Placeholder of any object or function of a pickle; keeps its arguments and does nothing.

    Attributes:
        arguments: Positional arguments, then the dictionary of keyword arguments.
        state: State that the pickle sets; None if it sets none.

    Example:
        >>> Inert("rm -r /").arguments
        ('rm -r /', {})
    """

    def __new__(cls, *arguments: Any, **keywords: Any) -> Inert:
        """Keep the arguments."""
        inert = object.__new__(cls)
        inert.arguments, inert.state = (*arguments, keywords), None
        return inert

    arguments: tuple[Any, ...]
    state: Any

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        """Do nothing."""

    def __setstate__(self, state: Any) -> None:
        """Keep the state."""
        self.state = state

    def __call__(self, *arguments: Any, **keywords: Any) -> Inert:
        """Return a placeholder of the result."""
        return Inert(*arguments, **keywords)

    def __setitem__(self, key: Any, value: Any) -> None:
        """Ignore items of unknown containers."""

    def append(self, value: Any) -> None:
        """Ignore items of unknown containers."""


def _jax_array(build: Any, arguments: tuple, state: tuple, *_: Any) -> np.ndarray:
    """Rebuild an array of JAX, which JAX saves with NumPy's functions."""
    if build is not _NUMPY["_reconstruct"]:
        raise pickle.UnpicklingError("an array of JAX is not saved with NumPy's functions")
    array = build(*arguments)
    array.__setstate__(state)
    return array


def _bytes(text: str, encoding: str) -> bytes:
    """Rebuild the bytes of an array, which old protocols write as text."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"bytes in the encoding {encoding!r}")
    return text.encode("latin1")


#: Functions and classes that build NumPy's arrays; their modules differ between versions.
_NUMPY: dict[str, Any] = {
    "_reconstruct": np.ndarray([]).__reduce__()[0],
    "_frombuffer": np.zeros(1).__reduce_ex__(5)[0],
    "scalar": np.float32(0).__reduce__()[0],
    "ndarray": np.ndarray,
    "dtype": np.dtype,
}
_JAX = {"_reconstruct_array", "reconstruct_array", "reconstruct_device_array"}


class _Reader(pickle.Unpickler):
    """Unpickler that runs no code of the pickle."""

    def __init__(self, file: IO[bytes], encoding: str) -> None:
        """Set the file."""
        super().__init__(file, encoding=encoding)

    def find_class(self, module: str, name: str) -> Any:
        """Return NumPy's array functions, and a placeholder of everything else."""
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
        """Return a placeholder of an object outside of the file."""
        return Inert(pid)
