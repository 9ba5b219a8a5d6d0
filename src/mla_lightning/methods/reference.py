"""Publication of a method."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Reference:
    """A publication, as every method names the one that it implements.

    Attributes:
        title: Title.
        venue: Conference or journal.
        year: Year of publication.
        url: Address of the text.
    """

    title: str
    venue: str
    year: int
    url: str
