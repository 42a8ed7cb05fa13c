"""Sentences for the refusals that language models run into most, fit to be fed back to them."""

from __future__ import annotations

_STATE = "The forward pass must keep nothing between calls and must not know training from evaluation."
_SYNC = "Keep the computation in tensors: reading a value into Python breaks gradients, speed and determinism."
_ESCAPE = "Files, processes, imports and introspection are not available to a mechanism."

ATTRIBUTE_HINTS = {
    **dict.fromkeys(("item", "tolist", "numpy", "cpu", "cuda"), _SYNC),
    **dict.fromkeys(
        ("training", "train", "eval", "is_grad_enabled", "is_compiling", "is_cuda", "requires_grad"), _STATE
    ),
    **dict.fromkeys(
        ("eval", "exec", "open", "compile", "globals", "locals", "vars", "input", "dir", "id", "type"), _ESCAPE
    ),
    **dict.fromkeys(
        ("getattr", "setattr", "hasattr", "delattr", "object", "__import__", "__class__", "__dict__"), _ESCAPE
    ),
    **dict.fromkeys(("load", "save", "os", "sys", "from_file", "jit", "ops", "compile", "hub", "utils"), _ESCAPE),
    **dict.fromkeys(("dropout", "Dropout"), "The shell applies dropout; remove it from the mechanism."),
    **dict.fromkeys(
        ("BatchNorm1d", "InstanceNorm1d"), "Normalise over features, never over the batch or the sequence."
    ),
    **dict.fromkeys(
        ("manual_seed", "Generator", "get_rng_state"),
        "Random numbers are drawn in __init__ or initialise only, where the seed is already set.",
    ),
    **dict.fromkeys(
        ("no_grad", "set_grad_enabled", "autograd", "Function"), "Gradients are the engine's; use .detach() at most."
    ),
    **dict.fromkeys(
        ("backward", "grad", "grad_fn", "register_hook"), "Gradients are the engine's; use .detach() at most."
    ),
    **dict.fromkeys(("set", "frozenset"), "Use a list or a tuple: the order of a set differs between two runs."),
    "data": "Use .detach() instead of .data.",
    "print": "Remove print; nothing reads it.",
    "as_strided": "Use view, unfold or indexing instead of as_strided, which reads past tensors.",
    "empty": "Use torch.zeros: empty tensors hold whatever was in memory.",
    "Module": "Define helper methods on Mechanism instead of helper modules.",
    "GRU": "Write the recurrence as a loop or scan; recurrent modules of torch cannot be stacked over seeds.",
    "LSTM": "Write the recurrence as a loop or scan; recurrent modules of torch cannot be stacked over seeds.",
    "MultiheadAttention": "Write the attention out; the shell owns values, outputs and heads.",
    "parameters": "Name the parameter itself (self.query.weight).",
}

NODE_HINTS = {
    "Import": (
        "import",
        "All that may be used is imported already: math, torch, F, Tensor, nn, the contract and its operators.",
    ),
    "ImportFrom": (
        "import",
        "All that may be used is imported already: math, torch, F, Tensor, nn, the contract and its operators.",
    ),
    "Try": ("try", "Remove try: an error must be seen by the gate."),
    "TryStar": ("try", "Remove try: an error must be seen by the gate."),
    "With": ("with", "Remove the with statement; precision and gradients are the engine's."),
    "Global": ("global", "Pass values as arguments; nothing may be kept between calls."),
    "Nonlocal": ("nonlocal", "Pass values as arguments; nothing may be kept between calls."),
    "NamedExpr": (":=", "Assign in a statement of its own."),
    "Yield": ("yield", "Return a list or a tensor instead of a generator."),
    "Match": ("match", "Use if and elif."),
    "SetComp": ("set", "Use a list: the order of a set differs between two runs of the same program."),
    "Delete": ("del", "Leave names alone; Python frees them."),
}
