"""Nothing lost, nothing corrupted, nothing let in: `python dev.py bench faults`.

Writes bench/results/faults.json. Its parts, of which --only runs some and takes the others' figures
from the last run:

    hostile     mutated files and texts for every reader (docs/robustness.md says what counts)
    injections  faults of the world at every stage: what changed, what was left, what comes next
    orders      MODELs that share weights, drawn in any order
    endurance   erasures and cancelled work in one process: what of the memory does not come back
    resume      processes that are killed while they learn; finished work that is found again
    server      a real server: prompts that are cancelled, and SIGKILL at its work
    guards      the guards of nodes/host/, by what `bench mutations` found of their removal
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RESULT = ROOT / "bench" / "results" / "faults.json"
sys.path += [str(ROOT), str(ROOT / "tests")]

import torch  # noqa: E402 - after the path

from bench.fault_parts import hostile  # noqa: E402
from bench.fault_parts.host import own_folders  # noqa: E402
from devtools import in_process  # noqa: E402
from devtools.figures import (  # noqa: E402
    Figure,
    figures_document,
    figures_table,
    read_figures,
    write_figures,
)
from devtools.machine import cpu_name  # noqa: E402

Part = tuple[dict[str, Figure], dict[str, Any]]  # figures, and what the file tells beside them
INPUTS, SEED = 100_000, 22


def hostile_part(folder: Path, options: argparse.Namespace) -> Part:
    """Every reader, mutated inputs."""
    place = folder / "hostile"
    place.mkdir()
    found = hostile.run(place, options.inputs, SEED, folder)
    figures = {
        "fuzz_inputs": Figure(sum(found.inputs.values()), ">= 100000"),
        "fuzz_faults": Figure(len(found.faults), "<= 0"),
    }
    by_reader = {
        name: {"inputs": count, "refused": found.refused[name]}
        for name, count in found.inputs.items()
    }
    return figures, {"readers": by_reader, "faults": found.faults[:50]}


def injections_part(folder: Path, options: argparse.Namespace) -> Part:
    """Faults at moments of every stage."""
    from bench.fault_parts import injections
    from bench.fault_parts.world import AnyWorld, DemoWorld, World

    pack, output, told = in_process.load_pack(), folder / "output", injections.Told()
    worlds: list[AnyWorld] = [World(pack, output)]
    worlds += [DemoWorld(pack, output, kind) for kind in ("UNet", "flow")]
    for world in worlds:
        injections.inject(told, world, options.each, SEED)
    names = ("base_changed", "wrappers_leaked", "next_run_failed")
    figures = {
        "injections": Figure(told.injected, ">= 300"),
        **{name: Figure(len(told.wrong[name]), "<= 0", told.injected) for name in names},
        "memory_growth_after_faults": Figure(told.growth, "<= 0.02", unit="share"),
    }
    return figures, injections.table(told)


def orders_part(folder: Path, options: argparse.Namespace) -> Part:
    """MODELs that share weights, drawn in any order."""
    from bench.fault_parts import orders

    made = orders.run(in_process.load_pack(), options.graphs, SEED)
    figures = {
        "graph_orders_tried": Figure(made.tried, ">= 200"),
        "graph_orders_wrong": Figure(len(made.wrong), "<= 0", made.tried),
    }
    return figures, {"drawn": made.drawn, "wrong": made.wrong[:20]}


def endurance_part(folder: Path, options: argparse.Namespace) -> Part:
    """Erasures and cancelled work, one after the other."""
    from bench.fault_parts import endurance
    from bench.fault_parts.world import World

    world = World(in_process.load_pack(), folder / "output")
    held = endurance.endure(world, options.erasures, 30, SEED)
    figures = {"memory_growth": Figure(held.growth, "<= 0.02", len(held.held), unit="share")}
    return figures, {"erasures": options.erasures, "cancelled": 30, "held_bytes": held.held}


def resume_part(folder: Path, options: argparse.Namespace) -> Part:
    """Killed processes whose work goes on, and finished work that is not done again."""
    from bench.fault_parts import resume
    from bench.fault_parts.world import World

    world = World(in_process.load_pack(), folder / "output")
    told, again = resume.kill_and_resume(world, 8, SEED), resume.rerun(world)
    figures = {
        "resume_not_bit_equal": Figure(len(told.wrong), "<= 0", told.killed),
        "finished_work_rerun": Figure(len(again), "<= 0", len(resume.KEPT)),
    }
    return figures, {
        "killed": told.killed,
        "gone_on": told.gone_on,
        "wrong": told.wrong,
        "again": again,
    }


def server_part(folder: Path, options: argparse.Namespace) -> Part:
    """A real server, cancelled and killed."""
    from bench.fault_parts import server

    place = folder / "server"
    held = server.endure(options.comfyui, place / "endure", options.prompts, SEED)
    told = server.kill_and_go_on(options.comfyui, place, SEED)
    figures = {
        "server_memory_growth": Figure(held.growth, "<= 0.02", len(held.held), unit="share"),
        "server_next_run_wrong": Figure(len(held.wrong), "<= 0", options.prompts),
        "server_resume_not_bit_equal": Figure(len(told.wrong), "<= 0", told.kills),
    }
    killed = {"killed": told.kills, "gone_on": told.gone_on, "wrong": told.wrong}
    return figures, {
        "ended": held.ended,
        "held_bytes": held.held,
        "resident_bytes": held.resident,
        **killed,
    }


def guards_part(_folder: Path, _options: argparse.Namespace) -> Part:
    """Guards of the host layer, by what `bench mutations` last found."""
    from bench.fault_parts import guards

    total, unseen = guards.caught(ROOT / "bench" / "results" / "mutations.json")
    figures = {
        "guards_total": Figure(total),
        "guards_whose_removal_is_caught": Figure(total - len(unseen), f">= {total}", total),
    }
    return figures, {"unseen": unseen}


PARTS: Mapping[str, Callable[[Path, argparse.Namespace], Part]] = {
    "hostile": hostile_part,
    "injections": injections_part,
    "orders": orders_part,
    "endurance": endurance_part,
    "resume": resume_part,
    "server": server_part,
    "guards": guards_part,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--comfyui", type=Path, required=True)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--inputs", type=int, default=INPUTS, help="hostile inputs")
    parser.add_argument("--each", type=int, default=8, help="faults of a kind at a quick stage")
    parser.add_argument("--graphs", type=int, default=200, help="random graphs")
    parser.add_argument("--erasures", type=int, default=50, help="one after the other")
    parser.add_argument("--prompts", type=int, default=30, help="in one server")
    options = parser.parse_args()
    torch.set_num_threads(1)
    host = in_process.import_host(options.comfyui)
    figures: dict[str, Figure] = {}
    details: dict[str, Any] = {}
    # In main memory where there is such a folder: files that are written to disk take far longer.
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as base:
        own_folders(host, Path(base))
        in_process.load_pack()
        for name in options.only:
            print(f"{name}:", flush=True)
            made, told = PARTS[name](Path(base), options)
            figures |= made
            details[name] = {"date": datetime.now(timezone.utc).strftime("%Y-%m-%d"), **told}
    known = read_figures(RESULT) if RESULT.exists() else {"figures": {}}
    figures = {**{n: _figure(entry) for n, entry in known["figures"].items()}, **figures}
    details = {**{name: known[name] for name in PARTS if name in known}, **details}
    document = figures_document(
        "faults",
        "python dev.py bench faults",
        datetime.now(timezone.utc).strftime("%Y-%m-%d"),
        {"cpu": cpu_name(), "torch": torch.__version__, "host": options.comfyui.name},
        figures,
    )
    print(figures_table(document))
    write_figures(RESULT, {**document, **details})
    return 0 if all(figure.met() is not False for figure in figures.values()) else 1


def _figure(entry: Mapping[str, Any]) -> Figure:
    """A figure of the last run."""
    kept = {k: entry[k] for k in ("target", "n", "unit", "reason") if k in entry}
    return Figure(entry["value"], **kept)


if __name__ == "__main__":
    sys.exit(main())
