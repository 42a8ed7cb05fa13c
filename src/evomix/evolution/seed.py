"""Wave 0: seed every island of a population with evaluated mechanisms, the standard first."""

from __future__ import annotations

import logging
from pathlib import Path

from evomix.artifacts import read_json, read_text, write_json
from evomix.errors import UserError
from evomix.evolution.identity import candidate_digest, identity, program_id
from evomix.evolution.openevolve_adapter.population import Population
from evomix.evolution.scaffold import scaffold
from evomix.evolution.stopping import new_state
from evomix.evolution.tell import report
from evomix.settings import Arm, Proposing

logger = logging.getLogger(__name__)


def seed_population(
    proposing: Proposing, framework: str, arm: Arm, seeds: list[tuple[Path, Path]], output: Path
) -> None:
    """Write the population folder `output` and tell.json beside it from (mechanism file, evaluation.json) pairs.

    Every island gets a copy of every accepted seed (OpenEvolve invents a program on an empty island). The first pair
    is the standard; UserError when it was not accepted.
    """
    population = Population(proposing)
    records = []
    for number, (mechanism, evaluation) in enumerate(seeds):
        content = read_json(evaluation, "evaluation")
        if content["status"] != "accepted":
            if number == 0:
                raise UserError(f"{evaluation}: the standard was {content['status']}; a search cannot start from it")
            logger.warning("%s seeds nothing: it was %s (%s)", mechanism.stem, content["status"], content["reason"])
            continue
        source = scaffold(read_text(mechanism), framework)
        digest = candidate_digest(source, framework)
        names = [program_id(framework, arm, "seed", number, island) for island in range(proposing.islands)]
        for island, name in enumerate(names):
            population.add(
                source,
                name=name,
                candidate=digest,
                island=island,
                iteration=0,
                score=content["score"],
                cost=content["cost"],
                report=report(content),
                changes=f"seed: {mechanism.stem}",
            )
        records.append(
            {"name": mechanism.stem, "ids": names, "candidate": digest, "identity": identity(source)}
            | {"source": source, "report": report(content), **{key: content[key] for key in ("score", "fitness")}}
        )
    best = max(records, key=lambda item: item["score"])
    population.save(output, 0)
    state = {
        **new_state(),
        "framework": framework,
        "arm": arm,
        "wave": 0,
        "best": {"id": best["ids"][0], **{key: best[key] for key in ("candidate", "score")}, "seed": True},
        "seeds": records,
        "outcomes": [],
        "broken": [],
        "migrated": [],
        "spent": {"calls": 0, "prompt_tokens": 0, "completion_tokens": 0, "dollars": 0.0},
    }
    write_json(output.parent / "tell.json", "tell", state)
