"""A tokenizer of ChatGLM2 or ChatGLM3 -> one of the tokenizers library, for plain transformers.

Its ids are exactly those of SentencePiece, or it is refused. By default it reads special tokens in
a text, as other software expects of it; `split_special_tokens=True` takes them as text.
"""

import random
from collections.abc import Iterator

from sentencepiece import sentencepiece_model_pb2
from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
)

from glm_experiments.models.tokenizers.chatglm3_tokenizer import ChatGLM2Tokenizer

BLANK = "\u2581"
"""What SentencePiece writes for a blank, and puts before every text."""
MARK, SEAM = "\ufdd0", "\ufdd1"
"""The first stands before a `sop` that may be a special token, the second between such a token and
a blank. Noncharacters, which no text contains; they vanish where the token is text after all."""
NUM_PROBES = 400

_PIECE = sentencepiece_model_pb2.ModelProto.SentencePiece
_TRAINER = sentencepiece_model_pb2.TrainerSpec


def build_plain_tokenizer(tokenizer: ChatGLM2Tokenizer) -> Tokenizer:
    """The same tokenizer, `[gMASK] sop` before every text included.

    `sop` is a special token right behind `[gMASK]` or alone, `eop` where it is a word: neither is
    one inside a word.

    Raises:
        ValueError: the model file has something that can't be carried over exactly.
    """
    model = sentencepiece_model_pb2.ModelProto.FromString(
        tokenizer.sp_model.serialized_model_proto()
    )
    _check_pieces(model)
    plain = Tokenizer(_build_model(model))
    plain.normalizer = _build_normalizer(model.normalizer_spec)
    plain.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(rf"\A{MARK}"), "removed"),
            # The blank before every text; the normalizer has seen to texts that begin with one.
            pre_tokenizers.Metaspace(replacement=BLANK, prepend_scheme="always", split=False),
            pre_tokenizers.Split(Regex(f"{MARK}|{SEAM}"), "removed"),
        ]
    )
    plain.decoder = decoders.Sequence(
        [
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Replace(Regex(rf"\A{BLANK}"), ""),
            decoders.Replace(BLANK, " "),
        ]
    )
    for index, token in sorted(tokenizer.added_tokens_decoder.items()):
        name = token.content
        flags = {
            "special": token.special,
            # Found in the text as it was given; these two where the normalizer has marked them.
            "normalized": name in ("[gMASK]", "sop"),
            "single_word": name == "eop",
        }
        plain.add_tokens([AddedToken(name, **flags)])
        if plain.token_to_id(name) != index:
            raise ValueError(f"{name} has the id {index}, behind others that are not there")
    start = [("[gMASK]", tokenizer.gmask_token_id), ("sop", tokenizer.sop_token_id)]
    end = (str(tokenizer.eos_token), tokenizer.eos_token_id)
    plain.post_processor = processors.TemplateProcessing(
        single="[gMASK] sop $A", pair=f"[gMASK] sop $A $B {end[0]}", special_tokens=[*start, end]
    )
    _check_equal(plain, tokenizer)
    return plain


def _check_pieces(model: sentencepiece_model_pb2.ModelProto) -> None:
    odd = [
        piece.piece for piece in model.pieces if piece.type in (_PIECE.USER_DEFINED, _PIECE.UNUSED)
    ]
    if odd:
        raise ValueError(f"the model file has pieces that are no plain ones, such as {odd[0]!r}")
    if model.trainer_spec.model_type not in (_TRAINER.BPE, _TRAINER.UNIGRAM):
        raise ValueError("the model file is neither a BPE nor a unigram model")
    spec = model.normalizer_spec
    if not (spec.add_dummy_prefix and spec.escape_whitespaces):
        raise ValueError("the model file puts no blank before a text")
    if model.trainer_spec.treat_whitespace_as_suffix:
        raise ValueError("the model file puts blanks behind words")


def _build_model(model: sentencepiece_model_pb2.ModelProto) -> models.Model:
    spec = model.trainer_spec
    if spec.model_type == _TRAINER.UNIGRAM:
        scores = [(piece.piece, piece.score) for piece in model.pieces]
        return models.Unigram(scores, unk_id=spec.unk_id, byte_fallback=spec.byte_fallback)
    return models.BPE(
        vocab={piece.piece: index for index, piece in enumerate(model.pieces)},
        merges=list(_list_merges(model)),
        unk_token=model.pieces[spec.unk_id].piece,
        fuse_unk=True,
        byte_fallback=spec.byte_fallback,
    )


def _list_merges(model: sentencepiece_model_pb2.ModelProto) -> Iterator[tuple[str, str]]:
    """SentencePiece merges the two neighbours that make the piece of the highest score."""
    scores = {piece.piece: piece.score for piece in model.pieces if piece.type == _PIECE.NORMAL}
    for piece in sorted(scores, key=lambda piece: -scores[piece]):
        for cut in range(1, len(piece)):
            left, right = piece[:cut], piece[cut:]
            if left in scores and right in scores:
                yield left, right


def _build_normalizer(
    spec: sentencepiece_model_pb2.NormalizerSpec,
) -> normalizers.Normalizer:
    # All special tokens but these two are cut out before a text is normalised. The whole text `sop`
    # is the name from which tokenizers makes what it looks for.
    steps: list[normalizers.Normalizer] = [
        normalizers.Replace(Regex(r"(?<=\[gMASK\])sop|\Asop\z"), f"{MARK}sop")
    ]
    if not spec.remove_extra_whitespaces:
        behind = rf"(?<=\[gMASK\]|\[gMASK\]{MARK}sop)[ {BLANK}]"
        steps.append(normalizers.Replace(Regex(behind), f"{SEAM} "))
    if spec.precompiled_charsmap:
        steps.append(normalizers.Precompiled(spec.precompiled_charsmap))
    if spec.remove_extra_whitespaces:
        steps += [normalizers.Replace(Regex(" {2,}"), " "), normalizers.Strip()]
    # Metaspace leaves a text alone that begins with a blank, SentencePiece doesn't.
    steps += [
        normalizers.Replace(Regex(rf"\A[ {BLANK}]"), BLANK * 2),
        normalizers.Replace(" ", BLANK),
    ]
    return normalizers.Sequence(steps)


def _check_equal(plain: Tokenizer, tokenizer: ChatGLM2Tokenizer) -> None:
    """Compare both on texts made of the vocabulary's own pieces.

    Raises:
        ValueError: naming a text of which they make other ids.
    """
    drawn = random.Random(0)
    pieces = list(tokenizer.get_vocab())
    plain.encode_special_tokens = True
    for number in range(NUM_PROBES):
        chosen = drawn.choices(pieces, k=number % 20)
        text = "".join(chosen).replace(BLANK, " ")
        ours = tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True)
        if plain.encode(text, add_special_tokens=False).ids != ours:
            raise ValueError(f"tokenizers makes other ids of {text!r} than SentencePiece")
    plain.encode_special_tokens = False
