"""The action ``mla data import``: data of one's own -> a store."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mla_lightning.cli.data_stores import manifest_of, print_splits, train_on, train_on_splits
from mla_lightning.cli.words import arguments_for, convert, split_words
from mla_lightning.errors import ConfigError, DataError
from mla_lightning.paths import command, name_problem, path_override

#: Number of samples that were left out that are listed after an import.
MAX_LISTED = 20
SOURCES = (
    "a .csv or .npz file, or a folder of .npy files; or a .tsv, .parquet or .jsonl file, a folder "
    "of media by class, or a saved Hugging Face data set"
)
#: Ending of a file that cannot be imported -> what to do with it.
REMEDIES = {
    **dict.fromkeys((".xlsx", ".xls", ".ods"), "export it as CSV (UTF-8); "),
    ".json": "write one JSON object per line, and name it .jsonl; ",
    **dict.fromkeys((".pkl", ".pickle", ".p"), "load it where you trust it, and save it as .npz; "),
    **dict.fromkeys((".h5", ".hdf5", ".mat"), "save its arrays with np.savez; "),
    **dict.fromkeys((".pt", ".pth"), "save its tensors as arrays with np.savez; "),
    **dict.fromkeys((".arrow", ".feather"), "write it as .parquet; "),
    **dict.fromkeys((".zip", ".tar", ".gz", ".tgz", ".7z"), "unpack it; "),
    ".npy": "it is one array: put it into a folder with the others; ",
}
HELP = """\
usage: mla data import FILE target=DIR [--plan] [OPTION=VALUE ...]

Convert data of your own to a store. FILE is one of

  a table        .csv, .tsv, .parquet, or .jsonl (.ndjson), one row per sample
  a folder       of media by class: FOLDER/class/file, or FOLDER/train|val|test/class/file;
                 FOLDER/file with labels=none
  a data set     of Hugging Face, as save_to_disk writes it (Dataset or DatasetDict), or a folder
                 of Parquet files as on the Hub: train-00000-of-00002.parquet, ...
  arrays         .npz, or a folder of .npy files, one array per modality

What was understood is printed before the work starts: a line per column or array with its kind, the
reason, examples or ranges, and warnings (what may give the label away, constant columns, rows of
zeros, values far from the others). Columns of tables that may leak the class or mean nothing
(numbers, dates, identifiers, speakers) are left out unless you name their kind.

options of all imports:
  --plan            print the plan and write nothing     mla data import my.csv --plan
  target=DIR        folder of the store                  target=data/my
  name=NAME         name of the data set                 name=pets
  labels=none       samples without labels, to predict   labels=none
  task=TASK         what the labels are, which is never guessed; without it, classes
                    regression: a number per sample, in its own unit; ordered classes that are
                    numbers, such as ratings, too        task=regression
                    multilabel: any number of labels per sample, see label=
                                                         task=multilabel
                    classification: classes, also where they look like numbers or lists
  like=DIR          kinds, sizes, categories and classes of a store, so that a run on that store
                    can predict the new samples          like=data/my

options of tables:
  columns.NAME=KIND decides what a column holds          columns.age=number
                    image, drawing, sound, film: paths of files, or the files themselves: bytes in
                    Parquet and data sets of Hugging Face (Image, Audio, Video)
                    text: texts, or paths of .txt files
                    features: lists such as 0.1 0.2 0.3, or paths of .npy, .npz, .pt files
                    sequence: lists of lists, or paths of such files (steps, numbers)
                    number, category: values of one modality, tabular
                    ignore: left out
                    * stands for all columns not named   'columns.*=number'
  label=COLUMN      column of the classes, of the numbers (task=regression), or of all labels of a
                    row (task=multilabel): cells such as sad;angry or sad|angry, or lists such as
                    ["sad", "angry"], which Parquet and JSON lines can hold; [] for no label
                                                         label=emotion
  label=A,B,C       with task=multilabel: a column of 0 and 1 for each label
                                                         label=sad,angry,calm
  id=COLUMN         column of unique names; without one, rows are numbered
                                                         id=clip
  split=COLUMN      column of train, val (or dev, valid, validation) and test; without one,
                    70/10/20 at random within each class split=fold
  split=draw        draws it although the data have one (of all kinds of files)
                                                         split=draw
  group=COLUMN      keep groups in one split             group=speaker
  folds=K           splits fold0, fold1, ... of a cross-validation, by group= if given
                                                         folds=5
  size=N            height and width of images, frames   size=64
  num_frames=N      frames of 10 ms of a sound           num_frames=300
  num_segments=N    frames of a film                     num_segments=5
  length=N          token ids of a text                  length=128
                    without one of these four, it is chosen so that at least 95 % of the files of
                    train are kept whole, up to a bound, and the plan says so
  tokenizer=FILE    vocab.txt, a model folder, or the store of other samples, whose vocabulary is
                    used; without it, words and parts of words are hashed
                                                         tokenizer=bert-base-uncased
  tokenizer=subwords learns a vocabulary of parts of words from the training texts
                                                         tokenizer=subwords
  vocabulary=N      largest number of them, 8000 by default
                                                         vocabulary=4000
  on_bad=skip       leave out rows that cannot be used (a missing or damaged file, an empty label,
                    an empty row); they are listed       on_bad=skip
  jobs=N            number of processes                  jobs=8

options of arrays, which may hold `group`, NAME.present and NAME.lengths besides (docs/store.md);
with task=regression `label` holds numbers (N,), with task=multilabel 0 and 1 (N, L), and
`class_names` the names of the L labels:
  arrays.NAME=KIND  sequence or spectrogram, for floats (N, T, D)
                                                         arrays.sound=spectrogram
  folds=K           as of tables; by the array group if there is one
                                                         folds=5
  on_bad=skip       leave out samples with values that are not finite
                                                         on_bad=skip

examples:
  mla data import my.csv --plan
  mla data import my.csv target=data/my label=emotion group=speaker columns.age=number
  mla data import my.csv target=data/my folds=5
  mla data import my.csv target=data/my task=regression label=sentiment
  mla train -m data=store data.path=data/my data.split=fold0,fold1,fold2,fold3,fold4
  mla data import my.npz target=data/my
  mla data import new.csv target=data/new labels=none like=data/my
"""


def run_import(words: Sequence[str]) -> int:
    """Convert data of one's own to a store.

    Args:
        words: The words after ``mla data import``.

    Returns:
        The exit code.

    Raises:
        ConfigError: If the command is wrong.
        DataError: If the data are.

    Example:
        >>> run_import(["nothing.csv", "target=new"])
        Traceback (most recent call last):
        mla_lightning.errors.DataError: nothing.csv does not exist. ...
    """
    if any(word in ("-h", "--help") for word in words):
        print(HELP, end="")
        return 0
    columns = _options_of("columns", words)
    kinds = _options_of("arrays", words)
    others = [word for word in words if not word.startswith(("columns.", "arrays."))]
    is_plan = "--plan" in others
    name, options = split_words([word for word in others if word != "--plan"], "import", "FILE")
    path = Path(name)
    if not path.exists():
        raise DataError(f"{path} does not exist. Give {SOURCES}")
    function = _function_for(path)
    is_table = function.__name__ == "import_csv"
    example = command("mla", "data", "import", path, "target=data/NAME")
    if "target" not in options and not is_plan:
        raise ConfigError(f"target is missing: {example}")
    options.setdefault("target", f"data/{path.stem}")
    name = options.get("name") or convert(options["target"], Path, "target").name
    if problem := name_problem(name):
        raise ConfigError(f"name={name!r} {problem}. Name the data set: name=NAME")
    words_before = command("mla", "data", "import", path)
    skip = ("path", "columns", "kinds", "plan")
    arguments = arguments_for(function, options, words_before, skip=skip)
    if is_table and kinds:
        raise ConfigError(
            f"arrays.{next(iter(kinds))} has no effect on tables; write columns.NAME=KIND"
        )
    if is_table:
        arguments |= {"columns": columns, "plan": is_plan}
    elif not columns:
        arguments |= {"kinds": kinds, "plan": is_plan}
    else:
        option = f"columns.{next(iter(columns))}"
        raise ConfigError(f"{option} has no effect on arrays; it is for tables. Leave it out")
    function(path, **arguments)
    if is_plan:
        print(f"Nothing was written. To import: {example} and the same options")
        return 0
    _print_result(Path(options["target"]).expanduser())
    return 0


def _function_for(path: Path) -> Callable[..., Any]:
    """Return the function that imports a file or folder."""
    from mla_lightning.prepare.import_arrays import import_arrays
    from mla_lightning.prepare.import_table import import_csv
    from mla_lightning.prepare.table_sources import is_table

    if is_table(path):
        return import_csv
    if path.is_dir() or path.suffix.lower() == ".npz":
        return import_arrays
    remedy = REMEDIES.get(path.suffix.lower(), "")
    raise ConfigError(f"{path} cannot be imported: {remedy}give {SOURCES}")


def _options_of(prefix: str, words: Sequence[str]) -> dict[str, str]:
    """Return the options ``PREFIX.NAME=KIND``: name -> kind."""
    pairs = [word.removeprefix(f"{prefix}.") for word in words if word.startswith(f"{prefix}.")]
    return {name: kind for name, _, kind in (pair.rpartition("=") for pair in pairs)}


def _print_result(folder: Path) -> None:
    """Print what was left out, the splits and the next commands."""
    from mla_lightning.data.manifest import is_labelled

    manifest = manifest_of(folder)
    if failures := manifest.get("failures"):
        print(f"left out: {len({entry['id'] for entry in failures})} samples")
        for entry in failures[:MAX_LISTED]:
            where = ", ".join(filter(None, (entry["id"], entry["modality"], entry["file"])))
            print(f"  {where}: {entry['reason']}")
        if len(failures) > MAX_LISTED:
            print(f"  and {len(failures) - MAX_LISTED} more, in {folder / 'manifest.json'}")
    if not is_labelled(manifest):
        print(
            "The samples have no labels.\n"
            f"Show samples: {command('mla', 'data', 'show', folder)}\n"
            f"Predict: {command('mla', 'predict', 'RUN', path_override('data.path', folder))}"
        )
        return
    print_splits(folder)
    from mla_lightning.prepare.store_config import config_name, write_config

    conf = write_config(folder)
    written = conf / "data" / f"{config_name(manifest['name'])}.yaml"
    every = train_on_splits(folder)
    lines = [
        f"Show samples: {command('mla', 'data', 'show', folder)}",
        f"Train: {train_on(folder)}",
        *([f"Table 1 over all splits: {every}"] if every else []),
        f"Train with other encoders: edit {written}, then "
        f"{command('mla', 'train', '--config-dir', conf, f'data={written.stem}')}",
    ]
    print("\n".join(lines))
