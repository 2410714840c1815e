"""A pretended accelerator, for machines without one. Not a test itself.

Its tensors say that they are on the device "meta" and keep their true values on the CPU. As on a GPU, an operation on
tensors of both places is an error; only copies, single numbers and row numbers may come from the CPU.
"""

from __future__ import annotations

import torch
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map_only

DEVICE = torch.device("meta")
aten = torch.ops.aten
MAY_MIX = {aten._to_copy, aten.copy_, aten.index, aten.index_put_, aten._index_put_impl_}


class Elsewhere(torch.Tensor):
    @staticmethod
    def __new__(cls, here: torch.Tensor):
        layout = {"strides": here.stride(), "storage_offset": here.storage_offset(), "dtype": here.dtype}
        made = torch.Tensor._make_wrapper_subclass(cls, here.shape, device=DEVICE, **layout)
        made.here = here
        return made

    def tolist(self):
        return self.here.tolist()

    def new_tensor(self, data, **how):
        return Elsewhere(self.here.new_tensor(data, **how))

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
        return run(function, args, kwargs or {})


def run(function, args: tuple, kwargs: dict):
    """The operation on the true values; its result is elsewhere if they were, or if that device was asked for."""
    tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
    far = [tensor for tensor in tensors if isinstance(tensor, Elsewhere)]
    near = [tensor for tensor in tensors if not isinstance(tensor, Elsewhere) and tensor.dim()]
    if far and near and function.overloadpacket not in MAY_MIX:
        raise RuntimeError(f"{function}: tensors on two devices, shapes {[tuple(t.shape) for t in tensors]}")
    asked = kwargs.get("device")
    goes_far = bool(far) if asked is None else torch.device(asked) == DEVICE
    kwargs_here = kwargs | ({"device": "cpu"} if asked is not None else {})
    given, named = tree_map_only(Elsewhere, lambda tensor: tensor.here, (args, kwargs_here))
    found = function(*given, **named)
    if function.overloadpacket is aten.copy_:
        return args[0]
    if not goes_far or found is None:
        return found
    found = tree_map_only(torch.Tensor, Elsewhere, found)
    return return_and_correct_aliasing(function, args, kwargs, found) if far else found


class Pretended(TorchDispatchMode):
    """Inside, `device="meta"` means the pretended accelerator."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        return run(function, args, kwargs or {})


def moved(model):
    """The same model elsewhere (within `Pretended`): its own weights are replaced, tied ones stay tied."""
    made = {}
    for part in model.modules():
        for store in (part._parameters, part._buffers):
            for name, tensor in store.items():
                if tensor is not None and id(tensor) not in made:
                    new = Elsewhere(tensor.detach().clone())
                    made[id(tensor)] = torch.nn.Parameter(new) if isinstance(tensor, torch.nn.Parameter) else new
                store[name] = made.get(id(tensor))
    return model
