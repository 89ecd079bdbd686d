"""The texts of the nodes for ComfyUI's interface: `python dev.py locales`.

English comes from the node classes. Another language has a catalogue, locales/<language>.json,
from English text to its own; locales/<language>/nodeDefs.json is made of both. main.json beside it
has the words of web/presets.json. help_pages.py has what the help pages take from the catalogue.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.append(str(ROOT))

from devtools import help_pages, in_process  # noqa: E402 - after the path is set

FOLDER = ROOT / "locales"
PRESETS = ROOT / "web" / "presets.json"
ENGLISH = "en"


def escaped(text: str) -> str:
    """The interface's message format gives | { } @ a meaning; quoted as {'|'} they have none."""
    return re.sub(r"[|{}@]", lambda found: f"{{'{found[0]}'}}", text)


def node_texts(
    classes: Mapping[str, Any], display_names: Mapping[str, str], say: Callable[[str], str]
) -> dict[str, Any]:
    """nodeDefs.json, every text put through `say`. Behind its own name a socket keeps the one that
    help pages, notes on the canvas and messages use."""

    def named(key: str) -> str:
        own = say(key)
        return own if own.lower() == key.lower() else f"{own} {key}"

    found = {}
    for name, node_class in classes.items():
        inputs = {
            key: {"name": named(key), "tooltip": escaped(say(spec[1]["tooltip"]))}
            for part, specs in node_class.INPUT_TYPES().items()
            if part != "hidden"
            for key, spec in specs.items()
        }
        names = getattr(node_class, "RETURN_NAMES", node_class.RETURN_TYPES)
        outputs = {
            str(place): {"name": named(label), "tooltip": escaped(say(tooltip))}
            for place, (label, tooltip) in enumerate(
                zip(names, node_class.OUTPUT_TOOLTIPS, strict=True)
            )
        }
        found[name] = {
            "display_name": escaped(say(display_names[name])),
            "description": escaped(say(node_class.DESCRIPTION)),
            "inputs": inputs,
            "outputs": outputs,
        }
    return found


def preset_texts() -> list[str]:
    """What the presets' menu says. web/presets.js looks it up itself, so nothing is escaped."""
    presets = json.loads(PRESETS.read_text("utf-8"))
    notes = [one["note"] for node in presets["nodes"].values() for one in node.values()]
    return [*presets["words"].values(), *presets["titles"].values(), *notes]


def catalogue(language: str) -> dict[str, str]:
    """The language's texts by the English ones."""
    return dict(json.loads((FOLDER / f"{language}.json").read_text("utf-8")))


def languages() -> list[str]:
    """Those with a catalogue."""
    return sorted(path.stem for path in FOLDER.glob("*.json"))


def categories(classes: Mapping[str, Any]) -> list[str]:
    """Our own entries of the node menu; those above them are ComfyUI's."""
    return sorted({kind.CATEGORY.rpartition("/")[2] for kind in classes.values()})


def texts_of(classes: Mapping[str, Any], display_names: Mapping[str, str]) -> list[str]:
    """Every English text once: of the nodes in their order, the presets, the menu, the pages."""
    seen: dict[str, None] = {}

    def remember(text: str) -> str:
        seen[text] = None
        return text

    node_texts(classes, display_names, remember)
    others = [*preset_texts(), *categories(classes), *help_pages.texts(classes)]
    return list(dict.fromkeys([*seen, *others]))


def render(classes: Mapping[str, Any], display_names: Mapping[str, str]) -> dict[str, str]:
    """Every file's text by its path in the repository. Texts without a translation stay English."""
    files = {}
    for language in (ENGLISH, *languages()):
        known = {} if language == ENGLISH else catalogue(language)

        def say(text: str, known: dict[str, str] = known) -> str:
            return known.get(text, text)

        content = node_texts(classes, display_names, say)
        files[f"locales/{language}/nodeDefs.json"] = written(content)
        if language != ENGLISH:
            own = {text: say(text) for text in preset_texts()}
            menu = {name: say(name) for name in categories(classes)}
            files[f"locales/{language}/main.json"] = written(
                {"nodeCategories": menu, "tverase_presets": own}
            )
            files |= help_pages.render(language, classes, display_names, say)
    return files


def written(content: Any) -> str:
    """JSON as it is committed."""
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--comfyui", type=Path, required=True, help="a ComfyUI source tree")
    options = parser.parse_args()
    in_process.import_host(options.comfyui)
    pack = in_process.load_pack()
    for path, text in render(pack.NODE_CLASS_MAPPINGS, pack.NODE_DISPLAY_NAME_MAPPINGS).items():
        (ROOT / path).parent.mkdir(parents=True, exist_ok=True)
        (ROOT / path).write_text(text, "utf-8", newline="\n")
        print("wrote", path)
    for language in languages():
        known = catalogue(language)
        for text in texts_of(pack.NODE_CLASS_MAPPINGS, pack.NODE_DISPLAY_NAME_MAPPINGS):
            if text not in known:
                print(f"not in locales/{language}.json: {text!r}")


if __name__ == "__main__":
    main()
