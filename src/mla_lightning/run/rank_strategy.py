"""How Lightning sees the processes that train one job together."""

from __future__ import annotations

import torch
from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning.pytorch.strategies import DDPStrategy

from mla_lightning.run.rank_group import RankGroup
from mla_lightning.run_folder.rank_variables import StartedRank


class RankEnvironment(ClusterEnvironment):
    """The place of this process among the ranks of a job, for Lightning.

    Example:
        >>> environment = RankEnvironment(StartedRank(3, 4, 1, "node1", 29500))
        >>> environment.global_rank(), environment.local_rank(), environment.world_size()
        (3, 1, 4)
    """

    def __init__(self, place: StartedRank) -> None:
        """Store the place.

        Args:
            place: The rank of this process.
        """
        self.place = place

    @property
    def creates_processes_externally(self) -> bool:
        """Return True, so that Lightning starts no process."""
        return True

    @property
    def main_address(self) -> str:
        """Return the address of the first rank's machine."""
        return self.place.address

    @property
    def main_port(self) -> int:
        """Return the port there."""
        return self.place.port

    @staticmethod
    def detect() -> bool:
        """Return False: it is used only where it is given."""
        return False

    def world_size(self) -> int:
        """Return the number of ranks."""
        return self.place.num_ranks

    def set_world_size(self, size: int) -> None:
        """Keep the number of ranks."""

    def global_rank(self) -> int:
        """Return the rank."""
        return self.place.rank

    def set_global_rank(self, rank: int) -> None:
        """Keep the rank."""

    def local_rank(self) -> int:
        """Return the rank's number on its machine."""
        return self.place.local_rank

    def node_rank(self) -> int:
        """Return 0; Lightning would compute the rank from it, which is known."""
        return 0


class RankStrategy(DDPStrategy):
    """Lightning's strategy of several processes, without its wrapper of the module.

    A step of a method is one or more backward passes and a change of the gradients, which
    :class:`torch.nn.parallel.DistributedDataParallel` does not know: the gradients are summed by
    :meth:`~mla_lightning.module.MultimodalModule.step_on` instead. All ranks build the same
    weights from the seed, so nothing is sent at the start either.
    """

    #: That nothing but the module's own steps changes gradients.
    leaves_gradients = True

    def __init__(self, group: RankGroup, parallel_devices: list[torch.device]) -> None:
        """Store the ranks.

        Args:
            group: The ranks.
            parallel_devices: The devices of this machine's ranks.
        """
        super().__init__(
            parallel_devices=parallel_devices, cluster_environment=RankEnvironment(group.place)
        )
        self.group = group

    def _configure_launcher(self) -> None:
        """Start nothing; Lightning's launcher would also change the number of threads."""

    def setup_distributed(self) -> None:
        """Create the process group, without variables in the environment of this process."""
        self.set_world_ranks()
        self._process_group_backend = self._get_process_group_backend()
        self.group.connect(self._process_group_backend, self.root_device)

    def configure_ddp(self) -> None:
        """Leave the module as it is."""
