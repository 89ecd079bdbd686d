"""Block masks as text."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from ..errors import ConfigError, EmptyMaskError, UnknownBlockError
from .block_mask import BlockMask, implied_defaults, unknown_name
from .layout import KINDS

PRESETS = {
    "full": "*, kind:*",
    "cross_attention": "kind:cross_attn",
    "cross_attention_kv": r"/\.attn2\.to_[kv]\./",
    "self_attention": "kind:self_attn",
    "attention": "kind:self_attn, kind:cross_attn",
    "feed_forward": "kind:ff",
    "convolutions": "kind:conv",
    "encoder": "IN*",
    "middle": "M00",
    "decoder": "OUT*",
    "text_encoder": "TE_*",
    "no_norm": "!kind:norm",
    "no_time": "!TIME, !kind:embed",
}

# A regular expression between slashes, else anything up to a separator or a comment. A text is read
# in one way only: where two alternatives both fit, a hostile mask would take for ever.
_TOKEN = re.compile(
    r"[^\S\n]*(?:![^\S\n]*)?/(?:\\.|[^\n\\])*?/(?=[^\S\n]*(?:=|,|;|\n|#|$))[^,;\n#]*"
    r"|#[^\n]*|[^,;\n#]+"
)


@dataclass
class _Rules:
    blocks: dict[str, float] = field(default_factory=dict)
    kinds: dict[str, float] = field(default_factory=dict)
    patterns: list[tuple[str, float]] = field(default_factory=list)
    other_blocks: float | None = None
    other_kinds: float | None = None


def parse_mask(text: str, block_names: Sequence[str]) -> BlockMask:
    """Read a mask that a person wrote.

    Rules stand one a line or between commas; `#` starts a comment. Later rules win.

        text    = { rule ( "," | ";" | newline ) }
        rule    = [ "!" ] what [ "=" number ]      number in 0..1, 1 if absent; ! means =0
        what    = block                            IN01   M00   double_blocks.3
                | block "-" block                  IN01-IN05, in the order of the data flow
                | glob                             OUT*   IN0?
                | "*"                              the coefficient of blocks not named
                | "kind:" kind                     kind:cross_attn   kind:*
                | "/" regex "/"                    searched in the weight's name, beats the others
                | preset                           full, cross_attention, encoder, no_norm, ...

    What no rule names: on an axis (blocks, kinds) where some rule includes something it is 0,
    otherwise 1. So `IN01-IN05` is these blocks only, `!IN03` is all but one, `full, M00=0.5` is
    everything with half of the middle. Patterns alone, as `/attn2/`, select what they match.
    Names are found in any case. Presets are the keys of PRESETS, each short for its text.

    block_names: the model's, from `ModelLayout.blocks()`.
    Raises UnknownBlockError with the nearest name, EmptyMaskError, ConfigError.
    """
    rules = _Rules()
    tokens = [t for t in (m.group().strip() for m in _TOKEN.finditer(text)) if t]
    tokens = [token for token in tokens if not token.startswith("#")]
    if not tokens:
        raise EmptyMaskError("the mask's text holds no rule. Write 'full' to use every block.")
    for token in tokens:
        _add_rule(token, rules, block_names)
    blocks, kinds = implied_defaults(
        rules.blocks.values(), rules.kinds.values(), [value for _, value in rules.patterns]
    )
    return BlockMask(
        rules.blocks,
        rules.kinds,
        tuple(rules.patterns),
        blocks if rules.other_blocks is None else rules.other_blocks,
        kinds if rules.other_kinds is None else rules.other_kinds,
    )


def _add_rule(token: str, rules: _Rules, block_names: Sequence[str]) -> None:
    excluded = token.startswith("!")
    what, value = _split_number(token.removeprefix("!").strip(), token)
    if excluded:
        if value is not None:
            raise ConfigError(f"mask: {token!r} both excludes and gives a number; use one of them")
        value = 0.0
    if what.casefold() in PRESETS and what not in block_names:
        _add_preset(what.casefold(), value, rules, block_names)
        return
    number = 1.0 if value is None else value
    if len(what) > 1 and what.startswith("/") and what.endswith("/"):
        rules.patterns.append((what[1:-1], number))
    elif what == "*":
        rules.other_blocks = number
    elif what.casefold() == "kind:*":
        rules.other_kinds = number
    elif what.casefold().startswith("kind:"):
        names = _match(what[len("kind:") :].strip(), KINDS, "kind")
        rules.kinds.update(dict.fromkeys(names, number))
    else:
        names = _match(what, block_names, "block")
        rules.blocks.update(dict.fromkeys(names, number))


def _add_preset(name: str, value: float | None, rules: _Rules, block_names: Sequence[str]) -> None:
    parts = [part.strip() for part in PRESETS[name].split(",")]
    if name == "text_encoder" and not any(block.startswith("TE_") for block in block_names):
        raise UnknownBlockError(
            f"mask: {name!r} chooses blocks of a text encoder, and this model has none. It has: "
            f"{', '.join(block_names)}. Choose another preset, such as 'cross_attention', the "
            "layers that read the prompt."
        )
    if value is not None and any(part.startswith("!") for part in parts):
        raise ConfigError(
            f"mask: {name!r} is a preset that excludes: it takes neither '!' nor a number"
        )
    if value is not None and name == "full":
        _add_rule("kind:*", rules, block_names)
        parts = ["*"]  # on both axes the factor would count twice
    for part in parts:
        _add_rule(part if value is None else f"{part}={value!r}", rules, block_names)


def _split_number(rule: str, token: str) -> tuple[str, float | None]:
    """The part before the last "=" and the number after it, if there is one."""
    head, separator, tail = rule.rpartition("=")
    if not separator or (rule.startswith("/") and rule.endswith("/")):
        return rule, None
    try:
        return head.strip(), float(tail)
    except ValueError as error:
        raise ConfigError(f"mask: {token!r}: expected a number after '=', got {tail!r}") from error


def _match(what: str, known: Sequence[str], label: str) -> list[str]:
    """The names that a name, a range or a glob stands for."""
    folded = {name.casefold(): name for name in known}
    wanted = what.casefold()
    if wanted in folded:
        return [folded[wanted]]
    first, separator, last = (part.strip() for part in wanted.partition("-"))
    if separator and first in folded and last in folded:
        start, end = known.index(folded[first]), known.index(folded[last])
        if start > end:
            raise ConfigError(
                f"mask: the range {what!r} runs backwards; write {last.upper()}-{first.upper()}"
            )
        return list(known[start : end + 1])
    found = [name for name in known if fnmatch.fnmatchcase(name.casefold(), wanted)]
    if not found:
        culprit = next((p for p in (first, last) if separator and p not in folded), wanted)
        raise unknown_name(label, culprit.upper() if culprit != wanted else what, known)
    return found
