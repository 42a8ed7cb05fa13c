"""The fixed shell: protocol, parameter counts, paired initial values, causality, dropout, FLOPs."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from evomix.mechanisms import library
from evomix.mechanisms.costs import count_operations
from evomix.model.dropout import draw_masks, rounded_probability
from evomix.model.flops import counted_flops, forward_flops, shell_flops
from evomix.model.sizes import embedding_parameters, non_embedding_parameters
from evomix.model.transformer import Transformer, sinusoidal_positions
from evomix.streams import torch_stream
from training_study import architecture

FRAMEWORKS = ["coefficient_dynamics", "test_time_regression", "matrix_mixer"]


def build(framework: str = "matrix_mixer", seed: int = 3, member: str = "softmax", **changes: int) -> Transformer:
    return Transformer(architecture(**changes), library.load(library.gallery(framework)[member]), seed)


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_standard_has_the_parameters_of_the_size_table(framework: str) -> None:
    counts = build(framework, width=24, layers=3, heads=3).parameter_counts()
    assert counts["non_embedding"] == non_embedding_parameters(24, 3)
    assert counts["embedding"] == embedding_parameters(24, 61)
    assert counts["total"] == counts["non_embedding"] + counts["embedding"]
    assert counts["mechanism"] == 3 * 2 * 24 * 24


def test_shared_parameters_start_equal_across_variants_and_differ_across_seeds() -> None:
    reference = build("matrix_mixer").state_dict()
    for framework in FRAMEWORKS:
        for member in library.gallery(framework):
            state = build(framework, member=member).state_dict()
            for name in state.keys() & reference.keys():
                if state[name].shape == reference[name].shape and "mechanism" not in name:
                    assert torch.equal(state[name], reference[name]), (framework, member, name)
    other = build("matrix_mixer", seed=4).state_dict()
    assert not torch.equal(other["blocks.0.value.weight"], reference["blocks.0.value.weight"])
    assert not torch.equal(reference["blocks.1.value.weight"], reference["blocks.0.value.weight"])


def test_standards_of_all_frameworks_are_one_function() -> None:
    tokens = torch.randint(61, (2, 16), generator=torch_stream(1, "tokens"))
    outputs = [build(framework)(tokens) for framework in FRAMEWORKS]
    for output in outputs[1:]:
        torch.testing.assert_close(output, outputs[0], atol=1e-5, rtol=0)


def test_construction_does_not_touch_global_randomness() -> None:
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    build()
    assert torch.equal(torch.rand(3), expected)


def test_no_output_depends_on_a_later_token() -> None:
    model = build()
    tokens = torch.randint(61, (1, 16), generator=torch_stream(1, "tokens"))
    embedded = model.embedding(tokens).detach().requires_grad_()
    x = embedded
    for block in model.blocks:
        x = block(x, None)
    x[0, 7].square().sum().backward()
    gradient = embedded.grad
    assert gradient is not None
    assert gradient[0, 8:].abs().max() == 0
    assert (gradient[0, :8].abs().sum(-1) > 0).all()


def test_positions_follow_the_formula() -> None:
    positions = sinusoidal_positions(50, 8)
    assert positions[7, 2] == pytest.approx(torch.tensor(7 / 10_000 ** (2 / 8)).sin().item(), abs=1e-6)
    assert positions[7, 5] == pytest.approx(torch.tensor(7 / 10_000 ** (4 / 8)).cos().item(), abs=1e-6)
    model = build(width=32, vocabulary=400)
    scale = model.positions_TD.square().mean().sqrt() / model.embedding.weight.square().mean().sqrt()
    assert scale.item() == pytest.approx(1, rel=0.05)


def test_head_is_tied_and_shell_is_not_gated() -> None:
    names = set(dict(build().named_parameters()))
    assert not any(word in name for name in names for word in ("head", "position", "gate"))
    assert "blocks.0.value.bias" not in names
    assert "blocks.0.feed_forward_in.bias" in names


def test_dropout_mask_has_the_right_share_and_mean() -> None:
    stream = torch_stream(1, "dropout")
    mask, another = draw_masks(2, torch.Size([501, 1001]), 0.1, [stream], torch.float64)[0]
    count = mask.numel()
    assert abs(rounded_probability(0.1) - 0.1) < 1e-5
    assert (mask == 0).double().mean().item() == pytest.approx(0.1, abs=5 * (0.09 / count) ** 0.5)
    assert mask.max().item() == pytest.approx(1 / (1 - rounded_probability(0.1)))
    # Neighbouring 16-bit pieces of one 64-bit draw must not be related.
    dropped = (mask.flatten()[: count // 4 * 4] == 0).double().view(-1, 4)
    assert torch.corrcoef(dropped.T).triu(1).abs().max().item() < 5 / (count / 4) ** 0.5
    assert not torch.equal(mask, another)


def test_hidden_draws_dropout_from_the_given_stream_only() -> None:
    model = build()
    tokens = torch.randint(61, (2, 16), generator=torch_stream(1, "tokens"))
    first = model.hidden(tokens, torch_stream(1, "dropout"))
    assert torch.equal(first, model.hidden(tokens, torch_stream(1, "dropout")))
    assert not torch.equal(first, model.hidden(tokens, torch_stream(2, "dropout")))
    assert torch.equal(model.hidden(tokens, None), model(tokens))


def test_shell_flops_match_a_counter() -> None:
    model = build(width=24, layers=3, heads=3)
    tokens = torch.randint(61, (1, 16), generator=torch_stream(1, "tokens"))
    with FlopCounterMode(display=False) as whole:
        hidden = model(tokens)
        _ = hidden @ model.embedding.weight.T
    with FlopCounterMode(display=False) as mixing:
        for mechanism in model.mechanisms():
            mechanism(torch.zeros(1, 16, 24), torch.zeros(1, 3, 16, 8))
    expected = (whole.get_total_flops() - mixing.get_total_flops()) / 16
    assert shell_flops(24, 3, 61) == expected
    flops = forward_flops(model)
    assert flops["total"] == flops["shell"] + flops["mechanism"]
    assert flops["mechanism"] >= mixing.get_total_flops() / 16


def test_counted_flops_agree_with_torchs_counter_and_add_what_it_misses() -> None:
    model = build(width=24, layers=3, heads=3)
    tokens = torch.zeros(1, model.architecture.sequence_length, dtype=torch.long)
    with FlopCounterMode(display=False) as whole:
        _ = model(tokens) @ model.embedding.weight.T
    found = counted_flops(model)
    assert found["torch"] == round(whole.get_total_flops() / model.architecture.sequence_length)
    assert found["counted"] == pytest.approx(found["torch"] + sum(found["unseen"].values()), abs=len(found["unseen"]))
    assert found["unseen"]["_softmax"] > 0


def test_counter_sees_where_torchs_is_blind() -> None:
    """On a CPU torch's counter charges fused attention, transforms and cumulative sums nothing."""
    q = torch.randn(2, 3, 32, 8)
    fused = lambda: F.scaled_dot_product_attention(q, q, q, is_causal=True)  # noqa: E731
    for call, least in (
        (fused, 2 * 2 * (2 * 3) * 32 * 32 * 8),
        (lambda: torch.fft.rfft(q), 2.5 * q.numel() * 3),
        (lambda: q.cumsum(-1), q.numel()),
    ):
        with FlopCounterMode(display=False) as counter:
            call()
        found = count_operations(call)
        assert counter.get_total_flops() == found.seen == 0
        assert found.executed == pytest.approx(least)
