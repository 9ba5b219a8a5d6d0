"""Limits of arguments that the classes themselves do not state: torch's, and sizes of models.

torch annotates a learning rate as ``float | Tensor`` and a step size as ``int``: it takes a
momentum of 2, a step size of -1 and a rate of nan, or fails in the first batch with a message about
something else. Sizes need an upper limit, since a mistyped one takes all memory of the machine.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Literal

from mla_lightning.config.targets import TARGET
from mla_lightning.run_folder.schema import (
    Above,
    AtLeast,
    AtMost,
    Below,
    Count,
    describe_type,
    fits_type,
    format_value,
)

_Positive = Annotated[float, Above(0)]
_NotNegative = Annotated[float, AtLeast(0)]
_Fraction = Annotated[float, AtLeast(0), AtMost(1)]
_Decay = Annotated[float, AtLeast(0), Below(1)]
_Size = Annotated[int, AtLeast(1), AtMost(100_000)]
_Layers = Annotated[int, AtLeast(1), AtMost(1000)]
_Rates = _Positive | list[_Positive]
_Sizes = _Size | list[_Size]

#: Package -> parameter -> type and limits of a value that is not null.
LIMITS: dict[str, dict[str, Any]] = {
    "torch.optim.lr_scheduler": {
        "T_0": Count,
        "T_max": Count,
        "T_mult": Count,
        "base_lr": _Rates,
        "cooldown": Annotated[int, AtLeast(0)],
        "div_factor": _Positive,
        "end_factor": _Fraction,
        "eps": _NotNegative,
        "epochs": Count,
        "eta_min": _NotNegative,
        "factor": _Fraction,
        "final_div_factor": _Positive,
        "gamma": _Positive,
        "last_epoch": Literal[-1],
        "max_lr": _Rates,
        "milestones": list[Count],
        "min_lr": _NotNegative | list[_NotNegative],
        "patience": Annotated[int, AtLeast(0)],
        "pct_start": Annotated[float, Above(0), Below(1)],
        "power": _Positive,
        "start_factor": Annotated[float, Above(0), AtMost(1)],
        "step_size": Count,
        "step_size_down": Count,
        "step_size_up": Count,
        "steps_per_epoch": Count,
        "threshold": _NotNegative,
        "total_iters": Count,
        "total_steps": Count,
    },
    "torch.optim": {
        "alpha": _Decay,
        "betas": tuple[_Decay, _Decay],
        "dampening": _Fraction,
        "eps": _NotNegative | list[Any],
        "history_size": Count,
        "initial_accumulator_value": _NotNegative,
        "lambd": _NotNegative,
        "lr": _Positive,
        "lr_decay": _NotNegative,
        "max_eval": Count,
        "max_iter": Count,
        "momentum": _Decay,
        "momentum_decay": _NotNegative,
        "ns_steps": Count,
        "rho": _Fraction,
        "t0": _NotNegative,
        "weight_decay": _NotNegative,
    },
    "mla_lightning": {
        "channels": _Size,
        "depth": _Layers,
        "dim": _Size,
        "dropout": _Decay,
        "end_epoch": Annotated[int, AtLeast(0)],
        "grace_s": Annotated[float, AtLeast(0), AtMost(86_400)],
        "hidden": _Sizes,
        "image_size": _Size,
        "in_channels": _Size,
        "in_features": Annotated[int, AtLeast(1), AtMost(10_000_000)],
        "kernels": list[_Size],
        "layers": list[_Size],
        "num_blocks": _Layers,
        "num_components": _Size,
        "num_frames": _Size,
        "num_heads": _Layers,
        "num_latent": _Size,
        "num_layers": _Layers,
        "num_mels": _Size,
        "num_tokens": Annotated[int, AtLeast(1), AtMost(10_000_000)],
        "num_workers": Annotated[int, AtLeast(0), AtMost(256)],
        "out_features": _Size,
        "pretrain_epochs": Annotated[int, AtLeast(0), AtMost(1_000_000)],
        "start_epoch": Annotated[int, AtLeast(0)],
        "timeout_s": _Positive,
        "width": _Size,
    },
}
#: Values that training would use in another way than their names say: class -> parameter ->
#: the one value that is right, and why.
ONLY_RIGHT = {
    "torch.optim.lr_scheduler.ReduceLROnPlateau": {
        "mode": (
            "max",
            "it follows the validation accuracy, or select_by, which should rise",
        ),
    },
}
#: Classes that training cannot drive -> the reason, and what to use.
UNUSABLE = {
    "torch.optim.LBFGS": "it evaluates a loss several times per step, and a step here has one. "
    "Use torch.optim.SGD or torch.optim.AdamW.",
    "torch.optim.SparseAdam": "it takes sparse gradients, and the encoders have dense ones. "
    "Use torch.optim.Adam.",
}


def find_limit_problems(key: str, node: dict[str, Any], unchecked: Iterable[str]) -> list[str]:
    """Find arguments of a class that are beyond its limits.

    Args:
        key: The dotted key of the node.
        node: The node, whose target is allowed.
        unchecked: Arguments that have another problem already.

    Returns:
        One message per argument, with the values that are right.

    Example:
        >>> node = {"_target_": "torch.optim.SGD", "lr": 0.1, "momentum": 2}
        >>> find_limit_problems("optimizer", node, ())
        ['optimizer.momentum must be a number >= 0 and < 1, got 2']
    """
    target = str(node[TARGET])
    problems = []
    if target in UNUSABLE:
        problems.append(f"{key}.{TARGET}={target}: {UNUSABLE[target]}")
    package = next((name for name in LIMITS if target.startswith(f"{name}.")), "")
    for name, hint in LIMITS.get(package, {}).items():
        value = node.get(name)
        if value is None or name in unchecked:
            continue
        if not fits_type(value, hint):
            expected = describe_type(hint)
            problems.append(f"{key}.{name} must be {expected}, got {format_value(value)}")
    for name, (right, reason) in ONLY_RIGHT.get(target, {}).items():
        if node.get(name) != right:
            problems.append(f"{key}.{name} must be {right}: {reason}")
    return problems
