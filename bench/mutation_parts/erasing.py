"""Faults in the neighbours and in the attack that all are measured with."""

from __future__ import annotations

from .fault import Fault

ERASING: dict[str, list[Fault]] = {
    "tverase_core/inversion/attack.py": [
        Fault(
            "the attack is held to intervals", "diversity=0.0, intervals=None)", "diversity=0.0)"
        ),
        Fault(
            "attacks that fail on the base count",
            "self.base.valid.nonzero()[:, 0]",
            "(self.base.valid | True).nonzero()[:, 0]",
        ),
        Fault(
            "without an attack that counts the bound is 0",
            "1.0 if worst is None else",
            "0.0 if worst is None else",
        ),
        Fault("the base may have been attacked otherwise", "or mine != theirs:", "or False:"),
        Fault(
            "the text encoders may have other vocabularies",
            "if self.base.text_encoder != self.edited.text_encoder:",
            "if False:",
        ),
    ],
    "nodes/inversion/attack.py": [
        Fault(
            "attacks that fail on the base are a result",
            "if not bool(theirs.found.valid.any()):",
            "if False:",
        ),
        Fault(
            "the base is attacked in place of the model",
            'mine = job.side(model, clip, "model", None)',
            'mine = job.side(base, clip, "model", None)',
        ),
        Fault(
            "an attack of other settings stands for the base's",
            "            require_same_attack(base_attack, wanted, concept)\n",
            "",
        ),
        Fault(
            "a start word is tried after the base was drawn",
            "            check_words(studio.encoder, self.pictures.concept, self.config)\n",
            "",
            harmless="the search itself refuses it, later",
        ),
    ],
    "nodes/inversion/inversion_settings.py": [
        Fault(
            "bounds to the word are not held",
            "return None if bounds == (-1.0, 1.0) else (bounds,) * count",
            "return None",
        ),
    ],
    "nodes/inversion/attack_settings.py": [
        Fault("the rate is one picture's", "RATE_PER_PICTURE * batch", "RATE_PER_PICTURE"),
    ],
    "nodes/baselines/esd.py": [
        Fault(
            "samples are drawn although pictures are there",
            "                if concept_set is not None\n                else from_sampling",
            "                if concept_set is None\n                else from_sampling",
        ),
        Fault("nothing is erased from another text", "erase_from=others", "erase_from=None"),
    ],
    "nodes/baselines/uce.py": [
        Fault("styles have no guide", "DEFAULT_GUIDES[kind]", 'DEFAULT_GUIDES["object"]'),
        Fault(
            "names are always expanded",
            "if expand else (names, guides)",
            "if True else (names, guides)",
        ),
    ],
    "nodes/baselines/debias.py": [
        Fault(
            "edits act the wrong way round",
            "attachment.scale = -1.0",
            "attachment.scale = 1.0",
        ),
        Fault(
            "every round draws the same pictures",
            "for first in count(seed, each))",
            "for first in count(seed, 0))",
        ),
        Fault(
            "a judge that sees nothing is believed", "if float(scores.max()) < HIT:", "if False:"
        ),
    ],
    "nodes/baselines/few_shot.py": [
        Fault(
            "every vector says that it had all epochs",
            'recipe={**recipe, "epochs": number}',
            "recipe=recipe",
        ),
    ],
    "tverase_core/erasers/teaching.py": [
        Fault(
            "DDIM takes the concept's prediction alone",
            "e_0 + guidance * (e_c - e_0)",
            "e_c + 0 * (e_c - e_0)",
        ),
        Fault(
            "the teacher is the student",
            "                attachment.scale = 0.0\n",
            "                attachment.scale = 1.0\n",
        ),
        Fault("the deltas point away from the concept", "(0.0 - v.detach())", "v.detach()"),
        Fault(
            "x trains everything but cross-attention",
            'layout.kind(key) == "cross_attn",',
            'layout.kind(key) != "cross_attn",',
        ),
        Fault("norms are trained", "if len(shape) > 1}", "if len(shape) > 0}"),
        Fault(
            "the embeddings of SDXL are trained",
            "return not (large and outer)",
            "return True",
        ),
        Fault(
            "items come by chance, not in turn",
            "            if self.in_turn:",
            "            if False:",
        ),
    ],
    "tverase_core/erasers/esd.py": [
        Fault(
            "ESD teaches the concept", "- config.eta * (e_c - e_0)", "+ config.eta * (e_c - e_0)"
        ),
        Fault(
            "the concept is shown, not the text that it is erased from",
            "shown = concept if erase_from is None else erase_from",
            "shown = concept",
        ),
    ],
    "tverase_core/erasers/uce.py": [
        Fault(
            "what is preserved is not", "system = system + config.preserve * kept.mT @ kept", "pass"
        ),
        Fault(
            "the guide is not what it becomes",
            "c.mT @ (c - g.expand_as(c))",
            "c.mT @ (c + g.expand_as(c))",
        ),
        Fault("the weights are not held", "config.keep * torch.eye", "1e-3 * torch.eye"),
    ],
    "tverase_core/erasers/uce_rows.py": [
        Fault(
            "the form of 2023 keeps no empty text",
            'for one in ("", *preserve)',
            "for one in preserve",
        ),
        Fault(
            "guides go one by one, not with their names",
            "[guide for guide in guides for _ in sentences]",
            "[guide for _ in sentences for guide in guides]",
        ),
        Fault(
            "the tails begin at the start mark",
            "return mine[place : place + count], theirs",
            "return mine[:count], theirs",
        ),
    ],
    "tverase_core/erasers/uce_debias.py": [
        Fault(
            "shares move away from what is wanted",
            "gaps = goal - shares[-1]",
            "gaps = shares[-1] - goal",
        ),
        Fault("prompts that fit are moved", "torch.where(near[:, None], 0.0, gaps)", "gaps"),
    ],
    "tverase_core/erasers/concept_prune.py": [
        Fault("weights of all concepts are pruned", "top & (score > size * base)", "top"),
        Fault("late steps count too", "if step < steps_used", "if step >= 0"),
        Fault(
            "the least of a row are pruned",
            "score.topk(count, dim=1)",
            "score.topk(count, dim=1, largest=False)",
        ),
        Fault("keys are values", 'attn2\\.to_k\\.weight"', 'attn2\\.to_v\\.weight"'),
    ],
    "tverase_core/erasers/few_shot.py": [
        Fault("the concept is learned", "maximize=True,", "maximize=False,"),
        Fault(
            "a picture is seen again before all were",
            "order = torch.randperm(count, generator=generator)",
            "order = torch.zeros(count).long()",
        ),
        Fault(
            "every layer's self-attention is trained",
            'if part != "self_attn" or number == last[name]]',
            "if part]",
        ),
        Fault(
            "an epoch ends a batch early",
            "rows, first + config.batch_size >= count",
            "rows, first == 0",
        ),
    ],
    "tverase_core/erasers/stereo.py": [
        Fault(
            "what was found attracts",
            "- config.negative_weight / count * away",
            "+ config.negative_weight / count * away",
        ),
        Fault(
            "what was found is summed, not averaged",
            "config.negative_weight / count * away",
            "config.negative_weight * away",
        ),
        Fault(
            "the anchors do not count",
            "e_0 + config.anchor_weight * (e_a - e_0)",
            "e_0 + 0 * (e_a - e_0)",
        ),
        Fault("each round attacks the same pictures", "order[k::rounds]", "order[0::rounds]"),
        Fault(
            "every attack starts from the prompts again",
            "attacks[-1].contexts(self.encoder) if attacks else concept",
            "concept",
        ),
        Fault(
            "the teacher of every round is the base",
            "            with self.denoiser.attached(erased):\n                losses",
            "            with self.denoiser.attached({}):\n                losses",
        ),
        Fault(
            "all attacks are erased",
            "attacks[: config.attacks_used]",
            "attacks",
        ),
    ],
}
