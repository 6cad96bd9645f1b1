"""How a loss is evaluated and differentiated: over the microbatches of a process, over processes, and scaled."""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from lets_runner.optim.engine.batchnorm import check_norms, frozen, normalisers
from lets_runner.optim.engine.ranks import Alone, ranks_of
from lets_runner.optim.engine.scaling import loss_scale as scaling
from lets_runner.optim.engine.vector import Vector
from lets_runner.optim.engine.wrapper import OptimizerWrapper
from lets_runner.optim.step import Batch, Closure, mean_loss

Objective = Callable[[int, Tensor], Tensor]


def _mean_loss(number: int, losses: Tensor) -> Tensor:
    return mean_loss(losses)


class Passes(OptimizerWrapper):
    """An optimizer that makes passes of its own through `model`, as many as it needs.

    `gradient_evaluations` counts those that went backward too, one a batch however many microbatches it has.
    With `clones_gradients` no pass leaves a tensor in memory that the next pass writes over: `torch.compile` with
    mode="reduce-overhead" gives such gradients. Where `model` is compiled so that is found out; if only a loss is, set
    it by hand.
    """

    remembers: tuple[str, ...] = ("gradient_evaluations", "_scale")

    def __init__(self, base: Optimizer, model: nn.Module | None, *, loss_scale: Literal["dynamic"] | float | None):
        super().__init__(base)
        _check_base(base)
        check_norms(model)
        self.model = model
        self.clones_gradients = has_own_graphs(model)
        self.normalisers = normalisers(model)
        self.gradient_evaluations = 0
        self._scale = scaling(loss_scale, self.device)
        self._ranks = ranks_of(model)

    @property
    def alone(self) -> bool:
        """Whether no other process takes part."""
        return type(self._ranks) is Alone

    @property
    def whole_weights(self) -> bool:
        """Whether this process has the whole weights, or a shard of them."""
        return self._ranks.whole_weights

    def differentiate(self, batch: Batch, objective: Objective = _mean_loss, *, reduce: bool = True) -> Tensor:
        """The mean loss of `batch` over all processes, detached; leaves the gradient of the mean `objective`, and
        nothing older, in the parameters' `.grad`.

        Args:
            batch: a closure, or several for microbatches.
            objective: (number of the microbatch, what its closure returned) -> 0-dim tensor.
            reduce: over the processes too; else each keeps its own gradient.
        """
        closures = closures_of(batch)
        self.forget_gradients()
        torch.clear_autocast_cache()  # inside an outer autocast it would hold the weights of the pass before
        means = []
        for number, closure in enumerate(closures):
            last = number == len(closures) - 1
            with self._ranks.reducing(reduce and last), torch.enable_grad():
                losses = closure()
                _check_loss(losses, self.param_groups if number == 0 else [])
                value = objective(number, losses)
                if len(closures) > 1:
                    value = value / len(closures)
                if value.requires_grad:
                    self._scale.up(value).backward()
            means.append(mean_loss(losses.detach()))
        self._scale.down([p.grad for p in self.parameters if p.grad is not None])
        self.gradient_evaluations += 1
        if self.clones_gradients:
            means = [mean.clone() for mean in means]
            for param in self.parameters:
                param.grad = None if param.grad is None else param.grad.clone()
        return self._mean(means)

    def differentiate_frozen(self, batch: Batch, params: Vector) -> tuple[Tensor, Vector]:
        """Loss of `batch` and its gradient at the present weights, running statistics frozen."""
        with frozen(self.normalisers):
            return self.differentiate(batch), self.gradients(params)

    def evaluate(self, batch: Batch) -> Tensor:
        """The loss of `batch` at the present weights, forward only, running statistics frozen."""
        torch.clear_autocast_cache()
        with frozen(self.normalisers), torch.no_grad():
            return self._mean([mean_loss(closure().detach()) for closure in closures_of(batch)])

    def forget_gradients(self) -> None:
        """What `zero_grad` does, without its cost for hooks and the profiler; there are several passes in a step."""
        for group in self.param_groups:
            for param in group["params"]:
                param.grad = None

    def _mean(self, losses: list[Tensor]) -> Tensor:
        """Over microbatches and processes."""
        mean = losses[0] if len(losses) == 1 else torch.stack(losses).mean()
        self._ranks.mean_([mean])
        return mean

    def scaled_gradient(self, value: Tensor, params: Vector) -> Vector:
        """∇`value` as part of the graph, so that it can be differentiated again."""
        gradient = torch.autograd.grad(self._scale.up(value), params, create_graph=True, materialize_grads=True)
        return self._scale.undone(gradient)

    @staticmethod
    def gradients(params: Vector) -> Vector:
        """The gradients of `params`, zeros where a pass did not reach one."""
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in params]
        if any(g.layout != torch.strided for g in gradients):
            raise ValueError(
                "sparse gradients have no norm over all parameters here: build the embedding with sparse=False"
            )
        return gradients


def _check_base(base: Optimizer) -> None:
    if isinstance(base, torch.optim.LBFGS):
        raise TypeError(
            "LBFGS evaluates losses by itself, any number a step; SAM wraps optimizers that step from one gradient, "
            "such as SGD and AdamW"
        )
    if any(param.is_complex() for group in base.param_groups for param in group["params"]):
        raise ValueError("a parameter is complex: make torch.view_as_real of it the parameter, whose norm is the same")


def has_own_graphs(model: nn.Module | None) -> bool:
    """Whether `torch.compile` puts passes of this model into CUDA graphs."""
    parts = [] if model is None else [model, *model.modules()]
    compiled: list[Any] = [part for module in parts for part in (module, module._compiled_call_impl)]
    configs = [part.get_compiler_config() for part in compiled if hasattr(part, "get_compiler_config")]
    return any(bool(config) and bool(config.get("triton.cudagraphs")) for config in configs)


def one_of(train: Batch | None, closure: Batch | None) -> Batch:
    """The training batch, under whichever of its two names it came.

    Raises:
        TypeError: it came under none, or under both.
    """
    batch = closure if train is None else train
    if batch is None:
        raise TypeError(
            "step() needs a closure that returns the loss, as in optimizer.step(lambda: criterion(model(inputs), "
            "targets)): it evaluates the loss several times and runs backward itself"
        )
    if train is not None and closure is not None:
        raise TypeError("step() got both train and closure, which are two names of one argument")
    return batch


def closures_of(batch: Batch) -> Sequence[Closure]:
    """One for every part of the batch."""
    closures = [batch] if callable(batch) else batch
    if not closures:
        raise ValueError("a batch needs at least one closure")
    return closures


def _check_loss(loss: object, groups: list[dict[str, Any]]) -> None:
    if not isinstance(loss, Tensor) or loss.ndim > 1 or loss.numel() == 0:
        what = f"a tensor of shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else type(loss).__name__
        raise ValueError(f"a closure must return the mean loss, or a vector with every example's, not {what}")
    if any(p.grad is not None for group in groups for p in group["params"]):
        raise ValueError(
            "a closure returns the loss and leaves backward to the optimizer: take backward() out of it (a loop that "
            "runs backward for you, as Lightning's automatic optimization does, needs docs/integrations.md)"
        )
    if not loss.requires_grad:
        raise ValueError("the closure's loss does not depend on any parameter: was it detached, or made under no_grad?")
