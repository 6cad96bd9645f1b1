"""Gap matching: keep the sharpness that SAM penalises at a fixed multiple of the present generalization gap.

This project's own rule, not a published one. It needs no hypergradient and no cap. Per step, with n the norm that
the variant's direction divides by, L = L(θ; B), L⁺ = L(θ + ρε̂; B), L_V the validation loss at θ (forward only), and
a bar for a bias-corrected moving average:

    S = max(L̄⁺ − L̄, mean(ρ n))             sharpness
    D = c (L̄_V − L̄)₊ + f (L₀ − L̄)₊          what it should be; L₀ is L̄ over the first steps
    δ = clip(log(D/S), −1, 1)              log ρ ← log ρ + (up · δ if δ > 0 else down · δ)

A ρ so large that nothing is learned closes the gap; then D vanishes and ρ falls, where a rule that minimises gap² would
stay. It fails where validation labels are cleaner than training labels: the gap is negative and ρ falls to its bound.
And it fails on images: with 12,000 of CIFAR-10, 40 % of their labels wrong, a ResNet-18 ended at 20.6 % from ρ = 0.05
and at 11.4 % from 0.2 (50 epochs, one seed), where SGD has 58.4 %; the gradient vanishes with what was learned, and ρ
runs away. Over ASAM it came to 65.8 %. Horizon LETS (`horizon`) ties ρ to the progress of the loss instead.
"""

import torch
from torch import Tensor

from lets_runner.optim.engine.scalar import Ema
from lets_runner.optim.rules.matching import Matching
from lets_runner.optim.rules.radius import checked_every
from lets_runner.optim.sam import SAM
from lets_runner.optim.step import Batch, Step


class GapMatching(Matching):
    """Moves ρ of any SAM variant; costs SAM's two gradient evaluations and a validation forward pass.

    Args:
        sam: the variant; its ρ is where the rule starts.
        c: sharpness wanted per generalization gap.
        f: sharpness wanted per progress of the training loss since the start; keeps ρ alive while the gap is 0.
        up: how far log ρ may rise in a step.
        down: how far it may fall.
        ema: decay of the averages per step.
        every: look at a validation batch in every `every`-th of the steps that perturb only.
        bounds: of ρ.

    Raises:
        ValueError: an option out of its range, a start outside the bounds; in `step`, no validation closure.
    """

    remembers = (*Matching.remembers, "_val_loss")
    graphable = True

    def __init__(
        self,
        sam: SAM,
        *,
        c: float = 3.0,
        f: float = 0.02,
        up: float = 0.1,
        down: float = 0.5,
        ema: float = 0.95,
        every: int = 1,
        bounds: tuple[float, float] = (1e-3, 20.0),
    ):
        super().__init__(sam, up=up, down=down, ema=ema, bounds=bounds)
        for name, value in {"c": c, "f": f}.items():
            if not value >= 0:
                raise ValueError(f"{name}={value}: must be at least 0")
        self.c, self.f = c, f
        self.every = checked_every(every)
        self._val_loss = Ema(ema**every, self.device)  # so that it looks back as many steps as the others

    @property
    def needs_validation(self) -> bool:
        return self.sam.uses_radius

    def branch(self, number: int) -> bool:
        return self.sam.perturbed_steps % self.every == 0  # whether it validates, should the step perturb

    def observe(self, step: Step, val: Batch | None) -> None:
        if (self.sam.perturbed_steps - 1) % self.every == 0:
            step.val_loss = self.sam.evaluate(self._validation(val))
            self.sam.check("validation", step, step.val_loss)
            step.gap = step.val_loss - step.loss
            self._val_loss.update(step.val_loss, self._teaches(step) & torch.isfinite(step.val_loss))

    def wanted(self) -> Tensor:
        gap = (self._val_loss.mean - self._loss.mean).clamp(min=0)
        return self.c * gap + self.f * self.progress()
