"""Reads W&B's offline files: blocks of 32 KiB with records of protocol buffers."""

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HEADER, BLOCK = 7, 32_768
WHOLE, LAST = 1, 4


def records_of(path: Path) -> Iterator[Any]:
    from wandb.proto import wandb_internal_pb2

    data, at, parts = path.read_bytes(), HEADER, b""
    while at + HEADER <= len(data):
        if (left := BLOCK - at % BLOCK) < HEADER:
            at += left
            continue
        _, length, kind = struct.unpack("<IHB", data[at : at + HEADER])
        parts += data[at + HEADER : at + HEADER + length]
        at += HEADER + length
        if kind in (WHOLE, LAST):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(parts)
            parts = b""
            yield record


def offline_files(run_dir: Path) -> list[Path]:
    return sorted(run_dir.glob("wandb/offline-run-*/*.wandb"))


def rows_of(run_dir: Path) -> list[dict[str, Any]]:
    """All attempts' rows, in the order of the attempts."""
    return [
        {
            item.key or "/".join(item.nested_key): json.loads(item.value_json)
            for item in r.history.item
        }
        for path in offline_files(run_dir)
        for r in records_of(path)
        if r.WhichOneof("record_type") == "history"
    ]


def records_named(run_dir: Path, kind: str) -> list[Any]:
    return [
        getattr(record, kind)
        for path in offline_files(run_dir)
        for record in records_of(path)
        if record.WhichOneof("record_type") == kind
    ]
