"""Logistic regression of each modality and of all together, the reference without a network."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, Unpack

import numpy as np
import torch
from torch import Tensor

from mla_lightning.batch import Batch
from mla_lightning.encoders.plain import Plain
from mla_lightning.fusion.linear_models import LinearModels
from mla_lightning.module import MultimodalModule
from mla_lightning.parts import Composition

#: Values of scikit-learn's C, the inverse of the penalty, from which validation selects. Larger
#: ones do not help: with 10 and 100 as well, in 20 random splits each of scikit-learn's wine,
#: breast cancer and digits, validation accuracy rises by 0 to 0.2 points, test by -0.3 to 0.1.
COSTS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
#: Largest number of iterations of a fit.
MAX_ITERATIONS = 1000
#: Logit of a class that no training sample with the modality has.
NEVER = -1e4


class Logistic(MultimodalModule):
    """Logistic regression (scikit-learn) of each modality alone, and of all features together.

    The inputs are vectors, standardised by the training samples that have the modality; see
    :class:`~mla_lightning.encoders.plain.Plain`. An absent modality counts as the mean of train, 0
    after standardising; a modality's own model is fitted to the samples that have it. The penalty
    of each model is selected as epochs are, by its accuracy (``select_by``) on validation, from C =
    0.0001, 0.001, 0.01, 0.1 and 1; of equal ones the strongest penalty. A note of the run has the
    selected values, and says which are at the end of the grid. ``multi`` is the model of all
    features. All training vectors are in memory at once.

    There are no optimisation steps: one epoch is run regardless of trainer.max_epochs, and
    optimiser and scheduler have no effect. They are accepted so that all methods of a comparison
    can share one recipe; a schedule that a command sets for this method is refused.

    Example:
        >>> from functools import partial
        >>> from lightning.pytorch import Trainer
        >>> audio = torch.randn(40, 3)
        >>> label = (audio[:, 0] > 0).long()
        >>> batch = {"audio": audio, "visual": torch.randn(40, 5), "label": label}
        >>> loader = torch.utils.data.DataLoader([batch], batch_size=None)
        >>> method = Logistic(
        ...     encoders={"audio": torch.nn.Linear(3, 4), "visual": torch.nn.Linear(5, 4)},
        ...     num_classes=2,
        ...     optimizer=partial(torch.optim.SGD, lr=0.1),
        ...     train_batches=lambda: loader,
        ... )
        >>> trainer = Trainer(
        ...     max_epochs=1,
        ...     accelerator="cpu",
        ...     logger=False,
        ...     enable_checkpointing=False,
        ...     enable_progress_bar=False,
        ...     enable_model_summary=False,
        ... )
        >>> trainer.fit(method, loader, loader)
        >>> method.epoch_metrics["val/acc/audio"] > 0.9
        True
    """

    fusion: LinearModels
    fits_all_at_once = True
    takes_steps = False
    selects_settings = True
    min_modalities = 1
    default_fusion = LinearModels

    def __init__(self, **parts: Unpack[Composition]) -> None:
        """Build the module.

        Args:
            **parts: See :class:`~mla_lightning.parts.Parts`; the fusion must be linear models. The
                encoders and the scheduler are not used.
        """
        inputs = parts.get("inputs", {})
        encoders = {
            name: Plain(is_spectrogram="spectrogram" in getattr(inputs.get(name), "kinds", ()))
            for name in parts["encoders"]
        }
        super().__init__(**parts | {"encoders": encoders, "scheduler": None})

    def fit_batch(self, batch: Batch) -> dict[str, Tensor]:
        """Return no losses: all samples are fitted at once, before validation."""
        return {}

    @torch.no_grad()
    def on_validation_start(self) -> None:
        """Fit all models to the training samples, once."""
        train = [self._rows(batch) for batch in self.training_batches()]
        for name, encoder in self.encoders.items():
            assert isinstance(encoder, Plain)
            encoder.fit(torch.cat(_padded([x[name][has[name]] for x, has, _ in train])))
        fit, select = self._samples(self.training_batches()), self._samples(self._selecting())
        costs = {}
        for name in (*self.modalities, ""):
            model = fit_logistic(
                fit.of(name), select.of(name), self.parts.num_classes, self.parts.score
            )
            self.fusion.set_model(name, model.weight, model.bias)
            costs[name or "all modalities"] = model.cost
            if not model.has_converged:
                self.notes.add(
                    f"Logistic: the model of {name or 'all modalities'} (C={model.cost:g}) had not "
                    f"converged after {MAX_ITERATIONS} iterations"
                )
        self.notes.add(f"Logistic: C selected on validation: {cost_text(costs)}")
        self.trainer.should_stop = True

    def _rows(self, batch: Batch) -> tuple[dict[str, Tensor], Mapping[str, Tensor], Tensor]:
        x = {}
        for name, encoder in self.encoders.items():
            assert isinstance(encoder, Plain)
            x[name] = encoder.vectors(batch["inputs"][name])
        return x, batch["present"], batch["label"]

    def _selecting(self) -> Iterable[Batch]:
        """Iterate over the samples by which epochs are selected."""
        for batch in self.trainer.val_dataloaders or ():
            yield self.prepare_batch(self._as_batch(batch, ("label",)))

    def _samples(self, batches: Iterable[Batch]) -> Samples:
        rows = [(self.features(batch), batch["present"], batch["label"]) for batch in batches]
        return Samples(
            {m: torch.cat([x[m] for x, _, _ in rows]).double().cpu() for m in self.modalities},
            {m: torch.cat([has[m] for _, has, _ in rows]).cpu() for m in self.modalities},
            torch.cat([label for *_, label in rows]).cpu(),
        )

    def allocate(self, state: Mapping[str, Tensor]) -> None:
        """Resize what the data size to the widths of saved weights.

        Args:
            state: Weights and buffers by name.
        """
        for name, tensor in (*self.named_parameters(), *self.named_buffers()):
            saved = state.get(name)
            if saved is not None and saved.ndim and saved.shape[:-1] == tensor.shape[:-1]:
                tensor.data = torch.zeros(saved.shape).to(tensor)

    def load_state_dict(self, state_dict: Mapping[str, Any], *args: Any, **options: Any) -> Any:
        """Load weights of any widths."""
        self.allocate(state_dict)
        return super().load_state_dict(state_dict, *args, **options)


class Samples(NamedTuple):
    """Standardised vectors of a split.

    Attributes:
        x: Modality -> vectors (N, D_m), zeros where it is absent.
        present: Modality -> (N,) bool.
        label: Classes (N,).

    Example:
        >>> has = torch.tensor([True, False])
        >>> samples = Samples({"audio": torch.ones(2, 3)}, {"audio": has}, torch.tensor([0, 1]))
        >>> [array.shape for array in samples.of("audio")], [a.shape for a in samples.of("")]
        ([(1, 3), (1,)], [(2, 3), (2,)])
    """

    x: Mapping[str, Tensor]
    present: Mapping[str, Tensor]
    label: Tensor

    def of(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Return the vectors and labels of the samples that have a modality, or of all together.

        Args:
            name: The modality; empty for the vectors of all modalities.
        """
        if not name:
            return torch.cat([*self.x.values()], dim=1).numpy(), self.label.numpy()
        has = self.present[name]
        return self.x[name][has].numpy(), self.label[has].numpy()


class LinearModel(NamedTuple):
    """A fitted logistic regression.

    Attributes:
        weight: Weights (C, D).
        bias: Biases (C,).
        cost: The selected C of scikit-learn.
        has_converged: Whether the solver has converged.

    Example:
        >>> LinearModel(torch.zeros(2, 3), torch.zeros(2), cost=0.1, has_converged=True).cost
        0.1
    """

    weight: Tensor
    bias: Tensor
    cost: float
    has_converged: bool


def fit_logistic(
    train: tuple[np.ndarray, np.ndarray],
    select: tuple[np.ndarray, np.ndarray],
    num_classes: int,
    score_of: Callable[[Tensor, Tensor], float],
) -> LinearModel:
    """Fit logistic regressions with scikit-learn, and select one on other samples.

    Args:
        train: Vectors (N, D) and classes (N,) to fit.
        select: Vectors and classes on which the penalty is selected.
        num_classes: Number of classes C.
        score_of: Computes from logits (N, C) and classes what selects; larger is better.

    Returns:
        The model with the highest score, of equal ones that with the strongest penalty. A class
        that ``train`` does not have is never predicted.

    Example:
        >>> x, label = np.array([[-1.0], [-2.0], [1.0], [2.0]]), np.array([0, 0, 2, 2])
        >>> share_of_correct = lambda z, y: float((z.argmax(dim=1) == y).double().mean())
        >>> model = fit_logistic((x, label), (x, label), 3, share_of_correct)
        >>> (torch.tensor(x) @ model.weight.T + model.bias).argmax(dim=1)
        tensor([0, 0, 2, 2])
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    x, label = train
    weight = torch.zeros(num_classes, x.shape[1], dtype=torch.double)
    bias = torch.full((num_classes,), NEVER, dtype=torch.double)
    classes = np.unique(label)
    if len(classes) == 1:
        bias[int(classes[0])] = 0.0
        return LinearModel(weight, bias, COSTS[0], has_converged=True)
    x_select, y_select = (torch.from_numpy(values) for values in select)
    best: LinearModel | None = None
    highest = -1.0
    for cost in COSTS:
        model = LogisticRegression(C=cost, max_iter=MAX_ITERATIONS)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(x, label)
        coefficients, intercepts = model.coef_, model.intercept_
        if len(classes) == 2:  # scikit-learn has one row, of the second class against the first
            coefficients = np.concatenate([-coefficients, coefficients]) / 2
            intercepts = np.concatenate([-intercepts, intercepts]) / 2
        weight, bias = weight.clone(), bias.clone()
        weight[classes] = torch.from_numpy(coefficients)
        bias[classes] = torch.from_numpy(intercepts)
        logits = x_select @ weight.T + bias
        score = score_of(logits, y_select) if len(y_select) else 0.0
        if best is None or score > highest:
            has_converged = int(model.n_iter_.max()) < MAX_ITERATIONS
            best, highest = LinearModel(weight, bias, cost, has_converged), score
    assert best is not None
    return best


def cost_text(costs: Mapping[str, float]) -> str:
    """Format the selected values of C, with a remark on those at an end of the grid.

    Args:
        costs: Name of the model -> the selected value, one of :data:`COSTS`.

    Example:
        >>> cost_text({"audio": 0.1, "visual": 1.0})
        '0.1 (audio), 1 (visual; the largest that is tried)'
    """
    ends = {COSTS[0]: "; the smallest that is tried", COSTS[-1]: "; the largest that is tried"}
    return ", ".join(f"{cost:g} ({name}{ends.get(cost, '')})" for name, cost in costs.items())


def _padded(rows: list[Tensor]) -> list[Tensor]:
    """Pad vectors with zeros to one width: counts of tokens end at the largest id of a batch."""
    width = max(x.shape[1] for x in rows)
    return [torch.nn.functional.pad(x, (0, width - x.shape[1])) for x in rows]
