"""Dashboards as objects of ``wandb_workspaces``, and on a W&B server."""

from __future__ import annotations

import importlib
import warnings
from typing import Any


def build_models(spec: dict[str, Any]) -> tuple[Any, list[Any]]:
    """Build the objects of ``wandb_workspaces`` for a dashboard.

    Args:
        spec: A dashboard as :func:`~mla_lightning.publish.wandb_dashboard.describe_dashboard`
            returns it.

    Returns:
        A ``wandb_workspaces.workspaces.Workspace``, and a list of panels for each block of panels
        of the report.
    """
    ws = _import_library("workspaces")
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
        spec: A dashboard as :func:`~mla_lightning.publish.wandb_dashboard.describe_dashboard`
            returns it.

    Returns:
        Their addresses.
    """
    wr = _import_library("reports.v2")
    workspace, panels = build_models(spec)
    panels_of_blocks = iter(panels)
    runs = {
        "entity": spec["entity"] or "",  # empty: the account's default
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
            blocks.append(wr.PanelGrid(runsets=[wr.Runset(**runs)], panels=next(panels_of_blocks)))
    workspace.save()
    report = wr.Report(
        project=spec["project"],
        entity=spec["entity"] or "",
        title=spec["report"]["title"],
        blocks=blocks,
    )
    report.save()
    return [str(workspace.url), str(report.url)]


def _flat_key(name: str) -> str:
    """Return a key of a run's config as the server spells keys with dots."""
    return f"{name}.value"


def _import_library(module: str) -> Any:
    """Import a module of wandb-workspaces without the deprecation warnings of its dependencies."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return importlib.import_module(f"wandb_workspaces.{module}")


def _panel(panel: dict[str, Any]) -> Any:
    wr = _import_library("reports.v2")
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
