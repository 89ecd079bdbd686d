"""What `dev.py installs` counts, and the installations themselves (minutes and a network)."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from urllib.request import ProxyHandler, build_opener

import pytest

from devtools import bare_host, in_process, installs


def test_a_package_with_another_version_or_gone_has_changed_and_a_new_one_has_not() -> None:
    before = {"numpy": "2.4.6", "Pillow": "13.0.0", "scipy": "1.17.1"}
    after = {"numpy": "1.26.4", "Pillow": "13.0.0", "matplotlib": "3.11.2"}
    assert bare_host.changed(before, after) == ["numpy 2.4.6 -> 1.26.4", "scipy 1.17.1 -> gone"]


def test_a_tool_that_warns_or_fails_is_no_clean_answer() -> None:
    fine = "Validating node configuration...\nAll validation checks passed successfully"
    assert installs.troubles(0, fine) == []
    assert installs.troubles(1, fine) == ["exit code 1"]
    assert installs.troubles(0, fine + "\nWarning: License") == ["Warning: License"]


def test_the_host_has_its_own_pins_and_none_of_ours() -> None:
    pins = bare_host.host_pins()
    assert "torch==" in pins
    assert "matplotlib" not in pins
    assert "pytest" not in pins


def test_a_missed_target_fails_the_run(capsys: pytest.CaptureFixture[str]) -> None:
    found = installs.Findings()
    found.count("files_left", 0, "<= 0")
    assert found.passed
    found.count("files_left", 1, "<= 0", "custom_nodes/x")
    assert not found.passed
    assert "FAIL  files_left: 1 (target <= 0)\n      custom_nodes/x" in capsys.readouterr().out


def test_a_folder_is_served_on_this_computer(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("inside")
    with installs.served(tmp_path) as address:
        assert address.startswith("http://127.0.0.1:")
        with build_opener(ProxyHandler({})).open(f"{address}/file", timeout=10) as answer:
            assert answer.read() == b"inside"


@pytest.mark.installs
def test_the_pack_is_installed_run_and_uninstalled_as_users_do(tmp_path: Path) -> None:
    tree, figures = in_process.host_tree(), tmp_path / "installs.json"
    if not (tree / "main.py").exists():
        pytest.skip(f"no ComfyUI at {tree}: `python dev.py setup` brings one")
    script = Path(installs.__file__)
    command = [sys.executable, str(script), "--comfyui", str(tree), "--figures", str(figures)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == 2:
        pytest.skip(done.stderr.splitlines()[-1])
    assert done.returncode == 0, done.stdout + done.stderr
    assert set(json.loads(figures.read_text("utf-8"))["figures"]) >= {
        "validate_warnings",
        "zip_nodes_loaded",
        "manager_installed",
        "manager_nodes_loaded",
        "manager_files_left",
    }
