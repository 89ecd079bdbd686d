"""Which triggers choose the strength, and which verify it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from ...tverase_core.errors import ConfigError
from ...tverase_core.inversion.inversion_set import InversionSet
from ...tverase_core.ports import Context, TextEncoder, joined
from ..shared.retained_prompts import RetainedPrompts

Texts: TypeAlias = tuple[Context, Context | None, Context]  # as `Split.texts` gives them


@dataclass(frozen=True, slots=True)
class Split:
    """Which triggers tune and which verify; names and notes for the report. attacks tune too."""

    prompt: str
    tuning: InversionSet
    attacks: InversionSet | None
    held_out: InversionSet | None
    names: tuple[str, ...]
    notes: tuple[str, ...]

    def texts(self, encoder: TextEncoder, retained: RetainedPrompts) -> Texts:
        """Encoded: the plain prompt and what tunes, what is held out, what must stay."""
        tuning = [self.tuning, *([self.attacks] if self.attacks else [])]
        plain = encoder.encode([self.prompt])
        triggers = joined(plain, *(found.contexts(encoder) for found in tuning))
        others = self.held_out.contexts(encoder) if self.held_out else None
        return triggers, others, encoder.encode(retained.prompts)


def split_triggers(
    inversion_set: InversionSet, widgets: Mapping[str, Any], attack: InversionSet | None = None
) -> Split:
    """The plain prompt and a share of the set for tuning, the rest held out; what attacks brought
    back tunes. Raises ConfigError for an attack on another concept."""
    usable = inversion_set.require_valid()
    prompt = widgets["prompt"].strip() or usable.template.replace("{}", usable.concept)
    tuning, held_out, notes = usable, None, []
    if len(usable) < 2:
        notes.append("Not verified: one embedding cannot be split into tuning and held-out ones.")
    elif widgets["verify"]:
        tuning, held_out = usable.split(widgets["tuning_share"], widgets["seed"])
    else:
        notes.append("Not verified: `verify` is off.")
    back = _brought_back(attack, usable.concept)
    if attack is not None and back is None:
        notes.append("The attacks brought nothing back, so they add no trigger.")
    names = [prompt, *(f"inversion {int(seed)}" for seed in tuning.seeds)]
    names += [f"attack {int(seed)}" for seed in (back.seeds if back else ())]
    return Split(prompt, tuning, back, held_out, tuple(names), tuple(notes))


def _brought_back(attack: InversionSet | None, concept: str) -> InversionSet | None:
    """The attacks that succeeded, None without any."""
    if attack is None:
        return None
    if attack.concept != concept:
        raise ConfigError(
            f"The attack was on {attack.concept!r}, the inversion set is of {concept!r}. Connect "
            "an attack on the same concept."
        )
    return attack.only_valid()
