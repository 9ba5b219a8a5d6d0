"""The tasks that a data set can have, and the metric by which each one's runs are compared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

CLASSIFICATION, REGRESSION, MULTILABEL = "classification", "regression", "multilabel"


@dataclass(frozen=True, kw_only=True)
class Primary:
    """The metric by which runs of a task are compared, and epochs selected by default.

    Attributes:
        metric: Its name in ``result.json`` and in ``conf/metric/``.
        column: Its column in ``metrics.csv``, after ``val/``.
        lower_is_better: Whether the smallest value is the best.
    """

    metric: str
    column: str
    lower_is_better: bool = False

    @property
    def sign(self) -> int:
        """1 if larger values are better, -1 if smaller ones are.

        Example:
            >>> PRIMARY["classification"].sign, PRIMARY["regression"].sign
            (1, -1)
        """
        return -1 if self.lower_is_better else 1


#: Task -> the metric by which its runs are compared.
PRIMARY: Mapping[str, Primary] = {
    CLASSIFICATION: Primary(metric="accuracy", column="acc"),
    REGRESSION: Primary(metric="mae", column="mae", lower_is_better=True),
    MULTILABEL: Primary(metric="micro_f1", column="f1_micro"),
}
