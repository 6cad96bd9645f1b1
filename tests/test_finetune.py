"""Fine-tuning: weights of runs and files, a new head, what is frozen, rates by layer; from the command line too."""

import json
import re
from types import SimpleNamespace

import pytest
import timm
import torch
from conftest import lets_train, train, write_imagenet
from safetensors.torch import save_file
from timm.optim import param_groups_layer_decay
from torch import nn
from torchvision import models

from lets_runner import LETS, SAM
from lets_runner.finetune import begin_from, freeze
from lets_runner.models import ConvNet, timm_model, torchvision_model, vit
from lets_runner.models.text import auto_text
from lets_runner.optimizers import adamw, by_layer, layers, slow_down
from lets_runner.run.checkpoint import read_checkpoint
from lets_runner.weights import fit, read_weights

IMAGES = (3, 32, 32)
DIGITS = (1, 8, 8)
QUICK = ("epochs=1", "batch_size=128", "device=cpu", "model.width=4", "model.batch_norm=true")


def state_of(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def same(model, weights, names):
    return all(torch.equal(model.state_dict()[name], weights[name]) for name in names)


class TestFit:
    def test_all_of_it_comes_in_and_nothing_is_said(self):
        model, other = ConvNet(DIGITS, 10), ConvNet(DIGITS, 10)
        assert fit(model, state_of(other), outputs=10) == ""
        assert same(model, other.state_dict(), model.state_dict())

    def test_a_head_of_other_classes_stays_new_and_is_named(self):
        model, other = ConvNet(DIGITS, 3), ConvNet(DIGITS, 10)
        before = state_of(model)
        assert fit(model, state_of(other), outputs=3) == "7 is new, for 3 classes"
        assert same(model, before, ["7.weight", "7.bias"])
        assert same(model, other.state_dict(), [name for name in before if not name.startswith("7.")])

    def test_a_head_that_is_not_there_stays_new_too(self):
        model, other = models.resnet18(num_classes=5), models.resnet18(num_classes=1000)
        weights = {name: tensor for name, tensor in state_of(other).items() if not name.startswith("fc.")}
        assert fit(model, weights, outputs=5) == "fc is new, for 5 classes"
        assert same(model, weights, weights)

    def test_two_heads(self):
        model = timm.create_model("deit_tiny_distilled_patch16_224", num_classes=5, depth=1)
        other = timm.create_model("deit_tiny_distilled_patch16_224", num_classes=9, depth=1)
        assert fit(model, state_of(other), outputs=5) == "head and head_dist are new, for 5 classes"

    @pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod.", "model.", "backbone.net."])
    def test_prefixes_come_off_and_are_named(self, prefix):
        model, other = ConvNet(DIGITS, 10), ConvNet(DIGITS, 10)
        weights = {f"{prefix}{name}": tensor for name, tensor in state_of(other).items()}
        assert fit(model, weights, outputs=10) == f"{prefix!r} is left out of its names"
        assert same(model, other.state_dict(), model.state_dict())

    def test_a_prefix_of_the_network_goes_on(self):
        inner = ConvNet(DIGITS, 10)
        outer = nn.ModuleDict({"network": ConvNet(DIGITS, 10)})
        assert fit(outer, state_of(inner), outputs=10) == ""
        assert same(outer["network"], inner.state_dict(), inner.state_dict())

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda w: {n: t for n, t in w.items() if n != "3.weight"}, "has no 3.weight, which this network needs"),
            (lambda w: w | {"9.weight": torch.ones(1)}, "has 9.weight, for which this network has no place"),
            (
                lambda w: {f"a{n}": t for n, t in w.items()},
                r"has none of this network's weights: a0.weight and 5 others",
            ),
            (
                lambda w: w | {"3.weight": torch.ones(32, 16, 5, 5)},
                r"has 3.weight of the shape \(32, 16, 5, 5\), and this network of \(32, 16, 3, 3\)",
            ),
            (lambda w: w | {"3.bias": torch.full((32,), float("nan"))}, "has weights that are not finite"),
            (lambda w: w | {"0.weight": torch.ones(10, 1, 3, 3)}, r"has 0.weight of the shape \(10, 1, 3, 3\)"),
        ],
    )
    def test_what_does_not_fit_is_refused_and_nothing_loaded(self, change, message):
        model = ConvNet(DIGITS, 10)
        before = state_of(model)
        with pytest.raises(ValueError, match=message):
            fit(model, change(state_of(ConvNet(DIGITS, 10))), outputs=10)
        assert same(model, before, before)


class TestFiles:
    @pytest.mark.parametrize("nest", [None, "state_dict", "model"])
    def test_of_torch(self, tmp_path, nest):
        weights = state_of(ConvNet(DIGITS, 10))
        torch.save({nest: weights, "epoch": 3} if nest else weights, tmp_path / "w.pt")
        found = read_weights(tmp_path / "w.pt")
        assert all(torch.equal(found[name], weights[name]) for name in weights)

    def test_safetensors(self, tmp_path):
        weights = state_of(ConvNet(DIGITS, 10))
        save_file(weights, tmp_path / "w.safetensors")
        found = read_weights(tmp_path / "w.safetensors")
        assert all(torch.equal(found[name], weights[name]) for name in weights)

    def test_nothing_is_unpickled(self, tmp_path):
        torch.save(ConvNet(DIGITS, 10), tmp_path / "model.pt")
        with pytest.raises(ValueError, match="cannot be read as weights"):
            read_weights(tmp_path / "model.pt")

    @pytest.mark.parametrize(
        ("content", "message"), [(None, "there is no such file"), (b"nothing", "cannot be read as weights")]
    )
    def test_others_are_refused(self, tmp_path, content, message):
        if content is not None:
            (tmp_path / "w.pt").write_bytes(content)
        with pytest.raises(ValueError, match=message):
            read_weights(tmp_path / "w.pt")
        torch.save([1], tmp_path / "list.pt")
        with pytest.raises(ValueError, match="holds no weights by their names"):
            read_weights(tmp_path / "list.pt")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return train(tmp_path_factory.mktemp("run"), *QUICK)


class TestRuns:
    def test_a_run_gives_its_best_checkpoint(self, tmp_path, run):
        model = ConvNet(DIGITS, 10, width=4, batch_norm=True)
        said = begin_from(model, str(run), outputs=10)
        assert said == f"begins with the weights of {run / 'checkpoints' / 'best.pt'}"
        state = read_checkpoint(run / "checkpoints" / "best.pt")["model"]
        assert same(model, state, state)

    def test_an_average_comes_before_the_weights(self, tmp_path):
        run = train(tmp_path, *QUICK, "ema.decay=0.9")
        model = ConvNet(DIGITS, 10, width=4, batch_norm=True)
        begin_from(model, str(run), outputs=10)
        state = read_checkpoint(run / "checkpoints" / "best.pt")
        assert same(model, state["ema"]["model"], state["model"])
        assert not same(model, state["model"], ["0.weight"])

    def test_damage_is_found(self, tmp_path, run):
        content = bytearray((run / "checkpoints" / "best.pt").read_bytes())
        content[len(content) // 2] ^= 1
        (tmp_path / "copy.pt").write_bytes(content)
        with pytest.raises(
            ValueError, match=r"init_from=.*copy.pt: cannot be read \(damaged: its checksum is another\)"
        ):
            begin_from(ConvNet(DIGITS, 10, width=4, batch_norm=True), str(tmp_path / "copy.pt"), outputs=10)

    def test_a_folder_that_is_none_is_refused(self, tmp_path):
        with pytest.raises(ValueError, match=r"init_from=.*: has no checkpoints/best.pt; give a run directory"):
            begin_from(ConvNet(DIGITS, 10), str(tmp_path), outputs=10)

    def test_training_begins_there(self, tmp_path, monkeypatch, capfd, run):
        """With a rate of 0 nothing moves but batch norm's statistics."""
        monkeypatch.chdir(tmp_path)
        words = [*QUICK, "optimizer.lr=0", "method=erm", f"init_from={run}", "progress=false"]
        assert lets_train(monkeypatch, *words) == 0
        _, err = capfd.readouterr()
        assert err == f"lets-train: begins with the weights of {run / 'checkpoints' / 'best.pt'}\n"
        [summary] = tmp_path.rglob("summary.json")
        assert json.loads(summary.read_text())["beginning"] in err
        weights = read_checkpoint(summary.parent / "checkpoints" / "last.pt")["model"]
        before = read_checkpoint(run / "checkpoints" / "best.pt")["model"]
        assert all(torch.equal(w, before[n]) for n, w in weights.items() if "running" not in n and "num" not in n)

    def test_another_network_is_one_line(self, tmp_path, monkeypatch, capfd, run):
        monkeypatch.chdir(tmp_path)
        assert lets_train(monkeypatch, "model=mlp", f"init_from={run}") == 2
        err = capfd.readouterr().err
        assert err.count("\n") == 1 and f"init_from={run}: has " in err
        assert list(tmp_path.iterdir()) == []


class TestFreeze:
    def test_names_are_matched_and_batch_norms_stand_still(self):
        model = models.resnet18(num_classes=5)
        freeze(model, ["conv1", "bn1.*", "layer1.*"])
        held = {name for name, param in model.named_parameters() if not param.requires_grad}
        assert held == {name for name, _ in model.named_parameters() if re.match(r"(conv1|bn1|layer1)\.", name)}
        model.train()
        norms = {name: part.training for name, part in model.named_modules() if isinstance(part, nn.BatchNorm2d)}
        assert {name for name, training in norms.items() if not training} == {
            "bn1",
            *(f"layer1.{block}.bn{number}" for block in (0, 1) for number in (1, 2)),
        }
        assert model.layer1.training and model.fc.training

    def test_an_exclamation_mark_takes_back(self):
        model = ConvNet(DIGITS, 10)
        freeze(model, ["*", "!7"])
        assert [name for name, param in model.named_parameters() if param.requires_grad] == ["7.weight", "7.bias"]

    def test_a_norm_half_of_which_is_trained_counts_on(self):
        model = ConvNet(DIGITS, 10, batch_norm=True)
        freeze(model, ["1.weight"])
        model.train()
        assert model[1].training

    def test_nothing_is_nothing(self):
        model = ConvNet(DIGITS, 10, batch_norm=True)
        freeze(model, [])
        assert all(param.requires_grad for param in model.parameters()) and model.train()[1].training

    @pytest.mark.parametrize(
        ("patterns", "message"),
        [
            (["layer9.*"], r"freeze=layer9.\*: no weight has such a name; near it are layer"),
            (["convv1"], "freeze=convv1: no weight has such a name; near it are conv1"),
            (["zzz"], "freeze=zzz: no weight has such a name; there are conv1.weight, bn1.weight, bn1.bias, ..."),
            (["*"], "freeze=.*: leaves nothing to train"),
        ],
    )
    def test_refuses(self, patterns, message):
        with pytest.raises(ValueError, match=message):
            freeze(models.resnet18(num_classes=5), patterns)

    def test_epsilon_is_over_what_is_trained_alone(self):
        torch.manual_seed(0)
        model, seen = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 2)).double(), []
        freeze(model, ["0"])
        optimizer = SAM(torch.optim.SGD(by_layer(model), lr=0.1), 0.3, model=model)

        def closure():
            seen.append([p.detach().clone() for p in model.parameters()])
            return model(torch.ones(3, 4, dtype=torch.float64)).square().mean()

        optimizer.step(closure)
        moved = [b - a for a, b in zip(*seen, strict=True)]
        assert not moved[0].any() and not moved[1].any()
        norm = torch.cat([change.flatten() for change in moved[2:]]).norm()
        assert norm.item() == pytest.approx(0.3, rel=1e-12)


class TestRatesByLayer:
    @pytest.mark.parametrize("name", ["test_resnet", "test_vit", "resnet26", "test_convnext"])
    def test_of_a_network_of_timm_they_are_timms(self, name):
        model = timm.create_model(name)
        expected = {id(p): g["lr_scale"] for g in param_groups_layer_decay(model, layer_decay=0.6) for p in g["params"]}
        optimizer = adamw(by_layer(model, layer_decay=0.6), lr=0.01)
        slow_down(optimizer, 0.6)
        rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
        assert rates.keys() == expected.keys()
        assert all(rates[key] == pytest.approx(0.01 * expected[key]) for key in rates)

    @pytest.mark.parametrize("name", ["resnet26", "test_vit"])
    def test_by_names_alone_they_are_the_same(self, name, monkeypatch):
        model = timm.create_model(name)
        expected = [[id(p) for p in layer] for layer in layers(model)]
        monkeypatch.delattr(type(model), "group_matcher")
        assert [[id(p) for p in layer] for layer in layers(model)] == expected

    def test_of_torchvisions_transformer_each_block_is_one(self):
        model = vit(IMAGES, 10, depth=3, width=12, heads=3)
        names = {id(param): name for name, param in model.named_parameters()}
        first = [names[id(layer[0])] for layer in layers(model)]
        assert first[0] == "class_token" and first[-1] == "heads.head.weight"
        assert [re.search(r"layer_(\d)", name)[1] for name in first[1:-1]] == ["0", "1", "2"]

    def test_of_a_transformer_of_texts_too(self):
        model = auto_text(SimpleNamespace(length=16, vocabulary=50, padding=0), 2, width=8, depth=3)
        names = {id(param): name for name, param in model.named_parameters()}
        first = [names[id(layer[0])] for layer in layers(model)]
        assert len(first) == 5 and ".embeddings." in first[0] and first[-1] == "network.classifier.weight"

    def test_the_head_comes_first_and_has_the_whole_rate(self):
        model = ConvNet(DIGITS, 10)
        optimizer = torch.optim.SGD(by_layer(model, layer_decay=0.5), lr=0.8)
        slow_down(optimizer, 0.5)
        assert [group["lr"] for group in optimizer.param_groups] == [0.8, 0.4, 0.2]
        assert optimizer.param_groups[0]["params"][0] is model[-1].weight
        assert "depth" not in optimizer.param_groups[0]

    def test_without_a_decay_it_is_one_list_in_the_old_order(self):
        model = ConvNet(DIGITS, 10)
        assert [id(p) for p in by_layer(model)] == [id(p) for p in model.parameters()]

    @pytest.mark.parametrize("base", ["sgd", "adamw"])
    def test_lets_knows_the_rate_of_every_group(self, base, problem):
        """dF/dρ against central differences of F through the whole step, with rates that differ by layer."""

        def gap_after(rho, learns=False):
            model = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 3)).double()
            model.load_state_dict(problem.model.state_dict())
            groups = by_layer(model, layer_decay=0.3)
            made = torch.optim.SGD(groups, lr=0.2, momentum=0.9) if base == "sgd" else adamw(groups, lr=0.02)
            slow_down(made, 0.3)

            def loss(number):
                return lambda: nn.functional.cross_entropy(model(problem.x[number]), problem.y[number])

            optimizer = LETS(
                SAM(made, rho, model=model), curvature="exact", upper_batch="same", rho_lr=0.0, bounds=(0, float("inf"))
            )
            for number in range(3):
                optimizer.sam.rho = 0.1 if number < 2 else rho
                optimizer.step(loss(number), loss(10))
            with torch.no_grad():
                half = 0.5 * (loss(10)() - loss(2)()) ** 2
            return optimizer.last.hypergradient.item() if learns else half.item()

        expected = (gap_after(0.1 + 1e-4) - gap_after(0.1 - 1e-4)) / 2e-4
        assert gap_after(0.1, learns=True) == pytest.approx(expected, rel=1e-5)


class TestPretrained:
    def test_timms_from_a_file(self, tmp_path):
        other = timm.create_model("test_resnet", num_classes=1000)
        save_file(other.state_dict(), tmp_path / "w.safetensors")
        model = timm_model(IMAGES, 5, name="test_resnet", pretrained=str(tmp_path / "w.safetensors"))
        assert same(model, other.state_dict(), [n for n in model.state_dict() if not n.startswith("fc.")])
        assert model.beginning == "begins with pretrained weights; fc is new, for 5 classes"

    def test_timms_of_another_size_and_of_grey_images_is_adapted_as_timm_does(self, tmp_path):
        other = timm.create_model("test_vit", num_classes=1000)
        torch.save(other.state_dict(), tmp_path / "w.pt")
        model = timm_model((1, 64, 64), 5, name="test_vit", pretrained=str(tmp_path / "w.pt"))
        form = {"num_classes": 5, "in_chans": 1, "img_size": (64, 64)}
        overlay = {"file": str(tmp_path / "w.pt")}
        theirs = timm.create_model("test_vit", pretrained=True, pretrained_cfg_overlay=overlay, **form)
        assert same(model, theirs.state_dict(), [n for n in model.state_dict() if not n.startswith("head.")])

    def test_torchvisions_from_a_file(self, tmp_path):
        other = models.googlenet(num_classes=9, init_weights=False)
        torch.save(other.state_dict(), tmp_path / "w.pt")
        model = torchvision_model(IMAGES, 5, name="googlenet", pretrained=str(tmp_path / "w.pt"))
        assert same(model, other.state_dict(), [n for n in model.state_dict() if not n.startswith("fc.")])

    def test_where_others_are_loaded_later_none_are_looked_for(self):
        timm_model(IMAGES, 5, name="test_resnet", pretrained="nowhere.pt", weights=False)
        torchvision_model(IMAGES, 5, name="shufflenet_v2_x0_5", pretrained="nowhere.pt", weights=False)

    def test_the_wrong_file_is_refused(self, tmp_path):
        torch.save(ConvNet(DIGITS, 10).state_dict(), tmp_path / "w.pt")
        with pytest.raises(ValueError, match=r"pretrained=.*w.pt: has none of this network's weights"):
            timm_model(IMAGES, 5, name="test_resnet", pretrained=str(tmp_path / "w.pt"))

    @pytest.mark.parametrize("library", ["timm", "torchvision"])
    def test_without_a_network_it_is_one_line(self, tmp_path, monkeypatch, capfd, library):
        def nothing(*_, **__):
            raise OSError("no network")

        monkeypatch.setattr("lets_runner.pretrained._fetch", nothing)
        monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", nothing)
        monkeypatch.chdir(tmp_path)
        write_imagenet(tmp_path / "images")
        words = [f"model={library}", "data=imagenet", f"data.root={tmp_path / 'images'}", "data.classes=3"]
        name = {"timm": "test_resnet", "torchvision": "resnet18"}[library]
        assert lets_train(monkeypatch, *words, f"model.name={name}", "model.pretrained=true", "data.size=64") == 2
        err = capfd.readouterr().err
        assert err.count("\n") == 1
        assert f"model.pretrained=true: the weights of {name} cannot be had (no network); put them into a file" in err
        assert [path.name for path in tmp_path.iterdir()] == ["images"]

    @pytest.mark.parametrize(
        ("word", "message"),
        [
            (
                "+model.settings.pretrained=true",
                "model: settings.pretrained: say it as model.pretrained=true, or a file",
            ),
            ("+model.settings.checkpoint_path=nope.pt", "settings.checkpoint_path: give the file as model.pretrained"),
            ("model.pretrained=nope.pt", "model.pretrained=nope.pt: there is no such file"),
        ],
    )
    def test_what_cannot_be_had_is_said(self, tmp_path, monkeypatch, capfd, word, message):
        monkeypatch.chdir(tmp_path)
        assert lets_train(monkeypatch, "model=timm", "model.name=test_resnet", word) == 2
        assert message in capfd.readouterr().err


@pytest.mark.parametrize("settings", [[], ["model.freeze=['*','!fc']"], ["model.freeze=[conv1,layer1]"]])
def test_a_network_of_timm_is_fine_tuned_from_a_file(tmp_path, monkeypatch, capfd, settings):
    """Images of a colour a class, from the command line: what is frozen stays to the bit, and it learns."""
    torch.manual_seed(0)
    source = timm.create_model("test_resnet", num_classes=10)
    save_file(source.state_dict(), tmp_path / "weights.safetensors")
    write_imagenet(tmp_path / "images", train=40, val=10)
    monkeypatch.chdir(tmp_path)
    words = ["data=imagenet", f"data.root={tmp_path / 'images'}", "data.classes=3", "data.size=32", "data.workers=0"]
    words += ["model=timm", "model.name=test_resnet", f"model.pretrained={tmp_path / 'weights.safetensors'}"]
    words += ["epochs=6", "batch_size=20", "optimizer.lr=0.05", "optimizer.layer_decay=0.8", "progress=false"]
    assert lets_train(monkeypatch, *words, "schedule.warmup_steps=3", *settings) == 0, capfd.readouterr().err
    assert "begins with pretrained weights; fc is new, for 3 classes" in capfd.readouterr().err
    [path] = tmp_path.rglob("summary.json")
    summary = json.loads(path.read_text())
    assert summary["status"] == "finished" and summary["test_accuracy"] > 0.6
    weights = read_checkpoint(path.parent / "checkpoints" / "last.pt")["model"]
    body = {name: tensor for name, tensor in source.state_dict().items() if not name.startswith("fc.")}
    moved = {name for name, tensor in body.items() if not torch.equal(weights[name], tensor)}
    if not settings:
        assert len(moved) > 20 and "conv1.0.weight" in moved
    elif "!fc" in settings[0]:
        assert moved == set()
    else:
        assert moved and not any(name.startswith(("conv1.", "layer1.")) for name in moved)
