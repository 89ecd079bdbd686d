"""Faults in what the pack does to ComfyUI's models."""

from __future__ import annotations

from .fault import Fault

REFUSALS = "tests/nodes/test_refusals.py"
FLOW = "tests/nodes/flow/test_families.py"
LOOSE = "tests/nodes/flow/test_loose.py"
PASSED_OVER = "tests/nodes/flow/test_passed_over.py"
FINETUNE = "tests/nodes/finetune/test_finetune.py"
INVERSION = "tests/nodes/inversion/test_inversion.py"
GIVEN = "tests/nodes/finetune/test_given_weights.py"

HOSTING_MODELS: dict[str, list[Fault]] = {
    "nodes/host/model/denoiser.py": [
        Fault("the clone is not let go", "        let_go(clone)\n", "        pass\n"),
        Fault(
            "texts of unequal length are answered in another order",
            "order = torch.cat([rows for rows, _ in groups]).argsort()",
            "order = torch.arange(len(x_t))",
            (FLOW,),
        ),
        Fault(
            "parameters that no layer owns are not trained",
            "changed_when_read(network, slots.loose,",
            "changed_when_read(network, [],",
            (FLOW,),
        ),
        Fault(
            "the network computes in ways without a gradient",
            "        with differentiable(model.diffusion_model):",
            "        if True:",
            (FLOW,),
        ),
        Fault(
            "the fast way is never taken",
            "compute_dtype(clone, fast=autocast)",
            "compute_dtype(clone, fast=False)",
            ("tests/nodes/drawing",),
        ),
        Fault(
            "every denoiser computes the fast way",
            "compute_dtype(clone, fast=autocast)",
            "compute_dtype(clone, fast=True)",
            ("tests/nodes/drawing",),
        ),
        Fault(
            "a model pushed out of memory is not brought back",
            "        if self._state() != self._loaded_as:\n",
            "        if False:\n",
        ),
        Fault(
            "inference mode is not left",
            "            torch.inference_mode(False),\n",
            "            torch.inference_mode(torch.is_inference_mode_enabled()),\n",
        ),
        Fault(
            "a model that does not fit is loaded",
            "    refuse_too_large(model, extra_memory_bytes, purpose)\n",
            "",
            (REFUSALS,),
        ),
        Fault(
            "a quantised model is trained",
            "    refuse_quantised(model, purpose)\n",
            "",
        ),
        Fault(
            "deltas act in other clones",
            "return bool(clone.model.current_weight_patches_uuid == clone.patches_uuid)",
            "return True",
            (GIVEN,),
        ),
        Fault(
            "the host reads edited weights while it loads",
            "lambda: _is_loaded(clone) and not loading()),",
            "lambda: True),",
            (LOOSE,),
        ),
        Fault("an edit at use is no edit", "    if at_use:\n", "    if False:\n", (REFUSALS,)),
        Fault(
            "a patched model is a base",
            "    if keys:\n        raise",
            "    if False:\n        raise",
        ),
    ],
    "nodes/host/model/slots.py": [
        Fault(
            "what other packs do to a weight is passed over",
            "known and not packed and not wrapped",
            "known and not packed",
            (GIVEN,),
        ),
        Fault(
            "quantised weights are taken as they lie there",
            "known and not packed and not wrapped",
            "known and not wrapped",
            ("tests/nodes/flow", "tests/nodes/finetune"),
            harmless="those that can be trained multiply by their scale themselves, or are none of "
            "these kinds of layers; the test is for formats to come",
        ),
        Fault(
            "weights that patches pass over are measured without their edit",
            "for key in [*trainable_shapes(clone), *sorted(view.passed_over)]:",
            "for key in trainable_shapes(clone):",
            (LOOSE,),
        ),
    ],
    "nodes/host/model/exact.py": [
        Fault(
            "the edit stays on the shared modules",
            "            if len(left) < len(functions):\n",
            "            if False:\n",
        ),
        Fault(
            "an edit is put on twice",
            "        self.eject(patcher)\n        free",
            "        free",
        ),
        Fault(
            "the class's own list is changed",
            'functions = [*getattr(layer, f"{name}_function"), _Use(slot, layer, name)]',
            'functions = getattr(layer, f"{name}_function")\n'
            "            functions.append(_Use(slot, layer, name))",
        ),
        Fault("two edits have one name", 'f"{INJECTION}{uuid.uuid4().hex}"', 'f"{INJECTION}x"'),
        Fault(
            "the scale of a scaled format is ignored",
            "AddedAtUse(delta, scale / stored_scale(layer, name), thin=thin)",
            "AddedAtUse(delta, scale, thin=thin)",
        ),
        Fault("precision is ignored", 'if precision == "runtime_exact":', "if False:"),
        Fault("no warning of rounding", "if loss.lost <= LOSS_TO_WARN:", "if True:"),
        Fault("auto stays with patches", 'if precision == "patch":', "if True:"),
        Fault(
            "parameters that no layer owns are left out",
            "for key, delta in deltas.items() if key not in known}",
            "for key, delta in deltas.items() if False}",
        ),
    ],
    "nodes/host/model/patching.py": [
        Fault(
            "stale wrappers stay on the shared modules",
            "        comfy.model_patcher.wipe_lowvram_weight(module)\n",
            "        pass\n",
            (FINETUNE,),
        ),
        Fault("the clone stays loaded", "        clone.detach()\n", "        pass\n", (FINETUNE,)),
        Fault(
            "what the host's patches pass over stays as it is",
            "    for key in view_of(model, prefix).passed_over & clone.patches.keys():\n",
            "    for key in ():\n",
            (PASSED_OVER,),
        ),
        Fault(
            "an exchanged table is no table any more",
            "        if isinstance(stored, torch.nn.Parameter):  # else",
            "        if True:  # else",
            (LOOSE, PASSED_OVER),
        ),
        Fault(
            "the patch is at full strength",
            "clone.add_patches(patches, strength_patch=scale)",
            "clone.add_patches(patches, strength_patch=-1.0)",
        ),
        Fault(
            "the MODEL itself is patched",
            "    clone = model.clone()\n    for scale",
            "    clone = model\n    for scale",
        ),
        Fault(
            "weights that the host refused are left out in silence",
            "        if refused:\n",
            "        if False:\n",
            ("tests/nodes/vector/test_apply.py", REFUSALS),
        ),
        Fault(
            "other names of a weight keep the old one",
            "for scale, deltas in with_aliases(model, plan).items():",
            "for scale, deltas in plan.items():",
            ("tests/nodes/vector/test_exact.py", "tests/nodes/vector/test_apply.py"),
        ),
        Fault(
            "one weight may change in two ways",
            "            elif scales[name] != scales[first] or",
            "            elif False and",
            ("tests/nodes/vector/test_exact.py", "tests/nodes/vector/test_apply.py"),
        ),
    ],
    "nodes/host/model/edits.py": [
        Fault(
            "what is measured leaves the mask out",
            "key: delta.to(device).float() * factor",
            "key: delta.to(device).float()",
            ("tests/nodes/strength",),
        ),
        Fault(
            "a text encoder's vector is applied to a MODEL",
            "    if text:\n",
            "    if False:\n",
            ("tests/nodes/baselines/test_few_shot.py", REFUSALS),
        ),
        Fault(
            "the base is not checked",
            "    check_base(task_vector.base, base, allow_other_weights=allow_other_weights)\n",
            "",
        ),
        Fault(
            "the mask is ignored",
            "mask = block_mask or BlockMask.full()",
            "mask = BlockMask.full()",
        ),
        Fault(
            "other weights are always allowed",
            "allow_other_weights=allow_other_weights)",
            "allow_other_weights=True)",
        ),
    ],
    "nodes/host/model/extraction.py": [
        Fault(
            "base minus tuned",
            "effective_weight(tuned, key) - before",
            "before - effective_weight(tuned, key)",
        ),
        Fault("the base's own patches are counted", "added = extra[len(own) :]", "added = extra"),
        Fault(
            "another LoRA on the base is not noticed",
            "return a[0] == b[0] and a[1] is b[1] and a[2] == b[2]",
            "return True",
        ),
        Fault("equal models give an empty vector", "    if not found.deltas:\n", "    if False:\n"),
        Fault(
            "a broken weight is kept",
            "        if not bool(torch.isfinite(delta).all()):\n",
            "        if False:\n",
            harmless="TaskVector, which every caller makes of these deltas, refuses it by name too",
        ),
        Fault(
            "a pruned model's vector is not marked",
            "self.pruned = self.pruned and only_prunes(delta, before + delta)",
            "self.pruned = False",
        ),
        Fault(
            "every vector is one of pruned weights",
            "self.pruned = self.pruned and only_prunes(delta, before + delta)",
            "pass",
        ),
        Fault(
            "unlike precision is not told",
            "            found.rounding.add(*stored, delta)",
            "            pass",
        ),
        Fault(
            "patches that depend on the weight are evaluated on zero",
            "        if plain:  #",
            "        if True:  #",
        ),
    ],
    "nodes/host/model/conditioning.py": [
        Fault(
            "pictures of two texts are drawn as one where the network reads one",
            "yield (text_of == text).nonzero().flatten()",
            "yield (text_of >= 0).nonzero().flatten()",
            ("tests/nodes/flow/test_words.py",),
        ),
        Fault(
            "a word of number 0 is taken for padding",
            "name not in _EACH_WORD and not part.is_floating_point()",
            "not part.is_floating_point()",
            ("tests/nodes/flow/test_words.py",),
        ),
        Fault(
            "words are given back with an axis too many",
            "v[0, :, 0] if n in _EACH_WORD else v",
            "v[:, :, 0] if n in _EACH_WORD else v",
            ("tests/nodes/flow/test_words.py",),
        ),
        Fault(
            "a CLIP of another family is taken",
            "if wanted is not None and cond.shape[-1] != wanted:",
            "if False:",
            ("tests/nodes/test_user_mistakes.py", REFUSALS),
        ),
        Fault(
            "inference tensors are passed on",
            "Context(cond.clone().float(), {",
            "Context(cond.float(), {",
            (FINETUNE,),
            harmless="a concept set copies its texts, and the text encoder computes its own",
        ),
        Fault(
            "texts that give more than others are joined with them",
            "    if some:\n",
            "    if False:\n",
            ("tests/nodes/flow/test_refusals.py",),
        ),
        Fault(
            "every row gets what belongs to the first",
            "first.concat([row[name] for row in rows[1:]])",
            "first.concat([first for row in rows[1:]])",
            (FLOW,),
        ),
    ],
    "nodes/host/model/numerics.py": [
        Fault(
            "every processor with the instructions counts as fast",
            "(amd and has.get(",
            "(has.get(",
            ("tests/nodes/drawing",),
        ),
        Fault("attention is not scaled", "(q * width**-0.5)", "(q * 1.0)", (INVERSION,)),
        Fault(
            "guidance is rounded on the fast way",
            '        half = half and not family.unet_config.get("guidance_embed")\n',
            "",
            (FLOW,),
        ),
        Fault(
            "half-precision weights take the fast way",
            " and model.model.get_dtype() == torch.float32",
            "",
            ("tests/nodes/drawing",),
        ),
    ],
    "nodes/host/model/own_pictures.py": [
        Fault(
            "unrelated models are taken for edits",
            "(apart is not None and apart > FAR)",
            "False",
            ("tests/nodes/inversion/test_attack.py",),
        ),
        Fault(
            "pictures of another model are taken",
            "    if any(mine is not None and mine != theirs",
            "    if False and any(mine is not None and mine != theirs",
            ("tests/nodes/test_user_mistakes.py", REFUSALS),
        ),
    ],
    "nodes/host/model/export.py": [
        Fault(
            "an edit that is not in the weights is exported",
            '    refuse_edits_at_use(model, "Export UNet")\n',
            "",
        ),
        Fault(
            "the base is exported, not the edit",
            "comfy.model_management.load_models_gpu([model], force_patch_weights=True)",
            "pass",
        ),
    ],
}
