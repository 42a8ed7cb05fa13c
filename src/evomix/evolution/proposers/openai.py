"""The language-model proposer: any OpenAI-compatible endpoint, through OpenEvolve's ensemble.

Answers are stored as they come, so an interrupted or failed wave pays for nothing twice, and the store replays the
whole search without a key. The key is read here, in the process that proposes, and nowhere else.
"""

from __future__ import annotations

import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from evomix.artifacts import read_text
from evomix.errors import UserError
from evomix.evolution.openevolve_adapter.models import CallError, Reply, call_model
from evomix.evolution.proposers.conversation import Call, Conversation, ResponseStore
from evomix.settings import KEY_VARIABLE, Llm
from evomix.specs import SearchSpec

FIRST_DELAY, LONGEST_DELAY = 1.0, 60.0
"""Seconds before the first retry, which double with every further one, and their limit."""
PERMANENT = (400, 401, 403, 404, 405, 413, 422)
"""HTTP statuses that another try cannot mend."""


class OpenAI(Conversation):
    """Asks an endpoint for what the store does not hold."""

    def __init__(self, llm: Llm, search: SearchSpec, store: ResponseStore, spent: dict[str, Any]) -> None:
        super().__init__(llm, search, store, spent)
        self._key: str | None = None

    def fetch(self, calls: list[Call]) -> list[Reply]:
        """Return all answers; the missing ones are asked for at the same time."""
        missing = [call for call in calls if self._store.get(call) is None]
        if missing:
            self._key = read_key(self._llm)
            with ThreadPoolExecutor(len(missing)) as pool:
                errors = [future.exception() for future in [pool.submit(self._ask, call) for call in missing]]
            for error in errors:
                if error is not None:
                    raise error
        replies = [self._store.get(call) for call in calls]
        return [reply for reply in replies if reply is not None]

    def _ask(self, call: Call) -> None:
        """Ask once and again until there is an answer, and store it; UserError when there is none."""
        llm, delay = self._llm, FIRST_DELAY
        for attempt in range(llm.retries + 1):
            try:
                reply = call_model(
                    call.model,
                    call.system,
                    list(call.messages),
                    api_base=llm.api_base,
                    key=self._key or "",
                    temperature=call.temperature,
                    max_tokens=call.max_tokens,
                    timeout=llm.timeout,
                    seed=call.seed,
                )
            except CallError as error:
                text = self._redact(str(error))[:300]
                if error.status in PERMANENT:
                    raise UserError(
                        f"{llm.api_base} refused model {call.model} (status {error.status}): {text}; check "
                        "evolution.llm.api_base, the model's name and the key"
                    ) from None
                if attempt == llm.retries:
                    raise UserError(
                        f"{llm.api_base} failed {attempt + 1} times, last with: {text}; run the workflow again, "
                        "answers so far are kept"
                    ) from None
                wait = min(max(delay, error.retry_after), LONGEST_DELAY)
                print(f"call {call.key[:8]}: {text}; again in {wait:.3g} s", file=sys.stderr)
                time.sleep(wait)
                delay *= 2
            else:
                self._store.put(call, Reply(self._redact(reply.text), reply.prompt_tokens, reply.completion_tokens))
                return

    def _redact(self, text: str) -> str:
        """Return text without the key, which endpoints quote in some errors."""
        return text.replace(self._key, "<key>") if self._key and len(self._key) >= 4 else text


def read_key(llm: Llm) -> str:
    """Return the key from the key file, else from EVOMIX_API_KEY; a placeholder for endpoints other than OpenAI's.

    Raises UserError when others can read the file, when it is empty, or when OpenAI's endpoint is asked without a key.
    """
    path = Path(llm.key_file).expanduser()
    if path.is_file():
        if path.stat().st_mode & 0o077:
            raise UserError(f"others can read the key file {path}; run chmod 600 on it")
        key = read_text(path).strip()
        if not key:
            raise UserError(f"the key file {path} is empty; write the key into it")
        return key
    key = os.environ.get(KEY_VARIABLE, "").strip()
    if not key and (urlparse(llm.api_base).hostname or "").endswith("openai.com"):
        raise UserError(f"no key: write it into {path} (chmod 600) or set {KEY_VARIABLE}")
    return key or "none"
