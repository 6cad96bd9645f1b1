"""SAM in PyTorch Lightning, whose automatic optimization runs `backward` for itself and so cannot drive SAM."""

from abc import abstractmethod
from typing import Any

from lightning.pytorch import LightningModule
from torch import Tensor


class SAMModule(LightningModule):
    """A LightningModule that trains with SAM or a radius rule, on one device, by manual optimization.

    A subclass has `training_loss`, and `configure_optimizers` that returns a SAM optimizer, or one with a scheduler as
    Lightning has it: `{"optimizer": ..., "lr_scheduler": {"scheduler": ..., "interval": "step"}}`. A rule that learns ρ
    needs batches of pairs (train, val): a `CombinedLoader([train_loader, val_loader], "max_size_cycle")` makes them,
    with `learns_radius = True`.

    Raises:
        ValueError: in `on_fit_start`, several devices, or float16 by Lightning.
    """

    learns_radius = False

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False

    @abstractmethod
    def training_loss(self, batch: Any) -> Tensor:
        """The mean loss of a batch; called several times a step, and to mean the same each time."""

    def on_fit_start(self) -> None:
        trainer = self.trainer
        if trainer.world_size > 1:
            raise ValueError("SAMModule trains on one device: Trainer(devices=1); for several take lets-train")
        if str(trainer.precision).startswith("16"):
            raise ValueError("precision=16-mixed scales one pass of several: take bf16-mixed, or SAM(loss_scale=...)")

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Take one step of the optimizer, and of schedulers whose interval is a step; logs `train_loss`."""
        train, val = batch if self.learns_radius else (batch, None)
        optimizer: Any = self.optimizers()
        loss = optimizer.step(
            closure=lambda: self.training_loss(train), val=None if val is None else lambda: self.training_loss(val)
        )
        self.log("train_loss", loss)
        self._step_schedulers("step")
        return loss

    def on_train_epoch_end(self) -> None:
        self._step_schedulers("epoch")

    def _step_schedulers(self, interval: str) -> None:
        for config in self.trainer.lr_scheduler_configs:
            if config.interval == interval:
                scheduler: Any = config.scheduler
                scheduler.step()
