"""A real ComfyUI server: prompts that are cancelled at random, and kills in the middle of work."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import psutil
from PIL import Image

from devtools.api_graph import ERASE_CONCEPT, node_of, read_graph
from devtools.client import Client, PromptFailed, ServerGone, outputs_of
from devtools.hosts import Host
from devtools.messages import Message
from devtools.server import Server
from tverase_core.files.task_vector_file import load_task_vector
from tverase_core.inversion.files import load_inversion_set

from .digest import digest_of

SETTLED = 5  # prompts until every cache is full
KILLED_AT = (0.4, 0.8)  # of the work
SHORT = {
    "TVEraseConceptSetFromPrompt": {"count": 8, "batch_size": 8, "steps": 2},
    "TVEraseConceptFinetune": {"steps": 4, "batch_size": 8, "finished_work": "make anew"},
    "KSampler": {"steps": 2},
}
Graph = dict[str, Any]


@dataclass
class Endured:
    """Of a server after each prompt, in bytes: held, when the C library has given back what it
    keeps free, and resident, before. ended: prompts by how. wrong: in words."""

    held: list[int] = field(default_factory=list)
    resident: list[int] = field(default_factory=list)
    ended: dict[str, int] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)

    @property
    def growth(self) -> float:
        """The most that was held after the fifth prompt, over what was held then."""
        return max(self.held[SETTLED:]) / self.held[SETTLED - 1] - 1


@dataclass
class Killed:
    """gone_on: how often unfinished work was there. wrong: what did not end with the same bits."""

    kills: int = 0
    gone_on: int = 0
    wrong: list[str] = field(default_factory=list)


def endure(tree: Path, base: Path, prompts: int, seed: int) -> Endured:
    """So many prompts of the quick demo's graph in one server, cancelled while they run, taken
    out of the queue, or left alone; then the first one again."""
    source, made = random.Random(f"{seed} server"), Endured()
    with _server(tree, base, {"give_back": Path(__file__).parent / "give_back"}) as server:
        client = Client(server.url, server.base)
        expected = _pictures(client, client.run(_erasure(0)))
        for number in range(1, prompts + 1):
            how = source.choice(("interrupt", "delete", "let run"))
            ended = _one(client, _erasure(number), how, source.randrange(1, 40))
            made.ended[ended] = made.ended.get(ended, 0) + 1
            made.resident.append(_resident(server, client))
            client.run({"1": {"class_type": "BenchGiveBack", "inputs": {"number": number}}})
            made.held.append(_resident(server, client))
        if _pictures(client, client.run(_erasure(0))) != expected:
            made.wrong.append("the next run's pictures")
    return made


def kill_and_go_on(tree: Path, base: Path, seed: int) -> Killed:
    """Kill the server by SIGKILL at its work; a new one is given the same prompt."""
    source, told = random.Random(f"{seed} kill"), Killed()
    for job in (_tuning(), _inversion()):
        place = base / job.name
        with _server(tree, place) as server:
            Client(server.url, place).run(job.graph)
        expected = job.saved(place)
        for _ in range(2):
            shutil.rmtree(place / "output")
            with _server(tree, place) as server:
                _kill_at(server, job, source.uniform(*KILLED_AT))
            told.kills += 1
            told.gone_on += any((place / "output").rglob("unfinished/*.safetensors"))
            with _server(tree, place) as server:
                Client(server.url, place).run(job.graph)
            if job.saved(place) != expected:
                told.wrong.append(f"{job.name}: kill {told.kills}")
    return told


def _server(tree: Path, base: Path, packs: Mapping[str, Path] | None = None) -> Server:
    assets = os.environ.get("PYTHONPATH")
    host = Host(tree.name, tree, Path(assets) if assets else None)
    return Server(host, Path(sys.executable), threads=1, base=base, extra_packs=packs)


def _erasure(seed: int) -> Graph:
    """The quick demo's graph with few steps; another fine-tune for another seed."""
    graph = read_graph(ERASE_CONCEPT)
    for node in graph.values():
        node["inputs"] |= SHORT.get(node["class_type"], {})
    graph[node_of(graph, "TVEraseConceptFinetune")]["inputs"]["seed"] = seed
    return graph


def _one(client: Client, graph: Graph, how: str, after: int) -> str:
    """Run a prompt and do that to it, after so many messages; how it ended."""
    heard = 0

    def watch(message: Message | None) -> None:
        nonlocal heard
        heard += message is not None and message.is_work
        if heard == after and how == "interrupt":
            client.interrupt()

    first = client.submit(graph)
    if how == "delete":
        second = client.submit(_erasure(10_000))
        client.post("/queue", {"delete": [second]})
    try:
        outputs_of(client.wait(first, watch))
    except PromptFailed:
        return "interrupted"
    return "deleted" if how == "delete" else "done"


def _resident(server: Server, client: Client) -> int:
    """Bytes of the server's process when it has let go of models and results."""
    assert server.process is not None
    client.post("/free", {"unload_models": True, "free_memory": True})
    time.sleep(1.5)  # the server's worker looks for such wishes once a second
    return int(psutil.Process(server.process.pid).memory_info().rss)


def _pictures(client: Client, outputs: Mapping[str, Any]) -> str:
    """One digest of what every Save Image and Preview Image shows."""
    total = hashlib.sha256()
    for name in sorted(outputs):
        for image in outputs[name].get("images", []):
            total.update(Image.open(BytesIO(client.view(image))).convert("RGB").tobytes())
    return total.hexdigest()


@dataclass(frozen=True)
class _Job:
    """A prompt that saves one file; its node 6 does the work."""

    name: str
    graph: Graph
    ending: str
    load: Callable[[Path], Any]

    def saved(self, place: Path) -> str:
        """A digest of what it saved."""
        (path,) = (place / "output").rglob(f"killed*{self.ending}")
        return digest_of(self.load(path))


def _tuning() -> _Job:
    graph = _erasure(0)
    graph["6"]["inputs"] |= {"steps": 60, "checkpoint_every": 5}
    graph["8"]["inputs"] |= {"task_vector": ["6", 2], "filename_prefix": "killed"}
    kept = {name: graph[name] for name in ("1", "3", "6", "8")}
    return _Job("tuning", kept, ".tv.safetensors", load_task_vector)


def _inversion() -> _Job:
    graph, automatic = _erasure(0), read_graph(ERASE_CONCEPT.with_name("erase_concept_auto.json"))
    node = automatic[node_of(automatic, "TVEraseDiverseInversion")]
    small = {"count": 3, "steps": 150, "batch": 2, "checks": 4, "sampling_steps": 8}
    wires = {"model": ["1", 0], "clip": ["1", 1], "vae": ["1", 2], "judge": ["2", 0]}
    node["inputs"] |= {**small, **wires, "concept_set": ["3", 0], "resumable": True}
    node["inputs"]["finished_work"] = "make anew"
    saving = {"inversion_set": ["6", 0], "filename_prefix": "killed"}
    kept = {
        **{name: graph[name] for name in ("1", "3")},
        "2": {"class_type": "TVEraseDemoJudge", "inputs": {}},
        "6": node,
        "8": {"class_type": "TVEraseSaveInversionSet", "inputs": saving},
    }
    return _Job("inversion", kept, ".inversions.safetensors", load_inversion_set)


def _kill_at(server: Server, job: _Job, share: float) -> None:
    """Kill the server when node 6 has done that share of its work."""

    def watch(message: Message | None) -> None:
        if message is None or message.kind != "progress" or str(message.data["node"]) != "6":
            return
        if message.data["value"] >= share * message.data["max"]:
            assert server.process is not None
            os.killpg(server.process.pid, signal.SIGKILL)

    try:
        Client(server.url, server.base).run(job.graph, watch)
    except ServerGone:
        return
    raise RuntimeError(f"{job.name}: the work was over before the server was killed")
