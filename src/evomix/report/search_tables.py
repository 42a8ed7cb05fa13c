"""Tables of the searches: arms against each other, finalists on fresh seeds, every candidate."""

from __future__ import annotations

from typing import Any

from evomix.figures.search import by_arm, reference
from evomix.figures.tree import Results
from evomix.report.table import Columns, Table, make


def arms(results: Results) -> Table:
    """Return one row per framework and arm: how many candidates came through, the best, and what they cost."""
    records: list[dict[str, Any]] = []
    for framework in results.frameworks():
        standard = reference(results, framework)
        for arm, frame in by_arm(results, framework).items():
            selection = results.json(f"evolution/{framework}/{arm}/selection.json") or {}
            chosen, spent = selection.get("chosen") or {}, selection.get("spent") or {}
            best = frame["fitness"].max()
            records.append(
                {
                    "framework": framework,
                    "arm": arm,
                    "candidates": len(frame),
                    **{status: int((frame["status"] == status).sum()) for status in ("accepted", "refused", "failed")},
                    "diverged": int((frame["status"] == "diverged").sum()),
                    "standard": standard.fitness if standard else None,
                    "best": best,
                    "fresh": chosen.get("fitness"),
                    "fresh_standard": (chosen.get("standard") or {}).get("fitness"),
                    "tokens": spent.get("prompt_tokens", 0) + spent.get("completion_tokens", 0) if spent else None,
                    "dollars": spent.get("dollars"),
                    "stopped": selection.get("stopped") or "ran to its end" if selection else None,
                }
            )
    columns: Columns = {
        "framework": ("framework", "text"),
        "arm": ("arm", "text"),
        "candidates": ("candidates", "count"),
        "accepted": ("accepted", "count"),
        "refused": ("refused", "count"),
        "failed": ("failed", "count"),
        "diverged": ("diverged", "count"),
        "standard": ("fitness of the standard", "slope"),
        "best": ("best in the search", "slope"),
        "fresh": ("frozen one, fresh seeds", "slope"),
        "fresh_standard": ("standard, fresh seeds", "slope"),
        "tokens": ("LLM tokens", "count"),
        "dollars": ("dollars", "number"),
        "stopped": ("stopped because", "text"),
    }
    caption = (
        "The best of many noisy scores is lucky: compare the frozen candidate and the standard on fresh seeds, and an "
        "arm with the control arms that had the same number of evaluations."
    )
    return make("arms", "Search arms", caption, columns, records)


def finalists(results: Results) -> Table:
    """Return one row per finalist: its score in the search, shrunken, and measured again on fresh seeds."""
    records: list[dict[str, Any]] = []
    for framework in results.frameworks():
        for arm in results.arms(framework):
            selection = results.json(f"evolution/{framework}/{arm}/selection.json") or {}
            chosen = selection.get("chosen") or {}
            for item in selection.get("finalists", []):
                own = {
                    key: item[key]
                    for key in ("rank", "search_fitness", "shrunken_fitness", "fitness", "gain", "status")
                }
                frozen = item["id"] == chosen.get("id")
                records.append({"framework": framework, "arm": arm, **own, "frozen": frozen})
    columns: Columns = {
        "framework": ("framework", "text"),
        "arm": ("arm", "text"),
        "rank": ("rank", "count"),
        "search_fitness": ("fitness in the search", "slope"),
        "shrunken_fitness": ("shrunken", "slope"),
        "fitness": ("fresh seeds", "slope"),
        "gain": ("gain, fresh seeds", "gain"),
        "status": ("status", "text"),
        "frozen": ("frozen", "flag"),
    }
    caption = "Finalists are measured again on fresh seeds and the selection shard; only that measurement decides."
    return make("finalists", "Finalists", caption, columns, records)


def candidates(results: Results) -> Table:
    """Return one row per candidate of every arm."""
    records: list[dict[str, Any]] = []
    for framework in results.frameworks():
        for arm, frame in by_arm(results, framework).items():
            number = dict(zip(frame["id"], frame["iteration"], strict=True))
            for row in frame.to_dict("records"):
                shown = {str(key): value for key, value in row.items()}
                shown |= {
                    key: shown[key] if isinstance(shown[key], str) else "" for key in ("check", "reason", "changes")
                }
                shown["parent"] = f"no. {number[row['parent']]}" if row["parent"] in number else "seed"
                records.append({"framework": framework, "arm": arm, **shown})
    columns: Columns = {
        "framework": ("framework", "text"),
        "arm": ("arm", "text"),
        "iteration": ("no.", "count"),
        "parent": ("from", "text"),
        "changes": ("change", "text"),
        "status": ("status", "text"),
        "check": ("check", "text"),
        "slope": ("slope", "slope"),
        "gain": ("gain", "gain"),
        "fitness": ("fitness", "slope"),
        "reason": ("why", "text"),
    }
    caption = "Every candidate that was evaluated, in the order of proposal. The text of changes is the proposer's own."
    return make("candidates", "Candidates", caption, columns, records)
