"""A guided search as long as the protocol's, 3 × 35 candidates, against an endpoint that fails in every way it can.

Proposals, population and accounts are the real thing; trainings are a law (evolution_study). Run with `-s` to see the
account.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from evolution_study import FRAMEWORKS, Search, files
from evomix.artifacts import read_json
from evomix.evolution.proposers import openai
from evomix.settings import Framework, Llm, Proposing
from llm_server import FAULTS, LlmServer, edit, number_of

WAVES, WAVE = 7, 5
TRANSPORT = ("429", "500", "timeout", "503", "cut", "nonsense")


def often_wrong(request: dict[str, Any]) -> str:
    """Answer two thirds of the first attempts, and a quarter of the later ones, with some fault."""
    number = number_of(request)
    wrong = number % 3 < 2 if len(request["messages"]) == 2 else number % 4 == 0
    return FAULTS[number // 12 % len(FAULTS)](request) if wrong else edit(request)


def storm(shift: int) -> list[str]:
    """Return a schedule in which every fourth request fails in transport, each kind in turn."""
    return [
        TRANSPORT[(number // 4 + shift) % len(TRANSPORT)] if number % 4 == shift % 4 else "" for number in range(999)
    ]


def search(folder: Path, framework: Framework, **llm: Any) -> Search:
    model = Llm(models={"model-a": 3.0, "model-b": 1.0}, key_file=str(folder / "no key"), timeout=1.0, **llm)
    proposing = Proposing(wave_size=WAVE, population=20, patience=100, max_invalid=50, llm=model)
    return Search(folder, framework, "guided", proposing)


def searched(item: Search) -> dict[str, bytes]:
    """Run a search to its end; return what it wrote, recorded responses aside."""
    item.run(WAVES)
    item.finish(WAVES)
    return {name: data for name, data in files(item.folder).items() if "/responses/" not in name}


@pytest.mark.slow
def test_the_account_of_three_searches_of_35(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every call is in the books once, whatever failed; another storm and a replay give the same bytes."""
    monkeypatch.setattr(openai, "FIRST_DELAY", 0.01)
    lines, compared, injected = [], 0, Counter[str]()
    for shift, framework in enumerate(FRAMEWORKS):
        with LlmServer(often_wrong, transport=storm(shift)) as server:
            first = search(tmp_path / "first", framework, api_base=server.address)
            reference = searched(first)
            asked = len(server.requests)
            served = Counter(storm(shift)[:asked])
        with LlmServer(often_wrong, transport=storm(shift + 1)) as server:
            second = searched(search(tmp_path / "second", framework, api_base=server.address))
        recorded = str(first.home / "responses")
        replayed = searched(search(tmp_path / "replayed", framework, provider="recorded", responses=recorded))
        mine = {name: data for name, data in reference.items() if name.startswith(framework)}
        assert {name: data for name, data in second.items() if name.startswith(framework)} == mine
        assert {name: data for name, data in replayed.items() if name.startswith(framework)} == mine
        compared += 2 * len(mine)

        injected += Counter({fault: number for fault, number in served.items() if fault})
        proposals = [first.proposal(wave, slot) for wave in range(1, WAVES + 1) for slot in range(WAVE)]
        attempts = [attempt for item in proposals for attempt in item["attempts"]]
        calls = [attempt["call"] for attempt in attempts]
        stored = [read_json(path, "response") for path in sorted(Path(recorded).glob("*.json"))]
        spent = first.state(WAVES)["spent"]
        assert asked == len(calls) + sum(number for fault, number in served.items() if fault)
        assert spent["calls"] == len(calls) == len(stored) == len({call["key"] for call in calls})
        for kind in ("prompt_tokens", "completion_tokens"):
            assert spent[kind] == sum(call[kind] for call in calls) == sum(item[kind] for item in stored)
        price = (spent["prompt_tokens"] * 1.25 + spent["completion_tokens"] * 10.0) / 1e6
        assert spent["dollars"] == pytest.approx(price)
        history = pd.read_parquet(first.home / "history.parquet")
        assert history["dollars"].sum() == pytest.approx(spent["dollars"])
        assert len(history) == WAVES * WAVE
        refused = Counter(str(attempt["refused"]).split(",")[0][:40] for attempt in attempts if attempt["refused"])
        statuses = Counter(item["status"] for item in proposals)
        assert statuses["proposed"] >= 28
        assert sum(refused.values()) >= 15
        lines.append(
            f"{framework}: {dict(statuses)}, {spent}, refused attempts {sum(refused.values())}: {dict(refused)}"
        )
    assert set(injected) == set(TRANSPORT)
    print("\n".join([*lines, f"transport faults {dict(injected)}", f"files compared {compared}"]))
