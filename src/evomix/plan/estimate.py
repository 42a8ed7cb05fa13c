"""What a preset will cost: jobs from the dry run, trainings from the config, hours, energy, dollars, assumptions."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from evomix.config import Config
from evomix.plan import clock, measured
from evomix.plan.bill import assumptions, kilowatt_hours, rent
from evomix.plan.work import candidates, trainings

PROMPT_TOKENS, RESPONSE_TOKENS = 7_000, 6_000
"""Expected tokens of one call: a prompt of four programs and the contract; a response with its reasoning."""
CALLS_PER_CANDIDATE = 1.5
"""Expected calls per candidate: about every other first proposal is refused by the gate's quick checks."""


@dataclass
class Line:
    """One rule: jobs, jobs left, and what its trainings take; hours are of the training device."""

    rule: str
    jobs: int
    left: int
    trainings: int = 0
    steps: int = 0
    tokens: float = 0.0
    hours: float = 0.0
    least: float = 0.0


@dataclass(frozen=True)
class Plan:
    """The whole estimate. `hours` are device hours of trainings, `cpu_hours` those of all other jobs."""

    preset: str
    device: str
    lines: list[Line]
    hours: float
    least: float
    cpu_hours: float
    energy: float
    rent: float
    llm: float
    llm_most: float
    assumptions: list[str] = field(default_factory=list)

    @property
    def dollars(self) -> float:
        """Rent and language model together."""
        return self.rent + self.llm


def _factors(config: Config, times: dict[str, tuple[float, int]]) -> float:
    """Return measured over modelled time of a step, the median over sizes: what a size without a measurement gets."""
    groups = {group.size: group for group in trainings(config)}
    ratios = [
        times[size][0] / clock.step_seconds(groups[size], clock.machine(config))[0] for size in times if size in groups
    ]
    return median(ratios) if ratios else 1.0


def language_model(config: Config) -> tuple[float, float]:
    """Return the dollars of the language model over all arms: expected and at most, each arm under its cap."""
    llm = config.evolution.llm
    arms, each = candidates(config)
    incoming, outgoing = llm.price_per_million
    expected = CALLS_PER_CANDIDATE * (PROMPT_TOKENS * incoming + RESPONSE_TOKENS * outgoing)
    most = llm.attempts * (PROMPT_TOKENS * llm.attempts * incoming + llm.max_tokens * outgoing)
    return arms * min(llm.dollars, each * expected / 1e6), arms * min(llm.dollars, each * most / 1e6)


def estimate(config: Config, jobs: dict[str, int], left: dict[str, int], results: Path) -> Plan:
    """Return the plan of a study with `jobs` by rule, of which `left` are still to run; measured times where they are.

    `results` is the study's results folder; it may be missing.
    """
    device, machine = config.training.device, clock.machine(config)
    times = measured.step_seconds(results, device)
    factor = _factors(config, times)
    lines = {rule: Line(rule, count, left.get(rule, 0)) for rule, count in jobs.items()}
    for group in trainings(config):
        line = lines.setdefault(group.rule, Line(group.rule, 0, 0))
        expected, least = clock.step_seconds(group, machine)
        expected = times[group.size][0] if group.size in times else expected * factor
        line.trainings += group.count
        line.steps += group.total_steps
        line.tokens += group.total_steps * group.batch * config.corpus.sequence_length
        line.hours += group.total_steps * expected / 3_600
        line.least += group.total_steps * least / 3_600
    for line in lines.values():
        line.hours += line.jobs * machine.start / 3_600 if line.trainings else 0.0
    hours, least = (sum(getattr(line, name) for line in lines.values()) for name in ("hours", "least"))
    cpu_hours = sum(line.jobs for line in lines.values() if not line.trainings) * clock.JOB_SECONDS / 3_600
    expected_llm, most_llm = language_model(config)
    return Plan(
        preset=config.preset,
        device=device,
        lines=list(lines.values()),
        hours=hours,
        least=least,
        cpu_hours=cpu_hours,
        energy=kilowatt_hours(config.costs, hours, device) + kilowatt_hours(config.costs, cpu_hours, "cpu"),
        rent=rent(config.costs, hours, device) + rent(config.costs, cpu_hours, "cpu"),
        llm=expected_llm,
        llm_most=most_llm,
        assumptions=_assumptions(config, machine, times, factor),
    )


def _assumptions(
    config: Config, machine: clock.Machine, times: dict[str, tuple[float, int]], factor: float
) -> list[str]:
    """Say in sentences what the numbers rest on."""
    llm, device = config.evolution.llm, config.training.device
    said = ["trainings: what the config allows at most; searches may stop earlier and refuse candidates untrained"]
    if times:
        told = ", ".join(f"{size} {1_000 * time:.3g} ms ({runs})" for size, (time, runs) in times.items())
        said.append(f"seconds per step: measured in this study's timing.json, median (trainings): {told}")
        said.append(
            f"sizes without a measurement: the model of {machine.name}, times {factor:.2f} as measured elsewhere"
        )
    else:
        said.append(
            "seconds per step: three forward passes of the standard; arithmetic, traffic and launches add up; "
            f"points of the curve are not counted; {machine.roofline}"
        )
        said.append("evolved mechanisms may cost more, at most `evolution.flop_budget` times the FLOPs")
    said.append(f"at least: the roofline alone, launches free; batch: the mean of {config.tuning.batch_sizes}")
    said.append(f"jobs that train nothing: {clock.JOB_SECONDS:g} s of one CPU core each")
    said.append(f"rates: {assumptions(config.costs, device)}")
    if candidates(config)[0]:
        said.append(
            f"language model: {CALLS_PER_CANDIDATE:g} calls per candidate, {PROMPT_TOKENS:,} + {RESPONSE_TOKENS:,} "
            f"tokens each, ${llm.price_per_million[0]:g} + ${llm.price_per_million[1]:g} per million; at most "
            f"{llm.attempts} calls of {llm.max_tokens:,} tokens, and ${llm.dollars:g} per arm and framework"
        )
    else:
        said.append("language model: none is called")
    return said
