"""Materialised mixing matrices: values set to the identity, one call, for every framework alike."""

from __future__ import annotations

import torch
from torch import Tensor

from evomix.mechanisms.contract import Mechanism


def mixing_matrix(mechanism: Mechanism, x_BTD: Tensor) -> Tensor:
    """Return M_BHTT, whose entry [t, i] is the weight of v_i in y_t, for a mechanism that is linear in v.

    `x_BTD` is the layer-normed input of the mechanism's layer; without the batch dimension the result is M_HTT.
    """
    tokens = x_BTD.shape[-2]
    identity = torch.eye(tokens, device=x_BTD.device, dtype=x_BTD.dtype)
    return mechanism(x_BTD, identity.expand(*x_BTD.shape[:-2], mechanism.heads, tokens, tokens))  # type: ignore[no-any-return]
