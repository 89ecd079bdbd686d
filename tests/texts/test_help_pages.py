"""Help pages in each language: complete, what the script writes, and as far as the English goes."""

from __future__ import annotations

import json
import re
from typing import Any
from urllib.request import ProxyHandler, build_opener

import pytest

from devtools import help_pages, locales
from devtools.api_graph import API_GRAPHS, node_of, read_graph
from host_support.client import Client

PAGES = [
    (language, page.stem)
    for language in locales.languages()
    for page in sorted(help_pages.PAGES.glob("*.md"))
]
every_page = pytest.mark.parametrize(("language", "node"), PAGES)
IMAGE = re.compile(r"!\[([^\]]*)\]\(([^)]+)\)")
NUMBER = re.compile(r"(?<![\w.])\d[\d.]*(?:e-?\d+)?\b")


def english(node: str) -> str:
    return (help_pages.PAGES / f"{node}.md").read_text("utf-8")


def translated(language: str, node: str) -> str:
    return (help_pages.PAGES / node / f"{language}.md").read_text("utf-8")


def own(language: str) -> dict[str, Any]:
    """The nodes as this language shows them."""
    return dict(json.loads((locales.FOLDER / language / "nodeDefs.json").read_text("utf-8")))


def short(title: str) -> str:
    """Without what stands behind in brackets: (TVErase), (Baseline), (diffusers)."""
    return title.partition(" (")[0]


@every_page
def test_every_page_has_the_sections_of_the_english_one(language: str, node: str) -> None:
    known = locales.catalogue(language)
    (title, *mine), (name, *wanted) = map(
        help_pages.sections, (translated(language, node), english(node))
    )
    assert title == f"{known[name]} · {name}"
    assert mine == [known[heading] for heading in wanted]


@every_page
def test_no_section_is_empty_or_shorter(language: str, node: str) -> None:
    mine, wanted = help_pages.sections(translated(language, node)), help_pages.english(node)
    for heading, mine_body, body in zip(mine, mine.values(), wanted.values(), strict=True):
        assert mine_body, heading
        if heading == locales.catalogue(language)["Good to know"]:
            points = [[line[:2] for line in lines] for lines in (mine_body, body)]
            assert points[0] == points[1]


@every_page
def test_every_input_is_named_as_it_is_shown_and_as_it_is_saved(
    language: str, node: str, pack: Any
) -> None:
    page, shown = translated(language, node), own(language)[node]["inputs"]
    for part, specs in pack.NODE_CLASS_MAPPINGS[node].INPUT_TYPES().items():
        for name in specs if part != "hidden" else ():
            assert f"`{name}`" in page, name
            assert shown[name]["name"].lower().endswith(name.lower())  # behind its translation


@every_page
def test_pictures_are_the_english_ones_and_lie_where_the_interface_looks(
    language: str, node: str
) -> None:
    """ComfyUI puts /extensions/<pack>/docs/ before an address, whatever the page's language."""
    pictures, wanted = (IMAGE.findall(p) for p in (translated(language, node), english(node)))
    assert [place for _, place in pictures] == [place for _, place in wanted]
    for words, place in pictures:
        assert words
        assert (help_pages.PAGES / place).is_file()


@every_page
def test_numbers_and_code_are_kept(language: str, node: str) -> None:
    page = translated(language, node)
    assert set(NUMBER.findall(english(node))) <= set(NUMBER.findall(page))
    missing = {code for code in re.findall(r"`([^`\n]+)`", english(node)) if code not in page}
    assert not missing


@every_page
def test_nodes_are_named_in_both_languages(language: str, node: str) -> None:
    """Some frontends show English titles in every language."""
    page, shown, known = translated(language, node), own("en"), own(language)
    titles = {short(shown[k]["display_name"]): short(known[k]["display_name"]) for k in shown}
    longest_first = "|".join(re.escape(title) for title in sorted(titles, key=len, reverse=True))
    for title in re.findall(rf"\b(?:{longest_first})\b", english(node)):
        assert title in page
        assert titles[title] in page
    for title, translation in titles.items():
        assert f"“{translation}”" not in page or title in page, translation


def test_an_entry_follows_the_node_and_keeps_the_words_below_it() -> None:
    old = ["above", "- `a`: old", "  of my own", "- `gone`: old", "", "Below the list."]
    new = list(help_pages.listed(old, {"`new`": "first", "`a`": "second"}, ": "))
    assert new == ["- `new`: first", "- `a`: second", "  of my own", "", "Below the list."]
    assert list(help_pages.listed(new, {"`new`": "first", "`a`": "second"}, ": ")) == new


def test_words_below_an_entry_that_is_gone_are_not_lost() -> None:
    with pytest.raises(ValueError, match="`gone`"):
        list(help_pages.listed(["- `gone`: old", "  of my own"], {"`a`": "new"}, ": "))


def test_words_below_a_heading_that_is_gone_are_not_lost(pack: Any) -> None:
    node, node_class = next(iter(pack.NODE_CLASS_MAPPINGS.items()))
    page = help_pages.page("", node, node_class, "Title", str)
    assert help_pages.page(page, node, node_class, "Title", str) == page
    with pytest.raises(ValueError, match="Gone"):
        help_pages.page(f"{page}\n## Gone\n\nWords.\n", node, node_class, "Title", str)


def test_the_server_hands_them_out(server: Client) -> None:
    """Under the addresses that the interface asks for."""
    read = build_opener(ProxyHandler({})).open
    modules = {name: info["python_module"] for name, info in server.object_info().items()}
    for language, node in PAGES:
        docs = f"{server.url}/extensions/{modules[node].partition('.')[2]}/docs"
        page = translated(language, node)
        with read(f"{docs}/{node}/{language}.md", timeout=60) as answer:
            assert answer.read().decode("utf-8") == page
            assert "html" not in answer.headers["Content-Type"]  # newer frontends refuse that
        for _, place in IMAGE.findall(page):
            with read(f"{docs}/{place}", timeout=60) as answer:
                assert answer.headers["Content-Type"] == "image/png"


def test_examples_on_the_demo_model_are_those_of_the_automatic_graph() -> None:
    graph = read_graph(API_GRAPHS / "erase_concept_auto.json")
    tune, search = (
        graph[node_of(graph, kind)]["inputs"]
        for kind in ("TVEraseConceptFinetune", "TVEraseDiverseInversion")
    )
    told = f"`erase_concept_auto` {tune['steps']} steps, 4e-4, batch size {tune['batch_size']},"
    assert told in english("TVEraseConceptFinetune")
    told = f"`count` {search['count']}, `steps` {search['steps']}, `learning_rate` 0.05"
    assert told in english("TVEraseDiverseInversion")
