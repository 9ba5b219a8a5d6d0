"""Columns of a table: methods, how they differ from their defaults, and how they are shown."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache

from mla_lightning.config.listing import label_of
from mla_lightning.report.read.run import Overrides

#: The paper's order, then this package's own references and variants, then whatever is found.
PAPER_METHODS = ("sum", "concat", "late_fusion", "film", "bigated", "ogm_ge", "qmf", "mla")
METHODS = (*PAPER_METHODS, "joint_unimodal", "unimodal", "mla_released", "mla_balancemm")
#: The method that trains each modality alone: a reference, not a competitor.
REFERENCE = "unimodal"


@cache
def method_label(method: str) -> str:
    """Return the name under which tables, figures and pages show one of the package's methods.

    Args:
        method: Its name in configs and commands.

    Returns:
        Such as ``OGM-GE`` for ``ogm_ge``; an unknown name as it is.
    """
    return label_of("method", method)


@dataclass(frozen=True)
class Variant:
    """A column: a method, and how it differs from its default within the table.

    Attributes:
        shown: How the method is shown, empty for one of the package's.
    """

    method: str
    ablation: str = "none"
    overrides: Overrides = ()
    shown: str = field(default="", compare=False)

    @property
    def method_label(self) -> str:
        """The method's name as its paper spells it."""
        return self.shown or method_label(self.method)

    @property
    def label(self) -> str:
        """The method's name, then the ablation and what else differs."""
        return self._named(self.method_label)

    @property
    def key(self) -> str:
        """The same with the method's name as the configs spell it."""
        return self._named(self.method)

    def _named(self, method: str) -> str:
        parts = [method, *([self.ablation] if self.ablation != "none" else [])]
        return " ".join(parts + [f"{k.rpartition('.')[2]}={v}" for k, v in self.overrides])

    @property
    def order(self) -> tuple[object, ...]:
        """Sorts the columns."""
        place = METHODS.index(self.method) if self.method in METHODS else len(METHODS)
        overrides = tuple((key, _number(text), text) for key, text in self.overrides)
        return place, self.method, self.ablation != "none", self.ablation, overrides


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("inf")
