"""Sizes of the media and lengths of the texts and sequences of a table, which fit its files."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from mla_lightning.errors import reason_of
from mla_lightning.media.base import BadMedia, Extractor, FileInput, TextInput
from mla_lightning.media.embedded import EmbeddedFiles, in_order
from mla_lightning.media.feature_files import features_shape, file_shape
from mla_lightning.media.survey import MAX_FILES, Survey, survey, survey_texts

#: Kind of a column -> the options that its extractor has.
OPTIONS: Mapping[str, tuple[str, ...]] = {
    "image": ("size",),
    "drawing": ("size",),
    "sound": ("num_frames",),
    "film": ("size", "num_segments"),
    "text": ("length",),
}
#: Values where nothing can be read from the files, such as of drawings, which have no pixels.
DEFAULTS = {"size": 224, "num_frames": 1024, "num_segments": 3, "length": 64}
#: Kind of a column -> kind of media, as the survey names it.
MEDIA = {"image": "image", "sound": "audio", "film": "video"}


def extractor_of(
    kind: str, options: Mapping[str, Any], tokenizer: Path | bytes | None = None
) -> Extractor:
    """Return the extractor of a column of media, texts or files of features.

    Args:
        kind: Kind of the column.
        options: Its options, as :func:`fit` returns them.
        tokenizer: The vocabulary of texts, or the content of a learnt one; None for hashed tokens.

    Example:
        >>> extractor_of("sound", {"num_frames": 50}).shape
        (50, 128)
    """
    from mla_lightning.media.audio import LogMel
    from mla_lightning.media.drawing import Drawing
    from mla_lightning.media.feature_files import FeatureFile
    from mla_lightning.media.image import Image
    from mla_lightning.media.text import Tokens
    from mla_lightning.media.video import Frames

    make: dict[str, Any] = {
        "image": partial(Image, exif="apply"),
        "drawing": Drawing,
        "sound": partial(LogMel, channels="mean", padding="silence"),
        "film": partial(Frames, rotation="apply"),
        "text": partial(Tokens, tokenizer=tokenizer),
        "features": FeatureFile,
        "sequence": FeatureFile,
    }
    extractor: Extractor = make[kind](**options)
    return extractor


def fit(
    kind: str,
    cells: Sequence[FileInput | TextInput],
    folder: Path,
    chosen: Mapping[str, int | None],
    tokenizer: Path | bytes | None = None,
) -> Survey:
    """Return the options of a column's extractor: those that are given, or those that fit.

    Args:
        kind: Kind of the column.
        cells: Its cells of train that are not empty.
        folder: The folder of its files.
        chosen: Option -> the value that the user gave, None for none.
        tokenizer: The vocabulary of texts, or the content of a learnt one; None for hashed tokens.

    Returns:
        A value for each option of the kind (``shape`` of files of features), and sentences on what
        was fitted.

    Raises:
        BadMedia: If most files of features have another number of axes.

    Example:
        >>> texts = [TextInput("a dog"), TextInput("a small dog barks")]
        >>> fit("text", texts, Path(), {"length": None})
        Survey(options={'length': 17}, sentences=('texts of 5 to 17 tokens, all kept whole',))
        >>> fit("text", texts, Path(), {"length": 4})
        Survey(options={'length': 4}, sentences=())
        >>> fit("drawing", [], Path(), {"size": None}).options
        {'size': 224}
    """
    with tempfile.TemporaryDirectory() as scratch:
        files = EmbeddedFiles(folder, Path(scratch))
        return _fit(kind, cells, files, chosen, tokenizer)


def _fit(
    kind: str,
    cells: Sequence[FileInput | TextInput],
    files: EmbeddedFiles,
    chosen: Mapping[str, int | None],
    tokenizer: Path | bytes | None,
) -> Survey:
    inputs = [cell for cell in cells if isinstance(cell, FileInput)]
    if kind in ("features", "sequence"):
        return _features(inputs, files, kind)
    names = OPTIONS.get(kind, ())
    given = {name: value for name in names if (value := chosen.get(name)) is not None}
    if len(given) == len(names):
        return Survey(given)
    if kind == "text":
        proposal = _texts(cells, files.raw, tokenizer)
    else:
        proposal = survey(in_order(inputs), MEDIA.get(kind, ""), files.path_of)
    options = {name: DEFAULTS[name] for name in names} | proposal.options | given
    return Survey(options, () if given else proposal.sentences)


def _features(inputs: Sequence[FileInput], files: EmbeddedFiles, kind: str) -> Survey:
    """Return the shape of files of features; those of another width are left to the import."""
    step = -(-len(inputs) // MAX_FILES) or 1
    shapes, problems = [], []
    for file_input in in_order(inputs[::step]):
        try:
            with files.path_of(file_input) as path:
                shapes.append(file_shape(path))
        except (BadMedia, OSError) as error:  # the import names it
            name = PurePosixPath(file_input.place).name
            problems.append(f"{name}: {reason_of(error, files.raw / file_input.path)}")
    if problems and not shapes:
        raise BadMedia(f"holds files of features of which none can be read; {problems[0]}")
    if kind == "features":
        shapes = [shape[-1:] if shape[:-1] == (1,) else shape for shape in shapes]
    num_axes = 2 if kind == "sequence" else 1
    if not inputs:
        return Survey({"shape": (1,) * num_axes})
    usable = [shape for shape in shapes if len(shape) == num_axes and 0 not in shape]
    if 2 * len(usable) < len(shapes) or not usable:
        other = next((shape for shape in shapes if len(shape) != num_axes), None)
        example = f", such as {other}" if other else ""
        expected, remedy = ("(T, D)", "features") if kind == "sequence" else ("(D,)", "sequence")
        raise BadMedia(f"holds files that are not of shape {expected}{example}; try KIND={remedy}")
    ((width, _),) = Counter(shape[-1] for shape in usable).most_common(1)
    shape = features_shape([shape for shape in usable if shape[-1] == width], kind)
    if kind == "features":
        return Survey({"shape": shape}, (f"vectors of {width} numbers",))
    lengths = [shape[0] for shape in usable]
    num_cut = sum(steps > shape[0] for steps in lengths)
    cut = f"; {100 * num_cut / len(lengths):.1f} % are cut" if num_cut else ""
    sentence = (
        f"sequences of {min(lengths)} to {max(lengths)} steps of {width} numbers, padded to "
        f"{shape[0]} steps{cut}"
    )
    return Survey({"shape": shape}, (sentence,))


def _texts(
    cells: Sequence[FileInput | TextInput], folder: Path, tokenizer: Path | bytes | None
) -> Survey:
    from mla_lightning.media.text import Tokens

    tokens = Tokens(tokenizer=tokenizer, length=1)
    step = -(-len(cells) // (10 * MAX_FILES)) or 1
    counts = []
    for cell in cells[::step]:
        try:
            counts.append(tokens.count(folder, cell))
        except BadMedia:  # the import names it
            continue
    result = survey_texts(counts)
    if step > 1 and result.sentences:
        note = f"counted in {len(counts):,} of {len(cells):,} texts"
        result = Survey(result.options, (*result.sentences, note))
    return result
