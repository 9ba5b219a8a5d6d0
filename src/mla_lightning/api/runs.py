"""Finished runs in Python: settings, numbers, tables, models and predictions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import cached_property
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from mla_lightning.api.process import (
    check_torch_modes,
    evaluation_mode,
    process_settings_restored,
)
from mla_lightning.config.targets import targets_allowed
from mla_lightning.errors import ConfigError, DataError, RunError, check_choice
from mla_lightning.identity.code import forget_code
from mla_lightning.report.document.html import NotebookReport
from mla_lightning.report.main import make_report
from mla_lightning.report.read.results_csv import rows_of
from mla_lightning.report.read.run_folders import read_runs
from mla_lightning.report.tables.kinds import PAGE, kinds
from mla_lightning.run_folder import State, find_runs, is_finished
from mla_lightning.run_folder.completion import changed_files
from mla_lightning.run_folder.config import RunConfig
from mla_lightning.run_folder.integrity import check_run
from mla_lightning.run_folder.reader import RunFiles
from mla_lightning.run_folder.result import Result
from mla_lightning.run_folder.tasks import PRIMARY

if TYPE_CHECKING:
    from mla_lightning.data.base import MultimodalDataModule
    from mla_lightning.module import MultimodalModule
    from mla_lightning.run.finished import LoadedRun
    from mla_lightning.run.onnx_file import Exported
    from mla_lightning.run.prediction import Prediction

#: Run folder -> packages of the user that this process was allowed to use for it.
_packages: dict[Path, tuple[str, ...]] = {}


def remember_packages(folder: Path, packages: Sequence[str]) -> None:
    """Remember the packages of the user that a run needs, for when its model is loaded.

    Args:
        folder: The run folder.
        packages: The packages, in addition to those that are known already.
    """
    folder = folder.resolve()
    _packages[folder] = tuple(dict.fromkeys([*_packages.get(folder, ()), *packages]))


def packages_allowed(folders: Iterable[Path]) -> AbstractContextManager[None]:
    """Return a context in which configs may name the packages that the runs were allowed."""
    return targets_allowed(name for f in folders for name in _packages.get(f.resolve(), ()))


class Run:
    """A finished run: its settings, numbers and model.

    Attributes:
        folder: The run folder, from which all of it is read.

    Example:
        >>> run = mla.train("data=synthetic", "trainer.max_epochs=1", folder=tmp)
        >>> sorted(run.scores["val"])
        ['audio', 'multi', 'visual']
        >>> len(run.metrics)
        1
    """

    def __init__(self, folder: Path | str) -> None:
        """Prepare to read a finished run; see :func:`load`.

        Args:
            folder: The run folder.
        """
        self.folder = Path(folder).absolute()
        self._data_options: dict[str, Any] = {}

    def __repr__(self) -> str:
        """Return the run's name and scores, or its state if it is not finished."""
        try:
            return self._describe()
        except Exception as error:  # a notebook shows damaged runs, too
            return f"<Run {self.folder.name}: {error}>"

    def __eq__(self, other: object) -> bool:
        """Return whether another run has the same folder."""
        return isinstance(other, Run) and self.folder.resolve() == other.folder.resolve()

    def __hash__(self) -> int:
        """Return the hash of its folder."""
        return hash(self.folder.resolve())

    def _describe(self) -> str:
        result = self.result
        scores = result.test or result.val or {}
        primary = PRIMARY[result.task]
        texts = ", ".join(
            f"{name} {primary.text(value)}"
            for name, values in scores.items()
            if (value := values[primary.metric]) is not None
        )
        split = "test" if result.test else "val"
        return f"<Run {self.folder.name}: {split} {primary.metric} {texts}>"

    def _repr_html_(self) -> str:
        return _notebook_html(self)

    @cached_property
    def files(self) -> RunFiles:
        """The files of the run folder, each read when it is first used."""
        return RunFiles(self.folder)

    @property
    def config(self) -> RunConfig:
        """The resolved config."""
        return self.files.config

    @property
    def result(self) -> Result:
        """The result.

        Raises:
            RunError: If the run is not finished, or a file of it was changed since.
        """
        return self._checked_result

    @cached_property
    def _checked_result(self) -> Result:
        try:
            result = self.files.result
            if result is None:
                raise RunError(f"it is not finished (state: {self.files.state})")
            check_run(self.files)
        except RunError as error:
            raise RunError(f"{self.folder}: {error}") from error
        return result

    @property
    def scores(self) -> dict[str, Any]:
        """Split -> modality or ``multi`` -> metric -> value."""
        return {"val": self.result.val, "test": self.result.test}

    @property
    def metrics(self) -> list[dict[str, float]]:
        """One mapping per epoch: ``val/acc`` (``val/mae``, ...), ``train/loss/...`` and others."""
        return self.files.metrics

    @property
    def changed_files(self) -> tuple[str, ...]:
        """The files of the run's code that changed since it was trained."""
        forget_code()  # files may have been edited since they were read
        return changed_files(self.files.provenance)

    @cached_property
    def loaded(self) -> LoadedRun:
        """The model, with the weights of every selected epoch."""
        from mla_lightning.run.finished import load_run

        check_torch_modes(trains=False)
        with process_settings_restored(), packages_allowed([self.folder]):
            return load_run(self.folder, **self._data_options)

    @property
    def module(self) -> MultimodalModule:
        """The module on the CPU, in evaluation mode, with the selected weights."""
        return self.loaded.module

    def predict(
        self,
        inputs: Mapping[str, Any]
        | Iterable[Mapping[str, Any]]
        | MultimodalDataModule
        | None = None,
        *,
        split: str = "test",
        batch_size: int | None = None,
    ) -> Prediction:
        """Compute logits, probabilities and fusion weights.

        Args:
            inputs: Modality -> tensor, array, list or column of a table (N, ...), one row per
                sample, as the run's data set stores them; a loader or list of such batches; a
                data module; or None for the run's own data.
            split: The split of a data module: ``train``, ``val``, ``test``, or ``all`` for every
                sample of a prepared store.
            batch_size: Samples per batch; None for the run's own batch size.

        Returns:
            The prediction.

        Raises:
            DataError: If a modality is missing, has another shape than the run's, is not numeric or
                not finite, or the modalities differ in length; or if the inputs of a store were
                made in another way than those that the run was trained on.

        Example:
            >>> run = mla.train("data=synthetic", "trainer.max_epochs=1", folder=tmp)
            >>> import torch
            >>> new = {"audio": torch.randn(2, 16), "visual": torch.randn(2, 16)}
            >>> prediction = run.predict(new)
            >>> prediction.probabilities["multi"].shape, sorted(prediction.logits)
            (torch.Size([2, 4]), ['audio', 'multi', 'visual'])
            >>> len(run.predict(split="val").ids) == run.result.num_val
            True
        """
        from mla_lightning.data.base import MultimodalDataModule
        from mla_lightning.run.finished import check_inputs
        from mla_lightning.run.predict import (
            ACCEPTED,
            batches_of,
            predict_samples,
            predict_split,
        )

        if batch_size is not None and batch_size < 1:
            raise DataError(f"batch_size={batch_size} must be at least 1")
        if not isinstance(inputs, Iterable | MultimodalDataModule | None):
            raise DataError(f"A {type(inputs).__name__} cannot be predicted. {ACCEPTED}")
        size = batch_size or int(self.config.data.get("eval_batch_size", 256))
        with process_settings_restored(), evaluation_mode(self.module):
            if inputs is None:
                inputs = self.loaded.data
            if isinstance(inputs, MultimodalDataModule):
                check_inputs(self.files, inputs)
                return predict_split(self.loaded, inputs, split, size)
            if isinstance(inputs, Mapping):
                return predict_samples(self.loaded, batches_of(inputs, size))
            return predict_samples(self.loaded, inputs)

    def export(self, path: Path | str, format: Literal["onnx", "safetensors"] = "onnx") -> Exported:
        """Write the model to a new file or folder, if what is read from there computes the same.

        Args:
            path: Of ``onnx`` a file, see :func:`~mla_lightning.run.onnx_file.write_onnx`; of
                ``safetensors`` a folder for :func:`load_exported`, see
                :func:`~mla_lightning.run.model_folder.write_model_folder`.
            format: What to write.

        Example:
            >>> run = mla.train("data=synthetic", "trainer.max_epochs=1", folder=tmp)
            >>> run.export(tmp / "model.onnx").outputs[:3]
            ('prediction', 'probabilities', 'logits_multi')
        """
        check_choice("format", format, ("onnx", "safetensors"))
        with process_settings_restored(), evaluation_mode(self.module):
            if format == "onnx":
                from mla_lightning.run.onnx_file import write_onnx

                return write_onnx(self.loaded, Path(path))
            from mla_lightning.run.model_folder import write_model_folder

            with packages_allowed([self.folder]):
                return write_model_folder(self.loaded, Path(path))

    def table(self, kind: str = "table1") -> NotebookReport:
        """Return a report of this run alone, shown as HTML in a notebook.

        Args:
            kind: ``table1`` or another kind; see ``mla list reports``.

        Example:
            >>> run = mla.train("data=synthetic", "trainer.max_epochs=1", folder=tmp)
            >>> run.table().tables[0].title
            'Test accuracy in percent'
        """
        return _report(kind, [self.folder])


def _report(kind: str, folders: Sequence[Path], config_dir: Path | None = None) -> NotebookReport:
    if kind == PAGE:
        raise ConfigError(
            f"{PAGE!r} is not a single report but a folder of files: write it with "
            f"`mla report {PAGE} FOLDER`. Reports: {', '.join(kinds(config_dir))}."
        )
    with packages_allowed(folders):
        return make_report(kind, folders, config_dir)


def _notebook_html(shown: Run | Runs) -> str:
    """Return the HTML of the report of runs, or their description if there is no report."""
    try:
        return shown.table()._repr_html_()
    except Exception:  # unfinished or damaged runs, or none
        return f"<pre>{escape(repr(shown))}</pre>"


class Runs(Sequence[Run]):
    """The finished runs of a sweep.

    Attributes:
        folders: The run folders of all jobs.
        unfinished: (title, state and reason) of the jobs that did not finish, and of runs whose
            files are damaged.

    Example:
        >>> runs = mla.sweep("data=synthetic", "trainer.max_epochs=1", seed=[0, 1], folder=tmp)
        >>> runs
        <2 runs>
        >>> [run.result.seed for run in runs]
        [0, 1]
    """

    def __init__(
        self,
        folders: Path | str | Iterable[Path | str],
        unfinished: Sequence[tuple[str, str]] = (),
    ) -> None:
        """Collect the finished runs.

        Args:
            folders: Run folders, or folders above them.
            unfinished: (title, state and reason) of the jobs that did not finish.
        """
        paths = [Path(folders)] if isinstance(folders, Path | str) else map(Path, folders)
        run_folders = [run for path in paths for run in list(find_runs(path)) or [path]]
        self.folders = list(dict.fromkeys(path.absolute() for path in run_folders))
        self.unfinished = list(unfinished)
        self._runs = []
        for folder in filter(is_finished, self.folders):
            run = Run(folder)
            try:
                _ = run.result
            except RunError as error:  # a damaged run must not spoil the others
                self.unfinished.append((folder.name, f"{State.UNREADABLE}: {error}"))
            else:
                self._runs.append(run)

    def __len__(self) -> int:
        """Return the number of finished runs."""
        return len(self._runs)

    def __getitem__(self, index: Any) -> Any:
        """Return a run, or for a slice several as :class:`Runs`."""
        if not isinstance(index, slice):
            return self._runs[index]
        chosen = self._runs[index]
        runs = Runs([run.folder for run in chosen])
        runs._runs = chosen  # with what they have loaded
        return runs

    def __iter__(self) -> Iterator[Run]:
        """Iterate over the finished runs in the order of the jobs."""
        return iter(self._runs)

    def __repr__(self) -> str:
        """Return the numbers of finished and unfinished runs."""
        unfinished = f", {len(self.unfinished)} unfinished" if self.unfinished else ""
        return f"<{len(self)} runs{unfinished}>"

    def _repr_html_(self) -> str:
        return _notebook_html(self)

    def table(self, kind: str = "table1", config_dir: Path | str | None = None) -> NotebookReport:
        """Return the report that ``mla report`` writes, shown as HTML in a notebook.

        Args:
            kind: ``table1`` or another kind; see ``mla list reports``.
            config_dir: A folder with your own ``report/``.

        Example:
            >>> run = mla.train("data=synthetic", "trainer.max_epochs=1", folder=tmp)
            >>> mla.Runs(tmp).table().title
            'Table 1: each modality and all modalities (multi)'
        """
        directory = None if config_dir is None else Path(config_dir)
        return _report(kind, self.folders, directory)

    def to_pandas(self) -> Any:
        """Return a table with one row per run, split and modality, like ``results.csv``.

        Returns:
            A ``pandas.DataFrame``.

        Raises:
            ConfigError: If pandas is not installed.

        Example:
            >>> run = mla.train("data=synthetic", "trainer.max_epochs=1", folder=tmp)
            >>> frame = mla.Runs(tmp).to_pandas()
            >>> frame.query("split == 'test' and modality == 'multi'").groupby("method").size()
            method
            mla    1
            dtype: int64
        """
        try:
            import pandas
        except ImportError as error:
            raise ConfigError(
                "to_pandas() needs pandas, which is not installed: pip install pandas"
            ) from error
        rows = [row for run in read_runs(self.folders) for row in rows_of(run)]
        return pandas.DataFrame(rows)
