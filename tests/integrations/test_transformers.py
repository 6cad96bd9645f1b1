"""transformers' own Trainer drives the optimizers; what comes out is what a plain loop makes of the same batches."""

import pytest
import torch
import transformers
from torch import nn

from lets_runner import LETS, SAM, HorizonLETS
from lets_runner.integrations.transformers import SAMTrainer

STEPS, BATCH = 3, 4


def network():
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=20, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, num_labels=2,
        hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    return transformers.BertForSequenceClassification(config)


def data(seed=0, count=STEPS * BATCH):
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(0, 20, (count, 6), generator=generator)
    return [{"input_ids": row, "labels": row.sum() % 2} for row in tokens]


def settings(tmp_path, **more):
    return transformers.TrainingArguments(
        output_dir=tmp_path, max_steps=STEPS, per_device_train_batch_size=BATCH, learning_rate=0.05, optim="sgd",
        lr_scheduler_type="linear", use_cpu=True, report_to=[], save_strategy="no", disable_tqdm=True, seed=7, **more,
    )  # fmt: skip


class InOrder(SAMTrainer):
    def _get_train_sampler(self, *_):
        return torch.utils.data.SequentialSampler(self.train_dataset)


def batch_loss(model, rows):
    batch = {name: torch.stack([row[name] for row in rows]) for name in rows[0]}
    return nn.functional.cross_entropy(model(input_ids=batch["input_ids"]).logits, batch["labels"])


def plain(rule=lambda sam: sam, val=None):
    model = network().train()
    optimizer = rule(SAM(torch.optim.SGD(model.parameters(), lr=0.05), rho=0.1, model=model))
    for number in range(STEPS):
        rows = data()[number * BATCH : (number + 1) * BATCH]
        optimizer.param_groups[0]["lr"] = 0.05 * (1 - number / STEPS)
        optimizer.step(lambda rows=rows: batch_loss(model, rows), val and (lambda: batch_loss(model, val)))
    return weights(model), optimizer.sam.rho


def weights(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])


@pytest.mark.parametrize("parts", [1, 2])
def test_it_trains_as_a_plain_loop_does(tmp_path, parts):
    args = settings(tmp_path, gradient_accumulation_steps=parts)
    args.per_device_train_batch_size = BATCH // parts
    model = network()
    trainer = InOrder(
        model=model, args=args, train_dataset=data(), sam=lambda base, model: SAM(base, rho=0.1, model=model)
    )
    result = trainer.train()
    expected, _ = plain()
    torch.testing.assert_close(weights(model), expected, rtol=0, atol=1e-6)
    assert result.global_step == STEPS
    assert 0.2 < result.training_loss < 2


def test_it_learns_the_radius(tmp_path):
    val = data(seed=1, count=BATCH)
    model = network()
    trainer = InOrder(
        model=model, args=settings(tmp_path), train_dataset=data(), val_dataset=val,
        sam=lambda base, model: LETS(SAM(base, rho=0.1, model=model)),
    )  # fmt: skip
    trainer.train()
    expected, rho = plain(LETS, val)
    torch.testing.assert_close(weights(model), expected, rtol=0, atol=1e-6)
    assert trainer.optimizer.inner.rho == pytest.approx(rho, rel=1e-6)
    assert rho != pytest.approx(0.1, rel=1e-6)


def test_it_resumes_from_its_own_checkpoint(tmp_path):
    def trainer(**more):
        args = settings(tmp_path, **more)
        return InOrder(
            model=network(), args=args, train_dataset=data(), val_dataset=data(seed=1, count=BATCH),
            sam=lambda base, model: HorizonLETS(SAM(base, model=model), total_steps=STEPS),
        )  # fmt: skip

    whole = trainer()
    whole.train()
    first = trainer()
    first.args.save_strategy = transformers.trainer_utils.SaveStrategy.STEPS
    first.args.save_steps = first.state.save_steps = 2
    first.train()
    again = trainer()
    again.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert again.state.global_step == STEPS
    torch.testing.assert_close(weights(again.model), weights(whole.model), rtol=0, atol=1e-6)


def test_a_plain_trainer_is_told_what_it_lacks(tmp_path):
    model = network()
    optimizer = SAM(torch.optim.SGD(model.parameters(), lr=0.05), model=model)
    trainer = transformers.Trainer(
        model=model, args=settings(tmp_path), train_dataset=data(), optimizers=(optimizer, None)
    )
    with pytest.raises(TypeError, match="needs a closure that returns the loss"):
        trainer.train()
