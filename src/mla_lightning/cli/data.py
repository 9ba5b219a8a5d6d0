"""``mla data``: prepare, check, list, show, import and embed data sets."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mla_lightning.cli.words import converted, name_and_options, options_for, refuse_options
from mla_lightning.errors import ConfigError, DataError, near
from mla_lightning.prepare.catalogue import CatalogueEntry, read_catalogue

ACTIONS = ("prepare", "check", "list", "show", "import", "embed")
#: Where stores lie below the current folder, as in conf/paths/default.yaml.
DATA_DIR = Path("data")
HELP = """\
actions:
  prepare NAME raw=DIR [target=DIR] [on_bad=skip] [jobs=N] [OPTION=VALUE ...]
                  read the official files into a store, data/NAME unless target= says otherwise
                  (or paths.data_dir=DIR, as in training, for DIR/NAME);
                  raw= is their folder, or an archive, or a folder with archives
  check NAME|DIR  compare a store with its manifest, every byte of it
  list            data sets: what they are, how to get them, whether they are prepared
  show NAME|DIR [output=FILE.png] [per_class=4] [seed=0]
                  draw samples of every class
  import FILE target=DIR [OPTION=VALUE ...]
                  make a store from a CSV file, an .npz file or a folder of .npy files
  embed target=DIR data=NAME [encoder=NAME] [ckpt=FILE] [batch_size=64] [device=cpu] [OVERRIDE ...]
                  make a store of the features that encoders give without being trained further;
                  training on it costs little. Overrides are those of mla train; ckpt= is a
                  checkpoint of a run with these encoders.

examples:
  mla data list
  mla data prepare cremad raw=/download/CREMA-D
  mla data prepare cremad raw=/download/CREMA-D.zip on_bad=skip target=/big/cremad jobs=8
  mla data check cremad
  mla data show data/cremad output=cremad.png
  mla data import my.csv target=data/my
  mla data embed target=data/food101_hf data=food101 encoder=hf_image_text device=cuda
  mla train data=store data.path=data/food101_hf
  mla data prepare openmoji                          rebuild the arrays that the package ships
  mla data prepare openmoji output=/tmp/openmoji.npz

A preparation that was interrupted or killed goes on where it was with the same command.
exit codes: 0 done, 1 failed, 2 wrong command, 3 wrong data, 130 interrupted
"""


def run(action: str, words: Sequence[str]) -> int:
    """Run an action.

    Args:
        action: One of :data:`ACTIONS`.
        words: What follows it.

    Returns:
        The exit code.

    Raises:
        ConfigError: If the command is wrong.
        DataError: If the data are.
    """
    actions: Mapping[str, Callable[[Sequence[str]], int]] = {
        "prepare": _prepare,
        "check": _check,
        "list": _list,
        "show": _show,
        "import": _import,
        "embed": _embed,
    }
    if action not in actions:
        raise ConfigError(
            f"mla data has no action {action!r}.{near(action, actions)} "
            f"Known: {', '.join(actions)}. See `mla data --help`."
        )
    return actions[action](words)


# ---------------------------------------------------------------------- actions


def _prepare(words: Sequence[str]) -> int:
    name, given = name_and_options(words, "prepare", "NAME")
    known = read_catalogue()
    if name not in known:
        raise ConfigError(
            f"Nothing to prepare by the name {name!r}.{near(name, known)} "
            f"Known: {', '.join(known)}."
        )
    entry = known[name]
    module = importlib.import_module(entry.module)
    if not entry.class_name:
        options = options_for(module.build, given, f"mla data prepare {name}")
        print(f"Wrote {module.build(**options)}")
        return 0
    from mla_lightning.prepare.engine import prepare

    how = {key: given.pop(key) for key in ("target", "on_bad", "jobs") if key in given}
    if "target" in how and "paths.data_dir" in given:
        raise ConfigError("target and paths.data_dir both say where the store goes; give one")
    data_dir = Path(given.pop("paths.data_dir", str(DATA_DIR))).expanduser()
    target = Path(how["target"]).expanduser() if "target" in how else data_dir / name
    jobs = converted(how["jobs"], int, "jobs") if "jobs" in how else None
    source = _source(getattr(module, entry.class_name), entry, given)
    folder = prepare(source, target, on_bad=how.get("on_bad", "stop"), jobs=jobs)
    _print_splits(folder)
    elsewhere = f" data.path={folder}" if folder != DATA_DIR / name else ""
    if folder == data_dir / name != DATA_DIR / name:
        elsewhere = f" paths.data_dir={data_dir}"
    print(f"Look at it: mla data show {folder}\nTrain on it: mla train data={name}{elsewhere}")
    return 0


def _source(made_by: Any, entry: CatalogueEntry, given: dict[str, str]) -> Any:
    """Construct a source, from archives where the files themselves are not there."""
    from mla_lightning.prepare.archives import (
        find_archives,
        is_archive,
        is_unfinished,
        unpack_archives,
    )

    command = f"mla data prepare {entry.name}"
    also = ("target", "on_bad", "jobs")
    options = options_for(made_by.__init__, given, command, also=also, hint=entry.how_to_get)
    raw = options.get("raw")
    if raw is None:
        return made_by(**options)
    if not raw.exists():
        raise DataError(f"raw={raw} does not exist. {entry.how_to_get}")
    if is_archive(raw):
        return made_by(**{**options, "raw": unpack_archives(raw)})
    if not raw.is_dir():
        raise DataError(f"raw={raw} is neither a folder nor an archive. {entry.how_to_get}")
    if is_unfinished(raw):
        return made_by(**{**options, "raw": unpack_archives(raw)})
    try:
        source = made_by(**options)
        source.items()
    except DataError:
        if not find_archives(raw):
            raise
        return made_by(**{**options, "raw": unpack_archives(raw)})
    return source


def _print_splits(folder: Path) -> None:
    manifest = _manifest(folder)
    for name, split in manifest["splits"].items():
        sizes = "/".join(str(size) for size in split["sizes"])
        mark = " (default)" if name == manifest["default_split"] else ""
        print(f"split {name}{mark}: {sizes} train/val/test. {split['description']}")
        for attribute, shared in split.get("overlap", {}).items():
            if shared["num"]:
                print(f"  train and test share {shared['num']} values of {attribute}")


def _check(words: Sequence[str]) -> int:
    name, given = name_and_options(words, "check", "NAME|DIR")
    refuse_options(given, "check")
    from mla_lightning.data.store import verify_store

    folder = _store_folder(name)
    faults = verify_store(folder)
    if faults:
        listed = "\n".join(f"  {fault}" for fault in faults)
        raise DataError(
            f"{folder} is not what its manifest says:\n{listed}\n"
            f"Remove it and prepare it again: rm -r {folder}"
        )
    manifest = _manifest(folder)
    failures = len(manifest.get("failures", ()))
    left_out = f", {failures} failures recorded" if failures else ""
    print(f"{folder}: {manifest['name']} is whole ({len(manifest['arrays'])} arrays{left_out})")
    return 0


def _list(words: Sequence[str]) -> int:
    if words:
        raise ConfigError(f"mla data list takes nothing, got {' '.join(words)!r}")
    known = read_catalogue()
    width = max(len(name) for name in known) + 2
    for name, entry in known.items():
        print(f"{name:<{width}}{entry.summary}")
        if entry.how_to_get:
            print(f"{'':<{width}}{entry.how_to_get}")
        if entry.class_name:
            print(f"{'':<{width}}{_state(DATA_DIR / name)}")
    return 0


def _state(folder: Path) -> str:
    if (folder / "manifest.json").exists():
        return f"prepared: {folder}"
    if folder.with_name(folder.name + ".partial").exists():
        return f"begun: {folder}.partial; the same command goes on"
    return f"not prepared in {folder}"


def _show(words: Sequence[str]) -> int:
    name, given = name_and_options(words, "show", "NAME|DIR")
    from mla_lightning.prepare.sample_sheet import class_sheet

    folder = _store_folder(name)
    given.setdefault("output", f"{folder.resolve().name}.png")
    options = options_for(class_sheet, given, "mla data show", skip=("store",))
    print(f"Wrote {class_sheet(folder, **options)}")
    return 0


def _import(words: Sequence[str]) -> int:
    name, given = name_and_options(words, "import", "FILE")
    from mla_lightning.prepare.import_arrays import import_arrays
    from mla_lightning.prepare.import_table import import_csv

    path = Path(name)
    if not path.exists():
        raise DataError(f"{path} does not exist. Give a .csv or .npz file, or a folder of .npy")
    if path.suffix.lower() in {".csv", ".tsv"}:
        function: Callable[..., Any] = import_csv
    elif path.is_dir() or path.suffix.lower() == ".npz":
        function = import_arrays
    else:
        raise ConfigError(f"{path}: a .csv or .npz file, or a folder of .npy files is imported")
    if "target" not in given:
        raise ConfigError(f"target is missing: mla data import {name} target=data/NAME")
    folder = function(
        path, **options_for(function, given, f"mla data import {name}", skip=("path",))
    )
    folder = folder if isinstance(folder, Path) else Path(given["target"])
    if not _manifest(folder)["class_names"]:
        print(
            f"Samples without labels. Look at them: mla data show {folder}\n"
            f"Predict them: mla predict RUN data.path={folder}"
        )
        return 0
    _print_splits(folder)
    from mla_lightning.prepare.store_config import write_config

    conf = write_config(folder)
    (made,) = (conf / "data").glob("*.yaml")
    print(
        f"Look at it: mla data show {folder}\n"
        f"Train on it: mla train data=store data.path={folder}\n"
        f"With encoders of your own: edit {made}, then --config-dir {conf} data={made.stem}"
    )
    return 0


def _embed(words: Sequence[str]) -> int:
    from mla_lightning.config import plan
    from mla_lightning.config.jobs import data_of_config
    from mla_lightning.data.prepared import Prepared
    from mla_lightning.prepare.embed import embed_store
    from mla_lightning.run.build import build_encoders
    from mla_lightning.run.evaluate import load_encoders
    from mla_lightning.run_folder.config import RunConfig

    own = {word.partition("=")[0]: word.partition("=")[2] for word in words}
    how = {key: own[key] for key in ("target", "ckpt", "batch_size", "device") if key in own}
    if "target" not in how:
        raise ConfigError("target is missing: mla data embed target=DIR data=NAME encoder=NAME")
    tree = plan([word for word in words if word.partition("=")[0] not in how])[0].config
    if tree["missing"]:
        raise ConfigError("missing has no effect on mla data embed: every sample is encoded whole")
    data = data_of_config(tree)
    if not isinstance(data, Prepared):
        raise ConfigError(
            f"data={tree['choices']['data']} is no prepared store; mla data list shows which are"
        )
    target = Path(how["target"]).expanduser()
    size = converted(how.get("batch_size", "64"), int, "batch_size")
    encoders = build_encoders(RunConfig.from_tree(tree), data)
    if "ckpt" in how:
        load_encoders(encoders, Path(how["ckpt"]).expanduser())
    embed_store(data, target, encoders, size, device=how.get("device", "cpu"))
    print(f"Train on it: mla train data=store data.path={target}")
    return 0


def _store_folder(name: str) -> Path:
    """Find a store by its name or folder."""
    tried = [Path(name)] if "/" in name else [DATA_DIR / name, Path(name)]
    for folder in tried:
        if (folder / "manifest.json").exists():
            return folder
    for folder in tried:
        if folder.with_name(folder.name + ".partial").exists():
            raise DataError(
                f"{folder} is not finished; start its `mla data prepare` again, it goes on"
            )
    known = read_catalogue()
    if name in known and known[name].class_name:
        raise DataError(f"{tried[0]} is not prepared yet: mla data prepare {name} raw=DIR")
    stores = [path.parent.name for path in DATA_DIR.glob("*/manifest.json")]
    raise DataError(
        f"No store in {' or '.join(map(str, tried))}.{near(name, [*stores, *known])} "
        "See `mla data list`."
    )


def _manifest(folder: Path) -> dict[str, Any]:
    try:
        manifest: dict[str, Any] = json.loads(
            (folder / "manifest.json").read_text(encoding="utf-8")
        )
    except ValueError as error:
        raise DataError(f"{folder}/manifest.json is broken: {error}") from error
    return manifest
