"""The insides of libraries that the package leans on are there, and are used as they are.

What overrides a library's method, and what has a library's private name, is found by reading our
own source: it fails here until it is declared below, and again when a library renames it.
"""

from __future__ import annotations

import ast
import functools
import importlib
import inspect
import pkgutil
import re
import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FunctionType
from typing import Any

import pytest

import glm_experiments
from glm_experiments.composing.loader import find_plugins

PACKAGE = Path(glm_experiments.__file__).parent
PRIVATE = re.compile(r"_[a-z][a-z0-9_]*")

# Where `forward` and `__init__` are for everybody to write.
USUAL = ("torch.nn.modules.module", "torch.autograd.function")
# Our class -> what of it replaces something of a library's class.
OVERRIDES = {
    "GLMTrainer": """__init__ _get_train_sampler get_batch_samples compute_loss_context_manager
        training_step log floating_point_ops _move_model_to_device _wrap_model
        _clip_grad_norm evaluate _determine_best_metric save_model _save_checkpoint
        _save_optimizer_and_scheduler _load_optimizer_and_scheduler _load_from_checkpoint
        _save_rng_state _load_rng_state""",
    "DevicelessArguments": "device",
    "Progress": "on_train_begin on_step_end on_evaluate on_save on_log on_train_end",
    "StopRequest": "on_step_end",
    "EarlyStop": "__init__ on_train_begin",
    "FollowEpoch": "on_epoch_begin",
    "_Terminal": "options show_cursor",
    "WholeSteps": "__getitem__",
    "EpochOrder": "__iter__",
    "DataParallel": "train",
    "FusedOnMeta": "__torch_function__",
    "InputDtypeLinear": "forward",
    "ChatGLMConfig": "__post_init__ attribute_map base_model_tp_plan model_type",
    "ChatGLMLayerNorm": "forward",
    "PublishedForCausalLM": "from_pretrained _from_config",
    "ChatGLMPreTrainedModel": """__init__ config_class base_model_prefix
        supports_gradient_checkpointing _no_split_modules _skip_keys_device_placement
        _keys_to_ignore_on_load_unexpected _supports_sdpa _supports_flex_attn
        _supports_attention_backend _can_compile_fullgraph _can_record_outputs _init_weights""",
    "ChatGLMModel": "__init__ get_input_embeddings set_input_embeddings",
    "ChatGLMForCausalLM": """__init__ _tied_weights_keys _tp_plan _prepare_generation_config
        _prepare_position_ids_for_generation _expand_inputs_for_generation
        prepare_inputs_for_generation""",
    "ChatEncoding": "apply_chat_template",
    "SentencePieceTokenizer": """__init__ model_input_names padding_side tokenize _update_trie
        vocab_size get_vocab _convert_token_to_id _convert_id_to_token _decode
        convert_tokens_to_string save_vocabulary""",
    "ChatGLMTokenizer": """__init__ vocab_files_names get_vocab _convert_id_to_token
        _convert_token_to_id build_inputs_with_special_tokens get_special_tokens_mask""",
    "ChatGLM2Tokenizer": """__init__ vocab_files_names vocab_size build_inputs_with_special_tokens
        get_special_tokens_mask""",
    "RankConverter": "load_tiktoken_bpe",
    "ForkingLauncher": "setup launch",
    "GridSweeper": "validate_batch_is_legal",
    "SweeperSchema": "_target_",
    "ComposedLoader": "__init__ load_configuration",
}
# What the library looks for by name, in this module, on any model or config.
LOOKED_FOR = {
    ("ChatGLMConfig", "keys_to_ignore_at_inference"): "transformers.trainer",
    ("ChatGLMForCausalLM", "create_masks_for_generate"): "transformers.generation.utils",
}
# Overrides that take less by place than the library's method: how many that is. The rest of the
# arguments comes by name, in the library's own calls as well.
BY_PLACE = {
    ("ChatGLMForCausalLM", "_expand_inputs_for_generation"): 0,
    ("ChatGLMForCausalLM", "prepare_inputs_for_generation"): 1,
    ("ChatEncoding", "apply_chat_template"): 7,
}
# Our class -> attributes that it sets on itself and a library's class reads.
SHARED = {
    "GLMTrainer": "model_accepts_loss_kwargs control",
    "EarlyStop": "early_stopping_patience_counter",
    "ChatGLMConfig": "head_dim",
    "ChatGLMModel": "gradient_checkpointing",
    "ChatGLMForCausalLM": "lm_head",
    "SentencePieceTokenizer": "_added_tokens_decoder",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Inside:
    """A name that a library doesn't promise.

    owner: module or `module:Class` that has it, or in whose source it stands.
    takes: what we give it, by place (`*`) or by name; None: it is not called.
    """

    name: str
    owner: str
    why: str
    takes: str | None = None


LOADER = "hydra._internal.config_loader_impl"
INSIDES = (
    Inside(
        name=f"{LOADER}.ConfigLoaderImpl",
        owner=LOADER,
        takes="config_search_path",
        why="hydra.compose wants a global state, and says less of what is wrong",
    ),
    Inside(
        name="hydra._internal.utils.create_config_search_path",
        owner="hydra._internal.utils",
        takes="*",
        why="what ConfigLoaderImpl takes",
    ),
    Inside(
        name="hydra._internal.hydra.Hydra",
        owner="hydra._internal.hydra",
        takes="task_name config_loader",
        why="hydra.main takes no config that is composed already",
    ),
    Inside(
        name="hydra._internal.utils.get_args_parser",
        owner="hydra._internal.utils",
        takes="",
        why="the command line is looked at before Hydra acts on it",
    ),
    Inside(
        name="_apply_overrides_to_config",
        owner=f"{LOADER}:ConfigLoaderImpl",
        takes="*",
        why="jobs that share their options compose those once, and then what the loader does last",
    ),
    *(
        Inside(
            name=f"hydra._internal.core_plugins.basic_sweeper.{name}",
            owner="hydra._internal.core_plugins.basic_sweeper",
            why="Hydra's own grid, which composes all jobs once more before it launches them",
        )
        for name in ("BasicSweeper", "BasicSweeperConf")
    ),
    Inside(
        name="_return_value",
        owner="hydra.core.utils:JobReturn",
        why="its public form prints all overrides of a job that failed, secrets included",
    ),
    Inside(
        name="_attn_implementation",
        owner="transformers:PreTrainedConfig",
        why="set_attn_implementation has no counterpart that reads",
    ),
    Inside(
        name="_from_config",
        owner="transformers:PreTrainedModel",
        why="what AutoModelForCausalLM calls of a registered class",
    ),
    Inside(
        name="_no_split_modules",
        owner="transformers:PreTrainedModel",
        why="accelerate's planning wants it from whoever calls",
    ),
    Inside(
        name="_added_tokens_decoder",
        owner="transformers:PreTrainedTokenizer",
        why="special tokens have the ids of the model file, which the constructor can't be given",
    ),
    Inside(
        name="_added_tokens_encoder",
        owner="transformers:PreTrainedTokenizer",
        why="its public form sorts all added tokens at every call",
    ),
    Inside(
        name="_setup_devices",
        owner="transformers:TrainingArguments",
        why="the arguments choose a device by themselves, once",
    ),
    Inside(
        name="_n_gpu",
        owner="transformers:TrainingArguments",
        why="several visible GPUs would become torch's DataParallel, unasked",
    ),
    Inside(
        name="_hf_hook",
        owner="accelerate.hooks",
        why="tells the modules that a hook wraps",
    ),
    Inside(
        name="_old_forward",
        owner="accelerate.hooks",
        why="the method that a hook wraps, bound before our class replaced it",
    ),
    Inside(
        name="_original_forward",
        owner="accelerate:Accelerator",
        why="the method under its autocast; its own way back takes off a model's decorators, too",
    ),
    Inside(
        name="_version",
        owner="torch:Tensor",
        why="tells whether a tensor was written to since it was copied",
    ),
    Inside(
        name="_cdata",
        owner="torch:UntypedStorage",
        why="tells storages apart on meta, where all addresses are 0",
    ),
)
# Public by their look, but promised nowhere; most are set, or asked for, so that nothing says when
# they are gone.
UNHEARD = (
    Inside(name="autocast_handler", owner="accelerate:Accelerator", why="turns its autocast off"),
    Inside(
        name="cast_input_dtype_enabled",
        owner="peft.tuners.tuners_utils:BaseTunerLayer",
        why="adapters compute in their input's dtype",
    ),
    Inside(name="lora_variant", owner="peft.tuners.lora:LoraLayer", why="tells DoRA's layers"),
    Inside(
        name="hf_device_map",
        owner="transformers.trainer",
        why="what the Trainer knows a split model by",
    ),
    *(
        Inside(
            name="eager_attention_forward",
            owner=f"transformers.models.{name}.modeling_{name}",
            why="attention modules don't say what eager stands for",
        )
        for name in ("glm", "glm4")
    ),
    *(
        Inside(
            name=name,
            owner="transformers.models.auto.modeling_auto",
            why="tells what is a causal language model",
        )
        for name in ("MODEL_MAPPING_NAMES", "MODEL_FOR_CAUSAL_LM_MAPPING_NAMES")
    ),
    Inside(
        name="REGISTERED_TOKENIZER_CLASSES",
        owner="transformers.models.auto.tokenization_auto",
        why="finds tokenizers by the class that their files name",
    ),
    *(
        Inside(name=name, owner="wandb:Settings", why="keeps the command line to ourselves")
        for name in ("x_disable_meta", "x_save_requirements")
    ),
)
# Methods of the loader, whose class is private.
LOADS = {
    "load_configuration": "* * *",
    "list_groups": "*",
    "get_group_options": "*",
    "repository": None,
    "validate_sweep_overrides_legal": "run_mode from_shell",  # static: `self` stands for the first
}
# Private by their look: ends of column names and of published tensors' names, a key of published
# config.json files, and words of Hydra's configs.
OURS = {"_column", "_scale", "_name_or_path", "_global_", "_self_", "_target_"}
# Used in more than one module: as the type of an argument.
SPREAD = {f"{LOADER}.ConfigLoaderImpl"}


def is_foreign(module: str) -> bool:
    top = module.partition(".")[0]
    return top != "glm_experiments" and top not in sys.stdlib_module_names


def resolve(owner: str) -> Any:
    return pkgutil.resolve_name(owner)


@functools.cache
def source_of(owner: Any) -> str:
    """A class's or module's source; nothing of what is written in C."""
    try:
        return inspect.getsource(owner)
    except (OSError, TypeError):
        return ""


def stands_in(name: str, text: str) -> bool:
    return re.search(rf"\b{name}\b", text) is not None


@functools.cache
def trees() -> dict[str, ast.Module]:
    """Our modules by dotted name, parsed."""
    files = sorted(PACKAGE.rglob("*.py"))
    names = [".".join(file.relative_to(PACKAGE.parent).with_suffix("").parts) for file in files]
    return {
        name.removesuffix(".__init__"): ast.parse(file.read_text(encoding="utf-8"))
        for name, file in zip(names, files, strict=True)
    }


@dataclass(frozen=True, slots=True)
class Heir:
    """A class of ours with a library's class above it."""

    cls: type
    node: ast.ClassDef

    @property
    def foreign(self) -> list[type]:
        return [each for each in self.cls.__mro__[1:] if is_foreign(each.__module__)]

    @property
    def members(self) -> dict[str, ast.stmt]:
        """What its body defines."""
        found: dict[str, ast.stmt] = {}
        for each in self.node.body:
            if isinstance(each, ast.FunctionDef):
                found[each.name] = each
            elif isinstance(each, ast.AnnAssign) and each.value is not None:
                found[ast.unparse(each.target)] = each
            elif isinstance(each, ast.Assign):
                found |= {name.id: each for name in each.targets if isinstance(name, ast.Name)}
        return found

    def replaced(self, name: str) -> type | None:
        """The library's class whose member one of ours replaces; None where none is to speak of."""
        for each in self.foreign:
            if name in vars(each):
                is_usual = name in ("forward", "__init__") and each.__module__ in USUAL
                return None if is_usual else each
        return None

    def knows(self, attribute: str) -> bool:
        """Whether a library's class uses an attribute of this name on itself."""
        return any(
            hasattr(each, attribute) or re.search(rf"self\.{attribute}\b", source_of(each))
            for each in self.foreign
        )


@functools.cache
def heirs() -> dict[str, Heir]:
    """By name; no two have one."""
    found: dict[str, Heir] = {}
    find_plugins()
    for name, tree in trees().items():
        # Hydra knows the plugin by its other name alone.
        module = importlib.import_module(name.removeprefix("glm_experiments.sweeps.plugins."))
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef) and (node.bases or node in tree.body):
                assert hasattr(module, node.name), f"{name}: give {node.name} a place of its own"
                heir = Heir(getattr(module, node.name), node)
                if heir.foreign:
                    assert node.name not in found, f"two classes are called {node.name}"
                    found[node.name] = heir
    return found


def misfit(ours: Any, theirs: Any, *, num_by_place: int | None) -> str | None:
    """Why a method can't be called in another's place; None: it can.

    num_by_place: arguments that callers give by place; None: all that can be.
    """
    kinds = (FunctionType, staticmethod, classmethod, property)
    kind = [next((k for k in kinds if isinstance(each, k)), None) for each in (ours, theirs)]
    if property in kind or None in kind:
        return None if kind[0] is kind[1] else f"{kind[0]} is no {kind[1]}"
    taken, wanted = parameters(ours), parameters(theirs)
    takes_places = any(each.kind is each.VAR_POSITIONAL for each in taken)
    takes_names = any(each.kind is each.VAR_KEYWORD for each in taken)
    plain = [each for each in taken if each.kind not in (each.VAR_KEYWORD, each.VAR_POSITIONAL)]
    names = [each.name for each in plain]
    for place, each in enumerate(wanted):
        if each.kind is each.VAR_KEYWORD:
            fits = takes_names
        elif each.kind is each.VAR_POSITIONAL:
            fits = takes_places
        elif each.kind is each.KEYWORD_ONLY or (num_by_place is not None and place >= num_by_place):
            fits = takes_names or each.name in names
        else:
            fits = names[place : place + 1] == [each.name] or (takes_places and takes_names)
        if not fits:
            return f"{each} is not taken"
    known = {each.name for each in wanted}
    required = [each.name for each in plain if each.default is each.empty]
    unknown = [name for name in required if name not in known]
    return f"{', '.join(unknown)} is never given" if unknown else None


def parameters(member: Any) -> list[inspect.Parameter]:
    """Of a method without `self`."""
    found = list(inspect.signature(getattr(member, "__func__", member)).parameters.values())
    return found if isinstance(member, staticmethod) else found[1:]


def super_calls(method: ast.stmt, name: str) -> Iterator[ast.Call]:
    for node in ast.walk(method):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == f"super().{name}":
            yield node


def bind(signature: inspect.Signature, call: ast.Call, *, has_self: bool) -> None:
    """Raises TypeError where a call's arguments aren't those of a signature."""
    places = [each for each in call.args if not isinstance(each, ast.Starred)]
    keywords = {each.arg: None for each in call.keywords if each.arg is not None}
    is_whole = len(places) == len(call.args) and len(keywords) == len(call.keywords)
    method = signature.bind if is_whole else signature.bind_partial
    method(*([None] * (len(places) + has_self)), **keywords)


DECLARED = [
    *((cls, name) for cls, names in OVERRIDES.items() for name in names.split()),
    *LOOKED_FOR,
    *INSIDES,
    *UNHEARD,
    *(
        Inside(name=name, owner=f"{LOADER}:ConfigLoaderImpl", takes=takes, why="as its class")
        for name, takes in LOADS.items()
    ),
]


@pytest.mark.parametrize(
    "leaning", DECLARED, ids=lambda each: ".".join(each) if isinstance(each, tuple) else each.name
)
def test_what_is_leant_on_is_there(leaning: tuple[str, str] | Inside) -> None:
    if isinstance(leaning, Inside):
        check_inside(leaning)
    elif leaning in LOOKED_FOR:
        (cls, name), library = leaning, resolve(LOOKED_FOR[leaning])
        assert name in heirs()[cls].members
        assert re.search(rf'getattr\([\w.]+, "{name}"', source_of(library)), "nobody looks for it"
        if standard := vars(library).get(name):  # what it calls where it finds none
            ours = inspect.getattr_static(heirs()[cls].cls, name)
            assert misfit(ours, staticmethod(standard), num_by_place=0) is None
    else:
        check_override(*leaning)


def check_inside(inside: Inside) -> None:
    owner, name = resolve(inside.owner), inside.name.rpartition(".")[2]
    assert hasattr(owner, name) or stands_in(name, source_of(owner)), f"{inside.owner} lost it"
    if inside.takes is not None:
        signature = inspect.signature(getattr(owner, name))
        words = [*(["self"] if inspect.isclass(owner) else []), *inside.takes.split()]
        places = [each for each in words if each in ("*", "self")]
        signature.bind(*places, **{each: None for each in words if each not in places})


def check_override(cls: str, name: str) -> None:
    heir = heirs()[cls]
    above = heir.replaced(name)
    assert above is not None, f"no class above {cls} has {name}"
    own = heir.members[name]
    if not isinstance(own, ast.FunctionDef):
        return
    num_by_place = BY_PLACE.get((cls, name))
    if num_by_place is not None:
        for node in ast.walk(ast.parse(source_of(inspect.getmodule(above)))):
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(f".{name}"):
                assert len(node.args) <= num_by_place, ast.unparse(node)
    if name != "__init__":
        ours, theirs = (inspect.getattr_static(each, name) for each in (heir.cls, above))
        assert misfit(ours, theirs, num_by_place=num_by_place) is None
    called = next(vars(each)[name] for each in heir.cls.__mro__[1:] if name in vars(each))
    for call in super_calls(own, name):
        bind(
            inspect.signature(getattr(called, "__func__", called)),
            call,
            has_self=not isinstance(called, staticmethod),
        )


def test_every_override_is_declared() -> None:
    found = {
        cls: {name for name in heir.members if heir.replaced(name) is not None}
        - {name for owner, name in LOOKED_FOR if owner == cls}
        for cls, heir in heirs().items()
    }
    declared = {cls: set(names.split()) for cls, names in OVERRIDES.items()}
    assert {cls: names for cls, names in found.items() if names} == declared


def test_every_attribute_that_a_library_reads_is_declared() -> None:
    """And none is by accident: a class of ours that sets what the library uses for itself."""
    found: dict[str, set[str]] = defaultdict(set)
    for cls, heir in heirs().items():
        for node in ast.walk(heir.node):
            is_set = isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)
            if is_set and ast.unparse(node.value) == "self" and heir.knows(node.attr):
                found[cls].add(node.attr)
    assert found == {cls: set(names.split()) for cls, names in SHARED.items()}


def private_names(module: str) -> Iterator[str]:
    """The private names of libraries in a module of ours."""
    tree = trees()[module]
    texts = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    own = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "self"
    }
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                imported = [each.name for each in names]
                yield from (each for each in imported if is_foreign(each) and "._" in each)
            case ast.ImportFrom(module=str(origin), names=names) if is_foreign(origin):
                imported = [f"{origin}.{each.name}" for each in names]
                yield from (each for each in imported if "._" in each)
            case ast.Attribute(attr=name, value=value) if PRIVATE.fullmatch(name):
                owner = ast.unparse(value)
                if owner not in ("self", "super()", *sys.stdlib_module_names):
                    yield name
            case ast.keyword(arg=str(name)) if PRIVATE.fullmatch(name):
                yield name
            case ast.Constant(value=str(name)) if PRIVATE.fullmatch(name):
                if id(node) not in texts and name not in own | OURS:
                    yield name
    for heir in heirs().values():
        if heir.cls.__module__ == module:
            for node in ast.walk(heir.node):
                if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "self":
                    is_ours = node.attr in heir.members or not heir.knows(node.attr)
                    if PRIVATE.fullmatch(node.attr) and not is_ours:
                        yield node.attr


def test_every_private_name_is_declared_and_stands_in_one_module() -> None:
    places: dict[str, set[str]] = defaultdict(set)
    for module in trees():
        for name in private_names(module):
            places[name].add(module)
    assert set(places) == {each.name for each in INSIDES}
    several = {name for name, modules in places.items() if len(modules) > 1}
    assert several <= SPREAD, {name: places[name] for name in several - SPREAD}
