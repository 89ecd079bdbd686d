"""How much each timestep counts in the denoising loss."""

from __future__ import annotations

from torch import Tensor

from .schedule import NoiseSchedule


def min_snr_weight(schedule: NoiseSchedule, timesteps: Tensor, gamma: float) -> Tensor:
    """Min-SNR-gamma weight of the native loss, float64 [b], for timesteps int64 [b].

    arXiv 2303.09556, section 3.4: min(SNR, gamma) on the x0 loss, which is min(SNR, gamma) / SNR
    on the epsilon loss and min(SNR, gamma) / (SNR + 1) on the v loss; SNR = a / (1 - a). Pure
    noise (a = 0, zero terminal SNR) gets the limit: 1 for epsilon, 0 for v.
    """
    a = schedule.alphas_cumprod.to(timesteps.device)[timesteps]
    # min(SNR, gamma) * (1 - a), free of a division by zero at either end of the schedule.
    capped = a.minimum(gamma * (1 - a))
    if schedule.prediction == "v":
        return capped
    return (capped / a.clamp(min=1e-300)).where(a > 0, a.new_ones(()))
