"""Faults in the nodes and in what they do to ComfyUI's models."""

from __future__ import annotations

from .fault import Fault

DYNAMIC = "tests/nodes/finetune/test_dynamic_memory.py"
HALF = "tests/nodes/finetune/test_half_precision.py"
REFUSALS = "tests/nodes/test_refusals.py"
HOSTILE = "tests/robustness/test_hostile.py"
QUANTISED = "tests/nodes/finetune/test_quantised_base.py"
FLOW = "tests/nodes/flow/test_families.py"
PASSED_OVER = "tests/nodes/flow/test_passed_over.py"
FINETUNE = "tests/nodes/finetune/test_finetune.py"
INVERSION = "tests/nodes/inversion/test_inversion.py"
ENCODERS = "tests/nodes/inversion/test_encoders.py"

HOSTING: dict[str, list[Fault]] = {
    "tverase_core/errors.py": [
        Fault(
            "errors carry the machine's path in their name",
            ".removeprefix(_OUTSIDE)",
            "",
            ("tests/nodes/test_over_http.py",),
        ),
    ],
    "nodes/host/model/denoiser.py": [
        Fault(
            "stale wrappers stay on the shared modules",
            "            comfy.model_patcher.wipe_lowvram_weight(module)\n",
            "            pass\n",
        ),
        Fault("the clone stays loaded", "            clone.detach()\n", "            pass\n"),
        Fault(
            "texts of unequal length are answered in another order",
            "order = torch.cat([rows for rows, _ in groups]).argsort()",
            "order = torch.arange(len(x_t))",
            (FLOW,),
        ),
        Fault(
            "parameters that no layer owns are not trained",
            "changed_when_read(network, loose):",
            "changed_when_read(network, []):",
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
            "with torch.inference_mode(False), changed",
            "with torch.inference_mode(torch.is_inference_mode_enabled()), changed",
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
        Fault("an edit at use is no edit", "    if at_use:\n", "    if False:\n", (REFUSALS,)),
        Fault(
            "a patched model is a base",
            "    if keys:\n        raise",
            "    if False:\n        raise",
        ),
    ],
    "nodes/host/model/attachments.py": [
        Fault(
            "the sum of another strength is taken",
            "one is other and scale == factor",
            "one is other",
            ("tests/nodes/drawing",),
        ),
        Fault(
            "the sum of other deltas is taken",
            "one is other and scale == factor",
            "scale == factor",
            ("tests/nodes/drawing",),
        ),
        Fault(
            "deltas that are switched off act",
            "if attachment.scale != 0 and self._key in",
            "if self._key in",
            harmless="W + 0 * delta is W; the test only saves the addition",
        ),
        Fault(
            "deltas are added to a weight already rounded to bfloat16",
            "            if not self._packed:\n",
            "            if False:\n",
            (HALF,),
        ),
        Fault(
            "the strength of a delta is ignored",
            "delta.to(weight.device), alpha=scale / self._unit)",
            "delta.to(weight.device), alpha=1.0 / self._unit)",
            ("tests/nodes/strength",),
        ),
        Fault(
            "the scale of a scaled format is left out in training",
            "alpha=scale / self._unit)",
            "alpha=scale)",
            (QUANTISED,),
        ),
        Fault(
            "deltas stay after the block",
            "    finally:\n        stack.remove(attachment)",
            "    finally:\n        pass",
            (FINETUNE, "tests/nodes/baselines/test_few_shot.py"),
        ),
        Fault(
            "a delta without a weight is dropped",
            "    if unknown:\n",
            "    if False:\n",
            (FINETUNE, REFUSALS, "tests/nodes/baselines/test_few_shot.py"),
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
            "what the host's patches pass over stays as it is",
            "    for key in view_of(model, prefix).passed_over & clone.patches.keys():\n",
            "    for key in ():\n",
            (PASSED_OVER,),
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
    "nodes/host/text/copies.py": [
        Fault(
            "the text model is shared, not copied",
            "made = copy.deepcopy(text_model, memo)",
            "made = text_model",
            (INVERSION, DYNAMIC),
        ),
        Fault(
            "LoRAs on the CLIP are left out",
            "    if dtype is None and not patcher.patches.get(key):\n",
            "    if dtype is None:\n",
        ),
        Fault(
            "the copy's weights are the inference tensors of the loader",
            "return made.set_(value.untyped_storage(), *place)",
            "return value",
            (INVERSION, DYNAMIC),
        ),
        Fault(
            "the weights are copied in float32",
            "        return stored.detach()\n",
            "        return stored.float()\n",
            (ENCODERS, DYNAMIC),
        ),
        Fault(
            "the host's memory management is copied",
            "if HOSTS_OWN.fullmatch(name) and not isinstance(value, int | None):",
            "if False:",
            (DYNAMIC,),
        ),
    ],
    "nodes/host/text/encoder.py": [
        Fault(
            "all vectors stand in the first template",
            "filled(self._templates[text, each], towers,",
            "filled(self._templates[told[0], each], towers,",
        ),
        Fault(
            "clip skip is left out",
            '{} if self._clip.layer_idx is None else {"layer": self._clip.layer_idx}',
            "{}",
        ),
        Fault(
            "a prompt that the host would cut is encoded",
            "            refuse_cut(tower, tokens[tower.place], text)\n",
            "            pass\n",
            (ENCODERS,),
        ),
        Fault(
            "the last word of a chat template passes for the prompt's",
            '        if self._last_token("", tower):\n',
            "        if False:\n",
            (ENCODERS,),
        ),
        Fault(
            "nothing is said where the host reads no embeddings",
            "if not tower.reads_embeddings]",
            "if False]",
            (ENCODERS,),
        ),
    ],
    "nodes/host/text/towers.py": [
        Fault(
            "towers in the other order",
            'sorted(tokens_of(clip, ""), reverse=True)',
            'sorted(tokens_of(clip, ""))',
        ),
        Fault(
            "another family's encoder is taken",
            "    if not isinstance(clip.tokenizer, target.tokenizer):\n",
            "    if False:\n",
            (ENCODERS,),
        ),
    ],
    "nodes/host/text/splice.py": [
        Fault(
            "too long a template is cut",
            "    if tower.is_clip and len(rows) > 1:\n",
            "    if False:\n",
        ),
        Fault(
            "a template that hides the vectors passes",
            "    if sum(isinstance(token, Mark) for token, *_ in rows[0]) != count:\n",
            "    if False:\n",
            (ENCODERS,),
        ),
        Fault(
            "an embedding's name runs into the template",
            'f"embedding:{NAME} ")',
            'f"embedding:{NAME}")',
            (ENCODERS,),
        ),
        Fault(
            "one vector stands in every place",
            "token, number = Mark(number), number + 1",
            "token = Mark(number)",
            (ENCODERS,),
        ),
    ],
    "nodes/host/text/passes.py": [
        Fault(
            "prompts of unequal length go in one pass",
            "len(first) == 1 and len({len(row) for row in rows}) == 1",
            "len(first) == 1",
            (ENCODERS,),
        ),
        Fault(
            "every item gets the first one's states",
            "slice((k := next(self._left)), k + 1)",
            "slice((k := next(self._left) * 0), k + 1)",
            (ENCODERS,),
        ),
        Fault(
            "the copy keeps handing out old states",
            "            del part.encode\n",
            "            pass\n",
            (ENCODERS,),
        ),
        Fault(
            "autograd keeps every cast weight",
            "                if not tower.is_clip:\n",
            "                if False:\n",
            (ENCODERS,),
        ),
    ],
    "nodes/host/text/edits.py": [
        Fault(
            "trial deltas stay in the copy",
            "                module._parameters[name] = weight\n\n\ndef",
            "                pass\n\n\ndef",
        ),
        Fault("a patched CLIP is a base", "    if clip.patcher.patches:\n", "    if False:\n"),
        Fault(
            "another CLIP is taken",
            "    if part.base.architecture.startswith(ARCHITECTURE):\n",
            "    if False:\n",
        ),
        Fault("the CLIP itself is patched", "    made = clip.clone()\n", "    made = clip\n"),
        Fault("trial deltas act at full strength", "alpha=attachment.scale)", "alpha=1.0)"),
    ],
    "nodes/host/drawing/layer_inputs.py": [
        Fault("hooks stay on the shared layers", "            handle.remove()", "            pass"),
        Fault(
            "a call belongs to the next step",
            "return max(0, int(reached.sum()) - 1)",
            "return max(0, int(reached.sum()))",
        ),
        Fault("half of the noise chooses", "(1 - EARLY) * len", "0.5 * len"),
    ],
    "nodes/host/drawing/sampling.py": [
        Fault("guidance may be no number", '{"cfg": NOT_NEGATIVE, **sizes}', "{**sizes}"),
        Fault(
            "pictures of a batch share one seed",
            "manual_seed(seeds[i])) for i in rows]",
            "manual_seed(seeds[0])) for i in rows]",
        ),
        Fault(
            "every picture has the first prompt",
            "((_, context),) = with_time(model, noise), context.pick(rows).even()",
            "((_, context),) = with_time(model, noise), context.pick(rows * 0).even()",
        ),
        Fault(
            "prompt and empty prompt are swapped",
            "conditioning(context),\n        conditioning(empty.pick(rows * 0)),",
            "conditioning(empty.pick(rows * 0)),\n        conditioning(context),",
        ),
    ],
    "nodes/host/drawing/studio.py": [
        Fault(
            "a model that the VAE pushed out draws on",
            "        self._denoiser.ensure_loaded()  # the VAE may have pushed it out of memory\n",
            "",
        ),
        Fault("pictures are not held to 0 to 1", ".cpu().clamp(0, 1)", ".cpu()"),
    ],
    "nodes/host/training/recompute.py": [
        Fault("blocks stay covered", "                del block.forward", "                pass"),
        Fault(
            "nothing is recomputed",
            "        for block in blocks:\n            # Nothing",
            "        for block in blocks[:0]:\n            # Nothing",
        ),
    ],
    "nodes/host/training/session.py": [
        Fault("a patched model is tuned", "    refuse_patched(model)\n", "", (FINETUNE,)),
        Fault(
            "the mask is ignored",
            "trainable=lambda key: mask.coefficient(key, layout) > 0)",
            "trainable=lambda key: True)",
            (FINETUNE,),
        ),
        Fault(
            "the MODEL's story is lost",
            "        clone.set_attachments(PROVENANCE, vector.provenance)\n",
            "        pass\n",
            ("tests/nodes/vector/test_extract.py", FINETUNE, "tests/nodes/finetune/test_memory.py"),
        ),
    ],
    "nodes/host/training/fits.py": [
        Fault(
            "a job that does not fit begins",
            "    if needed > free:\n",
            "    if needed < 0:\n",
            (REFUSALS, FINETUNE),
        ),
    ],
    "nodes/host/training/plan.py": [
        Fault(
            "recomputation never steps in",
            "    if recompute is None:\n",
            "    if False:\n",
        ),
        Fault("a plan that does not fit runs", "        if needed > had:\n", "        if False:\n"),
    ],
    "nodes/host/training/unfinished.py": [
        Fault(
            "unfinished work stays after the end",
            "        if kind is None and self._path is not None:\n",
            "        if False:\n",
            ("tests/nodes/finetune/test_memory.py", INVERSION),
        ),
        Fault(
            "unfinished work goes when it is stopped",
            "        if kind is None and self._path is not None:\n",
            "        if self._path is not None:\n",
            ("tests/nodes/finetune/test_memory.py", INVERSION),
        ),
    ],
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
    "nodes/host/app/paths.py": [
        Fault("names are not looked at", "all(map(is_plain_name, parts))", "True", (HOSTILE,)),
        Fault(
            "a name may leave the output folder",
            '    if parts.anchor or ".." in parts.parts:\n',
            "    if parts.anchor:\n",
        ),
        Fault(
            "an absolute path is taken",
            '    if parts.anchor or ".." in parts.parts:\n',
            '    if ".." in parts.parts:\n',
        ),
        Fault(
            "a file is written over",
            "        if not path.exists():\n            return path",
            "        if True:\n            return path",
        ),
    ],
    "nodes/host/app/progress.py": [
        Fault(
            "Cancel is not heard",
            "        comfy.model_management.throw_exception_if_processing_interrupted()\n",
            "",
            (FINETUNE,),
        ),
        Fault(
            "a cancelled node looks as if it still ran",
            '        show_text("cancelled")',
            "        pass",
            (FINETUNE,),
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
