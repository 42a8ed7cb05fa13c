"""The config of a study: all sections together, the checks between them, and errors in words.

Only pydantic is imported here: the Snakefile imports this module and is parsed again inside every cluster job.
"""

from __future__ import annotations

import difflib
from typing import Any, Self

from pydantic import BaseModel, Field, ValidationError, model_validator

from evomix.errors import UserError
from evomix.mechanisms.members import require_members
from evomix.probes.settings import Probes
from evomix.settings import (
    Ablation,
    Corpus,
    Costs,
    Evolution,
    Framework,
    Gallery,
    Name,
    Sandbox,
    Scaling,
    Settings,
    Size,
    Training,
    Tuning,
    Validation,
)


class Config(Settings):
    """The whole study."""

    preset: Name = Field("paper", description="name of the overlay; overlays write under results/<preset>/")
    frameworks: list[Framework] = Field(min_length=1, description="formalisms that are evolved separately and compared")
    corpus: Corpus = Field(description="text and tokens")
    sizes: dict[Name, Size] = Field(description="named model sizes")
    training: Training = Field(description="full-length trainings")
    tuning: Tuning = Field(description="hyper-parameters")
    evolution: Evolution = Field(description="search")
    scaling: Scaling = Field(description="scaling laws")
    validation: Validation = Field(description="paired validation")
    ablation: Ablation = Field(default_factory=lambda: Ablation(), description="edit by edit, what evolved")
    gallery: Gallery = Field(description="table of the expert mechanisms")
    probes: Probes = Field(description="probes beyond the loss on text")
    sandbox: Sandbox = Field(default_factory=lambda: Sandbox(), description="containment of candidate code")
    costs: Costs = Field(default_factory=lambda: Costs(), description="energy and dollars, in plan and report only")

    @model_validator(mode="after")
    def _check(self) -> Self:
        used = {
            "tuning.size": [self.tuning.size],
            "evolution.sizes": self.evolution.sizes,
            "scaling.sizes": self.scaling.sizes,
            "validation.size": [self.validation.size],
            "gallery.size": [self.gallery.size],
        }
        for key, names in used.items():
            for name in names:
                if name not in self.sizes:
                    raise ValueError(f"{key} names size {name!r}, which `sizes` lacks (it has {', '.join(self.sizes)})")
        claimed = set(self.validation.seeds) | set(self.scaling.seeds)
        searched = {*self.evolution.baseline_seeds, *self.evolution.finalist_seeds, self.tuning.seed, self.gallery.seed}
        if claimed & searched:
            raise ValueError(
                f"seeds {sorted(claimed & searched)} stand in both the search, tuning or gallery and the validation; "
                "the claim needs seeds that nothing was chosen on"
            )
        if len(set(self.frameworks)) != len(self.frameworks):
            raise ValueError("frameworks names one twice")
        for framework in self.frameworks:
            reference, candidate = self.validation.pair(framework)
            require_members("validation.reference", framework, [reference], ("standard",))
            require_members("validation.candidate", framework, [candidate], ("evolved", "standard"))
            if reference == candidate:
                raise ValueError(
                    f"validation compares {reference!r} with itself in {framework}; name two variants (target "
                    "`aa.json` sets the standard against a copy of itself)"
                )
        return self


def _known_keys(location: tuple[str | int, ...]) -> list[str]:
    """Return the valid keys beside the last element of an error location."""
    model: Any = Config
    for part in map(str, location[:-1]):
        field = model.model_fields.get(part) if isinstance(model, type) and issubclass(model, BaseModel) else None
        model = Size if model is Config and part == "sizes" else (field.annotation if field else model)
    return list(model.model_fields) if isinstance(model, type) and issubclass(model, BaseModel) else []


def _sentence(error: Any) -> str:
    """Say one pydantic error in words, with the nearest valid key for an unknown one."""
    location = error["loc"]
    key = ".".join(map(str, location)) or "config"
    if error["type"] == "extra_forbidden":
        near = difflib.get_close_matches(str(location[-1]), _known_keys(location), n=1, cutoff=0.0)
        prefix = "".join(f"{part}." for part in location[:-1])
        return f"unknown key `{key}`" + (f"; the nearest valid key is `{prefix}{near[0]}`" if near else "")
    if error["type"] == "missing":
        return f"key `{key}` is missing; add it or start from config/config.yaml"
    if error["type"] == "value_error":
        return f"`{key}`: {error['ctx']['error']}"
    return f"`{key}` is {error['input']!r}: {error['msg'].lower()}"


def load_config(raw: dict[str, Any]) -> Config:
    """Validate a merged config mapping; UserError with one sentence per fault, each naming the key."""
    try:
        return Config.model_validate(raw)
    except ValidationError as error:
        faults = [_sentence(item) for item in error.errors()]
        raise UserError("config: " + "; ".join(faults)) from None
