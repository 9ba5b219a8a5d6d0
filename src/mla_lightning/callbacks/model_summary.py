"""The size of a model by modality, printed before training."""

from __future__ import annotations

from lightning.pytorch import Callback, LightningModule, Trainer
from torch import nn

from mla_lightning.module import MultimodalModule


class ModelSummary(Callback):
    """Prints the parameters of each modality's encoder, of the fusion, and of the rest.

    Example:
        >>> from mla_lightning.config import compose_jobs
        >>> from mla_lightning.run.build import build_data, build_module
        >>> (job,) = compose_jobs(["data=synthetic", "method=mla"])
        >>> print(ModelSummary.text(build_module(job.config, build_data(job.config))))
        part          class        parameters     trained
        audio         MLP               1,072       1,072
        visual        MLP               1,072       1,072
        fusion        SharedHead           68          68
        total         MLA               2,212       2,212
    """

    def __init__(self) -> None:
        """Nothing is set."""

    @staticmethod
    def text(module: MultimodalModule) -> str:
        """Return the table of a method.

        Args:
            module: The method, with encoders by modality and a fusion.
        """
        parts: dict[str, nn.Module] = dict(module.encoders.items())
        parts["fusion"] = module.fusion
        rows = [(name, type(part).__name__, *_sizes(part)) for name, part in parts.items()]
        total, trained = _sizes(module)
        others = total - sum(row[2] for row in rows), trained - sum(row[3] for row in rows)
        if others[0] > 0:
            rows.append(("others", "", *others))
        rows.append(("total", type(module).__name__, total, trained))
        width = max(12, *(len(row[0]) for row in rows)) + 2
        kind = max(10, *(len(row[1]) for row in rows)) + 2
        lines = [f"{'part':<{width}}{'class':<{kind}}{'parameters':>11}{'trained':>12}"]
        lines += [f"{a:<{width}}{b:<{kind}}{c:>11,}{d:>12,}" for a, b, c, d in rows]
        return "\n".join(lines)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print the table, by one process."""
        assert isinstance(pl_module, MultimodalModule)
        if trainer.is_global_zero:
            print(self.text(pl_module), flush=True)


def _sizes(module: nn.Module) -> tuple[int, int]:
    """Return the number of parameters, and of those that are trained."""
    sizes = [(p.numel(), p.numel() * p.requires_grad) for p in module.parameters()]
    return sum(size for size, _ in sizes), sum(trained for _, trained in sizes)
