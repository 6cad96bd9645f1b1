"""AE-SAM: perturb where the gradient is unusually large, and take the base optimizer's step elsewhere.

Jiang, Yang, Zhang, Kwok, *An Adaptive Policy to Employ Sharpness-Aware Minimization*, ICLR 2023 (arXiv 2304.14647).
With t from 0 over T steps, the squared gradient norm is followed by

    μ_t = δ μ + (1−δ)‖g‖²      σ²_t = δ σ² + (1−δ)(‖g‖² − μ_t)²      c_t = (t/T) λ₁ + (1 − t/T) λ₂

and a step is SAM's where ‖g‖² ≥ μ_t + c_t σ_t.

Both averages start at 0. So the first steps perturb whatever λ₂ up to 1 says: seven of them with δ = 0.9 if ‖g‖ stays
the same. `corrected` has μ_t/(1−δᵗ) and σ²_t/(1−δᵗ) in place of μ_t and σ²_t, t from 1, as Adam has for its averages;
then only the first step perturbs in any case. What the authors start from is unverified: no program of theirs was
found.
"""

import math
from typing import Any

from torch.optim import Optimizer

from lets_runner.optim.engine.state import Stateful
from lets_runner.optim.sam import SAM
from lets_runner.optim.step import Step
from lets_runner.optim.variants.looksam import LookSAM


class Trigger(Stateful):
    """Says of every step whether ‖g‖² is large for its time. Whether to make a second pass is the host's to know: on
    an accelerator each step waits for this one answer.

    Args:
        total_steps: T.
        lambda1, lambda2: c_t goes from λ₂ to λ₁.
        delta: δ, the decay of both averages.
        corrected: divide both by 1 − δᵗ, so that they are averages from the first step on.
    """

    remembers = ("mean", "variance", "weight")

    def __init__(self, total_steps: int, lambda1: float, lambda2: float, delta: float, corrected: bool):
        if not isinstance(total_steps, int) or total_steps < 1:
            raise ValueError(f"total_steps={total_steps}: must be a whole number of at least 1")
        if not 0 <= delta < 1:
            raise ValueError(f"delta={delta}: must lie in [0, 1)")
        if math.isnan(lambda1) or math.isnan(lambda2):
            raise ValueError(f"lambda1={lambda1}, lambda2={lambda2}: must be numbers")
        self.total_steps, self.lambda1, self.lambda2, self.delta = total_steps, lambda1, lambda2, delta
        self.corrected = corrected
        self.mean = 0.0  # μ, corrected if that is asked for
        self.variance = 0.0  # σ², likewise
        self.weight = 0.0 if corrected else 1.0  # 1 − δᵗ, or no correction

    def fires(self, step: Step) -> bool:
        square = float(step.gradient_norm) ** 2
        if not math.isfinite(square):
            return False  # the step will be skipped, and the averages must outlive it
        before = self.weight
        if self.corrected:
            self.weight = self.delta * before + (1 - self.delta)
        old, new = self.delta * before / self.weight, (1 - self.delta) / self.weight
        self.mean = old * self.mean + new * square
        self.variance = old * self.variance + new * (square - self.mean) ** 2
        progress = min(1.0, (step.number - 1) / self.total_steps)
        c = _between(self.lambda2, self.lambda1, progress)
        return square >= (self.mean + c * math.sqrt(self.variance) if math.isfinite(c) else c)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict({"weight": 1.0, **state})  # states from before there was a correction have no weight


def _between(start: float, end: float, progress: float) -> float:
    """From `start` to `end`; infinite ends count for nothing where their share is nothing."""
    return (start * (1 - progress) if progress < 1 else 0.0) + (end * progress if progress > 0 else 0.0)


class AESAM(SAM):
    """SAM in the steps that its trigger picks; see `SAM` for how to use it, `Trigger` for the settings.

    With λ₁ = −1 and λ₂ = 1 few steps perturb at the beginning and most at the end.
    """

    remembers = (*SAM.remembers, "_trigger")

    def __init__(
        self,
        base: Optimizer,
        rho: float = 0.05,
        *,
        total_steps: int,
        lambda1: float = -1.0,
        lambda2: float = 1.0,
        delta: float = 0.9,
        corrected: bool = False,
        **settings: Any,
    ):
        super().__init__(base, rho, **settings)
        self._trigger = Trigger(total_steps, lambda1, lambda2, delta, corrected)

    def branch(self, number: int) -> None:
        return None

    def perturbs(self, step: Step) -> bool:
        return self._trigger.fires(step)


class AELookSAM(LookSAM):
    """LookSAM whose perturbed steps are picked by AE-SAM's trigger in place of every k-th; g_v is reused between."""

    remembers = (*LookSAM.remembers, "_trigger")

    def __init__(
        self,
        base: Optimizer,
        rho: float = 0.05,
        *,
        total_steps: int,
        alpha: float = 0.7,
        lambda1: float = -1.0,
        lambda2: float = 1.0,
        delta: float = 0.9,
        corrected: bool = False,
        **settings: Any,
    ):
        super().__init__(base, rho, alpha=alpha, **settings)
        self._trigger = Trigger(total_steps, lambda1, lambda2, delta, corrected)

    def branch(self, number: int) -> None:
        return None

    def perturbs(self, step: Step) -> bool:
        return self._trigger.fires(step)
