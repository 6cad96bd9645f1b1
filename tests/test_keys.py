"""Which keys somebody may have meant."""

import pytest
from omegaconf import OmegaConf

from lets_runner import cli
from lets_runner.keys import all_keys, leaves, meant


@pytest.fixture(scope="module")
def keys():
    cfg, _ = cli.compose()
    return list(all_keys(OmegaConf.to_container(cfg, resolve=False)))


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("lr", ["optimizer.lr"]),
        ("rho", ["sam.rho"]),
        ("label_noise", ["data.label_noise"]),
        ("total_steps", ["schedule.total_steps", "radius.total_steps", "derived.total_steps"]),
        ("optimizer.learning_rate", ["optimizer.lr"]),
        ("learning_rate", ["optimizer.lr"]),
        ("optimizer.wd", ["optimizer.weight_decay"]),
        ("bs", ["batch_size"]),
        ("epoch", ["epochs"]),
        ("modle", ["model"]),
        ("sam.roh", ["sam.rho"]),
        ("radius.rho", ["sam.rho"]),
        ("optimizer.momentun", ["optimizer.momentum"]),
        ("data.momentun", ["optimizer.momentum"]),
        ("nonsense", []),
        ("data.root", []),
        ("checkpoint.every", ["radius.every"]),
    ],
)
def test_the_key_that_was_meant_is_proposed_whole(keys, wrong, right):
    if wrong == "total_steps":
        assert sorted(meant(wrong, keys)) == sorted(key for key in right if key in keys)
    else:
        assert meant(wrong, keys) == right


def test_keys_are_listed_with_groups_and_leaves_with_their_places():
    tree = {"a": {"b": [1, {"c": 2}], "d": {}}, "e": None}
    assert list(all_keys(tree)) == ["a", "a.b", "a.d", "e"]
    assert list(leaves(tree)) == [("a.b[0]", 1), ("a.b[1].c", 2), ("a.d", {}), ("e", None)]
