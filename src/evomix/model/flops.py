"""Analytic forward FLOPs: the fixed shell's from its shapes, the mechanism's from its own count.

A multiply-add counts 2. Of the shell only matrix products count; norms, activations, the softmax of the loss and the
embedding lookup are of lower order and are left out, for every variant alike. Training costs about three times the
forward pass.
"""

from __future__ import annotations

from evomix.model.sizes import FFN_MULTIPLE
from evomix.model.transformer import Transformer


def shell_flops(width: int, layers: int, vocabulary: int) -> int:
    """Return FLOPs per token outside the mechanism: value and output maps, feed-forward, tied head."""
    per_layer = 2 * (2 * width * width) + 2 * (2 * FFN_MULTIPLE * width * width)
    return layers * per_layer + 2 * width * vocabulary


def forward_flops(model: Transformer) -> dict[str, int]:
    """Return forward FLOPs per token, {shell, mechanism, total}, averaged over one full sequence."""
    architecture = model.architecture
    tokens = architecture.sequence_length
    shell = shell_flops(architecture.width, architecture.layers, architecture.vocabulary)
    mixing = sum(mechanism.flops(tokens) for mechanism in model.mechanisms())
    per_token = round(mixing / tokens)
    return {"shell": shell, "mechanism": per_token, "total": shell + per_token}
