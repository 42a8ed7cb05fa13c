"""Tripwires: pictures of everything a candidate could change behind our back, taken before and after it ran."""

from __future__ import annotations

import hashlib
import itertools
import sys
import types
from typing import Any

import torch
from torch import Tensor, nn

from evomix.mechanisms.contract import Declaration


def picture(value: Any, depth: int = 0) -> str:
    """Return a digest of a value's content: tensors by bytes, containers and modules by part, functions by closure."""
    return hashlib.sha256(_describe(value, depth).encode()).hexdigest()


_UNSEEN = itertools.count()
"""Numbers what a picture cannot see into, so that it never equals another picture: nothing may hide there."""
_DEEPEST = 40
_PLAIN = (bool, int, float, complex, str, bytes, range, slice, torch.dtype, torch.device, torch.finfo, Declaration)
_INERT = (type, property, types.BuiltinFunctionType, types.ModuleType)


def _describe(value: Any, depth: int) -> str:
    if depth > _DEEPEST:
        return f"deep{next(_UNSEEN)}"
    if isinstance(value, Tensor):
        plain = value.detach().cpu().contiguous().reshape(-1)
        data = plain.view(torch.uint8) if plain.numel() and not plain.is_complex() else torch.view_as_real(plain)
        body = hashlib.sha256(data.numpy().tobytes()).hexdigest() if plain.numel() else ""
        return f"{value.dtype}{tuple(value.shape)}{body}"
    if isinstance(value, dict):
        items = sorted((str(key), _describe(item, depth + 1)) for key, item in value.items())
        return f"dict{items}"
    if isinstance(value, list | tuple | set | frozenset):
        parts = [_describe(item, depth + 1) for item in value]
        return f"{type(value).__name__}{sorted(parts) if isinstance(value, set | frozenset) else parts}"
    if isinstance(value, nn.Module):
        kept = {key: item for key, item in vars(value).items() if key != "training"}
        return f"{type(value).__name__}{_describe(kept, depth + 1)}"
    if isinstance(value, types.FunctionType):
        cells = [_describe(cell.cell_contents, depth + 1) for cell in value.__closure__ or ()]
        return f"{value.__qualname__}{cells}{_describe(value.__defaults__, depth + 1)}"
    if isinstance(value, types.MethodType | staticmethod):
        return _describe(value.__func__, depth + 1)
    if value is None or isinstance(value, _PLAIN):
        return f"{type(value).__name__}{value!r}"
    return f"{type(value).__name__}{'' if isinstance(value, _INERT) else next(_UNSEEN)}"


def loose_tensors(module: nn.Module) -> list[str]:
    """Return the names of tensors that a module keeps outside its parameters and buffers."""
    found: list[str] = []
    for name, child in module.named_modules():
        for key, value in vars(child).items():
            if key not in ("_parameters", "_buffers", "_modules") and _holds_tensor(value, 0):
                found.append(f"{name}.{key}".lstrip("."))
    return found


def _holds_tensor(value: Any, depth: int) -> bool:
    if isinstance(value, Tensor):
        return True
    if isinstance(value, dict):
        return depth < 4 and any(_holds_tensor(item, depth + 1) for item in value.values())
    return isinstance(value, list | tuple | set) and depth < 4 and any(_holds_tensor(item, depth + 1) for item in value)


def class_picture(kind: type) -> str:
    """Return a digest of a class and of the module it was defined in: what survives between two instances."""
    module = sys.modules.get(kind.__module__)
    names = {key: item for key, item in vars(kind).items() if not key.startswith("__")}
    outside = {key: item for key, item in vars(module).items() if not key.startswith("__")} if module else {}
    outside = {key: item for key, item in outside.items() if not isinstance(item, types.ModuleType | type)}
    return picture([names, outside])


def torch_picture() -> dict[str, Any]:
    """Return torch's global state and the identity of every public function that a training calls."""
    import torch._dynamo  # replaces functions of torch when it is first imported: let that be before the picture

    owners = (torch, torch.nn.functional, Tensor, nn.Module, nn.Linear, torch.optim.AdamW, torch.autograd, torch.linalg)
    first_party = [module for name, module in sorted(sys.modules.items()) if name.startswith("evomix.")]
    functions = {
        f"{getattr(owner, '__name__', owner)}.{name}": id(item)
        for owner in (*owners, *first_party)
        for name, item in list(vars(owner).items())
        if callable(item)
    }
    return {
        "functions": functions,
        "default dtype": str(torch.get_default_dtype()),
        "gradients": torch.is_grad_enabled(),
        "threads": torch.get_num_threads(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "random state": hashlib.sha256(torch.get_rng_state().numpy().tobytes()).hexdigest(),
    }


def changes(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """Return what differs between two pictures of torch; functions that appeared (lazy imports) do not count."""
    found = [name for name in before if name != "functions" and before[name] != after[name]]
    functions = after["functions"]
    return found + [name for name, number in before["functions"].items() if functions.get(name, number) != number]
