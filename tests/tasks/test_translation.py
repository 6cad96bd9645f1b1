"""Translation: its loss, its weights over parts, what SAM needs of a transformer, and BLEU."""

import math
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import sacrebleu
import torch
from corpus import pairs, write_corpus
from optim.test_no_sync import Watch

from lets_runner.data import ParallelText
from lets_runner.data.stream import Share
from lets_runner.measures import Accuracy, Bleu, Perplexity
from lets_runner.models import marian
from lets_runner.optim import ASAM, LETS, SAM, FixedRadius
from lets_runner.optim.engine.finite import DeferredGuard
from lets_runner.optim.rules.curvature import Exact
from lets_runner.tasks import Translation
from lets_runner.tokens import EOS, IGNORED, PAD

CPU = torch.device("cpu")
SMALL = {"layers": 1, "width": 8, "hidden": 16, "heads": 2}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return ParallelText(str(write_corpus(tmp_path_factory.mktemp("text"))), merges=40, max_tokens=160, max_length=64)


def network(data, **settings):
    torch.manual_seed(0)
    return marian(data.shape, data.outputs, **{**SMALL, "dropout": 0.0, **settings}).double()


def loader(data, **settings):
    return data.loader(data.splits().train, batch_size=32, seed=(0, 0), device=CPU, augmented=True, **settings)


def by_hand(model, batch, smoothing):
    """The mean over all tokens, sentence by sentence and without any padding, in NumPy."""
    total, count = 0.0, 0
    for source, target in zip(batch.source, batch.target, strict=True):
        source, target = source[source != PAD][None], target[target != IGNORED]
        before = torch.cat([torch.tensor([EOS]), target[:-1]])[None]
        with torch.no_grad():
            scores = model(input_ids=source, decoder_input_ids=before).logits[0].numpy()
        logs = scores - np.log(np.exp(scores).sum(-1, keepdims=True))
        own = -logs[np.arange(len(target)), target.numpy()]
        total += ((1 - smoothing) * own - smoothing * logs.mean(-1)).sum()
        count += len(target)
    return total / count, count


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_is_the_mean_over_tokens_whatever_the_padding(data, smoothing):
    model, batch = network(data).eval(), loader(data).batch(1)
    expected, count = by_hand(model, batch, smoothing)
    assert len({*batch.lengths}) > 1
    output = Translation(label_smoothing=smoothing).loss(model, batch)
    assert (output.loss.item(), output.count) == (pytest.approx(expected, rel=1e-12), count)
    assert Translation(label_smoothing=smoothing).measure(model, batch).loss.item() == pytest.approx(
        by_hand(model, batch, 0.0)[0], rel=1e-12
    )


def test_what_is_measured_of_tokens_leaves_padding_out(data):
    task, model, batch = Translation(measures=[Perplexity(), Accuracy()]), network(data).eval(), loader(data).batch(1)
    output = task.measure(model, batch)
    sums = {name: total.item() for name, total in output.sums.items()}
    scores = task.scores({**dict.fromkeys(task.sums, 0.0), **sums}, output.count)
    assert scores["perplexity"] == pytest.approx(math.exp(by_hand(model, batch, 0.0)[0]), rel=1e-12)
    with torch.no_grad():
        before = torch.cat([torch.full((len(batch), 1), EOS), batch.target[:, :-1]], 1)
        found = model(
            input_ids=batch.source,
            attention_mask=(batch.source != PAD).long(),
            decoder_input_ids=before.masked_fill(before == IGNORED, PAD),
        ).logits.argmax(-1)
    right = sum((row == true)[true != IGNORED].sum().item() for row, true in zip(found, batch.target, strict=True))
    assert scores["accuracy"] == right / batch.tokens
    assert math.isnan(scores["bleu"])
    assert "correct" in task.loss(model, batch).sums and "nats" not in task.loss(model, batch).sums


@pytest.mark.parametrize(("size", "parts"), [(1, 3), (2, 1), (2, 2), (3, 2)])
def test_parts_of_unequal_tokens_weigh_what_they_hold(data, size, parts):
    task, model = Translation(label_smoothing=0.1), network(data).eval()
    for number in range(len(loader(data))):
        whole = task.loss(model, loader(data).batch(number)).loss.item()
        pieces = [
            part
            for rank in range(size)
            for part in task.split(loader(data, share=Share(rank, size, parts)).batch(number), parts)
        ]
        assert len(pieces) == size * parts
        assert len({piece.batch.tokens for piece in pieces}) > 1 or number
        mean = sum(part.weighted(task.loss(model, part.batch).loss).item() for part in pieces) / len(pieces)
        assert mean == pytest.approx(whole, rel=1e-12)
    [alone] = task.split(loader(data).batch(0), 1)
    assert alone.weight == 1.0


def closure(task, model, batch, losses=None):
    loss = task.loss(model, batch).loss
    if losses is not None:
        losses.append(loss.item())
    return loss


@pytest.mark.parametrize("variant", [SAM, ASAM])
def test_the_passes_of_a_step_share_their_dropout(data, variant):
    """So near to θ the perturbed loss is the loss, unless other units were dropped."""
    model, batch, losses = network(data, dropout=0.3).train(), loader(data).batch(0), []
    optimizer = variant(torch.optim.SGD(model.parameters(), lr=0.0), rho=1e-9, model=model)
    for _ in range(2):
        optimizer.step(partial(closure, Translation(), model, batch, losses))
    assert losses[1] == pytest.approx(losses[0], rel=1e-7) and losses[3] == pytest.approx(losses[2], rel=1e-7)
    assert abs(losses[2] - losses[0]) > 1e-3


@pytest.mark.parametrize("shared", [False, True])
def test_a_tied_embedding_counts_once(data, shared):
    model, batch = network(data, share_embeddings=shared), loader(data).batch(0)
    assert model.lm_head.weight is model.model.decoder.embed_tokens.weight
    assert (model.model.encoder.embed_tokens.weight is model.lm_head.weight) is shared
    params = {id(p): p for p in model.parameters() if p.requires_grad}.values()
    gradients = torch.autograd.grad(Translation().loss(model, batch).loss, list(params))
    expected = torch.cat([gradient.flatten() for gradient in gradients]).norm()
    optimizer = SAM(torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1), model=model)
    before = [p.clone() for p in params]
    moved = []

    def perturbed():
        if optimizer.last is not None:
            moved.append(torch.cat([(p - old).flatten() for p, old in zip(params, before, strict=True)]).norm().item())
        return Translation().loss(model, batch).loss

    optimizer.step(perturbed)
    assert optimizer.last.gradient_norm.item() == pytest.approx(expected.item(), rel=1e-10)
    assert moved == [0.0, pytest.approx(0.05, rel=1e-6)]


def test_the_exact_curvature_is_the_hessians_product(data):
    """Against central differences of the gradient along the perturbation; a smooth network, or kinks would show."""
    model, batch = network(data, settings={"activation_function": "gelu"}).eval(), loader(data).batch(0)
    task, params = Translation(), [p for p in model.parameters() if p.requires_grad]

    def gradient():
        return [g.clone() for g in torch.autograd.grad(task.loss(model, batch).loss, params)]

    class Look(FixedRadius):
        def while_perturbed(self, step):
            self.product = [g.clone() for g in Exact().of(self.sam, step)]
            epsilon, here = step.epsilon(), [p.clone() for p in step.params]
            ends = []
            for sign in (1, -1):
                for p, old, e in zip(step.params, here, epsilon, strict=True):
                    p.copy_(old + sign * 1e-4 * e)
                with torch.enable_grad():
                    ends.append(gradient())
            for p, old in zip(step.params, here, strict=True):
                p.copy_(old)
            self.difference = [(up - down) / 2e-4 for up, down in zip(*ends, strict=True)]

    rule = Look(SAM(torch.optim.SGD(params, lr=0.1), rho=0.1, model=model))
    rule.step(partial(closure, task, model, batch))
    product, difference = (torch.cat([g.flatten() for g in gs]) for gs in (rule.product, rule.difference))
    assert difference.norm() > 1e-4
    torch.testing.assert_close(product, difference, rtol=1e-4, atol=1e-6 * difference.norm().item())


@pytest.mark.parametrize("parts", [1, 2])
def test_a_step_reads_nothing_back(data, parts):
    torch.manual_seed(0)
    model = marian(data.shape, data.outputs, **SMALL)
    task = Translation(label_smoothing=0.1)
    optimizer = LETS(
        SAM(torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], fused=True), model=model)
    )
    optimizer.sam._guard = DeferredGuard(CPU, skip=True, scale=optimizer.sam._scale)  # as on an accelerator
    train, val = loader(data), loader(data)

    def step(number):
        closures = (
            [lambda part=part: part.weighted(task.loss(model, part.batch).loss) for part in task.split(batch, parts)]
            for batch in (train.batch(number), val.batch(number))
        )
        optimizer.step(*closures)

    step(0)  # the first update waits, once
    with Watch() as watch:
        for number in range(1, 4):
            step(number)
    assert watch.reads == []


def test_only_encoder_decoders_will_do(data):
    task = Translation()
    task.check(network(data))
    with pytest.raises(ValueError, match="Linear does not translate: take model=transformer_iwslt"):
        task.check(torch.nn.Linear(2, 2))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"label_smoothing": 1.5}, "label_smoothing=1.5: must lie in"),
        ({"beam": 0}, "beam=0: must be at least 1"),
        ({"most_b": 0}, "most_b=0: must be at least 1"),
        ({"most_a": -1.0}, "most_a=-1.0: must be at least 0"),
        ({"selects": "bleu"}, "selects='bleu': what chooses must be measured on val and test"),
    ],
)
def test_impossible_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        Translation(**settings)


# BLEU

REFERENCES = [target for _, target in pairs(40, seed=1)]
FOUND = [target for _, target in pairs(40, seed=2)][:20] + REFERENCES[20:30] + ["no, &quot; word's right .", ""] * 5


@pytest.mark.parametrize("tokenize", ["13a", "none"])
@pytest.mark.parametrize("cuts", [[40], [7, 20, 13], [1] * 40])
def test_bleu_is_sacrebleus_however_the_sentences_are_cut(tokenize, cuts):
    measure = Bleu(tokenize)
    sums, start = dict.fromkeys(measure.sums, 0.0), 0
    for count in cuts:
        added = measure.add(FOUND[start : start + count], REFERENCES[start : start + count])
        sums = {name: sums[name] + added[name].item() for name in sums}
        start += count
    expected = sacrebleu.corpus_bleu(FOUND, [REFERENCES], tokenize=tokenize, force=True).score
    assert measure.scores(sums, 1) == {"bleu": pytest.approx(expected, rel=1e-12)}
    assert 1 < expected < 99
    assert f"tok:{tokenize}|" in measure.signature and "nrefs:1|" in measure.signature


def test_bleu_of_nothing_in_common_and_of_nothing():
    measure = Bleu("none")
    sums = {name: total.item() for name, total in measure.add(["x y z"], ["a b c"]).items()}
    assert measure.scores(sums, 1) == {"bleu": 0.0}
    assert math.isnan(measure.scores(dict.fromkeys(measure.sums, 0.0), 1)["bleu"])
    with pytest.raises(ValueError, match="tokenize=14a: must be one of 13a, char"):
        Bleu("14a")


def best_of_all(model, source, penalty):
    """The best of all translations of one or two tokens: log probability / length ** penalty."""

    def logs(*tokens):
        with torch.no_grad():
            scores = model(
                input_ids=source[source != PAD][None], decoder_input_ids=torch.tensor([[EOS, *tokens]])
            ).logits
        return scores[0, -1].log_softmax(-1).tolist()

    first, found = logs(), {}
    found[()] = first[EOS]
    for token in set(range(len(first))) - {EOS}:
        for then, log in enumerate(logs(token)):
            found[(token,) if then == EOS else (token, then)] = (first[token] + log) / 2**penalty
    return max(found, key=found.__getitem__)


@pytest.mark.parametrize("penalty", [0.0, 1.0])
def test_a_beam_of_all_tokens_finds_the_best_translation(data, penalty):
    model, batch = network(data).eval(), replace(loader(data).batch(0).rows(slice(0, 4)), text=tuple)
    task = Translation(beam=data.outputs, most_a=0.0, most_b=2, length_penalty=penalty)
    with torch.no_grad():
        found = task.translations(model, batch)
    assert found == [best_of_all(model, row, penalty) for row in batch.source]


def test_a_beam_of_one_finds_the_most_probable_token_after_token(data):
    model, batch = network(data).eval(), replace(loader(data).batch(0), text=tuple)
    with torch.no_grad():
        found = Translation(beam=1, most_a=0.1, most_b=5).translations(model, batch)
    most = int(0.1 * batch.source.shape[1]) + 5
    for row, sentence in zip(batch.source, found, strict=True):
        tokens = [EOS]
        while len(tokens) <= most and (len(tokens) == 1 or tokens[-1] != EOS):
            with torch.no_grad():
                scores = model(input_ids=row[row != PAD][None], decoder_input_ids=torch.tensor([tokens])).logits
            tokens.append(int(scores[0, -1].argmax()))
        assert list(sentence) == [token for token in tokens[1:] if token != EOS]


def test_the_test_set_is_examined_and_others_are_measured(data):
    task, model, batch = Translation(beam=2, most_b=3), network(data).eval(), loader(data).batch(0)
    with torch.no_grad():
        output, measured = task.examine(model, batch), task.measure(model, batch)
    assert torch.equal(output.loss, measured.loss)
    assert [*output.texts] == list(batch.numbers)
    expected = Bleu().add(list(output.texts.values()), batch.references)
    assert {name: output.sums[name].item() for name in expected} == {name: n.item() for name, n in expected.items()}
    assert not {*expected} & {*measured.sums} and not measured.texts
