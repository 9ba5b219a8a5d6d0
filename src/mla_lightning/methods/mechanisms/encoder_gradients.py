"""Gradients of encoders: which of them a rule changes, and their multiplication."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from mla_lightning.errors import ConfigError, check_choice

#: Filter -> smallest number of axes of the parameters that it selects, the widest first.
PARAM_FILTERS = {"all": 0, "ndim>=2": 2, "conv": 4}


def encoders_with_adapters(
    encoders: Mapping[str, nn.Module] | nn.ModuleDict, fusion: nn.Module
) -> dict[str, nn.ModuleList]:
    """Return the encoder of each modality, with its adapter where a shared head has one for it.

    Args:
        encoders: Modality -> encoder.
        fusion: The fusion; that of a shared head has ``adapters``.

    Returns:
        Modality -> the encoder, followed by the adapter if there is one.

    Example:
        >>> from mla_lightning.fusion import SharedHead
        >>> encoders = {"audio": nn.Linear(3, 2), "visual": nn.Linear(5, 4)}
        >>> fusion = SharedHead({"audio": 2, "visual": 4}, num_classes=3)
        >>> found = encoders_with_adapters(encoders, fusion)
        >>> {name: len(modules) for name, modules in found.items()}
        {'audio': 2, 'visual': 1}
    """
    adapters: Any = getattr(fusion, "adapters", {})
    return {
        name: nn.ModuleList([encoder, *([adapters[name]] if name in adapters else ())])
        for name, encoder in encoders.items()
    }


def selected_parameters(
    encoders: Mapping[str, nn.Module] | nn.ModuleDict,
    param_filter: str,
    otherwise: str = "joint training",
    known: Collection[str] = tuple(PARAM_FILTERS),
) -> dict[str, list[nn.Parameter]]:
    """Return the trained parameters of each encoder whose gradients a rule changes.

    Args:
        encoders: Modality -> encoder.
        param_filter: ``all``, ``ndim>=2`` (no biases), or ``conv`` (those of 4 axes only).
        otherwise: What the training would be if no gradient was changed, for the message.
        known: The filters that the rule is defined for, the widest first.

    Returns:
        Modality -> parameters, without frozen ones.

    Raises:
        ConfigError: If the filter is unknown or selects no parameter at all.

    Example:
        >>> encoders = {"audio": nn.Linear(3, 4), "visual": nn.Conv2d(1, 4, 2)}
        >>> selected = selected_parameters(encoders, "conv")
        >>> {name: [p.shape for p in parameters] for name, parameters in selected.items()}
        {'audio': [], 'visual': [torch.Size([4, 1, 2, 2])]}
    """
    check_choice("method.param_filter", param_filter, known)
    selected = {
        name: [p for p in encoder.parameters() if _is_selected(p, param_filter)]
        for name, encoder in encoders.items()
    }
    if not any(selected.values()):
        raise ConfigError(
            f"method.param_filter={param_filter!r} selects no trained parameter of these encoders, "
            f"so the method would be {otherwise}. Use param_filter={next(iter(known))}."
        )
    return selected


def _is_selected(parameter: Tensor, param_filter: str) -> bool:
    if not parameter.requires_grad:
        return False
    if param_filter == "conv":
        return parameter.ndim == PARAM_FILTERS[param_filter]
    return parameter.ndim >= PARAM_FILTERS[param_filter]


def own_parameters(
    encoders: Mapping[str, nn.Module] | nn.ModuleDict, otherwise: str | None = None
) -> dict[str, list[nn.Parameter]]:
    """Return the parameters of each encoder, of which no other encoder may have any.

    Args:
        encoders: Modality -> encoder.
        otherwise: What to use if no encoder is trained, for the message; None if that is allowed.

    Returns:
        Modality -> parameters.

    Raises:
        ConfigError: If encoders share a parameter, or all are frozen or have none.

    Example:
        >>> encoders = {"audio": nn.Linear(3, 4), "visual": nn.Linear(5, 4)}
        >>> {name: len(parameters) for name, parameters in own_parameters(encoders).items()}
        {'audio': 2, 'visual': 2}
        >>> own_parameters(dict.fromkeys(encoders, encoders["audio"]))
        Traceback (most recent call last):
        ...
        mla_lightning.errors.ConfigError: The encoders of 'audio' and 'visual' share parameters, and
        this method acts on each modality's encoder apart. Give each modality an encoder of its ...
    """
    owner: dict[int, str] = {}
    parameters = {name: list(encoder.parameters()) for name, encoder in encoders.items()}
    for name, of_encoder in parameters.items():
        for parameter in of_encoder:
            if (other := owner.setdefault(id(parameter), name)) != name:
                raise ConfigError(
                    f"The encoders of {other!r} and {name!r} share parameters, and this method "
                    "acts on each modality's encoder apart. Give each modality an encoder of its "
                    "own, or use method=joint_unimodal."
                )
    if otherwise is not None:
        check_trained(encoders, otherwise)
    return parameters


def is_trained(encoders: Mapping[str, nn.Module] | nn.ModuleDict) -> bool:
    """Return whether any parameter of the encoders is trained.

    Example:
        >>> is_trained({"audio": nn.Linear(3, 4), "visual": nn.Identity()})
        True
    """
    return any(p.requires_grad for encoder in encoders.values() for p in encoder.parameters())


def check_trained(encoders: Mapping[str, nn.Module] | nn.ModuleDict, otherwise: str) -> None:
    """Check that an encoder is trained, for a rule that would change nothing if none was.

    Args:
        encoders: Modality -> encoder.
        otherwise: What to use in this case, for the message.

    Raises:
        ConfigError: If all encoders are frozen or have no parameter.

    Example:
        >>> check_trained({"audio": nn.Linear(3, 4).requires_grad_(False)}, "method=concat")
        Traceback (most recent call last):
        ...
        mla_lightning.errors.ConfigError: No encoder has a parameter that is trained, and this
        method acts on these. Train an encoder, such as by tune=last_1, or use method=concat.
    """
    if not is_trained(encoders):
        raise ConfigError(
            "No encoder has a parameter that is trained, and this method acts on these. Train an "
            f"encoder, such as by tune=last_1, or use {otherwise}."
        )


def scale_gradients(
    parameters: Iterable[Sequence[nn.Parameter]], coefficients: Iterable[Tensor | float]
) -> None:
    """Multiply the gradients of each modality's parameters by its coefficient, in place.

    A gradient of None stays None: its parameter is left as it is. For the ``edit_grads`` of
    :meth:`~mla_lightning.module.MultimodalModule.step_on`, where gradients are those of the whole
    batch, unscaled, and not clipped yet.

    Args:
        parameters: The parameters of each modality.
        coefficients: A number for each modality.

    Example:
        >>> import torch
        >>> weight = nn.Parameter(torch.zeros(2))
        >>> weight.grad = torch.tensor([1.0, 2.0])
        >>> scale_gradients([[weight]], [0.5])
        >>> weight.grad
        tensor([0.5000, 1.0000])
    """
    for of_modality, coefficient in zip(parameters, coefficients, strict=True):
        for parameter in of_modality:
            if parameter.grad is not None:
                parameter.grad.mul_(coefficient)
