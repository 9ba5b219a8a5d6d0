"""Where a method was published."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Reference:
    """A publication.

    Attributes:
        title: Its title.
        venue: Conference or journal.
        year: Year of publication.
        url: Where to read it.
    """

    title: str
    venue: str
    year: int
    url: str
