"""From a source to a prepared store: in parallel, resumable, the same whatever happens between."""

from __future__ import annotations

import contextlib
import errno
import hashlib
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
from mla_lightning.errors import ConfigError, DataError, Interrupted, near
from mla_lightning.media.base import BadMedia, Extractor, FileInput
from mla_lightning.prepare.checks import checked_items, describe_identity
from mla_lightning.prepare.journal import FileRecord, Journal
from mla_lightning.prepare.place import (
    difference,
    digest_of,
    is_finished,
    sync_folder,
    workplace,
)
from mla_lightning.prepare.progress import Progress
from mla_lightning.prepare.rows import RowFile, allocate, full_disk, keep_rows, open_rows
from mla_lightning.prepare.workers import Died, in_workers

ON_BAD = ("stop", "skip")
#: Seconds between two moments at which everything is forced to the disk.
SYNC_S = 10.0
#: Distributions whose versions can change what is stored.
LIBRARIES = ("mla_lightning", "numpy", "av", "soundfile", "pillow", "tokenizers")


@dataclass(frozen=True)
class Failure:
    """A part that cannot be read.

    Attributes:
        id: The item.
        modality: Which of its modalities.
        file: The file, relative to the raw folder; empty for what lies in label files.
        reason: Why.
    """

    id: str
    modality: str
    file: str
    reason: str


@dataclass
class _Done:
    """What a worker tells of an item."""

    failures: list[tuple[str, str]] = field(default_factory=list)  # modality, reason
    files: dict[str, FileRecord] = field(default_factory=dict)
    is_disk_full: bool = False


def prepare(source: Source, target: Path, *, on_bad: str = "stop", jobs: int | None = None) -> Path:
    """Make a prepared store.

    Finished items are noted beside the store, in ``<target>.partial``; after a kill the same call
    goes on with the others. Items that could not be read are tried again, and items whose files
    have changed since. The store is the same whatever the number of jobs and of kills.

    Args:
        source: What to prepare.
        target: Folder of the store; it appears when everything is done.
        on_bad: What to do about items that cannot be read: ``stop`` after all others are done, with
            a list, or ``skip`` them; they are listed in the store then.
        jobs: Number of processes; None for one per core.

    Returns:
        The target.

    Raises:
        ConfigError: If an option is wrong or the target cannot be written.
        DataError: If items cannot be read, the source contradicts itself, or target or partial
            folder are about something else.
        RunError: If the disk is full.
        Interrupted: On Ctrl-C.
    """
    if on_bad not in ON_BAD:
        raise ConfigError(f"on_bad must be stop or skip, got {on_bad!r}.{near(on_bad, ON_BAD)}")
    jobs = len(os.sched_getaffinity(0)) if jobs is None else jobs
    if jobs < 1:
        raise ConfigError(f"jobs must be at least 1, got {jobs}")
    target = Path(target)
    items = checked_items(source)
    extractors = dict(source.extractors())
    identity = describe_identity(source, items, extractors)
    partial = target.with_name(target.name + ".partial")
    if is_finished(target, identity):
        shutil.rmtree(partial, ignore_errors=True)
        print(f"{target} was prepared before from the same files with the same options.")
        return target
    with workplace(partial, target):
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

    def run(self, on_bad: str, jobs: int) -> Path:
        journal = self._open_journal()
        self.rows = open_rows(self.partial / "rows", list(self.extractors))
        try:
            failures = self._read_all(journal, jobs)
            self._say_known(failures)
            if failures and on_bad == "stop":
                raise DataError(self._complaint(failures, len(journal.done)))
            bad = {failure.id for failure in failures}
            if len(bad) == len(self.items):
                raise DataError(self._complaint(failures, 0))
            self._finish(journal, failures)
        except OSError as error:
            if error.errno in {errno.ENOSPC, errno.EDQUOT}:
                raise full_disk(self.partial) from error
            raise
        finally:
            journal.close()
            for row_file in self.rows.values():
                os.close(row_file.handle)
        (self.partial / "store").rename(self.target)
        sync_folder(self.target.parent)
        shutil.rmtree(self.partial, ignore_errors=True)
        dropped = f", {len(bad)} bad ones left out (listed in manifest.json)" if bad else ""
        print(f"{self.target}: {len(self.items) - len(bad)} items{dropped}")
        return self.target

    # ------------------------------------------------------------------ reading

    def _open_journal(self) -> Journal:
        path = self.partial / "journal.jsonl"
        begun = Journal.identity_of(path)
        if begun is not None:
            if begun != self.identity:
                raise DataError(
                    f"{self.partial} was begun with something else: "
                    f"{difference(begun, self.identity)}. Go on with what it was begun with, or "
                    f"remove it to start anew: rm -r {self.partial}"
                )
            journal = Journal.resume(path)
            self._forget_changed(journal)
            if journal.done:
                print(f"{len(journal.done)} of {len(self.items)} items are done; going on.")
            return journal
        rows = self.partial / "rows"
        shutil.rmtree(rows, ignore_errors=True)
        rows.mkdir()
        layouts = {m: (e.shape, e.dtype) for m, e in self.extractors.items()}
        allocate(rows, len(self.items), layouts)
        return Journal.begin(path, self.identity)

    def _forget_changed(self, journal: Journal) -> None:
        """Let items be read again whose files are not what they were."""
        changed = set()
        for name, record in journal.files.items():
            with contextlib.suppress(OSError):
                found = (self.raw / name).stat()
                if (found.st_size, found.st_mtime_ns) == (record.num_bytes, record.mtime_ns):
                    continue
            changed.add(name)
        for name in changed:
            del journal.files[name]
        if changed:
            for number in list(journal.done):
                if changed.intersection(_files_of(self.items[number])):
                    journal.done.discard(number)

    def _read_all(self, journal: Journal, jobs: int) -> list[Failure]:
        tasks = []
        hashed = set(journal.files)
        for number, item in enumerate(self.items):
            if number not in journal.done:
                new = [name for name in _files_of(item) if name not in hashed]
                hashed.update(new)
                tasks.append((number, new))
        failures: list[Failure] = []
        synced = time.monotonic()
        with Progress(self.source.name, len(self.items), len(journal.done)) as progress:
            try:
                for (number, _), result in in_workers(self._read, tasks, jobs):
                    item = self.items[number]
                    if isinstance(result, Died):
                        reason = f"the process that read it died: {result.reason}"
                        result = _Done([(name, reason) for name in item.inputs])
                    if result.is_disk_full:
                        raise full_disk(self.partial)
                    if result.failures:
                        failures += [self._failure(item, *pair) for pair in result.failures]
                        journal.add(None, result.files)
                    else:
                        journal.add(number, result.files)
                    progress.advance(is_bad=bool(result.failures))
                    if time.monotonic() - synced > SYNC_S:
                        self._sync(journal)
                        synced = time.monotonic()
            except KeyboardInterrupt as error:
                raise Interrupted(
                    f"interrupted with {len(journal.done)} of {len(self.items)} items done; the "
                    "same command goes on from here"
                ) from error
            finally:
                self._sync(journal)
        return sorted(failures, key=lambda failure: (failure.id, failure.modality))

    def _read(self, task: tuple[int, list[str]]) -> _Done:
        """Read one item, in a worker process."""
        number, new_files = task
        done = _Done()
        for name in new_files:
            with contextlib.suppress(OSError):  # the reason is found when the part is read
                done.files[name] = _record(self.raw / name)
        for modality, part in self.items[number].inputs.items():
            extractor = self.extractors[modality]
            try:
                row = np.asarray(extractor(self.raw, part))
                if row.shape != tuple(extractor.shape) or row.dtype != np.dtype(extractor.dtype):
                    raise BadMedia(
                        f"{type(extractor).__name__} made {row.shape} of {row.dtype} instead of "
                        f"{extractor.shape} of {extractor.dtype}"
                    )
                if row.dtype.kind == "f" and not np.isfinite(row).all():
                    raise BadMedia("values that are not finite")
            except BadMedia as error:
                done.failures.append((modality, str(error)))
                continue
            except Exception as error:  # decoders meet damage in ways of their own
                done.failures.append((modality, f"{type(error).__name__}: {error}"))
                continue
            try:
                self.rows[modality].write(number, row)
            except OSError as error:
                done.is_disk_full = error.errno in {errno.ENOSPC, errno.EDQUOT}
                done.failures.append((modality, f"cannot be written: {error.strerror}"))
        return done

    def _sync(self, journal: Journal) -> None:
        for row_file in self.rows.values():
            os.fsync(row_file.handle)
        journal.mark()

    # ------------------------------------------------------------------ what went wrong

    def _failure(self, item: Item, modality: str, reason: str) -> Failure:
        if known := self.source.known_bad.get(item.id):
            reason = f"{reason} (known to its makers: {known})"
        part = item.inputs[modality]
        file = part.path.as_posix() if isinstance(part, FileInput) else ""
        return Failure(item.id, modality, file, reason)

    def _say_known(self, failures: Sequence[Failure]) -> None:
        bad = {failure.id for failure in failures}
        for item in self.items:
            if item.id in self.source.known_bad and item.id not in bad:
                known = self.source.known_bad[item.id]
                print(f"{item.id} could be read and is kept, though its makers say: {known}")

    def _complaint(self, failures: Sequence[Failure], num_done: int) -> str:
        bad = {failure.id for failure in failures}
        lines = [f"{len(bad)} of {len(self.items)} items of {self.source.name} cannot be read:"]
        lines += [
            f"  {failure.id}, {failure.modality}"
            f"{f' ({failure.file})' if failure.file else ''}: {failure.reason}"
            for failure in failures
        ]
        if num_done:
            lines.append(
                f"The other {num_done} are done. Repair the files and start the same command "
                "again, or leave these items out with on_bad=skip."
            )
        else:
            lines.append(f"None could be read. Is {self.raw.absolute()} the right raw=?")
        return "\n".join(lines)

    # ------------------------------------------------------------------ the store

    def _finish(self, journal: Journal, failures: Sequence[Failure]) -> None:
        bad = {failure.id for failure in failures}
        keep = np.array([item.id not in bad for item in self.items])
        items = [item for item in self.items if item.id not in bad]
        store = self.partial / "store"
        shutil.rmtree(store, ignore_errors=True)
        store.mkdir()
        class_names = list(self.source.class_names)
        label = [class_names.index(item.label) for item in items]
        np.save(store / "label.npy", np.array(label, dtype=np.int64))
        np.save(store / "id.npy", np.array([item.id for item in items]))
        for name in dict.fromkeys(name for item in items for name in item.attributes):
            values = np.array([item.attributes.get(name, "") for item in items])
            np.save(store / f"attribute.{name}.npy", values)
        for modality, row_file in self.rows.items():
            keep_rows(row_file, store / f"{modality}.npy", keep)
            present = np.array([modality in item.inputs for item in items])
            if not present.all():
                np.save(store / f"{modality}.present.npy", present)
        stores.finish_store(
            store,
            name=self.source.name,
            class_names=class_names,
            modalities={
                modality: {"kind": extractor.kind, "options": extractor.options()}
                for modality, extractor in self.extractors.items()
            },
            splits=self.source.splits(items),
            default_split=self.source.default_split,
            options={**self.source.options(), "identity": digest_of(self.identity)},
            sources=self._sources(journal, failures),
            failures=[vars(failure) for failure in failures],
            versions=_versions(),
        )

    def _sources(self, journal: Journal, failures: Sequence[Failure]) -> list[dict[str, Any]]:
        names = {name for item in self.items for name in _files_of(item)}
        reasons = {failure.file: failure.reason for failure in failures}
        entries = []
        for path in self.source.label_files():
            name = path.as_posix()
            names.add(name)
            journal.files[name] = _record(self.raw / path)
        for name in sorted(names):
            entry: dict[str, Any] = {"file": name}
            if record := journal.files.get(name):
                entry |= {"bytes": record.num_bytes, "sha256": record.sha256}
            if name in reasons:
                entry["failure"] = reasons[name]
            entries.append(entry)
        return entries


# ---------------------------------------------------------------------- pieces


def _files_of(item: Item) -> list[str]:
    files = [part.path.as_posix() for part in item.inputs.values() if isinstance(part, FileInput)]
    return list(dict.fromkeys(files))


def _record(path: Path) -> FileRecord:
    with path.open("rb") as file:
        found = os.fstat(file.fileno())
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return FileRecord(found.st_size, found.st_mtime_ns, digest)


def _versions() -> dict[str, str]:
    found = {}
    for name in LIBRARIES:
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(name)
    return found
