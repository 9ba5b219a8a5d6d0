"""Variants: methods with an ablation and overrides, the columns of most tables."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache

from mla_lightning.config.listing import label_of
from mla_lightning.report.read.run import Overrides

#: The methods of the paper's tables, in their order.
PAPER_METHODS = ("sum", "concat", "late_fusion", "film", "bigated", "ogm_ge", "qmf", "mla")
#: The order of columns; methods that are not listed follow by name.
METHODS = (*PAPER_METHODS, "joint_unimodal", "unimodal", "mla_released", "mla_balancemm")
#: The method that trains each modality alone: a reference, which is not ranked.
REFERENCE = "unimodal"
#: The method that predicts the most frequent class for every sample.
MAJORITY = "majority"
#: Methods without a network: references, which are not ranked and whose columns are the last.
WITHOUT_NETWORK = ("logistic", MAJORITY)
#: All methods that are not ranked.
REFERENCES = (REFERENCE, *WITHOUT_NETWORK)


@cache
def method_label(method: str) -> str:
    """Return the name under which tables, figures and pages show a method of the package.

    Args:
        method: Its name in configs and commands; an unknown name is returned as it is.

    Example:
        >>> method_label("ogm_ge"), method_label("my_method")
        ('OGM-GE', 'my_method')
    """
    return label_of("method", method)


@dataclass(frozen=True)
class Variant:
    """A method with an ablation and with the overrides in which runs of a block differ.

    Attributes:
        method: Name of the method in configs.
        ablation: Name of the ablation, ``none`` for the full method.
        overrides: Sorted pairs of key and value.
        recorded_label: Label of a method that the package does not have, as its runs recorded it.

    Example:
        >>> variant = Variant("mla", overrides=(("method.alpha", "0.5"),))
        >>> variant.label, variant.key
        ('MLA alpha=0.5', 'mla alpha=0.5')
    """

    method: str
    ablation: str = "none"
    overrides: Overrides = ()
    recorded_label: str = field(default="", compare=False)

    @property
    def method_label(self) -> str:
        """The method's name as its paper spells it."""
        return self.recorded_label or method_label(self.method)

    @property
    def label(self) -> str:
        """The method's label, followed by the ablation and the overrides."""
        return self._with_settings(self.method_label)

    @property
    def key(self) -> str:
        """The method's config name, followed by the ablation and the overrides."""
        return self._with_settings(self.method)

    def _with_settings(self, method: str) -> str:
        words = [method, *([self.ablation] if self.ablation != "none" else [])]
        return " ".join(words + [f"{k.rpartition('.')[2]}={v}" for k, v in self.overrides])

    @property
    def sort_key(self) -> tuple[object, ...]:
        """Key that sorts variants into the order of columns."""
        order = (*METHODS, None, *WITHOUT_NETWORK)  # None: methods that are not listed
        position = order.index(self.method if self.method in order else None)
        overrides = tuple((key, _number(text), text) for key, text in self.overrides)
        return position, self.method, self.ablation != "none", self.ablation, overrides


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("inf")
