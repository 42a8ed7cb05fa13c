"""The sandboxed side of remote mixing: hold the candidate's layers with their trained weights and mix what comes in.

Started by `rescore` as `python -m evomix.gate.mixing JOB READ WRITE` inside the sandbox, never by hand.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file

from evomix.gate.remote import receive, send
from evomix.mechanisms import library
from evomix.model.transformer import Transformer
from evomix.specs import RunSpec
from evomix.training.inputs import use_threads

_MOST = 1 << 31


def main(job: Path, read: int, write: int) -> None:
    """Answer requests (layer, x, v) with y until the other side closes its end. Executes the candidate."""
    use_threads()
    content = json.loads(job.read_text(encoding="utf-8"))
    spec = RunSpec.model_validate(content["spec"])
    kind = library.load(Path(spec.mechanism.path), spec.framework)
    device = torch.device(spec.execution.device)
    model = Transformer(spec.architecture, kind, spec.seed)  # for what the candidate's constructor draws
    weights = {name: item for name, item in load_file(content["weights"]).items() if ".mechanism." in name}
    missing = [name for name in model.load_state_dict(weights, strict=False).missing_keys if ".mechanism." in name]
    if missing:
        raise ValueError(f"the weights lack {missing[0]}")
    layers = [mechanism.to(device) for mechanism in model.mechanisms()]
    half = spec.execution.precision == "bfloat16"
    with (
        os.fdopen(read, "rb") as incoming,
        os.fdopen(write, "wb") as outgoing,
        torch.no_grad(),
        torch.autocast(device.type, dtype=torch.bfloat16, enabled=half),
        contextlib.suppress(EOFError),
    ):
        while True:
            layer, (x_BTD, v_BHTP) = receive(incoming, _MOST)
            send(outgoing, layer, layers[layer](x_BTD.to(device), v_BHTP.to(device)))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
