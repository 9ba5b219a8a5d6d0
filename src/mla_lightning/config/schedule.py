"""Trial of optimiser and schedule before a run: what cannot be built, and rates that never change.

The schedule is stepped as often as the run will step it, on one small layer. That holds for every
class of schedule, also for one of the user.
"""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Callable, Collection, Mapping
from typing import Any

from mla_lightning.config.signatures import attribute_of
from mla_lightning.config.targets import PARTIAL, TARGET, instantiate, locate
from mla_lightning.config.task import PLATEAU
from mla_lightning.errors import ConfigError

#: Epochs that are tried at most.
_MAX_STEPS = 10_000


def find_schedule_problems(config: Mapping[str, Any], is_set_by_user: bool) -> list[str]:
    """Try the optimiser and the schedule of a config, and step them through the run.

    Args:
        config: The resolved config, whose nodes fit the signatures of their classes.
        is_set_by_user: Whether the user set a key of the schedule. One that then has no effect is
            an error. One that comes with a recipe and is cut off by fewer epochs is not; see
            :func:`schedule_note`.

    Returns:
        At most one message.

    Example:
        >>> sgd = {"_target_": "torch.optim.SGD", "_partial_": True, "lr": 0.1, "nesterov": True}
        >>> config = {"optimizer": sgd, "scheduler": None, "trainer": {"max_epochs": 4}}
        >>> find_schedule_problems(config, is_set_by_user=False)
        ['optimizer: SGD cannot be used with these settings: Nesterov momentum requires ...']
    """
    if problem := _average_problem(config) or _snapshots_problem(config, is_set_by_user):
        return [problem]
    if is_set_by_user and config["scheduler"] and not takes_steps(config):
        name = config["method"][TARGET].rpartition(".")[2]
        return [
            f"scheduler has no effect on {name}, which takes no optimisation steps: it fits all "
            "training samples at once. Leave it out, or write scheduler=null."
        ]
    try:
        _rates_of(config)
    except ConfigError as error:
        return [str(error)]
    note = schedule_note(config) if is_set_by_user else ""
    return [note] if note else []


def _average_problem(config: Mapping[str, Any]) -> str:
    """Return why there are no weights to average over training; empty if there are."""
    decay, method = config["trainer"].get("ema"), config.get("method")
    if decay is None or not method:
        return ""
    fits_at_once = attribute_of(method[TARGET], "fits_all_at_once", False)
    if takes_steps(config) and not fits_at_once:
        return ""
    name = method[TARGET].rpartition(".")[2]
    return (
        f"trainer.ema={decay} averages weights over the batches of training, and {name} fits all "
        "training samples at once. Leave it out, or write trainer.ema=null."
    )


def _snapshots_problem(config: Mapping[str, Any], is_set_by_user: bool) -> str:
    """Return why a training has no equal parts whose models are averaged; empty if it has."""
    number, epochs = config["trainer"].get("snapshots"), config["trainer"]["max_epochs"]
    if number is None or not config.get("method"):
        return ""
    setting = f"trainer.snapshots={number}"
    if not takes_steps(config) or attribute_of(config["method"][TARGET], "fits_all_at_once", False):
        name = config["method"][TARGET].rpartition(".")[2]
        return (
            f"{setting} divides the training into parts, and {name} fits all training samples at "
            "once. Leave it out, or write trainer.snapshots=null."
        )
    if config["trainer"].get("ema") is not None:
        return (
            f"{setting} and trainer.ema are two ways to average one training; write one of them, "
            "and the other as null."
        )
    if config.get("diagnostics") in ("epoch", "full", "umap"):
        return (
            f"diagnostics={config['diagnostics']} describes one set of weights, and {setting} "
            "averages the logits of several. Write diagnostics=off or cost."
        )
    if is_set_by_user:
        return (
            f"scheduler has no effect with {setting}, which has a schedule of its own. Leave one "
            "of them out."
        )
    if epochs % number or epochs < 2 * number:
        longer = max(2, math.ceil(epochs / number)) * number
        return (
            f"{setting} must divide trainer.max_epochs={epochs} into equal parts of at least 2 "
            f"epochs; for example trainer.max_epochs={longer}."
        )
    return ""


def with_schedule_of_snapshots(config: Mapping[str, Any]) -> dict[str, Any]:
    """Replace the schedule of a config by that of its snapshots, if it has any.

    Args:
        config: The resolved config.

    Returns:
        The config, with the learning rate of ``trainer.snapshots`` in place of the recipe's.

    Example:
        >>> trainer = {"max_epochs": 4, "snapshots": 2}
        >>> changed = with_schedule_of_snapshots({"scheduler": None, "trainer": trainer})
        >>> changed["scheduler"]["_target_"]
        'torch.optim.lr_scheduler.LambdaLR'
    """
    trainer = config.get("trainer") or {}
    number, epochs = trainer.get("snapshots"), trainer.get("max_epochs")
    if not (isinstance(number, int) and isinstance(epochs, int) and number > 1):
        return dict(config)
    factor = {
        TARGET: "mla_lightning.functional.schedule.cosine_parts",
        PARTIAL: True,
        "num_epochs": epochs,
        "number": number,
    }
    return {**config, "scheduler": {TARGET: _LAMBDA, PARTIAL: True, "lr_lambda": factor}}


def schedule_note(config: Mapping[str, Any]) -> str:
    """Return what a user should know about a schedule that the end of the run cuts off.

    A run of a single epoch has no note: schedules act between epochs.

    Args:
        config: The resolved config.

    Returns:
        The note, empty if the whole schedule has an effect.

    Example:
        >>> from mla_lightning.config import plan
        >>> words = ["data=synthetic", "recipe=paper", "trainer.max_epochs=20"]
        >>> schedule_note(plan(words)[0].config)
        'The learning rate stays at 0.001 in all 20 epochs: scheduler.step_size=70 is not reached.
         Write scheduler.step_size=14 to lower it after 70 % of them, or scheduler=null for a
         constant rate.'
        >>> schedule_note(plan([*words[:2], "trainer.max_epochs=100"])[0].config)
        ''
    """
    epochs, node = config["trainer"]["max_epochs"], config["scheduler"]
    if not node or node[TARGET].endswith(PLATEAU) or not takes_steps(config):
        return ""
    if epochs in (1, "auto"):
        return ""
    rates = _rates_of(config)
    later = max(1, round(0.7 * epochs))
    if len(rates) > 1 and len(set(rates)) == 1:
        late = next((key for key in _REACHED_AT if key in node and node.get("gamma") != 1), "")
        reason = f": scheduler.{late}={node[late]} is not reached" if late else ""
        value = f"scheduler.{late}={_REACHED_AT[late](later)}" if late else ""
        remedy = f"Write {value} to lower it after 70 % of them, or " if late else "Write "
        return (
            f"The learning rate stays at {rates[0]:g} in all {epochs} epochs{reason}. "
            f"{remedy}scheduler=null for a constant rate."
        )
    milestones = node.get("milestones") or []
    if unreached := [number for number in milestones if number >= epochs]:
        return (
            f"scheduler.milestones={milestones}: {', '.join(map(str, unreached))} is not reached "
            f"in trainer.max_epochs={epochs}. Leave it out, or train longer."
        )
    cycle = node.get("T_max", epochs)
    if cycle != epochs:
        ending = f"ends at {rates[-1]:g}" if cycle > epochs else "rises again before the end"
        return (
            f"scheduler.T_max={cycle} differs from trainer.max_epochs={epochs}: the learning rate "
            f"{ending}. Write scheduler.T_max={epochs} for one fall over the whole run."
        )
    return ""


def untuned_rate_note(config: Mapping[str, Any], set_keys: Collection[str]) -> str:
    """Return that a chosen optimiser has a learning rate that nobody tuned; empty otherwise.

    Args:
        config: The resolved config.
        set_keys: Keys that the user set.

    Example:
        >>> from mla_lightning.config import plan
        >>> (job,) = plan(["data=synthetic", "optimizer=adam"])
        >>> untuned_rate_note(job.config, [])
        "optimizer=adam replaces the recipe's optimiser, and the learning rate 0.001 is not tuned
         for it. Set optimizer.lr=..., or search it on validation with mla tune."
        >>> untuned_rate_note(job.config, ["optimizer.lr"])
        ''
    """
    chosen = config["choices"].get("optimizer")
    if chosen is None and "optimizer._target_" in set_keys:
        chosen = config["optimizer"][TARGET]
    if chosen is None or "optimizer.lr" in set_keys or not takes_steps(config):
        return ""
    return (
        f"optimizer={chosen} replaces the recipe's optimiser, and the learning rate "
        f"{config['optimizer'].get('lr')} is not tuned for it. Set optimizer.lr=..., or search it "
        "on validation with mla tune."
    )


def takes_steps(config: Mapping[str, Any]) -> bool:
    """Return whether the method takes optimisation steps, which optimiser and schedule change.

    Args:
        config: The resolved config.

    Example:
        >>> from mla_lightning.config import plan
        >>> jobs = plan(["data=synthetic", "method=mla,majority"], multirun=True)
        >>> [takes_steps(job.config) for job in jobs]
        [True, False]
    """
    method = config.get("method")
    return not method or bool(attribute_of(method[TARGET], "takes_steps", True))


def find_selection_problem(config: Mapping[str, Any]) -> str:
    """Return why ``select_by`` changes nothing about a run; empty if it does.

    Args:
        config: The resolved config. With ``evaluate_test=false`` a run of one epoch is one of a
            search, which compares its runs by the metric.

    Example:
        >>> from mla_lightning.config import plan
        >>> words = ["data=synthetic", "method=mla,majority,logistic"]
        >>> jobs = plan(words, multirun=True)
        >>> [find_selection_problem(job.config) for job in jobs]
        ['', 'Majority has no epochs to select from: it fits all training samples at once', '']
        >>> (job,) = plan(["data=synthetic", "trainer.max_epochs=1"])
        >>> find_selection_problem(job.config)
        'trainer.max_epochs=1 leaves no epochs to select from'
    """
    if not config.get("method"):
        return ""
    if attribute_of(config["method"][TARGET], "selects_settings", False):
        return ""
    if not takes_steps(config):
        name = config["method"][TARGET].rpartition(".")[2]
        return f"{name} has no epochs to select from: it fits all training samples at once"
    if config["trainer"]["max_epochs"] == 1 and config["evaluate_test"]:
        return "trainer.max_epochs=1 leaves no epochs to select from"
    return ""


#: Setting of a schedule that is an epoch -> its value for a given epoch.
_REACHED_AT: dict[str, Callable[[int], str]] = {
    "step_size": str,
    "milestones": lambda epoch: f"[{epoch}]",
}


def _rates_of(config: Mapping[str, Any]) -> tuple[float, ...]:
    """Return the learning rate of each epoch; raise ConfigError if it cannot be computed."""
    nodes = json.dumps([config["optimizer"], config["scheduler"]], sort_keys=True)
    return _tried_rates(nodes, min(config["trainer"]["max_epochs"], _MAX_STEPS))


@functools.lru_cache(maxsize=256)
def _tried_rates(nodes: str, epochs: int) -> tuple[float, ...]:
    optimizer_node, scheduler_node = json.loads(nodes)
    if computed := _computed_rates(optimizer_node, scheduler_node, epochs):
        return computed
    layer = locate("torch.nn.Linear")(1, 1)
    key, target = "optimizer", optimizer_node[TARGET]
    try:
        optimizer = instantiate(optimizer_node)(layer.parameters())
        rates = [float(optimizer.param_groups[0]["lr"])]
        if not scheduler_node:
            return tuple(rates)
        key, target = "scheduler", scheduler_node[TARGET]
        scheduler = instantiate(scheduler_node)(optimizer)
        if target.endswith(PLATEAU):
            return tuple(rates)
        for _ in range(epochs):
            optimizer.step()  # without gradients; schedules expect it first
            scheduler.step()
            rates.append(float(optimizer.param_groups[0]["lr"]))
    except ConfigError:
        raise
    except Exception as error:  # any error of torch or of the user's class
        name = target.rpartition(".")[2]
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ConfigError(f"{key}: {name} cannot be used with these settings: {reason}") from error
    return tuple(rates[:-1])  # the last step is after the last epoch


#: Optimiser -> settings with which, within the limits of a config, it can be built for certain.
_BUILDABLE = {
    "torch.optim.SGD": {"lr", "momentum", "weight_decay"},
    "torch.optim.Adam": {"lr", "eps", "weight_decay", "amsgrad"},
    "torch.optim.AdamW": {"lr", "eps", "weight_decay", "amsgrad"},
}
_STEP = "torch.optim.lr_scheduler.StepLR"
_LAMBDA = "torch.optim.lr_scheduler.LambdaLR"


def _computed_rates(
    optimizer: Mapping[str, Any], scheduler: Mapping[str, Any] | None, epochs: int
) -> tuple[float, ...] | None:
    """Compute the rates of the optimisers and schedules of this package's recipes without torch.

    Returns:
        The same numbers as torch, by the same operations; None for others, which are tried.
    """
    names = optimizer.keys() - {TARGET, PARTIAL}
    rate = optimizer.get("lr")
    values = [optimizer[name] for name in names]
    is_valid = all(isinstance(value, int | float) and value >= 0 for value in values)
    if not (names <= _BUILDABLE.get(optimizer[TARGET], set()) and is_valid and rate):
        return None
    rates = [float(rate)]
    if not scheduler:
        return tuple(rates)
    settings = {key: value for key, value in scheduler.items() if key not in (TARGET, PARTIAL)}
    match scheduler[TARGET], settings:
        case (target, {"step_size": int(size), **rest}) if target == _STEP:
            gamma = rest.pop("gamma", 0.1)
            if size < 1 or rest or not isinstance(gamma, int | float):
                return None
            for epoch in range(1, epochs):
                rates.append(float(rates[-1] if epoch % size else rates[-1] * gamma))
        case (target, {"lr_lambda": {"_target_": factor, "_partial_": True} as node, **rest}):
            is_known = target == _LAMBDA and factor.startswith("mla_lightning.functional.schedule.")
            if rest or not is_known:
                return None
            function = instantiate(node)
            rates += [float(rate * function(epoch)) for epoch in range(1, epochs)]
        case _:
            return None
    return tuple(rates)
