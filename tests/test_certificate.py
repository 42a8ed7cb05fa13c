"""No expert member is wrongly refused, at the start, with large parameters and on trained weights."""

from __future__ import annotations

import json

import pytest
import torch
from torch import Tensor

from evomix.artifacts import canonical_json
from evomix.mechanisms import library
from evomix.mechanisms.certificate import certify
from evomix.mechanisms.contract import Mechanism, build_mechanism

MEMBERS = [(framework, name) for framework in library.FRAMEWORKS for name in library.gallery(framework)]
CONDITIONS = {"init", "parameters × 10", "parameters × 100"}


def trained_weights(mechanism_type: type[Mechanism], width: int, heads: int, steps: int) -> dict[str, Tensor]:
    """Train one layer to recall: the output at a repeated token is the value at its first occurrence."""
    mechanism = build_mechanism(mechanism_type, width, heads, 3, "trained").train()
    table = torch.randn(8, width, generator=torch.Generator().manual_seed(1))
    optimiser = torch.optim.AdamW(mechanism.parameters(), lr=0.03)
    for step in range(steps):
        stream = torch.Generator().manual_seed(step)
        first = torch.stack([torch.randperm(8, generator=stream) for _ in range(8)])
        x = torch.nn.functional.layer_norm(table[torch.cat([first, first], 1)], (width,))
        v = torch.randn(8, heads, 16, width // heads, generator=stream)
        loss = (mechanism(x, v)[:, :, 8:] - v[:, :, :8]).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return dict(mechanism.state_dict())


@pytest.mark.parametrize(("framework", "name"), MEMBERS)
def test_no_member_is_refused(framework: str, name: str) -> None:
    mechanism_type = library.load(library.gallery(framework)[name])
    weights = trained_weights(mechanism_type, 16, 2, 60)
    certificate = certify(mechanism_type, width=16, heads=2, seed=5, weights=weights)
    assert certificate["passed"], certificate["refusals"]
    assert certificate["framework"] == framework
    conditions = {test["condition"].split(",")[0] for test in certificate["tests"]}
    assert conditions == {"class", "trained", *CONDITIONS}
    modes = {test["condition"] for test in certificate["tests"] if test["id"] == "G2"}
    assert {"init, training", "init, evaluation", "trained, training"} <= modes
    json.loads(canonical_json(certificate))


@pytest.mark.slow
@pytest.mark.parametrize(("width", "heads"), [(32, 4), (128, 4), (72, 3)])
@pytest.mark.parametrize(("framework", "name"), MEMBERS)
def test_no_member_is_refused_at_other_shapes(framework: str, name: str, width: int, heads: int) -> None:
    mechanism_type = library.load(library.gallery(framework)[name])
    for seed in (0, 1, 2):
        certificate = certify(mechanism_type, width=width, heads=heads, seed=seed)
        assert certificate["passed"], certificate["refusals"]


def test_the_certificate_is_a_function_of_its_arguments() -> None:
    mechanism_type = library.load(library.standard("matrix_mixer"))
    before = torch.get_rng_state()
    one, two = (certify(mechanism_type, width=16, heads=2, seed=5) for _ in range(2))
    assert one == two
    assert torch.equal(before, torch.get_rng_state())
