"""Help pages in another language: what they repeat is set from the catalogue, the rest is kept.

ComfyUI shows web/docs/<NodeId>/<language>.md where that exists, else web/docs/<NodeId>.md. Such a
page is written by hand, but for its title, its headings, and in its lists of inputs, outputs and
presets what the node and its presets say of themselves: `python dev.py locales` writes those.
Words of one's own stand indented below an entry, or below the list.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PAGES = ROOT / "web" / "docs"
PRESETS = ROOT / "web" / "presets.json"
COLON = ": "
ENTRY = re.compile(r"- ([`*]+[^`*]+[`*]+)")
Lists = dict[str, dict[str, str]]  # by heading, what is said by what it is said of


def sections(page: str) -> dict[str, list[str]]:
    """The lines below each heading, without blank ones around; the title's come first."""
    parts = [part.partition("\n") for part in re.split(r"^##? ", page, flags=re.M)[1:]]
    return {heading: body.strip("\n").splitlines() for heading, _, body in parts}


def english(node: str) -> dict[str, list[str]]:
    """The sections of the English page."""
    return sections((PAGES / f"{node}.md").read_text("utf-8"))


def lists(node: str, node_class: Any) -> Lists:
    """What the node says of itself, in English, by the headings of its English page."""
    types, shown = node_class.INPUT_TYPES(), english(node)
    required, optional = (
        {f"`{name}`": spec[1]["tooltip"] for name, spec in types.get(part, {}).items()}
        for part in ("required", "optional")
    )
    apart = "Optional inputs" in shown
    names = [f"`{n}`" for n in getattr(node_class, "RETURN_NAMES", node_class.RETURN_TYPES)]
    found = {
        "Inputs": required if apart else required | optional,
        "Optional inputs": optional,
        "Outputs": dict(zip(names, node_class.OUTPUT_TOOLTIPS, strict=True)),
    }
    presets = json.loads(PRESETS.read_text("utf-8"))
    if node in presets["nodes"]:
        own = presets["nodes"][node]
        found["Presets"] = {presets["titles"][key]: one["note"] for key, one in own.items()}
    return {heading: entries for heading, entries in found.items() if heading in shown}


def above_list(body: list[str]) -> list[str]:
    """The lines before the first entry; none where there is no list."""
    places = [place for place, line in enumerate(body) if ENTRY.match(line)]
    return body[: places[0]] if places else []


def own_words(body: list[str]) -> tuple[dict[str, list[str]], list[str]]:
    """What was written by hand below each entry, and below the whole list."""
    below: dict[str, list[str]] = {}
    after, entry = [], ""
    for line in body[len(above_list(body)) :]:
        if found := ENTRY.match(line):
            entry = found[1]
        elif entry and line.startswith("  "):
            below.setdefault(entry, []).append(line)
        else:
            after.append(line)
    return below, "\n".join(after).strip("\n").splitlines()


def refuse_losing(written: Iterable[str], places: Iterable[str]) -> None:
    """Raises ValueError when something written by hand would have no place any more."""
    if lost := set(written) - set(places):
        raise ValueError(f"no place for the words below {', '.join(sorted(lost))}; move them")


def listed(body: list[str], entries: Mapping[str, str], colon: str) -> Iterator[str]:
    """The section with these entries."""
    below, after = own_words(body)
    refuse_losing(below, entries)
    for name, text in entries.items():
        yield f"- {name}{colon}{text}"
        yield from below.get(name, [])
    yield from ["", *after] if after else []


def said(entries: Mapping[str, str], say: Callable[[str], str]) -> dict[str, str]:
    """The entries in the language. Names in backticks are typed and stay, titles do not."""
    return {k if k[0] == "`" else f"*{say(k)}*": say(text) for k, text in entries.items()}


def page(own: str, node: str, node_class: Any, title: str, say: Callable[[str], str]) -> str:
    """The page `own` as it should be; with "" for `own` a beginning to write on."""
    mine, told, (_, *wanted) = sections(own), lists(node, node_class), english(node).items()
    refuse_losing(list(mine)[1:], [say(heading) for heading, _ in wanted])
    parts = [[f"# {say(title)} · {title}"], next(iter(mine.values()), [])]
    for heading, body in wanted:
        written = mine.get(say(heading), [])
        if heading in told:
            entries = said(told[heading], say)
            lead = [say(line) for line in above_list(body)]
            written = [*lead, *listed(written, entries, say(COLON))]
        parts += [[f"## {say(heading)}"], written]
    return "\n\n".join("\n".join(part) for part in parts if part) + "\n"


def texts(nodes: Mapping[str, Any]) -> list[str]:
    """Every English text that a page takes from the catalogue and the node does not say."""
    found: dict[str, None] = {COLON: None}
    for node, node_class in nodes.items():
        told = lists(node, node_class)
        for heading, body in list(english(node).items())[1:]:
            found[heading] = None
            found |= dict.fromkeys(above_list(body) if heading in told else [])
    return [text for text in found if text]


def render(
    language: str, nodes: Mapping[str, Any], titles: Mapping[str, str], say: Callable[[str], str]
) -> dict[str, str]:
    """Every page's text by its path in the repository."""
    files = {}
    for node, node_class in nodes.items():
        path = PAGES / node / f"{language}.md"
        own = path.read_text("utf-8") if path.exists() else ""
        name = path.relative_to(ROOT).as_posix()
        try:
            files[name] = page(own, node, node_class, titles[node], say)
        except ValueError as problem:
            raise ValueError(f"{name}: {problem}") from None
    return files
