"""IEMOCAP's features as the projects for missing modalities hand them out."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from mla_lightning.data.sources.base import Item, Source
from mla_lightning.data.sources.iemocap import SESSIONS
from mla_lightning.data.sources.iemocap_layouts import Layout, Utterance, read_gcnet, read_mmin
from mla_lightning.data.splits import TEST, TRAIN, VAL, NamedSplit, with_validation
from mla_lightning.errors import ConfigError, DataError, near
from mla_lightning.media.base import ArrayInput, Extractor
from mla_lightning.media.sequences import Sequences
from mla_lightning.media.values import Values

_ID = re.compile(r"(?P<dialog>Ses0(?P<session>[1-5])[FM]_\w+)_(?P<speaker>[FM])X*\d+")
#: Layout -> reader, and modality -> where its features are, as the projects name them.
LAYOUTS: dict[str, tuple[Callable[..., Layout], dict[str, str]]] = {
    "gcnet": (
        read_gcnet,
        {
            "audio": "features/wav2vec-large-c-UTT",
            "image": "features/manet_UTT",
            "text": "features/deberta-large-4-UTT",
        },
    ),
    "mmin": (
        read_mmin,
        {"audio": "A/comparE.h5", "image": "V/denseface.h5", "text": "L/bert_large.h5"},
    ),
}
POOLS = ("mean", "none")


class IEMOCAPFeatures(Source):
    """IEMOCAP's utterances as features made by others: GCNet's .npy folders or MMIN's .h5 files.

    ``audio``, ``image`` and ``text``: one vector per utterance, (D,) float32, or with ``pool=none``
    a sequence of frames or words, (T, D), zeros at the end. GCNet's pooled features are wav2vec
    (512), MA-Net (1024) and DeBERTa (1024); MMIN's sequences ComParE (130 per frame), DenseFace
    (342 per frame) and BERT-large (1024 per token).
    """

    name = "iemocap_features"
    class_names = ("Angry", "Happy", "Neutral", "Sad")
    modalities = ("audio", "image", "text")
    how_to_get: ClassVar[str] = (
        "From the authors of GCNet (raw= holds features/ and IEMOCAP_features_raw_4way.pkl; "
        "layout=gcnet) or of MMIN (raw= holds A/, V/, L/ and target/; layout=mmin), after USC's "
        "form for IEMOCAP; or make such files with your own networks."
    )

    def __init__(
        self,
        raw: Path,
        layout: Literal["gcnet", "mmin"] = "gcnet",
        audio: str | None = None,
        image: str | None = None,
        text: str | None = None,
        pool: str | None = None,
        fold: int | None = None,
        max_steps: int | None = None,
        label_order: tuple[str, ...] = ("Angry", "Happy", "Neutral", "Sad"),
    ) -> None:
        """Choose what is read.

        Args:
            raw: The folder.
            layout: ``gcnet`` or ``mmin``.
            audio: Folder (gcnet) or file (mmin) of the audio features below raw.
            image: The same of the image features.
            text: The same of the text features.
            pool: ``mean`` for one vector per utterance, ``none`` for sequences; by default
                ``mean`` for gcnet and ``none`` for mmin, as the projects have it.
            fold: For mmin: one of its ten folds. The audio is standardised with that fold's
                ``comparE_mean_std.h5`` and the fold is the only split. By default the audio is
                standardised utterance by utterance, the project's other way, and the splits are by
                session.
            max_steps: Longer sequences lose their end; by default the longest one sets the length.
            label_order: For mmin: the emotions of the columns of its label files. Not written down
                in its code; names only, no accuracy depends on it.

        Raises:
            ConfigError: If a value is unknown or would have no effect.
        """
        super().__init__(raw)
        if layout not in LAYOUTS:
            raise ConfigError(
                f"layout {layout!r} is unknown.{near(layout, LAYOUTS)} Known: {', '.join(LAYOUTS)}."
            )
        self.layout, self.fold, self.max_steps = layout, fold, max_steps
        self.pool = pool or ("mean" if layout == "gcnet" else "none")
        if self.pool not in POOLS:
            raise ConfigError(f"pool must be mean or none, got {pool!r}.{near(self.pool, POOLS)}")
        if self.pool == "mean" and max_steps is not None:
            raise ConfigError("max_steps has no effect with pool=mean; leave one of them out")
        if max_steps is not None and max_steps < 1:
            raise ConfigError(f"max_steps must be at least 1, got {max_steps}")
        if sorted(label_order) != sorted(self.class_names):
            raise ConfigError(f"label_order must be an order of {', '.join(self.class_names)}")
        self.label_order = tuple(label_order)
        if layout == "gcnet" and (fold is not None or self.label_order != self.class_names):
            raise ConfigError("fold and label_order have no effect with layout=gcnet")
        _, places = LAYOUTS[layout]
        given = {"audio": audio, "image": image, "text": text}
        self.places = {name: given[name] or place for name, place in places.items()}
        self.default_split = "session5" if fold is None else f"fold{fold}"
        self._read: Layout | None = None
        self._cuts: dict[str, int] = {}

    def items(self) -> list[Item]:
        """Read all utterances.

        Returns:
            The utterances, sorted by name.

        Raises:
            DataError: If a file is missing or broken, or files disagree about an utterance.
        """
        assert self.raw is not None
        read, _ = LAYOUTS[self.layout]
        order = self.class_names if self.layout == "gcnet" else self.label_order
        self._read = read(self.raw, self.places, fold=self.fold, labels=order)
        items = []
        for id_, utterance in sorted(self._read.utterances.items()):
            match = _ID.fullmatch(id_)
            if match is None:
                raise DataError(f"{self.raw}: {id_!r} is not named like Ses01F_impro01_F000")
            about = {
                "session": match["session"],
                "dialog": match["dialog"],
                "speaker": match["session"] + match["speaker"],
            }
            parts = {name: ArrayInput(value) for name, value in self._values(utterance).items()}
            items.append(Item(id_, utterance.label, parts, about))
        return items

    def extractors(self) -> Mapping[str, Extractor]:
        """Tell how each modality is read: its width, and its length unless pooled."""
        if self._read is None:
            self.items()
        assert self._read is not None
        found: dict[str, Extractor] = {}
        for name in self.modalities:
            steps = [u.steps[name] for u in self._read.utterances.values() if name in u.steps]
            width = steps[0].shape[1]
            if self.pool == "mean":
                found[name] = Values((width,))
                continue
            longest = max(len(values) for values in steps)
            length = min(longest, self.max_steps or longest)
            self._cuts[name] = sum(len(values) > length for values in steps)
            found[name] = Sequences(length, width, cut=length < longest)
        return found

    def splits(self, items: Sequence[Item]) -> Mapping[str, NamedSplit]:
        """Divide by session, or by the fold that is chosen.

        Args:
            items: The utterances.

        Returns:
            ``session1`` to ``session5`` as for IEMOCAP itself, or ``fold<n>`` alone.
        """
        assert self._read is not None
        labels = [item.label for item in items]
        if self.fold is not None:
            codes = {"trn": TRAIN, "val": VAL, "tst": TEST}
            where = [codes[self._read.utterances[item.id].part] for item in items]
            about = f"MMIN's fold {self.fold}, with its own validation part."
            return {f"fold{self.fold}": NamedSplit(np.array(where, dtype=np.int8), about)}
        sessions = np.array([item.attributes["session"] for item in items])
        dialogs = [item.attributes["dialog"] for item in items]
        found = {}
        for session in SESSIONS:
            part = np.where(sessions == session, TEST, TRAIN).astype(np.int8)
            if not (part == TEST).any() or not (part == TRAIN).any():
                continue
            found[f"session{session}"] = NamedSplit(
                with_validation(part, labels, groups=dialogs),
                f"Session {session} is the test: no speaker is in train and test. Validation is "
                "about a tenth of the other sessions, whole dialogues.",
            )
        if not found:
            raise DataError(
                f"{self.raw}: all utterances are of one session; nothing is left to test"
            )
        self.default_split = "session5" if "session5" in found else next(iter(found))
        return found

    def options(self) -> dict[str, Any]:
        """Spell what changes the items, and how many sequences lose their end."""
        return {
            "layout": self.layout,
            "places": dict(self.places),
            "pool": self.pool,
            "fold": self.fold,
            "cut": dict(self._cuts),
            "label_order": list(self.label_order),
        }

    def label_files(self) -> list[Path]:
        """Name the files of labels."""
        return [] if self._read is None else list(self._read.label_files)

    def _values(self, utterance: Utterance) -> dict[str, np.ndarray]:
        if self.pool == "none":
            return dict(utterance.steps)
        return {name: values.mean(axis=0) for name, values in utterance.steps.items()}
