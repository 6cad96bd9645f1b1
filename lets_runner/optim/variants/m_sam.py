"""m-SAM: every shard of m examples perturbs the weights along its own gradient.

Foret et al. 2021 (arXiv 2010.01412, section 4.1) and Andriushchenko & Flammarion, *Towards Understanding
Sharpness-Aware Minimization*, ICML 2022 (arXiv 2206.06232):

    g_s = mean over the shards B_j of ∇L(θ + ρ ĝ_j; B_j),    g_j = ∇L(θ; B_j)
"""

from typing import Any

from torch.optim import Optimizer

from lets_runner.optim.sam import SAM


class MSAM(SAM):
    """m-SAM; `step` takes a list of closures, one for each shard of equal size. With one it is SAM.

        optimizer.step([lambda part=part: loss_of(part) for part in batch.split(m)])

    It costs what SAM costs in examples, and two passes a shard. Batch-norm layers see the shards, and count each of
    them once. The gradients of all shards are kept at the same time. In several processes all their shards count.

    Args:
        m: examples a shard, for the code that makes the closures.
    """

    splits_batch = True
    graphable = True

    def __init__(self, base: Optimizer, rho: float = 0.05, *, m: int | None = None, **settings: Any):
        if m is not None and (not isinstance(m, int) or m < 1):
            raise ValueError(f"m={m}: must be a whole number of at least 1")
        super().__init__(base, rho, **settings)
        self.shard_size = m
