"""Faults in what learns: fine-tune, inversion."""

from __future__ import annotations

from .fault import Fault

FLOW = "tests/nodes/flow/test_families.py"

LEARNING: dict[str, list[Fault]] = {
    "tverase_core/schedule.py": [
        Fault(
            "noise and signal are swapped",
            "return signal * x0 + sigma * noise",
            "return sigma * x0 + signal * noise",
        ),
        Fault(
            "v has the wrong sign",
            "return signal * noise - sigma * x0",
            "return signal * noise + sigma * x0",
        ),
        Fault(
            "a schedule may rise",
            "bool((table.diff() >= 0).any())",
            "bool((table.diff() >= 9).any())",
        ),
        Fault(
            "the flow goes from noise to picture",
            "return (1 - level) * x0 + level * noise",
            "return level * x0 + (1 - level) * noise",
        ),
        Fault("a flow model predicts the picture", "return noise - x0", "return x0"),
        Fault(
            "the shift leans the other way",
            "(self.most * self.shift * u / (1 + (self.shift - 1) * u))",
            "(self.most * u / (self.shift + (1 - self.shift) * u))",
        ),
        Fault(
            "a step of the flow goes back", "float(then - now) * made", "float(now - then) * made"
        ),
    ],
    "tverase_core/concept_set.py": [
        Fault(
            "every picture has the first caption",
            "if len(self.contexts.tokens) > 1 else rows * 0",
            "if len(self.contexts.tokens) > 9 else rows * 0",
        ),
        Fault(
            "a guide's prompts do not take turns",
            "c.pick(rows % len(c.tokens))",
            "c.pick(rows * 0)",
            ("tests/core/finetune",),
        ),
        Fault("tensors are shared, not copied", ".clone().contiguous()", ".contiguous()"),
        Fault(
            "the pictures are no part of the digest",
            "        total.update(value.numpy().tobytes())\n",
            "",
        ),
    ],
    "tverase_core/ports.py": [
        Fault(
            "extra inputs are not picked",
            "{name: change(part) for name, part in self.extra.items()},",
            "dict(self.extra),",
            ("tests/core/test_context.py", "tests/core/test_concept_set.py"),
        ),
        Fault(
            "a shorter text keeps its padding",
            "        part = part.narrow(axis, 0, size)\n",
            "        pass\n",
            ("tests/core/test_context.py", FLOW),
        ),
        Fault(
            "sizes are those of the first text",
            "torch.cat([_sizes(v, k) for v, k in zip(values, known, strict=True)])",
            "torch.cat([_sizes(values[0], known[0]) for v in values])",
            ("tests/core/test_context.py",),
        ),
    ],
    "tverase_core/finetuning/train.py": [
        Fault("the retained set is no part of the job", "base, kept]", "base]"),
        Fault("weight decay is off", "weight_decay=config.weight_decay,", "weight_decay=0.0,"),
        Fault(
            "gradients are not clipped",
            "lambda own: make(own, config), config.gradient_clip)",
            "lambda own: make(own, config), 1e9)",
        ),
        Fault("parts of a step are summed, not averaged", ".mean() / len(parts)", ".mean()"),
        Fault(
            "the betas are not passed on",
            "        config.betas,\n        weight_decay",
            "        weight_decay",
        ),
        Fault("AdamW is never the fused one", "make(fused=True)", "make(foreach=False)"),
        Fault(
            "a torch without fused AdamW on CPUs is refused",
            "except RuntimeError:",
            "except TypeError:",
        ),
        Fault(
            "the rate never changes",
            "mover.move(config.rate(step))",
            "mover.move(config.rate(1))",
        ),
        Fault(
            "the moving average is not what is returned",
            "deltas_of(average.deltas if average else learned)",
            "deltas_of(learned)",
        ),
        Fault(
            "a loss of infinity goes on", "if not math.isfinite(value):", "if math.isnan(value):"
        ),
        Fault(
            "a bad gradient goes on",
            '    _check_finite("gradient", norm, config, step)\n',
            "",
        ),
        Fault(
            "a resumed run shows the first pictures again", "config, skip=done)", "config, skip=0)"
        ),
        Fault(
            "the resumed average begins its ramp anew",
            "DeltaAverage(checkpoints.state.average, done)",
            "DeltaAverage(checkpoints.state.average)",
        ),
        Fault("guidance is ignored", "        if part.guide:\n", "        if False:\n"),
        Fault(
            "the retained set is ignored",
            "if _keeps(retained, config):\n                    keep",
            "if False:\n                    keep",
        ),
        Fault(
            "a state is saved one step late",
            "step % self.every == 0:",
            "step % self.every == 1:",
        ),
        Fault("weights of other keys move", "        if config.allows(key, len(shape))\n", ""),
        Fault(
            "a fused backward pass of several parts",
            "    if config.accumulation > 1:\n",
            "    if False:\n",
        ),
        Fault(
            "a fused backward pass beside a second loss",
            "    if _keeps(retained, config):\n        return (",
            "    if False:\n        return (",
        ),
        Fault(
            "the denoiser does not know of the hooks",
            "attachment.hooked = fused",
            "attachment.hooked = False",
            ("tests/nodes/finetune/test_memory.py",),
        ),
    ],
    "tverase_core/finetuning/movers.py": [
        Fault(
            "gradients of earlier steps stay",
            "        self._optimizer.zero_grad(set_to_none=True)\n",
            "",
        ),
        Fault("the rate never changes", 'group["lr"] = rate', "pass"),
        Fault(
            "a fused gradient is not clipped",
            "            gradient.mul_(shorter)\n",
            "",
        ),
        Fault("short fused gradients grow", ", max=1.0)", ")"),
        Fault("a fused gradient stays", "                weight.grad = None\n", ""),
        Fault("hooks stay on the weights", "                hooks.callback(hook.remove)\n", ""),
        Fault(
            "only the last weight's norm counts",
            "torch.linalg.vector_norm(torch.stack(found))",
            "found[-1]",
        ),
        Fault(
            "weights without a gradient stop the step",
            " if weight in norms]",
            "]",
        ),
        Fault(
            "the fused rate never changes",
            "            _set_rate(self._optimizers[weight], rate)\n",
            "",
        ),
    ],
    "tverase_core/finetuning/batches.py": [
        Fault("no picture is mirrored", "        if config.flip:\n", "        if False:\n"),
        Fault("pictures stand on their heads", "x0.flip(-1)", "x0.flip(-2)"),
        Fault("every picture is mirrored", "generator=source) < 0.5", "generator=source) < 1.5"),
        Fault(
            "pictures come again before all were seen",
            "torch.randperm(count, generator=source)",
            "torch.randint(count, (count,), generator=source)",
        ),
        Fault(
            "a part has another part's captions",
            "pictures.contexts_of(rows[part]).to(device)",
            "pictures.contexts_of(rows[: len(part)]).to(device)",
        ),
        Fault(
            "the seed is ignored",
            "torch.Generator().manual_seed(config.seed)",
            "torch.Generator().manual_seed(0)",
        ),
    ],
    "tverase_core/finetuning/config.py": [
        Fault(
            "the clean end is not left out",
            "schedule.drawn(count, source, self.least_noise)",
            "schedule.drawn(count, source)",
        ),
        Fault(
            "logit-normal sampling takes the clean end too",
            "generator=source), self.least_noise))",
            "generator=source)))",
        ),
        Fault("a rank trains biases too", "and (self.rank is None or axes >= 2)", ""),
        Fault("the cosine is ignored", 'if self.rate_schedule == "constant":', "if True:"),
        Fault(
            "the recipe leaves a setting out",
            'if f.name != "trainable"}',
            'if f.name not in ("trainable", "seed")}',
            ("tests/core/finetune", "tests/nodes/finetune/test_finetune.py"),
        ),
    ],
    "tverase_core/finetuning/average.py": [
        Fault(
            "the ramp is one step ahead",
            "(1 + updates) / (10 + updates)",
            "(2 + updates) / (11 + updates)",
        ),
        Fault("the average does not age", "        self.updates += 1", "        pass"),
        Fault(
            "old and new are swapped",
            "weight = 1 - ramp(self.updates)",
            "weight = ramp(self.updates)",
        ),
    ],
    "tverase_core/finetuning/retention.py": [
        Fault(
            "the weight of the retained loss is ignored",
            "yield config.retained_weight * error",
            "yield error",
        ),
        Fault("parts of the retained loss are summed", "* error / config.accumulation", "* error"),
        Fault(
            "kept under added deltas",
            "attachment.scale = signed_scale(strength)",
            "attachment.scale = -signed_scale(strength)",
        ),
        Fault(
            "every strength is the largest",
            "config.retained_strength * float(torch.rand((), generator=source))",
            "config.retained_strength * 1.0",
        ),
        Fault(
            "the target is the edited prediction", "                attachment.scale = 0.0\n", ""
        ),
        Fault(
            "the attachment is left subtracting",
            "    finally:\n        attachment.scale = 1.0",
            "    finally:\n        pass",
        ),
        Fault("no picture is shown without caption", "EMPTY_SHARE = 0.5", "EMPTY_SHARE = 0.0"),
        Fault(
            "every step draws the same",
            "(config.seed * 1_000_003 + step) % 2**32",
            "(config.seed * 1_000_003) % 2**32",
        ),
    ],
    "tverase_core/finetuning/guided_target.py": [
        Fault(
            "guidance away from the concept",
            "shown + guidance * (named - bare)",
            "shown - guidance * (named - bare)",
        ),
        Fault(
            "named and bare change places",
            "named, bare = denoiser",
            "bare, named = denoiser",
        ),
        Fault(
            "the target contains the deltas",
            "        attachment.scale = 0.0\n        # One call",
            "        # One call",
        ),
        Fault(
            "the attachment is left off",
            "    finally:\n        attachment.scale = 1.0",
            "    finally:\n        pass",
        ),
        Fault(
            "pictures under a third text get the contrast's prediction",
            "        if len(third):",
            "        if False:",
        ),
    ],
    "tverase_core/finetuning/low_rank.py": [
        Fault(
            "a rank beyond the matrix is not cut",
            "inner = min(rank, rows, columns)",
            "inner = rank",
        ),
        Fault(
            "the deltas do not start at zero",
            "torch.zeros(tall, device=device, requires_grad=True)",
            "torch.ones(tall, device=device, requires_grad=True)",
        ),
        Fault(
            "the seed is ignored",
            "torch.Generator().manual_seed(seed)",
            "torch.Generator().manual_seed(0)",
        ),
    ],
    "tverase_core/storage/training_state.py": [
        Fault(
            "a state of other work is taken",
            '    if metadata.get("tverase.job") != job:\n',
            "    if False:\n",
            ("tests/core/finetune", "tests/core/inversion"),
        ),
        Fault(
            "the moments are not restored",
            "state[learned[name]][kind] = value.to(device, copy=True)",
            "pass",
            ("tests/core/finetune", "tests/core/inversion"),
        ),
        Fault(
            "what was learned is not restored",
            "parameter.copy_(self.learned[name])",
            "pass",
            ("tests/core/finetune", "tests/core/inversion"),
        ),
        Fault(
            "half a state is taken",
            'if not known or not known <= groups["learned"].keys():',
            "if False:",
            ("tests/core/finetune", "tests/core/inversion"),
        ),
    ],
    "tverase_core/finetuning/memory_plan.py": [
        Fault(
            "AdamW has one moment",
            '"adamw": 8',
            '"adamw": 4',
        ),
        Fault(
            "the average takes no memory",
            "average = 4 * values if config.ema else 0",
            "average = 0",
        ),
    ],
}
