"""What the language-model proposers share: prompts, model choice, the reading of responses, costs, and the cost cap.

A call is identified by the SHA-256 of everything that is sent. Calls of one round go out together; before that, each
reserves the most it can cost, in slot order, so that calls in flight count against the cap and the same calls are
withheld in a replay.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from evomix.artifacts import digest_text, read_json, write_json
from evomix.evolution import prompts
from evomix.evolution.openevolve_adapter.models import Reply
from evomix.evolution.openevolve_adapter.responses import PatchError, apply_response
from evomix.evolution.proposers.base import Draft, Task
from evomix.settings import Llm
from evomix.specs import SearchSpec
from evomix.streams import derive, numpy_stream

CHARACTERS_PER_TOKEN = 3
"""Characters per token of our prompts, a low estimate: what is reserved before a call is rather too much."""


@dataclass(frozen=True)
class Call:
    """One request to a language model, complete."""

    model: str
    seed: int
    temperature: float
    max_tokens: int
    system: str
    messages: tuple[dict[str, str], ...]

    @property
    def key(self) -> str:
        """Identity of the call: SHA-256 of its canonical JSON."""
        return digest_text(json.dumps(asdict(self), sort_keys=True, ensure_ascii=False))

    @property
    def characters(self) -> int:
        """Length of everything that is sent."""
        return len(self.system) + sum(len(message["content"]) for message in self.messages)


class ResponseStore:
    """Responses on disk, one file per call. It is no output of a rule: a failed rule must not lose paid answers."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, call: Call) -> Path:
        """Return the file of a call's response."""
        return self.folder / f"{call.key}.json"

    def get(self, call: Call) -> Reply | None:
        """Return the stored response, or None."""
        if not self.path(call).exists():
            return None
        content = read_json(self.path(call), "response")
        return Reply(content["text"], content["prompt_tokens"], content["completion_tokens"])

    def put(self, call: Call, reply: Reply) -> None:
        """Store a response."""
        write_json(self.path(call), "response", {"request": asdict(call), **asdict(reply)})


class Conversation(ABC):
    """A proposer that asks a language model; subclasses say where answers come from."""

    patches = {"diff": 0.5, "full": 0.2, "crossover": 0.2, "fix": 0.1}  # noqa: RUF012 (a constant of the protocol)

    def __init__(self, llm: Llm, search: SearchSpec, store: ResponseStore, spent: dict[str, Any]) -> None:
        """`spent` is what the arm has spent before this wave (tokens and dollars)."""
        self.attempts = llm.attempts
        self._llm, self._search, self._store = llm, search, store
        self._dollars = float(spent["dollars"])
        self._tokens = int(spent["prompt_tokens"] + spent["completion_tokens"])

    @abstractmethod
    def fetch(self, calls: list[Call]) -> list[Reply]:
        """Return the answers to all calls, in order."""

    def answer(self, tasks: list[Task]) -> list[Draft]:
        """Ask for every task at once; a task that the cost cap no longer allows halts the search."""
        calls = [self._call(task) for task in tasks]
        withheld = self._withheld(calls)
        replies = self.fetch([call for call, reason in zip(calls, withheld, strict=True) if reason is None])
        answers = iter(replies)
        return [
            Draft(None, halt=reason) if reason else self._draft(task, call, next(answers))
            for task, call, reason in zip(tasks, calls, withheld, strict=True)
        ]

    def _call(self, task: Task) -> Call:
        names = sorted(self._llm.models)
        total = sum(self._llm.models.values())
        weights = [self._llm.models[name] / total for name in names]
        model = names[int(numpy_stream(task.seed, "model", task.attempt).choice(len(names), p=weights))]
        system, user = prompts.build(self._search, task)
        messages = [{"role": "user", "content": user}]
        for refusal in task.refusals:
            messages.append({"role": "assistant", "content": refusal.response})
            messages.append({"role": "user", "content": prompts.refused(refusal.reason)})
        seed = derive(task.seed, "call", task.attempt) % 2**31
        return Call(model, seed, self._llm.temperature, self._llm.max_tokens, system, tuple(messages))

    def _withheld(self, calls: list[Call]) -> list[str | None]:
        """Reserve the most that each call can cost, in order; return why a call is not made, or None."""
        dollars, tokens, reasons = self._dollars, self._tokens, list[str | None]()
        for call in calls:
            sent = call.characters // CHARACTERS_PER_TOKEN + 1
            dollars += self._price(sent, call.max_tokens)
            tokens += sent + call.max_tokens
            reason = None
            if dollars > self._llm.dollars:
                reason = f"the cost cap of ${self._llm.dollars:g} is reached"
            elif self._llm.tokens is not None and tokens > self._llm.tokens:
                reason = f"the cap of {self._llm.tokens:,} tokens is reached"
            reasons.append(reasons[-1] or reason if reasons else reason)
        return reasons

    def _price(self, prompt_tokens: int, completion_tokens: int) -> float:
        incoming, outgoing = self._llm.price_per_million
        return (prompt_tokens * incoming + completion_tokens * outgoing) / 1e6

    def _draft(self, task: Task, call: Call, reply: Reply) -> Draft:
        estimated = not reply.prompt_tokens
        sent = reply.prompt_tokens or call.characters // CHARACTERS_PER_TOKEN + 1
        received = reply.completion_tokens or (len(reply.text) // CHARACTERS_PER_TOKEN + 1 if estimated else 0)
        dollars = self._price(sent, received)
        self._dollars += dollars
        self._tokens += sent + received
        record = {"key": call.key, "model": call.model, "seed": call.seed, "prompt_tokens": sent}
        record |= {"completion_tokens": received, "dollars": dollars, "estimated": estimated}
        changes = _summary(reply.text)
        try:
            source = apply_response(task.parent.source, reply.text, full=task.patch == "full")
        except PatchError as error:
            reason = str(error)
            if received >= call.max_tokens:
                reason += f" (the response was cut off at {call.max_tokens} tokens)"
            return Draft(None, changes, reason, reply.text, record)
        return Draft(source, changes, None, reply.text, record)


def _summary(text: str) -> str:
    """Return the first words of a response, before any code: what the model says it changed."""
    prose = text.replace("\r\n", "\n").split("```")[0].split("<<<<<<<")[0]
    words = " ".join(prose.split())
    return words if len(words) <= 200 else words[:199] + "…"
