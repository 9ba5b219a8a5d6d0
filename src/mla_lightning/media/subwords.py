"""A vocabulary of subwords that is learnt from texts (byte-level byte-pair encoding)."""

from __future__ import annotations

import json
from collections.abc import Iterable

from mla_lightning.errors import DataError, check_number

#: Id 0, as in every store; the 256 bytes follow, so that no text has an unknown token.
PAD = "[PAD]"
MIN_VOCABULARY, MAX_VOCABULARY, VOCABULARY = 300, 10**6, 8000


def learn_subwords(texts: Iterable[str], vocabulary: int = VOCABULARY) -> bytes:
    """Learn a vocabulary by merging the most frequent pairs (Sennrich et al. 2016, Radford 2019).

    Texts are in lower case and normalised (NFKC). The result is the same for the same texts.

    Args:
        texts: The texts, of the training split alone.
        vocabulary: Largest number of tokens, with padding and the 256 bytes; fewer if no further
            pair occurs twice.

    Returns:
        The content of a ``tokenizer.json``, as :class:`~mla_lightning.media.text.Tokens` takes it.

    Raises:
        ConfigError: If the number is out of range.
        DataError: If there is no text.

    Example:
        >>> content = learn_subwords(["low lower lowest"] * 2, vocabulary=300)
        >>> from tokenizers import Tokenizer
        >>> tokenizer = Tokenizer.from_str(content.decode())
        >>> tokenizer.encode("Lower").tokens, tokenizer.encode("slow").tokens
        (['Ġlower'], ['Ġ', 's', 'lo', 'w'])
    """
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

    check_number("vocabulary", vocabulary, MIN_VOCABULARY, MAX_VOCABULARY)
    known = [text for text in texts if text.strip()]
    if not known:
        raise DataError("there is no training text to learn subwords from")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        min_frequency=2,
        special_tokens=[PAD],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(known, trainer)
    content = json.loads(tokenizer.to_str())
    content["added_tokens"] = []  # "[PAD]" in a text is text
    return (json.dumps(content, ensure_ascii=False, indent=1) + "\n").encode()
