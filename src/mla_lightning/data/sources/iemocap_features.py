"""IEMOCAP as features that projects on missing modalities publish."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from mla_lightning.data.sources.base import Item, Source
from mla_lightning.data.sources.iemocap import session_splits
from mla_lightning.data.sources.iemocap_layouts import Features, Utterance, read_gcnet, read_mmin
from mla_lightning.data.splits import TEST, TRAIN, VAL, NamedSplit
from mla_lightning.errors import ConfigError, DataError, near
from mla_lightning.media.base import ArrayInput, Extractor
from mla_lightning.media.sequences import Sequences
from mla_lightning.media.values import Values

_ID = re.compile(r"(?P<dialog>Ses0(?P<session>[1-5])[FM]_\w+)_(?P<speaker>[FM])X*\d+")
#: Layout -> reader, and modality -> path of its features in the project.
LAYOUTS: dict[str, tuple[Callable[..., Features], dict[str, str]]] = {
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
    """IEMOCAP's utterances as published features: GCNet's .npy folders or MMIN's .h5 files.

    ``audio``, ``image`` and ``text``: one vector per utterance, (D,) float32, or with ``pool=none``
    a sequence of frames or words, (T, D), with zeros at the end. GCNet's pooled features are
    wav2vec (512), MA-Net (1024) and DeBERTa (1024); MMIN's sequences are ComParE (130 per frame),
    DenseFace (342 per frame) and BERT-large (1024 per token).
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
        """Set the options.

        Args:
            raw: The folder.
            layout: ``gcnet`` or ``mmin``.
            audio: Folder (gcnet) or file (mmin) of the audio features below raw.
            image: Folder or file of the image features.
            text: Folder or file of the text features.
            pool: ``mean`` for one vector per utterance, ``none`` for sequences; by default
                ``mean`` for gcnet and ``none`` for mmin, as in the projects.
            fold: For mmin: one of its ten folds. The audio is standardised with that fold's
                ``comparE_mean_std.h5`` and the fold is the only split. By default the audio is
                standardised utterance by utterance, the project's other option, and the splits are
                by session.
            max_steps: Largest number of steps; longer sequences are cut at the end. By default the
                longest one sets the length.
            label_order: For mmin: the emotions of the columns of its label files. Its code does not
                state the order. These are only names; no accuracy depends on them.

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
        _, default_paths = LAYOUTS[layout]
        paths = {"audio": audio, "image": image, "text": text}
        for name, path in paths.items():
            if path and (Path(path).is_absolute() or ".." in Path(path).parts):
                raise ConfigError(f"{name}={path} must be a path below raw, such as x.h5 or a/b")
        self.paths = {name: paths[name] or default for name, default in default_paths.items()}
        self.default_split = "session5" if fold is None else f"fold{fold}"
        self._features: Features | None = None
        self._num_cut: dict[str, int] = {}

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
        self._features = read(self.raw, self.paths, fold=self.fold, labels=order)
        items = []
        for id_, utterance in sorted(self._features.utterances.items()):
            match = _ID.fullmatch(id_)
            if match is None:
                raise DataError(f"{self.raw}: {id_!r} is not named like Ses01F_impro01_F000")
            attributes = {
                "session": match["session"],
                "dialog": match["dialog"],
                "speaker": match["session"] + match["speaker"],
            }
            inputs = {name: ArrayInput(value) for name, value in self._values(utterance).items()}
            items.append(Item(id_, utterance.label, inputs, attributes))
        return items

    def extractors(self) -> Mapping[str, Extractor]:
        """Return the extractor of each modality, with its width and, unless pooled, its length."""
        if self._features is None:
            self.items()
        assert self._features is not None
        extractors: dict[str, Extractor] = {}
        for name in self.modalities:
            steps = [u.steps[name] for u in self._features.utterances.values() if name in u.steps]
            width = steps[0].shape[1]
            if self.pool == "mean":
                extractors[name] = Values((width,))
                continue
            longest = max(len(values) for values in steps)
            length = min(longest, self.max_steps or longest)
            self._num_cut[name] = sum(len(values) > length for values in steps)
            extractors[name] = Sequences(length, width, cut=length < longest)
        return extractors

    def splits(self, items: Sequence[Item]) -> Mapping[str, NamedSplit]:
        """Divide by session, or by the chosen fold.

        Args:
            items: The utterances.

        Returns:
            ``session1`` to ``session5`` as in :class:`IEMOCAP`, or only ``fold<n>``.
        """
        assert self._features is not None
        if self.fold is not None:
            code_of = {"trn": TRAIN, "val": VAL, "tst": TEST}
            codes = [code_of[self._features.utterances[item.id].split] for item in items]
            description = f"MMIN's fold {self.fold}, with its own validation split."
            return {f"fold{self.fold}": NamedSplit(np.array(codes, dtype=np.int8), description)}
        splits = session_splits(items)
        if not splits:
            raise DataError(
                f"{self.raw}: all utterances are of one session; nothing is left to test"
            )
        self.default_split = "session5" if "session5" in splits else next(iter(splits))
        return splits

    def options(self) -> dict[str, Any]:
        """Return the options that change the items, and the numbers of sequences that are cut."""
        return {
            "layout": self.layout,
            "places": dict(self.paths),
            "pool": self.pool,
            "fold": self.fold,
            "cut": dict(self._num_cut),
            "label_order": list(self.label_order),
        }

    def label_files(self) -> list[Path]:
        """Return the files of labels."""
        return [] if self._features is None else list(self._features.label_files)

    def _values(self, utterance: Utterance) -> dict[str, np.ndarray]:
        if self.pool == "none":
            return dict(utterance.steps)
        return {name: values.mean(axis=0) for name, values in utterance.steps.items()}
