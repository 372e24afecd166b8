"""Replicas in one process: the same training as one device's, and what is sent for it."""

import copy
import functools

import pytest
import torch

from glm_experiments.data.collation import Collator
from glm_experiments.parallelism import data_parallel
from glm_experiments.parallelism.data_parallel import DataParallel
from glm_experiments.training.steps import MicroBatchCollator, count_labels
from tests.parallelism.tiny_runs import PAIRS, build_rows, build_tuned, run_training

CPU = torch.device("cpu")
wrap_two = functools.partial(DataParallel, devices=[CPU, CPU])
wrap_four = functools.partial(DataParallel, devices=[CPU] * 4)


def assert_same_training(one, other):
    """The losses are those after the steps before them, so equal ones mean equal steps."""
    losses, result = one
    assert len(losses) == result.steps == 6
    torch.testing.assert_close(other[0], losses, rtol=1e-4, atol=0)
    for name, value in result.state.items():
        # A key's bias hardly changes attention: Adam makes steps of its gradient's rounding noise.
        if not name.endswith("k_proj.bias"):
            torch.testing.assert_close(other[1].state[name], value, rtol=1e-3, atol=1e-5, msg=name)


@pytest.mark.parametrize(("tuner", "kind"), PAIRS)
def test_trains_as_one_device_does(tuner, kind, tmp_path):
    rows = build_rows(kind)
    one = run_training(build_tuned(kind, tuner), output_dir=tmp_path / "one", rows=rows)
    two = run_training(
        build_tuned(kind, tuner),
        output_dir=tmp_path / "two",
        rows=rows,
        num_micro_batches=2,
        wrap=wrap_two,
        activation_checkpointing=True,
    )
    assert_same_training(one, two)


def test_four_replicas_and_a_resume(tmp_path):
    rows = build_rows("glm")
    one = run_training(build_tuned("glm", "lora"), output_dir=tmp_path / "one", rows=rows)
    first = run_training(
        build_tuned("glm", "lora"),
        output_dir=tmp_path / "four",
        rows=rows,
        num_micro_batches=4,
        wrap=wrap_four,
        save_steps=3,
    )
    assert_same_training(one, first)
    resumed = run_training(
        build_tuned("glm", "lora"),
        output_dir=tmp_path / "resumed",
        rows=rows,
        num_micro_batches=4,
        wrap=wrap_four,
        resume=str(tmp_path / "four" / "checkpoint-3"),
    )
    assert resumed[0] == first[0][3:]
    for name, value in first[1].state.items():
        assert torch.equal(resumed[1].state[name], value), name


@pytest.mark.parametrize("num_rows", [1, 3, 5])
def test_gradients_of_uneven_micro_batches_add_up(num_rows):
    """Fewer rows than replicas, and micro_batches with other numbers of rows and of labels."""
    model = build_tuned("chatglm", "p_tuning_v2")
    rows = build_rows("chatglm", num_rows=num_rows)
    batch = MicroBatchCollator(Collator(0), num_micro_batches=1)(rows)
    split = MicroBatchCollator(Collator(0), num_micro_batches=4)(rows)
    num_labels = count_labels(batch)
    assert count_labels(split) == num_labels
    expected = gradients(model, model, batch, num_labels)
    found = gradients(model, wrap_four(model), split, num_labels)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-6, msg=name)


def gradients(model, trained, batch, num_labels):
    model.zero_grad()
    batch = {key: value for key, value in batch.items() if key != "num_tokens"}
    trained(**batch, num_items_in_batch=num_labels)["loss"].backward()
    return {
        name: each.grad.clone() for name, each in model.named_parameters() if each.requires_grad
    }


def test_only_what_trains_and_the_inputs_are_sent(monkeypatch):
    model = build_tuned("glm", "lora")
    rows = build_rows("glm", num_rows=4)
    wrapped = wrap_two(model)
    frozen = {
        name: each.data_ptr() for name, each in model.named_parameters() if not each.requires_grad
    }
    shared = dict(wrapped.replicas[1].named_parameters())
    assert {name: shared[name].data_ptr() for name in frozen} == frozen
    assert set(shared) == set(frozen)
    batch = MicroBatchCollator(Collator(0), num_micro_batches=2)(rows)
    del batch["num_tokens"]
    sent = []

    def count(tensor, device):
        sent.append(tensor.nbytes)
        return tensor.to(device)

    monkeypatch.setattr(data_parallel, "send", count)
    num_labels = count_labels(batch)
    wrapped(**batch, num_items_in_batch=num_labels)
    trained = sum(each.nbytes for each in model.parameters() if each.requires_grad)
    tensors = [each for inputs in batch["micro_batches"] for each in inputs.values()]
    inputs = sum(each.nbytes for each in tensors)
    losses_and_counts = 2 * 4 + 2 * num_labels.nbytes
    assert sum(sent) == trained + inputs + losses_and_counts
    assert trained < sum(each.nbytes for each in model.parameters()) / 10


def test_tied_weights_that_train_stay_tied():
    model = build_tuned("chatglm", "full")
    wrapped = wrap_two(model)
    rows = build_rows("chatglm", num_rows=2)
    batch = MicroBatchCollator(Collator(0), num_micro_batches=2)(rows)
    del batch["num_tokens"]
    wrapped(**batch)["loss"].backward()
    replica = wrapped.replicas[1]
    assert (
        replica.lm_head.weight.data_ptr() == replica.transformer.word_embeddings.weight.data_ptr()
    )


def test_replicas_drop_differently_and_repeatably():
    rows = build_rows("glm", num_rows=1) * 2
    batch = MicroBatchCollator(Collator(0), num_micro_batches=2)(rows)
    del batch["num_tokens"]
    model = build_tuned("glm", "p_tuning_v2", prefix_dropout=0.5)
    wrapped = wrap_two(model).train()
    seen = []
    for replica in wrapped.replicas:
        replica.register_forward_hook(lambda *call: seen.append(call[-1]["loss"].item()))
    for _ in range(2):
        torch.manual_seed(5)
        wrapped(**copy.deepcopy(batch))
    assert seen[0] != seen[1]
    assert seen[:2] == seen[2:]


def test_errors_in_a_replica_keep_their_type():
    model = build_tuned("glm", "lora")
    wrapped = wrap_two(model)
    micro_batches = [{"input_ids": torch.tensor([[1, 2]]), "labels": torch.tensor([[1, 2]])}] * 2
    broken = {**micro_batches[0], "label_positions": torch.tensor([99])}
    with pytest.raises(IndexError, match="out of range"):
        wrapped(micro_batches=[micro_batches[0], broken])


@pytest.mark.gpu
@pytest.mark.parametrize("devices", [["cuda:0", "cuda:0"], ["cuda:0", "cpu"]])
def test_on_gpu_as_one_device_does(devices, tmp_path):
    rows = build_rows("chatglm")
    one = run_training(
        build_tuned("chatglm", "projection", device="cuda:0"),
        output_dir=tmp_path / "one",
        rows=rows,
        device="cuda:0",
    )
    two = run_training(
        build_tuned("chatglm", "projection", device="cuda:0"),
        output_dir=tmp_path / "two",
        rows=rows,
        device="cuda:0",
        num_micro_batches=2,
        wrap=functools.partial(DataParallel, devices=[torch.device(each) for each in devices]),
        activation_checkpointing=True,
    )
    assert_same_training(one, two)


@pytest.mark.multi_gpu
def test_two_gpus_train_as_one_and_drop_differently(tmp_path):
    devices = [torch.device("cuda:0"), torch.device("cuda:1")]
    rows = build_rows("glm")
    one = run_training(
        build_tuned("glm", "lora", device="cuda:0"),
        output_dir=tmp_path / "one",
        rows=rows,
        device="cuda:0",
    )
    two = run_training(
        build_tuned("glm", "lora", device="cuda:0"),
        output_dir=tmp_path / "two",
        rows=rows,
        device="cuda:0",
        num_micro_batches=2,
        wrap=functools.partial(DataParallel, devices=devices),
    )
    assert_same_training(one, two)
    model = build_tuned("glm", "p_tuning_v2", device="cuda:0", prefix_dropout=0.5)
    wrapped = DataParallel(model, devices=devices).train()
    row = {"input_ids": torch.tensor([[5, 6, 7, 8]], device="cuda:0")}
    micro_batch = {**row, "labels": row["input_ids"], "label_positions": torch.tensor([1, 2])}
    torch.manual_seed(0)
    seen = []
    for replica in wrapped.replicas:
        replica.register_forward_hook(lambda *call: seen.append(call[-1]["loss"].item()))
    wrapped(micro_batches=[micro_batch, micro_batch])
    assert len(set(seen)) == 2
