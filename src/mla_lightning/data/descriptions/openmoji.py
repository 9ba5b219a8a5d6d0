"""Description of OpenMoji, which the package contains."""

from __future__ import annotations

from mla_lightning.data.descriptions.base import DataDescription

#: SHA-256 of the arrays in the file, see :func:`mla_lightning.data.openmoji.array_digest`.
DIGEST = "0742840bb6400fbe08e172259d03407b04f44e94b16c96ed629ddcef4c717e49"
CLASS_NAMES = (
    "smileys",
    "people",
    "animals",
    "food",
    "travel",
    "activities",
    "objects",
    "symbols",
)


class OpenMojiDescription(DataDescription):
    """Modalities and classes of :class:`~mla_lightning.data.openmoji.OpenMoji`.

    Example:
        >>> data = OpenMojiDescription(batch_size=8)
        >>> data.all_modalities, data.num_classes
        (('image', 'text'), 8)
    """

    name = "openmoji"
    all_modalities = ("image", "text")
    class_names = CLASS_NAMES
    split_name = "grouped, fixed"

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the arrays, the split among them; :meth:`setup` checks them against it."""
        return DIGEST
