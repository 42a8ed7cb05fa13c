"""Contract suite: every mechanism file is found by itself and must keep what its contract promises."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.func import functional_call, grad, stack_module_state, vmap

from evomix.gate import syntax
from evomix.mechanisms import library, members
from evomix.mechanisms.contract import Mechanism, build_mechanism, initialise_mechanism
from evomix.mechanisms.costs import cost, parameter_count
from evomix.mechanisms.matrices import mixing_matrix
from evomix.mechanisms.test_time_regression.estimators import second_moments

MEMBERS = [(framework, name) for framework in library.FRAMEWORKS for name in library.gallery(framework)]
WIDTH, HEADS = 32, 4


def build(framework: str, name: str, width: int = WIDTH, heads: int = HEADS, scale: float = 1.0) -> Mechanism:
    mechanism = build_mechanism(library.load(library.gallery(framework)[name]), width, heads, 1, "layer")
    with torch.no_grad():
        for parameter in mechanism.parameters():
            parameter.mul_(scale)
    return mechanism


def inputs(tokens: int, batch: int | None, seed: int = 0) -> tuple[Tensor, Tensor]:
    stream = torch.Generator().manual_seed(seed)
    lead = () if batch is None else (batch,)
    x = torch.randn(*lead, tokens, WIDTH, generator=stream, dtype=torch.float64)
    v = torch.randn(*lead, HEADS, tokens, WIDTH // HEADS, generator=stream, dtype=torch.float64)
    return x, v


def relative(a: Tensor, b: Tensor) -> float:
    return float((a - b).detach().abs().max() / b.detach().abs().max().clamp(min=1e-12))


def agreement(framework: str, name: str, tokens: int, batch: int | None, scale: float) -> tuple[float, float]:
    """Largest relative errors of the output and of all gradients against the member's ground truth."""
    reference = library.load_reference(library.gallery(framework)[name])
    mechanism = build(framework, name, scale=scale).double()
    x, v = (z.requires_grad_() for z in inputs(tokens, batch))
    seed = torch.randn(v.shape, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    leaves = [x, v, *mechanism.parameters()]
    outputs = [mechanism(x, v), reference(mechanism, x, v)]
    gradients = [
        torch.autograd.grad((y * seed).sum(), leaves, allow_unused=True, materialize_grads=True) for y in outputs
    ]
    floor = 1e-3 * max(float(g.abs().max()) for g in gradients[1])
    gaps = [float((a - b).abs().max()) / max(float(b.abs().max()), floor) for a, b in zip(*gradients, strict=True)]
    return relative(*outputs), max(gaps)


@pytest.mark.parametrize(("framework", "name"), MEMBERS)
def test_fast_form_equals_ground_truth(framework: str, name: str) -> None:
    for tokens, batch, scale in ((1, 2, 1.0), (2, None, 10.0), (17, 2, 10.0), (65, None, 1.0)):
        forward, gradient = agreement(framework, name, tokens, batch, scale)
        assert forward < 1e-9, (tokens, batch, scale)
        assert gradient < 1e-9, (tokens, batch, scale)


@pytest.mark.slow
@pytest.mark.parametrize("tokens", [1, 2, 17, 64, 65, 128, 129])
@pytest.mark.parametrize(("framework", "name"), MEMBERS)
def test_fast_form_equals_ground_truth_everywhere(framework: str, name: str, tokens: int) -> None:
    for batch in (None, 2):
        for scale in (1.0, 10.0):
            forward, gradient = agreement(framework, name, tokens, batch, scale)
            assert forward < 1e-9, (batch, scale)
            assert gradient < 1e-9, (batch, scale)


@pytest.mark.parametrize("framework", library.FRAMEWORKS)
def test_softmax_is_softmax_attention(framework: str) -> None:
    mechanism = build(framework, "softmax", scale=10.0).double()
    x, v = inputs(33, 2)
    query, key = (mechanism.split_heads(getattr(mechanism, name)(x)) for name in ("query", "key"))
    expected = torch.nn.functional.scaled_dot_product_attention(query, key, v, is_causal=True)
    assert relative(mechanism(x, v), expected) < 1e-13


def test_qk_norm_is_softmax_attention_on_the_sphere() -> None:
    mechanism = build("test_time_regression", "qk_norm").double()
    x, v = inputs(33, 2)
    query, key = (
        torch.nn.functional.normalize(mechanism.split_heads(getattr(mechanism, name)(x)), dim=-1)
        for name in ("query", "key")
    )
    query = query * mechanism.temperature[:, None, None]
    expected = torch.nn.functional.scaled_dot_product_attention(query, key, v, is_causal=True, scale=1.0)
    assert relative(mechanism(x, v), expected) < 1e-9


def test_parallax_starts_as_softmax_attention() -> None:
    x, v = inputs(17, 2)
    parallax, softmax = (build("test_time_regression", name).double() for name in ("parallax", "softmax"))
    assert relative(parallax(x, v), softmax(x, v)) < 1e-13


@pytest.mark.parametrize(("framework", "name"), MEMBERS)
def test_stated_flops_are_the_executed_ones(framework: str, name: str) -> None:
    for tokens in (64, 128):
        found = cost(library.load(library.gallery(framework)[name]), width=128, heads=4, tokens=tokens)
        assert found["flops_per_token"] == pytest.approx(found["executed_flops_per_token"], rel=0.08)


@pytest.mark.parametrize(
    ("framework", "name", "overhead"),
    [
        ("coefficient_dynamics", "forgetting", 0.008),
        ("coefficient_dynamics", "ssd", 0.008),
        ("coefficient_dynamics", "gated_delta", 0.016),
        ("coefficient_dynamics", "gla", 0.064),
        ("test_time_regression", "delta", 0.008),
        ("test_time_regression", "mesa", 0.018),
        ("test_time_regression", "parallax", 0.25),
        ("matrix_mixer", "quasiseparable", 0.016),
        ("matrix_mixer", "log_linear", 0.086),
        ("matrix_mixer", "toeplitz", -0.469),
    ],
)
def test_parameters_per_layer_against_softmax(framework: str, name: str, overhead: float) -> None:
    shell = 2 * 128 * 128  # value and output maps
    own, softmax = (parameter_count(build(framework, member, width=128)) for member in (name, "softmax"))
    assert (own + shell) / (softmax + shell) - 1 == pytest.approx(overhead, abs=6e-4)


@pytest.mark.parametrize(("framework", "name"), MEMBERS)
def test_runs_stack_under_vmap(framework: str, name: str) -> None:
    models = [build(framework, name).double() for _ in range(2)]
    with torch.no_grad():
        for parameter in models[1].parameters():
            parameter.mul_(1.5)
    parameters, buffers = stack_module_state(models)
    x, v = inputs(19, 2)

    def loss(parameters: dict[str, Tensor], buffers: dict[str, Tensor]) -> Tensor:
        output: Tensor = functional_call(models[0], (parameters, buffers), (x, v))
        return output.square().sum()

    stacked = vmap(grad(loss))(parameters, buffers)
    for run, model in enumerate(models):
        single = grad(loss)(dict(model.named_parameters()), dict(model.named_buffers()))
        for key in single:
            torch.testing.assert_close(stacked[key][run], single[key], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("framework", "name"), MEMBERS)
def test_low_precision_training_step(framework: str, name: str) -> None:
    mechanism = build(framework, name)
    x, v = (z.float() for z in inputs(33, 2))
    exact = mechanism(x, v)
    with torch.autocast("cpu", torch.bfloat16):
        rough = mechanism(x, v)
    rough.float().sum().backward()
    assert relative(rough.float(), exact) < 0.05
    assert all(bool(p.grad.isfinite().all()) for p in mechanism.parameters() if p.grad is not None)


@pytest.mark.parametrize(("framework", "name"), MEMBERS)
def test_materialised_matrix_is_causal_and_mixes_the_values(framework: str, name: str) -> None:
    mechanism = build(framework, name, scale=3.0).double()
    x, v = inputs(21, 2)
    matrix = mixing_matrix(mechanism, x).detach()
    assert matrix.shape == (2, HEADS, 21, 21)
    assert float(matrix.triu(1).abs().max()) <= 1e-15 * float(matrix.abs().max())
    assert relative(matrix @ v, mechanism(x, v)) < 1e-12


@pytest.mark.slow
@pytest.mark.parametrize(("framework", "name"), MEMBERS)
def test_long_sequences_fit(framework: str, name: str) -> None:
    mechanism = build(framework, name, width=64, heads=2)
    stream = torch.Generator().manual_seed(0)
    x, v = torch.randn(2048, 64, generator=stream), torch.randn(2, 2048, 32, generator=stream)
    mechanism(x, v).square().mean().backward()
    assert all(bool(p.grad.isfinite().all()) for p in mechanism.parameters() if p.grad is not None)


def test_solves_keep_their_precision_under_autocast() -> None:
    weight, key = torch.ones(2, 5, 5), torch.ones(2, 5, 3)
    with torch.autocast("cpu", torch.bfloat16):
        moments = second_moments(weight, key.bfloat16())
    assert moments.dtype == torch.float32


def test_equal_maps_start_equal_and_the_start_is_a_function_of_the_seed() -> None:
    softmax = build("coefficient_dynamics", "softmax")
    for framework, name in MEMBERS:
        before = torch.get_rng_state()
        mechanism, again = build(framework, name), build(framework, name)
        assert torch.equal(before, torch.get_rng_state()), name
        for key, value in mechanism.state_dict().items():
            assert torch.equal(value, again.state_dict()[key])
            if key in ("query.weight", "key.weight"):
                assert torch.equal(value, softmax.state_dict()[key])
    other = build("coefficient_dynamics", "softmax")
    initialise_mechanism(other, 2, "layer")
    assert not torch.equal(other.query.weight, softmax.query.weight)
    initialise_mechanism(other, 1, "another layer")
    assert not torch.equal(other.query.weight, softmax.query.weight)
    assert float(softmax.query.weight.detach().std()) == pytest.approx(0.02, rel=0.1)


def test_a_new_file_joins_the_gallery_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "matrix_mixer"
    folder.mkdir()
    text = library.standard("matrix_mixer").read_text(encoding="utf-8")
    (folder / "newcomer.py").write_text(text, encoding="utf-8")
    (folder / "contract.py").write_text("# no member\n", encoding="utf-8")
    monkeypatch.setattr(members, "_HERE", tmp_path)
    assert list(library.gallery("matrix_mixer")) == ["newcomer"]
    assert library.load(folder / "newcomer.py", "matrix_mixer").framework == "matrix_mixer"


def test_the_split_of_the_gallery() -> None:
    assert set(library.gallery("coefficient_dynamics")) >= {
        "softmax", "forgetting", "linear", "retnet", "gla", "ssd", "gated_delta",
    }  # fmt: skip
    assert set(library.gallery("test_time_regression")) >= {
        "softmax", "qk_norm", "delta", "longhorn", "mesa", "local_linear", "parallax",
    }  # fmt: skip
    assert set(library.gallery("matrix_mixer")) >= {
        "softmax", "linear", "ssd", "toeplitz", "dynamic_toeplitz", "cauchy", "quasiseparable", "log_linear",
    }  # fmt: skip


@pytest.mark.parametrize(("framework", "name"), MEMBERS)
def test_every_member_may_seed_a_search(framework: str, name: str) -> None:
    path = library.gallery(framework)[name]
    assert syntax.check(path.read_text(encoding="utf-8"), framework) == []
    assert syntax.check(library.program(path), framework) == []
