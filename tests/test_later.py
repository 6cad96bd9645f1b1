"""Settings that came later: at the values that change nothing they change no hash and no file."""

import pytest
from conftest import lets_train, train
from omegaconf import OmegaConf

from lets_runner import cli, config
from lets_runner.later import LATER, OWN, says_nothing, without
from lets_runner.signature import annotations

# As they were before there were any of them.
HASHES = {
    "": "338848a38accbfb4",
    "method=erm": "2ae03f965db4cc15",
    "data=cifar10 model=resnet18 method=sam": "fa7ef6526bfd9467",
    "data=cifar100 model=timm optimizer=adamw schedule=linear": "1d82629db1e128c9",
    "data=glue task=glue model=deberta_base optimizer=adamw_transformer schedule=warmup_linear": "86355793e3381369",
    "data=imagenet model=torchvision schedule=step": "1bfd64b0e0a734b2",
    "data=iwslt14 task=translation model=transformer_iwslt schedule=inverse_sqrt": "44fa9d962ccfe042",
    "experiment=label_noise": "035eb6af71a6a38c",
    "sam=f_sam": "95c3334ee9e38a13",
    "sam=esam sam.follow=paper": "ce1d5d10a3e3b5e1",
    "sam=ae_looksam": "6f30e714db548b42",
}
CHANGES = {
    "init_from": "elsewhere",
    "ema.decay": "0.9",
    "early_stopping.patience": "3",
    "model.freeze": "[a]",
    "model.pretrained": "true",
    "optimizer.layer_decay": "0.5",
    "schedule.warmup_epochs": "0.5",
    "schedule.warmup_steps": "3",
    "data.mixup": "0.2",
    "data.cutmix": "1.0",
    "data.policy": "randaugment",
    "data.policy_ops": "3",
    "data.policy_magnitude": "5",
    "sam.follow": "program",
    "sam.corrected": "true",
}
OF = {"sam.follow": "sam=f_sam", "sam.corrected": "sam=ae_sam"}  # what has the setting, where not everything has


@pytest.mark.parametrize("words", HASHES)
def test_configurations_are_the_ones_that_they_were(words):
    assert config.identity(cli.compose(*words.split())[0])[:16] == HASHES[words]


@pytest.mark.parametrize("key", LATER)
def test_each_makes_another_configuration_where_it_says_something(key):
    words = ["model=torchvision", "data=cifar10", OF.get(key, "sam=sam")]
    before = config.identity(cli.compose(*words)[0])
    assert config.identity(cli.compose(*words, f"{key}={CHANGES[key]}")[0]) != before


def test_what_says_nothing_is_not_written_down_and_may_be_changed_all_the_same(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    run = train("runs", "model=mlp", "epochs=1")
    written = (run / "config.yaml").read_text()
    assert not [key for key in LATER if OmegaConf.select(OmegaConf.create(written), key) is not None]
    again = ["--config-dir", str(run), "--config-name", "config"]
    changes = ["ema.decay=0.9", "schedule.warmup_steps=2", "data.mixup=0.2", "early_stopping.patience=1"]
    assert lets_train(monkeypatch, *again, "seed=1") == 0
    other = (run.parent / "seed=1" / "config.yaml").read_text()
    assert other.replace("seed: 1", "seed: 0").partition("  origin:")[0] == written
    assert lets_train(monkeypatch, *again, *changes) == 0, capfd.readouterr().err
    [other] = [path for path in run.parents[1].iterdir() if path != run.parent]
    cfg = OmegaConf.load(other / "seed=0" / "config.yaml")
    assert (cfg.ema.decay, cfg.schedule.warmup_steps, cfg.data.mixup) == (0.9, 2, 0.2)


def test_groups_that_are_left_empty_go_and_others_stay():
    plain = {"ema": {"decay": None}, "model": {"freeze": [], "settings": {}}, "data": {"mixup": 0}, "a": {}}
    assert without(plain) == {"model": {"settings": {}}, "a": {}}
    assert not says_nothing("data.mixup", False) and says_nothing("data.mixup", 0)
    assert not says_nothing("model.pretrained", None)  # a folder of texts, in the hash from the beginning


def test_the_runners_own_settings_are_arguments_of_functions():
    for key, function in OWN.items():
        assert key.partition(".")[2] in annotations(function) and key in LATER


def test_a_constructor_that_has_a_setting_of_that_name_gets_it(tmp_path, monkeypatch, capfd):
    (tmp_path / "mine.py").write_text(
        "from torch.optim.lr_scheduler import LambdaLR\n"
        "def schedule(optimizer, *, warmup_steps: int = 7):\n"
        "    return LambdaLR(optimizer, lambda step: 1 / warmup_steps)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    words = ["schedule=constant", "~schedule.factor", "schedule._target_=mine.schedule", "epochs=1", "progress=false"]
    rates = []
    for extra in ([], ["schedule.warmup_steps=5"]):
        assert lets_train(monkeypatch, *words, "model=mlp", f"output=runs{len(rates)}", *extra) == 0, capfd.readouterr()
        [steps] = (tmp_path / f"runs{len(rates)}").rglob("steps.csv")
        rates.append({line.rpartition(",")[2] for line in steps.read_text().splitlines()[1:]})
    assert rates == [{f"{0.05 / 7:.9g}"}, {"0.01"}]
