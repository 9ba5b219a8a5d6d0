"""Names that a modality cannot have."""

from __future__ import annotations

from mla_lightning.paths import name_problem

#: Keys of a :class:`~mla_lightning.batch.Batch`.
BATCH_KEYS = (
    *("inputs", "label", "index", "present", "hidden", "truth", "present_in_batch"),
    *("label_in_batch", "left_out", "copy"),
)
_ATTRIBUTES = """
T_destination __annotations__ __call__ __class__ __contains__ __delattr__ __delitem__ __dict__
__dir__ __doc__ __eq__ __format__ __ge__ __getattr__ __getattribute__ __getitem__ __getstate__
__gt__ __hash__ __init__ __init_subclass__ __ior__ __iter__ __le__ __len__ __lt__ __module__
__ne__ __new__ __or__ __reduce__ __reduce_ex__ __repr__ __reversed__ __ror__ __setattr__
__setitem__ __setstate__ __sizeof__ __str__ __subclasshook__ __weakref__ _apply _backward_hooks
_backward_pre_hooks _buffers _call_impl _compiled_call_impl _forward_hooks
_forward_hooks_always_called _forward_hooks_with_kwargs _forward_pre_hooks
_forward_pre_hooks_with_kwargs _get_backward_hooks _get_backward_pre_hooks _get_name
_is_full_backward_hook _key_to_attr _keys _load_from_state_dict _load_state_dict_post_hooks
_load_state_dict_pre_hooks _maybe_warn_non_full_backward_hook _modules _named_members
_non_persistent_buffers_set _parameters _register_load_state_dict_pre_hook
_register_state_dict_hook _replicate_for_data_parallel _save_to_state_dict _slow_forward
_state_dict_hooks _state_dict_pre_hooks _version _wrapped_call_impl add_module apply bfloat16
buffers call_super_init children clear compile copy cpu cuda double dump_patches eval extra_repr
float forward fromkeys get get_buffer get_extra_state get_parameter get_submodule half ipu items
keys load_state_dict modules mtia named_buffers named_children named_modules named_parameters
parameters pop popitem register_backward_hook register_buffer register_forward_hook
register_forward_pre_hook register_full_backward_hook register_full_backward_pre_hook
register_load_state_dict_post_hook register_load_state_dict_pre_hook register_module
register_parameter register_state_dict_post_hook register_state_dict_pre_hook requires_grad_
set_extra_state set_submodule setdefault share_memory smart_apply state_dict to to_empty train
training type update values xpu zero_grad
"""
#: Names that a dict of modules or of parameters refuses, since its own attributes have them:
#: ``dir`` of a :class:`torch.nn.ModuleDict` and of a :class:`torch.nn.ParameterDict`. One of
#: them, ``smart_apply``, comes from transformers, which gives it to every module of a process that
#: has built one of its models: whether a name is refused must not depend on the encoders.
ATTRIBUTES = frozenset(_ATTRIBUTES.split())


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
