"""Generated reference of the config: the options table (config/README.md) and the JSON schema (workflow/schemas/)."""

from __future__ import annotations

import json
import re
import types
import typing
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from evomix.config import Config

HEADER = """# Options

Generated from `src/evomix/settings.py` by `python -m evomix write-reference`; a test keeps it true. The values of the
full protocol stand in `config.yaml`; a preset in `presets/` overlays it (`--configfile config/presets/demo.yaml`), and
single keys can be set by hand: `--config 'corpus={"source": "stories.jsonl"}'`. An unknown key is an error.

| key | type | default | meaning |
|---|---|---|---|
"""


def _model_of(annotation: Any) -> tuple[type[BaseModel] | None, str]:
    """Return the nested section of a type and the key suffix that leads into it."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation, ""
    arguments = typing.get_args(annotation)
    if typing.get_origin(annotation) is dict and isinstance(arguments[1], type) and issubclass(arguments[1], BaseModel):
        return arguments[1], ".<name>"
    return None, ""


def _type_name(annotation: Any) -> str:
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return _type_name(arguments[0])
    if origin is typing.Literal:
        return " or ".join(f"`{item}`" for item in arguments)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_type_name(item) for item in arguments)
    if origin in (list, tuple, dict):
        return f"{origin.__name__} of {', '.join(_type_name(item) for item in arguments)}"
    return "none" if annotation is type(None) else str(annotation.__name__)


def _default(field: FieldInfo) -> str:
    value = field.get_default(call_default_factory=True, validated_data={})
    if value is PydanticUndefined:
        return "required"
    return f"`{json.dumps(value)}`"


def _rows(model: type[BaseModel], prefix: str) -> list[str]:
    rows = []
    for name, field in model.model_fields.items():
        key = f"{prefix}{name}"
        nested, suffix = _model_of(field.annotation)
        if nested is not None:
            rows.append(f"| **`{key}{suffix}`** | section | | {field.description} |")
            rows += _rows(nested, f"{key}{suffix}.")
        else:
            cells = [f"`{key}`", _type_name(field.annotation), _default(field), str(field.description)]
            rows.append("| " + " | ".join(re.sub(r"\|", r"\\|", cell) for cell in cells) + " |")
    return rows


def options_table() -> str:
    """Return config/README.md."""
    return HEADER + "\n".join(_rows(Config, "")) + "\n"


def json_schema() -> str:
    """Return the JSON schema of the config."""
    return json.dumps(Config.model_json_schema(), indent=2, sort_keys=True, ensure_ascii=False) + "\n"
