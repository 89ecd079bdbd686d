"""Faults in what measures and chooses: judges, statistics, strength, masks."""

from __future__ import annotations

from .fault import Fault

CHOOSING: dict[str, list[Fault]] = {
    "tverase_core/judging/statistics.py": [
        Fault(
            "the interval is too narrow",
            "rate * (1 - rate) / n + z * z / (4 * n * n)",
            "rate * (1 - rate) / n",
        ),
        Fault(
            "the rate is not moved to the middle",
            "(rate + z * z / (2 * n)) / (1 + z * z / n)",
            "rate",
        ),
        Fault(
            "no picture gives a sure rate",
            "return Interval(0.0, 1.0)\n    rate",
            "return Interval(0.0, 0.0)\n    rate",
        ),
        Fault(
            "pairs are torn apart",
            "after += rows_after[picks].mean(1)",
            "after += rows_after[resampled(len(rows_after), resamples, source)].mean(1)",
        ),
        Fault(
            "the seed of a bootstrap is ignored",
            "torch.Generator().manual_seed(seed)",
            "torch.Generator().manual_seed(0)",
        ),
        Fault(
            "one end of the interval is lower",
            "[(1 - level) / 2, (1 + level) / 2]",
            "[(1 - level) / 2, level]",
        ),
    ],
    "tverase_core/judging/scoring.py": [
        Fault(
            "half a judge's answer is no hit",
            "HIT = 0.5",
            "HIT = 0.6",
            ("tests/core/judging", "tests/core/strength"),
        ),
        Fault(
            "a judge without an answer is taken",
            "if not bool(torch.isfinite(scores).all()):",
            "if False:",
        ),
        Fault("a judge that never fires is taken", "    if hits == 0:\n", "    if hits < 0:\n"),
    ],
    "tverase_core/judging/collapse_guard.py": [
        Fault("noise is no fault", "if row.roughness > self.most_roughness:", "if False:"),
        Fault("a pale picture is no fault", "if row.spread < self.least_spread:", "if False:"),
        Fault("a flat picture is no fault", "if row.spread <= self.flat:", "if row.spread < 0:"),
        Fault(
            "one broken picture is a collapse",
            "len(broken) <= share * len(reasons)",
            "len(broken) < 1",
        ),
        Fault(
            "the share itself is a collapse",
            "len(broken) <= share * len(reasons)",
            "len(broken) < share * len(reasons)",
        ),
        Fault("pictures of NaN are whole", "if not row.finite:\n", "if False:\n"),
    ],
    "tverase_core/judging/measured_damage.py": [
        Fault(
            "edits are added, not subtracted",
            "attachment.scale = signed_scale(1.0)",
            "attachment.scale = 1.0",
        ),
        Fault(
            "the strength of an edit is ignored",
            "part = strength * delta.to(device, torch.float32)",
            "part = 1.0 * delta.to(device, torch.float32)",
        ),
        Fault(
            "a pruned weight goes twice",
            "            elif number in pruned:",
            "            elif False:",
        ),
        Fault("a blind judge is not noticed", "if 2 * k < pictures", "if k < 0"),
        Fault(
            "seeds of later batches repeat",
            "range(seed + i, seed + min(i + at_once, pictures))",
            "range(seed, seed + min(i + at_once, pictures) - i)",
        ),
        Fault(
            "damage has the wrong sign",
            "return 1 - torch.tensor(self.after",
            "return torch.tensor(self.after",
        ),
    ],
    "tverase_core/judging/prototype_judge.py": [
        Fault(
            "the direction points to the others",
            "direction = yes.mean(0) - no.mean(0)",
            "direction = no.mean(0) - yes.mean(0)",
        ),
        Fault(
            "an example judges itself",
            "return (rows.sum(0) - rows) / (len(rows) - 1)",
            "return rows.mean(0).expand_as(rows)",
        ),
        Fault(
            "examples that do not tell are taken",
            "if apart <= 0 or fired < NEEDED or silent < NEEDED:",
            "if False:",
        ),
        Fault(
            "a judge that fires on everything is taken",
            "fired < NEEDED or silent < NEEDED:",
            "fired < NEEDED:",
        ),
        Fault(
            "features are not of length 1",
            "found / found.norm(dim=1, keepdim=True).clamp_min(1e-12)",
            "found / 1.0",
        ),
    ],
    "tverase_core/strength/curve.py": [
        Fault(
            "the rate is judged, not its bound",
            "return wilson(hits, draws, self.z).high",
            "return hits / max(1, draws)",
        ),
        Fault(
            "one hit too many is allowed",
            "while hits < draws and self.upper(hits + 1, draws) <= self.target:",
            "while hits < draws and self.upper(max(hits, 0), draws) <= self.target:",
        ),
        Fault(
            "a lucky pass below a failure is taken",
            "first = max((i for i in whole if most[i] > limit), default=-1) + 1",
            "first = 0",
        ),
        Fault(
            "hits in broken pictures rule out weaker strengths",
            "if reason is None]\n    first",
            "]\n    first",
        ),
        Fault(
            "one trigger is enough",
            "        if all(\n            rule.upper",
            "        if any(\n            rule.upper",
        ),
        Fault("the strongest is chosen", "row = rows[0]", "row = rows[-1]"),
        Fault(
            "broken pictures are chosen",
            "    if curve.collapsed[row] is not None:\n",
            "    if False:\n",
        ),
        Fault("the retained budget is ignored", "or ratio < rule.budget:", "or ratio < 0:"),
        Fault(
            "the retained rate is not relative",
            "return here / base if base > 0 else None",
            "return here if base > 0 else None",
        ),
        Fault(
            "the worst trigger is the best",
            "return max(rows, key=lambda r: (r.rate, r.high), default=None)",
            "return min(rows, key=lambda r: (r.rate, r.high), default=None)",
        ),
        Fault(
            "the grid stops short",
            "math.floor(maximum / step + 1e-9)",
            "math.floor(maximum / step - 1e-9)",
        ),
    ],
    "tverase_core/strength/measurement.py": [
        Fault(
            "the guard's answer is thrown away",
            "return collapse_reason([guard.reason(row) for row in rows], self._collapse_share)",
            "return None",
        ),
        Fault(
            "deltas are added, not subtracted",
            "self._attachment.scale = signed_scale(strength)",
            "self._attachment.scale = strength",
        ),
        Fault("a picture is drawn twice", "if key not in self._hits]", "if key]"),
        Fault(
            "broken pictures are shown to the judge",
            "if s.finite and names[i] == name]",
            "if names[i] == name]",
        ),
        Fault(
            "a score at the limit is no hit",
            "fired[i] = score >= self._fires",
            "fired[i] = score > 0.95",
        ),
        Fault(
            "every retained prompt is judged by the first's concept",
            "[names[row] for row, _ in missing])",
            "[names[0] for row, _ in missing])",
        ),
        Fault(
            "the guard measures with the edited pictures",
            'base = self._pictures.get(("retained", 0.0), [])',
            "base = rows",
        ),
        Fault(
            "broken trigger pictures count as erased",
            'return "trigger pictures are not finite"',
            "pass",
        ),
    ],
    "tverase_core/strength/search.py": [
        Fault(
            "one hit too many is let pass",
            "if sum(self.hits[index, trigger]) > limit:",
            "if sum(self.hits[index, trigger]) > limit + 1:",
        ),
        Fault(
            "a strength is confirmed with the first seeds alone",
            "test(ceiling, full)",
            "test(ceiling, probe)",
        ),
        Fault(
            "the search takes the first strength that passes",
            "elif ceiling - rejected > 1:",
            "elif ceiling - rejected > 99:",
        ),
        Fault(
            "a collapse does not end the search",
            "if self.passes(index, count) or self.collapsed(index) is not None:",
            "if self.passes(index, count):",
        ),
        Fault(
            "seeds are drawn again",
            "self.config.seeds[len(self.hits.get((index, trigger), [])) : count]",
            "self.config.seeds[:count]",
        ),
        Fault(
            "a blind judge is not noticed",
            "    if not any(sum(cell) for (i, _), cell in search.hits.items() if i == 0):\n",
            "    if False:\n",
        ),
        Fault(
            "a judge blind to what is retained is not noticed",
            "    if not any(any(cell) for cell in search.kept.values()):\n",
            "    if False:\n",
        ),
        Fault(
            "a broken strength is within the budget",
            "ratio >= self.rule.budget and curve.collapsed[row] is None",
            "ratio >= self.rule.budget",
        ),
        Fault(
            "the end kept is the one that breaks the budget",
            "low, high = (middle, high) if self.within_budget(middle) else (low, middle)",
            "low, high = (low, middle) if self.within_budget(middle) else (middle, high)",
        ),
        Fault(
            "retained prompts are drawn anew for each question",
            "            if (index, prompt) not in self.kept\n",
            "",
        ),
        Fault(
            "the guess is ignored", "config.grid.nearest(config.guess)", "config.grid.nearest(0.0)"
        ),
    ],
    "tverase_core/strength/verify.py": [
        Fault(
            "passed by the worst rate, not its bound",
            "passed=worst_high <= choice.rule.target",
            "passed=max(r.rate for r in triggers) <= choice.rule.target",
        ),
        Fault(
            "the retained budget is not checked",
            "and ratio >= choice.rule.budget",
            "and ratio >= 0",
        ),
        Fault("broken pictures pass", "        and collapsed is None,\n", ","),
        Fault(
            "seeds of the tuning are taken",
            "shared = set(seeds) & set(choice.seeds) |",
            "shared =",
        ),
        Fault("a seed may come twice", "if shared or twice or", "if shared or"),
        Fault(
            "the best bound decides",
            "worst_high = max(r.high for r in triggers)",
            "worst_high = min(r.high for r in triggers)",
        ),
        Fault(
            "the retained rate is not relative",
            'ratio = sum(r.rate for r in rows["retained", strength]) / kept_base',
            'ratio = sum(r.rate for r in rows["retained", strength]) / p',
        ),
        Fault(
            "a row has another's pictures",
            "(hits[i * size : (i + 1) * size] for i in range(count))",
            "(hits[:size] for i in range(count))",
        ),
    ],
    "tverase_core/checks.py": [
        Fault("seeds may repeat", "len(set(value)) == len(value)", "True"),
        Fault("a rate may be zero", "lambda value: 0 < value < math.inf", "lambda value: True"),
        Fault("only the first problem is told", '"; ".join(problems)', "problems[0]"),
        Fault("what settings share is not asked", "    problems += more\n", ""),
    ],
    "tverase_core/strength/choice.py": [
        Fault(
            "too few seeds are taken",
            "self.rule.most_hits(len(self.seeds)) < 0:",
            "self.rule.most_hits(len(self.seeds)) < -1:",
        ),
        Fault(
            "no strength is strength zero",
            "        if self.strength is None:\n",
            "        if False:\n",
        ),
    ],
    "tverase_core/masks/probe.py": [
        Fault(
            "the probe covers the whole schedule",
            "0.1 + 0.8 * (torch.arange",
            "0.0 + 1.0 * (torch.arange",
        ),
        Fault(
            "the probe's seed is ignored",
            "torch.Generator().manual_seed(seed)",
            "torch.Generator().manual_seed(0)",
        ),
        Fault(
            "every context is the first",
            "torch.full((len(times),), row, device",
            "torch.full((len(times),), 0, device",
        ),
        Fault("latents are not repeated in turn", "% len(latents)]", "* 0]"),
    ],
    "tverase_core/masks/ranking.py": [
        Fault(
            "blocks are ranked by gain alone",
            "ratio = tuple(g / max(d, floor) for g, d in alone)",
            "ratio = tuple(g for g, d in alone)",
        ),
        Fault(
            "the worst comes first", "key=lambda i: (-ratio[i], i)", "key=lambda i: (ratio[i], i)"
        ),
        Fault(
            "the deltas are added",
            "attachment.scale = signed_scale(strength)",
            "attachment.scale = strength",
        ),
        Fault(
            "the subset is one block short",
            "for i, gain in enumerate(gains, 1)",
            "for i, gain in enumerate(gains, 0)",
        ),
        Fault("a mask has one pattern of any length", "if together and len(", "if False and len("),
        Fault("a vector that erases nothing is ranked", "    if whole <= 0:\n", "    if False:\n"),
        Fault("the fraction is ignored", "if gain >= config.fraction * whole)", "if gain >= 0)"),
        Fault(
            "damage is measured on the concept",
            "keeping = DenoiseProbe.draw(retained_latents,",
            "keeping = DenoiseProbe.draw(concept_latents,",
        ),
        Fault(
            "the mask lets other kinds through",
            "other_blocks=0.0, other_kinds=0.0)",
            "other_blocks=1.0, other_kinds=1.0)",
        ),
    ],
}
