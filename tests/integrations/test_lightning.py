"""PyTorch Lightning itself drives the optimizers; what comes out is what a plain loop makes of the same batches."""

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.utilities import CombinedLoader
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lets_runner import LETS, SAM
from lets_runner.integrations.lightning import SAMModule

EPOCHS, BATCHES = 2, 3
QUIET = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}

pytestmark = pytest.mark.filterwarnings("ignore")  # Lightning's remarks on workers and loggers


def data():
    generator = torch.Generator().manual_seed(1)
    return TensorDataset(torch.randn(12, 4, generator=generator), torch.randn(12, 1, generator=generator))


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))


def optimizer_of(net, rule=lambda sam: sam):
    return rule(SAM(torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9), rho=0.1, model=net))


class Manual(pl.LightningModule):
    """As Lightning's documentation has manual optimization with closures."""

    def __init__(self):
        super().__init__()
        self.automatic_optimization = False
        self.net = network()

    def training_step(self, batch, number):
        inputs, targets = batch
        self.optimizers().step(closure=lambda: nn.functional.mse_loss(self.net(inputs), targets))

    def configure_optimizers(self):
        return optimizer_of(self.net)


class Automatic(Manual):
    def __init__(self):
        super().__init__()
        self.automatic_optimization = True

    def training_step(self, batch, number):
        return nn.functional.mse_loss(self.net(batch[0]), batch[1])


class Mine(SAMModule):
    def __init__(self, rule=lambda sam: sam, learns=False):
        super().__init__()
        self.net, self.rule, self.learns_radius = network(), rule, learns

    def training_loss(self, batch):
        return nn.functional.mse_loss(self.net(batch[0]), batch[1])

    def configure_optimizers(self):
        optimizer = optimizer_of(self.net, self.rule)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.9**step)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def plain(rule=lambda sam: sam, learns=False, decay=1.0):
    """The same training without Lightning."""
    net = network()
    optimizer = optimizer_of(net, rule)
    for number in range(EPOCHS * BATCHES):
        inputs, targets = data()[number % BATCHES * 4 : number % BATCHES * 4 + 4]
        optimizer.param_groups[0]["lr"] = 0.1 * decay**number

        def loss(inputs=inputs, targets=targets):
            return nn.functional.mse_loss(net(inputs), targets)

        optimizer.step(loss, loss if learns else None)
    return torch.cat([p.detach().flatten() for p in net.parameters()]), optimizer.sam.rho


def weights(module):
    return torch.cat([p.detach().flatten() for p in module.net.parameters()])


def fit(module, loader=None, tmp_path=None, **settings):
    trainer = pl.Trainer(max_epochs=EPOCHS, default_root_dir=tmp_path, enable_checkpointing=False, **QUIET, **settings)
    trainer.fit(module, DataLoader(data(), batch_size=4) if loader is None else loader)
    return trainer


def test_manual_optimization_works_and_counts(tmp_path):
    module = Manual()
    trainer = fit(module, tmp_path=tmp_path)
    assert trainer.global_step == EPOCHS * BATCHES
    torch.testing.assert_close(weights(module), plain()[0], rtol=0, atol=1e-7)


def test_automatic_optimization_is_refused_in_one_line(tmp_path):
    with pytest.raises(
        ValueError, match=r"Lightning's automatic optimization does, needs docs/integrations.md"
    ) as told:
        fit(Automatic(), tmp_path=tmp_path)
    assert "\n" not in str(told.value)


def test_the_module_trains_with_a_schedule(tmp_path):
    module = Mine()
    trainer = fit(module, tmp_path=tmp_path)
    assert trainer.global_step == EPOCHS * BATCHES
    assert 0 < float(trainer.callback_metrics["train_loss"]) < 10
    torch.testing.assert_close(weights(module), plain(decay=0.9)[0], rtol=0, atol=1e-7)


def test_the_module_learns_the_radius(tmp_path):
    module = Mine(LETS, learns=True)
    loader = CombinedLoader([DataLoader(data(), batch_size=4), DataLoader(data(), batch_size=4)], "max_size_cycle")
    fit(module, loader, tmp_path)
    expected, rho = plain(LETS, learns=True, decay=0.9)
    torch.testing.assert_close(weights(module), expected, rtol=0, atol=1e-7)
    assert module.optimizers().optimizer.rho == pytest.approx(rho, rel=1e-5)
    assert rho != pytest.approx(0.1, rel=1e-4)


def test_the_optimizer_resumes_from_a_checkpoint_of_lightning(tmp_path):
    module = Mine(LETS, learns=True)
    loader = CombinedLoader([DataLoader(data(), batch_size=4), DataLoader(data(), batch_size=4)], "max_size_cycle")
    trainer = pl.Trainer(max_epochs=1, default_root_dir=tmp_path, **QUIET)
    trainer.fit(module, loader)
    trainer.save_checkpoint(tmp_path / "half.ckpt")
    again = Mine(LETS, learns=True)
    pl.Trainer(max_epochs=EPOCHS, default_root_dir=tmp_path, **QUIET).fit(
        again, loader, ckpt_path=tmp_path / "half.ckpt", weights_only=True
    )
    torch.testing.assert_close(weights(again), plain(LETS, learns=True, decay=0.9)[0], rtol=0, atol=1e-7)


def test_half_precision_by_lightning_is_refused(tmp_path):
    class Fake(Mine):
        def on_fit_start(self):
            self.trainer.strategy.precision_plugin.precision = "16-mixed"
            super().on_fit_start()

    with pytest.raises(ValueError, match="take bf16-mixed"):
        fit(Fake(), tmp_path=tmp_path)
