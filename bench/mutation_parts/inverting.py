"""Faults in the search for embeddings."""

from __future__ import annotations

from .fault import Fault

INVERTING: dict[str, list[Fault]] = {
    "tverase_core/inversion/engine.py": [
        Fault(
            "timesteps have no strata",
            "(torch.arange(count) + torch.rand(count, generator=source)) / count",
            "torch.rand(count, generator=source)",
        ),
        Fault(
            "all inversions draw alike",
            "manual_seed(_mix(seed, purpose))",
            "manual_seed(_mix(self.config.seed, purpose))",
        ),
        Fault("diversity is ignored", "        if config.diversity:\n", "        if False:\n"),
        Fault(
            "diversity pulls together",
            "torch.autograd.backward(config.diversity * self",
            "torch.autograd.backward(-config.diversity * self",
        ),
        Fault(
            "losses are averaged over the set",
            "torch.autograd.backward(loss.sum())",
            "torch.autograd.backward(loss.mean())",
        ),
        Fault(
            "final losses are on one piece of the draws",
            "* len(piece) / config.judged_draws",
            "* len(piece) / len(piece)",
        ),
        Fault("a state of other size is taken", "            _check_state(state, config)\n", ""),
        Fault(
            "a restart has the same seeds", "start = 1000 * generation", "start = 0 * generation"
        ),
        Fault(
            "an infinite loss goes on",
            "bad = part[~torch.isfinite(loss.detach().cpu())].tolist()",
            "bad = part[:0].tolist()",
        ),
        Fault(
            "vectors leave their interval",
            "        vectors[tower].copy_(held)",
            "        held.shape",
        ),
        Fault("the rate does not fall", "config.rate(step), space)", "config.rate(1), space)"),
        Fault("gradients of earlier steps stay", "    optimizer.zero_grad()\n", ""),
        Fault(
            "pictures are shown under another inversion's embedding",
            "{t: value[owners] for t, value in vectors.items()}, told)",
            "{t: value[owners * 0] for t, value in vectors.items()}, told)",
        ),
        Fault(
            "a resumed run begins at the first step",
            "done, history = state.step, state.losses",
            "done, history = 0, state.losses",
        ),
    ],
    "tverase_core/inversion/config.py": [
        Fault(
            "a floor above the cap passes",
            "        if self.cosine_floor > self.cosine_cap:\n",
            "        if False:\n",
        ),
    ],
    "tverase_core/inversion/cosines.py": [
        Fault("the cap is ignored", "(found - cap).clamp_min(0)", "found.clamp_min(0)"),
        Fault("the floor is ignored", " + (floor - found).clamp_min(0)", ""),
        Fault("an inversion is pushed from itself", "outside.masked_fill(own, 0)", "outside"),
        Fault(
            "the far edge of the interval is chosen",
            "cosine.clamp(low.double() + margin, high.double() - margin)",
            "cosine.clamp(low.double() + margin, low.double() + margin)",
        ),
        Fault("the norm is not held", "(direction * norm)", "(direction * 1.0)"),
    ],
    "tverase_core/inversion/diverse.py": [
        Fault("one hit is enough", "valid=hit_rates >= validation.needed", "valid=hit_rates > 0"),
        Fault(
            "a blind judge is not noticed",
            "    check_judge(validation.sampler,",
            "    (lambda *_: None)(validation.sampler,",
        ),
        Fault(
            "restarted ones take another's place",
            "seeds=put(found.seeds, retried.seeds)",
            "seeds=found.seeds",
        ),
        Fault("failed ones are kept", "kept = found.only_valid()", "kept = found"),
        Fault(
            "restarts never happen",
            "for generation in range(1, validation.rounds + 1):",
            "for generation in range(1, validation.rounds):",
        ),
    ],
    "tverase_core/inversion/inversion_set.py": [
        Fault(
            "tuning and held-out ones overlap",
            "self.subset(sorted(order[cut:]))",
            "self.subset(sorted(order[cut - 1 :]))",
        ),
        Fault(
            "all embeddings tune", "len(self) - 1)\n        return", "len(self))\n        return"
        ),
        Fault(
            "another text encoder is taken",
            "if encoder_digest(encoder) != self.text_encoder:",
            "if False:",
        ),
        Fault(
            "invalid ones are kept",
            "rows = self.valid.nonzero()[:, 0].tolist()",
            "rows = list(range(len(self)))",
        ),
    ],
    "tverase_core/inversion/files.py": [
        Fault(
            "the text encoder's output is no part of the job",
            "        hashlib.sha256(tensor_bytes(seen.float().cpu())).hexdigest(),\n",
            "",
        ),
        Fault(
            "an embedding may leave its folder",
            "if not stem or not all(",
            "if not stem or not any(",
        ),
        Fault(
            "a language model's embedding has CLIP's key",
            'f"clip_{tower}" if len(tower) == 1 else tower',
            'f"clip_{tower}"',
        ),
        Fault("a name runs into the words after it", ' else " "', ' else ""'),
    ],
    "tverase_core/inversion/space.py": [
        Fault("rows of zeros are starts", "usable[chosen.to(usable.device)]", "chosen"),
        Fault("several vectors have the norm of one", "* config.vectors**0.5", "* 1.0"),
        Fault(
            "all inversions start alike",
            "source = torch.Generator().manual_seed(seed)",
            "source = torch.Generator().manual_seed(0)",
        ),
    ],
}
