"""The processes that train one job together: what they agree on, and which has failed."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import timedelta
from functools import cache
from types import TracebackType
from typing import Any

import torch
from torch import distributed
from torch.distributed import PrefixStore, Store, TCPStore  # type: ignore[attr-defined]

from mla_lightning.errors import MLAError, RunError
from mla_lightning.run_folder.forks import never_destroy_inherited_objects
from mla_lightning.run_folder.rank_variables import StartedRank

#: Longest time that ranks wait for each other, such as for one that reads the data slowly.
PATIENCE = timedelta(minutes=30)
_POLL_S = 0.02
#: Seconds in which ranks that srun or torchrun has started end after the first one.
_LEAVE_S = 3.0
_FAILURE = "failure"
#: Texts of errors of a collective operation whose other side has ended.
_LOST = re.compile(r"(?i)gloo|nccl|connection (was )?(closed|reset|refused)|broken pipe")


@dataclass(frozen=True)
class RankFailure:
    """Why a rank has ended before the others.

    Attributes:
        rank: The rank.
        exit_code: Exit code of the job.
        reason: The reason, as the user is told it.
        trace: The traceback.

    Example:
        >>> RankFailure(1, 3, "audio.npy is damaged").text
        'Rank 1: audio.npy is damaged'
    """

    rank: int
    exit_code: int
    reason: str
    trace: str = ""

    @property
    def text(self) -> str:
        """The reason with the rank."""
        return f"Rank {self.rank}: {self.reason}"

    def error(self) -> RunError:
        """Return the error that ends the job with the rank's own exit code."""
        error = RunError(self.text)
        error.exit_code = self.exit_code
        if self.trace:
            error.add_note(f"\nRank {self.rank}, whose error ended the job:\n{self.trace}")
        return error


class LostRank(RunError):
    """A rank has ended, and has not said why.

    Example:
        >>> str(LostRank())
        'Another rank of the job has ended without a reason: ...'
    """

    def __init__(self) -> None:
        """Set the message."""
        super().__init__(
            "Another rank of the job has ended without a reason: its process was killed, perhaps "
            "because memory was full, or its machine failed. Its output may say more. Run the same "
            "command again to resume."
        )


class RankGroup:
    """The ranks of a job, seen from one of them: values that they agree on, and failures.

    The ranks exchange texts through a store, a small server in one process, which needs no
    device and works before training. The process group, through which tensors are summed, exists
    only during training; see :meth:`connect`.

    Attributes:
        place: The rank of this process.
        store: The store.
        is_forked: Whether the job has forked its ranks itself.
    """

    def __init__(self, place: StartedRank, store: Store, *, is_forked: bool = False) -> None:
        """Take the rank's place in a store.

        Args:
            place: The rank of this process.
            store: The store, in which no other job has the same keys.
            is_forked: Whether the job has forked its ranks itself.
        """
        never_destroy_inherited_objects()
        self.place, self.store, self.is_forked = place, store, is_forked
        self.is_connected = False

    @classmethod
    def join(cls, place: StartedRank, name: str) -> RankGroup:
        """Meet the other ranks that srun or torchrun has started.

        Args:
            place: The rank of this process.
            name: Name of the job, by which several jobs of these processes differ.

        Raises:
            RunError: If the first rank cannot be reached.
        """
        _joined[name] = _joined.get(name, 0) + 1
        prefix = f"{name}/{_joined[name]}"
        return cls(place, PrefixStore(prefix, _store_of(place)))

    def __enter__(self) -> RankGroup:
        """Return the ranks."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Tell the other ranks of an error, and end after those that need this process's store."""
        rank = self.place.rank
        if error is not None:
            code = error.exit_code if isinstance(error, MLAError) else RunError.exit_code
            self.report(RankFailure(rank, code, str(error) or type(error).__name__))
        with suppress(RuntimeError):  # the process of the store has ended
            self.store.set(f"left/{rank}", "")
            others = [f"left/{other}" for other in range(1, self.place.num_ranks)]
            until = time.monotonic() + _LEAVE_S
            while self.is_first and not self.store.check(others) and time.monotonic() < until:
                time.sleep(_POLL_S)

    def watched(self) -> RankGroup:
        """Return the same ranks for another thread, with a connection to the store of its own."""
        store: Store = self.store.clone()  # type: ignore[attr-defined]  # its stub lacks it
        return RankGroup(self.place, store, is_forked=self.is_forked)

    @property
    def is_first(self) -> bool:
        """Whether this process is rank 0, which alone writes."""
        return self.place.is_first

    def share(self, key: str, compute: Callable[[], Any]) -> Any:
        """Return a value that the first rank computes, the same on all ranks.

        Args:
            key: Its name, used once.
            compute: Returns the value, of plain data; called on the first rank only.

        Raises:
            RunError: If the first rank has ended without it.
        """
        if self.is_first:
            value = compute()
            self.store.set(key, json.dumps(value))
            return value
        return self.value(key)

    def value(self, key: str) -> Any:
        """Return a value of the first rank; wait for it."""
        self._wait([key])
        return json.loads(self.store.get(key))

    def report(self, failure: RankFailure) -> None:
        """Record why this rank ends, unless another one has failed before it."""
        try:
            self.store.compare_set(_FAILURE, "", json.dumps(asdict(failure)))
        except RuntimeError:  # the process of the store has ended, and with it the job
            return

    def failure(self, patience_s: float = 0.0) -> RankFailure | None:
        """Return why the first rank that failed did; None if none has.

        Args:
            patience_s: Seconds to wait for a rank that is about to say so.
        """
        until = time.monotonic() + patience_s
        while True:
            try:
                if self.store.check([_FAILURE]):
                    return RankFailure(**json.loads(self.store.get(_FAILURE)))
            except RuntimeError:  # the process of the store has ended
                return None if self.is_first else RankFailure(0, RunError.exit_code, "has ended")
            if time.monotonic() >= until:
                return None
            time.sleep(_POLL_S)

    def connect(self, backend: str, device: torch.device) -> None:
        """Create the process group, when all ranks have come this far.

        Args:
            backend: ``gloo`` or ``nccl``.
            device: The device of this rank.

        Raises:
            RunError: If a rank has failed before, or does not come.
        """
        self.store.set(f"ready/{self.place.rank}", "")
        self._wait([f"ready/{rank}" for rank in range(self.place.num_ranks)])
        distributed.init_process_group(
            backend,
            store=PrefixStore("group", self.store),
            rank=self.place.rank,
            world_size=self.place.num_ranks,
            timeout=PATIENCE,
            device_id=None if device.type == "cpu" else device,
        )
        self.is_connected = True

    def disconnect(self, *, aborts: bool = False) -> None:
        """Remove the process group: what follows is computed by one process.

        Args:
            aborts: Whether operations of GPUs that wait for a lost rank may be in progress.
        """
        if not self.is_connected:
            return
        self.is_connected = False
        if aborts and distributed.get_backend() == distributed.Backend.NCCL:
            distributed.distributed_c10d._abort_process_group()
        else:
            distributed.destroy_process_group()

    def _wait(self, keys: list[str]) -> None:
        """Wait until the keys have values; a signal or the failure of a rank ends it."""
        until = time.monotonic() + PATIENCE.total_seconds()
        while True:
            try:
                if self.store.check(keys):
                    return
            except RuntimeError as error:
                raise RunError("The first rank of the job has ended.") from error
            if failure := self.failure():
                raise failure.error()
            if time.monotonic() > until:
                missing = [key for key in keys if not self.store.check([key])]
                raise RunError(f"No answer of other ranks of the job ({', '.join(missing)})")
            time.sleep(_POLL_S)


def is_lost_connection(error: BaseException) -> bool:
    """Return whether an error says only that another rank has ended.

    Example:
        >>> is_lost_connection(RuntimeError("[gloo/pair.cc:534] Connection closed by peer"))
        True
        >>> is_lost_connection(RuntimeError("CUDA out of memory"))
        False
    """
    if isinstance(error, distributed.DistError | LostRank):
        return True
    return isinstance(error, RuntimeError) and bool(_LOST.search(str(error)))


#: Name of a job -> how often this process has trained it as a rank.
_joined: dict[str, int] = {}


@cache
def _store_of(place: StartedRank) -> Store:
    """Return the store of the ranks that srun or torchrun has started, one per process."""
    is_server = place.is_first and not place.has_store
    try:
        return TCPStore(
            place.address,
            place.port,
            place.num_ranks,
            is_server,
            PATIENCE,
            wait_for_workers=False,
        )
    except RuntimeError as error:
        text = str(error).splitlines()[0]
        remedy = "Set MASTER_PORT to a port that is free" if is_server else "Set MASTER_ADDR"
        raise RunError(
            f"The ranks of the job cannot meet at {place.address}:{place.port}: {text}. {remedy}."
        ) from error
