"""Run folders as training writes them, with results that tests choose."""

import json
import random
from pathlib import Path

import yaml

from mla_lightning import run_folder
from mla_lightning.identity import identity_of
from mla_lightning.run_folder.result import Result
from mla_lightning.run_folder.tasks import primary_of

FINGERPRINT = "da7a" * 16
METHODS = ("sum", "concat", "late_fusion", "film", "bigated", "ogm_ge", "qmf", "mla")
#: Method -> default accuracy of image, text and multi, as fractions.
LEVELS = {
    "sum": (0.40, 0.47, 0.578),
    "concat": (0.38, 0.48, 0.585),
    "late_fusion": (0.465, 0.545, 0.602),
    "film": (0.33, 0.46, 0.551),
    "bigated": (0.36, 0.44, 0.563),
    "ogm_ge": (0.43, 0.45, 0.583),
    "qmf": (0.46, 0.53, 0.607),
    "mla": (0.462, 0.551, 0.624),
    "joint_unimodal": (0.45, 0.54, 0.61),
    "unimodal": (0.465, 0.549, 0.589),
    "mla_released": (0.45, 0.55, 0.617),
    "mla_balancemm": (0.44, 0.54, 0.611),
}


def score(value, task="classification"):
    """Return the scores of one modality with this value of the task's primary metric."""
    if task == "regression":
        return {"mae": value, "correlation": 0.5}
    if task == "multilabel":
        return {"micro_f1": value, "macro_f1": value - 0.05, "mean_ap": 0.5}
    return {"accuracy": value, "macro_f1": value - 0.05, "ece": 0.1}


def write_run(
    root: Path,
    method="mla",
    seed=0,
    *,
    dataset="openmoji",
    ablation="none",
    state="finished",
    accuracy=None,
    modalities=("image", "text"),
    protocol="validation",
    split="groups",
    overrides=None,
    lr=0.1,
    epochs=20,
    code="c0de",
    reason="non-finite loss",
    test=True,
    curve=None,
    name=None,
    method_label="",
    task="classification",
) -> Path:
    """Write one run folder; ``accuracy`` maps modalities and multi to fractions, or errors."""
    overrides = overrides or {}
    if accuracy is None:
        shift = random.Random(f"{method}{ablation}{seed}{overrides}{dataset}").gauss(0, 0.01)
        levels = dict(zip(("image", "text", "multi"), LEVELS.get(method, (0.5,) * 3), strict=True))
        accuracy = {m: levels.get(m, 0.4) + shift for m in (*modalities, "multi")}
    config = {
        "name": name or f"table1/{dataset}",
        "seed": seed,
        "protocol": protocol,
        "choices": {"method": method, "data": dataset, "ablation": ablation, "encoder": "small"},
        "method": {"_target_": "m", "hgm": "no_hgm" not in ablation},
        "optimizer": {"_target_": "torch.optim.SGD", "lr": lr},
        "trainer": {"max_epochs": epochs},
        "others": [dataset, split, overrides, name, code],
    }
    if task != "classification":
        config["others"].append(task)
    identity = identity_of(config, FINGERPRINT)
    words = [dataset, method, *([ablation] if ablation != "none" else [])]
    words += [f"{key}={value}" for key, value in overrides.items()]
    run_dir = root / "-".join([*words, f"seed{seed}", identity[:10]])
    run_dir.mkdir(parents=True)
    (run_dir / "config.yaml").write_text(yaml.safe_dump(config))
    settings = [f"data={dataset}", f"method={method}", f"ablation={ablation}", f"seed={seed}"]
    status = {
        "state": state,
        "pid": 2**22 + 1,  # larger than any process id of the kernel
        "host": "here",
        "started": 0.0,
        "updated": 1.0,
        "attempt": 1,
        "exit_code": 0 if state == "finished" else 1,
        "reason": "" if state in ("finished", "running") else reason,
        "retry": run_folder.retry_command(settings),
        "overrides": overrides,
    }
    run_folder.write_json(run_dir / "status.json", status)
    provenance = {
        "identity": identity,
        "code": {"hash": code * 16, "modules": {}},
        "method_label": method_label,
        "data_fingerprint": FINGERPRINT,
        "data": {"name": dataset, "split": split},
        "git_commit": "abc123" * 6,
        "versions": {"mla_lightning": "0.1.0", "torch": "2.13.0", "lightning": "2.6.6"},
        "command": run_folder.retry_command(settings),
    }
    run_folder.write_json(run_dir / "provenance.json", provenance)
    curve = curve or [accuracy["multi"]] * 3
    column = primary_of(task).column
    columns = ["epoch", f"val/{column}", *(f"val/{column}/{m}" for m in modalities)]
    lines = [",".join(columns)]
    lines += [
        ",".join(map(str, [epoch, value, *(accuracy[m] for m in modalities)]))
        for epoch, value in enumerate(curve, start=1)
    ]
    (run_dir / "metrics.csv").write_text("\n".join(lines) + "\n")
    if state != "finished":
        return run_dir
    scores = {name: score(value, task) for name, value in accuracy.items()}
    result = Result(
        identity=identity,
        name=config["name"],
        dataset=dataset,
        method=method,
        ablation=ablation,
        seed=seed,
        protocol=protocol,
        task=task,
        split=split,
        num_train=976,
        num_val=163,
        num_test=490,
        modalities=list(modalities),
        unimodal_rule="slice" if method == "concat" else "own_head",
        lr=lr,
        epochs=epochs,
        best_epoch=min(12, epochs),
        val=scores,
        test=scores if test else None,
        train_time_s=3.25,
        epoch_time_s=0.16,
        peak_memory_mb=612.5,
        num_parameters=12345,
        num_batches_trained=620,
        overrides={"method": method, "seed": seed, **overrides},
        code=code * 16,
        threads=1,
        device="cpu",
    ).to_json()
    run_folder.write_json(run_dir / "result.json", result)
    unseal(run_dir)  # so that tests can choose its numbers
    return run_dir


def write_table1(root: Path, methods=tuple(LEVELS), seeds=(0, 1, 2), **options) -> Path:
    """Write one run per method and seed."""
    for method in methods:
        for seed in seeds:
            write_run(root, method, seed, **options)
    return root


def unseal(run_dir: Path) -> None:
    """Remove the hashes of a result, as earlier versions wrote it."""
    result = json.loads((run_dir / "result.json").read_text())
    others = {key: value for key, value in result.items() if key not in ("sha256", "files")}
    run_folder.write_json(run_dir / "result.json", others)


def change(run_dir: Path, name: str, **values) -> None:
    """Set keys of a run folder's JSON file; None removes a key."""
    content = json.loads((run_dir / name).read_text()) | values
    run_folder.write_json(run_dir / name, {k: v for k, v in content.items() if v is not None})
