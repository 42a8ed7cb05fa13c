"""OpenEvolve's own command line on a population of ours: `openevolve-run --checkpoint` goes on where we stopped."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from evolution_study import Search
from evomix.evolution.openevolve_adapter.population import DIMENSIONS, Population
from llm_server import LlmServer, number_of

EVALUATOR = "def evaluate(path):\n    return {'combined_score': 0.4, 'complexity': 500.0, 'cost': 1.25}\n"


def scaled(request: dict[str, Any]) -> str:
    """Answer OpenEvolve's own prompt with a legal diff of the current program, the last one that the prompt shows."""
    text = request["messages"][-1]["content"]
    program = [item for item in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "EVOLVE-BLOCK-START" in item][-1]
    block = program[program.index("EVOLVE-BLOCK-START") :]
    line = next(line for line in block.split("\n") if line.startswith("        return "))
    new = line.replace("return ", f"return 1.{number_of(request) % 997:03d} * ", 1)
    return f"A scale.\n<<<<<<< SEARCH\n{line}\n=======\n{new}\n>>>>>>> REPLACE\n"


@pytest.mark.slow
def test_openevolve_run_goes_on_from_our_population(tmp_path: Path) -> None:
    """Two iterations of the real program: it loads every program of ours, adds its own, and saves what we can load."""
    search = Search(tmp_path / "search").run(2)
    ours = {item.id: item for item in Population(search.proposing, search.population(2)).programs}
    program, evaluator, config = (tmp_path / name for name in ("program.py", "evaluator.py", "config.yaml"))
    program.write_text(next(iter(ours.values())).source)
    evaluator.write_text(EVALUATOR)
    with LlmServer(scaled) as server:
        settings = {
            "max_iterations": 2,
            "checkpoint_interval": 1,
            "llm": {"api_base": server.address, "api_key": "none", "models": [{"name": "model-a", "weight": 1.0}]},
            "database": {"num_islands": 2, "population_size": 20, "feature_dimensions": list(DIMENSIONS)},
            "evaluator": {"parallel_evaluations": 1, "cascade_evaluation": False},
        }
        config.write_text(yaml.safe_dump(settings))
        command = [str(Path(sys.executable).with_name("openevolve-run")), str(program), str(evaluator)]
        command += ["--config", str(config), "--checkpoint", str(search.population(2))]
        command += ["--output", str(tmp_path / "output"), "--iterations", "2"]
        result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300, env={**os.environ})
    assert result.returncode == 0, result.stderr[-3000:]
    assert len(server.requests) >= 2
    saved = sorted((tmp_path / "output" / "checkpoints").iterdir(), key=lambda path: int(path.name.split("_")[-1]))[-1]
    found = {path.stem: json.loads(path.read_text()) for path in (saved / "programs").glob("*.json")}
    assert set(ours) <= set(found)
    added = [item for name, item in found.items() if name not in ours]
    assert added
    assert all(item["parent_id"] in found for item in added)
    assert {item["metrics"]["combined_score"] for item in added} == {0.4}
    metadata = json.loads((saved / "metadata.json").read_text())
    assert metadata["last_iteration"] > 6
    best = max(ours.values(), key=lambda item: item.score)
    assert json.loads((saved / "best_program_info.json").read_text())["id"] == best.id
