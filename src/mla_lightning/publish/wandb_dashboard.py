"""Weights & Biases workspace and report with the panels of the HTML page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mla_lightning.errors import ConfigError, near
from mla_lightning.publish.wandb_server import save_online
from mla_lightning.report.document.render import to_markdown
from mla_lightning.report.document.table import Report
from mla_lightning.report.figures.panels import Panel, panels
from mla_lightning.report.read.metrics import primary_metric
from mla_lightning.report.read.run import Run
from mla_lightning.report.tables.kinds import varied_keys
from mla_lightning.run_folder.columns import EPOCH, TRAIN_LOSS
from mla_lightning.run_folder.tasks import REGRESSION, primary_of

#: Keys of the config by which the runs of every dashboard are grouped.
GROUP_BY = ("choices.data", "choices.method", "choices.ablation")
ABLATION = "choices.ablation"
#: The tag of plain runs: the ``name`` of the default config.
PLAIN = "train"


def group_keys(kind: str, runs: Sequence[Run] = ()) -> list[str]:
    """Return the config keys that the runs of a dashboard are grouped by.

    Args:
        kind: A kind of report, or the tag of the runs: the first part of the name of their
            experiment, which is ``train`` for plain runs.
        runs: The runs. If ``kind`` is a tag, the settings that differ between its runs are keys,
            and so is the experiment's name if there are several.

    Returns:
        Keys without duplicates, such as ``choices.method`` and ``optimizer.lr``.

    Raises:
        ConfigError: If ``kind`` is neither a kind of report nor the tag of a run.

    Example:
        >>> group_keys("table2")[3:]
        ['missing.rate', 'method.weight']
        >>> runs = [
        ...     Run(run="a", where="", state="finished", name="lr/short", overrides=overrides)
        ...     for overrides in ((("optimizer.lr", "0.1"),), ())
        ... ]
        >>> group_keys("lr", runs)[3:]
        ['optimizer.lr']
    """
    keys_by_kind = varied_keys()
    if kind in keys_by_kind:
        return [*GROUP_BY, *keys_by_kind[kind]]
    tagged = [run for run in runs if _tag_of(run.name) == kind]
    if not (tagged or kind == PLAIN):
        untagged = f" None of the {len(runs)} runs given has the tag {kind!r}." if runs else ""
        known = [*keys_by_kind, PLAIN]
        raise ConfigError(
            f"There is no dashboard {kind!r}.{near(kind, known)}{untagged} Known: "
            f"{', '.join(known)}; and the first part of the name of any other experiment, "
            f"if its runs are given: mla dashboard {kind} RUNS"
        )
    from mla_lightning.config.compose import CHOICES

    settings = [dict(run.overrides) for run in tagged]
    keys = sorted({key for values in settings for key in values})
    varied = [key for key in keys if len({values.get(key) for values in settings}) > 1]
    choices = {group: f"choices.{choice}" for choice, group in CHOICES.items()}
    names = ["name"] if len({run.name for run in tagged}) > 1 else []
    return list(dict.fromkeys([*GROUP_BY, *names, *(choices.get(key, key) for key in varied)]))


def describe_dashboard(
    kind: str,
    report: Report | None,
    *,
    project: str,
    entity: str | None,
    runs: Sequence[Run] = (),
) -> dict[str, Any]:
    """Describe the dashboard as plain data, without a server.

    Args:
        kind: A kind of report, or the tag of the runs.
        report: Tables at the top of the W&B report; None without runs.
        project: The W&B project.
        entity: The user or team; None for the account's default.
        runs: The runs; see :func:`group_keys`.

    Returns:
        The content of ``dashboard.json``: project, entity, filter and keys of the runs,
        ``workspace`` with sections of panels, and ``report`` with blocks.

    Raises:
        ConfigError: If ``kind`` is neither a kind of report nor the tag of a run.

    Example:
        >>> spec = describe_dashboard("table1", None, project="my_project", entity=None)
        >>> spec["filter"], spec["workspace"]["sections"][0]["name"]
        ("Tags() in ['table1']", 'Accuracy')
    """
    group_by = group_keys(kind, runs)
    tasks = sorted({run.task for run in runs if run.is_finished}) or [""]
    sections = [_score_section(task) for task in tasks]
    ablations = [panel for task in tasks for panel in _ablation_panels(task)]
    sections.append(
        {
            "name": "Ablations",
            "about": "Effect of each component of a method: runs grouped by ablation only.",
            "panels": ablations,
        }
    )
    on_page_only = []
    for shown in _panels_of(tasks):
        charts = [line_panel(shown.title, regex) for regex in shown.curves]
        charts += [table_panel(shown.title, key) for key in shown.tables]
        if charts:
            sections.append({"name": shown.title, "about": shown.reading, "panels": charts})
        else:
            on_page_only.append(shown.title)
    groups = ", ".join(f"`{key}`" for key in group_by)
    about = f"Runs of the experiments `{kind}/*`, grouped by {groups}; bands over seeds."
    if kind == PLAIN:
        about = f"Plain runs, of no experiment, grouped by {groups}; bands over each group's runs."
        about += "" if runs else f" By the settings that differ, too: `mla dashboard {kind} RUNS`."
    blocks: list[dict[str, Any]] = [{"type": "markdown", "text": about}]
    if report is not None:
        blocks.append({"type": "markdown", "text": to_markdown(report, [])})
    for section in sections:
        blocks.append({"type": "heading", "text": section["name"]})
        if section.get("about"):
            blocks.append({"type": "markdown", "text": str(section["about"])})
        blocks.append({"type": "panels", "panels": section["panels"]})
    titles = ", ".join(on_page_only)
    text = f"Only on the page of `mla report page`, which is drawn from the run folders: {titles}"
    blocks.append({"type": "markdown", "text": text})
    title = f"mla_lightning: {kind}"
    return {
        "project": project,
        "entity": entity,
        "filter": f"Tags() in ['{kind}']",
        "group_by": group_by,
        "workspace": {"name": title, "sections": sections},
        "report": {"title": title, "blocks": blocks},
    }


def _score_section(task: str) -> dict[str, Any]:
    """Describe the panels of a task's primary metric."""
    metric, column = primary_metric(task), primary_of(task).column
    name, unit = metric.label, metric.axis_unit if metric.lower_is_better else ""
    return {
        "name": f"{name[0].upper()}{name[1:]}{unit}",
        "panels": [
            line_panel(f"Validation {name}, multi", rf"^val/{column}$"),
            line_panel(f"Validation {name} by modality", rf"^val/{column}/.*"),
            bar_panel(f"Test {name}, multi", f"result.test.multi.{metric.name}"),
            bar_panel("Seconds per epoch", "epoch_time_s"),
            line_panel("Training loss, the sum of all", rf"^{TRAIN_LOSS.rstrip('/')}$"),
        ],
    }


def _ablation_panels(task: str) -> Iterator[dict[str, Any]]:
    metric, column = primary_metric(task), primary_of(task).column
    end = "multi, by ablation"
    yield bar_panel(f"Test {metric.label}, {end}", f"result.test.multi.{metric.name}", ABLATION)
    if task != REGRESSION:
        yield bar_panel(f"Macro F1, {end}", "result.test.multi.macro_f1", ABLATION)
    yield line_panel(f"Validation {metric.label}, {end}", rf"^val/{column}$", ABLATION)


def _panels_of(tasks: Sequence[str]) -> Iterator[Panel]:
    """Yield the panels of the page that are defined for the tasks, each once."""
    for panel in panels():
        versions = [shown for task in tasks if (shown := panel.for_task(task)) is not None]
        if versions:
            curves = dict.fromkeys(regex for shown in versions for regex in shown.curves)
            tables = dict.fromkeys(key for shown in versions for key in shown.tables)
            yield replace(versions[0], curves=tuple(curves), tables=tuple(tables))


def line_panel(title: str, regex: str, by: str | None = None) -> dict[str, Any]:
    """Describe a panel of curves over epochs, with mean and standard deviation of each group.

    Args:
        title: Title of the panel.
        regex: Regular expression of the metrics.
        by: Config key by which its runs are grouped; None for the keys of the dashboard.

    Returns:
        The panel as plain data.

    Example:
        >>> line_panel("Validation accuracy", "^val/acc$", by="choices.ablation")["group_by"]
        'choices.ablation'
    """
    panel = {"type": "line", "title": title, "metrics": regex, "x": EPOCH, "band": "stddev"}
    return panel if by is None else panel | {"group_by": by}


def bar_panel(title: str, metric: str, by: str | None = None) -> dict[str, Any]:
    """Describe a panel of bars with the mean of a summary value in each group.

    Example:
        >>> bar_panel("Epochs", "best_epoch")
        {'type': 'bar', 'title': 'Epochs', 'metrics': 'best_epoch'}
    """
    panel = {"type": "bar", "title": title, "metrics": metric}
    return panel if by is None else panel | {"group_by": by}


def table_panel(title: str, key: str) -> dict[str, Any]:
    """Describe a panel with a table that each run logs.

    Example:
        >>> table_panel("Confusion", "tables/confusion")["type"]
        'table'
    """
    return {"type": "table", "title": title, "metrics": key}


def write_dashboard(
    kind: str,
    report: Report | None,
    *,
    project: str,
    entity: str | None,
    output: Path,
    is_online: bool,
    runs: Sequence[Path] = (),
) -> int:
    """Write ``dashboard.json``, and optionally save the dashboard on the server.

    Prints a warning if the panels do not show some runs of the table.

    Args:
        kind: A kind of report, or the tag of the runs.
        report: Tables at the top of the W&B report; None without runs.
        project: The W&B project.
        entity: The user or team; None for the account's default.
        output: The JSON file.
        is_online: Whether to save the dashboard on the server.
        runs: Sources of the table: run folders, folders above them, or tables of results.

    Returns:
        0, or 1 if the server did not accept the dashboard; the file is written in any case.

    Raises:
        ConfigError: If ``kind`` is neither a kind of report nor the tag of a run.
    """
    import json

    from mla_lightning.report.read.run_folders import read_runs
    from mla_lightning.run_folder import write_text

    all_runs = read_runs(runs) if runs else []
    spec = describe_dashboard(kind, report, project=project, entity=entity, runs=all_runs)
    output.parent.mkdir(parents=True, exist_ok=True)
    write_text(output, json.dumps(spec, indent=1) + "\n")
    num = sum(len(section["panels"]) for section in spec["workspace"]["sections"])
    print(f"Wrote {output}: {num} panels in {len(spec['workspace']['sections'])} sections.")
    print(_warning_about_tags(kind, [run.name for run in all_runs]), end="")
    if not is_online:
        print("Save it on the server: the same command with --online (and `wandb login` before).")
        return 0
    try:
        addresses = save_online(spec)
    except Exception as error:  # errors of the server or the library
        reason = str(error).strip().partition("\n")[0]
        print(f"W&B did not accept it ({type(error).__name__}: {reason}). It is in {output}.")
        return 1
    print("\n".join(addresses))
    return 0


def _tag_of(name: str) -> str:
    """Return the tag of an experiment's runs: the first part of its name."""
    return name.partition("/")[0]


def _warning_about_tags(kind: str, names: Sequence[str]) -> str:
    """Return a warning about runs that the filter by tag leaves out; empty if there are none."""
    tags = Counter(map(_tag_of, names))
    others = [
        f"{num} tagged {tag!r}" if tag else f"{num} without a tag"
        for tag, num in tags.items()
        if tag != kind
    ]
    if not others:
        return ""
    return (
        f"Warning: the panels show runs tagged {kind!r} only, which is the first part of their "
        f"experiment's name; of the {len(names)} runs given they leave out {', '.join(others)}.\n"
    )
