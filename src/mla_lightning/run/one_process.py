"""A run in one process, whatever a scheduler's variables say."""

from __future__ import annotations

from lightning.fabric.plugins.environments.lightning import LightningEnvironment


class OneProcess(LightningEnvironment):
    """The environment of a run that is one process on one device.

    Without it Lightning reads the variables of schedulers and launchers: within a job of SLURM it
    takes the number of tasks for ranks, requeues the job by itself at SIGUSR1 and writes a
    checkpoint of its own, logs nothing where ``SLURM_PROCID`` is not 0, and where ``srun`` exists
    it warns in every run that it is not used.

    Example:
        >>> import os
        >>> os.environ["SLURM_PROCID"] = "1"
        >>> environment = OneProcess()
        >>> del os.environ["SLURM_PROCID"]
        >>> environment.global_rank(), environment.local_rank(), environment.world_size()
        (0, 0, 1)
        >>> environment.creates_processes_externally
        True
    """

    def __init__(self) -> None:
        """Take rank 0 for Lightning's functions that act on it alone."""
        super().__init__()
        self.set_global_rank(0)

    @property
    def creates_processes_externally(self) -> bool:
        """Return True, so that Lightning starts no other process."""
        return True

    def local_rank(self) -> int:
        """Return 0."""
        return 0

    def node_rank(self) -> int:
        """Return 0."""
        return 0

    def teardown(self) -> None:
        """Keep the variables of the environment."""
