"""Faults in the nodes."""

from __future__ import annotations

from .fault import Fault

HOSTILE = "tests/robustness/test_hostile.py"
FINETUNE = "tests/nodes/finetune/test_finetune.py"

NODES: dict[str, list[Fault]] = {
    "nodes/concept_list/yaml_text.py": [
        Fault("a list of any depth", "if self.depth > DEEPEST:", "if False:", (HOSTILE,)),
        Fault(
            "aliases are written out",
            "return _SHORT.repr(value) if isinstance(value, list | dict | set | tuple) else",
            "return",
            (HOSTILE,),
        ),
    ],
    "nodes/concept_list/status.py": [
        Fault(
            "a status holds anything",
            "if not isinstance(held.get(field.name, field.default), expected):",
            "if False:",
            (HOSTILE,),
        ),
    ],
    "nodes/vector/apply.py": [
        Fault(
            "strength 0 makes a clone",
            "        if signed_scale(strength) == 0:\n",
            "        if False:\n",
            ("tests/nodes/vector/test_apply.py",),
        ),
        Fault(
            "the mask is not passed on",
            "model, task_vector, block_mask, allow_other_weights=allow)",
            "model, task_vector, None, allow_other_weights=allow)",
            ("tests/nodes/vector/test_apply.py",),
        ),
    ],
    "nodes/vector/algebra.py": [
        Fault(
            "the second vector is subtracted",
            "(part * a + second * b if b",
            "(part * a - second * b if b",
            ("tests/nodes/strength/test_strength.py", "tests/nodes/vector/test_save.py"),
        ),
        Fault(
            "both masks are the first",
            "_masked(second, second_mask)",
            "_masked(second, first_mask)",
            ("tests/nodes/strength/test_strength.py", "tests/nodes/vector/test_save.py"),
        ),
    ],
    "nodes/vector/extract_save_load.py": [
        Fault(
            "what the model predicts is not noted",
            "            prediction=prediction_of(base),\n",
            "",
            ("tests/nodes/vector/test_extract.py",),
        ),
    ],
    "nodes/finetune/node.py": [
        Fault(
            "the retained set is not passed on",
            "                retained=retained_set,\n                checkpoints",
            "                checkpoints",
            (FINETUNE,),
        ),
        Fault(
            "nothing is kept for a resumption",
            "                checkpoints=session.checkpoints,\n",
            "",
        ),
    ],
    "nodes/strength/strength_settings.py": [
        Fault(
            "held-out seeds are those of the search",
            '_seeds(widgets, 2, "pictures_per_trigger")',
            '_seeds(widgets, 0, "pictures_per_trigger")',
        ),
        Fault(
            "the target is ignored",
            'StrengthRule(target=widgets["target"], budget',
            "StrengthRule(budget",
        ),
        Fault("the budget is ignored", ', budget=widgets["budget"])', ")"),
    ],
    "nodes/strength/triggers.py": [
        Fault(
            "the plain prompt is no trigger",
            "triggers = joined(plain, *(",
            "triggers = joined(*(",
        ),
        Fault("attacks that failed tune too", "return attack.only_valid()", "return attack"),
        Fault(
            "what attacks brought back is not measured",
            ", *([self.attacks] if self.attacks else [])]",
            "]",
        ),
        Fault(
            "held-out triggers tune too",
            "tuning, held_out = usable.split(",
            "tuning, held_out = usable, usable.split(",
        ),
    ],
    "nodes/strength/node.py": [
        Fault(
            "the strength is measured the slow way",
            ", autocast=True, **loading)",
            ", **loading)",
            harmless="the same pictures to the judge, later (docs/decisions/0023)",
        ),
        Fault(
            "the mask is not measured with",
            "model, task_vector, block_mask, allow_other_weights=allow)",
            "model, task_vector, None, allow_other_weights=allow)",
        ),
        Fault(
            "an infeasible choice goes on",
            'if when_infeasible == "stop" or not choice.tradeoffs:',
            "if not choice.tradeoffs:",
        ),
    ],
    "nodes/concept/from_prompt.py": [
        Fault(
            "latents leave without their axis of time",
            '{"samples": with_time(model, latents)}',
            '{"samples": latents}',
        ),
    ],
    "nodes/concept/building.py": [
        Fault(
            "latents are not scaled",
            "scaled(model, latents) if latents.ndim == 4 else latents,",
            "latents,",
        ),
        Fault(
            "latents of another model are taken",
            "    if latents.ndim == 4 and latents.shape[1] != channels:\n",
            "    if False:\n",
        ),
        Fault(
            "the captioned share is not spread",
            "(caption + 0.5) / captions + 1e-9",
            "(caption * 0 + 0.5) / captions + 1e-9",
            ("tests/core/test_captions.py",),
        ),
    ],
}
