"""Lists of tensors as one vector: reductions over every way in which tensors can lie in memory."""

import pytest
import torch

from lets_runner.optim.engine import vector

generator = torch.Generator().manual_seed(0)


def tensors(dtype=torch.float32):
    """Contiguous, channels last, transposed, a slice with gaps, one number, and none."""

    def random(*shape):
        return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)

    return [
        random(3, 4),
        random(2, 3, 4, 5).contiguous(memory_format=torch.channels_last),
        random(5, 7).t(),
        random(4, 6)[:, ::2],
        random(1)[0],
        random(0, 3),
    ]


@pytest.mark.parametrize("dot", [vector.dot, vector.dot_one_by_one, vector.dot_joined])
@pytest.mark.parametrize("mixed", [False, True], ids=["", "mixed"])
def test_dot(dot, mixed):
    x, y = tensors(torch.float64), tensors(torch.float64)
    if mixed:  # memory formats that differ pair by pair
        y = [tensor.clone(memory_format=torch.contiguous_format) for tensor in y]
    expected = sum(
        float(a * b) for s, t in zip(x, y, strict=True) for a, b in zip(s.flatten(), t.flatten(), strict=True)
    )
    assert float(dot(x, y)) == pytest.approx(expected, rel=1e-12)


def test_dot_accumulates_in_float32():
    x = [torch.full((4096,), 0.25, dtype=torch.bfloat16)]
    assert vector.dot(x, x).dtype == torch.float32
    assert float(vector.dot(x, x)) == 256
    assert float(vector.norm(x)) == 16


def test_dot_can_be_differentiated():
    x = [tensor.requires_grad_() for tensor in tensors(torch.float64)[:4]]
    y = tensors(torch.float64)[:4]
    gradients = torch.autograd.grad(vector.dot(x, y), x)
    assert all(torch.equal(gradient, tensor) for gradient, tensor in zip(gradients, y, strict=True))
