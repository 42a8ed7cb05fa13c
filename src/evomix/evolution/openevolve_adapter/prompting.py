"""OpenEvolve's prompt sampler, with our templates in place of its own."""

from __future__ import annotations

from typing import Any

from openevolve.config import PromptConfig
from openevolve.prompt.sampler import PromptSampler

from evomix.evolution.openevolve_adapter.population import Individual, seeded


def build_prompt(
    system: str,
    templates: dict[str, str],
    task: str,
    *,
    parent: Individual,
    top: list[Individual],
    inspirations: list[Individual],
    previous: list[dict[str, Any]],
    seed: int,
    **extra: str,
) -> tuple[str, str]:
    """Return the system and user message of OpenEvolve's prompt sampler for template `task`, as a function of `seed`.

    `templates` replace OpenEvolve's own by name, and `extra` fills their further fields. Only the score is shown as a
    metric, since its prompts call every metric larger-is-better; losses and reasons travel in the parent's report.
    """
    sampler = PromptSampler(PromptConfig(artifact_security_filter=False, suggest_simplification_after_chars=None))
    sampler.config.system_message = system
    for name, text in templates.items():
        sampler.template_manager.add_template(name, text)

    sampler.template_manager.add_fragment("artifact_title", "How it was judged")

    def shown(item: Individual) -> dict[str, Any]:
        return {"id": item.id, "code": item.source, "metrics": {"score": item.score}, "metadata": {}}

    with seeded(seed):
        prompt = sampler.build_prompt(
            current_program=parent.source,
            parent_program=parent.source,
            program_metrics={"score": parent.score},
            previous_programs=previous,
            top_programs=[shown(item) for item in top],
            inspirations=[shown(item) for item in inspirations],
            template_key=task,
            program_artifacts={"evaluation": parent.report} if parent.report else None,
            **extra,
        )
    return prompt["system"], prompt["user"]
