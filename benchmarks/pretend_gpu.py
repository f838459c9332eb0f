"""A pretend GPU for tests: tensors that say `cuda:0`, refuse what a GPU would refuse, and compute on the CPU.

    with PretendGPU() as gpu:
        main(["--demo", "--device", "cuda:0", ...])
    gpu.waits  # Counter of (operation, source line): what made the host wait for the GPU

What it shows: tensors of two devices in one operation, `.numpy()` of a GPU tensor, an index on the GPU into a CPU
tensor, a CPU generator for a draw on the GPU, a copy to the CPU that nobody waits for, a checkpoint that only a GPU can
load, and every place where the host must wait (a value read back, a copy that is not asynchronous from pinned memory,
an operation whose output size depends on values).
What it does not show: CUDA's kernels and their rounding, autocast on CUDA (it has no effect), memory, speed, streams.

How it works: a tensor subclass is a shell on the `meta` device that calls itself `cuda:0` and holds a CPU tensor with
the values; a dispatch mode runs every operation on the held tensors and wraps the results.
"""

import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from unittest import mock

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode

DEVICE = torch.device("cuda", 0)
BETWEEN_DEVICES = {"_to_copy", "copy_", "_has_compatible_shallow_copy_type"}
INDEXING = {"index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index"}  # CPU indices are allowed
READ_BACK = {"_local_scalar_dense", "nonzero", "_unique2", "unique_dim", "masked_select", "equal"}
WITHOUT_CPU_SCALARS = {"cat", "stack"}  # other operations take a CPU tensor without dimensions as a number
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
        saved_from_gpu.add(self.held.untyped_storage()._cdata)
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
    tensors: list[torch.Tensor] = []
    held_args, held_kwargs = held(args, tensors), held(kwargs, tensors)
    on_gpu = [tensor for tensor in tensors if isinstance(tensor, GPUTensor)]
    result_on_gpu = bool(on_gpu) if target is None else torch.device(target).type in ("cuda", "meta")
    indices: list[torch.Tensor] = []
    if name in INDEXING and isinstance(args[0], GPUTensor):
        held(args[1], indices)
    allowed = {id(index) for index in indices}
    elsewhere = [tensor for tensor in tensors if not isinstance(tensor, GPUTensor) and id(tensor) not in allowed]
    changed = args[0] if args and name.endswith("_") and not name.startswith("_") else None
    refused = [t for t in elsewhere if t.ndim or name in WITHOUT_CPU_SCALARS or t is changed]
    if on_gpu and refused and name not in BETWEEN_DEVICES:
        raise RuntimeError(f"{func}: expected all tensors on one device, found cuda:0 and cpu")
    if generator is not None and result_on_gpu != (generator.device.type == "cuda"):
        raise RuntimeError(f"{func}: the generator is on {generator.device}, the draw is not")

    if name == "copy_":  # its result is where its first argument is
        result_on_gpu = isinstance(args[0], GPUTensor)
    crosses = name in BETWEEN_DEVICES and len(on_gpu) != len(tensors) * result_on_gpu
    not_waited_for = kwargs.get("non_blocking") or (name == "copy_" and args[2:] == (True,))
    if crosses and not_waited_for and not result_on_gpu:
        raise RuntimeError(f"{func}: non_blocking to the CPU: the values would be read before they have arrived")
    asynchronous = not_waited_for and all(getattr(tensor, "pretended_pinned", False) for tensor in elsewhere)
    by_value = any(index.dtype == torch.bool or not isinstance(index, GPUTensor) for index in indices)
    unsized = name == "repeat_interleave" and kwargs.get("output_size") is None
    if (crosses and not asynchronous) or by_value or (on_gpu and (unsized or name in READ_BACK)):
        waits[name, source_line()] += 1

    if target is not None:
        held_kwargs["device"] = "cpu"
    with torch.inference_mode(False), torch.no_grad():  # a subclass cannot make views as inference tensors
        result = RESOLVED.get(name, func)(*held_args, **held_kwargs)
        given = {id(tensor.held): tensor for tensor in on_gpu}  # what in-place operations and `out=` return
        return wrapped(result, given) if result_on_gpu else result


def held(value, tensors: list[torch.Tensor]):
    """An argument with the values of its GPU tensors in their place; all of its tensors are added to `tensors`."""
    if isinstance(value, torch.Tensor):
        tensors.append(value)
        return value.held if isinstance(value, GPUTensor) else value
    if isinstance(value, list | tuple):
        return type(value)([held(part, tensors) for part in value])
    if isinstance(value, dict):
        return {key: held(part, tensors) for key, part in value.items()}
    return value


def wrapped(result, given: dict[int, GPUTensor]):
    """A result with GPU tensors in the place of its tensors."""
    if isinstance(result, torch.Tensor):
        return given[id(result)] if id(result) in given else GPUTensor(result)
    if isinstance(result, list | tuple):
        return type(result)([wrapped(part, given) for part in result])
    return result


saved_from_gpu: set[int] = set()  # storages


def location_of(storage) -> str | None:
    """Where `torch.save` says that a storage was."""
    return "cuda:0" if storage._cdata in saved_from_gpu else None


def located(storage, location: str):
    """`torch.load` of what was on the GPU. Without the pretend GPU, torch's own error follows."""
    return storage if location.startswith("cuda") and torch.cuda.is_available() else None


torch.serialization.register_package(0, location_of, located)


def pinned(tensor: torch.Tensor) -> torch.Tensor:
    """In the place of Tensor.pin_memory, which needs a driver."""
    copy = tensor.clone()
    copy.pretended_pinned = True
    return copy


def source_line() -> str:
    """The innermost line that is neither in an installed package nor here."""
    frame = sys._getframe(1)
    while frame is not None and ("/lib/python" in frame.f_code.co_filename or frame.f_code.co_filename == __file__):
        frame = frame.f_back
    return f"{'/'.join(frame.f_code.co_filename.split('/')[-2:])}:{frame.f_lineno}" if frame else "?"


class OneThread(TorchDispatchMode):
    """The operations of one thread, as torch's modes are."""

    def __init__(self, waits: Counter):
        super().__init__()
        self.waits = waits

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.overloadpacket is torch.ops.aten.to:  # inference mode does not resolve it to the copy that it makes
            with OneThread(self.waits):
                return func.decompose(*args, **kwargs or {})
        return compute(func, args, kwargs or {}, self.waits)


class PretendGPU(OneThread):
    """capability: of the GPU; (8, 0), Ampere, computes bf16 natively."""

    def __init__(self, capability: tuple[int, int] = (8, 0)):
        super().__init__(Counter())
        answers = {
            "is_available": True,
            "device_count": 1,
            "get_device_capability": capability,
            "get_device_name": "pretend GPU",
            "is_bf16_supported": capability >= (8, 0),
            "is_current_stream_capturing": False,
            "_lazy_init": None,
        }
        self.patches = [mock.patch.object(torch.cuda, name, lambda *_, v=v, **__: v) for name, v in answers.items()]
        self.patches.append(mock.patch.object(torch.cuda, "synchronize", self.synchronise))
        self.patches.append(mock.patch("torch.cuda.amp.common.amp_definitely_not_available", lambda: False))
        self.patches.append(mock.patch.object(torch.Tensor, "pin_memory", pinned))
        self.patches.append(mock.patch.object(ThreadPoolExecutor, "submit", self.submitting(ThreadPoolExecutor.submit)))

    def synchronise(self, device=None) -> None:
        self.waits["synchronize", source_line()] += 1

    def submitting(self, submit):
        """ThreadPoolExecutor.submit, whose threads have the GPU too."""

        def on_gpu(function, *arguments, **named):
            with OneThread(self.waits):
                return function(*arguments, **named)

        return lambda pool, function, *arguments, **named: submit(pool, on_gpu, function, *arguments, **named)

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
        saved_from_gpu.clear()
        self._switch(False)
