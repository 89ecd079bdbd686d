"""What `bench peers` makes of reports, and that our contenders run, tiny; peers need a network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from safetensors import safe_open

from bench.peers_parts import summary
from bench.peers_parts.running import Runner
from bench.peers_parts.sizes import RANK, UNET_FILE


def told(seconds: list[float], peak: int | None = 10, trained: int = 5) -> dict[str, Any]:
    return {"seconds": seconds, "peak_bytes": peak, "trained": trained}


def test_a_step_is_compared_with_the_faster_and_the_smaller_peer() -> None:
    reports = {
        "by_tverase.attention": told([2.0, 3.0, 2.5], 30),
        "by_diffusers.attention": told([5.0, 5.0, 9.0], 20),
        "by_tverase.matrices": told([6.0, 6.0, 6.0], 12),
        "by_diffusers.matrices": told([8.0, 8.0, 8.0], 24),
        "by_comfyui.matrices": told([4.0, 4.0, 40.0], 48),
    }
    found = summary.rank16_figures(reports)
    attention = found["step_time_ratio_rank16_attention"]
    assert (attention.value, attention.interval) == (0.5, (0.4, 0.6))
    assert found["step_time_ratio_rank16_matrices"].value == 1.5  # by Train LoRA's median
    assert found["step_memory_ratio_rank16_matrices"].value == 0.5  # by diffusers' peak
    worst = found["step_time_ratio_rank16"]
    assert (worst.value, worst.met()) == (1.5, False)


def test_where_no_peak_is_told_there_is_no_memory_ratio() -> None:
    reports = {name: told([1.0], None) for name in (*summary.WHOLE, *summary.LEAN)}
    found = summary.whole_figures(reports)
    assert found["step_time_ratio_whole"].value == 1
    assert (found["step_memory_ratio_whole"].value, found["step_memory_ratio_whole"].met()) == (
        None,
        False,
    )


def test_one_batch_is_compared_with_as_many_runs() -> None:
    reports = {"by_tverase.inversion": told([8.0]), "by_diffusers.inversion": told([2.0, 1.0, 3.0])}
    assert summary.inversion_figures(reports, 16)["inversion_time_ratio_threads1"].value == 0.25


def test_drawing_is_compared_round_by_round_then_process_by_process() -> None:
    slow_round = {"base": [1.0, 10.0, 1.0], "erased": [1.0, 11.0, 1.2]}
    slow_process = {"base": [1.0], "erased": [1.4]}
    even = {"base": [1.0], "erased": [1.0]}
    reports = dict(zip(summary.DRAWING, (slow_process, slow_round, even), strict=True))
    ratio = summary.drawing_figures(reports)["drawing_time_ratio"]
    assert (ratio.value, ratio.interval, ratio.n) == (1.1, (1.0, 1.4), 3)


@pytest.mark.training
def test_our_contenders_run_tiny_and_train_what_they_say(comfy_host: Any, tmp_path: Path) -> None:
    runner = Runner(None, comfy_host.tree, tmp_path, "tiny", threads=1, timed=2)
    runner.run("make.make")
    with safe_open(tmp_path / UNET_FILE, "pt") as file:
        sizes = {key: file.get_slice(key).get_shape() for key in file.keys()}  # noqa: SIM118
    parts = ("to_q", "to_k", "to_v", "to_out.0")
    projections = [s for k, s in sizes.items() if any(f".{p}.weight" in k for p in parts)]
    attention = runner.run("by_tverase.attention")
    assert attention["trained"] == sum(RANK * (rows + columns) for rows, columns in projections)
    assert (len(attention["seconds"]), attention["recomputed"]) == (2, False)
    assert runner.run("by_tverase.lean")["recomputed"]
    drawn = runner.run(summary.DRAWING[0])
    assert [len(seconds) for seconds in drawn.values()] == [4, 4]
