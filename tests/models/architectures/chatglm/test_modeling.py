from typing import Any

import pytest
import torch
from transformers import AutoModel, AutoModelForCausalLM

from glm_experiments.models.architectures.chatglm.config import ChatGLMConfig
from glm_experiments.models.architectures.chatglm.layers import ChatGLMRotaryEmbedding
from glm_experiments.models.architectures.chatglm.modeling import ChatGLMForCausalLM, ChatGLMModel
from glm_experiments.models.loading import load_model
from tests.models.architectures.chatglm.tiny_chatglm import (
    MASK,
    SOP,
    build_config,
    build_model,
    pad,
    sample,
)
from tests.models.golden import GOLDEN, largest_difference, load_case
from tests.shared_data import needs_shared

# Compiling takes ten seconds a shape.
FLEX = pytest.param("flex_attention", marks=pytest.mark.slow)
SAMPLES = [sample(5, 6, seed=1), sample(2, 3, seed=2), sample(9, 1, seed=3), sample(1, 8, seed=4)]


def close(found: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def labels_of(ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    return ids.masked_fill(mask == 0, -100)


def gradients(model: Any, **batch: torch.Tensor) -> dict[str, torch.Tensor]:
    model.zero_grad()
    model(**batch, use_cache=False).loss.backward()
    return {name: each.grad.clone() for name, each in model.named_parameters()}


@needs_shared
@pytest.mark.parametrize("attn_implementation", ["eager", "sdpa", FLEX])
@pytest.mark.parametrize("name", ["single", "infill"])
def test_recorded_sample(name, attn_implementation):
    model = load_model(
        GOLDEN / "chatglm", dtype=torch.float32, attn_implementation=attn_implementation
    )
    case = load_case("chatglm", name)
    with torch.no_grad():
        found = model(input_ids=case["input_ids"], labels=case["labels"])
    assert largest_difference(found.logits, case["logits"]) < 2e-5
    assert float(found.loss) == pytest.approx(float(case["loss"]), rel=1e-4)


@needs_shared
def test_recorded_positions_and_mask_of_the_published_tokenizer():
    model = load_model(GOLDEN / "chatglm", dtype=torch.float32)
    case = load_case("chatglm", "left_padded")
    mask = ~case["attention_mask"]  # published: True = hidden
    with torch.no_grad():
        found = model(
            input_ids=case["input_ids"], attention_mask=mask, position_ids=case["position_ids"]
        )
    for row, length in enumerate(case["length"].tolist()):
        close(found.logits[row, -length:], case["logits"][row, -length:])


@needs_shared
@pytest.mark.parametrize(("name", "dtype"), [("half", "float16"), ("bfloat16", "bfloat16")])
@pytest.mark.parametrize("is_cast", [False, True])
def test_recorded_rotary_tables(name, dtype, is_cast):
    case = load_case("chatglm", f"rotary_{name}")
    rotary = ChatGLMRotaryEmbedding(ChatGLMConfig())
    like = torch.zeros(1, dtype=getattr(torch, dtype))
    rows = torch.arange(2048)[::7]
    tables = (rotary.to(like.dtype) if is_cast else rotary)(like, torch.stack([rows, rows])[None])
    cos, sin = (table[0, :, 0, 0, :, -1].repeat(1, 1, 2) for table in tables)
    for axis in (0, 1):
        assert cos[:, axis].equal(case["cos"])
        assert sin[:, axis].equal(case["sin"])


def test_rotary_frequencies_are_rounded_to_half_precision_in_every_precision(tmp_path):
    build_model(hidden_size=128).save_pretrained(tmp_path)
    exact = 1 / 10000 ** (torch.arange(0, 16, 2) / 16)
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        for load in (AutoModelForCausalLM.from_pretrained, load_model):
            model = load(tmp_path, dtype=dtype)
            assert model.dtype == dtype
            found = model.transformer.rotary_emb.inv_freq.float()
            assert found.equal(exact.half().float())
    assert not exact.equal(exact.half().float())


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("attn_implementation", ["eager", FLEX])
def test_attention_implementations_agree(attn_implementation, side):
    ids, mask = pad(SAMPLES, side=side)
    with torch.no_grad():
        expected = build_model("sdpa")(ids, attention_mask=mask).logits
        found = build_model(attn_implementation)(ids, attention_mask=mask).logits
    close(found[mask.bool()], expected[mask.bool()])


def test_eager_gradients_agree():
    ids, mask = pad(SAMPLES, side="right")
    labels = labels_of(ids, mask)
    expected = gradients(build_model("sdpa"), input_ids=ids, labels=labels)
    found = gradients(build_model("eager"), input_ids=ids, labels=labels)
    for name, each in expected.items():
        close(found[name], each)


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_changes_nothing(side):
    model = build_model()
    ids, mask = pad(SAMPLES, side=side)
    with torch.no_grad():
        for options in ({"attention_mask": mask}, {})[: 1 + (side == "right")]:
            found = model(ids, **options).logits
            for row, each in enumerate(SAMPLES):
                alone = model(torch.tensor([each])).logits[0]
                close(found[row][mask[row].bool()], alone)


@pytest.mark.parametrize("attn_implementation", ["eager", "sdpa", FLEX])
def test_packed_rows_are_their_sequences(attn_implementation):
    model = build_model(attn_implementation)
    plain = [11, 12, 13]
    rows = [[SAMPLES[0], SAMPLES[1], plain], [SAMPLES[2], [14], SAMPLES[3]]]
    packed = [[token for each in row for token in each] for row in rows]
    restarting = [[i for each in row for i in range(len(each))] for row in rows]
    longest = max(map(len, packed))
    ids, _ = pad(packed, side="right")
    # A collator's padding is a sequence of its own.
    position_ids = torch.tensor([row + list(range(longest - len(row))) for row in restarting])
    # Compiled for some processors, torch 2.13's flex attention is wrong on rows this short.
    with torch.no_grad(), torch.compiler.set_stance("force_eager"):
        found = model(ids, position_ids=position_ids, use_cache=False).logits
        for row, samples in enumerate(rows):
            begin = 0
            for each in samples:
                alone = model(torch.tensor([each])).logits[0]
                close(found[row, begin : begin + len(each)], alone)
                begin += len(each)


def test_explicit_positions_say_the_same():
    model = build_model()
    ids = torch.tensor([SAMPLES[0]])
    with torch.no_grad():
        explicit = model(ids, position_ids=model.transformer.build_positions(ids)).logits
        close(explicit, model(ids).logits)


@pytest.mark.parametrize("attention_mask", [True, False])
def test_embeddings_say_the_same_as_their_ids(attention_mask):
    model = build_model()
    ids, mask = pad([*SAMPLES, [11, MASK, 12, SOP, 13], [11, 12]], side="right")
    batch = {"attention_mask": mask} if attention_mask else {}
    embeddings = model.get_input_embeddings()(ids)
    with torch.no_grad():
        expected = model(ids, **batch).logits
        close(model(inputs_embeds=embeddings, **batch).logits, expected)
        # Embeddings of no token, such as a learned prompt's, belong to the context.
        prompt = torch.randn(len(ids), 4, 32)
        longer = torch.cat([torch.full((len(ids), 4), 11), ids], dim=1)
        found = model(inputs_embeds=torch.cat([prompt, embeddings], dim=1)).logits
        explicit = model(
            inputs_embeds=torch.cat([prompt, embeddings], dim=1),
            position_ids=model.transformer.build_positions(longer),
        ).logits
        close(found, explicit)
    with pytest.raises(ValueError, match="exactly one of input_ids and inputs_embeds"):
        model(ids[:1], inputs_embeds=embeddings[:1])


@pytest.mark.parametrize("use_reentrant", [False, True])
def test_activation_checkpointing_agrees(use_reentrant):
    ids, mask = pad(SAMPLES, side="right")
    model = build_model().train()
    batch = {"input_ids": ids, "labels": labels_of(ids, mask)}
    expected = gradients(model, **batch)
    model.gradient_checkpointing_enable({"use_reentrant": use_reentrant})
    model.enable_input_require_grads()
    for name, each in gradients(model, **batch).items():
        close(each, expected[name])


def test_save_and_load(tmp_path):
    model = build_model()
    model.save_pretrained(tmp_path)
    ids = torch.tensor([SAMPLES[0]])
    for load in (ChatGLMForCausalLM.from_pretrained, AutoModelForCausalLM.from_pretrained):
        loaded, report = load(tmp_path, output_loading_info=True)
        assert isinstance(loaded, ChatGLMForCausalLM)
        assert not report["missing_keys"]
        assert not report["unexpected_keys"]
        with torch.no_grad():
            assert loaded(ids).logits.equal(model(ids).logits)
    assert isinstance(AutoModel.from_pretrained(tmp_path), ChatGLMModel)
    assert load_model(tmp_path).config.to_dict().keys() >= {"num_hidden_layers", "gmask_token_id"}


def test_a_saved_model_loads_with_all_its_settings(tmp_path):
    model = build_model(tie_word_embeddings=False, mask_token_id=None, layer_norm_eps=1e-3)
    model.config.remark = "own"
    model.save_pretrained(tmp_path)
    loaded = load_model(tmp_path)
    assert loaded.config.remark == "own"
    assert loaded.config.mask_token_id is None
    assert loaded.lm_head.weight is not loaded.transformer.word_embeddings.weight
    ids = torch.tensor([SAMPLES[0]])
    with torch.no_grad():
        assert loaded(ids).logits.equal(model(ids).logits)


def test_head_is_the_embedding():
    model = build_model()
    assert model.lm_head.weight is model.transformer.word_embeddings.weight
    assert model.get_output_embeddings() is model.lm_head
    model.resize_token_embeddings(120)
    assert model.config.vocab_size == 120
    assert model.lm_head.weight is model.transformer.word_embeddings.weight
    with torch.no_grad():
        assert model(torch.tensor([[119]])).logits.shape == (1, 1, 120)


def test_hidden_states_and_attentions():
    model = build_model("eager")
    ids, mask = pad(SAMPLES, side="left")
    with torch.no_grad():
        found = model(ids, attention_mask=mask, output_hidden_states=True, output_attentions=True)
    batch, length = ids.shape
    assert [each.shape for each in found.hidden_states] == [(batch, length, 32)] * 3
    assert [each.shape for each in found.attentions] == [(batch, 4, length, length)] * 2
    close(found.attentions[0].sum(-1), torch.ones(batch, 4, length))
    close(model.lm_head(found.hidden_states[-1]), found.logits)
    on_padding = found.attentions[0][1, :, -1, mask[1] == 0]
    assert on_padding.numel() > 0
    assert on_padding.abs().max() == 0


def test_only_wanted_logits():
    model = build_model()
    ids = torch.tensor([SAMPLES[0]])
    with torch.no_grad():
        whole = model(ids).logits
        close(model(ids, logits_to_keep=2).logits, whole[:, -2:])
        close(model(ids, logits_to_keep=torch.tensor([1, 3])).logits, whole[:, [1, 3]])


def test_half_precision_runs_on_the_cpu():
    ids, mask = pad(SAMPLES, side="left")
    for dtype in (torch.float16, torch.bfloat16):
        model = build_model().to(dtype)
        with torch.no_grad():
            logits = model(ids, attention_mask=mask).logits
        assert logits.dtype == dtype
        assert logits.isfinite().all()


def test_autocast_keeps_the_residual_stream_in_sixteen_bits():
    model = build_model().bfloat16()
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        found = model(torch.tensor([SAMPLES[0]]), output_hidden_states=True)
    assert {each.dtype for each in found.hidden_states} == {torch.bfloat16}


@pytest.mark.parametrize("attn_implementation", ["eager", "sdpa"])
def test_layers_compile_into_one_graph_each(attn_implementation):
    ids, mask = pad(SAMPLES, side="left")
    model, compiled = build_model(attn_implementation), build_model(attn_implementation)
    for layer in compiled.transformer.layers:
        layer.compile(dynamic=False, fullgraph=True, backend="aot_eager")
    batch = {"input_ids": ids, "attention_mask": mask, "labels": labels_of(ids, mask)}
    expected = gradients(model, **batch)
    for name, each in gradients(compiled, **batch).items():
        close(each, expected[name])


def test_whole_model_compiles_into_one_graph():
    model = build_model()
    ids = torch.tensor([SAMPLES[0]])
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    with torch.no_grad():
        close(compiled(ids, use_cache=False).logits, model(ids).logits)


def test_published_sizes():
    with torch.device("meta"):
        model = ChatGLMForCausalLM(ChatGLMConfig())
    assert sum(each.numel() for each in model.parameters()) == 6_173_286_400
    assert model.config.num_layers == model.config.num_hidden_layers == 28


def test_other_models_configs_are_refused():
    for settings in ({"multi_query_attention": True}, {"quantization_bit": 8}):
        with pytest.raises(ValueError, match=r"(or GLM-4, |=8\)).*models\.load_model"):
            ChatGLMForCausalLM(ChatGLMConfig(**settings))
    with pytest.raises(ValueError, match="two axes of positions"):
        ChatGLMConfig(position_encoding_2d=False)
    with pytest.raises(ValueError, match="hidden_size=30 is not num_attention_heads=4 heads"):
        ChatGLMForCausalLM(build_config(hidden_size=30))


@pytest.mark.gpu
@pytest.mark.parametrize("attn_implementation", ["eager", "sdpa", "flex_attention"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_gpu_gradients_agree_without_a_sync(attn_implementation, dtype):
    ids, mask = pad(SAMPLES, side="right")
    batch = {"input_ids": ids.cuda(), "labels": labels_of(ids, mask).cuda()}
    model = build_model(attn_implementation, hidden_size=256).to("cuda", dtype).train()
    gradients(model, **batch)
    torch.cuda.set_sync_debug_mode("error")
    try:
        found = gradients(model, **batch)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    # These weights amplify rounding, so that bfloat16 is compared with bfloat16.
    plain = build_model("eager", hidden_size=256).to("cuda", dtype).train()
    for name, each in gradients(plain, **batch).items():
        pair = found[name].float().flatten(), each.float().flatten()
        similarity = torch.cosine_similarity(*pair, dim=0)
        assert similarity > (0.99999 if dtype == torch.float32 else 0.98), name
