"""Networks of transformers: what they get, what is loaded, and what is refused."""

import sys
from types import SimpleNamespace

import pytest
import torch
from torch.nn.functional import cross_entropy
from transformers import AutoModelForSequenceClassification, BertConfig, BertForSequenceClassification

from lets_runner import LETS, SAM
from lets_runner.models import MLP, auto_text, resnet18
from lets_runner.optim.engine import vector

SHAPE = SimpleNamespace(length=32, vocabulary=300, padding=0)
SMALL = {"depth": 2, "width": 16, "heads": 2}
ARCHITECTURES = ["deberta", "deberta-v2", "bert", "roberta", "distilbert"]


def batch(count=6, length=12, seed=0):
    """Sequences of several lengths, with their segments."""
    draw = torch.Generator().manual_seed(seed)
    mask = (torch.arange(length) < torch.randint(3, length + 1, (count, 1), generator=draw)).long()
    ids = torch.randint(5, 300, (count, length), generator=draw) * mask
    return {"input_ids": ids, "attention_mask": mask, "token_type_ids": torch.zeros_like(mask)}


def small(**settings):
    torch.manual_seed(0)
    return auto_text(SHAPE, 3, **{**SMALL, **settings})


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_untrained_networks_of_an_architecture(architecture):
    model = small(architecture=architecture).eval()
    inputs = batch()
    with torch.no_grad():
        out = model(inputs)
        wider = model({name: torch.nn.functional.pad(tensor, (0, 4)) for name, tensor in inputs.items()})
    assert out.shape == (6, 3)
    torch.testing.assert_close(wider, out, rtol=1e-4, atol=1e-5)  # padding says nothing
    config = model.network.config
    assert (config.vocab_size, config.hidden_size, config.num_hidden_layers) == (300, 16, 2)
    if architecture.startswith("deberta"):
        assert config.relative_attention and config.pos_att_type == ["c2p", "p2c"]


@pytest.mark.parametrize("architecture", ["deberta", "deberta-v2", "bert"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_changes_no_more_than_rounding(architecture, dtype):
    model, inputs = small(architecture=architecture).eval(), batch()
    exact = model(inputs)
    with torch.autocast("cpu", dtype):
        rounded = model(inputs)
    rounded.float().sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)
    torch.testing.assert_close(rounded.float(), exact, rtol=0.05, atol=0.02)


def test_settings_reach_the_configuration():
    config = small(dropout=0.3, classifier_dropout=0.4, settings={"max_relative_positions": 8}).network.config
    assert (config.hidden_dropout_prob, config.attention_probs_dropout_prob) == (0.3, 0.3)
    assert config.max_relative_positions == 8
    assert small(classifier_dropout=0.4).network.dropout.p == 0.4
    assert small(architecture="bert", classifier_dropout=0.4).network.dropout.p == 0.4
    assert small().network.dropout.p == 0.1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"architecture": "debertaa"},
            "architecture=debertaa: transformers has no such classifier of texts; did you mean",
        ),
        ({"architecture": "zzz"}, r"no such classifier of texts; it has \d+, such as deberta"),
        (
            {"settings": {"max_relative_position": 3}},
            "settings.max_relative_position: the configuration of deberta has",
        ),
        (
            {"architecture": "distilbert", "dropout": 0.2},
            "settings.hidden_dropout_prob: the configuration of distilbert",
        ),
        ({"width": 15}, r"hidden size \(15\) is not a multiple of the number of attention"),
        ({"lora": {"bogus": 1}}, "lora .*bogus"),
        (
            {"pretrained": "/nowhere/at all"},
            "pretrained=/nowhere/at all is no folder here, .*; put config.json, model.s",
        ),
    ],
    ids=str,
)
def test_refuses(settings, message):
    with pytest.raises(ValueError, match=message):
        small(**settings)


def test_texts_want_a_network_for_texts_and_images_one_for_images():
    with pytest.raises(ValueError, match=r"reads texts, and an example is of the shape \(1, 8, 8\): take data=glue"):
        auto_text((1, 8, 8), 10)
    with pytest.raises(ValueError, match="takes images, and an example is a text: take model=auto_text"):
        resnet18(SHAPE, 10)
    with pytest.raises(ValueError, match="takes numbers, and an example is a text: take model=auto_text"):
        MLP(SHAPE, 10)


@pytest.fixture
def saved(tmp_path):
    """A pretrained network, of another task with five classes."""
    network = small(architecture="deberta").network
    theirs = AutoModelForSequenceClassification.from_config(
        type(network.config)(**{**network.config.to_dict(), "num_labels": 5})
    )
    theirs.save_pretrained(tmp_path / "model")
    return tmp_path / "model", theirs.state_dict()


def test_a_pretrained_network_keeps_its_encoder_and_gets_a_head_of_its_own(saved, capfd):
    path, theirs = saved
    model = small(pretrained=str(path), depth=7, classifier_dropout=0.25)
    ours = model.network.state_dict()
    assert ours["classifier.weight"].shape == (3, 16)
    for name, weights in ours.items():
        if not name.startswith("classifier"):
            assert torch.equal(weights, theirs[name]), name
    assert model.network.dropout.p == 0.25
    assert all(p.dtype == torch.float32 for p in model.parameters())
    assert capfd.readouterr().err == ""


def test_weights_that_torch_saved_are_read_and_no_code_is_run(saved):
    path, theirs = saved
    (path / "model.safetensors").unlink()
    torch.save(theirs, path / "pytorch_model.bin")
    ours = small(pretrained=str(path)).network.state_dict()
    assert torch.equal(ours["deberta.encoder.rel_embeddings.weight"], theirs["deberta.encoder.rel_embeddings.weight"])
    mark = path / "exploded"
    torch.save({**theirs, "bomb": Bomb(mark)}, path / "pytorch_model.bin")
    with pytest.raises(ValueError, match=r"^pretrained=.*model: cannot be loaded \(a file holds more than weights"):
        small(pretrained=str(path))
    assert not mark.exists()


class Bomb:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (type(self.path).touch, (self.path,))


def test_a_folder_without_weights_that_fit_is_refused(saved, tmp_path):
    path, theirs = saved
    (path / "model.safetensors").unlink()
    with pytest.raises(ValueError, match=r"^pretrained=.*: cannot be loaded \(.*"):
        small(pretrained=str(path))
    torch.save({"x": torch.ones(1)}, path / "pytorch_model.bin")
    with pytest.raises(ValueError, match=r"has no weights that fit deberta\.\S+, one of \d+ such"):
        small(pretrained=str(path))
    fewer = {
        name: weights[:, :8] if name.endswith("rel_embeddings.weight") else weights for name, weights in theirs.items()
    }
    torch.save(fewer, path / "pytorch_model.bin")
    with pytest.raises(
        ValueError, match=r"has no weights that fit deberta.encoder.rel_embeddings.weight, one of 1 such"
    ):
        small(pretrained=str(path))


def test_texts_that_a_pretrained_network_cannot_read_are_refused(tmp_path):
    config = BertConfig(
        vocab_size=200, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32
    )
    BertForSequenceClassification(config).save_pretrained(tmp_path)
    with pytest.raises(
        ValueError, match=r"knows 200 tokens, and data.tokenizer has 300; take its own, data.tokenizer="
    ):
        small(pretrained=str(tmp_path))
    with pytest.raises(ValueError, match=r"takes 512 tokens at most; take data.max_length=512"):
        auto_text(SimpleNamespace(length=600, vocabulary=200, padding=0), 2, pretrained=str(tmp_path))


@pytest.mark.parametrize(
    ("package", "extra", "settings"), [("transformers", "text", {}), ("peft", "lora", {"lora": {}})]
)
def test_a_library_that_is_missing_is_named(monkeypatch, package, extra, settings):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ValueError, match=rf"{package} is not installed; pip install 'lets_runner\[{extra}\]'"):
        small(**settings)


# SAM on texts.

LABELS = torch.tensor([0, 1, 2, 0, 1, 2])


def stepped(model, sam, *, lr=0.1):
    """The training loss at θ and θ + ρε̂, and how far the weights were moved in between."""
    trained = [p for p in model.parameters() if p.requires_grad]
    seen = []

    def closure():
        seen.append([p.detach().clone() for p in trained])
        return cross_entropy(model(batch()), LABELS)

    optimizer = sam(torch.optim.SGD(trained, lr=lr), model=model)
    optimizer.step(closure)
    return optimizer, seen


@pytest.mark.parametrize("architecture", ["deberta", "deberta-v2"])
def test_the_passes_of_a_step_share_their_dropout_masks(architecture):
    model = small(architecture=architecture, dropout=0.5)
    losses = []

    def closure():
        loss = cross_entropy(model(batch()), LABELS)
        losses.append(loss.item())
        return loss

    optimizer = SAM(
        torch.optim.SGD(model.parameters(), lr=0.1), 1e-9, model=model
    )  # too small for any weight to change
    for _ in range(3):
        optimizer.step(closure)
    assert losses[0::2] == pytest.approx(losses[1::2], rel=1e-6)
    assert len({round(loss, 4) for loss in losses[0::2]}) == 3  # and from step to step they differ


class Looking:
    """What an exact curvature comes to, as the rule gets it: parameters and products."""

    def __init__(self, rule):
        self.real, self.seen = rule._curvature.product, []
        rule._curvature.product = self

    def __call__(self, params):
        self.seen.append((params, self.real(params)))
        return self.seen[-1][1]


@pytest.mark.parametrize(
    ("architecture", "h", "tolerance"),
    [("bert", 1e-4, 1e-6), ("deberta-v2", 1e-4, 1e-6), ("deberta", 3e-2, 2e-3)],  # whose layer norms are float32 always
)
def test_exact_curvature_is_the_derivative_of_the_perturbed_gradient(architecture, h, tolerance):
    """By central differences; BERT's attention is fused: as it is, it has no second derivative."""
    model = small(architecture=architecture, dropout=0.0).double()

    def closure():
        return cross_entropy(model(batch()), LABELS)

    rule = LETS(SAM(torch.optim.SGD(model.parameters(), lr=0.0), 0.05, model=model), curvature="exact")
    looking = Looking(rule)
    rule.step(closure, closure)
    [(params, product)] = looking.seen
    gradient, ends = torch.autograd.grad(closure(), params), []
    norm, origin = vector.norm(list(gradient)), [p.detach().clone() for p in params]
    for rho in (0.05 * (1 - h), 0.05 * (1 + h)):
        with torch.no_grad():
            for p, start, g in zip(params, origin, gradient, strict=True):
                p.copy_(start + rho * g / norm)
        ends.append(torch.autograd.grad(closure(), params))
    expected = [(after - before) / (2 * h) for before, after in zip(*ends, strict=True)]
    assert vector.norm(vector.minus(product, expected)) < tolerance * vector.norm(expected)


def test_lora_trains_low_rank_matrices_and_the_head_and_perturbs_nothing_else():
    model = small(lora={"r": 2})
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert all(any(word in name for word in ("lora_", "classifier", "pooler")) for name in trained)
    assert any("lora_A" in name for name in trained) and any("classifier" in name for name in trained)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer, seen = stepped(model, lambda base, **s: SAM(base, 0.05, **s))
    assert vector.norm(vector.minus(seen[1], seen[0])).item() == pytest.approx(0.05, rel=1e-4)
    changed = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    assert changed and changed <= trained
    assert optimizer.rho == pytest.approx(0.05)
