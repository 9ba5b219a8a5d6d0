"""The problems of a command line, collected before they are raised together."""

from __future__ import annotations

from collections.abc import Iterable

from mla_lightning.errors import ConfigError


class Problems:
    """The problems of a command line and of its single jobs, raised together as one error.

    Attributes:
        general: Messages on the command line as a whole.

    Example:
        >>> problems = Problems()
        >>> problems.add("method=mla", ["seed must be a whole number >= 0, got -1"])
        >>> problems.add("method=sum", [])
        >>> problems.raise_all()
        Traceback (most recent call last):
        mla_lightning.errors.ConfigError: seed must be ... got -1 (in one job: method=mla)
    """

    def __init__(self) -> None:
        """Start without any."""
        self.general: list[str] = []
        self._jobs: dict[str, list[str]] = {}
        self._num_jobs = 0

    def __bool__(self) -> bool:
        """Return whether there is any problem."""
        return bool(self.general or self._jobs)

    def add(self, job: str, messages: Iterable[str]) -> None:
        """Add the problems of a job; call it for jobs without problems, too.

        Args:
            job: The job's overrides, shown if only some jobs have a problem.
            messages: The messages, none if the job has no problem.
        """
        self._num_jobs += 1
        for message in dict.fromkeys(messages):
            self._jobs.setdefault(message, []).append(job)

    def raise_all(self) -> None:
        """Raise one error with all problems.

        Raises:
            ConfigError: With every message, once each; nothing is raised if there is none.
        """
        lines = list(dict.fromkeys(self.general))
        for message, jobs in self._jobs.items():
            is_in_all_jobs = len(jobs) == self._num_jobs
            number = f"{len(jobs)} jobs, first" if len(jobs) > 1 else "one job"
            where = "" if is_in_all_jobs else f" (in {number}: {jobs[0]})"
            if message not in lines:
                lines.append(message + where)
        if len(lines) == 1:
            raise ConfigError(lines[0])
        if lines:
            listed = "\n".join(f"  - {line}" for line in lines)
            raise ConfigError(f"{len(lines)} problems:\n{listed}")
