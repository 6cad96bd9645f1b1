"""ρ · d g_s/dρ = ρ H(θ + ρε̂) ε̂, three ways: how the perturbed gradient answers to log ρ.

diag     g_s² ⊙ ρε̂      the diagonal of the empirical Fisher matrix for H; no extra pass
secant   g_s − g         the slope of the chord from θ to θ + ρε̂; no extra pass, and ρ cancels
exact    a Hessian-vector product at θ + ρε̂; one more forward pass and two backward passes
"""

from abc import ABC, abstractmethod

from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from lets_runner.optim.engine import vector
from lets_runner.optim.engine.vector import Vector
from lets_runner.optim.sam import SAM
from lets_runner.optim.step import Step


class Curvature(ABC):
    """Looks at every perturbed pass of a step (most variants make one) and averages what it saw."""

    def __init__(self) -> None:
        self._seen: list[tuple[Vector, Vector]] = []  # parameters and what was seen of them

    @abstractmethod
    def of(self, sam: SAM, step: Step) -> Vector:
        """ρ · d g_s/dρ as new tensors; the weights are θ + ρε̂ and `step` knows g_s."""

    def look(self, sam: SAM, step: Step) -> None:
        self._seen.append((step.params, self.of(sam, step)))

    def product(self, params: Vector) -> Vector:
        """ρ · d g_s/dρ of the step for its `params`, once; not every pass need have reached them all."""
        seen, self._seen = self._seen, []
        return vector.mean_over(params, seen)

    def forget(self) -> None:
        """Drop what an abandoned step left."""
        self._seen = []


class Diag(Curvature):
    def of(self, sam: SAM, step: Step) -> Vector:
        assert step.perturbed_gradient is not None
        return vector.times(vector.times(step.perturbed_gradient, step.perturbed_gradient), step.epsilon())


class Secant(Curvature):
    def of(self, sam: SAM, step: Step) -> Vector:
        assert step.perturbed_gradient is not None
        return vector.minus(step.perturbed_gradient, step.gradient)


class Exact(Curvature):
    """Pearlmutter's Hessian-vector product: differentiate the slope of the loss along ρε̂.

    The second of its backward passes is a `.backward()`, so that a wrapper around the model reduces the result.
    """

    def of(self, sam: SAM, step: Step) -> Vector:
        step.host.rewind(step.mark)

        def slope(number: int, losses: Tensor) -> Tensor:
            objective = sam.perturbed_objective(losses, step.losses[number])
            return vector.dot(sam.scaled_gradient(objective, step.params), step.epsilon())

        with sdpa_kernel(SDPBackend.MATH):  # fused attention can be differentiated once, not twice
            sam.differentiate(step.closures, slope, reduce=step.reduces)
        sam.gradient_evaluations += 1  # the inner derivative
        product = sam.gradients(step.params)
        sam.forget_gradients()
        return product


CURVATURES: dict[str, type[Curvature]] = {"diag": Diag, "secant": Secant, "exact": Exact}
