"""Faults in how weights are read and what is added to them at use."""

from __future__ import annotations

from .fault import Fault

HALF = "tests/nodes/finetune/test_half_precision.py"
REFUSALS = "tests/nodes/test_refusals.py"
QUANTISED = "tests/nodes/finetune/test_quantised_base.py"
FROZEN = "tests/nodes/finetune/test_frozen_weight.py"
GIVEN = "tests/nodes/finetune/test_given_weights.py"
CHANGED = "tests/nodes/finetune/test_changed_weights.py"
FINETUNE = "tests/nodes/finetune/test_finetune.py"

HOSTING_WEIGHTS: dict[str, list[Fault]] = {
    "nodes/host/network/given_weights.py": [
        Fault("layers keep their hooks", "hooks.callback(hook.remove)", "pass", (GIVEN,)),
        Fault(
            "layers compute with ours at all times", "    if acts():\n", "    if True:\n", (GIVEN,)
        ),
        Fault("after an error a layer keeps what it was given", ", always_call=True", "", (GIVEN,)),
        Fault(
            "a layer keeps what it was given",
            "        layer.__dict__.pop(name, None)",
            "        pass",
            (GIVEN,),
        ),
    ],
    "nodes/host/network/layer_gradients.py": [
        Fault(
            "a linear delta's gradient is turned round",
            "Product(rows.T, _rows(x), ctx.shapes[1])",
            "Product(rows.flip(1).T, _rows(x), ctx.shapes[1])",
            (FROZEN,),
        ),
        Fault(
            "the input is kept where nothing learns",
            "ctx.save_for_backward(x if any(ctx.needs_input_grad[4:]) else None)",
            "ctx.save_for_backward(x)",
            (FROZEN,),
        ),
        Fault(
            "biases of linear layers do not learn",
            "of_bias = rows.sum(0) if ctx.needs_input_grad[2] else None",
            "of_bias = None",
            (FROZEN,),
        ),
        Fault(
            "biases of convolutions do not learn",
            "back.sum((0, *range(2, back.ndim))) if ctx.needs_input_grad[2] else None",
            "None",
            (FROZEN,),
        ),
        Fault(
            "the layer computes without the delta",
            "            weight = how.held.again()\n",
            "            weight = weight.contiguous()\n",
            (FROZEN,),
        ),
    ],
    "nodes/host/network/convolution_gradients.py": [
        Fault(
            "the product is of the input as it is beside the stride",
            "shape[2:], dilation, padding, stride)",
            "shape[2:], padding, dilation, stride)",
            (FROZEN,),
        ),
        Fault(
            "the weight's gradient is asked for twice",
            "_by_product(back, x, shapes[1], places), None",
            "_by_product(back, x, shapes[1], places), x",
            harmless="the convolution's is the same; it only takes its time",
        ),
        Fault(
            "the other gradient is asked for",
            "asked = [weight is not None, x is not None, False]",
            "asked = [x is not None, weight is not None, False]",
            (FROZEN,),
        ),
        Fault(
            "pictures and channels change places",
            "values.transpose(0, 1).flatten(1)",
            "values.flatten(0, 1).flatten(1).view(values.shape[1], -1)",
            (FROZEN,),
        ),
        Fault(
            "many places are unrolled too",
            "back[:, 0].numel() <= back.shape[1]",
            "True",
            (FROZEN,),
        ),
    ],
    "nodes/host/network/weight_gradient.py": [
        Fault(
            "what a delta is added with is left out of its gradient",
            "whole if learning.factor == 1.0 else whole * learning.factor",
            "whole",
            (FROZEN,),
        ),
        Fault(
            "what a delta is added with is left out of a product",
            "beta=before is not None, alpha=learning.factor",
            "beta=before is not None",
            (FROZEN,),
        ),
        Fault(
            "the last step's gradient is gone on with",
            "beta=before is not None",
            "beta=1",
            (FROZEN,),
        ),
        Fault(
            "a part's gradient takes the place of the parts before",
            "beta=before is not None",
            "beta=0",
            (FROZEN,),
        ),
        Fault(
            "what is computed from a delta is taken for it",
            "learning.hooked or not delta.is_leaf",
            "learning.hooked",
            (FROZEN,),
        ),
        Fault(
            "gradients in bfloat16 are added up as they are",
            "formats != {torch.float32} or delta",
            "delta",
            (FROZEN,),
        ),
    ],
    "nodes/host/network/room.py": [
        Fault(
            "a gradient's memory is new at every step",
            "        if made is None:\n",
            "        if True:\n",
            (FROZEN,),
        ),
        Fault(
            "further deltas are added whole",
            "made.add_(one.delta, alpha=one.factor)",
            "made.add_(one.delta)",
            (FROZEN,),
        ),
        Fault(
            "the first delta is added whole",
            "torch.add(weight.float(), first.delta, alpha=first.factor, out=made)",
            "torch.add(weight.float(), first.delta, out=made)",
            (FROZEN,),
        ),
        Fault(
            "a room is made anew for every sum",
            "if self._memory.numel() < weight.numel():",
            "if True:",
            (FROZEN,),
        ),
    ],
    "nodes/host/network/attachments.py": [
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
    "nodes/host/network/weight_slot.py": [
        Fault(
            "the sum of another strength is taken",
            "one.delta is other.delta and one.factor == other.factor",
            "one.delta is other.delta",
            ("tests/nodes/drawing",),
        ),
        Fault(
            "the sum of other deltas is taken",
            "one.delta is other.delta and one.factor == other.factor",
            "one.factor == other.factor",
            ("tests/nodes/drawing",),
        ),
        Fault(
            "large sums are kept",
            "if self._is_brought(weight) or not is_large(weight):",
            "if True:",
            (FROZEN,),
        ),
        Fault(
            "a sum is made again as strong as the scale is by then",
            "self._summed(again(), dtype, acting, at_once=True)",
            "self._summed(again(), dtype, at_once=True)",
            (FROZEN,),
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
            "what another function changed is lost where bfloat16 is computed in",
            "stored + (weight.float() - stored.to(weight.dtype)) if changed else stored",
            "stored",
            (CHANGED,),
        ),
        Fault(
            "a changed weight is kept for the next passes",
            'if weight.device.type == "cpu" and not learns and not changed:',
            'if weight.device.type == "cpu" and not learns:',
            (CHANGED,),
        ),
        Fault(
            "gradients go through the stored weight, whatever another function made of it",
            "if torch.is_grad_enabled() and self._stays and not changed:",
            "if torch.is_grad_enabled() and self._stays:",
            (CHANGED,),
        ),
        Fault(
            "a LoRA of a model in part is no change",
            "return lora is not None or (self in mine and mine[0] is not self)",
            "return self in mine and mine[0] is not self",
            (CHANGED,),
        ),
        Fault(
            "the backward pass reads memory that another weight has taken",
            "        if used_as_stored(stored) and not self._is_brought(weight):\n",
            "        if True:\n            return lambda: weight\n        if False:\n",
            (CHANGED,),
        ),
        Fault(
            "autograd saves memory that another weight takes",
            "return self._to_save(weight.to(dtype), self._is_brought(weight))",
            "return self._to_save(weight.to(dtype))",
            (CHANGED,),
        ),
        Fault(
            "an edit is rounded to 8 bits",
            "dtype = torch.bfloat16 if dtype.itemsize == 1 else dtype",
            "pass",
            (CHANGED,),
        ),
        Fault(
            "the strength of a delta is ignored",
            "factor=one.factor / self._unit)",
            "factor=1.0 / self._unit)",
            ("tests/nodes/strength",),
        ),
        Fault(
            "the scale of a scaled format is left out in training",
            "factor=one.factor / self._unit)",
            "factor=one.factor)",
            (QUANTISED,),
        ),
        Fault(
            "a bias is summed where the weight lies",
            "if self._stays and is_large(weight) and not",
            "if is_large(weight) and not",
            (FROZEN,),
        ),
    ],
    "nodes/host/storage/formats.py": [
        Fault(
            "the scale of older 8-bit weights counts twice in a gradient",
            'return not (hasattr(weight, "_qdata") or _is_gguf(weight))',
            "return False",
            ("tests/nodes/finetune/test_quantised_base.py",),
        ),
    ],
    "nodes/host/network/frozen_weight.py": [
        Fault(
            "a branch of low rank is left out",
            "functional.linear(functional.linear(x, down), up) * branch.scale",
            "0.0",
            (FROZEN,),
        ),
        Fault(
            "a branch has the whole strength",
            "functional.linear(functional.linear(x, down), up) * branch.scale",
            "functional.linear(functional.linear(x, down), up)",
            (FROZEN,),
        ),
        Fault(
            "a branch of a convolution has the whole strength",
            "func(inner, point) * branch.scale",
            "func(inner, point)",
            (FROZEN,),
        ),
        Fault(
            "a convolution in groups is taken for one without",
            'even = words["groups"] == 1 and',
            "even =",
            (FROZEN,),
        ),
        Fault(
            "a branch of a convolution forgets where it is applied",
            "None, *places)\n        point",
            "None)\n        point",
            (FROZEN,),
        ),
        Fault(
            "what else reads the weight sees no delta",
            "return value.dense() if isinstance(value, FrozenWeight) else value",
            "return value",
            (FROZEN,),
        ),
    ],
}
