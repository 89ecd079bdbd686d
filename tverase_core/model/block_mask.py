"""Block masks: how much of a task vector is used where."""

from __future__ import annotations

import difflib
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from ..errors import ConfigError, EmptyMaskError, FormatError, UnknownBlockError
from ..patterns import check_pattern
from .layout import KINDS, TEXT_PREFIX, ModelLayout


@dataclass(frozen=True, slots=True, eq=False)
class BlockMask:
    """Coefficients in [0, 1] by block, by kind, and by pattern of the weight's name.

    A weight's coefficient is its block's times its kind's; blocks and kinds not named have
    `other_blocks` and `other_kinds`. A weight whose name matches (`re.search`) one or more
    patterns has the coefficient of the last of these instead.
    Equal masks compare equal and hash equal: entries that repeat the default are dropped.
    Raises ConfigError (coefficient or pattern), UnknownBlockError (kind), EmptyMaskError.
    """

    blocks: Mapping[str, float] = field(default_factory=dict)
    kinds: Mapping[str, float] = field(default_factory=dict)
    patterns: tuple[tuple[str, float], ...] = ()
    other_blocks: float = 1.0
    other_kinds: float = 1.0

    def __post_init__(self) -> None:
        for name in self.kinds:
            if name not in KINDS:
                raise unknown_name("kind", name, KINDS)
        for axis in ("blocks", "kinds"):
            other = f"other_{axis}"
            default = _coefficient(getattr(self, other), other)
            object.__setattr__(self, other, default)
            entries = getattr(self, axis)
            checked = {name: _coefficient(entries[name], name) for name in sorted(entries)}
            kept = {name: value for name, value in checked.items() if value != default}
            object.__setattr__(self, axis, MappingProxyType(kept))
        patterns = []
        for pattern, value in self.patterns:
            if not pattern or "/" in pattern or "\n" in pattern:
                raise ConfigError(
                    f"mask: pattern {pattern!r}: expected some text without '/' and line breaks; "
                    "weight names hold neither"
                )
            try:
                check_pattern(pattern)
            except ValueError as error:
                raise ConfigError(f"mask: /{pattern}/ {error}") from error
            patterns.append((pattern, _coefficient(value, f"/{pattern}/")))
        object.__setattr__(self, "patterns", tuple(patterns))
        selects = any((self.other_blocks, *self.blocks.values())) and any(
            (self.other_kinds, *self.kinds.values())
        )
        if not selects and not any(value for _, value in self.patterns):
            raise EmptyMaskError(
                "the mask selects nothing: every coefficient is 0. Name at least one block or kind."
            )

    @classmethod
    def full(cls) -> BlockMask:
        """Everything at 1."""
        return cls()

    @classmethod
    def cross_attention(cls) -> BlockMask:
        """Only the layers that read the prompt."""
        return cls.only(kinds=("cross_attn",))

    @classmethod
    def only(cls, blocks: Iterable[str] = (), kinds: Iterable[str] = ()) -> BlockMask:
        """The given blocks and kinds at 1, all others at 0; an axis left out is not restricted."""
        chosen_blocks, chosen_kinds = dict.fromkeys(blocks, 1.0), dict.fromkeys(kinds, 1.0)
        if not chosen_blocks and not chosen_kinds:
            raise EmptyMaskError("only(): expected at least one block or kind, got none")
        return cls(
            chosen_blocks, chosen_kinds, (), float(not chosen_blocks), float(not chosen_kinds)
        )

    def coefficient(self, key: str, layout: ModelLayout) -> float:
        """In [0, 1]. Raises UnknownKeyError for a weight the layout cannot place."""
        block, kind = layout.locate(key)
        for pattern, value in reversed(self.patterns):
            if re.search(pattern, key):
                return value
        return self.blocks.get(block, self.other_blocks) * self.kinds.get(kind, self.other_kinds)

    def check(self, block_names: Sequence[str]) -> None:
        """Raises UnknownBlockError for a block that is not among the model's."""
        for name in self.blocks:
            if name not in block_names:
                raise unknown_name("block", name, block_names)

    def to_text(self) -> str:
        """Text that `parse_mask` reads back as an equal mask."""
        all_blocks, all_kinds = self._implied_defaults()
        parts = []
        if self.other_blocks == self.other_kinds == 1 and (all_blocks, all_kinds) != (1, 1):
            parts.append("full")
        else:
            parts += [_rule("*", self.other_blocks)] if self.other_blocks != all_blocks else []
            parts += [_rule("kind:*", self.other_kinds)] if self.other_kinds != all_kinds else []
        parts += [_rule(name, value) for name, value in self.blocks.items()]
        parts += [_rule(f"kind:{name}", value) for name, value in self.kinds.items()]
        parts += [_rule(f"/{pattern}/", value) for pattern, value in self.patterns]
        return ", ".join(parts) or "full"

    def _implied_defaults(self) -> tuple[float, float]:
        return implied_defaults(
            self.blocks.values(), self.kinds.values(), [value for _, value in self.patterns]
        )

    def to_mapping(self) -> dict[str, Any]:
        """JSON values; `from_mapping` reads them back."""
        return {
            "blocks": dict(self.blocks),
            "kinds": dict(self.kinds),
            "patterns": [list(pair) for pair in self.patterns],
            "other_blocks": self.other_blocks,
            "other_kinds": self.other_kinds,
        }

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> BlockMask:
        """Raises FormatError when the form is wrong, and the constructor's errors."""
        try:
            return cls(
                dict(values["blocks"]),
                dict(values["kinds"]),
                tuple((str(pattern), value) for pattern, value in values["patterns"]),
                values["other_blocks"],
                values["other_kinds"],
            )
        except (KeyError, TypeError) as error:
            raise FormatError(f"block mask: expected the fields of a mask, {error!r}") from error

    def to_json(self) -> str:
        """Compact, keys sorted: equal masks give equal text."""
        return json.dumps(
            self.to_mapping(), sort_keys=True, separators=(",", ":"), ensure_ascii=False
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, BlockMask) and self._identity() == other._identity()

    def __hash__(self) -> int:
        return hash(self._identity())

    def _identity(self) -> tuple[object, ...]:
        return (
            tuple(self.blocks.items()),
            tuple(self.kinds.items()),
            self.patterns,
            self.other_blocks,
            self.other_kinds,
        )


def implied_defaults(
    blocks: Iterable[float], kinds: Iterable[float], patterns: Iterable[float]
) -> tuple[float, float]:
    """Coefficients of what no rule names: 0 on an axis where some rule includes, else 1.

    A text of patterns alone includes what they match, so the blocks then default to 0.
    """
    some_block, some_kind, some_pattern = any(blocks), any(kinds), any(patterns)
    alone = some_pattern and not some_block and not some_kind
    return float(not some_block and not alone), float(not some_kind)


def unknown_name(what: str, name: str, known: Sequence[str]) -> UnknownBlockError:
    """The error, with the nearest known name."""
    folded = {k.casefold(): k for k in known}
    near = difflib.get_close_matches(name.casefold(), folded, n=1, cutoff=0.4)
    nearest = counterpart(name, known) or (folded[near[0]] if near else None)
    hint = f" Did you mean {nearest!r}?" if nearest else ""
    return UnknownBlockError(
        f"mask: this model has no {what} {name!r}.{hint} It has: {', '.join(known)}."
    )


def counterpart(name: str, known: Sequence[str]) -> str | None:
    """What a UNet block is called in a model whose blocks carry other names, if it has one.

    INnn and OUTnn are the block of that number in the first and the last numbered stack, M00 the
    middle of all numbered blocks. None for any other name, and for models that have UNet blocks.
    """
    match = re.fullmatch(r"(IN|OUT|M)(\d*)\*?", name, re.IGNORECASE)
    numbered = [k for k in known if re.fullmatch(r".+\.\d+", k) and not k.startswith(TEXT_PREFIX)]
    if match is None or not numbered or "M00" in known:
        return None
    if match[1].upper() == "M":
        return numbered[len(numbered) // 2]
    stack = numbered[0 if match[1].upper() == "IN" else -1].rpartition(".")[0]
    members = [k for k in numbered if k.rpartition(".")[0] == stack]
    return members[min(int(match[2] or 0), len(members) - 1)]


def _coefficient(value: Any, name: str) -> float:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or not 0 <= value <= 1:
        raise ConfigError(f"mask: coefficient of {name}: expected 0 to 1, got {value!r}")
    return float(value) + 0.0  # -0.0 becomes 0.0


def _rule(name: str, value: float) -> str:
    if value == 0 and not name.endswith("*"):
        return f"!{name}"
    return name if value == 1 else f"{name}={value!r}".removesuffix(".0")
