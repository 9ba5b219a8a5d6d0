"""The verb ``mla data``: prepare, check, list, show, import, embed and copy data sets."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mla_lightning.cli.data_import import run_import
from mla_lightning.cli.data_stores import (
    DATA_DIR,
    list_copies,
    manifest_of,
    print_splits,
    print_vocabulary,
    task_named_in,
    train_on,
)
from mla_lightning.cli.words import arguments_for, check_no_options, convert, split_words
from mla_lightning.errors import ConfigError, DataError, check_number, near
from mla_lightning.paths import command, path_override
from mla_lightning.prepare.catalogue import CatalogueEntry, read_catalogue
from mla_lightning.run_folder import not_world_writable

ACTIONS = ("prepare", "check", "list", "show", "import", "embed", "scratch")
HELP = """\
actions:
  prepare NAME raw=DIR [target=DIR] [on_bad=skip] [jobs=N] [OPTION=VALUE ...]
                  convert the official files to a store. It is written to data/NAME, to the
                  folder target=, or with paths.data_dir=DIR (as in training) to DIR/NAME;
                  raw= is a folder of the files, an archive, or a folder of archives
  check NAME|DIR  compare every byte of a store with its manifest
  list            list the data sets, their sources, and which are prepared
  show NAME|DIR [output=FILE.png] [per_class=4] [seed=0]
                  draw samples of every class
  import FILE target=DIR [--plan] [OPTION=VALUE ...]
                  convert a table (CSV, Parquet, JSON lines), a folder of images by class, an .npz
                  file or a folder of .npy files to a store; --plan prints what was understood and
                  writes nothing. All options: mla data import --help
  embed target=DIR data=NAME [encoder=NAME] [ckpt=FILE] [batch_size=64] [device=cpu] [OVERRIDE ...]
                  compute the features of frozen encoders and write them to a store, for fast
                  training. Overrides are those of mla train; ckpt= is a checkpoint of a run with
                  these encoders
  scratch DIR [--remove]
                  list the copies of stores that data.scratch=DIR made on this machine; --remove
                  removes those that no process uses

examples:
  mla data list
  mla data prepare cremad raw=/download/CREMA-D
  mla data prepare cremad raw=/download/CREMA-D.zip on_bad=skip target=/big/cremad jobs=8
  mla data check cremad
  mla data show data/cremad output=cremad.png
  mla data import my.csv --plan
  mla data import my.csv target=data/my
  mla data embed target=data/food101_hf data=food101 encoder=hf_image_text device=cuda
  mla train data=store data.path=data/food101_hf
  mla data prepare openmoji                          rebuild the arrays in the package
  mla data prepare openmoji output=/tmp/openmoji.npz

If a preparation is interrupted or killed, the same command continues it.
exit codes: 0 finished, 1 failed, 2 invalid command, 3 invalid data, 130 interrupted
"""


def run(action: str, words: Sequence[str]) -> int:
    """Run an action.

    Args:
        action: One of :data:`ACTIONS`.
        words: The words after it.

    Returns:
        The exit code.

    Raises:
        ConfigError: If the command is wrong.
        DataError: If the data are missing or damaged.

    Example:
        >>> run("lst", [])
        Traceback (most recent call last):
        mla_lightning.errors.ConfigError: mla data has no action 'lst'. Did you mean 'list'? ...
    """
    actions: Mapping[str, Callable[[Sequence[str]], int]] = {
        "prepare": _prepare,
        "check": _check,
        "list": _list,
        "show": _show,
        "import": run_import,
        "embed": _embed,
        "scratch": list_copies,
    }
    if action not in actions:
        raise ConfigError(
            f"mla data has no action {action!r}.{near(action, actions)} "
            f"Known: {', '.join(actions)}. See `mla data --help`."
        )
    with not_world_writable():
        return actions[action](words)


# ---------------------------------------------------------------------- actions


def _prepare(words: Sequence[str]) -> int:
    name, options = split_words(words, "prepare", "NAME")
    known = read_catalogue()
    if name not in known:
        raise ConfigError(
            f"Unknown data set {name!r}.{near(name, known)} Known: {', '.join(known)}. "
            "Run `mla data list` to see them all."
        )
    entry = known[name]
    module = importlib.import_module(entry.module)
    if not entry.class_name:
        arguments = arguments_for(module.build, options, f"mla data prepare {name}")
        print(f"Wrote {module.build(**arguments)}")
        return 0
    from mla_lightning.prepare.engine import check_on_bad, prepare

    if "target" in options and "paths.data_dir" in options:
        raise ConfigError("target and paths.data_dir both set the folder of the store; give one")
    data_dir = convert(options.pop("paths.data_dir", str(DATA_DIR)), Path, "paths.data_dir")
    target = convert(options.pop("target", str(data_dir / name)), Path, "target")
    on_bad = options.pop("on_bad", "stop")
    check_on_bad(on_bad)
    jobs = convert(options.pop("jobs"), int, "jobs") if "jobs" in options else None
    source = _make_source(getattr(module, entry.class_name), entry, options)
    folder = prepare(source, target, on_bad=on_bad, jobs=jobs)
    print_splits(folder)
    places = [path_override("data.path", folder)] if folder != DATA_DIR / name else []
    if folder == data_dir / name != DATA_DIR / name:
        places = [path_override("paths.data_dir", data_dir)]
    print(
        f"Show samples: {command('mla', 'data', 'show', folder)}\n"
        f"Train: {command('mla', 'train', f'data={name}', *places)}"
    )
    return 0


def _make_source(cls: Any, entry: CatalogueEntry, options: Mapping[str, str]) -> Any:
    """Construct a source; unpack archives if its files do not exist outside of them."""
    from mla_lightning.prepare.archives import (
        find_archives,
        is_archive,
        is_unfinished,
        unpack_archives,
    )

    also = ("target", "on_bad", "jobs")
    arguments = arguments_for(
        cls.__init__,
        options,
        f"mla data prepare {entry.name}",
        also=also,
        hint=entry.how_to_get,
    )
    raw = arguments.get("raw")
    if raw is None:
        return cls(**arguments)
    if not raw.exists():
        raise DataError(f"raw={raw} does not exist. {entry.how_to_get}")
    if is_archive(raw):
        return cls(**{**arguments, "raw": unpack_archives(raw)})
    if not raw.is_dir():
        raise DataError(f"raw={raw} is neither a folder nor an archive. {entry.how_to_get}")
    if is_unfinished(raw):
        return cls(**{**arguments, "raw": unpack_archives(raw)})
    try:
        source = cls(**arguments)
        source.items()
    except DataError:
        if not find_archives(raw):
            raise
        return cls(**{**arguments, "raw": unpack_archives(raw)})
    return source


def _check(words: Sequence[str]) -> int:
    name, options = split_words(words, "check", "NAME|DIR")
    check_no_options(options, "check")
    from mla_lightning.data.store import verify_store

    folder = _store_folder(name)
    problems = verify_store(folder)
    if problems:
        listed = "\n".join(f"  {problem}" for problem in problems)
        raise DataError(
            f"{folder} differs from its manifest:\n{listed}\n"
            f"Remove it and prepare it again: {command('rm', '-r', folder)}"
        )
    manifest = manifest_of(folder)
    num_arrays, num_failures = len(manifest["arrays"]), len(manifest.get("failures", ()))
    facts = [f"{num_arrays} arrays", *filter(None, [task_named_in(folder)])]
    facts += [f"{num_failures} failures recorded"] if num_failures else []
    print(f"{folder}: {manifest['name']} matches its manifest ({', '.join(facts)})")
    print_vocabulary(folder)
    return 0


def _list(words: Sequence[str]) -> int:
    if words:
        raise ConfigError(f"mla data list takes no arguments, got {' '.join(words)!r}")
    known = read_catalogue()
    width = max(len(name) for name in known) + 2
    for name, entry in known.items():
        print(f"{name:<{width}}{entry.summary}")
        if entry.how_to_get:
            print(f"{'':<{width}}{entry.how_to_get}")
        if entry.class_name:
            print(f"{'':<{width}}{_format_state(DATA_DIR / name)}")
    folders = DATA_DIR.iterdir() if DATA_DIR.is_dir() else ()
    names = sorted({path.name.removesuffix(".partial") for path in folders if path.is_dir()})
    for name in names:
        if name not in known and not (state := _format_state(DATA_DIR / name)).startswith("not"):
            print(f"{name:<{width}}{state}")
    return 0


def _format_state(folder: Path) -> str:
    """Return whether a store is prepared, for people."""
    if (folder / "manifest.json").exists():
        task = task_named_in(folder)
        return f"prepared: {folder}" + (f" ({task})" if task else "")
    if folder.with_name(folder.name + ".partial").exists():
        remove = command("rm", "-r", folder.with_name(folder.name + ".partial"))
        verb = "prepare" if folder.name in read_catalogue() else "import"
        return (
            f"unfinished: {folder}.partial; the same `mla data {verb}` continues it, and "
            f"{remove} removes it"
        )
    return f"not prepared in {folder}"


def _show(words: Sequence[str]) -> int:
    name, options = split_words(words, "show", "NAME|DIR")
    from mla_lightning.prepare.sample_sheet import class_sheet

    folder = _store_folder(name)
    options.setdefault("output", f"{folder.resolve().name}.png")
    arguments = arguments_for(class_sheet, options, "mla data show", skip=("store",))
    print(f"Wrote {class_sheet(folder, **arguments)}")
    print_vocabulary(folder)
    return 0


def _embed(words: Sequence[str]) -> int:
    from mla_lightning.config import plan
    from mla_lightning.config.jobs import data_of_config
    from mla_lightning.data.prepared import Prepared
    from mla_lightning.prepare.embed import MAX_BATCH_SIZE, embed_store
    from mla_lightning.run.build import build_encoders
    from mla_lightning.run.evaluate import load_encoders
    from mla_lightning.run_folder.config import RunConfig

    keys = ("target", "ckpt", "batch_size", "device")
    overrides = [word for word in words if word.partition("=")[0] not in keys]
    options = {key: text for key, _, text in (word.partition("=") for word in words) if key in keys}
    if "target" not in options:
        raise ConfigError("target is missing: mla data embed target=DIR data=NAME encoder=NAME")
    batch_size = convert(options.get("batch_size", "64"), int, "batch_size")
    check_number("batch_size", batch_size, 1, MAX_BATCH_SIZE)
    tree = plan(overrides)[0].config
    if tree["missing"]:
        raise ConfigError(
            "missing has no effect on mla data embed: all modalities of every sample are encoded"
        )
    data = data_of_config(tree)
    if not isinstance(data, Prepared):
        raise ConfigError(
            f"data={tree['choices']['data']} is not a prepared store; see `mla data list`"
        )
    target = convert(options["target"], Path, "target")
    encoders = build_encoders(RunConfig.from_tree(tree), data)
    state = None
    if "ckpt" in options:
        state = load_encoders(encoders, Path(options["ckpt"]).expanduser())
    device = options.get("device", "cpu")
    embed_store(data, target, encoders, batch_size, device=device, state=state)
    print(f"Train: {train_on(target)}")
    return 0


def _store_folder(name: str) -> Path:
    """Return the folder of a store.

    Args:
        name: The name of its data set, or the folder.

    Raises:
        DataError: If there is no finished store.
    """
    candidates = [Path(name)] if "/" in name else [DATA_DIR / name, Path(name)]
    for folder in candidates:
        if (folder / "manifest.json").exists():
            return folder
    for folder in candidates:
        if folder.with_name(folder.name + ".partial").exists():
            raise DataError(f"{folder} is not finished; the same `mla data prepare` continues it")
    known = read_catalogue()
    if name in known and known[name].class_name:
        raise DataError(f"{candidates[0]} is not prepared yet: mla data prepare {name} raw=DIR")
    stores = [path.parent.name for path in DATA_DIR.glob("*/manifest.json")]
    raise DataError(
        f"No store in {' or '.join(map(str, candidates))}.{near(name, [*stores, *known])} "
        "See `mla data list`."
    )
