"""Sharpness-aware minimization: descend along the gradient at the worst point of a ball around the weights.

Foret, Kleiner, Mobahi, Neyshabur, *Sharpness-Aware Minimization for Efficiently Improving Generalization*,
ICLR 2021 (arXiv 2010.01412), equation 2 and Algorithm 1:

    ε̂ = g / ‖g‖        θ_{t+1} = BaseOpt(θ_t, ∇L(θ_t + ρ ε̂))

`SAM._run` is that algorithm. What keeps its passes right stands in `engine`.
"""

from collections.abc import Callable, Hashable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from lets_runner.optim.engine import sensitivity, vector
from lets_runner.optim.engine.batchnorm import frozen, normalisers
from lets_runner.optim.engine.groups import GroupRadii
from lets_runner.optim.engine.host import Host
from lets_runner.optim.engine.passes import closures_of, one_of
from lets_runner.optim.engine.radius import Radius
from lets_runner.optim.engine.scalar import scalar
from lets_runner.optim.engine.shards import EachShard, WholeBatch
from lets_runner.optim.engine.vector import Vector
from lets_runner.optim.step import Batch, Closure, Last, Observer, Step, mean_loss

NO_RULE = Observer()


class SAM(Radius):
    """SAM around a built base optimizer, and the base class of its variants.

        optimizer = SAM(torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9), rho=0.05, model=model)
        loss = optimizer.step(lambda: criterion(model(inputs), targets))

    The closure returns the mean loss of a batch, or a vector with every example's, and does nothing else: the wrapper
    clears gradients and runs `backward` itself, as often as the variant needs (unlike the closures of
    `torch.optim.LBFGS`). Called twice, it must mean the same loss; the passes of a step share their random numbers, so
    dropout masks agree. A list of closures is a batch in parts of equal size: gradients are accumulated over them, and
    the step is that of the whole batch.

    Under `DistributedDataParallel` or FSDP2 (`model=` is the wrapped model) every process calls `step` with its own
    part of the batch; losses, ρ and all decisions are then the same everywhere.

    A variant overrides one or two of three hooks: `direction`, `perturbs` and `combine` (with `combine_tangent`,
    its derivative); `radius` and `finish` are there for the few that need them. The perturbation always climbs the
    closure's loss, whatever `maximize` says.

    A parameter group may have a `rho` of its own, 0 for parameters that are not perturbed at all. The norm stays that
    of all parameters, and who moves ρ scales the groups' with it.

    Args:
        base: the optimizer that takes the step; its `param_groups` and state are shared.
        rho: radius ρ ≥ 0 in the norm of the variant; with 0 every step is the base optimizer's own.
        smallest_rho: radius rules go no lower. Under bfloat16 autocast take 1e-2: below, what a perturbation changes in
            a gradient drowns in rounding.
        model: its batch-norm statistics are updated by the first pass of a step only. Without it they count twice.
        max_grad_norm: clip the descent gradient to this norm before the base optimizer sees it.
        perturbation_sync: "global" for one perturbation of the whole batch, or "local" for one of every process along
            its own gradient (m-sharpness, m the examples of a process).
        loss_scale: for float16: "dynamic", or the power of two to start from. A step in which any pass was not finite
            is skipped and the scale halved, once; only where the scale cannot fall further does `nonfinite` decide.
            A pass of a radius rule that comes after the update leaves the update standing, and ρ rests.
        nonfinite: what to do when a loss or a gradient is not finite: "raise" a `NonFiniteError`, or "skip" the step
            and count it in `skipped`. Either way weights and batch-norm statistics are as before the step (on an
            accelerator: the weights, and the error comes some steps later, because nothing here waits for it).

    Raises:
        ValueError: a setting out of its range; in `step`, a closure that has no gradient to give.
        TypeError: `base` is not an optimizer.
    """

    uses_radius = True
    own_radius: str | None = None  # why no radius rule may choose ρ, where that is so
    unlearnable: str | None = None  # why a rule may do so by a plan only, not by what it sees of the steps
    local_perturbations = True  # whether processes may perturb differently: not if what they keep would then differ
    splits_batch = False  # whether every closure of a step perturbs on its own
    per_sample = False  # whether closures must return the loss of every example, as a vector
    shard_size: int | None = None  # with several closures a step: the examples that each of them should have
    graphable = True  # said by every class for itself: a CUDA graph may repeat its steps, see `GraphedStep`
    remembers: tuple[str, ...] = (*Radius.remembers, "steps", "perturbed_steps")

    def _run(self, step: Step, val: Batch | None, rule: Observer) -> None:
        """The algorithm: two passes, with the moments at which a radius rule may look and act."""
        self._sharing.first_pass(self, step)
        self.share_statistics()
        self.check("first", step, step.loss, step.gradient_norm)
        rule.before_perturbation(step, val)
        if not self.radius_is_zero and self.perturbs(step):
            self.perturbed_steps += 1
            self._sharing.aim(self, step)
            rule.before_epsilon(step)
            step.rho = self._rho = self.radius(step)
            self._sharing.perturbed_pass(self, step, rule)
            assert step.perturbed_gradient is not None and step.perturbed_loss is not None
            self.check("perturbed", step, step.perturbed_loss, vector.norm(step.perturbed_gradient))
        self._take(step, val, rule)

    def _take(self, step: Step, val: Batch | None, rule: Observer) -> None:
        """The update, once there is a gradient to descend along."""
        self._descend(step)
        rule.before_update(step, val)
        self._guard.update(self.inner)
        step.updated = True
        self.finish(step)
        step.release_buffers()
        rule.after_update(step, val)

    def __init__(
        self,
        base: Optimizer,
        rho: float = 0.05,
        *,
        model: nn.Module | None = None,
        smallest_rho: float = 0.0,
        max_grad_norm: float | None = None,
        nonfinite: Literal["raise", "skip"] = "raise",
        perturbation_sync: Literal["global", "local"] = "global",
        loss_scale: Literal["dynamic"] | float | None = None,
    ):
        super().__init__(base, model, loss_scale=loss_scale, nonfinite=nonfinite)
        if max_grad_norm is not None and not max_grad_norm > 0:
            raise ValueError(f"max_grad_norm={max_grad_norm}: must be above 0, or None for no clipping")
        if perturbation_sync not in ("global", "local"):
            raise ValueError(f"perturbation_sync={perturbation_sync}: must be global or local")
        self.max_grad_norm = max_grad_norm
        self.steps = 0
        self.perturbed_steps = 0
        self.rho = rho
        self.limit_radius(smallest_rho)
        self._group_radii = GroupRadii(self.param_groups, rho if self.uses_radius else 1.0)
        self._nan = scalar(float("nan"), self.device)
        self._sharing = self._who_shares(perturbation_sync)
        self.host_of: Callable[[int, torch.device], Host] = Host
        self.last = self._seen(self.blank_step((), Host(0, self.device)))

    # The hooks of a variant. Most need one or two of `direction`, `perturbs` and `combine`.

    def direction(self, step: Step) -> tuple[Vector, Tensor]:
        """d and n, where ε̂ = d / n is the perturbation for ρ = 1; from `step.gradient` and `step.params`.

        n is also the slope of the loss along ε̂, ⟨g, ε̂⟩, for SAM and ASAM. d may be `step.gradient` itself.
        """
        return step.gradient, step.gradient_norm

    def branch(self, number: int) -> Hashable | None:
        """Whether the step with this number (from 1) perturbs, so far as its number tells; None where it does not.

        Steps of one branch must do the same on the host: one CUDA graph serves them all.
        """
        return True

    def perturbs(self, step: Step) -> bool:
        """Whether this step perturbs at all; `step` knows g. With ρ = 0 nobody asks."""
        return bool(step.branch)

    def radius(self, step: Step) -> Tensor:
        """The ρ of this step, 0-dim. A variant that overrides it says in `own_radius` why no rule may choose ρ."""
        return self._rho

    def combine(self, step: Step) -> Vector:
        """The descent gradient from `step.gradient` and, in a perturbed step, `step.perturbed_gradient`."""
        return step.gradient if step.perturbed_gradient is None else step.perturbed_gradient

    def combine_tangent(self, step: Step, tangent: Vector) -> Vector:
        """How `combine` changes when g_s changes by `tangent`: its derivative applied to it."""
        return tangent

    def perturbed_objective(self, losses: Tensor, before: Tensor) -> Tensor:
        """What the perturbed pass differentiates: a 0-dim tensor from what a closure returned, at θ + ρε̂ and at θ."""
        return mean_loss(losses)

    def finish(self, step: Step) -> None:
        """What the variant does to the weights beside the base optimizer's update, right after it."""

    # The step.

    @torch.no_grad()
    def step(  # type: ignore[override]
        self,
        train: Batch | None = None,
        val: Batch | None = None,
        *,
        closure: Batch | None = None,
        rule: Observer = NO_RULE,
    ) -> Tensor:
        """Take one step; returns L(θ_t; B) as a detached 0-dim tensor.

        Args:
            train: returns the loss of the training batch B; or a list of closures, one for every part of it.
            val: returns the loss of a validation batch; SAM itself ignores it, a radius rule may call it.
            closure: another name for `train`, by which Lightning and others pass it.
            rule: who may watch and move the radius.
        """
        self.poll()
        return self.advance(one_of(train, closure), val, rule=rule)

    @torch.no_grad()
    def advance(self, train: Batch, val: Batch | None = None, *, rule: Observer = NO_RULE) -> Tensor:
        """`step` without its `poll`: what a CUDA graph can repeat."""
        self.steps += 1
        self.normalisers = normalisers(self.model)
        step = self.blank_step(closures_of(train), self.host_of(self.steps, self.device))
        step.branch = self.branch(self.steps)
        with self.guarded(step):
            self._run(step, val, rule)
        self.last = self._seen(step)
        return step.loss

    def blank_step(self, closures: Sequence[Closure], host: Host) -> Step:
        """A step that knows nothing yet."""
        nan = self._nan
        return Step(closures, host, host.mark(), nan, nan, nan, nan, nan, nan)

    def _seen(self, step: Step) -> Last:
        rho = self._rho if self.uses_radius else self._nan
        return Last(step.loss, step.val_loss, step.gap, step.hypergradient, rho, step.rho, step.gradient_norm)

    def first_pass(self, step: Step, *, reduce: bool = True) -> None:
        """Fill in what the weights θ tell; `reduce` as in `differentiate`."""
        losses: list[Tensor] = []

        def objective(number: int, loss: Tensor) -> Tensor:
            losses.append(loss.detach())
            return mean_loss(loss)

        step.loss = self.differentiate(step.closures, objective, reduce=reduce)
        step.losses = losses
        step.params = [p for group in self.param_groups for p in group["params"] if p.grad is not None]
        step.gradient = self.gradients(step.params)
        step.gradient_norm = vector.norm(step.gradient)

    def aim(self, step: Step) -> None:
        """Fill in where the perturbation goes."""
        direction, step.direction_norm = self.direction(step)
        step.direction = self._group_radii.scaled(direction, step.params)

    def perturbed_pass(self, step: Step, rule: Observer, *, reduce: bool = True) -> None:
        """Fill in what θ + ρε̂ tells, ρ and ε̂ being known, and let `rule` look; the weights come back."""
        step.reduces = reduce
        with self.perturbed_weights(step), frozen(self.normalisers):
            step.host.rewind(step.mark)
            step.perturbed_loss = self.differentiate(
                step.closures, lambda n, loss: self.perturbed_objective(loss, step.losses[n]), reduce=reduce
            )
            step.perturbed_gradient = self.gradients(step.params)
            rule.while_perturbed(step)

    def _descend(self, step: Step) -> None:
        """Hand the descent gradient, clipped if asked, to the base optimizer."""
        step.descent = self.combine(step)
        if self.max_grad_norm is not None:
            norm = vector.norm(step.descent)
            step.clip = norm, (self.max_grad_norm / norm).clamp(max=1.0)
            step.descent = vector.scaled(step.descent, step.clip[1])
        for param, gradient in zip(step.params, step.descent, strict=True):
            param.grad = gradient

    def _who_shares(self, perturbation_sync: str) -> WholeBatch | EachShard:
        if not self.splits_batch and (perturbation_sync == "global" or self._ranks.size == 1):
            return WholeBatch()
        if not self.local_perturbations:
            raise ValueError(
                f"perturbation_sync=local: what {type(self).__name__} keeps from step to step must be the same in "
                "every process; take global"
            )
        if not self.whole_weights:
            why = "m-SAM" if self.splits_batch else "perturbation_sync=local"
            raise ValueError(f"{why}: every process needs the whole weights for that; take ddp")
        return EachShard(self._ranks, split=self.splits_batch)

    # For radius rules.

    def check(self, pass_name: str, step: Step, *values: Tensor) -> None:
        """Give the step up if one of the 0-dim tensors is not finite; `pass_name` is one of `finite.PASSES`."""
        self._guard.check(pass_name, self._rho, *values)

    def gather(self, tangent: Vector) -> Vector:
        """A change of g_s that a rule made of what it saw `while_perturbed`, for the batch of all processes."""
        return self._sharing.gather(tangent)

    def response(self, step: Step, tangent: Vector) -> Vector:
        """How θ_{t+1} changes when g_s changes by `tangent`: −J · d combine, before the base optimizer steps.

        Through `combine`, clipping and the base optimizer (`sensitivity`).
        """
        assert step.descent is not None
        tangent = self.combine_tangent(step, tangent)
        if step.clip is not None:
            tangent = sensitivity.through_clipping(step.descent, tangent, *step.clip)
        return sensitivity.response(self.inner, step.params, step.descent, tangent)

    def poll(self) -> None:
        """What the host can tell before a step, without waiting.

        Raises:
            NonFiniteError: an earlier step has earned it, and the host knows of it by now.
            ValueError: weights have moved to another device, or a group's `rho` has changed.
        """
        if self.device != self._nan.device:
            raise ValueError(
                f"the weights have moved from {self._nan.device} to {self.device} since {type(self).__name__} was "
                "built: move the model first, then build the optimizers"
            )
        self._group_radii.check(self.param_groups)
        self._guard.poll(self._rho)

    def settle(self) -> None:
        """Wait for the device and raise the NonFiniteError that the steps so far have earned, if any."""
        self._guard.poll(self._rho, wait=True)

    @property
    def sam(self) -> "SAM":
        """Itself: what radius rules have under this name."""
        return self

    @property
    def base(self) -> Optimizer:
        return self.inner

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self._guard.go_on_after(self.steps)
        self.last = self._seen(self.blank_step((), Host(self.steps, self.device)))
