"""What a tokenizer and a model must agree on. Knows ids and sizes, not how either is loaded."""

from typing import Any

from glm_experiments.models.tokenizers.chatglm_tokenizer import ChatGLMTokenizer
from glm_experiments.tokenizer_protocol import Tokenizer


def check_vocabulary(tokenizer: Tokenizer, model_config: Any) -> None:
    """Refuse a tokenizer whose ids the model's embedding does not hold, or that ends elsewhere.

    ChatGLM-6B was published twice, with 150528 and with 130528 embeddings and text ids 20000
    apart; a tokenizer of one with weights of the other produces nonsense or an index error.

    Raises:
        ValueError: naming both sizes, or both end tokens.
    """
    vocab = tokenizer.get_vocab()
    num_embeddings = int(model_config.vocab_size)
    largest_token = max(vocab, key=vocab.__getitem__)
    largest_id = int(vocab[largest_token])
    advice = "load tokenizer and weights from the same path and revision (model.path)"
    if largest_id >= num_embeddings:
        raise ValueError(
            f"tokenizer and model do not belong together: the tokenizer has {len(vocab)} tokens "
            f"with ids up to {largest_id} ({largest_token!r}), but the model has {num_embeddings} "
            f"embeddings; {advice}"
        )
    model_ends = model_config.eos_token_id
    model_ends = model_ends if isinstance(model_ends, list | tuple) else [model_ends]
    tokenizer_end = tokenizer.eos_token_id
    if tokenizer_end is None or model_ends == [None] or tokenizer_end in model_ends:
        return
    raise ValueError(
        f"tokenizer and model do not belong together: the tokenizer ({len(vocab)} tokens) ends a "
        f"text with id {tokenizer_end}, the model ({num_embeddings} embeddings) with "
        f"{', '.join(map(str, model_ends))}; {advice}"
    )


def describe_vocabulary(tokenizer: Tokenizer) -> dict[str, int | None]:
    """What a new model's configuration takes from its tokenizer: size and special token ids."""
    fields: dict[str, int | None] = {
        "vocab_size": max(tokenizer.get_vocab().values()) + 1,
        "pad_token_id": tokenizer.pad_token_id,
        "eos_token_id": tokenizer.eos_token_id,
    }
    if isinstance(tokenizer, ChatGLMTokenizer):
        fields |= {
            "bos_token_id": tokenizer.sop_token_id,
            "mask_token_id": tokenizer.mask_token_id,
            "gmask_token_id": tokenizer.gmask_token_id,
        }
    return fields
