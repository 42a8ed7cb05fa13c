"""Forward FLOPs, analytic and counted: from shapes and the mechanism's own statement, and from what really ran.

A multiply-add counts 2. Of the shell only matrix products count in the analytic number; norms, activations, the
softmax of the loss and the embedding lookup are of lower order and are left out, for every variant alike. The counted
number has them, the loss aside. Training costs about three times the forward pass.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional as F

from evomix.mechanisms.costs import count_operations
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


def counted_flops(model: Transformer) -> dict[str, Any]:
    """Return forward FLOPs per token as counted while one full sequence runs, logits included.

    `counted` holds all operations, `torch` those that torch's FlopCounterMode sees, `unseen` the others by operator.
    """
    tokens = model.architecture.sequence_length
    row = torch.zeros(1, tokens, dtype=torch.long, device=model.embedding.weight.device)
    found = count_operations(lambda: F.linear(model.hidden(row, None), model.embedding.weight))
    unseen = {name: round(count / tokens) for name, count in sorted(found.unseen.items()) if count >= tokens}
    return {"counted": round(found.executed / tokens), "torch": round(found.seen / tokens), "unseen": unseen}
