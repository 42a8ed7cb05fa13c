"""The plan as text for a terminal."""

from __future__ import annotations

import textwrap

from evomix.plan.estimate import Plan

WIDTH = 100


def _amount(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _unit(plan: Plan) -> str:
    return "GPU" if plan.device == "cuda" else "CPU"


def table(plan: Plan) -> list[str]:
    """Return the jobs by rule: those that train one by one with their cost, the others below."""
    heads = ["rule", "jobs", "left", "trainings", "steps", "tokens", f"{_unit(plan)}-hours"]
    rows = []
    for line in (line for line in plan.lines if line.trainings):
        counts = [f"{value:,}" for value in (line.jobs, line.left, line.trainings, line.steps)]
        rows.append([line.rule, *counts, f"{line.tokens:.3g}", _amount(line.hours)])
    others = [line for line in plan.lines if not line.trainings]
    jobs, left = (sum(getattr(line, name) for line in others) for name in ("jobs", "left"))
    rows.append(["all other rules", f"{jobs:,}", f"{left:,}", "", "", "", ""])
    sums = [sum(getattr(line, name) for line in plan.lines) for name in ("jobs", "left", "trainings", "steps")]
    tokens = sum(line.tokens for line in plan.lines)
    rows.append(["total", *(f"{value:,}" for value in sums), f"{tokens:.3g}", _amount(plan.hours)])
    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) if not index else cell.rjust(width) for index, (cell, width) in enumerate(cells))
        for cells in (list(zip(row, widths, strict=True)) for row in (heads, *rows))
    ]


def render(plan: Plan) -> str:
    """Return the whole plan: table, totals, other jobs by rule, assumptions."""
    unit = _unit(plan)
    others = [f"{line.rule} {line.jobs:,}" for line in plan.lines if not line.trainings]
    model = f"${plan.llm:,.2f}, at most ${plan.llm_most:,.2f}" if plan.llm_most else "none"
    jobs, left = (sum(getattr(line, name) for line in plan.lines) for name in ("jobs", "left"))
    lines = [
        f"Plan of preset {plan.preset}: {jobs:,} jobs, of which {left:,} are still to run.",
        "",
        *table(plan),
        "",
        f"{unit}-hours         {_amount(plan.hours)} expected, at least {_amount(plan.least)}",
        f"other CPU-hours   {_amount(plan.cpu_hours)}",
        f"energy            {_amount(plan.energy)} kWh (estimate)",
        f"rent              ${plan.rent:,.2f}",
        f"language model    {model}",
        f"dollars           ${plan.dollars:,.2f}",
        "",
        *textwrap.wrap("Other rules: " + ", ".join(others) + ".", WIDTH),
        "",
        "Assumptions",
    ]
    for item in plan.assumptions:
        lines += textwrap.wrap(item, WIDTH, initial_indent="- ", subsequent_indent="  ")
    return "\n".join(lines)
