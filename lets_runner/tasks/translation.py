"""Sentences into sentences of another language: cross entropy of every token, and BLEU of what beam search finds."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from lets_runner.columns import Column
from lets_runner.measures import Bleu, Measure, Perplexity
from lets_runner.tasks.task import Output, Part, Task
from lets_runner.tokens import EOS, IGNORED, PAD

NATS = Column("loss", "nats", "lower")


class Batch(Protocol):
    """Pairs of sentences, as the data set makes them: see `data.text.loader.PairBatch`."""

    @property
    def source(self) -> Tensor: ...

    @property
    def target(self) -> Tensor: ...

    @property
    def tokens(self) -> int: ...

    @property
    def mean_tokens(self) -> float: ...

    @property
    def numbers(self) -> Sequence[int]: ...

    @property
    def references(self) -> Sequence[str]: ...

    @property
    def text(self) -> Callable[[Sequence[int]], str]: ...

    def __len__(self) -> int: ...

    def rows(self, rows: slice) -> "Batch": ...


class Translation(Task):
    """The loss is a mean over the target tokens of a batch; the model is one of transformers' encoder-decoders.

    Parts of a batch weigh by their tokens, over microbatches and processes, so the step is that of the whole batch.

    Args:
        label_smoothing: share of the target spread over the vocabulary in the training loss, in [0, 1].
        beam: translations that beam search follows, on the test set.
        length_penalty: translations are ranked by log probability / length ** length_penalty.
        most_a, most_b: a translation of a source of n tokens has at most most_a · n + most_b.
        measures: what is measured of the scores of every token, as of (tokens, vocabulary) and (tokens,); None for the
            perplexity.
        texts: what is measured of translations, on the test set; None for BLEU by sacrebleu's default and, for
            text that is cut into words already, on these very words.
        selects: name of the column that chooses.
    """

    target_kind = "sentences"
    per_example = False

    def __init__(
        self,
        *,
        label_smoothing: float = 0.0,
        beam: int = 5,
        length_penalty: float = 1.0,
        most_a: float = 1.2,
        most_b: int = 10,
        measures: Sequence[Measure] | None = None,
        texts: Sequence[Bleu] | None = None,
        selects: str = "loss",
    ):
        if not 0 <= label_smoothing <= 1:
            raise ValueError(f"label_smoothing={label_smoothing}: must lie in [0, 1]")
        for name, value in {"beam": beam, "most_b": most_b}.items():
            if value < 1:
                raise ValueError(f"{name}={value}: must be at least 1")
        if most_a < 0:
            raise ValueError(f"most_a={most_a}: must be at least 0")
        self.of_tokens = [Perplexity()] if measures is None else list(measures)
        self.of_texts = [Bleu(), Bleu("none", name="tokenized_bleu")] if texts is None else list(texts)
        super().__init__([*self.of_tokens, *self.of_texts], selects=selects, loss=NATS)
        self.label_smoothing, self.beam, self.length_penalty = label_smoothing, beam, length_penalty
        self.most_a, self.most_b = most_a, most_b

    @property
    def signatures(self) -> Mapping[str, str]:
        return {measure.columns[0].name: measure.signature for measure in self.of_texts}

    def check(self, model: nn.Module) -> None:
        config = getattr(model, "config", None)
        if not (getattr(config, "is_encoder_decoder", False) and hasattr(model, "generate")):
            raise ValueError(
                f"{type(model).__name__} does not translate: take model=transformer_iwslt, or another encoder-decoder "
                "of transformers"
            )

    def loss(self, model: nn.Module, batch: Batch, *, per_sample: bool = False) -> Output:
        assert not per_sample
        return self._output(model, batch, "train", self.label_smoothing)

    def measure(self, model: nn.Module, batch: Batch) -> Output:
        return self._output(model, batch, "val", 0.0)

    def examine(self, model: nn.Module, batch: Batch) -> Output:
        output = self._output(model, batch, "test", 0.0)
        texts = self.translations(model, batch)
        sums = [measure.add(texts, batch.references) for measure in self.of_texts]
        of_texts = {name: total.to(output.loss.device) for found in sums for name, total in found.items()}
        said = dict(zip(batch.numbers, texts, strict=True))
        return Output(output.loss, output.count, {**output.sums, **of_texts}, texts=said)

    def split(self, batch: Batch, parts: int) -> list[Part]:
        count = len(batch)
        pieces = [batch.rows(slice(n * count // parts, (n + 1) * count // parts)) for n in range(parts)]
        return [Part(piece, piece.tokens * parts / batch.mean_tokens) for piece in pieces]

    def translations(self, model: Any, batch: Batch) -> list[str]:
        """What beam search finds for every source sentence."""
        model = getattr(model, "module", model)
        most = int(self.most_a * batch.source.shape[1]) + self.most_b
        found = model.generate(
            input_ids=batch.source,
            attention_mask=(batch.source != PAD).long(),
            num_beams=self.beam,
            length_penalty=self.length_penalty,
            max_new_tokens=min(most, model.config.max_position_embeddings - 1),
            early_stopping=self.beam > 1,
            do_sample=False,
            # With sharded weights no process may stop before the others: they meet in every forward pass.
            synced_gpus=any(hasattr(p, "device_mesh") for p in model.parameters()),
        )
        return [batch.text(_sentence(row)) for row in found.tolist()]

    def _output(self, model: nn.Module, batch: Batch, part: str, smoothing: float) -> Output:
        """The mean over the tokens of this batch; sums of the measures that are of this part of the data."""
        target = batch.target
        start = target.new_full((len(target), 1), EOS)
        before = torch.cat([start, target[:, :-1]], 1)
        # Masks of four dimensions are taken as they are; into others transformers looks, and waits for the device.
        mask = (batch.source != PAD)[:, None, None, :]
        past = torch.ones(target.shape[1], target.shape[1], dtype=torch.bool, device=target.device).tril()[None, None]
        scores = model(
            input_ids=batch.source,
            attention_mask=mask,
            decoder_input_ids=before.masked_fill(before == IGNORED, PAD),
            decoder_attention_mask=past,
            use_cache=False,
        ).logits.flatten(0, 1)
        scores, targets = scores.to(torch.promote_types(scores.dtype, torch.float32)), target.flatten()
        total = functional.cross_entropy(scores, targets, label_smoothing=smoothing, reduction="sum")
        measures = [m for m in self.of_tokens if any(part in column.when for column in m.columns)]
        return Output(total / batch.tokens, batch.tokens, self.added(scores, targets, measures))


def _sentence(row: Sequence[int]) -> list[int]:
    """Generated tokens up to the end; the first one started the search."""
    tokens = list(row[1:])
    return tokens[: tokens.index(EOS)] if EOS in tokens else tokens
