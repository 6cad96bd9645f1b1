"""BLEU of translations: how many of their n-grams are in a reference.

Papineni, Roukos, Ward, Zhu, *BLEU: a Method for Automatic Evaluation of Machine Translation*, ACL 2002, as sacrebleu
computes it (Post 2018, arXiv 1804.08771).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from lets_runner.columns import Column
from lets_runner.extra import missing
from lets_runner.measures.measure import Measure

ORDER = 4  # of n-grams, at most


class Bleu(Measure):
    """BLEU of a corpus, 0 to 100, from sums over sentences: n-grams found, n-grams, and lengths.

    Sentences must be translated for it: it is of the test set alone.

    Args:
        tokenize: how sacrebleu cuts words, "13a" by default there; "none" for texts that are cut already.
        name: of the column.
    """

    def __init__(self, tokenize: str = "13a", *, name: str = "bleu"):
        try:
            from sacrebleu.metrics import BLEU
        except ModuleNotFoundError as error:
            raise missing("sacrebleu", "text") from error
        if tokenize not in BLEU.TOKENIZERS:
            raise ValueError(f"tokenize={tokenize}: must be one of {', '.join(sorted(BLEU.TOKENIZERS))}")
        self._bleu: Any = BLEU(tokenize=tokenize, force=True)  # force: of texts that are cut already, say nothing
        self.columns = (Column(name, when=("test",)),)
        orders = range(1, ORDER + 1)
        self._found = [f"{name}_found_{order}" for order in orders]
        self._grams = [f"{name}_grams_{order}" for order in orders]
        self._lengths = [f"{name}_length", f"{name}_reference_length"]
        self.sums = (*self._found, *self._grams, *self._lengths)

    @property
    def signature(self) -> str:
        """How sacrebleu says what was computed, so that others can compute the same."""
        self._bleu.corpus_score(["a"], [["a"]])  # it knows the number of references from then on
        return str(self._bleu.get_signature())

    def add(self, outputs: Sequence[str], targets: Sequence[str]) -> Mapping[str, Tensor]:  # type: ignore[override]
        """The sums of some sentences: translations, and their references."""
        score = self._bleu.corpus_score(list(outputs), [list(targets)])
        numbers = [*score.counts, *score.totals, score.sys_len, score.ref_len]
        return dict(zip(self.sums, torch.tensor(numbers, dtype=torch.float64), strict=True))

    def scores(self, sums: Mapping[str, float], count: int) -> dict[str, float]:
        found, grams, lengths = ([round(sums[n]) for n in names] for names in (self._found, self._grams, self._lengths))
        [column] = self.columns
        if not lengths[1]:
            return {column.name: float("nan")}
        score = self._bleu.compute_bleu(found, grams, *lengths, smooth_method=self._bleu.smooth_method)
        return {column.name: score.score}
