"""Randomized sharpness-aware training: toss a coin in every step between SAM and the base optimizer.

Zhao, Zhang, Hu, *Randomized Sharpness-Aware Training for Boosting Computational Efficiency in Deep Learning* (also
SS-SAM), 2022 (arXiv 2203.09962): SAM with probability p_t, where p_t is constant or follows the progress s = t/T,

    linear          p_t = p + (p_end − p) s
    trigonometric   p_t = p_end + (p − p_end) (1 + cos πs)/2
"""

import math
import random
from typing import Any, Literal

from torch.optim import Optimizer

from lets_runner.optim.sam import SAM


class RST(SAM):
    """SAM in a random share of the steps; see `SAM` for how to use it.

    Args:
        p: the probability of perturbing, at the start.
        schedule: "constant", "linear" or "trigonometric".
        p_end: the probability at the end; a constant one has none.
        total_steps: steps of the whole training, for the schedules.
        seed: of the coin. A step's toss depends on it and on the step's number alone.
    """

    graphable = True

    def __init__(
        self,
        base: Optimizer,
        rho: float = 0.05,
        *,
        p: float = 0.5,
        schedule: Literal["constant", "linear", "trigonometric"] = "constant",
        p_end: float = 1.0,
        total_steps: int | None = None,
        seed: int = 0,
        **settings: Any,
    ):
        for name, value in {"p": p, "p_end": p_end}.items():
            if not 0 <= value <= 1:
                raise ValueError(f"{name}={value}: a probability lies in [0, 1]")
        if schedule not in ("constant", "linear", "trigonometric"):
            raise ValueError(f"schedule={schedule}: must be constant, linear or trigonometric")
        if schedule != "constant" and total_steps is None:
            raise ValueError(f"schedule={schedule} needs total_steps, the number of training steps")
        super().__init__(base, rho, **settings)
        self.p, self.p_end, self.schedule, self.total_steps, self.seed = p, p_end, schedule, total_steps, seed

    def probability(self, number: int) -> float:
        """p_t of the step with this number, counted from 1."""
        if self.schedule == "constant":
            return self.p
        assert self.total_steps is not None
        progress = min(1.0, (number - 1) / self.total_steps)
        if self.schedule == "linear":
            return self.p + (self.p_end - self.p) * progress
        return self.p_end + (self.p - self.p_end) * (1 + math.cos(math.pi * progress)) / 2

    def branch(self, number: int) -> bool:
        return random.Random(f"{self.seed} {number}").random() < self.probability(number)
