"""Sheets of samples: of every class of a store, and of chosen samples of a split."""

import numpy as np
import pytest
from PIL import Image

from mla_lightning.data.prepared import Prepared
from mla_lightning.data.splits import NamedSplit, stratified
from mla_lightning.data.store import write_store
from mla_lightning.errors import ConfigError
from mla_lightning.prepare import sample_sheet as module
from mla_lightning.prepare.chosen_samples import chosen_samples
from mla_lightning.prepare.sample_sheet import class_sheet

NUM = 24


@pytest.fixture
def store(tmp_path):
    """Write a store with a modality of each kind; the text of the first sample is absent."""
    rng = np.random.default_rng(0)
    label = np.arange(NUM) % 2
    write_store(
        tmp_path / "store",
        name="toy",
        class_names=("a", "b"),
        ids=[f"s{n:02d}" for n in range(NUM)],
        label=label,
        arrays={
            "image": rng.integers(0, 256, (NUM, 3, 8, 8), dtype=np.uint8),
            "visual": rng.integers(0, 256, (NUM, 9, 3, 8, 8), dtype=np.uint8),
            "audio": rng.normal(size=(NUM, 16, 8)).astype(np.float16),
            "text": rng.integers(1, 9, (NUM, 4)),
            "vector": rng.normal(size=(NUM, 5)).astype(np.float32),
        },
        kinds={
            "image": "image",
            "visual": "frames",
            "audio": "spectrogram",
            "text": "tokens",
            "vector": "features",
        },
        splits={"own": NamedSplit(stratified([str(v) for v in label], (0.5, 0.25, 0.25), 0), "x")},
        present={"text": np.arange(NUM) > 0},
    )
    return tmp_path / "store"


@pytest.fixture
def figures(monkeypatch):
    """Collect the figures as they are written."""
    drawn = []
    save = module.save_sheet

    def collect(figure, output, **options):
        drawn.append(figure)
        return save(figure, output, **options)

    monkeypatch.setattr(module, "save_sheet", collect)
    return drawn


def write_words(folder, num_classes, per_class=5, *, long=False):
    """Write a store with a text and a sequence of few time steps, with long names if wanted."""
    num, rng = num_classes * per_class, np.random.default_rng(0)
    names = [f"{'a long name of a class ' * 6 * long}{number:03d}" for number in range(num_classes)]
    write_store(
        folder,
        name="words",
        class_names=names,
        ids=[f"{'recording_' * 8 * long}{number:04d}" for number in range(num)],
        label=np.arange(num) % num_classes,
        arrays={
            "caption": np.ones((num, 4), int),
            "steps": rng.normal(size=(num, 6, 10)).astype("f4"),
        },
        kinds={"caption": "tokens", "steps": "features"},
        attributes={"caption": ["a longer sentence of words " * 20 + "$5"] * num},
        splits={"own": NamedSplit(np.arange(num) % 3, "x")},
    )
    return folder


def is_inside(box, outer):
    low, high = box.get_points()
    return bool((outer.get_points()[0] <= low).all() and (high <= outer.get_points()[1]).all())


def boxes(texts):
    return [text.get_window_extent() for text in texts]


@pytest.mark.parametrize("per_class", [1, 4, 11])
def test_no_label_of_a_class_sheet_is_cut_or_covered(tmp_path, figures, per_class):
    folder = write_words(tmp_path / "words", 3, per_class=12, long=True)
    class_sheet(folder, tmp_path / "sheet.png", per_class=per_class)
    for figure in figures:
        labels = boxes(figure.texts)
        assert len(labels) >= 2 + per_class
        for number, label in enumerate(labels):
            assert is_inside(label, figure.bbox)
            assert not label.count_overlaps(labels[number + 1 :])
            assert not label.count_overlaps([axis.bbox for axis in figure.axes])
        for axis in figure.axes:
            for text in boxes(axis.texts):
                assert is_inside(text, axis.bbox)


def test_many_classes_are_on_several_pages_that_fit_a_screen(tmp_path, figures, capsys):
    sheet = class_sheet(write_words(tmp_path / "words", 9), tmp_path / "sheet.png")
    headings = [text.get_text() for figure in figures for text in figure.texts]
    assert all(f"{number:03d} (5 samples)" in headings for number in range(9))
    pages = [sheet, *(tmp_path / f"sheet-{number}.png" for number in range(2, len(figures) + 1))]
    assert sorted(tmp_path.glob("*.png")) == sorted(pages)
    assert len(pages) > 1
    for page in pages:
        with Image.open(page) as image:
            assert image.width <= 1700
            assert image.height <= 1000
    assert f"sheet-{len(figures)}.png" in capsys.readouterr().out


def test_a_class_sheet_has_the_text_of_the_modality_and_time_to_the_right(tmp_path, figures):
    folder = write_words(tmp_path / "words", 2)
    class_sheet(folder, tmp_path / "sheet.png", per_class=1)
    caption, steps, *_ = figures[0].axes
    assert caption.texts[0].get_text().startswith("a longer sentence of words")
    assert steps.images[0].get_array().shape == (10, 6)


@pytest.mark.parametrize(
    ("task", "names", "label", "headings"),
    [
        (
            "regression",
            (),
            np.arange(20) / 2,
            {"target 0 to 1.5 (4 samples)", "target 8 to 9.5 (4 samples)"},
        ),
        (
            "multilabel",
            ("cat", "dog"),
            np.arange(20)[:, None] % 4 >> np.arange(2) & 1,
            {"cat (10 samples)", "dog (10 samples)", "none of the labels (5 samples)"},
        ),
    ],
)
def test_a_sheet_has_parts_of_a_target_or_several_labels(
    tmp_path, figures, task, names, label, headings
):
    write_store(
        tmp_path / "store",
        name="toy",
        class_names=names,
        ids=[f"s{n:02d}" for n in range(20)],
        label=label,
        arrays={"vector": np.ones((20, 3), np.float32)},
        kinds={"vector": "features"},
        splits={"own": NamedSplit(np.arange(20) % 3, "x")},
        task=task,
    )
    class_sheet(tmp_path / "store", tmp_path / "sheet.png", per_class=2)
    texts = {text.get_text() for figure in figures for text in figure.texts}
    assert headings <= texts
    targets = {f"s{n:02d} = {n / 2:.3g} ({('train', 'val', 'test')[n % 3]})" for n in range(20)}
    assert len(texts & targets) == (10 if task == "regression" else 0)


def test_a_class_sheet_draws_every_kind_of_a_store(store, figures, tmp_path):
    class_sheet(store, tmp_path / "sheet.png", per_class=2)
    assert sum(len(figure.axes) for figure in figures) == 2 * 2 * 5
    with Image.open(tmp_path / "sheet.png") as image:
        assert len(np.unique(np.asarray(image))) > 20


def test_a_sample_sheet_draws_every_kind_of_a_store(store, tmp_path):
    data = Prepared(path=store, batch_size=4)
    data.setup()
    numbers = range(len(data.splits["train"]))
    sheet = chosen_samples(
        data, "train", numbers, [[("right", True)]] * len(numbers), tmp_path / "x.png"
    )
    with Image.open(sheet) as image:
        assert len(np.unique(np.asarray(image))) > 20


def test_a_sheet_that_cannot_be_written_is_an_error(store, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="cannot be written"):
        class_sheet(store, tmp_path / "file" / "sheet.png")
