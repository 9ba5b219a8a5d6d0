"""How methods are shown: as their papers spell them."""

from functools import cache

from mla_lightning.config.listing import label_of


@cache
def method_label(method: str) -> str:
    """Return the name under which tables, figures and pages show one of the package's methods.

    Args:
        method: Its name in configs and commands.

    Returns:
        Such as ``OGM-GE`` for ``ogm_ge``; an unknown name as it is.
    """
    return label_of("method", method)
