"""Preparation of a store from a source: parallel, resumable and deterministic."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from mla_lightning.data import store as stores
from mla_lightning.data.sources.base import Item, Source
from mla_lightning.data.targets import TARGETS
from mla_lightning.data.temporary import disk_full_error
from mla_lightning.errors import ConfigError, DataError, Interrupted, check_number, near
from mla_lightning.media.base import BadMedia, Extractor, FileInput
from mla_lightning.media.embedded import EmbeddedFiles, position_of
from mla_lightning.paths import command
from mla_lightning.prepare.checks import check_lfs_pointers, checked_items, describe_identity
from mla_lightning.prepare.preparation_log import FileRecord, PreparationLog
from mla_lightning.prepare.progress import ItemProgress
from mla_lightning.prepare.rows import RowFile, allocate, copy_rows, open_rows
from mla_lightning.prepare.target_folder import (
    describe_difference,
    describe_partial,
    is_prepared,
    json_digest,
    locked_folder,
    sync_folder,
)
from mla_lightning.prepare.workers import Crash, run_in_workers

ON_BAD = ("stop", "skip")
#: Seconds between two times at which rows and log are forced to the disk.
SYNC_S = 10.0
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
#: Distributions whose versions can change the arrays.
LIBRARIES = ("mla_lightning", "numpy", "av", "soundfile", "pillow", "tokenizers")


@dataclass(frozen=True)
class Failure:
    """An input that cannot be read.

    Attributes:
        id: The item.
        modality: The modality.
        file: The file, relative to the raw folder; empty for texts and arrays.
        reason: The reason.
    """

    id: str
    modality: str
    file: str
    reason: str


@dataclass
class _ItemResult:
    """A worker's result for an item."""

    failures: list[tuple[str, str]] = field(default_factory=list)  # (modality, reason)
    files: dict[str, FileRecord] = field(default_factory=dict)
    is_disk_full: bool = False


def check_on_bad(on_bad: str) -> None:
    """Check what to do with items that cannot be read.

    Raises:
        ConfigError: If it is neither ``stop`` nor ``skip``.

    Example:
        >>> check_on_bad("ignore")
        Traceback (most recent call last):
        mla_lightning.errors.ConfigError: on_bad must be stop or skip, got 'ignore'.
    """
    if on_bad not in ON_BAD:
        raise ConfigError(f"on_bad must be stop or skip, got {on_bad!r}.{near(on_bad, ON_BAD)}")


def prepare(source: Source, target: Path, *, on_bad: str = "stop", jobs: int | None = None) -> Path:
    """Prepare a store.

    Finished items are logged beside the store, in ``<target>.partial``; after a kill the same call
    continues with the others. Items that could not be read are tried again, and so are items whose
    files have changed. The result does not depend on the number of jobs or of kills.

    Args:
        source: The source to prepare.
        target: Folder of the store; it is created when everything is finished.
        on_bad: What to do with items that cannot be read: ``stop`` with a list of them after all
            others are finished, or ``skip`` them and list them in the store.
        jobs: Number of processes; None for one per core.

    Returns:
        The target.

    Raises:
        ConfigError: If an option is wrong or the target cannot be written.
        DataError: If items cannot be read, the source contradicts itself, or the target or the
            partial folder belongs to another store.
        RunError: If the disk is full.
        Interrupted: On Ctrl-C.
    """
    check_on_bad(on_bad)
    jobs = len(os.sched_getaffinity(0)) if jobs is None else jobs
    check_number("jobs", jobs, 1, 1024)
    target = Path(target)
    items = checked_items(source)
    extractors = dict(source.extractors())
    identity = describe_identity(source, items, extractors)
    partial = target.with_name(target.name + ".partial")
    if is_prepared(target, identity):
        shutil.rmtree(partial, ignore_errors=True)
        print(f"{target} was prepared before from the same files with the same options.")
        return target
    if on_bad == "stop":
        check_lfs_pointers(source.raw or Path(), items)
    with locked_folder(partial, target):
        return _Preparation(source, target, partial, items, extractors, identity).run(on_bad, jobs)


class _Preparation:
    def __init__(
        self,
        source: Source,
        target: Path,
        partial: Path,
        items: Sequence[Item],
        extractors: Mapping[str, Extractor],
        identity: Mapping[str, Any],
    ) -> None:
        self.source, self.target, self.partial = source, target, partial
        self.items, self.extractors, self.identity = items, extractors, identity
        self.raw = source.raw if source.raw is not None else Path()
        self.rows: dict[str, RowFile] = {}
        self.files = EmbeddedFiles(self.raw, partial / "files")

    def run(self, on_bad: str, jobs: int) -> Path:
        log = self._open_log()
        shutil.rmtree(self.files.folder, ignore_errors=True)
        self.files.folder.mkdir()
        self.rows = open_rows(self.partial / "rows", list(self.extractors))
        try:
            failures = self._read_all(log, jobs)
            self._print_known_bad(failures)
            if failures and on_bad == "stop":
                raise DataError(self._message(failures, len(log.finished)))
            bad = {failure.id for failure in failures}
            if len(bad) == len(self.items):
                raise DataError(self._message(failures, 0))
            self._finish(log, failures)
        except OSError as error:
            if error.errno in _DISK_FULL:
                raise disk_full_error(self.partial) from error
            raise
        finally:
            log.close()
            for row_file in self.rows.values():
                os.close(row_file.handle)
        (self.partial / "store").rename(self.target)
        sync_folder(self.target.parent)
        shutil.rmtree(self.partial, ignore_errors=True)
        left_out = f", {len(bad)} bad ones left out (listed in manifest.json)" if bad else ""
        print(f"{self.target}: {len(self.items) - len(bad)} items{left_out}")
        return self.target

    # ------------------------------------------------------------------ reading

    def _open_log(self) -> PreparationLog:
        path = self.partial / "journal.jsonl"
        logged_identity = PreparationLog.read_identity(path)
        if logged_identity is not None:
            if logged_identity != self.identity:
                raise DataError(
                    f"{self.partial} was started with other files or options: "
                    f"{describe_difference(logged_identity, self.identity)}. Use those of the "
                    f"start, or remove it to start again: {command('rm', '-r', self.partial)}"
                )
            log = PreparationLog.resume(path)
            self._discard_changed(log)
            if log.finished:
                print(f"{len(log.finished)} of {len(self.items)} items are done; continuing.")
            return log
        rows = self.partial / "rows"
        shutil.rmtree(rows, ignore_errors=True)
        rows.mkdir()
        layouts = {m: (e.shape, e.dtype) for m, e in self.extractors.items()}
        allocate(rows, len(self.items), layouts)
        return PreparationLog.create(path, self.identity)

    def _discard_changed(self, log: PreparationLog) -> None:
        """Remove the items whose files have changed, so that they are read again."""
        changed = set()
        for name, record in log.files.items():
            with contextlib.suppress(OSError):
                status = (self.raw / name).stat()
                if (status.st_size, status.st_mtime_ns) == (record.num_bytes, record.mtime_ns):
                    continue
            changed.add(name)
        for name in changed:
            del log.files[name]
        if changed:
            for number in list(log.finished):
                if changed.intersection(_files_of(self.items[number])):
                    log.finished.discard(number)

    def _read_all(self, log: PreparationLog, jobs: int) -> list[Failure]:
        tasks = []
        hashed = set(log.files)
        for number, item in enumerate(self.items):
            if number not in log.finished:
                new = [name for name in _files_of(item) if name not in hashed]
                hashed.update(new)
                tasks.append((number, new))
        tasks.sort(key=lambda task: max(map(position_of, self.items[task[0]].inputs.values())))
        failures: list[Failure] = []
        last_sync = time.monotonic()
        with ItemProgress(self.source.name, len(self.items), len(log.finished)) as progress:
            try:
                for (number, _), result in run_in_workers(self._read, tasks, jobs):
                    item = self.items[number]
                    if isinstance(result, Crash):
                        reason = f"the process that read it died: {result.reason}"
                        result = _ItemResult([(name, reason) for name in item.inputs])
                    if result.is_disk_full:
                        raise disk_full_error(self.partial)
                    if result.failures:
                        failures += [self._failure(item, *pair) for pair in result.failures]
                        log.add(None, result.files)
                    else:
                        log.add(number, result.files)
                    progress.count_item(is_bad=bool(result.failures))
                    if time.monotonic() - last_sync > SYNC_S:
                        self._sync(log)
                        last_sync = time.monotonic()
            except KeyboardInterrupt as error:
                raise Interrupted(
                    f"interrupted with {len(log.finished)} of {len(self.items)} items done; the "
                    "same command continues from here"
                ) from error
            finally:
                self._sync(log)
        return sorted(failures, key=lambda failure: (failure.id, failure.modality))

    def _read(self, task: tuple[int, list[str]]) -> _ItemResult:
        """Read one item in a worker process."""
        number, new_files = task
        result = _ItemResult()
        for name in new_files:
            with contextlib.suppress(OSError):  # the extractor reports the reason below
                result.files[name] = FileRecord.of(self.raw / name)
        for modality, media_input in self.items[number].inputs.items():
            extractor = self.extractors[modality]
            try:
                with self.files.opened(media_input) as readable:
                    row = np.asarray(extractor(self.raw, readable))
                if row.shape != tuple(extractor.shape) or row.dtype != np.dtype(extractor.dtype):
                    raise BadMedia(
                        f"{type(extractor).__name__} made {row.shape} of {row.dtype} instead of "
                        f"{extractor.shape} of {extractor.dtype}"
                    )
                if row.dtype.kind == "f" and not np.isfinite(row).all():
                    raise BadMedia("values that are not finite")
            except BadMedia as error:
                result.failures.append((modality, str(error)))
                continue
            except Exception as error:  # decoders raise errors of any class
                result.is_disk_full |= getattr(error, "errno", None) in _DISK_FULL
                result.failures.append((modality, f"{type(error).__name__}: {error}"))
                continue
            try:
                self.rows[modality].write(number, row)
            except OSError as error:
                result.is_disk_full |= error.errno in _DISK_FULL
                result.failures.append((modality, f"cannot be written: {error.strerror}"))
        return result

    def _sync(self, log: PreparationLog) -> None:
        for row_file in self.rows.values():
            os.fsync(row_file.handle)
        log.sync()

    # ------------------------------------------------------------------ failures

    def _failure(self, item: Item, modality: str, reason: str) -> Failure:
        if known_reason := self.source.known_bad.get(item.id):
            reason = f"{reason} (known to its makers: {known_reason})"
        media_input = item.inputs[modality]
        file = media_input.place if isinstance(media_input, FileInput) else ""
        return Failure(item.id, modality, file, reason)

    def _print_known_bad(self, failures: Sequence[Failure]) -> None:
        """Print the items that could be read although their authors call them bad."""
        bad = {failure.id for failure in failures}
        for item in self.items:
            if item.id in self.source.known_bad and item.id not in bad:
                reason = self.source.known_bad[item.id]
                print(f"{item.id} could be read and is kept, although its authors say: {reason}")

    def _message(self, failures: Sequence[Failure], num_finished: int) -> str:
        bad = {failure.id for failure in failures}
        lines = [f"{len(bad)} of {len(self.items)} items of {self.source.name} cannot be read:"]
        lines += [
            f"  {failure.id}, {failure.modality}"
            f"{f' ({failure.file})' if failure.file else ''}: {failure.reason}"
            for failure in failures
        ]
        if num_finished:
            lines.append(
                f"The other {num_finished} are done. Repair the files and start the same command "
                "again, or leave these items out with on_bad=skip."
            )
        else:
            lines.append(f"None could be read. Is {self.raw.absolute()} the right raw=?")
        lines.append(describe_partial(self.partial))
        return "\n".join(lines)

    # ------------------------------------------------------------------ the store

    def _finish(self, log: PreparationLog, failures: Sequence[Failure]) -> None:
        bad = {failure.id for failure in failures}
        keep = np.array([item.id not in bad for item in self.items])
        items = [item for item in self.items if item.id not in bad]
        store = self.partial / "store"
        shutil.rmtree(store, ignore_errors=True)
        store.mkdir()
        class_names = list(self.source.class_names)
        label = TARGETS[self.source.task].encoded([item.label for item in items], class_names)
        np.save(store / "label.npy", label)
        np.save(store / "id.npy", np.array([item.id for item in items]))
        for name in dict.fromkeys(name for item in items for name in item.attributes):
            values = np.array([item.attributes.get(name, "") for item in items])
            np.save(store / f"attribute.{name}.npy", values)
        for modality, row_file in self.rows.items():
            copy_rows(row_file, store / f"{modality}.npy", keep)
            present = np.array([modality in item.inputs for item in items])
            if not present.all():
                np.save(store / f"{modality}.present.npy", present)
        stores.finish_store(
            store,
            name=self.source.name,
            class_names=class_names,
            modalities={
                modality: stores.modality_entry(
                    extractor.kind, extractor.options(), self.source.scale
                )
                for modality, extractor in self.extractors.items()
            },
            splits=self.source.splits(items),
            default_split=self.source.default_split,
            options={**self.source.options(), "identity": json_digest(self.identity)},
            sources=self._sources(log, failures),
            failures=[*map(dict, self.source.skipped_items), *map(vars, failures)],
            versions=_versions(),
            task=self.source.task,
            defaults=self.source.defaults,
            files=self.source.write_files(store),
        )

    def _sources(self, log: PreparationLog, failures: Sequence[Failure]) -> list[dict[str, Any]]:
        names = {name for item in self.items for name in _files_of(item)}
        reasons = {failure.file: failure.reason for failure in failures}
        entries = []
        for path in self.source.label_files():
            name = path.as_posix()
            names.add(name)
            log.files[name] = FileRecord.of(self.raw / path)
        for name in sorted(names):
            entry: dict[str, Any] = {"file": name}
            if record := log.files.get(name):
                entry |= {"bytes": record.num_bytes, "sha256": record.sha256}
            if name in reasons:
                entry["failure"] = reasons[name]
            entries.append(entry)
        return entries


# ---------------------------------------------------------------------- functions


def _files_of(item: Item) -> list[str]:
    paths = [value.path for value in item.inputs.values() if isinstance(value, FileInput)]
    return list(dict.fromkeys(path.as_posix() for path in paths))


def _versions() -> dict[str, str]:
    versions = {}
    for name in LIBRARIES:
        with contextlib.suppress(PackageNotFoundError):
            versions[name] = version(name)
    return versions
