"""Which layers go where, from sizes and free memory alone."""

import pytest

from glm_experiments.parallelism.layer_plan import (
    GIB,
    ModelSizes,
    Part,
    describe_stages,
    expected_utilisation,
    plan_stages,
    render_stages,
)

LAYER = Part(weights=4 * GIB, training=1 * GIB, activations=2 * GIB, buffers=3 * GIB)


def sizes(num_layers=8, *, is_tied=False, head=0):
    return ModelSizes(
        embedding=Part(weights=8 * GIB),
        layers=(LAYER,) * num_layers,
        head=Part(weights=head * GIB),
        is_tied=is_tied,
    )


def plan(of, free, *, num_micro_batches=1):
    """free: (device, free GiB) pairs; the layers of each stage."""
    return plan_stages(
        of,
        devices=[device for device, _ in free],
        free_bytes={device: gib * GIB for device, gib in free},
        num_micro_batches=num_micro_batches,
    )


def counts(stages):
    return [stage.last - stage.first + 1 for stage in stages]


def test_equal_layers_are_split_evenly_and_in_order():
    stages = plan(sizes(), [("cuda:0", 1000), ("cuda:1", 1000), ("cuda:2", 1000)])
    assert sorted(counts(stages)) == [2, 3, 3]
    assert [stage.device for stage in stages] == ["cuda:0", "cuda:1", "cuda:2"]
    assert [stage.first for stage in stages[1:]] == [stage.last + 1 for stage in stages[:-1]]
    assert (stages[0].first, stages[-1].last) == (0, 7)


def test_a_heavy_head_has_fewer_layers_beside_it():
    free = [("cuda:0", 1000), ("cuda:1", 1000)]
    assert counts(plan(sizes(head=16), free)) == [5, 3]
    # Tied, it works where the embedding is: half of 8 GiB is as slow as a layer.
    tied = plan(sizes(9, is_tied=True), free)
    assert counts(tied) == [4, 5]
    assert [stage.beside for stage in tied] == [("embedding", "head"), ()]


def test_peaks_count_what_each_stage_holds():
    stages = plan(sizes(), [("cuda:0", 1000), ("cuda:1", 1000)], num_micro_batches=3)
    # 4 layers of 4 + 1 + 3 x 2, once 3; the embedding on the first.
    assert [stage.peak_bytes // GIB for stage in stages] == [4 * 11 + 3 + 8, 4 * 11 + 3]
    assert [stage.weight_bytes // GIB for stage in stages] == [24, 16]


def test_little_memory_moves_layers_to_where_there_is_more():
    assert counts(plan(sizes(), [("cuda:0", 25), ("cuda:1", 60)])) == [2, 6]


def test_stages_on_one_device_share_its_memory():
    free = [("cpu", 120), ("cpu", 120)]
    stages = plan(sizes(), free)
    assert counts(stages) == [4, 4]
    assert [stage.free_bytes // GIB for stage in stages] == [60, 60]
    record = describe_stages(stages, num_micro_batches=1)
    assert record["expected_peak_memory_bytes"] == {"cpu": (39 + 31) * GIB}
    assert record["expected_utilisation"] == 0.5
    assert record["stages"][1]["first"] == 4
    with pytest.raises(RuntimeError, match="does not fit"):
        plan(sizes(), [("cpu", 60), ("cpu", 60)])


def test_a_model_that_does_not_fit_is_refused_with_what_it_needs():
    with pytest.raises(RuntimeError) as error:
        plan(sizes(), [("cuda:0", 20), ("cuda:1", 30)], num_micro_batches=2)
    assert "does not fit the free memory of parallelism.devices" in str(error.value)
    assert "cuda:1  4-7       16.00  39.00  30.00" in str(error.value)
    assert "fewer parallelism.num_micro_batches" in str(error.value)


def test_more_devices_than_layers_are_refused():
    with pytest.raises(ValueError, match="has 3 devices, but the model has 2 layers; type at most"):
        plan(sizes(2), [("cpu", 1000)] * 3)


def test_utilisation_and_table():
    assert expected_utilisation(2, 1) == 0.5
    assert expected_utilisation(2, 4) == 0.8
    assert expected_utilisation(1, 1) == 1
    table = render_stages(
        plan(sizes(), [("cuda:0", 1000), ("cpu", 500)], num_micro_batches=4), num_micro_batches=4
    ).splitlines()
    assert table[2].split() == [
        "0",
        "cuda:0",
        "0-3",
        "24.00",
        "63.00",
        "1000.00",
        "with",
        "embedding",
    ]
    assert table[3].split() == ["1", "cpu", "4-7", "16.00", "55.00", "500.00", "with", "head"]
    assert table[4] == "4 micro batches in flight: devices at most 80% busy"
