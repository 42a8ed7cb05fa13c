"""What a compiled step launches, recorded as data: done again on other memory it is the step.

On a CPU every launch is an operation of torch's library. Kernels are launched here on a driver written in Python,
through torch's own launchers; those of real steps are recorded in `test_training_gpu`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from evomix.training import compiled, launches, portable
from evomix.training.compiled import Compiled
from evomix.training.launches import Replay, record
from evomix.training.stack import Stack
from test_training_compiled import BATCHES, STANDARD, curves
from test_training_ensemble import RUNS, make_trainers

CPU = torch.device("cpu")


def test_a_recorded_step_is_the_step(tmp_path: Path) -> None:
    """Recorded on zeros, replayed as forty steps in float64, dropout on; memory of finished tensors is used again."""
    compiled.trace(Stack(make_trainers(STANDARD, torch.float64)), BATCHES[0], tmp_path)
    module, inputs = portable.read((tmp_path / compiled.GRAPH).read_text())
    record(lambda: module, inputs, tmp_path / "step")
    stepper = Compiled.__new__(Compiled)
    stepper.stack, stepper.captured = Stack(make_trainers(STANDARD, torch.float64)), []
    stepper.runner = Replay(tmp_path / "step", CPU)
    assert len(stepper.runner.regions) < len(stepper.runner.launches)
    ours, theirs = curves(stepper, make_trainers(STANDARD, torch.float64))
    assert (ours - theirs).abs().max() < 1e-10
    assert len(set(ours[-1, 0].tolist())) == RUNS


def test_inputs_may_be_views_and_results_are_those_of_the_last_call(tmp_path: Path) -> None:
    def function(x: torch.Tensor, y: torch.Tensor) -> list[torch.Tensor]:
        return [x[1:] * 2 + y.t(), torch.bmm(x[None], y[None]).sum()]

    record(lambda: function, given(0), tmp_path / "x")
    replay = Replay(tmp_path / "x", CPU)
    for seed in (1, 2):
        wanted, found = function(*given(seed)), replay.run(given(seed))
        assert all(torch.equal(ours, theirs) for ours, theirs in zip(found, wanted, strict=True))


def given(seed: int) -> list[torch.Tensor]:
    """Return inputs, of which the second is a view behind an offset."""
    values = torch.rand(5, 2, generator=torch.Generator().manual_seed(seed))
    return [values[:3].clone(), values[3:]]


def test_memory_that_was_used_again_in_other_sizes_is_one_region() -> None:
    assert launches._regions({(150, 300), (100, 200), (300, 400), (500, 500)}, []) == [(100, 300), (300, 400)]


def moody() -> Callable[[torch.Tensor], list[torch.Tensor]]:
    """Return a function that computes something else at every call."""
    calls: list[int] = []

    def function(x: torch.Tensor) -> list[torch.Tensor]:
        calls.append(1)
        return [x + len(calls)]

    return function


def choosy(x: torch.Tensor) -> list[torch.Tensor]:
    """Launch by the values of `x`."""
    return [x * 2 if x.sum() == 0 else x * 3]


@pytest.mark.parametrize("make", [moody, lambda: choosy])
def test_a_step_that_a_replay_does_not_repeat_is_refused(
    make: Callable[[], Callable[..., list[torch.Tensor]]], tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="do not repeat the compiled step"):
        record(make, [torch.zeros(4)], tmp_path / "x")


def test_a_forgotten_launch_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = launches._placed

    def forgetful(value: object, *rest: object) -> object:
        placed = whole(value, *rest)  # type: ignore[arg-type]
        return placed[1:] if isinstance(value, list) and value and "operation" in str(value[0])[:14] else placed

    monkeypatch.setattr(launches, "_placed", forgetful)
    with pytest.raises(ValueError, match="do not repeat"):
        record(lambda: lambda x: [(x + 1) * 2], [torch.zeros(4)], tmp_path / "x")


def test_an_argument_that_is_no_data_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="an argument of type str"):
        record(lambda: lambda x: [torch.nn.functional.gelu(x, approximate="tanh")], [torch.zeros(4)], tmp_path / "x")


class Driver:
    """A GPU's driver whose machine code is the name of one of two programs, and which notes what it launches."""

    def __init__(self) -> None:
        self.loaded: list[str] = []
        self.launched: list[tuple[Any, ...]] = []

    def _load_kernel(self, path: str, name: str, shared: int, device: int) -> tuple[int, int, int, int]:
        self.loaded.append(Path(path).read_text())
        return 0, len(self.loaded) - 1, 32, 0

    def _unload_kernel(self, module: int) -> None:
        pass

    def _launch_kernel(self, function: int, *rest: Any) -> None:
        *how, types, arguments, stream = rest
        self.launched.append((self.loaded[function], *how, types, stream))
        assert len(types) == len(arguments)
        first, second, result, count, scratch = arguments
        assert scratch is None
        with torch.utils._python_dispatch._disable_current_modes():
            left, right = first.flatten()[:count], second.flatten()[:count]
            result.view(-1)[:count] = left * right if self.loaded[function] == "multiply" else left - right


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Driver:
    made = Driver()
    monkeypatch.setattr(torch._C, "_StaticCudaLauncher", made, raising=False)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: SimpleNamespace(cuda_stream=9))
    return made


def kernel(program: str, folder: Path, grid: tuple[int, int, int]) -> Any:
    """Return what the compiler makes of a kernel (in, in, out, count): torch's launcher of loaded machine code."""
    from torch._inductor.runtime.static_triton_launcher import StaticallyLaunchedCudaKernel
    from torch._inductor.runtime.triton_heuristics import CachingAutotuner

    loaded: Any = object.__new__(StaticallyLaunchedCudaKernel)
    loaded.name, loaded.function, loaded.cubin_path = program, None, folder / f"{program}.cubin"
    loaded.cubin_path.write_text(program)
    loaded.num_warps, loaded.shared, loaded.arg_tys = 4, 512, "OOOi"
    loaded.has_global_scratch, loaded.has_profile_scratch = True, False
    loaded.load_kernel(0)
    launcher: Any = object.__new__(CachingAutotuner)
    launcher.fn = SimpleNamespace(__name__=program)
    runner = loaded.run  # bound when it is loaded, as torch does
    launcher._cached_launcher = lambda *arguments, stream: runner(*grid, stream, *arguments)
    return launcher


def with_kernels(folder: Path) -> Callable[..., list[torch.Tensor]]:
    """Load two kernels and return a function that launches them three times between operations of the library."""
    multiply, subtract = kernel("multiply", folder, (3, 1, 1)), kernel("subtract", folder, (2, 5, 1))

    def function(x: torch.Tensor, y: torch.Tensor) -> list[torch.Tensor]:
        product = torch.empty(3, 2)
        multiply.run(x, y.contiguous(), product, 6, stream=0)
        total = torch.bmm(product[None], y.t()[None])[0]
        difference = torch.empty(3, 3)
        subtract.run(total, total.t().contiguous(), difference, 9, stream=0)
        del product
        again = torch.empty(3, 2)
        multiply.run(difference[:, :2].contiguous(), x, again, 6, stream=0)
        return [again, difference + 1]

    return function


def pair(seed: int) -> list[torch.Tensor]:
    """Return inputs (3, 2) and (3, 2)."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.rand(3, 2, generator=generator) for _ in range(2)]


def test_recorded_kernels_are_launched_again(tmp_path: Path, driver: Driver) -> None:
    record(lambda: with_kernels(tmp_path), pair(0), tmp_path / "x")
    driver.launched.clear()
    wanted = with_kernels(tmp_path)(*pair(1))
    first, driver.launched = driver.launched, []
    for code in tmp_path.glob("*.cubin"):
        code.unlink()
    replay = Replay(tmp_path / "x", CPU)
    for region in replay.regions:
        region.fill_(255)
    found = replay.run(pair(1))
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(found, wanted, strict=True))
    assert driver.launched == [(*launch[:-1], 9) for launch in first]
    assert [launch[:4] for launch in first] == [("multiply", 3, 1, 1), ("subtract", 2, 5, 1), ("multiply", 3, 1, 1)]


def test_kernels_that_were_loaded_before_are_refused(tmp_path: Path, driver: Driver) -> None:
    """A second compilation in a process finds the first one's kernels, whose launches nobody sees."""
    function = with_kernels(tmp_path)
    with pytest.raises(TypeError, match=r"kernel multiply .* was loaded before the recording began"):
        record(lambda: function, pair(0), tmp_path / "x")
