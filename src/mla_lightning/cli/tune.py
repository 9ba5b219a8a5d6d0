"""The verb ``mla tune``: search of settings on validation, the same budget for every method."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mla_lightning.cli.jobs import check_jobs
from mla_lightning.cli.words import convert
from mla_lightning.errors import ConfigError, Interrupted, Preempted, check_number, near
from mla_lightning.paths import command, unquote_value
from mla_lightning.run_folder.tasks import selection_of

if TYPE_CHECKING:
    from mla_lightning.config import Job
    from mla_lightning.report.read.metrics import MetricDisplay
    from mla_lightning.tune.search import MethodSearch
    from mla_lightning.tune.space import Space

TUNE = """\
options, beside those of mla train:
  method=A,B,...   methods to tune, each with the same number of trials
  trials=30        trials of each method; the first has the values of the recipe
  search=default   ranges, of conf/search/; `mla list searches` shows them
  batch=4          trials of a method that run before the sampler learns from them
  seeds=100        seeds of each trial, its score is their mean; use none that a table reports
  finalists=0      number of best trials that are trained with further seeds, and chosen by all
  final_seeds=101,102   those seeds
  sampler_seed=0   seed of the sampler
  pruner=none      median: trials below the median of earlier ones end early

examples:
  mla tune data=store data.path=data/my method=concat,mla trials=30
  mla tune data=mfeat method=mla trials=10 search=rate seeds=100,101 launcher.jobs=2

The epoch and the values are selected on validation; the test split is not read. If the command is
run again, finished runs are not repeated; with more trials the search goes on.
exit codes: as of mla train
"""
#: Options of this verb -> type and default.
OPTIONS: dict[str, tuple[type, Any]] = {
    "trials": (int, 30),
    "batch": (int, 4),
    "sampler_seed": (int, 0),
    "pruner": (str, "none"),
    "search": (str, "default"),
    "seeds": (str, "100"),
    "finalists": (int, 0),
    "final_seeds": (str, "101,102"),
}
#: The experiment of every run: without the test split and without probes.
EXPERIMENT = "experiment=tune"
MAX_TRIALS = 10_000
#: Settings that a search cannot have, and why.
REFUSED = {
    "evaluate_test": "a search never reads the test split",
    "experiment": "its runs have conf/experiment/tune.yaml; write the settings themselves",
    "protocol": "a search selects on validation",
    "run_dir": "a search has many runs; use name or paths.output_dir instead",
    "seed": "write seeds=...",
}


def tune(options: argparse.Namespace) -> int:
    """Search, write the chosen values, and print the command that trains with them.

    Args:
        options: The parsed command line.

    Returns:
        The exit code: 0 if the search is complete and each method has a finished trial.
    """
    _check_optuna()
    from mla_lightning import config
    from mla_lightning.launchers.sweep import run_sweep
    from mla_lightning.tune.outcome import check_recipe
    from mla_lightning.tune.search import MethodSearch, run_finals, run_search
    from mla_lightning.tune.space import read_space

    own, words = _split(options.overrides)
    values = {key: convert(own[key], kind, key) for key, (kind, _) in OPTIONS.items() if key in own}
    values = {key: default for key, (_, default) in OPTIONS.items()} | values
    check_number("trials", values["trials"], 1, MAX_TRIALS)
    if "batch" not in own:
        values["batch"] = min(values["batch"], values["trials"])
    check_number("batch", values["batch"], 1, values["trials"])
    seeds = _numbers(values["seeds"], "seeds")
    final_seeds = _final_seeds(values, own, seeds)
    methods = _methods(words)
    words = [word for word in words if not word.startswith("method=")]
    flags: dict[str, Any] = {"config_dir": options.config_dir, "allowed": options.allow_target}

    def jobs_of(method: str, drawn: Mapping[str, Any], seeds: Sequence[int] = seeds) -> list[Job]:
        pairs = [f"{key}={config.overrides.format_override_value(v)}" for key, v in drawn.items()]
        return [
            job
            for seed in seeds
            for job in config.compose_jobs(
                [EXPERIMENT, *words, f"method={method}", f"seed={seed}", *pairs], **flags
            )
        ]

    spaces = {m: read_space(values["search"], m, options.config_dir) for m in methods}
    first_jobs = [jobs_of(method, {})[0] for method in methods]
    _check_keys(spaces, first_jobs)
    prunes = _check_pruner(values, seeds, first_jobs)
    conf = options.config_dir or first_jobs[0].run_dir.parent / "conf"
    check_recipe(conf)
    launcher = config.instantiate(first_jobs[0].config.launcher)
    if not getattr(launcher, "wait", True):
        raise ConfigError("launcher.wait=false: a search needs the scores of its trials")
    check_jobs(first_jobs, launcher)
    searches = [
        MethodSearch(
            method,
            spaces[method],
            {key: _value_at(job.config.tree, key) for key in spaces[method]},
            values["sampler_seed"],
            selection_of(job.task, job.config.select_by).sign,
        )
        for method, job in zip(methods, first_jobs, strict=True)
    ]
    for note in dict.fromkeys(note for search in searches for note in search.notes):
        print(f"note: {note}", file=sys.stderr)
    launcher.check(first_jobs)
    # Ray takes longer to start than a round of small trials to run
    is_ready = getattr(launcher, "started", contextlib.nullcontext)
    with is_ready():
        code = run_search(
            searches,
            values["trials"],
            values["batch"],
            jobs_of,
            lambda jobs: run_sweep(jobs, launcher) if jobs else 0,
            prunes=prunes,
        )
        if final_seeds and not code:
            code = run_finals(
                searches,
                values["finalists"],
                lambda method, drawn: jobs_of(method, drawn, final_seeds),
                lambda jobs: run_sweep(jobs, launcher),
            )
    if code:
        stopped = Interrupted if code == Interrupted.exit_code else Preempted
        raise stopped("The search was stopped; the same command continues it.")
    return _conclude(searches, first_jobs, words, options, conf)


def _conclude(
    searches: Sequence[MethodSearch],
    first_jobs: Sequence[Job],
    words: Sequence[str],
    options: argparse.Namespace,
    conf: Path,
) -> int:
    """Write and print the chosen values."""
    from mla_lightning.config.search import options as options_of
    from mla_lightning.config.search import search_path
    from mla_lightning.report.read.metrics import selection_metric
    from mla_lightning.run_folder.tasks import primary_name
    from mla_lightning.tune.outcome import RECIPE, write_figure, write_recipe, write_trials

    folder = first_jobs[0].run_dir.parent
    tree = first_jobs[0].config.tree
    recipe = tree["choices"]["recipe"]
    said = command("mla", "tune", *options.overrides)
    task = first_jobs[0].task
    select_by = first_jobs[0].config.select_by or primary_name(task)
    metric = selection_metric(task, select_by)
    write_trials(folder / "search" / "trials.csv", searches, select_by, metric)
    labels = [job.method_label for job in first_jobs]
    write_figure(folder / "search" / "search", searches, labels, metric)
    path = write_recipe(conf, searches, recipe, said)
    for search, label in zip(searches, labels, strict=True):
        print(_line(search, label, select_by, metric))
    for note in _notes(searches, labels, metric):
        print(f"note: {note}", file=sys.stderr)
    print(f"\nTrials: {folder / 'search' / 'trials.csv'}; figure: search.png beside it")
    print(f"Chosen values: {path}")
    chosen = [search.method for search in searches if search.best is not None]
    kept = [word for word in words if not word.startswith(("name=", "recipe=", "launcher"))]
    experiment = f"table1/{tree['choices']['data']}"
    if experiment in options_of(search_path(options.config_dir), "experiment"):
        kept = [f"experiment={experiment}", *(w for w in kept if not w.startswith("data="))]
    words = [*kept, f"recipe={RECIPE}", f"method={','.join(chosen)}", "seed=range(10)"]
    print(f"Train with them: {command('mla', 'train', '-m', '--config-dir', conf, *words)}")
    return 0 if len(chosen) == len(searches) else 1


def _line(search: MethodSearch, label: str, select_by: str, metric: MetricDisplay) -> str:
    pruned = [trial for trial in search.trials if trial.pruned_after is not None]
    failed = [t for t in search.trials if t.score is None and t.pruned_after is None]
    if search.best is None:
        return f"{label}: all trials failed. The first: {failed[0].reason}"
    best = search.best
    values = ", ".join(f"{key}={value}" for key, value in best.values.items())
    edges = [key for key, value in best.values.items() if search.space[key].is_at_edge(value)]
    remarks = [f"{len(failed)} of {len(search.trials)} trials failed"] * bool(failed)
    if pruned:
        planned = sum(
            job.config.trainer.num_epochs for trial in search.trials for job in trial.jobs
        )
        epochs = sum(trial.epochs for trial in search.trials)
        remarks.append(
            f"{len(pruned)} of {len(search.trials)} trials pruned, {epochs} of {planned} epochs "
            "trained"
        )
    remarks += [f"{' and '.join(edges)} at the edge of the range"] * bool(edges)
    remark = f" ({'; '.join(remarks)})" if remarks else ""
    score_of_all = best.score if best.final_score is None else best.final_score
    value = metric.scale * (score_of_all or 0)
    score = f"{metric.at_scale(value).text(value)} % {select_by.replace('_', ' ')}"
    if not metric.percent:
        score = f"{metric.label} {metric.at_scale(value).text(value)}"
    return f"{label}: {score} on validation with {values}{remark}"


def _notes(
    searches: Sequence[MethodSearch], labels: Sequence[str], metric: MetricDisplay
) -> list[str]:
    """Return what the scores of a search do not say themselves: a ceiling, imbalanced classes."""
    from mla_lightning.run_folder.ceiling import selection_note
    from mla_lightning.run_folder.majority import find_majority
    from mla_lightning.run_folder.reader import RunFiles

    sentences = []
    for search, label in zip(searches, labels, strict=True):
        scores = [trial.score for trial in search.trials if trial.score is not None]
        if text := selection_note(scores, are_fractions=metric.percent):
            sentences.append(f"{label}: {text}")
    best = next((search.best for search in searches if search.best is not None), None)
    if best is not None:
        data = RunFiles(best.jobs[0].run_dir).provenance.get("data") or {}
        majority = find_majority(data)
        sentences += [majority.note("val")] if majority is not None else []
    return [text for text in sentences if text]


# ---------------------------------------------------------------------- the words


def _split(overrides: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """Split words into the options of this verb and the overrides."""
    own: dict[str, str] = {}
    words = []
    for word in overrides:
        key, equals, text = word.partition("=")
        if key in OPTIONS and equals:
            if key in own:
                raise ConfigError(f"{key} is given twice")
            own[key] = unquote_value(text)
        elif key in REFUSED:
            raise ConfigError(f"mla tune does not take {word}: {REFUSED[key]}")
        else:
            words.append(word)
    return own, words


def _methods(words: Sequence[str]) -> list[str]:
    given = [word.partition("=")[2] for word in words if word.startswith("method=")]
    methods = [name for text in given for name in text.split(",") if name]
    if not methods:
        raise ConfigError("mla tune needs method=...: the methods to tune, such as method=sum,mla")
    if twice := sorted({name for name in methods if methods.count(name) > 1}):
        raise ConfigError(f"method={twice[0]} is given twice")
    return methods


def _final_seeds(
    values: Mapping[str, Any], own: Mapping[str, str], seeds: Sequence[int]
) -> list[int]:
    """Return the further seeds of the best trials; empty without such trials."""
    check_number("finalists", values["finalists"], 0, values["trials"])
    if not values["finalists"]:
        if "final_seeds" in own:
            raise ConfigError("final_seeds=... has no effect without finalists=NUMBER")
        return []
    further = _numbers(values["final_seeds"], "final_seeds")
    if twice := sorted({*seeds} & {*further}):
        raise ConfigError(f"final_seeds has {twice[0]}, which is one of seeds={values['seeds']}")
    return further


def _numbers(text: str, key: str) -> list[int]:
    numbers = [convert(part, int, key) for part in text.split(",")]
    if len(set(numbers)) < len(numbers):
        raise ConfigError(f"{key}={text} has a number twice")
    return numbers


def _check_keys(spaces: Mapping[str, Space], jobs: Sequence[Job]) -> None:
    """Check that every searched key is a setting that changes something."""
    from mla_lightning.config.schedule import takes_steps

    for (method, space), job in zip(spaces.items(), jobs, strict=True):
        if not takes_steps(job.config.tree):
            raise ConfigError(
                f"method={method} takes no optimisation steps, so no trial would differ. Leave it "
                "out of the search; it can be trained beside the others"
            )
        for key in space:
            if _value_at(job.config.tree, key) is None:
                raise ConfigError(
                    f"The search has the key {key}, which method={method} with recipe="
                    f"{job.config.tree['choices']['recipe']} has not. Leave it out of the space"
                )


def _check_pruner(values: Mapping[str, Any], seeds: Sequence[int], jobs: Sequence[Job]) -> bool:
    """Check the option ``pruner``; return whether trials are pruned."""
    from mla_lightning.run.preflight import has_preparatory_epochs
    from mla_lightning.tune.pruning import NUM_STARTUP, PRUNERS

    pruner, batch = values["pruner"], values["batch"]
    if pruner not in PRUNERS:
        raise ConfigError(f"Unknown pruner={pruner}.{near(pruner, PRUNERS)} Known: none, median.")
    if pruner == "none":
        return False
    if len(seeds) > 1:
        raise ConfigError(
            f"pruner={pruner} compares trials of one seed, and seeds={values['seeds']} has "
            f"{len(seeds)}. Write one, or pruner=none."
        )
    first = -(-NUM_STARTUP // batch) * batch
    if values["trials"] <= first:
        raise ConfigError(
            f"pruner={pruner} has no effect on the first {first} trials (rounds of batch={batch}, "
            f"until {NUM_STARTUP} have finished). Write more trials, or pruner=none."
        )
    for job in jobs:
        method, epochs = job.config.choices["method"], job.config.trainer.num_epochs
        if epochs < 2:
            raise ConfigError(f"pruner={pruner} has no effect: trainer.max_epochs={epochs}")
        if has_preparatory_epochs(job.config):
            raise ConfigError(
                f"pruner={pruner} cannot judge method={method}: its first epochs prepare, and "
                "their scores say nothing about the result. Tune it with pruner=none."
            )
    return True


def _value_at(tree: Mapping[str, Any], key: str) -> Any:
    node: Any = tree
    for name in key.split("."):
        node = node.get(name) if isinstance(node, Mapping) else None
    return node


def _check_optuna() -> None:
    import importlib.util

    if importlib.util.find_spec("optuna") is None:
        raise ConfigError("mla tune needs Optuna: pip install 'mla_lightning[tune]'")
