"""Extractor of features that are a file per sample: a vector, or a sequence of vectors."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from mla_lightning.media.base import BadMedia, Extractor, MediaInput
from mla_lightning.media.files import media_file

#: Endings of files of features.
FEATURE_ENDINGS = (".npy", ".npz", ".pt", ".pth")
#: Fraction of sequences that are stored as a whole; longer ones are cut at the end.
LENGTH_QUANTILE = 0.995


class FeatureFile(Extractor):
    """Reads the features of one sample from a ``.npy``, ``.npz``, ``.pt`` or ``.pth`` file.

    Sequences (T, D) are padded to one length with zeros, which encoders ignore.

    Attributes:
        shape: (D,) of a vector, or (length, D) of a sequence.

    Example:
        >>> from mla_lightning.media.base import FileInput
        >>> np.save(tmp / "s0.npy", np.ones((2, 3)))
        >>> FeatureFile((4, 3))(tmp, FileInput(Path("s0.npy"))).sum(axis=1)
        array([3., 3., 0., 0.], dtype=float32)
    """

    kind: ClassVar[str] = "features"

    def __init__(self, shape: tuple[int, ...], *, key: str | None = None) -> None:
        """Set the shape.

        Args:
            shape: (D,) of a vector, or (length, D) of a sequence; longer ones are cut at the end.
            key: Name of the array in an ``.npz`` file or a dict of tensors; None for the only one.
        """
        self.shape, self.dtype, self.key = tuple(shape), "float32", key

    def __call__(self, raw: Path, media_input: MediaInput) -> np.ndarray:
        """Read a file; see :class:`Extractor`."""
        values = read_features(media_file(raw, media_input), key=self.key)
        if len(self.shape) == 1:
            values = values.reshape(values.shape[-1:]) if values.shape[:-1] == (1,) else values
            if values.shape != self.shape:
                raise BadMedia(f"shape {values.shape} instead of {self.shape}")
            return values
        length, width = self.shape
        if values.ndim != 2 or values.shape[1] != width or not len(values):
            raise BadMedia(f"shape {values.shape} instead of (steps, {width})")
        padded = np.zeros(self.shape, dtype=self.dtype)
        padded[: len(values)] = values[:length]
        return padded

    def options(self) -> dict[str, Any]:
        """Return the options."""
        return {
            "extractor": "feature_file",
            "version": 1,
            "shape": list(self.shape),
            "key": self.key,
        }


def read_features(path: Path, *, key: str | None = None) -> np.ndarray:
    """Read the array of a file of features.

    Args:
        path: The file.
        key: Name of the array in an ``.npz`` file or a dict of tensors; None for the only one.

    Returns:
        The values as float32.

    Raises:
        BadMedia: If the file is damaged, holds other objects or several arrays, or a value is not
            a finite number.

    Example:
        >>> np.savez(tmp / "a.npz", x=np.zeros(3), y=np.ones(3))
        >>> read_features(tmp / "a.npz", key="y")
        array([1., 1., 1.], dtype=float32)
    """
    try:
        values = _load(path, key)
    except BadMedia:
        raise
    except Exception as error:  # damage raises errors of many classes
        if "Object arrays" in str(error) or "weights_only" in str(error).lower():
            raise BadMedia(
                "holds Python objects, which cannot be read safely; save plain numbers, by "
                "np.save or torch.save of a tensor"
            ) from error
        first_line = (str(error).splitlines() or [type(error).__name__])[0]
        raise BadMedia(f"damaged, or not what its ending says: {first_line}") from error
    if values.dtype.kind not in "fiub":
        raise BadMedia(f"holds {values.dtype}, not numbers")
    with np.errstate(over="ignore"):
        converted = values.astype(np.float32)
    if not np.isfinite(converted).all():
        value = values[~np.isfinite(converted)].flat[0]
        raise BadMedia(f"a value is not finite, or too large for float32 ({value})")
    return converted


def file_shape(path: Path) -> tuple[int, ...]:
    """Return the shape of a file of features; of a ``.npy`` file its header alone is read.

    Raises:
        BadMedia: As :func:`read_features`.

    Example:
        >>> np.save(tmp / "s.npy", np.zeros((7, 3)))
        >>> file_shape(tmp / "s.npy")
        (7, 3)
    """
    if path.suffix.lower() == ".npy":
        with contextlib.suppress(OSError, ValueError):  # damage is named below
            return tuple(np.lib.format.open_memmap(path, mode="r").shape)
    return read_features(path).shape


def features_shape(shapes: Iterable[tuple[int, ...]], kind: str) -> tuple[int, ...]:
    """Return the shape of which all samples are stored.

    Args:
        shapes: Shapes of the files of the train split.
        kind: ``features`` or ``sequence``.

    Returns:
        (D,), or (length, D): 99.5 % of the sequences are not longer, the others are cut.

    Raises:
        BadMedia: If the shapes do not fit together or the kind.

    Example:
        >>> features_shape([(3, 8), (7, 8), (5, 8)], "sequence")
        (7, 8)
    """
    listed = list(shapes)
    num_axes = 2 if kind == "sequence" else 1
    if kind == "features":
        listed = [shape[-1:] if shape[:-1] == (1,) else shape for shape in listed]
    if odd := next((shape for shape in listed if len(shape) != num_axes or 0 in shape), None):
        expected = "(T, D)" if kind == "sequence" else "(D,)"
        raise BadMedia(f"shape {odd} instead of {expected}")
    widths = sorted({shape[-1] for shape in listed})
    if len(widths) != 1:
        raise BadMedia(f"the files have different widths: {', '.join(map(str, widths[:5]))}")
    if kind == "features":
        return (widths[0],)
    lengths = [shape[0] for shape in listed]
    return int(np.quantile(lengths, LENGTH_QUANTILE, method="higher")), widths[0]


def _load(path: Path, key: str | None) -> np.ndarray:
    ending = path.suffix.lower()
    if ending in (".npy", ".npz"):
        with path.open("rb") as file:
            content = np.load(file, allow_pickle=False)
            is_archive = not isinstance(content, np.ndarray)
            if is_archive != (ending == ".npz"):
                what = "an archive of arrays" if is_archive else "one array, not an archive"
                raise BadMedia(f"{what}; name it {'.npz' if is_archive else '.npy'}")
            return np.asarray(content[_chosen(content.files, key)] if is_archive else content)
    if ending in (".pt", ".pth"):
        import torch

        content = torch.load(path, map_location="cpu", weights_only=True)
        if isinstance(content, dict):
            tensors = {str(k): v for k, v in content.items() if isinstance(v, torch.Tensor)}
            content = tensors[_chosen([*tensors], key)]
        if not isinstance(content, torch.Tensor):
            raise BadMedia(f"holds a {type(content).__name__}, not a tensor or a dict with one")
        if content.is_complex():
            raise BadMedia(f"holds {content.dtype}, not real numbers")
        return content.detach().double().numpy()
    raise BadMedia(f"ending {ending!r} is none of {', '.join(FEATURE_ENDINGS)}")


def _chosen(names: list[str], key: str | None) -> str:
    """Return the name of the array to read."""
    listed = ", ".join(names[:5]) or "none"
    if key is None and len(names) != 1:
        raise BadMedia(f"holds {len(names)} arrays ({listed}); choose one by key=")
    if key is not None and key not in names:
        raise BadMedia(f"has no array {key!r}; it has {listed}")
    return names[0] if key is None else key
