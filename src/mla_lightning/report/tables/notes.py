"""Warnings and notes of tables: split, seeds, settings, provenance and limits of the results."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from mla_lightning.report.read.block import Block
from mla_lightning.report.read.metrics import ACCURACY, MetricDisplay
from mla_lightning.report.read.run import MULTI, Run
from mla_lightning.report.read.significance import SIGNIFICANT, binomial_error, compare, holm
from mla_lightning.report.read.variant import MAJORITY, REFERENCE, REFERENCES, method_label
from mla_lightning.run_folder import State
from mla_lightning.run_folder.ceiling import are_apart, distance_note, selection_note
from mla_lightning.run_folder.completion import UNKNOWN

#: Largest number of runs without a result that are listed.
MAX_LISTED = 20
#: Largest number of code hashes that are listed; each kind of job has its own.
MAX_CODES = 3
#: Largest number of changed files that are named.
MAX_FILES = 3

#: Points by which a network is clearly below logistic regression, whatever the spread.
CLEARLY_BELOW = 2.0
#: The same for values in the unit of a target, as a fraction of the reference's value.
CLEARLY_BELOW_FRACTION = 0.05
#: Words by which a report is known to warn of runs of other code.
EARLIER_CODE = "were made by earlier code"


def warnings(table_blocks: Iterable[Block]) -> tuple[str, ...]:
    """Return the warnings of a table.

    Args:
        table_blocks: The blocks of the table.

    Returns:
        A sentence per block whose epochs were selected on the test split, and per block with runs
        of earlier code.
    """
    sentences = []
    for block in table_blocks:
        if block.is_selected_on_test:
            sentences.append(
                f"{block.name}: the epoch was selected on TEST (protocol=paper), as in much "
                "released code; these results are optimistic."
            )
        sentences += stale_warnings(block.runs, block.name)
    return tuple(sentences)


def stale_warnings(runs: Sequence[Run], name: str = "") -> list[str]:
    """Return a warning that names the files of the code that changed since runs were made.

    Args:
        runs: Any runs.
        name: Name of the block, for the beginning of the sentence.

    Returns:
        One sentence, or none where all runs were made by the present code.
    """
    finished = [run for run in runs if run.is_finished]
    outdated = [run for run in finished if run.stale and run.stale != UNKNOWN]
    if not outdated:
        return []
    files = [*dict.fromkeys(file for run in outdated for file in run.stale.split(", "))]
    more = f" and {len(files) - MAX_FILES} more files" if len(files) > MAX_FILES else ""
    prefix = f"{name}: " if name else ""
    return [
        f"{prefix}{len(outdated)} of {len(finished)} runs {EARLIER_CODE}; changed "
        f"since: {', '.join(files[:MAX_FILES])}{more}. Train again to renew them (the earlier "
        "results are kept)."
    ]


def block_notes(block: Block, *, split: str = "test", with_settings: bool = True) -> list[str]:
    """Return the notes on a block: split, selection, seeds, standard error, settings, code.

    Args:
        block: The block.
        split: The split that the table shows.
        with_settings: Whether learning rates, epochs and rules are listed by method.

    Returns:
        Sentences.
    """
    runs = [run for run in block.runs if run.is_finished]
    if not runs:
        return [f"{block.name}: no finished run."]
    name = block.name
    selected = "selected on TEST" if block.is_selected_on_test else "selected on validation"
    metrics = dict.fromkeys(run.select_by or block.metric.name for run in runs)
    if [*metrics] != [block.metric.name]:
        selected += f" by {' or '.join(metrics).replace('_', ' ')}"
    seeds = ", ".join(map(str, block.seeds))
    unit = "seed" if len(block.seeds) == 1 else "seeds"
    sentences = [
        f"{name}: split {block.data_split or 'unnamed'} ({_sizes(runs)}), epoch {selected} "
        f"(protocol={block.protocol}); {len(block.seeds)} {unit} ({seeds}).",
        *_standard_error(block, runs, split),
        *majority_notes(block, split),
        *(distance_notes(block) if split == "test" else ()),  # tuning does not see the test split
    ]
    if block.common:
        shared = ", ".join(f"{key}={value}" for key, value in sorted(block.common))
        sentences.append(f"{name}: all runs with {shared}.")
    if with_settings:
        sentences += _settings(block)
    if block.superseded:
        codes = ", ".join(sorted({run.code or "unknown" for run in block.superseded}))
        sentences.append(
            f"{name}: {len(block.superseded)} runs of earlier code ({codes}) are not shown: newer "
            "runs of the same methods, settings and seeds replace them."
        )
    return sentences + _provenance(name, runs)


def distance_notes(block: Block) -> list[str]:
    """Return a note if validation, by which epochs were selected, says nothing about test.

    Args:
        block: The block.

    Returns:
        One sentence or none: for most methods, the mean accuracies over seeds on both splits are
        farther apart than :func:`mla_lightning.run_folder.ceiling.are_apart` allows. Runs with
        missing modalities are left out, because a split may have all of them. Where no run
        evaluated test, as in a search, a sentence per method whose settings validation cannot
        select; see :func:`mla_lightning.run_folder.ceiling.selection_note`.
    """
    if block.is_selected_on_test or block.metric.name != ACCURACY:  # the test is for fractions
        return []
    if not any("test" in run.scores for run in block.runs):
        return _selection_notes(block)
    pairs = []
    for variant in block.variants:
        runs = [run for run in block.runs_by_variant[variant].values() if run.is_finished]
        val, test = (block.summary(variant, split=split) for split in ("val", "test"))
        has_missing = any(run.missing_percent is not None for run in runs)
        if variant.method == MAJORITY or has_missing or not val.num or not test.num:
            continue
        pairs.append((val.mean / 100, test.mean / 100, runs[0].num_val, runs[0].num_test))
    apart = [pair for pair in pairs if are_apart(*pair)]
    if 2 * len(apart) <= len(pairs):
        return []
    largest = max(apart, key=lambda pair: abs(pair[0] - pair[1]))
    number = f"{len(apart)} of {len(pairs)} methods" if len(pairs) > 1 else "1 method"
    return [f"{block.name}: {number}: {distance_note(*largest)} (the largest distance is given)."]


def _selection_notes(block: Block) -> list[str]:
    """Return a sentence per method among whose settings validation cannot select."""
    means: dict[str, list[float]] = {}
    for variant in block.variants:
        summary = block.summary(variant, split="val")
        if summary.num:
            means.setdefault(variant.method_label, []).append(summary.mean / 100)
    texts = [(label, selection_note(values, "settings")) for label, values in means.items()]
    return [f"{block.name}, {label}: {text}." for label, text in texts if text]


def majority_notes(block: Block, split: str) -> list[str]:
    """Return what predicting the most frequent class alone would get, if classes are imbalanced.

    Args:
        block: The block.
        split: The split that the table shows.

    Returns:
        One sentence, or none: the classes are balanced, the runs did not record it, or the table
        has the runs of ``majority`` themselves.
    """
    if any(variant.method == MAJORITY for variant in block.variants):
        return []
    split = split if any(split in run.scores for run in block.runs) else "val"
    scores = [run.scores.get(split, {}).get(MULTI, {}) for run in block.runs]
    values = sorted({s["majority_percent"] for s in scores if "majority_percent" in s})
    if not values:
        return []
    text = " to ".join(f"{value:.1f}" for value in dict.fromkeys((values[0], values[-1])))
    return [
        f"{block.name}: the classes are imbalanced: predicting the most frequent class of train "
        f"for every sample has an accuracy of {text} % on {split}. Compare accuracies with that "
        "(method=majority adds it to the table), or use macro F1."
    ]


def reference_notes(block: Block) -> list[str]:
    """Return notes if networks are clearly worse than a reference without a network.

    Args:
        block: The block.

    Returns:
        A sentence on networks of single modalities that are worse than logistic (ridge)
        regression, and one on methods that are not better than a constant prediction. Clearly
        worse: by more than :data:`CLEARLY_BELOW` points (:data:`CLEARLY_BELOW_FRACTION` of a value
        in the target's unit), or significantly in a paired t-test over the common seeds, with Holm
        correction over the modalities.
    """
    return [*_linear_notes(block), *_constant_notes(block)]


def _linear_notes(block: Block) -> list[str]:
    network = block.find(REFERENCE)
    linear = block.find("logistic", compared_with=network)
    if network is None or linear is None:
        return []
    metric = block.metric
    comparisons = {
        m: compare(*metric.better_first(block.values(network, m), block.values(linear, m)))
        for m in block.modalities
    }
    corrected = holm([comparison.p for comparison in comparisons.values()])
    texts = []
    for (modality, comparison), p in zip(comparisons.items(), corrected, strict=True):
        mean = comparison.mean
        if mean is None or mean >= 0:
            continue
        is_significant = p is not None and p < SIGNIFICANT
        limit = CLEARLY_BELOW
        if metric.in_target_unit:
            limit = CLEARLY_BELOW_FRACTION * block.summary(linear, modality).mean
        if mean < -limit or is_significant:
            p_text = "no test" if p is None else f"corrected p = {p:.2g}"
            unit = " points" if metric.percent else ""
            texts.append(f"{modality} by {metric.text(-mean)}{unit} ({p_text})")
    if not texts:
        return []
    return [
        f"{block.name}: the networks trained alone ({network.label}) {_are_worse(metric)} on test "
        f"than {linear.label} on the same inputs: {', '.join(texts)}; these encoders are not "
        "trained well enough to be worth it (tune the learning rate and the epochs on validation)."
    ]


def _are_worse(metric: MetricDisplay) -> str:
    if metric.name == ACCURACY:
        return "are less accurate"
    return f"have a {'larger' if metric.lower_is_better else 'lower'} {metric.label}"


def _constant_notes(block: Block) -> list[str]:
    constant = block.find("majority")
    if constant is None or not (bound := block.summary(constant)).num:
        return []
    labels = [
        variant.label
        for variant in block.variants
        if variant.method not in REFERENCES
        and (summary := block.summary(variant)).num
        and block.metric.sign * (summary.mean - bound.mean) <= 0
    ]
    if not labels:
        return []
    return [
        f"{block.name}: by test {block.metric.label} (multi), {', '.join(labels)} "
        f"{'is' if len(labels) == 1 else 'are'} not better than {constant.label}, which does not "
        "use the inputs."
    ]


def missing_result_notes(runs: Sequence[Run]) -> tuple[str, ...]:
    """Return a note per run without a result: its state, the reason and the retry command.

    Args:
        runs: Unfinished runs.

    Returns:
        Sentences, for at most :data:`MAX_LISTED` runs; the last one counts the others.

    Example:
        >>> missing_result_notes([
        ...     Run(run="a", where="", state=State.FAILED, reason="diverged", dataset="openmoji",
        ...         method="mla", seed=0, retry="mla train seed=0")
        ... ])
        ('No result: openmoji MLA seed 0: failed (diverged). Retry: mla train seed=0',)
    """
    lines = []
    for run in runs[:MAX_LISTED]:
        name = run.run
        if run.method:
            label = run.method_label or method_label(run.method, run.task)
            name = f"{run.dataset} {label} seed {run.seed}"
        if run.ablation != "none":
            name += f" {run.ablation}"
        reason = f" ({run.reason})" if run.reason else ""
        is_ended = run.state not in (State.RUNNING, State.QUEUED)
        retry = f" Retry: {run.retry}" if run.retry and is_ended else ""
        lines.append(f"No result: {name}: {run.state}{reason}.{retry}")
    if len(runs) > MAX_LISTED:
        lines.append(f"{len(runs) - MAX_LISTED} more runs have no result: see mla report runs.")
    return tuple(lines)


def _sizes(runs: Sequence[Run]) -> str:
    sizes = {(run.num_val, run.num_test) for run in runs}
    if len(sizes) > 1:
        everything = {(run.num_train, run.num_val, run.num_test) for run in runs}
        return f"DIFFERENT SIZES: {sorted(map(str, everything))}"
    methods: dict[int, set[str]] = {}  # by the number of samples that they are trained on
    for run in runs:
        label = run.method_label or method_label(run.method, run.task)
        methods.setdefault(run.num_train or 0, set()).add(label)
    (most, _), *others = sorted(methods.items(), reverse=True)
    fewer = "; ".join(f"{num} with {', '.join(sorted(labels))}" for num, labels in others)
    marked = f" (DIFFERENT SIZES, as where a part is held out: {fewer})" if fewer else ""
    val, test = next(iter(sizes))
    return f"{most} train{marked} / {val} val / {test} test"


def _standard_error(block: Block, runs: Sequence[Run], split: str) -> list[str]:
    num = runs[0].num_test if split == "test" else runs[0].num_val
    means = [s.mean for v in block.variants if (s := block.summary(v, split=split)).num]
    if not num or not means or block.metric.name != ACCURACY:
        return []  # only an accuracy is binomial
    best = max(means)
    return [
        f"{block.name}: an accuracy of {best:.0f} % on {num} {split} samples has a binomial "
        f"standard error of {binomial_error(best, num):.1f} points, which the standard deviation "
        "over seeds (one split) does not include."
    ]


def _settings(block: Block) -> list[str]:
    settings = (
        ("learning rate", "lr"),
        ("epochs", "epochs"),
        ("prediction from a single modality", "unimodal_rule"),
    )
    texts = [(name, _by_value(block, field)) for name, field in settings]
    return [f"{block.name}: {name}: {values}." for name, values in texts if values]


def _by_value(block: Block, field: str) -> str:
    """List the methods by value, ``0.1 (Sum, Concat), 0.05 (MLA)``, or the only value."""
    values_of = {
        variant: {
            str(value)
            for run in block.runs_by_variant[variant].values()
            if run.is_finished and (value := getattr(run, field)) not in (None, "")
        }
        for variant in block.variants
    }
    by_method: dict[str, set[str]] = {}
    for variant, values in values_of.items():
        by_method.setdefault(variant.method, set()).update(values)
    labels_of: dict[str, dict[str, None]] = {}
    for variant, values in values_of.items():
        has_one_value = len(by_method[variant.method]) == 1
        label = variant.method_label if has_one_value else variant.label
        for value in sorted(values):
            labels_of.setdefault(value, {})[label] = None
    if len(labels_of) == 1:
        return next(iter(labels_of))
    return ", ".join(f"{value} ({', '.join(labels)})" for value, labels in labels_of.items())


def _provenance(name: str, runs: Sequence[Run]) -> list[str]:
    sentences = []
    same_classes: dict[tuple[object, ...], list[Run]] = {}
    for run in runs:  # runs that use the same classes have the same code
        classes = tuple(pair for pair in run.overrides if "." not in pair[0] or "@" in pair[0])
        same_classes.setdefault((run.method, classes), []).append(run)
    for field, groups in (("code", [*same_classes.values()]), ("data", [runs])):
        mixed = [group for group in groups if len({getattr(run, field) for run in group}) > 1]
        counts = Counter(getattr(run, field) or "unknown" for group in mixed for run in group)
        if counts:
            versions = ", ".join(f"{key} ({count} runs)" for key, count in counts.items())
            sentences.append(f"{name}: MIXED {field} versions: {versions}.")
    num_unknown = sum(run.stale == UNKNOWN for run in runs)
    if num_unknown:
        sentences.append(
            f"{name}: {num_unknown} of {len(runs)} runs were made by a version that did not record "
            "its code by module; whether their code has changed since is unknown."
        )
    device = _distinct(runs, "device")
    machine = f"; {device}, threads {_distinct(runs, 'threads')}" if device else ""
    versions = _distinct(runs, "versions") or "versions unknown"
    code, data = (_distinct(runs, field) or "unknown" for field in ("code", "data"))
    if (num_codes := code.count(" / ") + 1) > MAX_CODES:
        code = f"{num_codes} hashes (see results.csv)"
    sentences.append(f"{name}: {versions}; code {code}, data {data}{machine}.")
    return sentences


def _distinct(runs: Sequence[Run], field: str) -> str:
    values = dict.fromkeys(str(value) for run in runs if (value := getattr(run, field)))
    return " / ".join(values)
