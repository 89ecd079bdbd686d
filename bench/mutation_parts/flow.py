"""Faults in how a network is opened, whatever its family."""

from __future__ import annotations

from .fault import Fault

FAMILIES = "tests/nodes/flow/test_families.py"
GUARDS = "tests/robustness/test_guards.py"
KINDS = "tests/nodes/flow/test_refusals.py"
REFUSALS = "tests/nodes/test_refusals.py"

FLOW: dict[str, list[Fault]] = {
    "nodes/host/network/schedule.py": [
        Fault(
            "a kind of prediction that is not known is taken for epsilon",
            'host.V_PREDICTION: "v"}.get(kind)',
            'host.V_PREDICTION: "v"}.get(kind, "epsilon")',
            (REFUSALS,),
        ),
        Fault(
            "other timesteps are taken for these",
            "if not torch.equal(steps, torch.arange(len(sigmas), dtype=torch.float64)):",
            "if False:",
            (REFUSALS,),
        ),
        Fault(
            "alphas are of another form",
            "(1 / (1 + sigmas.double().cpu() ** 2))",
            "(1 / (1 + sigmas.double().cpu()))",
            (REFUSALS,),
        ),
        Fault(
            "an exchanged schedule is taken for the model's own",
            "    if _is_flow(model.model.model_sampling):\n",
            "    if False:\n",
            (KINDS,),
        ),
        Fault(
            "the network is told the level, not its own time",
            "sampling.timestep(_sigma(sampling, timesteps))",
            "timesteps",
            (FAMILIES,),
        ),
        Fault(
            "Cosmos' levels are taken for flow's", "return levels / (1 - levels)", "return levels"
        ),
        Fault(
            "the shift is left out",
            "FlowSchedule(middle / (1 - middle))",
            "FlowSchedule()",
            (FAMILIES,),
        ),
    ],
    "nodes/host/network/backward.py": [
        Fault(
            "blocks write in place into what is saved",
            "            return instead(*args)\n",
            "            pass\n",
            (FAMILIES,),
        ),
        Fault(
            "kernels that newer hosts call in training too stay fused",
            'if not str(func).startswith("comfy_kitchen."):',
            "if True:",
            harmless="ComfyUI 0.3.75 has none; on 0.33.0 the families' tests see it",
        ),
        Fault(
            "newer hosts compute with their fused kernels",
            "            host.in_training = True\n",
            "            pass\n",
            harmless="ComfyUI 0.3.75 has none; on 0.33.0 the families' tests see it",
        ),
        Fault(
            "the host stays in training",
            "            host.in_training = before",
            "            pass",
            harmless="ComfyUI 0.3.75 has no such switch; on 0.33.0 the families' tests see it",
        ),
    ],
    "nodes/host/network/loose.py": [
        Fault(
            "modules stay covered",
            "            module.__class__ = kind\n",
            "            pass\n",
            (FAMILIES,),
        ),
        Fault(
            "the change is not read",
            "    return change(stored) if acts() else stored",
            "    return stored",
            (FAMILIES,),
        ),
        Fault(
            "the patcher keeps what notices",
            "            vars(patcher).pop(name, None)\n",
            "            pass\n",
            (GUARDS,),
        ),
        Fault(
            "a load that fails goes on for ever",
            "                depth -= 1\n",
            "                pass\n",
            (GUARDS,),
        ),
    ],
    "nodes/host/network/latents.py": [
        Fault(
            "pictures have no axis of time",
            "return latents.unsqueeze(2) if has_time(model) else latents",
            "return latents",
            (FAMILIES,),
        ),
    ],
    "nodes/host/network/kinds.py": [
        Fault(
            "an inpainting model is taken",
            "    if taken != wanted or extra:\n",
            "    if False:\n",
            (REFUSALS,),
        ),
        Fault("a video model is taken", '        drawn = "videos"', "        pass", (KINDS,)),
    ],
}
