"""The interface's texts: made by their script, complete in the second language, safely written."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
import requests

from devtools import locales
from host_support.client import Client

LANGUAGES = locales.languages()
# what vue-i18n reads as a literal, and so may hold its special characters
LITERAL = re.compile(r"\{'[^']'\}")


def test_there_is_a_second_language() -> None:
    assert LANGUAGES


def test_files_are_what_the_script_writes(pack: Any) -> None:
    files = locales.render(pack.NODE_CLASS_MAPPINGS, pack.NODE_DISPLAY_NAME_MAPPINGS)
    for path, text in files.items():
        written = (locales.ROOT / path).read_bytes()
        assert written == text.encode(), f"run `python dev.py locales` for {path}"


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_text_of_every_node_is_translated(language: str, pack: Any) -> None:
    known = locales.catalogue(language)
    texts = locales.texts_of(pack.NODE_CLASS_MAPPINGS, pack.NODE_DISPLAY_NAME_MAPPINGS)
    missing = [text for text in texts if not known.get(text, "").strip()]
    assert not missing, f"translate these in locales/{language}.json, then `dev.py locales`"


@pytest.mark.parametrize("language", LANGUAGES)
def test_translations_keep_what_must_be_typed(language: str) -> None:
    for text, own in locales.catalogue(language).items():
        for word in re.findall(r"`[^`]+`|\.\w+\.safetensors|output/\w+|models/\w+", text):
            assert word in own, f"{text!r} loses {word}"


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("a | b", "a {'|'} b"),
        ("one {}.", "one {'{'}{'}'}."),
        ("me@here", "me{'@'}here"),
        ("plain, 95 % 'x'", "plain, 95 % 'x'"),
    ],
)
def test_characters_with_a_meaning_are_quoted(text: str, written: str) -> None:
    assert locales.escaped(text) == written


@pytest.mark.parametrize("language", [locales.ENGLISH, *LANGUAGES])
def test_no_message_has_bare_special_characters(language: str) -> None:
    text = (locales.FOLDER / language / "nodeDefs.json").read_text("utf-8")
    for node in json.loads(text).values():
        sockets = [*node["inputs"].values(), *node["outputs"].values()]
        messages = [node["display_name"], node["description"]]
        messages += [socket[part] for socket in sockets for part in ("name", "tooltip")]
        for message in messages:
            assert not re.search(r"[|{}@]", LITERAL.sub("", message)), message


def test_the_server_hands_them_out(server: Client) -> None:
    try:
        served = server.get("/i18n")
    except requests.HTTPError:
        pytest.skip("this ComfyUI serves no locales (0.3.13 and newer do)")
    for language in (locales.ENGLISH, *LANGUAGES):
        own = json.loads((locales.FOLDER / language / "nodeDefs.json").read_text("utf-8"))
        assert own.items() <= served[language]["nodeDefs"].items()
    for language in LANGUAGES:
        words = json.loads((locales.FOLDER / language / "main.json").read_text("utf-8"))
        assert words.items() <= served[language].items()  # web/presets.js reads them from here
