"""The config as files: one JSON text per section, so that a rule re-runs only when a section it reads changes."""

from __future__ import annotations

import json
from typing import Any

from evomix.config import Config
from evomix.copies import pair
from evomix.probes.settings import ProbeLengths
from evomix.settings import Judgement, Proposing, Validation
from evomix.specs import TrainingSection


def aa_studies(config: Config) -> range:
    """Return the numbers of the A/A studies."""
    return range(1, config.validation.aa_studies + 1)


def aa_validation(config: Config, study: int) -> Validation:
    """Return the validation of an A/A study: the config's, of a pair of copies."""
    reference, candidate = pair(study)
    return config.validation.model_copy(
        update={
            "reference": dict.fromkeys(config.frameworks, reference),
            "candidate": dict.fromkeys(config.frameworks, candidate),
        }
    )


def _labels(config: Config) -> dict[str, Any]:
    """Return how results are labelled."""
    budget = config.tuning.budget.model_dump(mode="json")
    return {"policy": config.tuning.policy, "preset": config.preset, "budget": budget}


def _judged(config: Config, validation: Validation) -> dict[str, Any]:
    """Return what the analysis of a study reads."""
    return {
        "validation": validation.model_dump(mode="json", exclude={"calibration_studies", "aa_studies"}),
        "frameworks": config.frameworks,
        **_labels(config),
        "arm": config.evolution.arms[0],
    }


def training_section(config: Config) -> TrainingSection:
    """Return what the config says about every training."""
    return TrainingSection(
        training=config.training,
        sandbox=config.sandbox,
        sequence_length=config.corpus.sequence_length,
        vocabulary=config.corpus.vocabulary,
    )


def sections(config: Config) -> dict[str, str]:
    """Return the config as JSON texts, one per file that rules depend on: they re-run when a section they read changes.

    A section holds exactly what its readers need. `evolution` leaves out what only adds work (waves, arms, finalists),
    so that a longer search keeps the waves it has; `judgement` is what decides a candidate's score.
    """
    evolution = config.evolution
    parts: dict[str, Any] = {
        "corpus": config.corpus.model_dump(mode="json"),
        "training": training_section(config).model_dump(mode="json"),
        "tuning": config.tuning.model_dump(mode="json", exclude={"workers", "policy"}),
        "policy": _labels(config),
        "judgement": evolution.model_dump(mode="json", include=set(Judgement.model_fields)),
        "evolution": evolution.model_dump(mode="json", include=set(Proposing.model_fields)),
        "finalists": {"finalists": evolution.finalists},
        "search-candidates": {"seeds": evolution.seeds, "shard": "search"},
        "search-baseline": {"seeds": evolution.baseline_seeds, "shard": "search"},
        "search-finalists": {"seeds": evolution.finalist_seeds, "shard": "selection"},
        "scaling": config.scaling.model_dump(mode="json"),
        "validation": _judged(config, config.validation),
        **{f"aa-{study}": _judged(config, aa_validation(config, study)) for study in aa_studies(config)},
        "edits": config.ablation.model_dump(mode="json", include={"edits", "add_alone"}),
        "ablation": {
            "size": config.validation.size,
            "seeds": config.validation.seeds[: config.ablation.seeds],
            **_labels(config),
        },
        "probes": config.probes.model_dump(mode="json", exclude=set(ProbeLengths.model_fields)),
        "probe-lengths": config.probes.model_dump(mode="json", include=set(ProbeLengths.model_fields)),
        "gallery": config.gallery.model_dump(mode="json"),
        "costs": config.costs.model_dump(mode="json"),
        "calibration": {"studies": config.validation.calibration_studies},
        **{f"size-{name}": size.model_dump(mode="json") for name, size in config.sizes.items()},
    }
    return {name: json.dumps(part, sort_keys=True) for name, part in parts.items()}
