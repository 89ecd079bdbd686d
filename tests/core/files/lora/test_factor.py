"""By what a LoRA is multiplied: tensors, then the header, then PEFT's configuration, then 1."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from tverase_core.errors import FormatError
from tverase_core.files.extract import Extraction
from tverase_core.files.lora.extract import extract_from_lora, is_lora_file
from tverase_core.files.task_vector_file import load_task_vector

BLOCK = "input_blocks.1.1.transformer_blocks.0."
QUERY, KEY = (f"diffusion_model.{BLOCK}attn{n}.weight" for n in ("1.to_q", "2.to_k"))
PEFT = "base_model.model.down_blocks.0.attentions.0.transformer_blocks.0."
FILE = "adapter_model.safetensors"
PLAIN = {"peft_type": "LORA", "r": 4, "lora_alpha": 16}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "lora").mkdir()
    base = {f"model.{key}": torch.zeros(8, 8) for key in (QUERY, KEY)}
    base["model.diffusion_model.input_blocks.1.0.in_layers.2.weight"] = torch.zeros(8, 8, 3, 3)
    save_file(base, tmp_path / "base.safetensors")
    return tmp_path


def factors(rank: int = 4, prefix: str = PEFT) -> dict[str, Tensor]:
    """Products of `rank` in every place of both weights."""
    tensors = {}
    for module in ("attn1.to_q", "attn2.to_k"):
        tensors[f"{prefix}{module}.lora_A.weight"] = torch.ones(rank, 8)
        tensors[f"{prefix}{module}.lora_B.weight"] = torch.ones(8, rank)
    return tensors


def read(
    folder: Path,
    tensors: dict[str, Tensor],
    config: Any = None,
    metadata: dict[str, str] | None = None,
    name: str = FILE,
) -> tuple[tuple[float, ...], Extraction]:
    """What the products of both weights were multiplied by, and the report."""
    if config is not None:
        text = config if isinstance(config, str) else json.dumps(config)
        (folder / "lora" / "adapter_config.json").write_text(text)
    save_file(tensors, folder / "lora" / name, metadata)
    out = folder / "v.tv.safetensors"
    made = extract_from_lora(folder / "base.safetensors", folder / "lora" / name, out)
    deltas = load_task_vector(out).deltas
    rank = next(t for n, t in tensors.items() if "lora_A" in n).shape[0]
    return tuple(float(deltas[key][0, 0]) / rank for key in (QUERY, KEY)), made


@pytest.mark.parametrize(
    ("rank", "settings", "right"),
    [
        (4, {}, (4, 4)),
        (8, {"r": 8, "lora_alpha": 32, "use_rslora": True}, (32 / math.sqrt(8),) * 2),
        (4, {"alpha_pattern": {"attn2.to_k": 2}}, (4, 0.5)),
        (4, {"alpha_pattern": {r"down_blocks\.\d+.*": 8}}, (2, 2)),
        (4, {"alpha_pattern": {"k": 2, "o_k": 2}}, (4, 4)),  # whole words at the end only
        (4, {"r": 8, "rank_pattern": {"to_q": 4, "to_k": 4}}, (4, 4)),
        (4, {"lora_alpha": 0}, None),
    ],
)
def test_the_configuration_beside_the_file_gives_alpha(
    folder: Path, rank: int, settings: dict[str, Any], right: tuple[float, ...] | None
) -> None:
    config = {**PLAIN, **settings}
    if right is None:
        config["alpha_pattern"] = {"to_q": 4, "to_k": 8}  # by module; the common one is not used
        right = (1, 2)
    got, made = read(folder, factors(rank), config)
    assert got == pytest.approx(right, rel=1e-6)
    assert "alpha from adapter_config.json" in made.tuned


@pytest.mark.parametrize("prefix", ["unet.", ""])
def test_the_header_gives_alpha_and_comes_before_the_configuration(
    folder: Path, prefix: str
) -> None:
    names = PEFT.replace("base_model.model.", prefix)
    given = {f"{prefix}r": 4, f"{prefix}lora_alpha": 8, "text_encoder.r": 2}
    metadata = {"lora_adapter_metadata": json.dumps(given)}
    got, made = read(folder, factors(prefix=names), PLAIN, metadata)
    assert got == (2, 2)
    assert "lora_adapter_metadata" in made.tuned


def test_a_tensor_comes_before_all(folder: Path) -> None:
    metadata = {"lora_adapter_metadata": json.dumps({"r": 4, "lora_alpha": 8})}
    tensors = factors() | {f"{PEFT}attn1.to_q.alpha": torch.tensor(12.0)}
    assert read(folder, tensors, PLAIN, metadata)[0] == (3, 2)


@pytest.mark.parametrize("metadata", [None, {"lora_adapter_metadata": '{"text_encoder.r": 4}'}])
def test_without_any_statement_the_factor_is_one_and_the_report_says_so(
    folder: Path, metadata: dict[str, str] | None
) -> None:
    got, made = read(folder, factors(), metadata=metadata)
    assert got == (1, 1)
    assert "no alpha is stated for 2 modules" in made.tuned
    assert "their factor is 1" in made.tuned


def test_a_configuration_is_of_the_file_that_it_lies_beside(folder: Path) -> None:
    """Alone with a renamed file it is that file's; among several nobody can tell."""
    assert read(folder, factors(), PLAIN, name="cat.safetensors")[0] == (4, 4)
    save_file({"x": torch.ones(1)}, folder / "lora" / "dog.safetensors")
    assert read(folder, factors(), PLAIN, name="cat.safetensors")[0] == (1, 1)
    assert read(folder, factors(), PLAIN)[0] == (4, 4)


def test_a_folder_of_peft_is_its_file(folder: Path) -> None:
    read(folder, factors(), PLAIN)
    assert is_lora_file(folder / "lora")
    out = folder / "v.tv.safetensors"
    extract_from_lora(folder / "base.safetensors", folder / "lora", out)
    assert float(load_task_vector(out).deltas[QUERY][0, 0]) == 16


REFUSED: list[tuple[Any, str]] = [
    ({**PLAIN, "r": 8}, "states rank 8 for .*whose tensors have rank 4.*another LoRA"),
    ({**PLAIN, "init_lora_weights": "pissa"}, "began with 'pissa'.*Merge it into the base"),
    ({**PLAIN, "init_lora_weights": "pissa_niter_4"}, "began with .*Merge it into the base"),
    ({**PLAIN, "init_lora_weights": "olora"}, "began with 'olora'"),
    ({**PLAIN, "init_lora_weights": "loftq"}, "began with 'loftq'"),
    ({**PLAIN, "use_dora": True}, "use_dora is set.*Merge it into the base"),
    ({**PLAIN, "kasa_config": {"beta": 1}}, "kasa_config is set"),
    ({**PLAIN, "peft_type": "LOHA"}, "is of a LOHA adapter"),
    ({**PLAIN, "lora_alpha": "16"}, "expected r, lora_alpha and patterns"),
    ({**PLAIN, "lora_alpha": math.inf}, "expected r, lora_alpha and patterns"),
    ({**PLAIN, "r": 0}, "expected a rank, got 0"),
    ({**PLAIN, "alpha_pattern": {"(": 1}}, "expected r, lora_alpha and patterns"),
    ({**PLAIN, "alpha_pattern": {"(a+)+": 1}}, "too many ways"),
    ({**PLAIN, "alpha_pattern": [1]}, "expected r, lora_alpha and patterns"),
    ({"r": None}, "expected a rank, got None"),
    ("{", "is not valid JSON"),
    ("[" * 100_000, "is not valid JSON"),
    ("[]", "expected settings by name"),
]


@pytest.mark.parametrize(("config", "sentence"), REFUSED, ids=[s for _, s in REFUSED])
@pytest.mark.parametrize("where", ["beside", "header"])
def test_settings_under_which_the_factors_are_not_the_change_are_refused(
    folder: Path, config: Any, sentence: str, where: str
) -> None:
    text = config if isinstance(config, str) else json.dumps(config)
    metadata = {"lora_adapter_metadata": text} if where == "header" else None
    with pytest.raises(FormatError, match=sentence):
        read(folder, factors(), text if metadata is None else None, metadata)
    assert not (folder / "v.tv.safetensors").exists()


@pytest.mark.parametrize("init", [True, False, "gaussian", "eva", "orthogonal"])
def test_starts_from_which_the_base_is_as_it_was_are_read(folder: Path, init: Any) -> None:
    assert read(folder, factors(), {**PLAIN, "init_lora_weights": init})[0] == (4, 4)
