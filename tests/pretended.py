"""A pretended Apple GPU: it computes on the CPU, and refuses what Metal refuses.

A tensor "on" it is a wrapper of a tensor on the CPU, with `device` mps:0. Inside `pretending()`, a
tensor of float64 cannot be made on this device, moved to it or be the result of an operation on it
(Metal has no float64), and an operation cannot mix it with tensors on the CPU that have dimensions.

It cannot see kernels that Metal lacks or computes otherwise, limits of memory, and code in C++ that
asks for a tensor's device. It allows a move to the CPU that changes to float64 too.
"""

from contextlib import contextmanager

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map_only

# With an index, which a device that this build of torch does not know needs.
METAL = torch.device("mps:0")
MOVING = {torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default}


class OnMetal(torch.Tensor):
    """A tensor on the pretended device."""

    @staticmethod
    def __new__(cls, held):
        if held.dtype == torch.float64:
            raise TypeError("Cannot convert a MPS Tensor to float64 dtype")
        return torch.Tensor._make_wrapper_subclass(
            cls,
            held.shape,
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            requires_grad=held.requires_grad,
        )

    def __init__(self, held):
        self.held = held

    @property
    def device(self):
        return METAL

    def __repr__(self):
        return f"OnMetal({self.held!r})"

    @classmethod
    def __torch_function__(cls, function, types, arguments=(), options=None):
        options = options or {}
        with torch._C.DisableTorchFunctionSubclass():
            # By the device that C++ knows of, which is the CPU, these would do nothing.
            if function is torch.Tensor.cpu:
                return moved(arguments[0], torch.device("cpu"), None)
            if function is torch.Tensor.to:
                return to(*arguments, **options)
            # These go past the dispatcher, to memory that a wrapper does not have.
            if function in (torch.Tensor.tolist, torch.Tensor.item):
                return function(arguments[0].held)
            if function is torch.Tensor.new_tensor:
                made = torch.tensor(arguments[1], **({"dtype": arguments[0].dtype} | options))
                return moved(made, METAL, None)
            if function is torch.Tensor.numpy:
                raise TypeError("can't convert mps:0 device type tensor to numpy. Use Tensor.cpu()")
            return function(*arguments, **options)

    @classmethod
    def __torch_dispatch__(cls, operation, types, arguments=(), options=None):
        return compute(operation, arguments, options or {})


def to(tensor, *arguments, **options):
    """`Tensor.to` by the device that tensors say they are on."""
    like = next((x for x in arguments if isinstance(x, torch.Tensor)), None)
    if like is not None:
        return moved(tensor, like.device, like.dtype)
    device, dtype, _, layout = torch._C._nn._parse_to(*arguments, **options)
    return moved(tensor, device, dtype, layout)


def moved(tensor, device, dtype, layout=None):
    here = device is None or device.type == tensor.device.type
    if here and dtype in (None, tensor.dtype):
        return tensor if layout is None else tensor.contiguous(memory_format=layout)
    target = tensor.device if device is None else device
    options = {} if layout is None else {"memory_format": layout}
    return torch.ops.aten._to_copy(tensor, dtype=dtype or tensor.dtype, device=target, **options)


@contextmanager
def pretending():
    """The pretended device exists inside."""
    # A parameter whose memory is replaced would stay one that holds memory.
    future = torch.__future__
    before = future.get_overwrite_module_params_on_conversion()
    future.set_overwrite_module_params_on_conversion(True)
    try:
        with Operations(), Functions():
            yield METAL
    finally:
        future.set_overwrite_module_params_on_conversion(before)


class Operations(TorchDispatchMode):
    def __torch_dispatch__(self, operation, types, arguments=(), options=None):
        return compute(operation, arguments, options or {})


class Functions(TorchFunctionMode):
    def __torch_function__(self, function, types, arguments=(), options=None):
        options = options or {}
        # Its C++ looks for the memory of the device.
        if function is torch.tensor and options.get("device") == METAL:
            return function(*arguments, **(options | {"device": "cpu"})).to(METAL)
        return function(*arguments, **options)


def compute(operation, arguments, options):
    given = [x for x in tree_flatten((arguments, options))[0] if isinstance(x, torch.Tensor)]
    on_metal = [x for x in given if isinstance(x, OnMetal)]
    asked = options.get("device")
    if on_metal and operation not in MOVING and not indexing(operation):
        beside = [x for x in given if not isinstance(x, OnMetal) and x.ndim]
        if beside:
            raise RuntimeError(f"{operation}: Expected all tensors to be on the same device")
    if asked is not None:
        options = options | {"device": torch.device("cpu")}
    arguments, options = tree_map_only(OnMetal, lambda x: x.held, (arguments, options))
    result = operation(*arguments, **options)
    if operation._schema.is_mutable and given:
        # The tensor that was changed, and not another one around its memory.
        owners = {id(x.held if isinstance(x, OnMetal) else x): x for x in given}
        return tree_map_only(torch.Tensor, lambda x: owners.get(id(x), x), result)
    there = asked.type == METAL.type if asked is not None else bool(on_metal)
    return tree_map_only(torch.Tensor, OnMetal, result) if there else result


def indexing(operation):
    """Whether indices may be on the CPU, as they may on any device."""
    return operation.name().startswith(("aten::index", "aten::_unsafe_index"))
