"""Loss matching: keep the rise of the loss inside the ball in proportion to the progress made so far.

This project's own rule, the runner-up to gap matching; it needs no validation data. With a bar for a bias-corrected
moving average, L = L(θ; B), L⁺ = L(θ + ρε̂; B), and L₀ what L̄ was over the first steps:

    S = max(L̄⁺ − L̄, mean(ρ n))      D = h (L₀ − L̄)₊
    δ = clip(log(D/S), −1, 1)        log ρ ← log ρ + (up · δ if δ > 0 else down · δ)
"""

from torch import Tensor

from lets_runner.optim.rules.matching import Matching
from lets_runner.optim.sam import SAM


class LossMatching(Matching):
    """Moves ρ of any SAM variant; costs SAM's two gradient evaluations and nothing more.

    Args:
        sam: the variant; its ρ is where the rule starts.
        h: sharpness wanted per progress of the training loss since the start.
        up: how far log ρ may rise in a step.
        down: how far it may fall.
        ema: decay of the averages per step.
        bounds: of ρ.
    """

    graphable = True

    def __init__(
        self,
        sam: SAM,
        *,
        h: float = 0.25,
        up: float = 0.1,
        down: float = 0.5,
        ema: float = 0.95,
        bounds: tuple[float, float] = (1e-3, 20.0),
    ):
        super().__init__(sam, up=up, down=down, ema=ema, bounds=bounds)
        if not h >= 0:
            raise ValueError(f"h={h}: must be at least 0")
        self.h = h

    def wanted(self) -> Tensor:
        return self.h * self.progress()
