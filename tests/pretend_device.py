"""A pretend accelerator: a device on which tensors refuse to meet those of the CPU, and which computes on the CPU.

No GPU is needed to find code that forgets where its tensors are. ``AT`` is a device of which this build of torch has
nothing; a tensor there is an ``Elsewhere``, whose real numbers lie in CPU memory. Within ``pretending()`` tensors move
there with ``.to(AT)``, are created there with ``device=AT``, and operations that mix the two raise, as CUDA does (a
number in a zero-dimensional CPU tensor may join, and a CPU index may point into a tensor elsewhere). NumPy refuses
them until they have come back with ``.cpu()``.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch
from torch.optim import optimizer
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

AT = torch.device("lazy:0")
CPU = torch.device("cpu")
MOVES = (torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default)
INDEXING = (torch.ops.aten.index.Tensor, torch.ops.aten.index_put_.default, torch.ops.aten.index_put.default)


class Elsewhere(torch.Tensor):
    """A tensor that says it is at ``AT``; ``held`` has its numbers."""

    held: torch.Tensor

    @staticmethod
    def __new__(cls, real: torch.Tensor) -> Elsewhere:
        made: Elsewhere = torch.Tensor._make_wrapper_subclass(
            cls,
            real.size(),
            strides=real.stride(),
            storage_offset=real.storage_offset(),
            dtype=real.dtype,
            device=AT,
            requires_grad=real.requires_grad,
        )
        made.held = real.detach()
        return made

    def __repr__(self, **_: Any) -> str:
        return f"Elsewhere({self.held})"

    def tolist(self) -> Any:  # which a device gives, and a subclass of Tensor does not
        return self.held.tolist()

    @classmethod
    def __torch_dispatch__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return compute(function, args, kwargs or {})


class _Mode(TorchDispatchMode):
    """Also sees what is created, and what is moved there from the CPU."""

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return compute(function, args, kwargs or {})


def compute(function: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """Does it on the CPU, if the arguments are all in one place; the results are where the arguments were."""
    given = [x for x in tree_flatten((args, kwargs))[0] if isinstance(x, torch.Tensor)]
    there = [x for x in given if isinstance(x, Elsewhere)]
    checked = tree_flatten(args[:1])[0] if function in INDEXING else given  # whatever the index
    here = [x for x in checked if isinstance(x, torch.Tensor) and not isinstance(x, Elsewhere) and x.ndim]
    if there and here and function not in MOVES:
        raise RuntimeError(f"{function} mixes tensors on {AT} and on the CPU")
    device = kwargs.get("device")
    to_there = bool(there) if device is None else device.type == AT.type
    if device is not None:
        kwargs = {**kwargs, "device": CPU}
    out = function(*tree_map(_held, args), **tree_map(_held, kwargs))
    if function._schema.name.endswith("_") and given:  # in place: the first argument is the result
        return args[0] if function._schema.returns else None
    return tree_map(lambda x: Elsewhere(x) if isinstance(x, torch.Tensor) else x, out) if to_there else out


def _held(value: Any) -> Any:
    return value.held if isinstance(value, Elsewhere) else value


@contextmanager
def pretending() -> Iterator[torch.device]:
    """Within it there is the device ``AT``."""
    before = torch._C._only_lift_cpu_tensors()
    torch._C._set_only_lift_cpu_tensors(True)  # torch.tensor([...], device=AT) moves there where the mode sees it
    fused = [*optimizer._get_fused_kernels_supported_devices(), AT.type]
    try:
        with _Mode(), mock.patch.object(optimizer, "_get_fused_kernels_supported_devices", return_value=fused):
            yield AT
    finally:
        torch._C._set_only_lift_cpu_tensors(before)
