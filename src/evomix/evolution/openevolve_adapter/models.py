"""One call of a language model through OpenEvolve's ensemble: any OpenAI-compatible endpoint.

Retries, cost and records belong to the proposer; the ensemble gets one model, chosen by the caller's own seed, because
it seeds its picker itself.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass

from openevolve.config import LLMModelConfig
from openevolve.llm.ensemble import LLMEnsemble

# OpenEvolve logs request errors in full, and an endpoint's error text may quote the key.
logging.getLogger("openevolve").setLevel(logging.CRITICAL + 1)


class CallError(Exception):
    """A failed call of a language model; `status` is the HTTP status (None for time-outs and lost connections)."""

    def __init__(self, message: str, status: int | None, retry_after: float) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after = retry_after


@dataclass(frozen=True)
class Reply:
    """A language model's answer and what it cost."""

    text: str
    prompt_tokens: int
    completion_tokens: int


def call_model(
    name: str,
    system: str,
    messages: list[dict[str, str]],
    *,
    api_base: str,
    key: str,
    temperature: float,
    max_tokens: int,
    timeout: float,
    seed: int,
) -> Reply:
    """Ask one model once through OpenEvolve's ensemble; no retries here. Raises CallError."""
    model = LLMModelConfig(
        api_base=api_base,
        api_key=key,
        name=name,
        temperature=temperature,
        max_tokens=max_tokens,
        timeout=timeout,
        retries=0,
        retry_delay=0,
        random_seed=seed,
    )
    ensemble = LLMEnsemble([model])
    try:
        text = asyncio.run(ensemble.generate_with_context(system, messages))
    except TimeoutError:
        raise CallError(f"no answer within {timeout:g} s", None, 0.0) from None
    except Exception as error:  # the SDK's exceptions, and whatever a broken endpoint provokes inside it
        status = getattr(error, "status_code", None)
        headers = getattr(getattr(error, "response", None), "headers", {})
        try:
            retry_after = float(headers.get("retry-after", 0))
        except ValueError:
            retry_after = 0.0
        raise CallError(f"{type(error).__name__}: {error}", status, retry_after) from None
    usage = ensemble.last_usage or {}
    return Reply(text or "", usage.get("prompt_tokens", 0), usage.get("completion_tokens", 0))
