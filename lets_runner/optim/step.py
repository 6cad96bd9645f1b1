"""What one step knows, what a step leaves behind, and who may listen in."""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lets_runner.optim.engine import vector
from lets_runner.optim.engine.host import Host, Mark, Plan
from lets_runner.optim.engine.vector import Vector

Closure = Callable[[], Tensor]
Batch = Closure | Sequence[Closure]  # of a whole batch, or of parts of equal size

# A gradient norm below this counts as zero: ρ divided by it would overflow.
SMALLEST_NORM = 1e-30


def mean_loss(losses: Tensor) -> Tensor:
    """Of what a closure returned: the mean already, or every example's loss."""
    return losses.mean() if losses.ndim else losses


@dataclass(eq=False)
class Step:
    """One step on its way, as the hooks of variants and radius rules see it; the vectors are gone `after_update`.

    Lists of tensors run over the parameters that have a gradient in this step; scalars are 0-dim tensors on the
    training device, nan until they are known.
    """

    closures: Sequence[Closure]  # one a microbatch
    host: Host
    mark: Mark  # of the random numbers that the first pass draws, and the perturbed one again
    loss: Tensor  # L(θ; B)
    gradient_norm: Tensor  # ‖g‖
    rho: Tensor  # the radius this step perturbs with; nan where it does not perturb
    val_loss: Tensor
    gap: Tensor
    hypergradient: Tensor  # dF/dρ
    params: Vector = ()
    gradient: Vector = ()  # g = ∇L(θ; B)
    losses: Sequence[Tensor] = ()  # at θ, of every microbatch: 0-dim, or of every example if the closure gives them
    direction: Vector | None = None  # d, with ε̂ = d / n; None where the step does not perturb
    direction_norm: Tensor | None = None  # n
    perturbed_loss: Tensor | None = None  # L(θ + ρε̂; B)
    perturbed_gradient: Vector | None = None  # g_s = ∇L(θ + ρε̂; B)
    descent: Vector | None = None  # what the base optimizer gets as gradient
    clip: tuple[Tensor, Tensor] | None = None  # its norm before clipping, and the factor that clipped it

    branch: Hashable | None = True  # what the host decided of the step by its number
    reduces: bool = True  # whether its passes give gradients of all processes, or of this one
    updated: bool = False  # whether the weights are θ_{t+1}

    @property
    def number(self) -> int:
        """Counts from 1. What depends on it is better asked of `planned`: a CUDA graph cannot repeat it otherwise."""
        return self.host.number

    def planned(self, plan: Plan) -> Any:
        """What `plan` makes of the step's number, a float or a list of them; in a CUDA graph as tensors."""
        return self.host.planned(plan)

    @property
    def perturbed(self) -> bool:
        return self.direction_norm is not None

    @property
    def moved(self) -> Tensor:
        """0-dim bool: the perturbation was not zero."""
        assert self.direction_norm is not None
        return self.direction_norm > SMALLEST_NORM

    def epsilon(self) -> Vector:
        """ρ ε̂, the perturbation; zero where the gradient is."""
        assert self.direction is not None and self.direction_norm is not None
        scale = torch.where(self.moved, self.rho / self.direction_norm, 0.0)
        return vector.scaled(self.direction, scale)

    def release_buffers(self) -> None:
        """Free what is as large as the network and has served: before the upper level makes gradients of its own."""
        self.gradient, self.direction, self.perturbed_gradient, self.descent = (), None, None, None


@dataclass(frozen=True)
class Last:
    """What the last step left behind: 0-dim tensors on the training device, nan where the step has none.

    With LETS and `upper_batch="next"`, `val_loss`, `gap` and `hypergradient` are those *completed* in this step;
    they belong to the update before it.
    """

    loss: Tensor  # L(θ_t; B), before the update
    val_loss: Tensor
    gap: Tensor  # validation loss minus training loss
    hypergradient: Tensor  # dF/dρ, with the raw gap
    rho: Tensor  # as it stands after the step
    rho_applied: Tensor  # the radius that the step perturbed with
    gradient_norm: Tensor  # ‖∇L(θ_t; B)‖


class Observer:
    """The moments of a step at which a radius rule may look and act. Here nobody does: ρ stays."""

    def before_perturbation(self, step: Step, val: Batch | None) -> None:
        """`step` knows L, g and ‖g‖; the weights are θ_t. The radius may still be moved."""

    def before_epsilon(self, step: Step) -> None:
        """`step` knows d and n too: the radius may still be moved. Called only in steps that perturb."""

    def while_perturbed(self, step: Step) -> None:
        """`step` knows ε̂, L⁺ and g_s too; the weights are θ_t + ρε̂. Called only in steps that perturb."""

    def before_update(self, step: Step, val: Batch | None) -> None:
        """The weights are θ_t again, and the base optimizer still has the state that it updates from."""

    def after_update(self, step: Step, val: Batch | None) -> None:
        """The weights are θ_{t+1}."""
