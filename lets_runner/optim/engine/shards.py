"""What shares a perturbation: the whole batch, or every shard of it by itself (m-sharpness).

Foret et al. 2021 (arXiv 2010.01412, section 4.1) perturb on every accelerator along its own gradient; with shards of
m examples B_j,

    g_s = mean over j of ∇L(θ + ρ ε̂_j; B_j),    ε̂_j from g_j = ∇L(θ; B_j)
"""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from lets_runner.optim.engine import vector
from lets_runner.optim.engine.host import Host
from lets_runner.optim.engine.ranks import Alone
from lets_runner.optim.engine.vector import Vector
from lets_runner.optim.step import Closure, Observer, Step


class TwoPasses(Protocol):
    """What a variant does with a batch, or with one shard of it."""

    @property
    def parameters(self) -> list[Tensor]: ...

    def blank_step(self, closures: Sequence[Closure], host: Host) -> Step: ...

    def first_pass(self, step: Step, *, reduce: bool = True) -> None: ...

    def aim(self, step: Step) -> None: ...

    def perturbed_pass(self, step: Step, rule: Observer, *, reduce: bool = True) -> None: ...


class WholeBatch:
    """One perturbation for all of the batch, over how many microbatches and ranks it may be spread."""

    def first_pass(self, passes: TwoPasses, step: Step) -> None:
        """`step` learns L, g and the parameters that have one."""
        passes.first_pass(step)

    def aim(self, passes: TwoPasses, step: Step) -> None:
        """`step` learns d and n, or n alone where every shard has a d of its own."""
        passes.aim(step)

    def perturbed_pass(self, passes: TwoPasses, step: Step, rule: Observer) -> None:
        """`step` learns L⁺ and g_s; the weights are θ again."""
        passes.perturbed_pass(step, rule)

    def gather(self, tangent: Vector) -> Vector:
        """A change of g_s that `rule` made of what it saw `while_perturbed`, for the whole batch."""
        return tangent


class EachShard:
    """A perturbation for every rank and, with `split`, for every closure of a rank.

    What `step` knows of the whole are means over the shards; L, g, g_s and a rule's tangents are averaged over the
    ranks here, for no `backward` does it.
    """

    def __init__(self, ranks: Alone, *, split: bool):
        self.ranks, self.split = ranks, split
        self._shards: list[Step] = []

    def first_pass(self, passes: TwoPasses, step: Step) -> None:
        parts = [[closure] for closure in step.closures] if self.split else [step.closures]
        self._shards = [passes.blank_step(part, step.host) for part in parts]
        for shard in self._shards:
            shard.mark = step.host.mark()
            passes.first_pass(shard, reduce=False)
        step.loss = torch.stack([shard.loss for shard in self._shards]).mean()
        reached = {param for shard in self._shards for param in shard.params}
        step.params = [param for param in passes.parameters if param in reached]
        step.gradient = self._mean(step.params, [(shard.params, shard.gradient) for shard in self._shards])
        step.gradient_norm = vector.norm(step.gradient)

    def aim(self, passes: TwoPasses, step: Step) -> None:
        for shard in self._shards:
            passes.aim(shard)
        norms = [shard.direction_norm for shard in self._shards if shard.direction_norm is not None]
        step.direction_norm = torch.stack(norms).mean()
        self.ranks.mean_([step.direction_norm])

    def perturbed_pass(self, passes: TwoPasses, step: Step, rule: Observer) -> None:
        shards, self._shards = self._shards, []
        for shard in shards:
            shard.rho = step.rho
            passes.perturbed_pass(shard, rule, reduce=False)
        losses = [shard.perturbed_loss for shard in shards if shard.perturbed_loss is not None]
        step.perturbed_loss = torch.stack(losses).mean()
        pairs = [(shard.params, shard.perturbed_gradient) for shard in shards]
        step.perturbed_gradient = self._mean(step.params, pairs)

    def gather(self, tangent: Vector) -> Vector:
        self.ranks.mean_(tangent)
        return tangent

    def _mean(self, params: Vector, pairs: list) -> Vector:
        """The mean over all shards, a parameter that a shard did not reach counting as zero there."""
        mean = vector.mean_over(params, pairs)
        if self.ranks.size > 1:
            mean = mean if len(pairs) > 1 else [tensor.clone() for tensor in mean]  # a shard still needs its own
            self.ranks.mean_(mean)
        return mean
