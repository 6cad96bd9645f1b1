"""The Hessian of the loss: its largest eigenvalues, by Lanczos, and its trace, by random vectors.

No matrix is ever formed: curvlinops (extra `probe`) makes of Hessian-vector products a linear operator.
"""

import warnings
from types import SimpleNamespace

import numpy as np
import torch
from scipy.sparse.linalg import LinearOperator, eigsh
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from tqdm import tqdm

from lets_runner.probe.objective import Examples, Objective

with warnings.catch_warnings():
    warnings.simplefilter("ignore", FutureWarning)  # what curvlinops builds on still compiles with torch.jit
    from curvlinops import HessianLinearOperator, hutchinson_trace

LANCZOS_TOLERANCE = 1e-5  # of an eigenvector; the eigenvalue is far closer. Products in float32 allow no less


class Hessian:
    """∇²L(θ) at the present weights.

    Args:
        seed: of Lanczos' first vector and of the trace's random vectors.
    """

    def __init__(self, objective: Objective, *, seed: int = 0):
        self.seed = seed
        self.operator = _Operator(
            objective,
            SimpleNamespace(reduction="mean"),  # of the objective, which is model and loss in one
            list(objective.params),
            [(batch, batch[-1]) for batch in objective.batches],
            batch_size_fn=lambda batch: len(batch[-1]),
            check_deterministic=False,  # the model is in evaluation mode, the batches are a list
        )

    def __len__(self) -> int:
        """The number of weights."""
        return self.operator.shape[0]

    def top_eigenvalues(self, count: int) -> list[float]:
        """The `count` largest, signs counted, descending. Lanczos runs in float64, products in the model's precision.

        Raises:
            ValueError: as many as there are weights, or more.
        """
        if count >= len(self):
            raise ValueError(f"eigenvalues={count}: must be fewer than the weights, of which there are {len(self)}")
        operator = self.operator.to_scipy(dtype=np.float64)
        with tqdm(desc="eigenvalues", unit=" products", disable=None, leave=False) as bar:

            def product(vector: np.ndarray) -> np.ndarray:
                bar.update()
                return operator @ vector

            values = eigsh(
                LinearOperator(operator.shape, product, dtype=operator.dtype),
                count,
                which="LA",
                v0=np.random.default_rng(self.seed).standard_normal(len(self)),
                tol=LANCZOS_TOLERANCE,
                return_eigenvectors=False,
            )
        return sorted(values.tolist(), reverse=True)

    def trace(self, samples: int) -> tuple[float, float]:
        """Hutchinson's estimate from `samples` ≥ 2 random vectors, and its standard error.

        One vector at a time: their spread is the error, and they need the memory of one.
        """
        device = self.operator.device
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            torch.manual_seed(self.seed)
            draws = tqdm(range(samples), "trace", disable=None, leave=False)
            each = [float(hutchinson_trace(self.operator, 1)) for _ in draws]
        return float(np.mean(each)), float(np.std(each, ddof=1) / samples**0.5)


class _Operator(HessianLinearOperator):
    """The Hessian with products by two backward passes.

    curvlinops goes forward over backward, which torch (2.14) does not have for every operation, and has wrong for
    layer norm under `torch.func.jacrev`.
    """

    def _matmat_batch(self, X: Examples, y: Tensor, M: list[Tensor]) -> list[Tensor]:
        with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):  # no other attention can be differentiated twice
            gradient = torch.autograd.grad(self._model_func(X), self._params, create_graph=True, materialize_grads=True)

        def product(column: int) -> tuple[Tensor, ...]:
            vector = [part[..., column] for part in M]
            return torch.autograd.grad(gradient, self._params, vector, retain_graph=True, materialize_grads=True)

        products = [product(column) for column in range(M[0].shape[-1])]
        return [torch.stack(columns, dim=-1) for columns in zip(*products, strict=True)]
