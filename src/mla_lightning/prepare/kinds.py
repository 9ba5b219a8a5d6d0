"""Kinds of the columns of a table, and the endings of files of each."""

from __future__ import annotations

from mla_lightning.media import endings

#: Kind of media, as :mod:`mla_lightning.media.endings` names it -> kind of a column.
_MEDIA = {"image": "image", "drawing": "drawing", "audio": "sound", "video": "film"}
#: Ending of a file -> kind of a column.
ENDINGS = {
    **{ending: _MEDIA[kind] for ending, kind in endings.KINDS.items()},
    ".txt": "text",
    **dict.fromkeys((".npy", ".npz", ".pt", ".pth"), "features"),
}
#: Kind -> what training reads.
USES = {
    "image": "pixels",
    "drawing": "pixels of a drawing",
    "sound": "a log-mel spectrogram",
    "film": "frames",
    "text": "token ids",
    "features": "a feature vector",
    "sequence": "a sequence of feature vectors",
    "category": "a one-hot code in the modality tabular",
    "number": "a value in the modality tabular",
    "ignore": "nothing",
}
KINDS = tuple(USES)
#: Kinds that become one modality together.
TABULAR = ("number", "category")
#: Kinds whose cells are always paths of files.
FILE_KINDS = ("image", "drawing", "sound", "film")
#: Kind of a column that the user must decide on.
UNCLEAR = "unclear"
