"""What stands below a table: where its numbers come from and what they cannot say."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from mla_lightning.report.read.block import Block
from mla_lightning.report.read.run import Run
from mla_lightning.report.read.variant import method_label
from mla_lightning.report.tables.significance import binomial_error
from mla_lightning.run_folder import State
from mla_lightning.run_folder.standing import UNKNOWN

SHOWN = 20
#: Hashes of code that are listed; each kind of job has its own.
MOST_CODES = 3


def warnings(blocks: Iterable[Block]) -> tuple[str, ...]:
    """Collect what a reader must not miss.

    Args:
        blocks: The blocks of a table.

    Returns:
        A sentence per block whose epochs were chosen on the test set, and per block that holds
        runs made by other code than today's.
    """
    sentences = []
    for block in blocks:
        if block.is_selected_on_test:
            sentences.append(
                f"{block.name}: the epoch was selected on TEST (protocol=paper), as in much "
                "released code; these numbers are optimistic."
            )
        sentences += stale(block.runs, block.name)
    return tuple(sentences)


def stale(runs: Sequence[Run], name: str = "") -> list[str]:
    """Name the files of the code that changed since runs were made.

    Args:
        runs: Any runs.
        name: What they are of, for the beginning of the sentence.

    Returns:
        One sentence, or none where all were made by the code that is there.
    """
    finished = [run for run in runs if run.is_finished]
    old = [run for run in finished if run.stale and run.stale != UNKNOWN]
    if not old:
        return []
    files = dict.fromkeys(name for run in old for name in run.stale.split(", "))
    begin = f"{name}: " if name else ""
    return [
        f"{begin}{len(old)} of {len(finished)} runs were made by earlier code; changed since: "
        f"{', '.join(files)}. Train again to renew them (the earlier results are kept)."
    ]


def about(block: Block, *, split: str = "test", with_settings: bool = True) -> list[str]:
    """Describe a block: split, selection, seeds, error of the test set, rates, code.

    Args:
        block: The block.
        split: The split that the table shows.
        with_settings: Whether rates, epochs and rules are told, method by method.

    Returns:
        Sentences.
    """
    runs = [run for run in block.runs if run.is_finished]
    if not runs:
        return [f"{block.name}: no finished run."]
    name = block.name
    selected = "selected on TEST" if block.is_selected_on_test else "selected on validation"
    seeds = ", ".join(map(str, block.seeds))
    counted = "seed" if len(block.seeds) == 1 else "seeds"
    sentences = [
        f"{name}: split {block.data_split or 'unnamed'} ({_sizes(runs)}), epoch {selected} "
        f"(protocol={block.protocol}); {len(block.seeds)} {counted} ({seeds}).",
        *_test_error(block, runs, split),
    ]
    if block.common:
        shared = ", ".join(f"{key}={value}" for key, value in sorted(block.common))
        sentences.append(f"{name}: all runs with {shared}.")
    if with_settings:
        sentences += _settings(block)
    if block.superseded:
        codes = ", ".join(sorted({run.code or "unknown" for run in block.superseded}))
        sentences.append(
            f"{name}: {len(block.superseded)} runs of earlier code ({codes}) left out: newer runs "
            "of the same cells count."
        )
    return sentences + _origins(name, runs)


def without_number(runs: Sequence[Run]) -> tuple[str, ...]:
    """List runs that gave no number, each with its reason and how to run it again.

    Args:
        runs: Unfinished runs.

    Returns:
        Sentences; long lists are cut, and say so.
    """
    lines = []
    for run in runs[:SHOWN]:
        what = (
            f"{run.dataset} {run.method_label or method_label(run.method)} seed {run.seed}"
            if run.method
            else run.run
        )
        if run.ablation != "none":
            what += f" {run.ablation}"
        reason = f" ({run.reason})" if run.reason else ""
        retry = f" Retry: {run.retry}" if run.retry and run.state != State.RUNNING else ""
        lines.append(f"No number: {what}: {run.state}{reason}.{retry}")
    if len(runs) > SHOWN:
        lines.append(f"And {len(runs) - SHOWN} more without a number: see mla report runs.")
    return tuple(lines)


def _sizes(runs: Sequence[Run]) -> str:
    sizes = {(run.num_train, run.num_val, run.num_test) for run in runs}
    if len(sizes) > 1:
        return f"DIFFERENT SIZES: {sorted(map(str, sizes))}"
    train, val, test = next(iter(sizes))
    return f"{train} train / {val} val / {test} test"


def _test_error(block: Block, runs: Sequence[Run], split: str) -> list[str]:
    num = runs[0].num_test if split == "test" else runs[0].num_val
    means = [s.mean for v in block.variants if (s := block.summary(v, split=split)).num]
    if not num or not means:
        return []
    best = max(means)
    return [
        f"{block.name}: an accuracy of {best:.0f} % on {num} {split} samples has a binomial "
        f"standard error of {binomial_error(best, num):.1f} points, which the spread over seeds "
        "(one split) does not contain."
    ]


def _settings(block: Block) -> list[str]:
    named = (
        ("learning rate", "lr"),
        ("epochs", "epochs"),
        ("how a single modality is predicted", "unimodal_rule"),
    )
    found = [(what, _by_value(block, attribute)) for what, attribute in named]
    return [f"{block.name}: {what}: {values}." for what, values in found if values]


def _by_value(block: Block, name: str) -> str:
    """Group the methods by a setting: ``0.1 (sum, concat), 0.05 (mla)``; one value stands alone."""
    held = {
        variant: {
            str(value)
            for run in block.cells[variant].values()
            if run.is_finished and (value := getattr(run, name)) not in (None, "")
        }
        for variant in block.variants
    }
    of_method: dict[str, set[str]] = {}
    for variant, values in held.items():
        of_method.setdefault(variant.method, set()).update(values)
    methods: dict[str, dict[str, None]] = {}
    for variant, values in held.items():
        label = variant.method_label if len(of_method[variant.method]) == 1 else variant.label
        for value in sorted(values):
            methods.setdefault(value, {})[label] = None
    if len(methods) == 1:
        return next(iter(methods))
    return ", ".join(f"{value} ({', '.join(labels)})" for value, labels in methods.items())


def _origins(name: str, runs: Sequence[Run]) -> list[str]:
    sentences = []
    same_classes: dict[tuple[object, ...], list[Run]] = {}
    for run in runs:  # runs of the same classes reach the same code
        chosen = tuple(pair for pair in run.overrides if "." not in pair[0] or "@" in pair[0])
        same_classes.setdefault((run.method, chosen), []).append(run)
    for what, groups in (("code", [*same_classes.values()]), ("data", [runs])):
        mixed = [group for group in groups if len({getattr(run, what) for run in group}) > 1]
        counts = Counter(getattr(run, what) or "unknown" for group in mixed for run in group)
        if counts:
            listed = ", ".join(f"{key} ({count} runs)" for key, count in counts.items())
            sentences.append(f"{name}: MIXED {what} versions: {listed}.")
    num_unknown = sum(run.stale == UNKNOWN for run in runs)
    if num_unknown:
        sentences.append(
            f"{name}: {num_unknown} of {len(runs)} runs are of a version that did not record its "
            "code by module, so whether it changed since cannot be said."
        )
    where = _distinct(runs, "device")
    machine = f"; {where}, threads {_distinct(runs, 'threads')}" if where else ""
    versions = _distinct(runs, "versions") or "versions unknown"
    code, data = (_distinct(runs, attribute) or "unknown" for attribute in ("code", "data"))
    if (num_codes := code.count(" / ") + 1) > MOST_CODES:
        code = f"of {num_codes} kinds of jobs (see results.csv)"
    sentences.append(f"{name}: {versions}; code {code}, data {data}{machine}.")
    return sentences


def _distinct(runs: Sequence[Run], name: str) -> str:
    values = dict.fromkeys(str(value) for run in runs if (value := getattr(run, name)))
    return " / ".join(values)
