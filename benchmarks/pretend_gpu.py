"""A pretend GPU for tests: tensors that say `cuda:0`, refuse what a GPU would refuse, and compute on the CPU.

    with PretendGPU() as gpu:
        main(["--demo", "--device", "cuda:0", ...])
    gpu.waits  # Counter of (operation, source line): what made the host wait for the GPU

What it shows: tensors of two devices in one operation, `.numpy()` of a GPU tensor, an index on the GPU into a CPU
tensor, a CPU generator for a draw on the GPU, and every place where the host must wait (a value read back, a copy that
is not asynchronous from pinned memory, an operation whose output size depends on values).
What it does not show: CUDA's kernels and their rounding, autocast on CUDA (it has no effect), memory, speed, streams.

How it works: a tensor subclass is a shell on the `meta` device that calls itself `cuda:0` and holds a CPU tensor with
the values; a dispatch mode runs every operation on the held tensors and wraps the results.
"""

import traceback
from collections import Counter
from unittest import mock

import numpy as np
import torch
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

DEVICE = torch.device("cuda", 0)
BETWEEN_DEVICES = {"_to_copy", "copy_", "_has_compatible_shallow_copy_type"}
INDEXING = {"index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index"}  # CPU indices are allowed
READ_BACK = {"_local_scalar_dense", "nonzero", "_unique2", "unique_dim", "masked_select", "equal"}
# Lazy conjugation and negation are resolved before an operation gets here.
RESOLVED = {"_conj": torch.ops.aten.conj_physical.default, "_neg_view": torch.ops.aten.neg.default}


class GPUTensor(torch.Tensor):
    """`held`: the values, on the CPU."""

    def __new__(cls, held: torch.Tensor) -> "GPUTensor":
        shell = torch.empty_strided(held.shape, held.stride(), dtype=held.dtype, device="meta")
        self = torch.Tensor._make_subclass(cls, shell, False, device_for_backend_keys=DEVICE)
        self.held = held
        return self

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return compute(func, args, kwargs or {}, Counter())  # outside the mode, as in a `del`

    device = property(lambda self: DEVICE)
    is_cuda = property(lambda self: True)
    is_meta = property(lambda self: False)

    def __getitem__(self, index):
        return torch.Tensor.__getitem__(self, as_tensors(index))

    def __setitem__(self, index, value):
        torch.Tensor.__setitem__(self, as_tensors(index), value)

    def __reduce_ex__(self, protocol):  # torch.save
        return self.held.__reduce_ex__(protocol)

    def tolist(self):
        return self.cpu().tolist()

    def new_tensor(self, data, **options):
        return torch.tensor(data, **{"dtype": self.dtype, "device": DEVICE} | options)

    def numpy(self, *_, **__):
        raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() first")

    __array__ = numpy

    def __repr__(self, **_):
        return f"GPUTensor({self.held})"


def as_tensors(index):
    """Lists and arrays within an index as CPU tensors."""
    if isinstance(index, tuple):
        return tuple(as_tensors(part) for part in index)
    if isinstance(index, list | np.ndarray):
        return torch.as_tensor(np.array(index, None if len(index) else int))
    return index


def compute(func, args: tuple, kwargs: dict, waits: Counter):
    """Run an operation on the values that its tensors hold, or refuse it as a GPU would."""
    name, target, generator = func.overloadpacket.__name__, kwargs.get("device"), kwargs.get("generator")
    tensors = [leaf for leaf in pytree.tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
    on_gpu = [tensor for tensor in tensors if isinstance(tensor, GPUTensor)]
    result_on_gpu = bool(on_gpu) if target is None else torch.device(target).type in ("cuda", "meta")
    indices = [leaf for leaf in pytree.tree_leaves(args[1:2]) if isinstance(leaf, torch.Tensor)]
    indices = indices if name in INDEXING and isinstance(args[0], GPUTensor) else []
    allowed = {id(index) for index in indices}
    elsewhere = [t for t in tensors if t.ndim and not isinstance(t, GPUTensor) and id(t) not in allowed]
    if on_gpu and elsewhere and name not in BETWEEN_DEVICES:
        raise RuntimeError(f"{func}: expected all tensors on one device, found cuda:0 and cpu")
    if generator is not None and result_on_gpu != (generator.device.type == "cuda"):
        raise RuntimeError(f"{func}: the generator is on {generator.device}, the draw is not")

    crosses = name in BETWEEN_DEVICES and len(on_gpu) != len(tensors) * result_on_gpu
    asynchronous = (
        crosses
        and result_on_gpu
        and kwargs.get("non_blocking")
        and all(getattr(t, "pretended_pinned", False) for t in elsewhere)
    )
    by_value = any(index.dtype == torch.bool or not isinstance(index, GPUTensor) for index in indices)
    unsized = name == "repeat_interleave" and kwargs.get("output_size") is None
    if (crosses and not asynchronous) or by_value or (on_gpu and (unsized or name in READ_BACK)):
        waits[name, source_line()] += 1

    args, kwargs = pytree.tree_map_only(GPUTensor, lambda tensor: tensor.held, (args, kwargs))
    with torch.inference_mode(False), torch.no_grad():  # a subclass cannot make views as inference tensors
        result = RESOLVED.get(name, func)(*args, **kwargs | ({} if target is None else {"device": "cpu"}))
        given = {id(tensor.held): tensor for tensor in on_gpu}  # what in-place operations and `out=` return

        def wrapped(tensor: torch.Tensor) -> torch.Tensor:
            return given[id(tensor)] if id(tensor) in given else GPUTensor(tensor)

        return pytree.tree_map_only(torch.Tensor, wrapped, result) if result_on_gpu else result


def pinned(tensor: torch.Tensor) -> torch.Tensor:
    """In the place of Tensor.pin_memory, which needs a driver."""
    copy = tensor.clone()
    copy.pretended_pinned = True
    return copy


def source_line() -> str:
    """The innermost line that is neither in an installed package nor here."""
    frames = [f for f in traceback.extract_stack() if "/lib/python" not in f.filename and f.filename != __file__]
    return f"{'/'.join(frames[-1].filename.split('/')[-2:])}:{frames[-1].lineno}" if frames else "?"


class PretendGPU(TorchDispatchMode):
    """capability: of the GPU; (8, 0), Ampere, computes bf16 natively."""

    def __init__(self, capability: tuple[int, int] = (8, 0)):
        super().__init__()
        self.waits: Counter = Counter()
        answers = {
            "is_available": True,
            "device_count": 1,
            "get_device_capability": capability,
            "get_device_name": "pretend GPU",
            "is_bf16_supported": capability >= (8, 0),
            "is_current_stream_capturing": False,
            "synchronize": None,
            "_lazy_init": None,
        }
        self.patches = [mock.patch.object(torch.cuda, name, lambda *_, v=v, **__: v) for name, v in answers.items()]
        self.patches.append(mock.patch("torch.cuda.amp.common.amp_definitely_not_available", lambda: False))
        self.patches.append(mock.patch.object(torch.Tensor, "pin_memory", pinned))

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return compute(func, args, kwargs or {}, self.waits)

    def _switch(self, on: bool) -> None:
        for patch in self.patches:
            patch.start() if on else patch.stop()
        torch._C._set_only_lift_cpu_tensors(on)  # torch.tensor(..., device="cuda:0"): made on the CPU, then copied
        torch.__future__.set_overwrite_module_params_on_conversion(on)  # Module.to makes new parameters

    def __enter__(self) -> "PretendGPU":
        self._switch(True)
        return super().__enter__()

    def __exit__(self, *error) -> None:
        super().__exit__(*error)
        self._switch(False)
