"""The language-model proposer against a real server that also fails: transport, content, cost cap, key, replay."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import pytest

from evolution_study import Search, files
from evomix.artifacts import read_json
from evomix.errors import UserError
from evomix.evolution.proposers import openai
from evomix.evolution.proposers.openai import read_key
from evomix.settings import Arm, Llm, Proposing
from llm_server import (
    FAULTS,
    LlmServer,
    duplicate,
    edit,
    illegal,
    malformed,
    outside,
    prose,
    sometimes_wrong,
    unmatched,
    windows_lines,
)

KEY = "sk-test-0123456789abcdef"


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openai, "FIRST_DELAY", 0.01)


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "key"
    path.write_text(KEY + "\n")
    path.chmod(0o600)
    return path


def llm_search(folder: Path, server: LlmServer | None, key: Path, arm: Arm = "guided", **changes: object) -> Search:
    settings: dict[str, object] = {"models": {"model-a": 3.0, "model-b": 1.0}, "key_file": str(key), "retries": 3}
    if server:
        settings["api_base"] = server.address
    llm = Llm.model_validate({**settings, **changes})
    proposing = Proposing(wave_size=3, population=8, patience=100, max_invalid=50, llm=llm)
    return Search(folder, arm=arm, proposing=proposing)


def without_responses(folder: Path) -> dict[str, bytes]:
    return {name: data for name, data in files(folder).items() if "/responses/" not in name}


def test_search_survives_everything_and_replays_without_key_and_network(tmp_path: Path, key_file: Path) -> None:
    """Outages, wrong answers and another order of requests leave no trace in a single byte."""
    with LlmServer(sometimes_wrong) as calm:
        first = llm_search(tmp_path / "calm", calm, key_file).run(3)
        first.finish(3)
    assert all(key == KEY for key in calm.keys)
    assert {request["model"] for request in calm.requests} == {"model-a", "model-b"}
    with LlmServer(sometimes_wrong, transport=["429", "500", "cut", "nonsense", "503", "429"]) as stormy:
        second = llm_search(tmp_path / "stormy", stormy, key_file).run(3, order=[2, 0, 1])
        second.evaluations.sort()
        second.finish(3)
    assert len(stormy.requests) == len(calm.requests) + 6
    replayed = llm_search(
        tmp_path / "replayed", None, tmp_path / "no key", provider="recorded", responses=str(first.home / "responses")
    ).run(3)
    replayed.finish(3)
    reference = without_responses(tmp_path / "calm")
    assert len(reference) > 40
    assert without_responses(tmp_path / "stormy") == reference
    assert without_responses(tmp_path / "replayed") == reference
    refusals = [attempt["refused"] for w in (1, 2, 3) for s in range(3) for attempt in first.proposal(w, s)["attempts"]]
    assert any(refusals)
    assert first.state(3)["spent"]["calls"] == len(calm.requests)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_wrong_answers_go_back_with_the_reason(tmp_path: Path, key_file: Path, fault: object) -> None:
    """Each kind of wrong answer is refused in words that name the fault, and the next attempt is accepted."""
    words = {
        prose: "no SEARCH/REPLACE block",
        malformed: "malformed",
        unmatched: "does not match",
        outside: "inside the EVOLVE-BLOCK",
        illegal: "syntax.",
        duplicate: "same program",
        windows_lines: None,
    }

    def respond(request: dict[str, object]) -> str:
        return edit(request) if len(request["messages"]) > 2 else fault(request)  # type: ignore[arg-type,operator]

    with LlmServer(respond) as server:
        search = llm_search(tmp_path, server, key_file, arm="best_of_n")
        search.propose(1)
    expected = words[fault]  # type: ignore[index]
    attempts = search.proposal(1, 0)["attempts"]
    assert search.proposal(1, 0)["status"] == "proposed"
    if expected is None:
        assert [attempt["refused"] for attempt in attempts] == [None]
    elif search.proposal(1, 0)["patch"] == "diff" or fault in (illegal, duplicate):
        assert expected in attempts[0]["refused"] or "fenced" in attempts[0]["refused"]
        sent = [request["messages"][-1]["content"] for request in server.requests if len(request["messages"]) > 2]
        assert any(attempts[0]["refused"] in text for text in sent)


def test_attempts_are_bounded(tmp_path: Path, key_file: Path) -> None:
    """A model that never gives a program costs its attempts and a refused slot, which evaluates to a record."""
    with LlmServer(prose) as server:
        search = llm_search(tmp_path, server, key_file).run(1)
    assert len(server.requests) == 9
    assert search.proposal(1, 1)["status"] == "refused"
    assert search.state(1)["invalid_in_a_row"] == 3
    assert [outcome["check"] for outcome in search.state(1)["outcomes"]] == ["proposal"] * 3


def test_timeouts_are_retried(tmp_path: Path, key_file: Path) -> None:
    with LlmServer(edit, transport=["timeout"]) as server:
        search = llm_search(tmp_path, server, key_file, timeout=0.8)
        search.propose(1)
    assert len(server.requests) == 4
    assert all(search.proposal(1, slot)["status"] == "proposed" for slot in range(3))


def test_lasting_outage_is_one_sentence_and_pays_nothing_twice(tmp_path: Path, key_file: Path) -> None:
    with LlmServer(edit, transport=["500"] * 4) as server:
        search = llm_search(tmp_path, server, key_file, retries=0)
        with pytest.raises(UserError, match=r"failed 1 times.*run the workflow again"):
            search.propose(1)
        with pytest.raises(UserError, match="failed 1 times"):
            search.propose(1)
        search.propose(1)
        answered = len(server.requests) - 4
    assert answered == 3


def test_wrong_key_is_told_without_the_key(tmp_path: Path, key_file: Path) -> None:
    """The endpoint's error text quotes the key; ours does not, and does not try again."""
    with LlmServer(edit, transport=["401"] * 3) as server:
        search = llm_search(tmp_path, server, key_file)
        with pytest.raises(UserError, match="status 401") as error:
            search.propose(1)
    assert len(server.requests) == 3
    assert KEY not in str(error.value)


def test_key_is_in_no_file_and_no_output(tmp_path: Path, key_file: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Even an endpoint that repeats the key in errors and answers cannot bring it into anything a search writes."""

    def leak(request: dict[str, object]) -> str:
        return f"The key is {KEY}.\n" + edit(request)  # type: ignore[arg-type]

    with LlmServer(leak, transport=["429", "500"]) as server:
        search = llm_search(tmp_path / "search", server, key_file).run(2)
        search.finish(2)
    written = files(tmp_path / "search")
    assert len(written) > 40
    assert not [name for name, data in written.items() if KEY.encode() in data]
    output = capfd.readouterr()
    assert "again in" in output.err
    assert KEY not in output.out + output.err
    assert KEY not in repr(dict(os.environ))


def test_key_sources(tmp_path: Path, key_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """File before environment; a readable file, an empty one and a missing key are one sentence each."""
    monkeypatch.setenv("EVOMIX_API_KEY", "from-environment")
    assert read_key(Llm(key_file=str(key_file))) == KEY
    assert read_key(Llm(key_file=str(tmp_path / "none"))) == "from-environment"
    monkeypatch.delenv("EVOMIX_API_KEY")
    assert read_key(Llm(key_file=str(tmp_path / "none"), api_base="http://localhost:1/v1")) == "none"
    with pytest.raises(UserError, match="no key: write it into"):
        read_key(Llm(key_file=str(tmp_path / "none")))
    key_file.chmod(0o644)
    with pytest.raises(UserError, match="chmod 600"):
        read_key(Llm(key_file=str(key_file)))
    key_file.write_text("")
    key_file.chmod(0o600)
    with pytest.raises(UserError, match="empty"):
        read_key(Llm(key_file=str(key_file)))


def test_cost_cap_counts_calls_in_flight_and_stops_cleanly(tmp_path: Path, key_file: Path) -> None:
    """A cap that allows two calls at their worst lets two out, then later waves propose nothing and train nothing."""
    with LlmServer(edit) as server:
        probe = llm_search(tmp_path / "probe", server, key_file, max_tokens=10_000)
        probe.propose(1)
        sent = max(len(str(request["messages"])) for request in server.requests) // 3
        worst = (sent * 1.25 + 10_000 * 10.0) / 1e6
        server.requests.clear()
        search = llm_search(tmp_path / "capped", server, key_file, dollars=2.2 * worst, max_tokens=10_000)
        trained: list[str] = []
        plain = search.train

        def counting(spec: object, folder: Path) -> object:
            trained.append(str(folder))
            return plain(spec, folder)

        search.train = counting
        search.run(2)
        assert len(server.requests) == 2
    assert [search.proposal(1, slot)["status"] for slot in range(3)] == ["proposed", "proposed", "stopped"]
    assert "cost cap" in search.state(1)["stopped"]
    assert all(search.proposal(2, slot)["status"] == "stopped" for slot in range(3))
    assert not [name for name in trained if "wave_2" in name]
    spent = search.state(2)["spent"]
    assert 0 < spent["dollars"] < 2.2 * worst
    assert search.finish(2)["found"] is True


def test_token_cap(tmp_path: Path, key_file: Path) -> None:
    with LlmServer(edit) as server:
        search = llm_search(tmp_path, server, key_file, tokens=1_000)
        search.run(1)
    assert server.requests == []
    assert "1,000 tokens" in search.state(1)["stopped"]


def test_costs_are_recorded_and_estimated_where_the_endpoint_is_silent(tmp_path: Path, key_file: Path) -> None:
    for usage in (True, False):
        with LlmServer(edit, usage=usage) as server:
            search = llm_search(tmp_path / str(usage), server, key_file)
            search.propose(1)
        call = search.proposal(1, 0)["attempts"][0]["call"]
        assert call["estimated"] is not usage
        price = (call["prompt_tokens"] * 1.25 + call["completion_tokens"] * 10) / 1e6
        assert call["dollars"] == pytest.approx(price)
        assert call["prompt_tokens"] > 500


def test_replay_miss_is_an_error(tmp_path: Path) -> None:
    search = llm_search(tmp_path, None, tmp_path / "none", provider="recorded", responses=str(tmp_path / "empty"))
    with pytest.raises(UserError, match="no recorded response"):
        search.propose(1)


def test_best_of_n_sees_the_seed_program_alone(tmp_path: Path, key_file: Path) -> None:
    """Prompts of the control do not change with the search: same parent, no history, no other programs."""
    with LlmServer(edit) as server:
        search = llm_search(tmp_path, server, key_file, arm="best_of_n").run(2)
    prompts = {request["messages"][1]["content"] for request in server.requests if len(request["messages"]) == 2}
    assert len(prompts) <= 2  # one per patch kind
    parents = {search.proposal(wave, slot)["parent"]["candidate"] for wave in (1, 2) for slot in range(3)}
    assert parents == {search.state(0)["seeds"][0]["candidate"]}


def test_prompts_say_everything(tmp_path: Path, key_file: Path) -> None:
    """Formalism, rules, judgement, parent, its scores, refusals of earlier candidates and other programs."""

    def gate(path: Path) -> dict[str, object]:
        passed = path.parent.name != "slot_1"
        return {"accepted": passed, "checks": [{"check": "C9", "passed": passed, "hint": "Never peek ahead."}]}

    with LlmServer(edit) as server:
        search = llm_search(tmp_path, server, key_file)
        search.gate = gate
        search.run(6)
    system = {request["messages"][0]["content"] for request in server.requests}
    assert len(system) == 1
    for words in (
        "h_{i,j} = A_i h_{i-1,j}",
        "`normaliser`",
        "full 10 steps",
        "3,248, 12,640",
        "1.2 times the parameters",
    ):
        assert words in next(iter(system))
    assert "{{" not in next(iter(system))
    late = "".join(request["messages"][1]["content"] for request in server.requests[9:])
    for words in (
        "held-out loss at size small",
        "Never peek ahead.",
        "# EVOLVE-BLOCK-START",
        "Best programs",
        "best idea of this other one",
    ):
        assert words in late
    kinds = {search.proposal(wave, slot)["patch"] for wave in range(1, 7) for slot in range(3)}
    assert kinds == {"diff", "full", "crossover", "fix"}
    broken = search.state(6)["broken"]
    assert broken
    assert dataclasses.is_dataclass(search)
    assert read_json(search.home / "wave_1" / "slot_1" / "gate.json", "gate")["accepted"] is False
