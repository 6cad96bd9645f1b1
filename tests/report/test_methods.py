"""Names, order and looks of methods."""

import pytest

from lets_runner import cli
from lets_runner.report.methods import COLOURS, distinct, method, styles


def named(word, variant, rule="FixedRadius", **settings):
    rho = {} if variant == "UnperturbedSAM" else {"sam.rho": 0.05}
    targets = {"sam._target_": f"lets_runner.{variant}", "radius._target_": f"lets_runner.{rule}"}
    return method(word, targets | rho | settings)


CASES = [
    ("erm", "UnperturbedSAM", "FixedRadius", "ERM"),
    ("sam", "SAM", "FixedRadius", "SAM"),
    ("asam", "ASAM", "FixedRadius", "ASAM"),
    ("ae_sam", "AESAM", "FixedRadius", "AESAM"),
    ("vasso", "VaSSO", "FixedRadius", "VaSSO"),
    ("loss_match_sam", "SAM", "LossMatching", "Loss-match-SAM"),
    ("ramp_sam", "SAM", "Ramp", "Ramp-SAM"),
    ("lets_sam", "SAM", "LETS", "LETS-SAM"),
    ("lets_asam", "ASAM", "LETS", "LETS-ASAM"),
    ("lets_ae_sam", "AESAM", "LETS", "LETS-AESAM"),
    ("lets_sign", "SignSAM", "LETS", "LETS-SignSAM"),
    ("lets_paper_sam", "SAM", "LETS", "LETS-paper-SAM"),
    ("gm_sam", "SAM", "GapMatching", "GM-SAM"),
    ("my_rule_fisher_sam", "FisherSAM", "MyRule", "My-rule-FisherSAM"),
]


@pytest.mark.parametrize(("word", "variant", "rule", "name"), CASES)
def test_names_follow_from_classes(word, variant, rule, name):
    assert named(word, variant, rule).name == name
    assert named(word, variant, rule).moves == (rule != "FixedRadius")


def test_order_is_that_of_the_papers_tables():
    methods = [named(word, variant, rule) for word, variant, rule, _ in CASES if not word.startswith("my")]
    methods.reverse()
    order = [m.word for m in sorted(methods)]
    assert order[:3] == ["erm", "sam", "asam"]
    assert set(order[3:5]) == {"ae_sam", "vasso"}
    assert order[5:7] == ["loss_match_sam", "ramp_sam"]
    assert order[7:9] == ["lets_sam", "lets_asam"]
    assert order[-1] == "gm_sam"


def test_two_words_of_the_same_classes_have_two_names():
    assert distinct([named("sam", "SAM"), named("soft_sam", "SAM"), named("asam", "ASAM")]) == {
        "sam": "SAM [sam]",
        "soft_sam": "SAM [soft_sam]",
        "asam": "ASAM",
    }


def test_looks_are_distinct_and_keep_to_their_method():
    words = ["erm", "mine", "sam", "lets_sam", *(f"other{i}" for i in range(16))]
    looks = styles(words)
    assert len({(look.colour, look.marker) for look in looks.values()}) == len(words)
    assert looks["sam"] == styles(["sam"])["sam"] == styles(["gm_sam", "sam"])["sam"]
    presets = sorted(path.stem for path in (cli.CONF / "method").glob("*.yaml"))
    assert sorted(look.colour for look in styles(presets).values()) == sorted(COLOURS)
    assert styles(presets) == {word: styles([word])[word] for word in presets}  # in every report the same
