"""Mistakes in a config and what is said of each, in groups that are typed at once: all of a group
are reported together. Those that tests of composing have already are not among them."""

MISTAKES: list[tuple[str, dict[str, str]]] = [
    # Values that no run can have
    (
        "",
        {
            "seed=4294967296": "seed must be at least 0 and below 2**32, got 4294967296; type e.g. "
            "seed=0",
            "name=' '": "name is blank; type e.g. name=my_run",
            "tuner.r=0": "tuner.r must be positive, got 0; type e.g. tuner.r=1",
            "tuner.lora_alpha=0": "tuner.lora_alpha must be positive, got 0.0; type e.g. "
            "tuner.lora_alpha=1",
            "tuner.lora_dropout=-0.1": "tuner.lora_dropout must be at least 0 and below 1, got "
            "-0.1; type e.g. tuner.lora_dropout=0",
            "tuner.target_modules=[]": "tuner.target_modules is empty, so nothing would train; "
            "type e.g. 'tuner.target_modules=${model.attention_modules}'",
            "parallelism.device=mps": "parallelism.device has 'mps', which names no device; type "
            "cpu or e.g. cuda:0",
            "data.context_length=-5": "data.context_length must be positive, got -5; type e.g. "
            "data.context_length=1",
            "data.num_train_rows=0": "data.num_train_rows must be positive, got 0; type e.g. "
            "data.num_train_rows=1",
            "data.replay_share=1": "data.replay_share must be at least 0 and below 1, got 1.0; "
            "type e.g. data.replay_share=0",
            "data.assistant_name=": "data.assistant_name is blank; type data.assistant_name=NAME",
            "data.author=''": "data.author is blank; type data.author=NAME",
            "training.learning_rate=-1e-4": "training.learning_rate must be above 0 and finite, "
            "got -0.0001; type e.g. training.learning_rate=1e-4",
            "training.num_train_epochs=0": "training.num_train_epochs must be positive, got 0.0; "
            "type e.g. training.num_train_epochs=1",
            "training.logging_steps=0": "training.logging_steps must be positive, got 0; type e.g. "
            "training.logging_steps=1",
            "training.save_steps=0": "training.save_steps must be positive, got 0; type e.g. "
            "training.save_steps=1",
            "training.save_total_limit=0": "training.save_total_limit must be positive, got 0; "
            "type e.g. training.save_total_limit=1",
            "training.weight_decay=-1": "training.weight_decay must be at least 0 and below inf, "
            "got -1.0; type e.g. training.weight_decay=0",
            "training.max_grad_norm=inf": "training.max_grad_norm must be at least 0 and below "
            "inf, got inf; type e.g. training.max_grad_norm=0",
            "training.warmup_share=1": "training.warmup_share is 1.0, so the learning rate would "
            "never arrive; type a share of all steps below 1, e.g. training.warmup_share=0.05",
            "evaluation.batch_size=-1": "evaluation.batch_size must be positive, got -1; type e.g. "
            "evaluation.batch_size=1",
            "evaluation.max_new_tokens=0": "evaluation.max_new_tokens must be positive, got 0; "
            "type e.g. evaluation.max_new_tokens=1",
            "evaluation.num_rows=0": "evaluation.num_rows must be positive, got 0; type e.g. "
            "evaluation.num_rows=1",
            "evaluation.metrics=[bleu]": "evaluation.metrics has 'bleu'; type of exact_match, "
            "bleu4, rouge, perplexity",
        },
    ),
    # Values of another kind
    (
        "",
        {
            "tuner.r=4.5": "tuner.r=4.5: Value '4.5' of type 'float' could not be converted to "
            "Integer; type e.g. tuner.r=8",
            "tuner.use_dora=maybe": "tuner.use_dora=maybe: Value 'maybe' is not a valid bool (type "
            "str); type e.g. tuner.use_dora=false",
            "tuner.dtype=float16": "tuner.dtype=float16: Invalid value 'float16', expected one of "
            "[float32, bfloat16]; type e.g. tuner.dtype=float32",
            "training.learning_rate=fast": "training.learning_rate=fast: Value 'fast' of type "
            "'str' could not be converted to Float; type e.g. training.learning_rate=0.0001",
            "training.resume=null": "training.resume=null: field 'training.resume' is not "
            "Optional; type e.g. training.resume=auto",
            "data.context_length=long": "data.context_length=long: Value 'long' of type 'str' "
            "could not be converted to Integer; type e.g. data.context_length=256",
            "data.train_on=all": "data.train_on=all: Invalid value 'all', expected one of "
            "[every_turn, last_turn]; type e.g. data.train_on=every_turn",
            "data.prompt_format=chatglm4": "data.prompt_format=chatglm4: Invalid value 'chatglm4', "
            "expected one of [chatglm, chatglm2, chatglm3, glm4, alpaca]; type e.g. "
            "data.prompt_format=${model.prompt_format}",
            "data.split_seed=x": "data.split_seed=x: Value 'x' of type 'str' could not be "
            "converted to Integer; type e.g. data.split_seed=0",
            "model.attn_implementation=flash_attention_2": "model.attn_implementation="
            "flash_attention_2: Invalid value 'flash_attention_2', expected one of [eager, sdpa, "
            "flex_attention]; type e.g. model.attn_implementation=sdpa",
            "evaluation.before=sometimes": "evaluation.before=sometimes: Value 'sometimes' is not "
            "a valid bool (type str); type e.g. evaluation.before=true",
            "evaluation.metrics=bleu4": "evaluation.metrics=bleu4: Invalid value assigned: str is "
            "not a ListConfig, list or tuple.; type e.g. evaluation.metrics=[exact_match,bleu4,"
            "rouge,perplexity]",
            "seed=one": "seed=one: Value 'one' of type 'str' could not be converted to Integer; "
            "type e.g. seed=0",
        },
    ),
    # Beside what is right
    (
        "+training.extra.adam_beta2=0.9",
        {
            "training.max_steps=many": "training.max_steps=many: Value 'many' of type 'str' could "
            "not be converted to Integer; type e.g. training.max_steps=null",
        },
    ),
    # Keys that there are not
    (
        "",
        {
            "tuner.lora_rank=8": "there is no key tuner.lora_rank; type tuner.lora_alpha",
            "lora.r=8": "there is no key lora.r; type tuner.r",
            "training.learning_rat=1": "there is no key training.learning_rat; type "
            "training.learning_rate",
            "training.warmup_steps=100": "there is no key training.warmup_steps; type "
            "training.warmup_share",
            "evaluation.max_tokens=9": "there is no key evaluation.max_tokens; type "
            "evaluation.max_new_tokens",
            "evaluate.before=false": "there is no key evaluate.before; type evaluation.before",
            "trainer.max_steps=3": "there is no key trainer.max_steps; type training.max_steps",
            "sede=1": "there is no key sede; type seed",
            "+training.extras.adam_beta2=0.9": "there is no key training.extras.adam_beta2; type "
            "training.extra",
            "data.path=rows.jsonl": "data.path: data=identity has no path; type data=files to use "
            "it",
            "tuner.prefix_dropout=0.1": "tuner.prefix_dropout: tuner=lora has no prefix_dropout; "
            "type tuner=p_tuning_v2 to use it",
            "parallelism.devices=[cpu]": "parallelism.devices: parallelism=single has no devices; "
            "type parallelism=data_parallel or parallelism=model_parallel to use it",
            "model.geometry={hidden_size:3}": "model.geometry={hidden_size:3}: type "
            "+model.geometry.KEY=VALUE to add a key",
            "+model.path=x": "+model.path=x: model.path is there already; type model.path=x",
            "~training.eval_steps": "~training.eval_steps: a run needs every key; type "
            "training.eval_steps=... to change it",
            "tuner:lora": "'tuner:lora' is no key=value; type tuner:lora=VALUE",
        },
    ),
    # Options that there are not
    (
        "",
        {
            "tuner=p_tuning": "tuner=p_tuning is no option of tuner; type tuner=p_tuning_v2",
            "model=chatglm-6b": "model=chatglm-6b is no option of model; type model=chatglm_6b",
            "data=file": "data=file is no option of data; type data=files",
            "parallelism=ddp": "parallelism=ddp is no option of parallelism; type one of: "
            "data_parallel, distributed, model_parallel, sharded, single",
            "tracking=none": "tracking=none is no option of tracking; type one of: disabled, "
            "tensorboard, trackio, wandb",
            "evaluation=none": "evaluation=none is no option of evaluation; type one of: default",
        },
    ),
    # What would cost hours
    (
        "",
        {
            "training.learning_rate=inf": "training.learning_rate must be above 0 and finite, got "
            "inf; type e.g. training.learning_rate=1e-4",
            "training.num_train_epochs=1e400": "training.num_train_epochs must be finite, got inf; "
            "type e.g. training.num_train_epochs=1",
            "data.num_train_rows=99999999": "data.num_train_rows must be at most 2000000, got "
            "99999999: generated rows are all kept in memory, about a GiB a million; type e.g. "
            "data.num_train_rows=2000000",
            "training.batch_size=99999996": "training.batch_size must be at most 1000000, got "
            "99999996: a step of more would be filled up with rows that train nothing; type e.g. "
            "training.batch_size=1000000",
            "+training.extra.save_only_model=true": "training.extra.save_only_model has no place "
            "in a run here; leave it out",
            "+training.extra.split_batches=true": "training.extra.split_batches has no place in a "
            "run here; leave it out",
            "+training.extra.ignore_data_skip=true": "training.extra.ignore_data_skip has no place "
            "in a run here; leave it out",
            "+training.extra.load_best_model_at_end=true": "training.extra.load_best_model_at_end "
            "repeats training.early_stopping_patience; set training.early_stopping_patience "
            "instead",
            "objective=identity/bleu": "objective=identity/bleu: bleu is not of "
            "evaluation.metrics; type objective=identity/METRIC with one of loss, exact_match, "
            "bleu4, rouge_1, rouge_2, rouge_l, perplexity",
        },
    ),
    (
        "",
        {
            "objective=other/loss": "objective=other/loss: data=identity holds out identity, "
            "general, second_turns, not other; type objective=identity/loss",
            "hydra.run.dir=": "hydra.run.dir= names no folder; type hydra.run.dir=FOLDER, or leave "
            "it out",
            "hydra.sweep.dir=": "hydra.sweep.dir= names no folder; type hydra.sweep.dir=FOLDER, or "
            "leave it out",
        },
    ),
    # What belongs to one option
    (
        "tuner=p_tuning_v2",
        {
            "tuner.num_virtual_tokens=0": "tuner.num_virtual_tokens must be positive, got 0; type "
            "e.g. tuner.num_virtual_tokens=1",
            "tuner.prefix_dropout=1.5": "tuner.prefix_dropout must be at least 0 and below 1, got "
            "1.5; type e.g. tuner.prefix_dropout=0",
            "tuner.r=8": "tuner.r: tuner=p_tuning_v2 has no r; type tuner=lora to use it",
        },
    ),
    (
        "tuner=freeze parallelism=distributed tracking=wandb",
        {
            "tuner.num_trainable_layers=-1": "tuner.num_trainable_layers must be positive, got -1; "
            "type e.g. tuner.num_trainable_layers=1",
            "parallelism.num_devices=0": "parallelism.num_devices must be positive, got 0; type "
            "e.g. parallelism.num_devices=1",
            "tracking.mode=on": "tracking.mode=on: Invalid value 'on', expected one of [online, "
            "offline]; type e.g. tracking.mode=null",
            "tracking.init_timeout_seconds=0": "tracking.init_timeout_seconds must be positive, "
            "got 0.0; type e.g. tracking.init_timeout_seconds=1",
            "tracking.tag=[x]": "there is no key tracking.tag; type tracking.tags",
        },
    ),
    (
        "data=files parallelism=data_parallel tuner=full",
        {
            "data.path=[]": "data.path is not given; type data.path=FILE, a glob, "
            "'data.path=[A,B]' or a hub dataset's id",
            "data.format=jsonl": "data.format=jsonl: Invalid value 'jsonl', expected one of "
            "[alpaca, prompt_response, messages, sharegpt, text]; type e.g. data.format=null",
            "data.on_bad_row=ignore": "data.on_bad_row=ignore: Invalid value 'ignore', expected "
            "one of [skip, error]; type e.g. data.on_bad_row=skip",
            "data.max_bad_share=-0.1": "data.max_bad_share must be at least 0 and below inf, got "
            "-0.1; type e.g. data.max_bad_share=0",
            "data.validation_path=[1]": "data.validation_path must be a file name or a list of "
            "them, got [1]; type e.g. data.validation_path=train.jsonl",
            "data.author=me": "data.author: data=files has no author; type data=identity to use it",
            "parallelism.devices=[cpu,gpu0]": "parallelism.devices has 'gpu0', which names no "
            "device; type cpu or e.g. cuda:0",
            "tuner.lora_alpha=8": "tuner.lora_alpha: tuner=full has no lora_alpha; type tuner=lora "
            "to use it",
        },
    ),
    # What doesn't go together
    (
        "parallelism=data_parallel",
        {
            "parallelism.devices=[cpu,cpu,cpu]": "training.batch_size=16 is not a multiple of "
            "training.micro_batch_size=4 x 3 devices; type e.g. training.batch_size=12",
        },
    ),
    (
        "parallelism=model_parallel parallelism.devices=[cpu,cpu]",
        {
            "parallelism.num_micro_batches=3": "training.batch_size=16 is not a multiple of "
            "training.micro_batch_size=4 x parallelism.num_micro_batches=3; type e.g. "
            "training.batch_size=12",
            "model.vocabulary_size=100": "model.vocabulary_size belongs to model.weights=random "
            "(the tokenizer is built from the training data); type model.vocabulary_size=null, or "
            "give both",
            "+training.extra.seed=3": "training.extra.seed repeats seed; set seed instead",
            "+training.extra.learning_rate=3": "training.extra.learning_rate repeats "
            "training.learning_rate; set training.learning_rate instead",
        },
    ),
    (
        "training.eval_steps=10 evaluation.before=false",
        {
            "data.num_validation_rows=0": "there is nothing to evaluate on: "
            "data.num_validation_rows is 0; type e.g. data.num_validation_rows=100, or "
            "evaluation.after=false training.eval_steps=null",
        },
    ),
    # What can't be read
    (
        "",
        {
            "tuner.r==4": "tuner.r==4 can't be read as key=value; if it is text, type "
            "'tuner.r=\"=4\"'",
            "tuner.lora_alpha=[4,8]": "tuner.lora_alpha=[4,8]: Value '[4, 8]' of type 'list' could "
            "not be converted to Float; type e.g. tuner.lora_alpha=32.0",
            "hydra.sweep.dir=a(b": "hydra.sweep.dir=a(b can't be read as key=value; if it is text, "
            "type 'hydra.sweep.dir=\"a(b\"'",
            "data.author={a": "data.author={a can't be read as key=value; if it is text, type "
            "'data.author=\"{a\"'",
            "seed=1,2": "seed=1,2: several values make a sweep; type -m before them",
        },
    ),
]
