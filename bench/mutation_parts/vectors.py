"""Faults in the task vector, its files, and what is known of a model."""

from __future__ import annotations

from .fault import Fault

HOSTILE = "tests/robustness/test_hostile.py"

VECTORS: dict[str, list[Fault]] = {
    "tverase_core/vector/erase.py": [
        Fault(
            "the sign is set twice",
            "scale = signed_scale(strength, coefficient)",
            "scale = -signed_scale(strength, coefficient)",
        ),
        Fault(
            "the mask's coefficient is dropped",
            "scale = signed_scale(strength, coefficient)\n",
            "scale = signed_scale(strength)\n",
        ),
        Fault(
            "deltas that the mask leaves out act",
            "coefficients = mask_coefficients(task_vector.deltas, mask, layout)\n",
            "coefficients = dict.fromkeys(task_vector.deltas, 1.0)\n",
        ),
        Fault("a vector that fits in part is taken", "    if missing:\n", "    if False:\n"),
        Fault(
            "a delta of another shape is taken",
            '        check_shape(key, tuple(shapes[key]), delta.shape, "model", "task vector")\n',
            "",
        ),
        Fault(
            "the edit is added, not subtracted",
            "return -float(strength) * coefficient or 0.0",
            "return float(strength) * coefficient or 0.0",
        ),
        Fault("a negative strength is taken", "or strength < 0:", "or strength < -100:"),
        Fault(
            "a mask coefficient may be above 1",
            "if not 0 <= coefficient <= 1:",
            "if not 0 <= coefficient:",
        ),
        Fault(
            "a weight that became infinite is passed on",
            "if not bool(torch.isfinite(erased.to(torch.float32)).all()):",
            "if False:",
        ),
    ],
    "tverase_core/vector/task_vector.py": [
        Fault("base minus tuned", "difference = new32 - old32", "difference = old32 - new32"),
        Fault("two vectors are not added", "else torch.add", "else torch.sub"),
        Fault(
            "a vector of another base is combined all the same",
            'if verdict not in ("same", "same_when_rounded", "unverified"):',
            'if verdict == "different_architecture":',
        ),
        Fault(
            "the mask counts twice",
            "else self.deltas[key] * factor",
            "else self.deltas[key] * factor**2",
        ),
        Fault(
            "a mask that selects nothing is taken",
            "if coefficients and not any(coefficients.values()):",
            "if False:",
        ),
        Fault(
            "NaN in a delta is not noticed",
            "if not (math.isfinite(low) and math.isfinite(high)):",
            "if not (math.isfinite(low) or math.isfinite(high)):",
        ),
        Fault(
            "a scaled vector forgets its factor", "self.digest(), float(factor))", "self.digest())"
        ),
    ],
    "tverase_core/vector/algebra.py": [
        Fault(
            "the projection is added, not taken out",
            "deltas[key] = deltas[key] - taken if key in deltas else -taken",
            "deltas[key] = deltas[key] + taken if key in deltas else -taken",
        ),
        Fault(
            "the projection on a weight that only the other has changes its sign",
            "if key in deltas else -taken",
            "if key in deltas else taken",
        ),
        Fault(
            "vectors that depend on one another are inverted all the same",
            "rtol=tolerance, hermitian=True",
            "rtol=0.0, hermitian=True",
        ),
        Fault("one factor of a sum is dropped", "part = vector * factor", "part = vector * 1.0"),
    ],
    "tverase_core/vector/interference.py": [
        Fault(
            "damage in units of the erased vector",
            "products / products.diagonal()",
            "products / products.diagonal()[:, None]",
        ),
        Fault(
            "the strength of the harmed vector counts",
            "dtype=torch.float64)[:, None] * products",
            "dtype=torch.float64)[None] * products",
        ),
    ],
    "tverase_core/vector/pruned.py": [
        Fault(
            "a trained weight beside zeros is pruned too",
            "return not bool(tuned[delta != 0].any())",
            "return not bool(tuned[delta != 0].all())",
        ),
    ],
    "tverase_core/vector/rounding.py": [
        Fault(
            "the finer format is taken for the coarser",
            "torch.finfo(tuned.dtype).eps > torch.finfo(base.dtype).eps",
            "torch.finfo(tuned.dtype).eps < torch.finfo(base.dtype).eps",
        ),
        Fault(
            "the share is one of squares",
            "share = math.sqrt(self.explained / self.whole)",
            "share = (self.explained / self.whole)",
        ),
        Fault(
            "a sample is not counted for all of its weight",
            "self.add(wanted, new - old, meant.numel() / max(1, len(old)))",
            "self.add(wanted, new - old)",
            ("tests/core/files", "tests/core/vector"),
        ),
        Fault(
            "the loss is the real length",
            "math.sqrt(self.apart / self.meant)",
            "math.sqrt(self.real / self.meant)",
        ),
        Fault(
            "meant minus itself", "float((m - r).square().sum())", "float((m - m).square().sum())"
        ),
    ],
    "tverase_core/vector/split_weight.py": [
        Fault(
            "a shift in the wrong direction",
            "return whole * 2.0**-self.shift",
            "return whole * 2.0**self.shift",
        ),
        Fault(
            "a layer's second product is off by a power of two",
            "torch.add(result, more, alpha=2.0**-weight.shift)",
            "torch.add(result, more, alpha=2.0 ** (1 - weight.shift))",
        ),
        Fault(
            "the bias is counted twice",
            '            _put(args, kwargs, bias_at, "bias", None)\n        more',
            "            pass\n        more",
        ),
        Fault(
            "the second part of a bias is forgotten",
            "part if bias.ndim > 1 else part.view(form), alpha=2.0**-bias.shift",
            "part if bias.ndim > 1 else part.view(form), alpha=0.0",
        ),
        Fault(
            "an edit of an edited weight forgets the first",
            "scale * delta.float() + main.delta(), 1.0",
            "scale * delta.float(), 1.0",
        ),
    ],
    "tverase_core/vector/provenance.py": [
        Fault(
            "a part of a sum that cancelled out is still named",
            "for digest, total in totals.items() if total)",
            "for digest, total in totals.items())",
        ),
        Fault(
            "a changed vector keeps its recommended strength",
            "            recommended=None,\n            extra={},",
            "            recommended=self.recommended,\n            extra={},",
        ),
    ],
    "tverase_core/vector/delta_names.py": [
        Fault(
            "a bias is stored under a weight's name",
            "return key.removesuffix(BIAS) + DIFF_BIAS",
            "return key.removesuffix(BIAS) + DIFF",
            ("tests/core/files",),
        ),
    ],
    "tverase_core/patterns.py": [
        Fault(
            "a repeated group may be tried for ever",
            'if before == ")":',
            "if False:",
            (HOSTILE,),
        ),
        Fault("wide repeats are free", "wide += not (narrow or exact)", "wide += 0", (HOSTILE,)),
        Fault("what may be left out is free", "factor *= 2\n", "factor *= 1\n", (HOSTILE,)),
        Fault(
            "alternatives are free", "factor *= open_groups.pop()", "open_groups.pop()", (HOSTILE,)
        ),
        Fault("a pattern of any length", "if len(pattern) > LONGEST:", "if False:", (HOSTILE,)),
    ],
    "tverase_core/errors.py": [
        Fault(
            "half characters stay",
            'errors="backslashreplace"',
            'errors="surrogatepass"',
            (HOSTILE,),
        ),
        Fault("sentences have no end", "sentence)[:LONGEST]", "sentence)", (HOSTILE,)),
    ],
    "tverase_core/model/fingerprint.py": [
        Fault(
            "other weights that were allowed are not told",
            '    if verdict == "different_weights":\n        far',
            '    if verdict == "":\n        far',
        ),
        Fault(
            "other values are not told apart",
            "and self.sample_sha256 == other.sample_sha256:",
            "and other.sample_sha256:",
        ),
        Fault(
            "a model of another architecture can be allowed",
            'refused = verdict == "different_architecture" or (',
            "refused = (",
        ),
        Fault(
            "other weights are taken unasked",
            "and not allow_other_weights",
            "and allow_other_weights is None",
        ),
        Fault(
            "the last values of a weight are not looked at",
            "return [((numel - RUN) * i // (RUNS - 1), RUN) for i in range(RUNS)]",
            "return [((numel - RUN) * i // RUNS, RUN) for i in range(RUNS)]",
        ),
        Fault(
            "shapes do not tell models apart",
            "{'x'.join(map(str, shapes[name]))}",
            "{len(shapes[name])}",
        ),
    ],
    "tverase_core/model/block_mask.py": [
        Fault(
            "a kind's coefficient is ignored",
            "* self.kinds.get(kind, self.other_kinds)",
            "* 1.0",
        ),
        Fault("the first pattern wins", "in reversed(self.patterns):", "in self.patterns:"),
        Fault(
            "coefficients above 1 are taken",
            "or not 0 <= value <= 1:",
            "or not 0 <= value:",
        ),
        Fault(
            "a block that the model lacks is taken",
            "            if name not in block_names:\n",
            "            if False:\n",
        ),
    ],
    "tverase_core/model/mask_text.py": [
        Fault("a range leaves its last block out", "known[start : end + 1]", "known[start:end]"),
        Fault("an exclusion is forgotten", "        value = 0.0\n", "        value = None\n"),
        Fault("a pattern may be read in many ways", r"[^\n\\])*?/", r"[^\n])*?/"),
    ],
    "tverase_core/model/layout.py": [
        Fault(
            "half a layout is taken for the family",
            "if all(_locate_clip(key) or _locate_unet(key) for key in keys):",
            "if any(_locate_clip(key) or _locate_unet(key) for key in keys):",
        ),
        Fault(
            "blocks are ordered as text",
            '[(1, int(p), "") if p.isdigit() else (0, 0, p) for p in pieces]',
            "[(0, 0, p) for p in pieces]",
        ),
    ],
}
