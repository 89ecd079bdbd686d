"""How a MODEL's noise rises, read off its `model_sampling`, and the time its network is told."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import comfy.model_sampling
import torch

from ....tverase_core.errors import BaseMismatchError
from ....tverase_core.schedule import FlowSchedule, NoiseSchedule, Schedule

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher

_WHAT_TRAINS = (
    "Training knows epsilon and v prediction at the timesteps of Stable Diffusion 1.x, 2.x and XL, "
    "and flow matching. If a node such as ModelSamplingDiscrete stands between the loader and "
    "here, take it out or choose what the model was trained for in it. Applying and extracting "
    "vectors works for this model."
)
_PREDICTIONS = {
    "EPS": "epsilon",
    "V_PREDICTION": "v",
    **dict.fromkeys(("FLOW", "FLUX", "FLOW_COSMOS"), "flow"),
}
_PROBED = (0.1, 0.25, 0.75, 0.9)  # shares of the schedule at which a shift must hold


def schedule_of(model: ModelPatcher) -> Schedule:
    """The MODEL's schedule. Nodes such as ModelSamplingSD3 or ModelSamplingDiscrete exchange the
    object that it is read off, and the model's `model_type` stays what it was.

    Raises BaseMismatchError for models that predict neither epsilon nor v nor a flow, for flow
    models whose object was exchanged for another kind, and for unknown timesteps.
    """
    sampling = model.get_model_object("model_sampling")
    if _is_flow(sampling):
        return _flow(sampling)
    if _is_flow(model.model.model_sampling):
        raise BaseMismatchError(
            "This is a flow-matching model, but a node such as ModelSamplingDiscrete has exchanged "
            f"its sampling for {_denoises(sampling).__name__}. Take that node out; "
            "ModelSamplingSD3, ModelSamplingAuraFlow and ModelSamplingFlux may stay."
        )
    return _noise(sampling)


def prediction_of(model: ModelPatcher) -> str:
    """What the loaded checkpoint predicts: "epsilon", "v", "flow", or "" for anything else.

    A ModelSampling node on the MODEL changes nothing here: the weights are the same.
    """
    return _PREDICTIONS.get(model.model.model_type.name, "")


def network_times(model: ModelPatcher, schedule: Schedule, timesteps: torch.Tensor) -> torch.Tensor:
    """What the network is told at these timesteps of `schedule_of` [b], float32 [b]."""
    if not isinstance(schedule, FlowSchedule):
        return timesteps.float()
    sampling = model.get_model_object("model_sampling")
    told: torch.Tensor = sampling.timestep(_sigma(sampling, timesteps))
    return told.float()


def _sigma(sampling: Any, levels: torch.Tensor) -> torch.Tensor:
    """The host's own number for a noise level: Cosmos' counts as x0 + sigma noise, scaled."""
    if _denoises(sampling) is comfy.model_sampling.CONST:
        return levels
    return levels / (1 - levels)


def _is_flow(sampling: Any) -> bool:
    host = comfy.model_sampling
    kinds = (host.CONST, getattr(host, "COSMOS_RFLOW", None))  # since ComfyUI 0.3.41
    return _denoises(sampling) in kinds and _defining(sampling, "calculate_input") in kinds


def _flow(sampling: Any) -> FlowSchedule:
    """By the level at the middle of the schedule: s = a / (1 + a) for a shift of a, which is
    exp(mu) for Flux's. Raises BaseMismatchError for levels that no shift gives."""
    if _denoises(sampling) is not comfy.model_sampling.CONST:
        sigma = float(sampling.sigma_max)
        return FlowSchedule(most=sigma / (1 + sigma))
    middle = float(sampling.percent_to_sigma(0.5))
    if 0 < middle < 1:
        schedule = FlowSchedule(middle / (1 - middle))
        levels = [float(sampling.percent_to_sigma(1 - share)) for share in _PROBED]
        foretold = schedule.at(torch.tensor(_PROBED))
        if torch.allclose(foretold, torch.tensor(levels), atol=1e-4):
            return schedule
    raise BaseMismatchError(
        f"This flow-matching model has noise levels that no shift gives ({middle:g} at the middle "
        f"of its schedule). {_WHAT_TRAINS}"
    )


def _noise(sampling: Any) -> NoiseSchedule:
    """alphas_cumprod = 1 / (1 + sigma^2) (arXiv 2206.00364, appendix C)."""
    host = comfy.model_sampling
    # Who defines the method, not who inherits it: X0 and LCM are kinds of EPS, EDM is one of V.
    kind = _denoises(sampling)
    name = {host.EPS: "epsilon", host.V_PREDICTION: "v"}.get(kind)
    plain = _defining(sampling, "calculate_input") is host.EPS
    if name is None or not plain or getattr(sampling, "sigma_data", 1.0) != 1.0:
        raise BaseMismatchError(f"This model predicts {kind.__name__.lower()}. {_WHAT_TRAINS}")
    sigmas = sampling.sigmas.detach()
    steps = sampling.timestep(sigmas).cpu().double()
    if not torch.equal(steps, torch.arange(len(sigmas), dtype=torch.float64)):
        raise BaseMismatchError(
            f"This model's {len(sigmas)} noise levels lie at the timesteps {float(steps[0]):g} to "
            f"{float(steps[-1]):g}, not at 0 to {len(sigmas) - 1}. {_WHAT_TRAINS}"
        )
    return NoiseSchedule((1 / (1 + sigmas.double().cpu() ** 2)).clone(), name)


def _denoises(sampling: Any) -> type:
    return _defining(sampling, "calculate_denoised")


def _defining(thing: Any, method: str) -> type:
    """The class whose version of the method it has."""
    kinds = type(thing).__mro__
    return next((kind for kind in kinds if method in vars(kind)), kinds[0])
