"""What is cut from a sample that is longer than the context. Knows token ids, no tokenizer."""

from collections.abc import Sequence

from glm_experiments.data.prompts import Encoded


def fit_context(encoded: Encoded, *, context_length: int) -> tuple[Encoded, int]:
    """Cut a sample to `context_length` tokens; returns it and the number of tokens cut.

    The middle of the context (all before the last answer) goes first, then the answer's end. The
    answer cue and at least one token of the answer always stay. What remains of an earlier answer
    that was cut through is not trained.

    Raises:
        ValueError: not even the cue and one token fit.
    """
    ids, is_trained, cue = encoded.input_ids, encoded.is_trained, encoded.cue_length
    num_cut = len(ids) - context_length
    if num_cut <= 0:
        return encoded, 0
    if context_length <= cue:
        raise ValueError(
            f"data.context_length={context_length} cannot hold the answer cue ({cue} tokens) and "
            f"one token of the answer; type a larger one"
        )
    start = find_last_answer(is_trained)
    room = max(context_length - (len(ids) - start), cue)
    kept = min(room, start, context_length - 1)
    tail = max(kept - kept // 2, min(cue, kept))
    head, resume, end = kept - tail, start - tail, start + context_length - kept
    is_tail_trained = is_trained[resume:start]
    if resume > head and False in is_tail_trained:
        broken = is_tail_trained.index(False)
        is_tail_trained[:broken] = [False] * broken
    return (
        Encoded(
            ids[:head] + ids[resume:end],
            is_trained[:head] + is_tail_trained + is_trained[start:end],
            cue,
        ),
        num_cut,
    )


def find_last_answer(is_trained: Sequence[bool]) -> int:
    """Where the last answer begins: the last tokens without a gap that are trained."""
    start = len(is_trained)
    while start and is_trained[start - 1]:
        start -= 1
    return start
