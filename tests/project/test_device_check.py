"""`bench device_check`: every check runs, and none takes the others with it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from bench.device_parts import supervise
from host_support.places import ROOT

# As job.py talks to its parent; each check is what its name says.
STAND_IN = """
import json, os, sys, time
say = lambda words: print("device check: " + json.dumps(words), flush=True)
say({"device": "an imitation"})
print("loading a model")
for name in sys.argv[1:]:
    if name == "dies":
        os._exit(3)
    if name == "hangs":
        time.sleep(60)
    say({"state": "failed", "why": "it is broken"} if name == "fails" else {"state": "done"})
"""


def test_no_check_takes_another_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = tmp_path / "job.py"
    job.write_text(STAND_IN, "utf-8")
    monkeypatch.setattr(supervise, "JOB", job)
    checks = supervise.Checks([], time.monotonic() + 60)
    patient = {"first": 30.0, "fails": 30.0, "dies": 30.0, "hangs": 2.0, "last": 30.0}
    checks.run(patient)
    assert list(checks.reports) == list(patient)
    assert checks.environment == {"device": "an imitation"}
    told = {name: (r["state"], r.get("why")) for name, r in checks.reports.items()}
    assert told == {
        "first": ("done", None),
        "fails": ("failed", "it is broken"),
        "dies": ("failed", "ended with 3"),
        "hangs": ("failed", "longer than 2 s"),
        "last": ("done", None),
    }
    assert checks.reports["hangs"]["seconds"] < 20
    late = supervise.Checks([], time.monotonic())
    late.run({"first": 30.0})
    assert late.reports["first"]["state"] == "failed"
    assert "no time" in late.reports["first"]["why"]


@pytest.fixture(scope="module")
def written(comfy_host: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The file of a whole tiny run."""
    result = tmp_path_factory.mktemp("device") / "device_check.json"
    script = ROOT / "bench" / "device_check.py"
    command = [sys.executable, script, "--comfyui", comfy_host.tree, "--size", "tiny"]
    done = subprocess.run(
        [str(word) for word in (*command, "--result", result)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return dict(json.loads(result.read_text("utf-8")))


@pytest.mark.training
def test_every_check_runs_tiny(written: dict[str, Any]) -> None:
    states = {name: check["state"] for name, check in written["checks"].items()}
    skipped = {name for name, state in states.items() if state == "skipped"}
    assert skipped <= {"finetune_flow", "dynamic_vram"}
    assert all(len(written["checks"][name]["why"]) > 20 for name in skipped)
    done = {"patches", "dead_zone", "quantised", "finetune_sd15", "finetune_sdxl"}
    assert {name for name, state in states.items() if state == "done"} >= done
    assert all(check["seconds"] <= check["budget_s"] for check in written["checks"].values())
    figures = written["figures"]
    assert figures["checks_failed"]["value"] == 0
    assert figures["finetune_sdxl_steps_per_s"]["value"] > 0
    assert figures["patches_bfloat16_told_error"]["met"]
    assert figures["dead_zone_acts_0.001"]["met"]
    assert figures["dead_zone_plain_0.001"]["value"] < 0.9
    cosines = [f["met"] for name, f in figures.items() if name.endswith("at_use_cosine")]
    assert len(cosines) == figures["quantised_formats"]["value"] >= 2
    assert all(cosines)


@pytest.mark.training
def test_the_file_names_the_device_and_no_folder(written: dict[str, Any]) -> None:
    assert set(written["environment"]) >= {"device", "cpu", "comfyui", "torch"}
    assert re.search(r"(?<![\w.])[/\\]\w+[/\\]", json.dumps(written)) is None
