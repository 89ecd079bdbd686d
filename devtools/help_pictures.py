"""Which picture each help page shows; `devtools/pictures.py` draws them and sets the links."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGES = ROOT / "web" / "docs"
FOLDER = PAGES / "images"
LINK = re.compile(r"!\[[^\]]*\]\(images/\w+\.png\)")
WORDS = {  # what is to be seen, by picture
    "before_after": "Pictures, and the same seeds on the erased model",
    "block_mask": "Map of the model, with the blocks that an edit touches",
    "cosines": "How alike the embeddings of a set are, pair by pair",
    "damage": "What erasing cats, dogs or both takes of each, in per cent",
    "demo_model": "Eight objects in three styles, drawn by the demo model",
    "interference": "Predicted damage, and how alike two vectors are in each block",
    "few_shot": "Loss against step: it rises",
    "inversions": "What each embedding draws, a row each",
    "loss": "Loss against step, raw and smoothed",
    "norms": "Map of the model, coloured by how much each part changed",
    "pictures": "Eight drawings of cats",
    "pruned": "Map of the model: only some feed-forward weights are changed",
    "ranking": "Map of the model, coloured by how much each block erases per harm",
    "stereo": "Loss of each round's erasing",
    "strength": "Share of pictures against strength, with the chosen strength marked",
    "two_concepts": "Cats and dogs, and the same seeds on a model that lost both",
}
PICTURES = {  # by node, without its prefix
    "AutoBlockMask": "ranking",
    "AutoStrength": "strength",
    "CombineTaskVectors": "two_concepts",
    "CompareTaskVectors": "interference",
    "ConceptPrune": "pruned",
    "ConceptFinetune": "loss",
    "DiverseInversion": "inversions",
    "ESD": "loss",
    "ExportEmbeddings": "inversions",
    "ExtractFromFiles": "norms",
    "ExtractTaskVector": "norms",
    "FewShot": "few_shot",
    "LoadInversionSet": "cosines",
    "LoadTaskVector": "norms",
    "MeasureInterference": "damage",
    "STEREO": "stereo",
    "SaveInversionSet": "cosines",
    "SaveTaskVector": "norms",
}


def set_links() -> list[str]:
    """Lets each page show its own picture where that has been drawn; the pages that changed."""
    changed = []
    for node, picture in PICTURES.items():
        page = PAGES / f"TVErase{node}.md"
        text = page.read_text("utf-8")
        link = f"![{WORDS[picture]}](images/{picture}.png)"
        if (FOLDER / f"{picture}.png").exists() and link not in text:
            page.write_text(LINK.sub(link, text, count=1), "utf-8", newline="\n")
            changed.append(page.name)
    return changed
