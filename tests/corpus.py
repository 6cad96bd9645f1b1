"""A small parallel corpus in a made-up language: word for word, the verb last, and files of it as IWSLT'14 has them."""

import numpy as np

NOUNS = {"hund": "dog", "katze": "cat", "vogel": "bird", "fisch": "fish", "baum": "tree", "haus": "house"}
VERBS = {"sieht": "sees", "findet": "finds", "mag": "likes", "sucht": "seeks"}
QUALITIES = {"kleine": "small", "alte": "old", "rote": "red"}


def pairs(count, seed=0):
    """So many pairs of sentences, of 5 to 12 words."""
    rng = np.random.default_rng(seed)
    return [_pair(rng) for _ in range(count)]


def write_corpus(root, train=60, valid=12, test=9, seed=0, **lines):
    """The files of a corpus; `lines` replaces what is in one of them, as in `train_de=[...]`."""
    root.mkdir(parents=True, exist_ok=True)
    for number, (part, count) in enumerate({"train": train, "valid": valid, "test": test}.items()):
        found = pairs(count, seed=(seed, number))
        for place, language in enumerate(("de", "en")):
            text = lines.get(f"{part}_{language}", [pair[place] for pair in found])
            (root / f"{part}.{language}").write_text("".join(f"{line}\n" for line in text), encoding="utf-8")
    return root


def _pair(rng):
    subject, object_ = _thing(rng), _thing(rng)
    verb = rng.choice(list(VERBS))
    source = ["der", *subject[0], "den", *object_[0], verb, "."]
    target = ["the", *subject[1], VERBS[verb], "the", *object_[1], "."]
    return " ".join(source), " ".join(target)


def _thing(rng):
    noun = rng.choice(list(NOUNS))
    qualities = rng.choice(list(QUALITIES), size=rng.integers(0, 3), replace=False)
    return [*qualities, noun], [*(QUALITIES[word] for word in qualities), NOUNS[noun]]
