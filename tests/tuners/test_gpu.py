"""Tuned models on a GPU: kernels, layers over two devices, replicas."""

from typing import Any

import pytest
import torch
from accelerate import dispatch_model
from torch.nn.attention import SDPBackend, sdpa_kernel

from glm_experiments.tuners import apply_tuner, trainable_parameters
from tests.tuners.tiny_models import build_batch, build_glm, lora_config, p_tuning_config

pytestmark = pytest.mark.gpu

TUNERS = {
    "lora": lora_config(),
    "prefix": p_tuning_config(),
    "projected": p_tuning_config(prefix_projection=True),
}
tuners = pytest.mark.parametrize("config", TUNERS.values(), ids=TUNERS)


def gradients(model: Any, batch: dict[str, torch.Tensor]) -> list[torch.Tensor]:
    model.zero_grad()
    model(**batch, use_cache=False).loss.sum().backward()
    return [each.grad.cpu() for each in trainable_parameters(model).values()]


def assert_close(actual: list[torch.Tensor], expected: list[torch.Tensor]) -> None:
    for one, other in zip(actual, expected, strict=True):
        assert (one - other).abs().max() <= 2e-3 * other.abs().max().clamp(min=1e-3)


@pytest.mark.parametrize("projection", [False, True])
def test_unpadded_batches_reach_flash_attention(projection):
    model = build_glm(dtype=torch.bfloat16).cuda()
    model = apply_tuner(model, p_tuning_config(prefix_projection=projection))
    batch = {name: each.cuda() for name, each in build_batch().items()}
    with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
        assert all(grad.isfinite().all() for grad in gradients(model, batch))


@tuners
@pytest.mark.parametrize("checkpointed", [False, True])
def test_layers_over_two_devices(config, checkpointed):
    expected = gradients(apply_tuner(build_glm(), config), build_batch())
    devices = {
        "model.embed_tokens": 0,
        "model.rotary_emb": 0,
        "model.layers.0": 0,
        "model.layers.1": "cpu",
        "model.layers.2": 0,
        "model.norm": 0,
        "lm_head": 0,
    }
    # As loading does it: with a GPU as main device "cpu" would mean offloaded.
    model = apply_tuner(dispatch_model(build_glm(), devices, main_device="cpu"), config)
    places = {name: each.device.type for name, each in trainable_parameters(model).items()}
    assert all((place == "cpu") == (".layers.1." in name) for name, place in places.items())
    if checkpointed:
        model.train()
        model.gradient_checkpointing_enable()
    assert_close(gradients(model, build_batch()), expected)


@tuners
def test_replicas_of_data_parallel(config):
    model = apply_tuner(build_glm().cuda(), config)
    batch = {name: each.cuda() for name, each in build_batch().items()}
    expected = gradients(model, batch)
    model.zero_grad()
    parallel = torch.nn.DataParallel(model, device_ids=[0, 0])
    # Both halves have as many labels, so the mean of their losses is the loss.
    parallel(**batch, use_cache=False, return_dict=False)[0].mean().backward()
    assert_close([p.grad.cpu() for p in trainable_parameters(model).values()], expected)


@pytest.mark.parametrize("projection", [False, True])
def test_flex_attention_trains_alike(projection):
    config = p_tuning_config(prefix_projection=projection)
    batch = {name: each.cuda() for name, each in build_batch().items()}
    batch["position_ids"] = torch.tensor([[0, 1, 2, 3, 4, 5, 0, 1, 2, 3]]).expand(2, -1).cuda()
    # Compiled kernels want heads of at least 16.
    models = [
        apply_tuner(build_glm(attn_implementation=name, head_dim=16).cuda(), config)
        for name in ("flex_attention", "sdpa")
    ]
    assert_close(gradients(models[0], batch), gradients(models[1], batch))


@tuners
def test_generation(config):
    model = apply_tuner(build_glm(), config)
    prompt, settings = build_batch()["input_ids"][:, :6], {"do_sample": False, "max_new_tokens": 6}
    expected = model.generate(prompt, **settings)
    assert torch.equal(model.cuda().generate(prompt.cuda(), **settings).cpu(), expected)
