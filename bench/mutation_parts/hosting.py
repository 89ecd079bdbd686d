"""Faults in the rest of the host layer: texts, drawing, training, folders."""

from __future__ import annotations

from .fault import Fault

DYNAMIC = "tests/nodes/finetune/test_dynamic_memory.py"
REFUSALS = "tests/nodes/test_refusals.py"
HOSTILE = "tests/robustness/test_hostile.py"
FINETUNE = "tests/nodes/finetune/test_finetune.py"
INVERSION = "tests/nodes/inversion/test_inversion.py"
ENCODERS = "tests/nodes/inversion/test_encoders.py"

HOSTING: dict[str, list[Fault]] = {
    "tverase_core/errors.py": [
        Fault(
            "errors carry the machine's path in their name",
            ".removeprefix(_OUTSIDE)",
            "",
            ("tests/nodes/test_pack_import.py",),
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
    "nodes/host/drawing/fast.py": [
        Fault("the quick clone is not let go", "        let_go(clone)\n", "        pass\n"),
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
        Fault(
            "a model that a judge pushed out draws on",
            "        self._denoiser.ensure_loaded()\n        return sample",
            "        return sample",
        ),
        Fault("pictures are not held to 0 to 1", ".cpu().clamp(0, 1)", ".cpu()"),
    ],
    "nodes/host/training/recompute.py": [
        Fault("blocks stay covered", 'block.__dict__.pop("forward", None)', "pass"),
        Fault(
            "another pack's forward is lost",
            "            if own is not None:",
            "            if False:",
        ),
        Fault(
            "nothing is recomputed",
            "        for block in blocks:\n            # Nothing",
            "        for block in blocks[:0]:\n            # Nothing",
        ),
        Fault(
            "a second backward pass cannot recompute",
            "nullcontext(), _EachTime(network)",
            "nullcontext(), differentiable(network)",
        ),
    ],
    "nodes/host/training/activations.py": [
        Fault(
            "what the dry run keeps holds itself",
            "return tensor.detach()",
            "return tensor",
            ("tests/nodes/finetune/test_memory.py",),
        ),
        Fault(
            "weights that learn at low rank count as kept",
            "ledger.pass_over(layer.weight)",
            "pass",
            ("tests/nodes/finetune/test_frozen_weight.py",),
        ),
        Fault(
            "weights that stay count as kept",
            "without_copy(layer)",
            "pass",
            ("tests/nodes/finetune/test_frozen_weight.py",),
        ),
    ],
    "nodes/host/training/meta.py": [
        Fault(
            "large sums count as kept",
            "if weight.requires_grad and not is_large(weight):",
            "if weight.requires_grad:",
            ("tests/nodes/finetune/test_frozen_weight.py",),
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
            "self.recompute in (None, recompute)",
            "recompute == bool(self.recompute)",
        ),
        Fault(
            "a fused backward pass never steps in",
            "self.fused in (None, fused)",
            "fused == bool(self.fused)",
        ),
        Fault(
            "a fused backward pass that cannot be is planned",
            "False if obstacle else fused",
            "fused",
        ),
        Fault(
            "a fused backward pass that cannot be is promised",
            "        if fused and obstacle:\n",
            "        if False:\n",
        ),
        Fault("a plan that does not fit runs", "        if needed > had:\n", "        if False:\n"),
        Fault(
            "the first plan runs, fit or not",
            "        if missing is None:\n",
            "        if True:\n",
        ),
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
        Fault(
            "pictures of a job take what time they like",
            "max(TELL_EVERY_S, (ended - began) / PREVIEW_SHARE)",
            "TELL_EVERY_S",
            ("tests/nodes/test_host_leans.py",),
        ),
    ],
}
