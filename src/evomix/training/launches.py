"""A compiled step for a GPU as plain data: kernels, and the order in which they are launched on fixed memory.

For a GPU torch's compiler makes Python code that allocates memory, launches kernels and calls library operations.
Called once while every launch is recorded, it becomes a list in a safetensors file: machine code of kernels, and per
launch the kernel or operation with places in memory. Who replays the list needs no compiler and starts no program, as
a candidate's sandbox demands; in a CUDA graph its price in Python is paid once.

Memory: the recorded addresses, in which memory of finished tensors was used again, fall into regions; a replay has its
own regions of the same sizes, and a place is a region and an offset. Inputs are where they are given.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch.utils._python_dispatch import TorchDispatchMode


class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Records what is launched inside; addresses are absolute."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.entries: list[dict[str, Any]] = []
        self.extents: set[tuple[int, int]] = set()
        self.binaries: dict[str, bytes] = {}

    def encode(self, value: Any) -> Any:
        """Return a value as JSON; tensors as addresses, which are remembered."""
        if isinstance(value, torch.Tensor):
            storage = value.untyped_storage()
            self.extents.add((storage.data_ptr(), storage.data_ptr() + storage.nbytes()))
            shape = [list(value.shape), list(value.stride()), str(value.dtype).removeprefix("torch.")]
            return {"address": value.data_ptr(), "shape": shape}
        if isinstance(value, list | tuple):
            return [self.encode(item) for item in value]
        if value is None or isinstance(value, bool | int | float):
            return value
        if isinstance(value, torch.device):
            return {"constant": "device"}
        if isinstance(value, torch.dtype | torch.memory_format | torch.layout):
            return {"constant": str(value).removeprefix("torch.")}
        raise TypeError(f"a launch has an argument of type {type(value).__name__}")

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        given = [self.encode(list(args)), {key: self.encode(value) for key, value in kwargs.items()}]
        result = func(*args, **kwargs)
        if not func.is_view and not func.name().startswith("aten::empty"):
            owned = {each.untyped_storage().data_ptr() for each in _tensors([args, list(kwargs.values())])}
            fresh = [
                self.encode(each) if each.untyped_storage().data_ptr() not in owned else None
                for each in _tensors(result)
            ]
            self.entries.append({"operation": str(func), "arguments": given, "results": fresh})
        return result

    def kernel(self, launched: Any, grid: tuple[int, int, int], args: Sequence[Any]) -> None:
        """Record the launch of a Triton kernel."""
        scratch = int(launched.has_global_scratch) + int(launched.has_profile_scratch)
        self.entries.append(
            {
                "kernel": launched.recorded,
                "grid": grid,
                "types": launched.arg_tys + "O" * scratch,
                "arguments": [self.encode(value) for value in (*args, *[None] * scratch)],
            }
        )


def _tensors(value: Any) -> Iterator[torch.Tensor]:
    """Yield the tensors in nested lists and tuples."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _tensors(item)


@contextmanager
def _watching_kernels(recorder: _Recorder) -> Iterator[None]:
    """Keep the machine code of kernels that are loaded inside, and record their launches while the recorder is on."""
    from torch._inductor.runtime.static_triton_launcher import StaticallyLaunchedTritonKernel as Kernel
    from torch._inductor.runtime.triton_heuristics import CachingAutotuner as Launcher

    load, run, launch = Kernel.load_kernel, Kernel.run, Launcher.run

    def launching(launcher: Any, *args: Any, **named: Any) -> Any:
        before = len(recorder.entries)
        result = launch(launcher, *args, **named)  # type: ignore[no-untyped-call]
        if _recording(recorder) and len(recorder.entries) != before + 1:
            raise TypeError(
                f"kernel {launcher.fn.__name__} is launched by its compiler, or was loaded before the recording began"
            )
        return result

    def loading(kernel: Any, device: int) -> None:
        if kernel.function is None:
            code = Path(kernel.cubin_path).read_bytes()
            key = f"{kernel.name}.{hashlib.sha256(code).hexdigest()[:16]}"
            recorder.binaries[key] = code
            kernel.recorded = {"code": key, "name": kernel.name, "shared": kernel.shared, "warps": kernel.num_warps}
        load(kernel, device)

    def running(kernel: Any, x: int, y: int, z: int, stream: int, *args: Any) -> None:
        if _recording(recorder):
            recorder.kernel(kernel, (x, y, z), args)
        run(kernel, x, y, z, stream, *args)

    with (
        mock.patch.object(Kernel, "load_kernel", loading),
        mock.patch.object(Kernel, "run", running),
        mock.patch.object(Launcher, "run", launching),
    ):
        yield


def _recording(recorder: _Recorder) -> bool:
    return torch.utils._python_dispatch._get_current_dispatch_mode() is recorder


def record(make: Callable[[], Callable[..., Any]], inputs: Sequence[torch.Tensor], path: Path) -> None:
    """Call what `make` returns on `inputs` and write what it launched to `path`; other inputs must give its results.

    Every call must launch the same: no shape or choice may depend on values. The process must have compiled nothing
    before, else its kernels are not seen as they are loaded. TypeError for what cannot be recorded, ValueError when a
    replay, on memory of its own, does not return what the function returns.
    """
    recorder = _Recorder()
    with torch.no_grad(), _watching_kernels(recorder):
        function = make()
        function(*inputs)  # whatever is loaded, chosen or allocated once is behind us then
        with recorder:
            outputs = function(*inputs)
            results = recorder.encode(list(outputs))
    del outputs
    regions = _regions(recorder.extents, inputs)
    content = {
        "launches": _placed(recorder.entries, regions, inputs),
        "results": _placed(results, regions, inputs),
        "regions": [end - start for start, end in regions],
    }
    binaries = {
        key: torch.frombuffer(bytearray(code), dtype=torch.uint8) for key, code in sorted(recorder.binaries.items())
    }
    save_file(binaries or {"none": torch.zeros(1, dtype=torch.uint8)}, path, {"launches": json.dumps(content)})
    _check(function, inputs, path)


def _check(function: Callable[..., Any], inputs: Sequence[torch.Tensor], path: Path) -> None:
    """Raise ValueError unless a replay of `path` equals `function` on new inputs of the shapes of `inputs`."""
    generator = torch.Generator(inputs[0].device).manual_seed(1)
    others = [
        torch.rand(each.shape, generator=generator, dtype=each.dtype, device=each.device)
        if each.is_floating_point()
        else torch.randint(0, 2, each.shape, generator=generator, dtype=each.dtype, device=each.device)
        for each in inputs
    ]
    with torch.no_grad():
        wanted = [each.clone() for each in function(*others)]
    for found, result in zip(Replay(path, inputs[0].device).run(others), wanted, strict=True):
        if not torch.allclose(found, result, rtol=2**-8, equal_nan=True):
            raise ValueError("the recorded launches do not repeat the compiled step")


def _regions(extents: set[tuple[int, int]], inputs: Sequence[torch.Tensor]) -> list[tuple[int, int]]:
    """Return the memory that was used, inputs excepted, as disjoint intervals of addresses."""
    given = {each.untyped_storage().data_ptr() for each in inputs}
    regions: list[tuple[int, int]] = []
    for start, end in sorted(extents):
        if start in given or start == end:
            continue
        if regions and start < regions[-1][1]:
            regions[-1] = (regions[-1][0], max(end, regions[-1][1]))
        else:
            regions.append((start, end))
    return regions


def _placed(value: Any, regions: list[tuple[int, int]], inputs: Sequence[torch.Tensor]) -> Any:
    """Return a recorded value with places for addresses: (−1 − input, bytes) or (region, bytes)."""
    if isinstance(value, list):
        return [_placed(item, regions, inputs) for item in value]
    if not isinstance(value, dict):
        return value
    if "address" not in value:
        return {key: _placed(item, regions, inputs) for key, item in value.items()}
    address = value["address"]
    for index, each in enumerate(inputs):
        start = each.untyped_storage().data_ptr()
        if start <= address < start + each.untyped_storage().nbytes():
            return {"place": [-1 - index, address - each.data_ptr()], "shape": value["shape"]}
    for index, (start, end) in enumerate(regions):
        if start <= address < end:
            return {"place": [index, address - start], "shape": value["shape"]}
    return {"place": None, "shape": value["shape"]}  # no element, hence no memory


class Replay:
    """The launches of a recorded step, done again."""

    def __init__(self, path: Path, device: torch.device) -> None:
        """Load kernels and take memory on `device`."""
        self.device = device
        with safe_open(path, "pt") as stream:
            content = json.loads(stream.metadata()["launches"])
            codes = {key: stream.get_tensor(key).numpy().tobytes() for key in stream.keys()}  # noqa: SIM118
        self.regions = [torch.empty(size, dtype=torch.uint8, device=device) for size in content["regions"]]
        self.functions: dict[str, int] = {}
        self.launches = [self._launch(entry, codes) for entry in content["launches"]]
        self.results = self._decode(content["results"])

    def run(self, inputs: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Launch everything on `inputs`; what is returned is overwritten by the next call."""
        with torch.no_grad():
            for launch in self.launches:
                launch(inputs)
        return [_filled(result, inputs) for result in self.results]

    def _launch(self, entry: dict[str, Any], codes: dict[str, bytes]) -> Callable[[Sequence[torch.Tensor]], None]:
        if "kernel" in entry:
            return self._kernel(entry, codes)
        operation: Any = torch.ops
        for name in entry["operation"].split("."):
            operation = getattr(operation, name)
        positional, named = self._decode(entry["arguments"])
        places = self._decode(entry["results"])

        def call(inputs: Sequence[torch.Tensor]) -> None:
            result = operation(*_filled(positional, inputs), **_filled(named, inputs))
            for place, fresh in zip(places, _tensors(result), strict=True):
                if place is not None:
                    place.copy_(fresh)

        return call

    def _kernel(self, entry: dict[str, Any], codes: dict[str, bytes]) -> Callable[[Sequence[torch.Tensor]], None]:
        from torch._C import _StaticCudaLauncher

        kernel, types = entry["kernel"], entry["types"]
        x, y, z = entry["grid"]
        key = kernel["code"]
        if key not in self.functions:
            with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
                file.write(codes[key])
                file.flush()
                loaded = _StaticCudaLauncher._load_kernel(
                    file.name, kernel["name"], kernel["shared"], torch.cuda.current_device()
                )
            self.functions[key] = loaded[-3]  # function, registers, spills; newer versions put the module first
        arguments = self._decode(entry["arguments"])

        def launch(inputs: Sequence[torch.Tensor]) -> None:
            stream = torch.cuda.current_stream().cuda_stream
            given = tuple(_filled(arguments, inputs))
            function, warps, shared = self.functions[key], kernel["warps"], kernel["shared"]
            _StaticCudaLauncher._launch_kernel(function, x, y, z, warps, shared, types, given, stream)

        return launch

    def _decode(self, value: Any) -> Any:
        """Return a recorded value with tensors for places, and `_Given` for places in inputs."""
        if isinstance(value, list):
            return [self._decode(item) for item in value]
        if not isinstance(value, dict):
            return value
        if "place" in value:
            shape, strides, dtype = value["shape"]
            return self._tensor(shape, strides, dtype, value["place"])
        if "constant" in value:
            return self.device if value["constant"] == "device" else getattr(torch, value["constant"])
        return {key: self._decode(item) for key, item in value.items()}

    def _tensor(self, shape: list[int], strides: list[int], dtype: str, place: list[int] | None) -> Any:
        kind = getattr(torch, dtype)
        if place is None:
            return torch.empty_strided(shape, strides, dtype=kind, device=self.device)
        if place[0] < 0:
            return _Given(-1 - place[0], place[1] // kind.itemsize, shape, strides, kind)
        return _view(self.regions[place[0]], place[1] // kind.itemsize, shape, strides, kind)


class _Given:
    """A view of an input, which is known when the step is taken."""

    def __init__(self, index: int, offset: int, shape: list[int], strides: list[int], dtype: torch.dtype) -> None:
        self.index, self.offset, self.shape, self.strides, self.dtype = index, offset, shape, strides, dtype

    def of(self, inputs: Sequence[torch.Tensor]) -> torch.Tensor:
        """Return the view."""
        given = inputs[self.index]
        given = given if given.dtype == self.dtype else given.view(self.dtype)
        return given.as_strided(self.shape, self.strides, given.storage_offset() + self.offset)


def _view(memory: torch.Tensor, offset: int, shape: list[int], strides: list[int], dtype: torch.dtype) -> torch.Tensor:
    """Return a tensor on the memory of another."""
    return torch.empty(0, dtype=dtype, device=memory.device).set_(memory.untyped_storage(), offset, shape, strides)


def _filled(value: Any, inputs: Sequence[torch.Tensor]) -> Any:
    """Return a decoded value with views of the inputs in their places."""
    if isinstance(value, _Given):
        return value.of(inputs)
    if isinstance(value, list):
        return [_filled(item, inputs) for item in value]
    if isinstance(value, dict):
        return {key: _filled(item, inputs) for key, item in value.items()}
    return value
