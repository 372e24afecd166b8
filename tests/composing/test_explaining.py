"""Command lines as a user mistypes them: what is said of each."""

import pytest

from tests.composing.reports import report


@pytest.mark.parametrize(
    ("override", "problem"),
    [
        ("tuner.rr=4", "there is no key tuner.rr; type tuner.r"),
        ("modle=tiny_glm", "there is no key modle; type model"),
        ("learning_rate=0.1", "there is no key learning_rate; type training.learning_rate"),
        ("tuner=loar", "tuner=loar is no option of tuner; type tuner=lora"),
        ("experiment=identty", "experiment=identty is no option of experiment; "
         "type experiment=identity"),
        ("tuner.r=-1", "tuner.r must be positive, got -1; type e.g. tuner.r=1"),
        ("tuner.lora_dropout=1", "tuner.lora_dropout must be at least 0 and below 1, got 1.0; "
         "type e.g. tuner.lora_dropout=0"),
        ("training.batch_size=10", "training.batch_size=10 is not a multiple of "
         "training.micro_batch_size=4; type e.g. training.batch_size=8"),
        ("data.num_validation_rows=0", "there is nothing to evaluate on: data.num_validation_rows "
         "is 0; type e.g. data.num_validation_rows=100, or evaluation.before=false "
         "evaluation.after=false"),
        ("data=files", "data.path is not given; type data.path=FILE, a glob, 'data.path=[A,B]' "
         "or a hub dataset's id"),
        ("training.num_train_epochs=null", "training.max_steps and training.num_train_epochs are "
         "both null, so the training would have no end; type e.g. training.num_train_epochs=1"),
        ("training.early_stopping_patience=2", "training.early_stopping_patience needs evaluations "
         "while training; type e.g. training.eval_steps=50"),
        ("tuner.num_virtual_tokens=4", "tuner.num_virtual_tokens: tuner=lora has no "
         "num_virtual_tokens; type tuner=p_tuning_v2 to use it"),
        ("parallelism.num_devices=2", "parallelism.num_devices: parallelism=single has no "
         "num_devices; type parallelism=distributed or parallelism=sharded to use it"),
        ("parallelism.device=gpu", "parallelism.device has 'gpu', which names no device; type cpu "
         "or e.g. cuda:0"),
        ("+training.extra.bf16=true", "training.extra.bf16 repeats model.dtype; set model.dtype "
         "instead"),
        ("+training.extra.push_to_hub=true", "training.extra.push_to_hub has no place in a run "
         "here; leave it out"),
        ("+training.extra.adam_beta=0.9", "training.extra.adam_beta has no place in a run here; "
         "leave it out, or type +training.extra.adam_beta2=VALUE"),
        ("training.extra.adam_beta2=0.9", "training.extra.adam_beta2=0.9: type "
         "+training.extra.KEY=VALUE to add a key"),
        ("tuner=LoRA", "tuner=LoRA is no option of tuner; type tuner=lora"),
        ("tuner=", "tuner= is no option of tuner; type one of: freeze, full, lora, lora_linear, "
         "p_tuning_v2"),
        ("identity", "'identity' is no key=value; type data=identity or experiment=identity"),
        ("training.max_steps", "'training.max_steps' is no key=value; type "
         "training.max_steps=VALUE"),
        ("data.author=O'Brien", "data.author=O'Brien can't be read as key=value; if it is text, "
         """type 'data.author="O'"'"'Brien"'"""),
        ("data.author=Ada, Countess", "data.author=Ada, Countess: several values make a sweep; "
         """type -m before them, or 'data.author="Ada, Countess"'"""),
        ("=3", "'=3' is no key=value; type KEY=VALUE"),
        ("+foo=1", "there is no key foo; type one of: data, evaluation, experiment, model, name, "
         "objective, parallelism, seed, sweep, tracking, training, tuner"),
        ("+tuner.r=4", "+tuner.r=4: tuner.r is there already; type tuner.r=4"),
        ("~tuner", "~tuner: a run needs every key; type tuner=... to change it"),
        ("tuner.r=4,8", "tuner.r=4,8: several values make a sweep; type -m before them"),
        ("training.learning_rate=inf", "training.learning_rate must be above 0 and finite, got "
         "inf; type e.g. training.learning_rate=1e-4"),
        ("tuner.lora_alpha=inf", "tuner.lora_alpha must be finite, got inf; type e.g. "
         "tuner.lora_alpha=1"),
        ("data.num_train_rows=99999999", "data.num_train_rows must be at most 2000000, got "
         "99999999: generated rows are all kept in memory, about a GiB a million; type e.g. "
         "data.num_train_rows=2000000"),
        ("training.batch_size=1000000000", "training.batch_size must be at most 1000000, got "
         "1000000000: a step of more would be filled up with rows that train nothing; type e.g. "
         "training.batch_size=1000000"),
        ("hydra.run.dir=", "hydra.run.dir= names no folder; type hydra.run.dir=FOLDER, or leave it "
         "out"),
        ("hydra.sweep.dir=''", "hydra.sweep.dir='' names no folder; type hydra.sweep.dir=FOLDER, "
         "or leave it out"),
        ("seed=-1", "seed must be at least 0 and below 2**32, got -1; type e.g. seed=0"),
        ("name=", "name is blank; type e.g. name=my_run"),
        ("model=tiny_glm_untrained", "tuner=lora would leave the random weights of "
         "model.weights=random as they are; type tuner=full, or model.weights=pretrained"),
    ],
)  # fmt: skip
def test_a_mistake_is_named_with_what_to_type(override, problem):
    assert report(override) == [problem]


@pytest.mark.parametrize(
    ("override", "parts"),
    [
        (
            "tuner.r=abc",
            ["tuner.r=abc", "could not be converted to Integer", "type e.g. tuner.r=8"],
        ),
        (
            "model.dtype=bf16",
            ["expected one of [auto, float32, bfloat16, float16]", "model.dtype="],
        ),
        ("training.lr_scheduler_type=cosin", ["[linear, cosine, ", "lr_scheduler_type=cosine"]),
        ("tuner.target_modules=q_proj", ["tuner.target_modules=q_proj", "str is not a ListConfig"]),
        ("training.max_steps=ten", ["to Integer; type e.g. training.max_steps=null"]),
        ("training.batch_size=null", ["is not Optional", "type e.g. training.batch_size=16"]),
    ],
)
def test_a_mistyped_value_is_named_with_a_right_one(override, parts):
    (problem,) = report(override)
    for part in parts:
        assert part in problem


def test_all_problems_come_in_one_report():
    assert report(
        "tuner=loar", "tuner.rr=4", "training.batch_size=10", "data.context_length=0", "+foo.bar=1"
    ) == [
        "there is no key foo.bar; type one of: data, evaluation, experiment, model, name, "
        "objective, parallelism, seed, sweep, tracking, training, tuner",
        "tuner=loar is no option of tuner; type tuner=lora",
        "there is no key tuner.rr; type tuner.r",
        "data.context_length must be positive, got 0; type e.g. data.context_length=1",
        "training.batch_size=10 is not a multiple of training.micro_batch_size=4; "
        "type e.g. training.batch_size=8",
    ]
