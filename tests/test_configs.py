"""What configurations are built into, what they are called, and what makes two of them different."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from conftest import train, write_cifar10

from lets_runner import ASAM, LETS, SAM, FixedRadius, GapMatching, UnperturbedSAM, build, cli, config

CONF = cli.CONF
CPU = torch.device("cpu")


def choices(group):
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


# Parameters of every model on CIFAR-10, as its yaml has it; of those for texts untrained, on DeBERTa's 50,265 pieces.
PARAMETERS = {
    "auto_text": 7_044_098,
    "convnet": 25_578,
    "deberta_base": 139_193_858,
    "mlp": 411_146,
    "pyramidnet110": 28_485_477,
    "pyramidnet272": 26_049_562,
    "resnet18": 11_173_962,
    "resnet50": 23_520_842,
    "timm": 13_966_666,
    "torchvision": 21_289_802,
    "transformer_iwslt": 41_783_296,  # fairseq's transformer_iwslt_de_en with 10,000 pieces in each language
    "vit_s": 21_342_346,
    "wrn28_10": 36_479_194,
}


@pytest.mark.parametrize("choice", choices("model"))
def test_every_model_has_its_size(choice):
    cfg, _ = cli.compose(f"model={choice}", "data=cifar10")
    shape, outputs = ((3, 32, 32), 10)
    if cfg.model._target_.endswith("auto_text"):
        cfg.model.pretrained = None
        shape, outputs = SimpleNamespace(length=128, vocabulary=50_265, padding=0), 2
    if choice == "transformer_iwslt":
        shape, outputs = (175,), 10_000
    with torch.device("meta"):
        model = build.make(cfg, "model", shape, outputs)
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == PARAMETERS[choice]


@pytest.mark.parametrize(
    ("method", "sam", "rule"),
    [
        ("erm", UnperturbedSAM, FixedRadius),
        ("sam", SAM, FixedRadius),
        ("asam", ASAM, FixedRadius),
        ("lets_sam", SAM, LETS),
        ("lets_asam", ASAM, LETS),
        ("gm_sam", SAM, GapMatching),
        ("gm_asam", ASAM, GapMatching),
    ],
)
def test_methods_are_what_they_say_and_name_the_run(method, sam, rule):
    cfg, named = cli.compose(f"method={method}")
    optimizer = build.build(cfg, CPU).trainer.optimizer
    assert (type(optimizer), type(optimizer.sam)) == (rule, sam)
    assert named["method"] == method
    assert config.run_directory(cfg, named).parts[1] == f"digits-convnet-{method}"


def test_the_command_line_wins_over_the_preset():
    cfg, named = cli.compose("sam=asam", "radius=lets_paper", "sam.rho=0.7")
    optimizer = build.build(cfg, CPU).trainer.optimizer
    assert isinstance(optimizer.sam, ASAM)
    assert optimizer.rho == pytest.approx(0.7)
    assert optimizer.bounds == (0.0, float("inf"))
    assert named["method"] == "lets_paper_asam"


def test_lets_defaults_agree_with_the_library(problem):
    """radius=lets is the class's own defaults, but for the learning rate that only a runner can work out."""
    cfg, _ = cli.compose("radius=lets")
    library = LETS(SAM(torch.optim.SGD(problem.params, lr=0.1)))
    ours = build.build(cfg, CPU).trainer.optimizer
    for name in ("every", "upper_batch", "objective", "lr_invariant", "bounds"):
        assert getattr(ours, name) == getattr(library, name)
    assert ours._gap.decay == library._gap.decay
    assert ours._rho_optimizer.eps == library._rho_optimizer.eps
    assert type(ours._curvature) is type(library._curvature)
    assert ours.rho_lr == pytest.approx(20 / 680)


def test_identity_changes_with_every_key_but_seed_and_place():
    base = config.identity(cli.compose()[0])
    assert config.identity(cli.compose("seed=5", "output=elsewhere", "progress=false")[0]) == base
    images = config.identity(cli.compose("data=imagenet", "data.root=a")[0])
    assert config.identity(cli.compose("data=imagenet", "data.root=a", "data.workers=4")[0]) == images
    assert config.identity(cli.compose("data=imagenet", "data.root=b")[0]) != images
    changed = [
        ["epochs=3"],
        ["sam.rho=0.1"],
        ["data.noise_seed=1"],
        ["device=cpu"],
        ["radius=fixed"],
        ["optimizer.lr=0.2"],
    ]
    seen = {config.identity(cli.compose(*overrides)[0]) for overrides in changed}
    assert len(seen | {base}) == len(changed) + 1


def test_the_step_schedule_counts_in_shares_of_the_training():
    cfg, _ = cli.compose("schedule=step", "epochs=10")
    scheduler = build.build(cfg, CPU).trainer.scheduler
    assert sorted(scheduler.milestones) == [51, 102, 136]


def test_measured_batches_are_plain_and_those_of_the_rule_augmented(tmp_path):
    write_cifar10(tmp_path, records=40)
    cfg, _ = cli.compose("data=cifar10", f"data.root={tmp_path}", "batch_size=20", "model.width=4")
    trainer = build.build(cfg, CPU).trainer
    seen, measured = [], []
    real = trainer.task.loss
    trainer.task.loss = lambda model, batch, **settings: seen.append(batch[0]) or real(model, batch, **settings)
    trainer._step()
    plain = trainer.task.measure
    trainer.task.measure = lambda model, batch: measured.append(batch[0]) or plain(model, batch)
    trainer.measure(trainer.val)
    assert len(seen) == 3  # two training passes and the validation pass
    assert torch.equal(seen[0], seen[1])
    blank = [(images == 0).all(1).any() for images in (seen[0], seen[2], measured[0])]
    assert blank == [True, True, False]  # cutout


@pytest.mark.parametrize("word", ["data.mixup=0.5", "data.cutmix=1.0", "data.policy=trivialaugment"])
@pytest.mark.parametrize(("method", "passes"), [("method=lets_sam", 2), ("radius=lets_paper", 3), ("method=sam", 2)])
def test_all_passes_of_a_step_see_one_batch_and_the_rule_one_made_alike(word, method, passes):
    words = [method, "accumulate=2", "seed=2"]  # not every box of CutMix holds a pixel
    trainer, plain = (build.build(cli.compose(*words, *more)[0], CPU).trainer for more in ([word], []))
    seen: list = []
    real = trainer.task.loss
    trainer.task.loss = lambda model, batch, **settings: seen.append(batch) or real(model, batch, **settings)
    trainer._step()
    batches = [tuple(map(torch.cat, zip(*seen[i : i + 2], strict=True))) for i in range(0, len(seen), 2)]
    first = batches[0]
    same = [all(torch.equal(*pair) for pair in zip(first, batch, strict=True)) for batch in batches]
    assert same.count(True) == passes and same[1]
    others = [batch for batch, is_it in zip(batches, same, strict=True) if not is_it]
    assert len(others) == (method != "method=sam")
    for batch, loader in zip([first, *others], (plain.train, plain.val), strict=False):
        images, labels = loader.batch(0)
        assert not torch.equal(batch[0], images)
        assert batch[1].shape == ((64, 10) if "mix" in word else (64,)) and len(labels) == 64


def test_a_setting_of_the_variant_itself_is_not_lost():
    cfg, _ = cli.compose("+sam.max_grad_norm=0.5")
    assert build.build(cfg, CPU).trainer.optimizer.sam.max_grad_norm == 0.5
    cfg, _ = cli.compose("grad_clip=0.25")
    assert build.build(cfg, CPU).trainer.optimizer.sam.max_grad_norm == 0.25


@pytest.mark.parametrize("path", sorted(CONF.rglob("*.yaml")), ids=lambda path: path.relative_to(CONF).as_posix())
def test_yaml_holds_no_tabs_and_ends_in_a_newline(path: Path):
    text = path.read_text(encoding="utf-8")
    assert "\t" not in text
    assert text.endswith("\n")


def test_switches_train(tmp_path):
    directory = train(tmp_path, "deterministic=true", "task.label_smoothing=0.1", "channels_last=true", "epochs=1")
    torch.use_deterministic_algorithms(False)
    assert (directory / "summary.json").is_file()
