"""The search: rounds of trials over all methods, each trial one or more runs of a sweep."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from mla_lightning.errors import RunError
from mla_lightning.randomness import derive_seed
from mla_lightning.report.read.run import MULTI
from mla_lightning.report.read.variant import REFERENCE
from mla_lightning.run_folder import State, state_of
from mla_lightning.run_folder.floor import floor_reason, stop_epoch
from mla_lightning.run_folder.reader import RunFiles
from mla_lightning.run_folder.tasks import selection_of
from mla_lightning.tune.pruning import best_so_far, is_pruned, median_floor
from mla_lightning.tune.space import Space

if TYPE_CHECKING:
    from mla_lightning.config import Job

#: Trials drawn at random before the sampler learns from results. It does not depend on the number
#: of trials, so that a search with more trials begins with those of one with fewer.
NUM_RANDOM = 10


@dataclass
class Trial:
    """One try of a search.

    Attributes:
        values: Dotted key -> value.
        jobs: Its jobs, one per seed.
        score: Mean validation score of its runs by the metric that selects epochs, such as an
            accuracy from 0 to 1 or an error; None if one has no result.
        reason: Why there is no score.
        floor: The lowest score with which it goes on after each epoch; empty without pruning.
        curve: Its best score so far after each epoch; empty without pruning.
        epochs: Number of epochs that it was trained; 0 without pruning.
        pruned_after: Number of epochs after which it was ended; None if it was not.
        final_jobs: Its jobs with further seeds, if it is one of the best.
        final_score: Mean score of all its jobs; None if it is not one of the best.
    """

    values: dict[str, Any]
    jobs: list[Job] = field(default_factory=list)
    score: float | None = None
    reason: str = ""
    floor: tuple[float, ...] = ()
    curve: Sequence[float] = ()
    epochs: int = 0
    pruned_after: int | None = None
    final_jobs: list[Job] = field(default_factory=list)
    final_score: float | None = None


class MethodSearch:
    """The search of one method: draws values, learns from their scores.

    The first trial has the values of the recipe, if they are within the ranges. The sequence of
    trials depends on the seed and on the scores alone, so a search that was stopped draws the
    same trials again, and their finished runs are not repeated.

    Example:
        >>> from mla_lightning.tune.space import Range
        >>> search = MethodSearch("mla", {"lr": Range(0.01, 1.0, log=True)}, {"lr": 0.1}, seed=0)
        >>> [trial.values["lr"] for trial in search.ask(1)]
        [0.1]
    """

    def __init__(
        self, method: str, space: Space, start: Mapping[str, Any], seed: int, sign: int = 1
    ) -> None:
        """Create the sampler, a tree-structured Parzen estimator (Bergstra et al. 2011; Optuna's).

        Args:
            method: The method.
            space: Its ranges.
            start: Values of the first trial, such as those of the recipe.
            seed: Seed of the sampler.
            sign: 1 if larger scores are better, -1 if smaller ones are.
        """
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.method, self.space, self.trials = method, space, list[Trial]()
        self.sign = sign
        self._distributions: dict[str, optuna.distributions.BaseDistribution] = {
            key: optuna.distributions.CategoricalDistribution(r.values)
            if r.values
            else optuna.distributions.FloatDistribution(r.low, r.high, log=r.log)
            for key, r in space.items()
        }
        sampler = optuna.samplers.TPESampler(
            seed=derive_seed(seed, "tune", method) % 2**32,
            n_startup_trials=NUM_RANDOM,
            constant_liar=True,
        )
        self._study = optuna.create_study(direction="maximize", sampler=sampler)
        outside = [
            f"{key}={start.get(key)}" for key, r in space.items() if not r.holds(start.get(key))
        ]
        #: What the user should know about the search.
        self.notes = [
            f"{value} of the recipe is not within the range that is searched for {method}, so no "
            "trial has the recipe's own values"
            for value in outside
        ]
        if not outside:
            self._study.enqueue_trial({key: start[key] for key in space})
        self._asked: list[Any] = []

    def ask(self, number: int) -> list[Trial]:
        """Draw trials; their scores are to be told before the next are drawn."""
        self._asked = [self._study.ask(self._distributions) for _ in range(number)]
        drawn = [
            Trial({key: self.space[key].rounded(value) for key, value in asked.params.items()})
            for asked in self._asked
        ]
        self.trials += drawn
        return drawn

    def tell(self) -> None:
        """Learn from the scores of the trials that were drawn last."""
        import optuna

        for asked, trial in zip(self._asked, self.trials[-len(self._asked) :], strict=True):
            if trial.pruned_after is not None:
                asked.report(trial.curve[trial.pruned_after - 1], trial.pruned_after)
                self._study.tell(asked, state=optuna.trial.TrialState.PRUNED)
            elif trial.score is None:
                self._study.tell(asked, state=optuna.trial.TrialState.FAIL)
            else:
                self._study.tell(asked, self.sign * trial.score)

    def leading(self, number: int) -> list[Trial]:
        """Return the trials with the best scores, the best first; the first of equal ones."""
        finished = [trial for trial in self.trials if trial.score is not None]
        return sorted(finished, key=lambda trial: -self.sign * (trial.score or 0.0))[:number]

    @property
    def best(self) -> Trial | None:
        """The trial with the best score, the first of equal ones; None if all failed.

        If the best trials were trained with further seeds, the best mean over all their seeds.
        """
        finalists = [trial for trial in self.trials if trial.final_score is not None]
        if finalists:
            return max(finalists, key=lambda trial: self.sign * (trial.final_score or 0.0))
        return next(iter(self.leading(1)), None)


def run_search(
    searches: Sequence[MethodSearch],
    num_trials: int,
    batch: int,
    jobs_of: Callable[[str, Mapping[str, Any]], list[Job]],
    run: Callable[[list[Job]], int],
    *,
    prunes: bool = False,
) -> int:
    """Run all trials, in rounds over all methods.

    Args:
        searches: The methods' searches.
        num_trials: Number of trials of each method.
        batch: Trials of a method in one round; those of a round do not learn from each other.
        jobs_of: Composes the jobs of a method and values.
        run: Runs jobs and returns an exit code.
        prunes: Whether trials end early that are below the median of those of earlier rounds; each
            then has one job. See :mod:`mla_lightning.tune.pruning`.

    Returns:
        0 if the search is complete, also with trials that failed; 130 or 143 if it was stopped.

    Raises:
        RunError: If runs of a round have not ended, such as those of another process.
    """
    for start in range(0, num_trials, batch):
        number = min(batch, num_trials - start)
        drawn: list[tuple[MethodSearch, Trial]] = []
        for search in searches:
            curves = [trial.curve for trial in search.trials if trial.score is not None]
            for trial in search.ask(number):
                trial.jobs = jobs_of(search.method, trial.values)
                if prunes:
                    (job,) = trial.jobs
                    trial.floor = median_floor(curves, job.config.trainer.num_epochs)
                    trial.jobs = [replace(job, floor=trial.floor)]
                drawn.append((search, trial))
        print(f"Trials {start + 1} to {start + number} of {num_trials} of each method.", flush=True)
        code = run([job for _, trial in drawn for job in trial.jobs if not _has_ended(trial, job)])
        if code in (130, 143):
            return code
        _check_ended([job for _, trial in drawn for job in trial.jobs])
        for _, trial in drawn:
            conclude(trial, prunes=prunes)
        for search in searches:
            search.tell()
    return 0


def run_finals(
    searches: Sequence[MethodSearch],
    number: int,
    jobs_of: Callable[[str, Mapping[str, Any]], list[Job]],
    run: Callable[[list[Job]], int],
) -> int:
    """Train the best trials of each method with further seeds, and compare them by all seeds.

    With one seed a search selects the luckiest of many trials; a mean over more seeds less so.

    Args:
        searches: The methods' searches, which are complete.
        number: Number of best trials of each method.
        jobs_of: Composes the jobs of a method and values, with the further seeds.
        run: Runs jobs and returns an exit code.

    Returns:
        0 if they are complete, also with jobs that failed; 130 or 143 if they were stopped.

    Raises:
        RunError: If runs have not ended, such as those of another process.
    """
    finals = [(search, trial) for search in searches for trial in search.leading(number)]
    for search, trial in finals:
        trial.final_jobs = jobs_of(search.method, trial.values)
    jobs = [job for _, trial in finals for job in trial.final_jobs]
    print(f"The best {number} trials of each method with further seeds.", flush=True)
    code = run(jobs) if jobs else 0
    if code in (130, 143):
        return code
    _check_ended(jobs)
    for _, trial in finals:
        trial.final_score, trial.reason = score_of([*trial.jobs, *trial.final_jobs])
    return 0


def _check_ended(jobs: Sequence[Job]) -> None:
    """Check that all runs of a round have ended, so that none counts as a trial that failed.

    Raises:
        RunError: If some still run, wait, or were stopped: the trials that follow depend on them.
    """
    ended = (State.FINISHED, State.FAILED, State.PRUNED, State.KILLED, State.UNREADABLE)
    states = Counter(_state(job) for job in jobs)
    words = {State.MISSING: "not started"}
    counts = [f"{n} {words.get(state, state)}" for state, n in states.items() if state not in ended]
    if counts:
        raise RunError(
            f"The next trials depend on runs that have not ended: {', '.join(counts)}. The same "
            "command continues the search."
        )


def _state(job: Job) -> State:
    try:
        return state_of(job.run_dir)
    except RunError:
        return State.UNREADABLE


def conclude(trial: Trial, *, prunes: bool = False) -> None:
    """Set score, epochs and reason of a trial from the run folders of its jobs.

    Whether it was pruned follows from its ``metrics.csv`` and its floor, so that a run which
    another command has continued since counts as this search had left it.

    Args:
        trial: The trial, whose jobs have run.
        prunes: Whether the search prunes; its trials have one job then.
    """
    if prunes:
        (job,) = trial.jobs
        trial.curve = _curve(job)
        trial.epochs = len(trial.curve)
        epoch = stop_epoch(trial.curve, trial.floor)
        if epoch is not None:
            trial.pruned_after, trial.epochs = epoch, epoch
            score, low = trial.curve[epoch - 1], trial.floor[epoch - 1]
            trial.reason = floor_reason(
                epoch,
                job.config.trainer.num_epochs,
                score,
                low,
                selection_of(job.task, job.config.select_by),
            )
            return
    trial.score, trial.reason = score_of(trial.jobs)


def _has_ended(trial: Trial, job: Job) -> bool:
    """Return whether a job was pruned before, and would be again."""
    if not trial.floor or job.config.overwrite or not is_pruned(job):
        return False
    return stop_epoch(_curve(job), trial.floor) is not None


def _curve(job: Job) -> list[float]:
    metric = selection_of(job.task, job.config.select_by)
    return best_so_far(_rows(job), job.config.choices["method"], metric)


def _rows(job: Job) -> list[dict[str, float]]:
    try:
        return RunFiles(job.run_dir).metrics
    except RunError:  # damaged: the run itself says so
        return []


def score_of(jobs: Sequence[Job]) -> tuple[float | None, str]:
    """Return the mean validation score of finished jobs, or None and the reason.

    The score is that by which epochs are selected (``select_by``), of the fused logits; of the
    unimodal reference it is the mean over the modalities, each at its own epoch.

    Args:
        jobs: The jobs of a trial; the test split of none is read.
    """
    scores = []
    for job in jobs:
        files = RunFiles(job.run_dir)
        try:
            result = files.result
        except RunError as error:
            return None, str(error)
        if result is None:
            return None, str((files.status or {}).get("reason", "")) or "no result"
        val = result.val or {}
        names = [name for name in val if name != MULTI]
        reported = names if result.method == REFERENCE else [MULTI]
        selection = selection_of(result.task, result.select_by)
        values = [val[name][selection.metric] for name in reported]
        if selection.lower_is_better and None in values:
            return None, f"it has no {selection.metric}"
        scores.append(sum(value or 0.0 for value in values) / len(values))
    return sum(scores) / len(scores), ""
