"""Run many programs through the run-time checks in one sandboxed process, to save interpreter starts.

Usage inside the sandbox: `batch.py JOB OUTPUT` with JOB a JSON list of [name, file, framework].
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import torch

from evomix.gate import integrity, worker
from evomix.gate.gate import BATCH, FLOP_BUDGET, PARAMETER_BUDGET, SMALL
from evomix.mechanisms import library

if __name__ == "__main__":
    torch.set_num_threads(1)
    results = {}
    for name, file, framework in json.loads(Path(sys.argv[1]).read_text()):
        started = time.process_time()
        path = Path(file)
        limits = {"parameter_budget": PARAMETER_BUDGET, "flop_budget": FLOP_BUDGET}
        records = integrity.check(path, framework, SMALL, batch=BATCH, **limits)
        if records[-1]["check"] != "integrity.loads":
            records += worker.certificate_records(path, library.load(path, framework), SMALL, None)
        failed = [item for item in records if not item["passed"]]
        results[name] = {"failed": failed, "seconds": time.process_time() - started}
    Path(sys.argv[2]).write_text(json.dumps(results))
