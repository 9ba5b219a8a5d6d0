"""The page's panels as a Weights & Biases workspace and report, made by code."""

from __future__ import annotations

import importlib
import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mla_lightning.errors import ConfigError, near
from mla_lightning.report.document.render import to_markdown
from mla_lightning.report.document.table import Report
from mla_lightning.report.figures.panels import panels
from mla_lightning.report.read.run import Run
from mla_lightning.report.tables.kinds import varied_keys

#: Runs are grouped by these keys of their config, whatever the dashboard.
GROUP_BY = ("choices.data", "choices.method", "choices.ablation")
ABLATION = "choices.ablation"
SPEC = "dashboard.json"


def _flat_key(name: str) -> str:
    """Spell a key as the server keeps it: runs upload dotted keys, not nested ones."""
    return f"{name}.value"


def group_keys(kind: str, runs: Sequence[Run] = ()) -> list[str]:
    """Return the config keys that the runs of a dashboard are grouped by.

    Args:
        kind: A kind of report, or the tag of the runs: the first part of the name of their
            experiment.
        runs: The runs. Where ``kind`` is a tag, the settings that differ between its runs are
            keys, and so is the experiment's name where there are several.

    Returns:
        Keys without duplicates, such as ``choices.method`` and ``optimizer.lr``.

    Raises:
        ConfigError: If ``kind`` is no kind of report and no run has it as a tag.

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
    known = varied_keys()
    if kind in known:
        return [*GROUP_BY, *known[kind]]
    tagged = [run for run in runs if _tag_of(run.name) == kind]
    if not tagged:
        untagged = f" None of the {len(runs)} runs given has the tag {kind!r}." if runs else ""
        raise ConfigError(
            f"There is no dashboard {kind!r}.{near(kind, known)}{untagged} Known: "
            f"{', '.join(known)}; and the first part of the name of any other experiment, "
            f"if its runs are given: mla dashboard {kind} RUNS"
        )
    from mla_lightning.config.compose import CHOICES

    settings = [dict(run.overrides) for run in tagged]
    keys = sorted({key for values in settings for key in values})
    varied = [key for key in keys if len({values.get(key) for values in settings}) > 1]
    options = {group: f"choices.{choice}" for choice, group in CHOICES.items()}
    names = ["name"] if len({run.name for run in tagged}) > 1 else []
    return list(dict.fromkeys([*GROUP_BY, *names, *(options.get(key, key) for key in varied)]))


def dashboard(
    kind: str,
    report: Report | None,
    *,
    project: str,
    entity: str | None,
    runs: Sequence[Run] = (),
) -> dict[str, Any]:
    """Describe the dashboard, without asking any server.

    Args:
        kind: A kind of report, or the tag of the runs.
        report: The table, for the report's first part; None where nothing was run yet.
        project: The W&B project.
        entity: The user or team; None for the account's own.
        runs: What :func:`group_keys` takes.

    Returns:
        JSON-able: ``workspace`` with sections of panels, ``report`` with blocks, and where to.

    Raises:
        ConfigError: If there is no such kind, and no run with this tag.
    """
    group_by = group_keys(kind, runs)
    sections: list[dict[str, Any]] = [
        {
            "name": "Accuracy",
            "panels": [
                line("Validation accuracy, multi", r"^val/acc$"),
                line("Validation accuracy by modality", r"^val/acc/.*"),
                bar("Test accuracy, multi", "result.test.multi.accuracy"),
                bar("Seconds per epoch", "epoch_time_s"),
            ],
        }
    ]
    sections.append(
        {
            "name": "Ablations",
            "about": "What each part of a method is worth: runs grouped by ablation alone.",
            "panels": [
                bar("Test accuracy, multi, by ablation", "result.test.multi.accuracy", ABLATION),
                bar("Macro F1, multi, by ablation", "result.test.multi.macro_f1", ABLATION),
                line("Validation accuracy, multi, by ablation", r"^val/acc$", ABLATION),
            ],
        }
    )
    for shown in panels():
        charts = [line(shown.title, regex) for regex in shown.curves]
        charts += [table(shown.title, key) for key in shown.tables]
        if charts:
            sections.append({"name": shown.title, "about": shown.reading, "panels": charts})
    groups = ", ".join(f"`{key}`" for key in group_by)
    about = f"Runs of the experiments `{kind}/*`, grouped by {groups}; bands over seeds."
    blocks: list[dict[str, Any]] = [{"type": "markdown", "text": about}]
    if report is not None:
        blocks.append({"type": "markdown", "text": to_markdown(report, [])})
    for section in sections:
        blocks.append({"type": "heading", "text": section["name"]})
        if section.get("about"):
            blocks.append({"type": "markdown", "text": str(section["about"])})
        blocks.append({"type": "panels", "panels": section["panels"]})
    elsewhere = ", ".join(shown.title for shown in panels() if not (shown.curves or shown.tables))
    text = f"On the page of `mla report page` alone, which draws from the run folders: {elsewhere}"
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


def line(title: str, regex: str, by: str | None = None) -> dict[str, Any]:
    """Describe curves over steps: the mean of each group, a band of its deviation."""
    found = {"type": "line", "title": title, "metrics": regex, "x": "Step", "band": "stddev"}
    return found if by is None else found | {"group_by": by}


def bar(title: str, metric: str, by: str | None = None) -> dict[str, Any]:
    """Describe bars of a summary number: the mean of each group."""
    found = {"type": "bar", "title": title, "metrics": metric}
    return found if by is None else found | {"group_by": by}


def table(title: str, key: str) -> dict[str, Any]:
    """Describe a table that each run logs."""
    return {"type": "table", "title": title, "metrics": key}


def models_of(spec: dict[str, Any]) -> tuple[Any, list[Any]]:
    """Build the library's workspace, and the report's panels by section.

    Args:
        spec: What :func:`dashboard` describes.

    Returns:
        A ``wandb_workspaces.workspaces.Workspace``, and a list of panels for each block of panels.
    """
    ws = _library("workspaces")

    sections = [
        ws.Section(
            name=section["name"],
            panels=[_panel(panel) for panel in section["panels"]],
            is_open=True,
        )
        for section in spec["workspace"]["sections"]
    ]
    workspace = ws.Workspace(
        entity=spec["entity"] or "",
        project=spec["project"],
        name=spec["workspace"]["name"],
        sections=sections,
        runset_settings=ws.RunsetSettings(
            filters=spec["filter"],
            groupby=[ws.Config(_flat_key(key)) for key in spec["group_by"]],
        ),
    )
    panels = [
        [_panel(panel) for panel in block["panels"]]
        for block in spec["report"]["blocks"]
        if block["type"] == "panels"
    ]
    return workspace, panels


def save_online(spec: dict[str, Any]) -> list[str]:
    """Save workspace and report on the server.

    Args:
        spec: What :func:`dashboard` describes.

    Returns:
        Their addresses.
    """
    wr = _library("reports.v2")

    workspace, panels = models_of(spec)
    groups = iter(panels)
    runs = {
        "entity": spec["entity"] or "",  # none: the account's own
        "project": spec["project"],
        "groupby": [f"config.{_flat_key(key)}" for key in spec["group_by"]],
        "filters": spec["filter"],
    }
    blocks: list[Any] = []
    for block in spec["report"]["blocks"]:
        if block["type"] == "markdown":
            blocks.append(wr.MarkdownBlock(block["text"]))
        elif block["type"] == "heading":
            blocks.append(wr.H2(block["text"]))
        else:
            blocks.append(wr.PanelGrid(runsets=[wr.Runset(**runs)], panels=next(groups)))
    workspace.save()
    report = wr.Report(
        project=spec["project"],
        entity=spec["entity"] or "",
        title=spec["report"]["title"],
        blocks=blocks,
    )
    report.save()
    return [str(workspace.url), str(report.url)]


def _library(part: str) -> Any:
    """Import a part of wandb-workspaces without its advice on a library of its own."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return importlib.import_module(f"wandb_workspaces.{part}")


def _panel(panel: dict[str, Any]) -> Any:
    wr = _library("reports.v2")

    by = _flat_key(panel["group_by"]) if "group_by" in panel else None
    if panel["type"] == "line":
        return wr.LinePlot(
            title=panel["title"],
            x=panel["x"],
            metric_regex=panel["metrics"],
            groupby=by,
            groupby_aggfunc="mean",
            groupby_rangefunc="stddev",
        )
    if panel["type"] == "bar":
        return wr.BarPlot(
            title=panel["title"], metrics=[panel["metrics"]], groupby=by, groupby_aggfunc="mean"
        )
    return wr.WeavePanelSummaryTable(table_name=panel["metrics"])


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
    """Write the specification, and save it on the server if that is asked for.

    Warns where some of the table's runs are not among those that the panels show.

    Args:
        kind: A kind of report, or the tag of the runs.
        report: The table; None where nothing was run yet.
        project: The W&B project.
        entity: The user or team.
        output: The JSON file.
        is_online: Whether to ask the server.
        runs: What the table was made from: run folders, folders above them, or tables.

    Returns:
        0, or 1 where the server did not take it; the file is written in any case.

    Raises:
        ConfigError: If there is no such kind, and no run with this tag.
    """
    import json

    from mla_lightning.report.read.run_folders import read_runs
    from mla_lightning.run_folder import write_text

    all_runs = read_runs(runs) if runs else []
    spec = dashboard(kind, report, project=project, entity=entity, runs=all_runs)
    output.parent.mkdir(parents=True, exist_ok=True)
    write_text(output, json.dumps(spec, indent=1) + "\n")
    num = sum(len(section["panels"]) for section in spec["workspace"]["sections"])
    print(f"Wrote {output}: {num} panels in {len(spec['workspace']['sections'])} sections.")
    print(_without_tag(kind, [run.name for run in all_runs]), end="")
    if not is_online:
        print("Save it on the server: the same command with --online (and `wandb login` before).")
        return 0
    try:
        addresses = save_online(spec)
    except Exception as error:  # whatever the server or the library says
        reason = str(error).strip().partition("\n")[0]
        print(f"W&B did not take it ({type(error).__name__}: {reason}). The file holds all of it.")
        return 1
    print("\n".join(addresses))
    return 0


def _tag_of(name: str) -> str:
    """Return the tag of an experiment's runs: the first part of its name."""
    return name.partition("/")[0]


def _without_tag(kind: str, names: Sequence[str]) -> str:
    """Say which runs the filter by tag leaves out; nothing where it leaves out none."""
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
