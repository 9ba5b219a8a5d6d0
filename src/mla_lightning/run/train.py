"""Training and evaluation of one job, from its config to its run folder."""

from __future__ import annotations

import signal
import sys
import time
import traceback
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from mla_lightning import run_folder as files
from mla_lightning.callbacks.signals import StopRequested, StopSignals
from mla_lightning.config import Job, schedule_note
from mla_lightning.config.secrets import mask_secrets
from mla_lightning.errors import Interrupted, MLAError, Pruned, RunError, reason_of
from mla_lightning.loggers.build import finish_loggers
from mla_lightning.run.allocator import keep_freed_memory
from mla_lightning.run.ending import describe_ending
from mla_lightning.run.explain import describe_error, errors_placed
from mla_lightning.run.fit import (
    data_of_job,
    evaluated_alone,
    fit,
    module_of_job,
    prepare_process,
)
from mla_lightning.run.measure import measure, write_measurements
from mla_lightning.run.preflight import check_counted_samples
from mla_lightning.run.rank_group import LostRank, RankFailure, RankGroup
from mla_lightning.run.rank_processes import check_machine, ranks_together, watched
from mla_lightning.run.record import (
    StatusFile,
    check_code_is_current,
    check_unfinished_run,
    describe_finished_run,
    provenance_of,
    set_aside_finished_run,
)
from mla_lightning.run_folder import State
from mla_lightning.run_folder.columns import MULTI
from mla_lightning.run_folder.completion import remove_replaced
from mla_lightning.run_folder.contents import check_run_folder
from mla_lightning.run_folder.lock import RunLock, remove_temporaries
from mla_lightning.run_folder.majority import find_majority
from mla_lightning.run_folder.rank_variables import started_rank
from mla_lightning.run_folder.stop_signals import STOP_SIGNALS
from mla_lightning.run_folder.tasks import PRIMARY

#: Key of what the first rank says before training: nothing, or why there is none.
_BEGINS = "begins"


def run_job(job: Job) -> int:
    """Train and evaluate one job, or resume an earlier attempt.

    Failures are written to the run folder and printed, never raised.

    Args:
        job: The job; all its files are written to its run folder.

    Returns:
        The exit code: 0 finished, 1 failed, 2 wrong config, 3 missing or damaged data, 130
        interrupted, 143 preempted.
    """
    keep_freed_memory()  # not in train_job, which Python programs call in a process of their own
    try:
        print(f"{job.title}: {train_job(job)}")
        if ending := describe_ending(job.run_dir):
            print(ending)
    except Pruned as error:
        print(f"{job.title}: {error}")
        return error.exit_code
    except (MLAError, OSError) as error:
        print(f"error: {mask_secrets(reason_of(error))}", file=sys.stderr)
        return error.exit_code if isinstance(error, MLAError) else RunError.exit_code
    except Exception as error:  # no error of a job may end a sweep
        print(f"error: {mask_secrets(f'{type(error).__name__}: {error}')}", file=sys.stderr)
        return RunError.exit_code
    return 0


def train_job(job: Job) -> str:
    """Train and evaluate one job as :func:`run_job` does, but raise errors.

    Args:
        job: The job.

    Returns:
        A line of text with validation accuracy and time, or why the job did not need to run.

    Raises:
        ConfigError: If a setting is wrong, or the folder holds another job.
        DataError: If the data are missing or damaged.
        RunError: If training failed, from the error that ended it, or the folder cannot be used.
        Interrupted: If the user stopped it; the next call resumes from its checkpoint.
        Pruned: If it fell below the floor of its search; likewise.
    """
    options = job.config.trainer
    place = started_rank(options.devices, options.num_nodes)
    if place is None:
        if options.num_ranks > 1:
            check_machine(options)
        return _train_job(job, None)
    with RankGroup.join(place, job.identity) as group:
        if not group.is_first:
            return str(group.value(_BEGINS) or train_as_rank(job, group))
        summary = _train_job(job, group)
        group.share(_BEGINS, lambda: summary)  # if it has not begun
        return summary


def _train_job(job: Job, group: RankGroup | None) -> str:
    """Train and evaluate one job in this process, which alone writes to the job's folder."""
    with files.not_world_writable():
        overwrite = job.config.overwrite
        check_run_folder(job.run_dir, overwrite=overwrite)
        try:
            if not overwrite and (reason := describe_finished_run(job)):
                remove_temporaries(job.run_dir)
                return reason  # without the lock: the disk may be read-only
            if not job.run_dir.exists():
                check_counted_samples(job.config)
            job.run_dir.mkdir(parents=True, exist_ok=True)
            with RunLock(job.run_dir):
                remove_temporaries(job.run_dir / files.CHECKPOINTS, is_owner=True)
                set_aside_finished_run(job)
                return describe_finished_run(job) or _run_locked(job, group)
        except OSError as error:
            reason = error.strerror or str(error)
            place = "" if error.filename in (None, str(job.run_dir)) else f" ({error.filename})"
            raise RunError(
                f"{job.run_dir} cannot be used: {reason}{place}. Choose another place: "
                "paths.output_dir=FOLDER"
            ) from error


def _run_locked(job: Job, group: RankGroup | None) -> str:
    """Run a job whose folder is locked by this process, and write its final state."""
    with StopSignals() as signals:
        status = StatusFile(job)
        loggers: list[Any] = []
        code = RunError.exit_code  # unless another exit code is known below
        try:
            try:
                later = {k: v for k, v in job.code.modules.items() if k not in sys.modules}
                check_code_is_current(job, later)  # modules that are not imported yet
                note = check_unfinished_run(job)
                status.write(State.RUNNING)
                ranks = _ranks_of(job, group, status)
                summary = _train_and_measure(job, loggers, signals, note, ranks)
            finally:
                signals.is_deferred = True  # the state is recorded below
            status.write(State.FINISHED, exit_code=0)
            remove_replaced(job.run_dir)
            code = 0
            return summary
        except KeyboardInterrupt as error:
            code = Interrupted.exit_code
            message = "Interrupted; run the same command again."
            status.fail(State.INTERRUPTED, code, message)
            raise Interrupted(message) from error
        except Pruned as error:
            code = 0  # for loggers: it is no failure
            status.write(State.PRUNED, error.exit_code, str(error))
            raise
        except MLAError as error:
            code = error.exit_code
            status.fail(State.of_exit_code(code), code, str(error))
            raise
        except (Exception, SystemExit, StopRequested) as error:  # also sys.exit() of user code
            if signals.received is not None:  # the signal may have ended a loader worker as well
                stop = signals.error()
                code = stop.exit_code
                status.fail(State.of_exit_code(code), code, str(stop))
                raise stop from error
            reason = describe_error(error, _num_workers(job))
            is_written = status.fail(State.FAILED, code, reason)
            place = f" The traceback is in {job.run_dir / files.ERROR}." if is_written else ""
            raise RunError(
                f"{reason.rstrip('.')}.{place} To run it again when the cause is mended: "
                f"{files.retry_command(job.overrides)}"
            ) from error
        finally:
            finish_loggers(loggers, code)


def _ranks_of(
    job: Job, group: RankGroup | None, status: StatusFile
) -> AbstractContextManager[RankGroup | None]:
    """Return the context in which all ranks of a job train; None is entered for one process."""
    num_ranks = job.config.trainer.num_ranks
    if num_ranks == 1:
        return nullcontext()

    def end_with(failure: RankFailure) -> None:
        code = failure.exit_code
        status.fail(State.of_exit_code(code), code, failure.text, failure.trace)
        _print_failure(failure)

    if group is not None:
        group.share(_BEGINS, lambda: "")
    return ranks_together(num_ranks, group, partial(_train_forked, job), end_with)


def _print_failure(failure: RankFailure) -> None:
    print(f"error: {mask_secrets(failure.text)}", file=sys.stderr, flush=True)


def _train_forked(job: Job, group: RankGroup) -> int:
    """Train one job as a forked rank; return its exit code. The first rank writes the reason."""
    try:
        train_as_rank(job, group)
    except MLAError as error:
        return error.exit_code
    return 0


def train_as_rank(job: Job, group: RankGroup) -> str:
    """Train one job as a rank other than the first, which writes nothing.

    Args:
        job: The job.
        group: The ranks.

    Returns:
        A line of text.

    Raises:
        MLAError: If this rank has failed, or another one that it needs.
    """
    with StopSignals() as signals:
        try:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)  # blocked while it was forked
            with watched(group, _print_failure):
                prepare_process(job)
                data = data_of_job(job)
                module = module_of_job(job, data)
                with errors_placed("training"):
                    fit(job, data, module, [], signals, group)
        except BaseException as error:
            known = _known_error(error, job, signals)
            if not isinstance(error, LostRank):
                trace = traceback.format_exc()
                group.report(RankFailure(group.place.rank, known.exit_code, str(known), trace))
            if known is error:
                raise
            raise known from error
    return f"rank {group.place.rank} has trained; the first rank evaluates"


def _known_error(error: BaseException, job: Job, signals: StopSignals) -> MLAError:
    """Return an error as the user is told it."""
    if isinstance(error, MLAError):
        return error
    if isinstance(error, KeyboardInterrupt):
        return Interrupted("Interrupted; run the same command again.")
    if signals.received is not None:
        return signals.error()
    return RunError(describe_error(error, _num_workers(job)))


def _num_workers(job: Job) -> int | None:
    number: int | None = job.config.tree["data"].get("num_workers")
    return number


def _train_and_measure(
    job: Job,
    loggers: list[Any],
    signals: StopSignals,
    note: str,
    ranks: AbstractContextManager[RankGroup | None],
) -> str:
    """Train and evaluate a job, write its files, and return a line of text with its score."""
    config, run_dir = job.config, job.run_dir
    prepare_process(job)
    early_notes = [*job.notes, schedule_note(config.tree)]
    _print_notes(job, early_notes)
    files.write_text(run_dir / files.CONFIG, yaml.safe_dump(config.tree, sort_keys=False))
    started = time.strftime("%Y-%m-%dT%H:%M:%S%z")
    with ranks as group:
        data = data_of_job(job)
        provenance = provenance_of(job, data, started)
        files.write_json(run_dir / files.PROVENANCE, provenance)
        if data.missing:
            data.write_masks(Path(config.paths.output_dir) / "masks")
        module = module_of_job(job, data)
        if note:
            module.notes.add(note)
        with errors_placed("training"):
            trained = fit(job, data, module, loggers, signals, group)
    if group is not None:
        trained = evaluated_alone(trained, signals)
    if text := schedule_note(config.tree):
        module.notes.add(text)
    with errors_placed("evaluation"):
        measurements = measure(trained)
    provenance["finished"] = time.strftime("%Y-%m-%dT%H:%M:%S%z")
    files.write_json(run_dir / files.PROVENANCE, provenance)
    with errors_placed("the writing of the result"):
        result = write_measurements(trained, measurements)  # with hashes of all other files
    _print_notes(job, [text for text in result.notes if text not in early_notes])
    primary = PRIMARY[result.task]
    value = primary.text((result.val or {})[MULTI][primary.metric])
    majority = find_majority(provenance["data"])
    remarks = [majority.val_text] if majority else []
    remark = ", ".join(filter(None, (*remarks, f"best epoch {result.best_epoch}")))
    return f"val/{primary.column} {value} ({remark}), {result.train_time_s:.1f} s"


def _print_notes(job: Job, notes: Iterable[str]) -> None:
    for text in filter(None, notes):
        print(f"{job.title}: note: {text}", file=sys.stderr, flush=True)
