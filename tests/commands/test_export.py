"""glm-export: folders that load without this package's help, with the adapter's own logits."""

import contextlib
import json
import signal
import subprocess
import sys
import tempfile

import pytest
import torch

from glm_experiments import runs
from glm_experiments.commands import export
from glm_experiments.record.files import LOCK
from tests.running import UNMEASURED

SHORT = ("training.max_steps=3", "training.warmup_share=0", *UNMEASURED)
IDS = torch.tensor([[1201, 1203, 1206, 760, 13, 806, 833, 773, 1207]])


@contextlib.contextmanager
def lock_folder_elsewhere(folder):
    """Inside, another process is at work in a folder."""
    code = (
        "import sys; from pathlib import Path; from glm_experiments.record.run import lock_folder\n"
        f"with lock_folder(Path({str(folder)!r})): print('in', flush=True); input()"
    )
    arguments = [sys.executable, "-c", code]
    with subprocess.Popen(
        arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "in\n"
        yield
        process.communicate("\n")


def logits_of_run(folder):
    run = runs.load_run(folder, config=runs.read_config(folder, []), checkpoint="last")
    with torch.no_grad():
        return run.model(input_ids=IDS).logits


@pytest.fixture(scope="module")
def exported(run_dir, typed_once, tmp_path_factory):
    target = tmp_path_factory.mktemp("export") / "deep" / "merged"
    assert typed_once(export.main, run_dir, "--to", target).code == 0
    return target


def test_lora_is_merged_into_a_plain_checkpoint(exported, run_dir):
    from transformers import AutoModelForCausalLM, GlmForCausalLM

    from glm_experiments.models import load_model

    model = AutoModelForCausalLM.from_pretrained(exported)
    assert type(model) is GlmForCausalLM
    base = load_model("package:tiny_glm")
    with torch.no_grad():
        logits = model(input_ids=IDS).logits
        assert (base(input_ids=IDS).logits - logits).abs().max() > 1e-2
    torch.testing.assert_close(logits, logits_of_run(run_dir), rtol=0, atol=2e-5)


@pytest.mark.slow
def test_a_plain_checkpoint_is_loaded_where_this_package_is_not(exported, run_dir):
    code = (
        "import sys, torch; from transformers import AutoModelForCausalLM;"
        f"model = AutoModelForCausalLM.from_pretrained({str(exported)!r});"
        f"logits = model(input_ids=torch.tensor({IDS.tolist()})).logits;"
        "assert not any(name.startswith('glm_experiments') for name in sys.modules);"
        f"torch.save((type(model).__name__, logits), {str(exported / 'logits.pt')!r})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    name, logits = torch.load(exported / "logits.pt")
    (exported / "logits.pt").unlink()
    assert name == "GlmForCausalLM"
    torch.testing.assert_close(logits, logits_of_run(run_dir), rtol=0, atol=2e-5)


def test_whoever_may_read_a_run_may_read_its_weights(exported, run_dir):
    folders = [exported, run_dir / "adapter", run_dir / "checkpoint-4" / "adapter"]
    for file in (file for folder in folders for file in folder.glob("*.safetensors")):
        (other,) = list(file.parent.glob("*config.json"))[:1]
        assert file.stat().st_mode == other.stat().st_mode


def test_an_export_has_tokenizer_and_prompt_format(exported):
    from glm_experiments.models import load_tokenizer

    names = {each.name for each in exported.iterdir()}
    assert names >= {"config.json", "model.safetensors", "tokenizer.model", "prompt_format.json"}
    assert not list(exported.parent.glob(".*"))
    assert json.loads((exported / "prompt_format.json").read_text()) == {
        "prompt_format": "chatglm3",
        "base": "package:tiny_glm",
    }
    assert "auto_map" not in json.loads((exported / "config.json").read_text())
    ours, theirs = load_tokenizer(str(exported)), load_tokenizer("package:tiny_glm")
    assert ours.encode("你好, Ada!") == theirs.encode("你好, Ada!")


def test_an_export_is_a_model_to_train_from(exported, typed, tmp_path):
    done = typed.train(tmp_path / "run", f"model.path={exported}", *SHORT)
    assert done.code == 0, done.err


def test_a_checkpoint_is_exported(run_dir, typed, tmp_path, exported):
    done = typed(export.main, run_dir, "--checkpoint", "2", "--to", tmp_path / "merged")
    assert done.code == 0, done.err
    assert done.out.endswith(
        f"GlmForCausalLM in float32 (from_pretrained): {tmp_path / 'merged'}\n"
    )
    ours = (tmp_path / "merged" / "model.safetensors").read_bytes()
    assert ours != (exported / "model.safetensors").read_bytes()


def test_what_is_there_is_not_written_over(run_dir, typed, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    done = typed(export.main, run_dir, "--to", tmp_path / "full")
    assert done.code == 1
    assert "exists and is not empty; give a new folder" in done.err
    assert [each.name for each in (tmp_path / "full").iterdir()] == ["mine.txt"]
    (tmp_path / "empty").mkdir()
    assert typed(export.main, run_dir, "--to", tmp_path / "empty").code == 0
    assert (tmp_path / "empty" / "config.json").is_file()


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--checkpoint", "9"], "has no checkpoint of step 9; type best, last or one of: 2, 4"),
        (["tuner.r=x"], "- tuner.r=x: "),
        (["tuner.r=4"], "was trained with lora as it is; leave it out, or train anew"),
    ],
)
def test_a_refused_export_leaves_nothing(arguments, problem, run_dir, typed, tmp_path):
    done = typed(export.main, run_dir, *arguments, "--to", tmp_path / "there")
    assert done.code == 1
    assert problem in done.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("projection", ["true", pytest.param("false", marks=pytest.mark.slow)])
def test_a_prefix_stays_an_adapter(projection, typed, tmp_path):
    from glm_experiments.models import load_model
    from glm_experiments.tuners import load_adapter

    folder, target = tmp_path / "run", tmp_path / "prefix"
    prefix = ["tuner=p_tuning_v2", "tuner.num_virtual_tokens=8"]
    done = typed.train(folder, *prefix, f"tuner.prefix_projection={projection}", *SHORT)
    assert done.code == 0, done.err
    done = typed(export.main, folder, "--to", target)
    assert done.code == 0, done.err
    assert "adapter for package:tiny_glm (glm_experiments.tuners.load_adapter)" in done.out
    # keys and values of 2 heads x 32 for 8 tokens in 6 layers, 4 bytes each
    size = (target / "adapter_model.safetensors").stat().st_size
    assert 6 * 8 * 2 * 2 * 32 * 4 <= size < 6 * 8 * 2 * 2 * 32 * 4 + 4096
    model = load_adapter(load_model("package:tiny_glm", dtype=torch.float32), target)
    with torch.no_grad():
        logits = model(input_ids=IDS).logits
    torch.testing.assert_close(logits, logits_of_run(folder), rtol=0, atol=2e-5)


def test_a_fully_tuned_model_is_a_plain_checkpoint(typed, tmp_path):
    from glm_experiments.models import load_model

    folder, target = tmp_path / "run", tmp_path / "tuned"
    done = typed.train(folder, "tuner=full", "training.learning_rate=1e-3", *SHORT)
    assert done.code == 0, done.err
    assert typed(export.main, folder, "--to", target).code == 0
    with torch.no_grad():
        logits = load_model(str(target), dtype=torch.float32)(input_ids=IDS).logits
    torch.testing.assert_close(logits, logits_of_run(folder), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_a_signal_leaves_a_whole_export_or_nothing(
    signum, code, run_dir, typed, tmp_path, monkeypatch
):
    write, remove = export.write_export, tempfile.TemporaryDirectory.cleanup

    def write_and_stop(run, folder):
        write(run, folder)
        signal.raise_signal(signum)

    def stop_and_remove(self):
        signal.raise_signal(signum)  # once more
        remove(self)

    monkeypatch.setattr(export, "write_export", write_and_stop)
    monkeypatch.setattr(tempfile.TemporaryDirectory, "cleanup", stop_and_remove)
    assert typed(export.main, run_dir, "--to", tmp_path / "one" / "merged").code == code
    assert list((tmp_path / "one").iterdir()) == []
    monkeypatch.setattr(export, "write_export", write)
    done = typed(export.main, run_dir, "--to", tmp_path / "two" / "merged")
    assert done.code == code  # what came while it was moved ends it afterwards
    assert [path.name for path in (tmp_path / "two").iterdir()] == ["merged"]
    assert (tmp_path / "two" / "merged" / "prompt_format.json").is_file()


def test_what_a_killed_export_left_is_deleted_by_the_next(run_dir, typed, tmp_path):
    left, at_work, mine = (tmp_path / f".merged-{each * 8}" for each in "abc")
    for folder in (left, at_work, mine):
        (folder / "merged").mkdir(parents=True)
        (folder / "merged" / "model.safetensors").write_bytes(b"half")
    (left / LOCK).touch()
    with lock_folder_elsewhere(at_work):
        done = typed(export.main, run_dir, "--to", tmp_path / "merged")
    assert done.code == 0, done.err
    assert sorted(tmp_path.iterdir()) == [at_work, mine, tmp_path / "merged"]
