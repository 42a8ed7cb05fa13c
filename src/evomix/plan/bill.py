"""From hours to energy and dollars: estimates by the rates that the config states, never measurements."""

from __future__ import annotations

from evomix.settings import Costs


def kilowatt_hours(costs: Costs, hours: float, device: str) -> float:
    """Return the energy of `hours` on one device (`cuda`, else a CPU core), the site's overhead included."""
    watts = costs.gpu_watts if device == "cuda" else costs.cpu_watts
    return hours * watts * costs.overhead / 1_000


def rent(costs: Costs, hours: float, device: str) -> float:
    """Return the dollars of `hours` on one device (`cuda`, else a CPU core)."""
    return hours * (costs.dollars_per_gpu_hour if device == "cuda" else costs.dollars_per_cpu_hour)


def assumptions(costs: Costs, device: str) -> str:
    """Say in one sentence by which rates hours on `device` become energy and dollars."""
    watts, dollars = (
        (costs.gpu_watts, costs.dollars_per_gpu_hour)
        if device == "cuda"
        else (costs.cpu_watts, costs.dollars_per_cpu_hour)
    )
    unit = "GPU" if device == "cuda" else "CPU core"
    return f"{watts:g} W and ${dollars:g} an hour per {unit}, energy of the site {costs.overhead:g} times the devices'"
