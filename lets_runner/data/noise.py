"""Wrong labels, made on purpose, in an exact number."""

import numpy as np
import torch
from torch import Tensor


def noisy_labels(labels: Tensor, share: float, *, classes: int, seed: int | tuple[int, ...]) -> Tensor:
    """Labels of which exactly `share`, rounded to whole examples, are wrong: each another class, all equally likely."""
    rng = np.random.default_rng(seed)
    wrong = torch.from_numpy(rng.permutation(len(labels))[: round(share * len(labels))])
    shift = torch.from_numpy(rng.integers(1, classes, size=len(wrong)))
    result = labels.clone()
    result[wrong] = (labels[wrong] + shift) % classes
    return result


def confused_labels(labels: Tensor, share: float, confusions: dict[int, int], *, seed: int | tuple[int, ...]) -> Tensor:
    """Labels where exactly `share` of every class of `confusions`, rounded to whole examples, carry what it maps to.

    Asymmetric noise, as in Patrini et al., *Making Deep Neural Networks Robust to Label Noise*, 2017, arXiv 1609.03683.
    """
    rng = np.random.default_rng(seed)
    result = labels.clone()
    for source, target in sorted(confusions.items()):
        members = rng.permutation(np.flatnonzero(labels.numpy() == source))
        result[torch.from_numpy(members[: round(share * len(members))])] = target
    return result
