"""The rule by which a validation split is known to tell nothing about the test split.

Features of networks that were trained on the validation samples, or groups that both splits share,
raise every validation accuracy to the ceiling: epochs and learning rates are then selected by
chance.
"""

from __future__ import annotations

#: Accuracy from which validation is at the ceiling: hardly an error is left to select by.
CEILING = 0.99
#: Difference to the accuracy on test from which validation is far above it.
DISTANCE = 0.10
#: Ends the sentences about such a split.
ADVICE = (
    "validation that is not independent of train cannot select; check how the split was made, and "
    "what the features were trained on"
)


def is_uninformative(val: float | None, test: float | None) -> bool:
    """Return whether validation is at the ceiling and far above test.

    Args:
        val: Accuracy on validation, as a fraction; None if it is not known.
        test: Accuracy on test, likewise.

    Returns:
        Whether ``val`` is at least :data:`CEILING` and exceeds ``test`` by at least
        :data:`DISTANCE`.

    Example:
        >>> is_uninformative(0.996, 0.747), is_uninformative(0.996, 0.97)
        (True, False)
        >>> is_uninformative(0.99, 0.89), is_uninformative(0.9899, 0.7)
        (True, False)
    """
    if val is None or test is None:
        return False
    return val >= CEILING and round(val - test, 9) >= DISTANCE


def ceiling_note(val: float | None, test: float | None) -> str:
    """Return a sentence about a run whose validation says nothing; empty for any other.

    Example:
        >>> print(ceiling_note(0.996, 0.747))
        validation accuracy is 99.6 %, test 74.7 %: validation that is not independent of train ...
        >>> ceiling_note(0.9, 0.7)
        ''
    """
    if val is None or test is None or not is_uninformative(val, test):
        return ""
    return f"validation accuracy is {100 * val:.1f} %, test {100 * test:.1f} %: {ADVICE}"
