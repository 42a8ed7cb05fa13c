"""The config as files: one JSON text per section, so that a rule re-runs only when a section it reads changes."""

from __future__ import annotations

import json
from typing import Any

from evomix.config import Config
from evomix.settings import Judgement, Proposing


def sections(config: Config) -> dict[str, str]:
    """Return the config as JSON texts, one per file that rules depend on: they re-run when a section they read changes.

    A section holds exactly what its readers need. `evolution` leaves out what only adds work (waves, arms, finalists),
    so that a longer search keeps the waves it has; `judgement` is what decides a candidate's score.
    """
    evolution = config.evolution
    parts: dict[str, Any] = {
        "corpus": config.corpus.model_dump(mode="json"),
        "training": {
            "training": config.training.model_dump(mode="json"),
            "sandbox": config.sandbox.model_dump(mode="json"),
            "sequence_length": config.corpus.sequence_length,
            "vocabulary": config.corpus.vocabulary,
        },
        "tuning": config.tuning.model_dump(mode="json", exclude={"workers", "policy"}),
        "policy": {"policy": config.tuning.policy, "preset": config.preset},
        "judgement": evolution.model_dump(mode="json", include=set(Judgement.model_fields)),
        "evolution": evolution.model_dump(mode="json", include=set(Proposing.model_fields)),
        "finalists": {"finalists": evolution.finalists},
        "search-candidates": {"seeds": evolution.seeds, "shard": "search"},
        "search-baseline": {"seeds": evolution.baseline_seeds, "shard": "search"},
        "search-finalists": {"seeds": evolution.finalist_seeds, "shard": "selection"},
        "scaling": config.scaling.model_dump(mode="json"),
        "validation": {
            "validation": config.validation.model_dump(mode="json", exclude={"calibration_studies"}),
            "frameworks": config.frameworks,
            "policy": config.tuning.policy,
            "preset": config.preset,
            "arm": evolution.arms[0],
        },
        "edits": config.ablation.model_dump(mode="json", include={"edits", "add_alone"}),
        "ablation": {
            "size": config.validation.size,
            "seeds": config.validation.seeds[: config.ablation.seeds],
            "policy": config.tuning.policy,
            "preset": config.preset,
        },
        "probes": config.probes.model_dump(mode="json"),
        "gallery": config.gallery.model_dump(mode="json"),
        "costs": config.costs.model_dump(mode="json"),
        "calibration": {"studies": config.validation.calibration_studies},
        **{f"size-{name}": size.model_dump(mode="json") for name, size in config.sizes.items()},
    }
    return {name: json.dumps(part, sort_keys=True) for name, part in parts.items()}
