"""Every way in which a checkpoint can be broken gives one error that names it."""

import json
import pickle
import shutil
import tarfile
from pathlib import Path

import pytest
import torch

from glm_experiments.models import load_model, load_tokenizer
from tests.models.tiny_checkpoints import change_tensors, write_native, write_published
from tests.tiny_tokenizers import tiny_folder

QKV = "transformer.encoder.layers.1.self_attention.query_key_value.weight"
VERSION_1 = {
    "model_type": "chatglm",
    "vocab_size": 96,
    "hidden_size": 32,
    "num_layers": 3,
    "num_attention_heads": 4,
    "inner_hidden_size": 128,
    "layernorm_epsilon": 1e-5,
    "bos_token_id": 84,
    "eos_token_id": 85,
    "max_sequence_length": 128,
    "position_encoding_2d": True,
}
LFS_POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"


class Malicious:
    def __reduce__(self):
        return Path.touch, (Path("must-not-exist"),)


def cut(file: Path) -> None:
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])


def test_missing_shard(tmp_path):
    write_published(tmp_path, num_shards=3)
    (tmp_path / "model-00002-of-00003.safetensors").unlink()
    with pytest.raises(ValueError, match=r"lacks model-00002-of-00003\.safetensors \(1 of 3"):
        load_model(tmp_path)


def test_missing_index(tmp_path):
    write_published(tmp_path, num_shards=3)
    (tmp_path / "model.safetensors.index.json").unlink()
    with pytest.raises(ValueError, match=r"3 weight files .* not their index"):
        load_model(tmp_path)


def test_index_of_another_version(tmp_path):
    write_published(tmp_path, num_shards=2)
    change_tensors(tmp_path / "model-00001-of-00002.safetensors", **{QKV: None})
    change_tensors(tmp_path / "model-00002-of-00002.safetensors", **{QKV: None})
    with pytest.raises(ValueError, match=rf"says that {QKV} lies in .* which does not hold it"):
        load_model(tmp_path)


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"weight_map": {"a": 1}}'])
def test_broken_index(tmp_path, content):
    write_published(tmp_path, num_shards=2)
    (tmp_path / "model.safetensors.index.json").write_text(content)
    with pytest.raises(ValueError, match=r"model\.safetensors\.index\.json"):
        load_model(tmp_path)


def test_no_weights_and_no_config(tmp_path):
    with pytest.raises(ValueError, match=r"has no config\.json"):
        load_model(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(VERSION_1))
    with pytest.raises(ValueError, match="holds no weights"):
        load_model(tmp_path)


@pytest.mark.parametrize("suffix", [".safetensors", ".bin"])
def test_truncated_file(tmp_path, suffix):
    write_published(tmp_path, suffix=suffix)
    file = next(tmp_path.glob(f"*{suffix}"))
    cut(file)
    with pytest.raises(ValueError, match=rf"{file} is truncated"):
        load_model(tmp_path)


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin", "config.json"])
@pytest.mark.parametrize(("content", "problem"), [("", "is empty"), (LFS_POINTER, "git lfs pull")])
def test_empty_files_and_lfs_pointers(tmp_path, name, content, problem):
    write_published(tmp_path, suffix=Path(name).suffix if name != "config.json" else ".bin")
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=rf"{name}.*{problem}"):
        load_model(tmp_path)


@pytest.mark.parametrize("is_zip", [True, False])
def test_pickle_with_code(tmp_path, monkeypatch, is_zip):
    monkeypatch.chdir(tmp_path)
    write_published(tmp_path, suffix=".bin")
    file = tmp_path / "pytorch_model.bin"
    content = {"transformer.output_layer.weight": Malicious()}
    if is_zip:
        torch.save(content, file)
    else:
        file.write_bytes(pickle.dumps(content))
    with pytest.raises(ValueError, match=rf"{file} .*could run code.*refused|{file} .*run code"):
        load_model(tmp_path)
    assert not Path("must-not-exist").exists()


def test_files_of_old_torch_are_refused(tmp_path):
    write_published(tmp_path, suffix=".bin")
    file = tmp_path / "pytorch_model.bin"
    torch.save({"a": torch.ones(1)}, file, _use_new_zipfile_serialization=False)
    with pytest.raises(ValueError, match=r"no zip file as torch\.save writes"):
        load_model(tmp_path)
    with tarfile.open(file, "w") as archive:
        archive.add(tmp_path / "config.json", arcname="storages")
    with pytest.raises(ValueError, match=r"no zip file as torch\.save writes"):
        load_model(tmp_path)


def test_bin_that_is_no_state_dict(tmp_path):
    write_published(tmp_path, suffix=".bin")
    torch.save({"model": {"a": torch.ones(1)}}, tmp_path / "pytorch_model.bin")
    with pytest.raises(ValueError, match=r"no plain dict of tensors.*state_dict\(\) alone"):
        load_model(tmp_path)


def test_wrong_shape(tmp_path):
    write_published(tmp_path)
    change_tensors(tmp_path / "model.safetensors", **{QKV: torch.zeros(60, 32)})
    with pytest.raises(ValueError, match=rf"{QKV} has the shape \(60, 32\), but config\.json"):
        load_model(tmp_path)


def test_wrong_geometry(tmp_path):
    write_published(tmp_path)
    settings = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(settings | {"ffn_hidden_size": 40}))
    with pytest.raises(ValueError, match=r"mlp.* has the shape .* makes .*mlp.* \("):
        load_model(tmp_path)


def test_missing_and_left_over_tensors_are_all_named(tmp_path):
    write_published(tmp_path)
    changes = {QKV: None, "transformer.encoder.layers.7.foreign": torch.zeros(2)}
    change_tensors(tmp_path / "model.safetensors", **changes)
    with pytest.raises(ValueError, match="lacks what fills") as raised:
        load_model(tmp_path)
    for part in "qkv":
        assert f"model.layers.1.self_attn.{part}_proj.weight" in str(raised.value)
    assert "holds transformer.encoder.layers.7.foreign, which has no place" in str(raised.value)


def test_native_folder_lacks_a_tensor(tmp_path):
    write_native(tmp_path)
    change_tensors(tmp_path / "model.safetensors", **{"model.norm.weight": None})
    with pytest.raises(ValueError, match=r"lacks what fills model\.norm\.weight in GlmForCausalLM"):
        load_model(tmp_path)


def test_config_of_another_generation(tmp_path):
    write_published(tmp_path / "published")
    (tmp_path / "published" / "config.json").write_text(json.dumps(VERSION_1))
    with pytest.raises(ValueError, match=r"another generation .* those of ChatGLM2, ChatGLM3 or"):
        load_model(tmp_path / "published")
    write_native(tmp_path / "native")
    settings = (write_published(tmp_path / "other") / "config.json").read_text()
    (tmp_path / "native" / "config.json").write_text(settings)
    with pytest.raises(ValueError, match=r"another generation .* those of a native model"):
        load_model(tmp_path / "native")


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"model_type": "llama"}, "its model_type is 'llama'; known are chatglm"),
        ({"model_type": "glm99"}, "does not know model_type 'glm99'"),
        ({}, "its model_type is None"),
        ({"padded_vocab_size": None, "model_type": "chatglm"}, "lacks 'eos_token_id'|no GLM|lacks"),
        ({"quantization_bit": 3}, "quantization_bit=3; published are 4 and 8"),
    ],
)
def test_config_of_something_else(tmp_path, settings, problem):
    write_published(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(settings))
    with pytest.raises(ValueError, match=problem):
        load_model(tmp_path)


def test_config_lacks_a_key_or_has_a_wrong_kind(tmp_path):
    write_published(tmp_path)
    settings = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(settings | {"hidden_size": "32"}))
    with pytest.raises(ValueError, match=r"config\.json has a value of the wrong kind.*_size"):
        load_model(tmp_path)
    del settings["ffn_hidden_size"]
    (tmp_path / "config.json").write_text(json.dumps(settings))
    with pytest.raises(ValueError, match=r"config\.json lacks 'ffn_hidden_size'"):
        load_model(tmp_path)


def test_unsupported_published_settings(tmp_path):
    write_published(tmp_path, rmsnorm=False)
    with pytest.raises(ValueError, match=r"rmsnorm=False \(only True is\)"):
        load_model(tmp_path)
    write_published(tmp_path, vision_config={})
    with pytest.raises(ValueError, match="vision_config"):
        load_model(tmp_path)


@pytest.mark.parametrize(
    ("changes", "settings", "problem"),
    [
        ({QKV: torch.zeros(64, 32).to(torch.int8)}, {}, "is torch.int8, and has no scale beside"),
        (
            {QKV: torch.zeros(64, 32).to(torch.int8), f"{QKV}_scale": torch.zeros(64).half()},
            {},
            "config.json has no quantization_bit; add 4 or 8",
        ),
        (
            {f"{QKV}_scale": torch.zeros(64).half()},
            {"quantization_bit": 8},
            "is torch.float32, but has a scale beside it",
        ),
        (
            {QKV: torch.zeros(64, 32).to(torch.int8), f"{QKV}_scale": torch.zeros(3).half()},
            {"quantization_bit": 8},
            r"but its scales have \(3,\)",
        ),
        (
            {QKV: torch.zeros(64, 32).to(torch.int8), f"{QKV}_scale": torch.zeros(64).half()},
            {"quantization_bit": 4},
            r"has the shape \(64, 32\)",
        ),
        ({f"{QKV}s_scale": torch.zeros(64).half()}, {}, f"holds {QKV}s_scale, which has no place"),
    ],
)
def test_quantised_tensors_that_do_not_fit(tmp_path, changes, settings, problem):
    write_published(tmp_path, **settings)
    change_tensors(tmp_path / "model.safetensors", **changes)
    with pytest.raises(ValueError, match=problem):
        load_model(tmp_path)


@pytest.mark.parametrize("generation", ["chatglm", "chatglm3"])
def test_tokenizer_of_another_generation(tmp_path, generation):
    shutil.copytree(tiny_folder(generation), tmp_path, dirs_exist_ok=True)
    sizes = {"padded_vocab_size": 96, "vocab_size": 96}
    (tmp_path / "config.json").write_text(json.dumps(VERSION_1 | sizes))
    with pytest.raises(ValueError, match=r"do not belong together: .* \d+ tokens.* 96 embeddings"):
        load_tokenizer(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(VERSION_1 | {"vocab_size": 9999}))
    with pytest.raises(ValueError, match=r"ends a text with id \d+, the model .* with 85"):
        load_tokenizer(tmp_path)
