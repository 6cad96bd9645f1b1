"""From texts to ids of tokens: by a vocabulary, as a pretrained model does it, or by pieces that are learned here."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from lets_runner.data.regular import check_regular
from lets_runner.extra import missing
from lets_runner.pretrained import folder

PADDING, UNKNOWN, BEGIN, SEPARATOR, MASK = SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
BYTES = 256  # the smallest pieces of text, of which there is one each


class Tokenizer:
    """A tokenizer of the library `tokenizers`, and which id pads.

    Args:
        backend: a `tokenizers.Tokenizer`, with a post-processor that marks where one and two texts begin and end.
        padding: an id.
    """

    def __init__(self, backend: Any, padding: int):
        self.backend, self.padding = backend, padding

    def __len__(self) -> int:
        return self.backend.get_vocab_size()

    def encode(
        self, first: Sequence[str], second: Sequence[str] | None, *, max_length: int
    ) -> tuple[list[list[int]], list[list[int]]]:
        """Ids of every text, or pair of texts, and the segment (0 or 1) of each; the longer of a pair is cut first."""
        self.backend.no_padding()
        self.backend.enable_truncation(max_length)
        batch: list[Any] = list(first) if second is None else list(zip(first, second, strict=True))
        encoded = self.backend.encode_batch_fast(batch)
        return [each.ids for each in encoded], [each.type_ids for each in encoded]


def known(source: str, *, lowercase: bool) -> Tokenizer:
    """The tokenizer of `source`: a file of BERT's WordPiece vocabulary, or a pretrained model's folder or hub id.

    Raises:
        ValueError, OSError: there is none, or a library is missing; in one line.
    """
    path = Path(source).expanduser()
    return _of_vocabulary(path, lowercase) if path.suffix == ".txt" else _of_pretrained(source)


def _of_vocabulary(path: Path, lowercase: bool) -> Tokenizer:
    """BERT's: words, cut into the longest pieces that the vocabulary has; a line of the file is a piece."""
    tokenizers = library()
    if not path.exists():
        raise FileNotFoundError(f"tokenizer={path}: there is no such file")
    check_regular(path)
    pieces = path.read_text(encoding="utf-8").splitlines()
    for special in SPECIAL[:4]:
        if special not in pieces:
            raise ValueError(
                f"tokenizer={path}: has no piece {special}; a line must be a piece, as in BERT's vocab.txt"
            )
    ids = {piece: place for place, piece in enumerate(pieces)}
    backend = tokenizers.Tokenizer(tokenizers.models.WordPiece(ids, unk_token=UNKNOWN))
    backend.normalizer = tokenizers.normalizers.BertNormalizer(lowercase=lowercase)
    backend.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    return _marked(backend)


def _of_pretrained(source: str) -> Tokenizer:
    try:
        from transformers import AutoTokenizer
    except ModuleNotFoundError as error:
        raise missing("transformers", "text") from error
    try:
        found = AutoTokenizer.from_pretrained(folder(source, weights=False), use_fast=True, local_files_only=True)
        return Tokenizer(found.backend_tokenizer, found.pad_token_id)
    except (AttributeError, ImportError, OSError, ValueError) as error:
        raise ValueError(f"tokenizer={source}: cannot be read ({str(error).strip().splitlines()[0]})") from error


def learned(texts: Iterable[str], *, size: int, lowercase: bool) -> Tokenizer:
    """Byte-level BPE, as DeBERTa has it, of at most `size` pieces: the same from the same texts, on any machine."""
    tokenizers = library()
    backend = tokenizers.Tokenizer(tokenizers.models.BPE(unk_token=UNKNOWN))
    if lowercase:
        backend.normalizer = tokenizers.normalizers.Lowercase()
    backend.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=True)
    alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=size, special_tokens=list(SPECIAL), initial_alphabet=alphabet, show_progress=False
    )
    backend.train_from_iterator(texts, trainer)
    return _marked(backend)


def _marked(backend: Any) -> Tokenizer:
    """[CLS] text [SEP], or [CLS] text [SEP] text [SEP]."""
    ids = [(name, backend.token_to_id(name)) for name in (BEGIN, SEPARATOR)]
    backend.post_processor = library().processors.TemplateProcessing(
        single=f"{BEGIN} $A {SEPARATOR}", pair=f"{BEGIN} $A {SEPARATOR} $B:1 {SEPARATOR}:1", special_tokens=ids
    )
    return Tokenizer(backend, backend.token_to_id(PADDING))


def library() -> Any:
    """The library `tokenizers`; raises ValueError where it is missing."""
    try:
        import tokenizers
        import tokenizers.trainers
    except ModuleNotFoundError as error:
        raise missing("tokenizers", "text") from error
    return tokenizers
