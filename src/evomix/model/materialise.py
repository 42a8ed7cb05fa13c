"""The mixing matrices of a trained variant on one real sentence: what the figure of matrices shows.

The variant's code runs only in the sandbox, as this module's `__main__`; the trusted side chooses the sentence, encodes
it, checks what came back and writes the artifact.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from evomix.artifacts import atomic_path
from evomix.corpus import tokenizer
from evomix.errors import UserError
from evomix.gate import sandbox
from evomix.mechanisms.matrices import mixing_matrix
from evomix.model.transformer import Transformer
from evomix.specs import RunSpec, read_spec
from evomix.training.inputs import load_mechanism, use_threads

TOKENS = 32
"""Most tokens of the sentence: few enough that every one has a readable row."""
SECONDS = 300.0


def matrices(spec: RunSpec, weights: Path, tokens: list[int]) -> torch.Tensor:
    """Return M_LHTT of every layer and head on `tokens`, without dropout. Executes the mechanism's file."""
    use_threads()
    model = Transformer(spec.architecture, load_mechanism(spec), spec.seed)
    model.load_state_dict(load_file(weights))
    inputs: list[torch.Tensor] = []
    for block in model.blocks:
        block.mechanism.register_forward_pre_hook(lambda _, arguments: inputs.append(arguments[0]))  # type: ignore[union-attr]
    with torch.no_grad():
        model.hidden(torch.tensor([tokens]), None)
        pairs = list(zip(model.blocks, inputs, strict=True))
        found = [mixing_matrix(block.mechanism, x_BTD)[0] for block, x_BTD in pairs]  # type: ignore[arg-type]
    return torch.stack(found).float()


def materialise(spec: Path, weights: Path, tokenizer_file: Path, documents: Path, output: Path) -> None:
    """Write `output` (safetensors): `matrices` (layers, heads, T, T), float32, and the tokens' text as metadata.

    M[t, i] is the weight of value i in output t. The text is the beginning of the first document of `documents`: all
    variants are shown the same. UserError when the variant's code fails in the sandbox or returns other shapes.
    """
    run = read_spec(spec, RunSpec)
    text = next(iter(tokenizer.read_documents(documents)), "")
    encoder = tokenizer.load(tokenizer_file)
    ids = encoder.encode(text).ids[: min(TOKENS, run.architecture.sequence_length)]
    if not ids:
        raise UserError(f"{documents} begins with an empty document; the mixing matrices need a sentence")
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        result = sandbox.run(
            [
                "-m",
                "evomix.model.materialise",
                *map(str, (spec.resolve(), weights.resolve(), scratch)),
                json.dumps(ids),
            ],
            readable=[spec, weights, Path(run.mechanism.path)],
            scratch=scratch,
            settings=run.sandbox,
            seconds=SECONDS,
        )
        try:
            found = load_file(scratch / "matrices.safetensors")["matrices"]
        except (OSError, KeyError, SafetensorError):
            lines = result.stderr.decode(errors="replace").strip().splitlines() or ["it wrote nothing"]
            raise UserError(f"mixing matrices of {run.mechanism.path} could not be made: {lines[-1]}") from None
    expected = (run.architecture.layers, run.architecture.heads, len(ids), len(ids))
    if tuple(found.shape) != expected:
        raise UserError(f"mixing matrices of {run.mechanism.path} have shape {tuple(found.shape)}, not {expected}")
    with atomic_path(output) as temporary:
        # One metadata key: with several, their order and so the bytes would change from run to run.
        words = json.dumps([encoder.decode([token]) for token in ids], ensure_ascii=False)
        save_file({"matrices": found.float().contiguous()}, temporary, metadata={"tokens": words})


def main(spec: str, weights: str, scratch: str, tokens: str) -> None:
    """Run in the sandbox: write scratch/matrices.safetensors."""
    found = matrices(read_spec(Path(spec), RunSpec), Path(weights), json.loads(tokens))
    save_file({"matrices": found.contiguous()}, Path(scratch) / "matrices.safetensors")


if __name__ == "__main__":
    main(*sys.argv[1:])
