"""accelerate's own `prepare` around everything; the weights are those of a plain loop."""

import pytest
import torch
from accelerate import Accelerator
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lets_runner import LETS, SAM


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))


def train(prepare):
    generator = torch.Generator().manual_seed(1)
    data = TensorDataset(torch.randn(12, 4, generator=generator), torch.randn(12, 1, generator=generator))
    model, loader = prepare(network(), DataLoader(data, batch_size=4))
    optimizer = LETS(SAM(torch.optim.SGD(model.parameters(), lr=0.1), rho=0.1, model=model))
    optimizer, schedule = prepare(optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.9**step))
    for inputs, targets in loader:

        def loss(inputs=inputs, targets=targets):
            return nn.functional.mse_loss(model(inputs), targets)

        optimizer.step(loss, loss)
        schedule.step()
    return torch.cat([p.detach().flatten() for p in model.parameters()]), optimizer


def test_a_prepared_optimizer_takes_both_closures(tmp_path):
    accelerator = Accelerator(cpu=True)
    expected, plain = train(lambda *things: things)
    found, optimizer = train(accelerator.prepare)
    assert torch.equal(found, expected)
    assert isinstance(optimizer, LETS)
    assert optimizer.rho == plain.rho != pytest.approx(0.1, rel=1e-5)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.1 * 0.9**3)
    accelerator.save_state(tmp_path)
    saved = optimizer.sam.base.state_dict(), optimizer.rho
    optimizer.rho = 0.3
    accelerator.load_state(tmp_path)
    assert (optimizer.sam.base.state_dict(), optimizer.rho) == saved
