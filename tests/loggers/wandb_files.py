"""Reader of W&B's offline files: blocks of 32 KiB with records of protocol buffers."""

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HEADER, BLOCK = 7, 32_768
#: Kinds of chunks that end a record.
WHOLE, LAST = 1, 4


def records_of(path: Path) -> Iterator[Any]:
    from wandb.proto import wandb_internal_pb2

    data, start, content = path.read_bytes(), HEADER, b""
    while start + HEADER <= len(data):
        if (left := BLOCK - start % BLOCK) < HEADER:
            start += left
            continue
        _, length, kind = struct.unpack("<IHB", data[start : start + HEADER])
        content += data[start + HEADER : start + HEADER + length]
        start += HEADER + length
        if kind in (WHOLE, LAST):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(content)
            content = b""
            yield record


def offline_files(run_dir: Path) -> list[Path]:
    return sorted(run_dir.glob("wandb/offline-run-*/*.wandb"))


def rows_of(run_dir: Path) -> list[dict[str, Any]]:
    """Return the rows of all attempts, in the order of the attempts."""
    return [
        {
            item.key or "/".join(item.nested_key): json.loads(item.value_json)
            for item in record.history.item
        }
        for path in offline_files(run_dir)
        for record in records_of(path)
        if record.WhichOneof("record_type") == "history"
    ]


def records_named(run_dir: Path, kind: str) -> list[Any]:
    return [
        getattr(record, kind)
        for path in offline_files(run_dir)
        for record in records_of(path)
        if record.WhichOneof("record_type") == kind
    ]
