"""A real OpenAI-compatible HTTP server for tests: it answers like a model that edits programs, and fails on demand.

Answers are a pure function of the request, so that a search against it is reproducible however requests interleave.
Transport faults (statuses, time-outs, cut connections) are taken from a list, one per request, before any answer.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Respond = Callable[[dict[str, Any]], str]


def program_of(request: dict[str, Any]) -> str:
    """Return the current program of a prompt: its first fenced block."""
    return re.findall(r"```python\n(.*?)```", request["messages"][1]["content"], re.DOTALL)[0]


def number_of(request: dict[str, Any]) -> int:
    """Return a number that depends on everything in the request."""
    return int(hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()[:8], 16)


def edit(request: dict[str, Any]) -> str:
    """Answer with a legal edit: scale what one method returns; as a whole program where that is asked for."""
    program, number = program_of(request), number_of(request)
    block = program[program.index("# EVOLVE-BLOCK-START") : program.index("# EVOLVE-BLOCK-END")]
    scalable = re.compile(r"^( {8}(?:return|query =|key =) )(?=self\.split_heads|l2_normalise|1\.)", re.MULTILINE)
    lines = [line for line in block.split("\n") if scalable.match(line)]
    line = lines[number % len(lines)]
    new = scalable.sub(rf"\g<1>1.{number % 997:03d} * ", line)
    if "in one fenced block" in request["messages"][1]["content"]:
        return f"A bolder scale.\n```python\n{program.replace(line, new, 1)}```\n"
    return f"I scale one map by 1.{number % 997:03d}.\n<<<<<<< SEARCH\n{line}\n=======\n{new}\n>>>>>>> REPLACE\n"


def prose(request: dict[str, Any]) -> str:
    """Answer without any edit."""
    return "Attention could be improved by thinking about kernels."


def malformed(request: dict[str, Any]) -> str:
    """Answer with a block that never ends."""
    return edit(request).replace(">>>>>>> REPLACE", "").replace("```\n", "")


def unmatched(request: dict[str, Any]) -> str:
    """Answer with a block whose SEARCH stands nowhere in the program."""
    return "<<<<<<< SEARCH\n        return nothing_like_it\n=======\n        return 1\n>>>>>>> REPLACE\n"


def outside(request: dict[str, Any]) -> str:
    """Answer with an edit outside the evolve block."""
    line = "from torch import Tensor, nn"
    return f"<<<<<<< SEARCH\n{line}\n=======\nimport os\n{line}\n>>>>>>> REPLACE\n"


def illegal(request: dict[str, Any]) -> str:
    """Answer with an edit that the syntax gate refuses."""
    program = program_of(request)
    line = next(line for line in program.split("\n") if line.startswith("        return "))
    return f"<<<<<<< SEARCH\n{line}\n=======\n        print(open('/etc/passwd').read())\n{line}\n>>>>>>> REPLACE\n"


def duplicate(request: dict[str, Any]) -> str:
    """Answer with the program itself, reformatted and commented."""
    program = program_of(request)
    line = next(line for line in program.split("\n") if line.startswith("        return "))
    return f"Same.\n<<<<<<< SEARCH\n{line}\n=======\n        # unchanged\n{line}\n>>>>>>> REPLACE\n"


def windows_lines(request: dict[str, Any]) -> str:
    """Answer with a legal edit in CRLF lines."""
    return edit(request).replace("\n", "\r\n")


FAULTS: tuple[Respond, ...] = (prose, malformed, unmatched, outside, illegal, duplicate, windows_lines)


def sometimes_wrong(request: dict[str, Any]) -> str:
    """Answer half of the first attempts with some fault, and repeated attempts always with a legal edit."""
    number = number_of(request)
    if len(request["messages"]) > 2 or number % 2:
        return edit(request)
    return FAULTS[number // 2 % len(FAULTS)](request)


class LlmServer:
    """Context manager: serves on a free local port; `requests` and `keys` record what came in."""

    def __init__(self, respond: Respond = edit, transport: list[str] | None = None, usage: bool = True) -> None:
        self.respond, self.transport, self.usage = respond, list(transport or []), usage
        self.requests: list[dict[str, Any]] = []
        self.keys: list[str] = []
        self._lock = threading.Lock()
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                server._serve(self)

            def log_message(self, *arguments: Any) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self.address = f"http://127.0.0.1:{self._http.server_address[1]}/v1"

    def __enter__(self) -> LlmServer:
        threading.Thread(target=self._http.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *details: Any) -> None:
        self._http.shutdown()
        self._http.server_close()

    def _serve(self, handler: BaseHTTPRequestHandler) -> None:
        body = json.loads(handler.rfile.read(int(handler.headers["Content-Length"])))
        key = handler.headers.get("Authorization", "").removeprefix("Bearer ")
        with self._lock:
            self.requests.append(body)
            self.keys.append(key)
            fault = self.transport.pop(0) if self.transport else None
        if fault == "timeout":
            time.sleep(1.5)
        if fault == "cut":
            handler.connection.close()
            return
        if fault is not None and fault.isdigit():
            error = {"error": {"message": f"status {fault} for key {key}", "type": "fault"}}
            self._send(handler, int(fault), error)
            return
        if fault == "nonsense":
            self._send(handler, 200, {"unexpected": True})
            return
        text = self.respond(body)
        message = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
        answer: dict[str, Any] = {"id": "x", "object": "chat.completion", "created": 0, "model": body["model"]}
        answer["choices"] = [message]
        if self.usage:
            sent = sum(len(item["content"]) for item in body["messages"]) // 4
            received = len(text) // 4 + 1
            answer["usage"] = {"prompt_tokens": sent, "completion_tokens": received, "total_tokens": sent + received}
        self._send(handler, 200, answer)

    @staticmethod
    def _send(handler: BaseHTTPRequestHandler, status: int, content: dict[str, Any]) -> None:
        data = json.dumps(content).encode()
        try:
            handler.send_response(status)
            handler.send_header("Content-Type", "application/json")
            handler.send_header("Content-Length", str(len(data)))
            if status == 429:
                handler.send_header("Retry-After", "0")
            handler.end_headers()
            handler.wfile.write(data)
        except (BrokenPipeError, ConnectionResetError):
            pass
