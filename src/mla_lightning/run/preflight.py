"""Checks of this machine and of the model, after the config is checked and before a job starts."""

from __future__ import annotations

import copy
import importlib
import itertools
from collections.abc import Iterable
from importlib.util import find_spec

import torch
from torch.utils.data import DataLoader

from mla_lightning import ranks
from mla_lightning.config import Job
from mla_lightning.config.jobs import data_of_config, reached_targets
from mla_lightning.config.signatures import attribute_of
from mla_lightning.config.targets import TARGET, locate
from mla_lightning.data.base import MultimodalDataModule
from mla_lightning.data.loading import loader_options
from mla_lightning.data.order import SequentialOrder
from mla_lightning.errors import ConfigError, DataError, MLAError
from mla_lightning.module import MultimodalModule
from mla_lightning.run.build import DataFacts, build_module
from mla_lightning.run.place import read_in_place
from mla_lightning.run.submission import check_before_submission
from mla_lightning.run_folder.config import RunConfig

#: Packages whose classes are built in a trial: they do nothing else when they are built.
_TRIED = ("mla_lightning.", "torch.")
#: Arguments of encoders that read weights, which takes as long as the start of the run.
_READS_WEIGHTS = ("checkpoint", "pretrained", "name")


def check_before_start(jobs: Iterable[Job]) -> None:
    """Check that this machine can run the jobs, and that their models can be built.

    Args:
        jobs: The jobs, none of which has started.

    Raises:
        ConfigError: With all problems, one per line. Nothing has been written then.
        DataError: If the samples have no labels, or ``missing.manifest`` is no file of masks.

    Example:
        >>> from mla_lightning.config import compose_jobs
        >>> check_before_start(compose_jobs(["data=synthetic", "trainer.accelerator=mps"]))
        Traceback (most recent call last):
        mla_lightning.errors.ConfigError: trainer.accelerator=mps ... has no GPU ...
    """
    check_before_submission(
        jobs,
        lambda config: (
            accelerator_problem(config),
            _import_problem(config),
            _model_problem(config),
        ),
    )


def check_counted_samples(config: RunConfig) -> None:
    """Check the last batch of an epoch, if the number of training samples is known before setup.

    Data and model are built only if that batch has one sample.

    Args:
        config: The resolved config.

    Raises:
        ConfigError: As :func:`check_last_batch`.
        DataError: If the data are damaged.

    Example:
        >>> from mla_lightning.config import compose_jobs
        >>> (job,) = compose_jobs(["data=synthetic", "data.num_train=65"])
        >>> check_counted_samples(job.config)  # no encoder has a batch normalisation of vectors
    """
    data, options = data_of_config(config.tree), config.trainer
    if data.num_train is None:
        return
    check_parts(data.num_train, data.batch_size, options.num_ranks)
    num_own = None if options.sync_batchnorm else options.num_ranks
    if _has_one_sample(data.num_train, data.batch_size, num_own):
        data = data_of_config({**config.tree, "data": read_in_place(config.data)})
        data.prepare_data()
        data.setup()
        with torch.random.fork_rng(devices=[]):
            check_last_batch(build_module(config, data), data)


def check_parts(num_train: int, batch_size: int, num_ranks: int) -> None:
    """Check that each of several devices has a sample of every batch.

    Args:
        num_train: Number of training samples.
        batch_size: Samples per batch.
        num_ranks: Number of devices that train together.

    Raises:
        ConfigError: If a batch has fewer samples than there are devices.

    Example:
        >>> check_parts(num_train=64, batch_size=16, num_ranks=4)
        >>> check_parts(num_train=65, batch_size=16, num_ranks=4)
        Traceback (most recent call last):
        mla_lightning.errors.ConfigError: data.batch_size=16: the last batch of the 65 training
        samples has 1, fewer than the 4 devices that each take a part of it. Write
        data.batch_size=17.
    """
    last = num_train % batch_size
    if num_ranks == 1 or (batch_size >= num_ranks and (not last or last >= num_ranks)):
        return
    sizes = (b for b in range(max(batch_size, num_ranks), num_train + 1))
    remedy = next((b for b in sizes if num_train % b == 0 or num_train % b >= num_ranks), None)
    advice = f"data.batch_size={remedy}" if remedy else "fewer trainer.devices"
    problem = (
        f"a batch has fewer samples than the {num_ranks} devices that each take a part of it"
        if batch_size < num_ranks
        else f"the last batch of the {num_train} training samples has {last}, fewer than the "
        f"{num_ranks} devices that each take a part of it"
    )
    raise ConfigError(f"data.batch_size={batch_size}: {problem}. Write {advice}.")


def check_last_batch(module: MultimodalModule, data: MultimodalDataModule) -> None:
    """Check that the encoders take the last batch of an epoch if it has one sample alone.

    Batch normalisation of vectors does not: it would end the run after a whole epoch. The same
    holds for the part of a device that has statistics of its own.

    Args:
        module: The module, before training.
        data: Its data.

    Raises:
        ConfigError: If a device has no sample of a batch, or one alone and an encoder does not take
            it, or a layer cannot be synchronised.
    """
    num_train, batch_size = len(data.splits["train"]), data.batch_size
    num_ranks, is_shared = module.parts.num_ranks, module.parts.sync_batchnorm
    check_parts(num_train, batch_size, num_ranks)
    if num_ranks > 1:
        ranks.check_batch_norms(module)
    if not _has_one_sample(num_train, batch_size, None if is_shared else num_ranks):
        return
    order = SequentialOrder(1, 1)
    loader = DataLoader(data.splits["train"], sampler=order, **loader_options(0))
    batch = module.convert_inputs(next(iter(loader)), augment=False)
    for name in module.modalities:
        encoder = copy.deepcopy(module.encoders[name]).train()
        try:
            with torch.no_grad(), torch.random.fork_rng(devices=[]):
                encoder(batch["inputs"][name])
        except ValueError as error:
            if "more than 1 value per channel" not in str(error):
                return  # training reports it
            if num_ranks > 1:
                raise ConfigError(
                    f"data.batch_size={batch_size}: of a batch a device has one sample alone, and "
                    f"the batch normalisation of encoder.{name} needs at least two. Write a larger "
                    "data.batch_size, or trainer.sync_batchnorm=true."
                ) from error
            remedy = next(b for b in itertools.count(batch_size + 1) if num_train % b != 1)
            raise ConfigError(
                f"data.batch_size={batch_size}: the last batch of the {num_train} training samples "
                f"has one sample, and the batch normalisation of encoder.{name} needs at least "
                f"two. Write data.batch_size={remedy}."
            ) from error


def has_preparatory_epochs(config: RunConfig) -> bool:
    """Return whether a method has epochs that may not be selected, also one of the user.

    Args:
        config: The resolved config.

    Example:
        >>> from mla_lightning.config import compose_jobs
        >>> jobs = compose_jobs(["data=synthetic", "method=mla,sum"], multirun=True)
        >>> [has_preparatory_epochs(job.config) for job in jobs]
        [False, False]
    """
    method = locate(config.method[TARGET])
    return method.is_selectable is not MultimodalModule.is_selectable


def accelerator_problem(config: RunConfig) -> str:
    """Return why the config's accelerator cannot be used on this machine, or nothing.

    Args:
        config: The resolved config.

    Example:
        >>> from mla_lightning.config import compose_jobs
        >>> accelerator_problem(compose_jobs(["data=synthetic"])[0].config)
        ''
    """
    accelerator, precision = config.trainer.accelerator, config.trainer.precision
    has_gpu = torch.cuda.device_count() or torch.backends.mps.is_available()
    if accelerator == "auto" and precision == "16-mixed" and not has_gpu:
        return (
            "trainer.precision=16-mixed with trainer.accelerator=auto cannot be used on this "
            "machine: it has no GPU that torch can use, and the CPU has no 16-mixed. Write "
            "trainer.precision=32-true or bf16-mixed."
        )
    is_absent = {
        "gpu": not has_gpu,
        "cuda": not torch.cuda.device_count(),
        "mps": not torch.backends.mps.is_available(),
    }
    if not is_absent.get(accelerator, False):
        return ""
    reason = "" if torch.version.cuda or torch.version.hip else ", and torch is built without CUDA"
    kind = {"mps": "GPU of Apple"}.get(accelerator, "GPU that torch can use")
    return (
        f"trainer.accelerator={accelerator} with trainer.precision={precision} "
        f"cannot be used on this machine: it has no {kind}{reason}. Run on the CPU with "
        "trainer=default or trainer.accelerator=cpu, or check `nvidia-smi` and the installation of "
        "torch."
    )


def _import_problem(config: RunConfig) -> str:
    """Return why the package of an encoder cannot be imported, if it is installed."""
    for name, node in (config.encoder or {}).items():
        package = attribute_of(str(node[TARGET]), "package", "")
        try:
            if package and find_spec(package) is not None:
                importlib.import_module(package)
        except Exception as error:  # such as a RuntimeError of a torchvision for another torch
            reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
            return (
                f"encoder.{name} needs {package}, which cannot be imported: {reason}. Are it and "
                f"what it needs built for torch {torch.__version__}? See "
                "https://pytorch.org/get-started/locally"
            )
    return ""


def _model_problem(config: RunConfig) -> str:
    """Return why the model of a config cannot be built, or cannot be trained on the last batch.

    Models with a class of the user, or with weights from files, are built by their job alone.
    """
    encoders = (config.encoder or {}).values()
    reads_weights = any(node.get(key) for node in encoders for key in _READS_WEIGHTS)
    if reads_weights or not all(t.startswith(_TRIED) for t in reached_targets(config.tree)):
        return ""
    if problem := _build_problem(config):
        return problem
    try:
        check_counted_samples(config)
    except ConfigError as error:
        return str(error)
    except Exception:  # the job reports it, with the place and the exit code
        return ""
    return ""


def _has_one_sample(num_train: int, batch_size: int, num_ranks: int | None) -> bool:
    """Return whether the last batch of an epoch has one sample alone, or a device's part of one.

    ``num_ranks`` is the number of devices with batch statistics of their own; None if they have
    those of the whole batch.
    """
    last = num_train % batch_size
    if num_ranks is None or num_ranks == 1:
        return batch_size > 1 and last == 1
    return min(last or batch_size, batch_size, num_train) // num_ranks == 1


def _build_problem(config: RunConfig) -> str:
    """Build the model of a config without memory for its weights; return why it cannot be built."""
    try:
        with torch.random.fork_rng(devices=[]):
            try:
                with torch.device("meta"):
                    _build(config)
            except MLAError:
                raise
            except Exception:  # a class may need the values of its weights, which are absent
                _build(config)
    except DataError:  # such as damage to rows by which columns are scaled
        raise
    except MLAError as error:
        return str(error)
    except Exception as error:
        reason = " ".join(str(error).split())
        return f"The model cannot be built: {type(error).__name__}: {reason}"
    return ""


def _build(config: RunConfig) -> None:
    """Build the model of a config, without reading its data."""
    data = data_of_config(config.tree)
    hides = data.missing is not None and data.missing.policy == "drop"
    build_module(config, data, facts=DataFacts(data.num_classes, 2, not hides, data.task))
