"""Names that a modality cannot have."""

from __future__ import annotations

from torch import nn

from mla_lightning.paths import name_problem

#: Keys of a :class:`~mla_lightning.batch.Batch`.
BATCH_KEYS = (
    *("inputs", "label", "index", "present", "hidden", "truth", "present_in_batch"),
    "label_in_batch",
)
#: Names that a dict of modules or of parameters refuses, since its own attributes have them.
ATTRIBUTES = frozenset({*dir(nn.ModuleDict()), *dir(nn.ParameterDict())})


def modality_name_problem(name: str) -> str:
    """Return why a name cannot be that of a modality.

    Args:
        name: The name.

    Returns:
        The end of an error message, empty if the name can be used.

    Example:
        >>> modality_name_problem("multi"), modality_name_problem("audio")
        ('cannot be the name of a modality: it is the name of the fused result', '')
    """
    rule = ""
    if name == "multi":
        rule = "it is the name of the fused result"
    elif name in BATCH_KEYS:
        rule = f"it is a key of batches, as are {', '.join(BATCH_KEYS)}"
    elif not name or "." in name:
        rule = "it must not be empty and must have no dot"
    elif name in ATTRIBUTES:
        rule = "it is an attribute of torch.nn.ModuleDict, which holds the encoders"
    elif problem := name_problem(name):
        rule = f"it {problem}"
    return rule and f"cannot be the name of a modality: {rule}"
