"""The rules by which a validation split is known to be a poor basis of selection.

Features of networks that were trained on the validation samples, or groups that both splits share,
raise every validation accuracy to the ceiling: epochs and settings are then selected by chance.
"""

from __future__ import annotations

from collections.abc import Sequence

#: Accuracy from which validation is at the ceiling: hardly an error is left to select by.
CEILING = 0.99
#: Difference up to which validation and test are alike, however many samples they have.
DISTANCE = 0.05
#: Standard errors up to which the difference may be one of sampling, and of the selected epoch,
#: which is the best on validation. Of 3,552 runs on four data sets, whose splits are alike, 51
#: differ by more than three and by more than :data:`DISTANCE`, and none by more than four.
NUM_ERRORS = 4.0
#: Ends the sentences about a split on which validation is too high.
ADVICE = (
    "validation that is not independent of train cannot select; check how the split was made, and "
    "what the features were trained on"
)
_ADVICE_BELOW = (
    "the test samples are not like those of validation, which cannot select for them; check how "
    "the split was made"
)


def are_apart(
    val: float | None, test: float | None, num_val: int | None, num_test: int | None
) -> bool:
    """Return whether the accuracies on validation and test differ by more than sampling explains.

    The standard error is that of the z-test for two independent proportions, by the pooled accuracy
    of both splits: it is not zero where one of them has 100 %.

    Args:
        val: Accuracy on validation, as a fraction; None if it is not known.
        test: Accuracy on test, likewise.
        num_val: Number of validation samples, likewise.
        num_test: Number of test samples, likewise.

    Returns:
        Whether the difference is larger than both :data:`DISTANCE` and :data:`NUM_ERRORS` standard
        errors.

    Example:
        >>> are_apart(0.996, 0.747, 500, 1000), are_apart(0.996, 0.947, 500, 1000)
        (True, False)
        >>> are_apart(0.72, 0.62, 163, 489), are_apart(0.72, 0.62, 1630, 4890)
        (False, True)
    """
    if val is None or test is None or not num_val or not num_test:
        return False
    pooled = (val * num_val + test * num_test) / (num_val + num_test)
    error = (pooled * (1 - pooled) * (1 / num_val + 1 / num_test)) ** 0.5
    return abs(val - test) > max(DISTANCE + 1e-9, NUM_ERRORS * error)


def distance_note(
    val: float | None, test: float | None, num_val: int | None, num_test: int | None
) -> str:
    """Return a sentence about validation that is far from test; empty for any other.

    Args:
        val: Accuracy on validation, as a fraction; None if it is not known.
        test: Accuracy on test, likewise.
        num_val: Number of validation samples, likewise.
        num_test: Number of test samples, likewise.

    Example:
        >>> print(distance_note(0.996, 0.747, 500, 1000))
        validation accuracy is 99.6 %, test 74.7 %: validation that is not independent of train ...
        >>> distance_note(0.9, 0.89, 500, 1000)
        ''
    """
    if val is None or test is None or not are_apart(val, test, num_val, num_test):
        return ""
    advice = ADVICE if val > test else _ADVICE_BELOW
    return f"validation accuracy is {100 * val:.1f} %, test {100 * test:.1f} %: {advice}"


def selection_note(
    scores: Sequence[float], settings: str = "trials", *, are_fractions: bool = True
) -> str:
    """Return a sentence about settings among which validation cannot select; else empty.

    Args:
        scores: The validation score of each setting.
        settings: What the settings are, in the plural.
        are_fractions: Whether the scores are fractions; an error in the unit of a target has no
            ceiling.

    Returns:
        A sentence if all scores are equal, or if half of the fractions are at least
        :data:`CEILING`.

    Example:
        >>> selection_note([1.0, 1.0, 1.0])
        'all 3 trials have the same score on validation, 100.0 %, which cannot select among them'
        >>> selection_note([0.995, 0.99, 0.8])
        '2 of 3 trials have at least 99 % on validation, where hardly an error is left to select by'
        >>> selection_note([0.995, 0.97, 0.98]), selection_note([0.7])
        ('', '')
        >>> selection_note([2.5, 2.7], are_fractions=False)
        ''
    """
    num = len(scores)
    if num < 2:
        return ""
    if max(scores) - min(scores) < 1e-9:
        score = f"{100 * scores[0]:.1f} %" if are_fractions else f"{scores[0]:.3g}"
        return (
            f"all {num} {settings} have the same score on validation, {score}, which cannot select "
            "among them"
        )
    num_high = sum(score >= CEILING for score in scores)
    if not are_fractions or 2 * num_high < num:
        return ""
    return (
        f"{num_high} of {num} {settings} have at least {100 * CEILING:g} % on validation, where "
        "hardly an error is left to select by"
    )
