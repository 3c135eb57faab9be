"""What is suggested exists."""

import shlex

import pytest
import yaml

from launcher.config.compose import Composer, to_config
from launcher.config.names import ELSEWHERE
from launcher.config.suggest import example, kind, unknown_option
from launcher.config.text import fields
from launcher.problems import Refused

COMPOSER = Composer()


def test_spaces_around_the_sign_are_named():
    with pytest.raises(Refused, match=r"seed = 1: there are spaces around the =; type seed=1"):
        COMPOSER.check_words(["seed = 1"], sweep=False)


@pytest.mark.parametrize("name", [*ELSEWHERE, "gpus", "heigth", "dtyp", "thread", "tflop", "cp.degree", "frame"])
def test_a_suggestion_can_be_typed(name):
    with pytest.raises(Refused) as refused:
        COMPOSER.check_words([f"{name}=2"], sweep=False)
    (problem,) = refused.value.problems
    if problem.instead == "type --help for the list":
        return  # what is alike takes no number
    for words in shlex.split(problem.instead.removeprefix("type ").replace(",", "").replace(" or ", " ")):
        COMPOSER.check_words([words], sweep=False)


@pytest.mark.parametrize(
    ("word", "instead"),
    [
        ("inference_steps=3", "type steps=3"),
        ("nproc=2", "type runtime.processes=2"),
        ("devices=0,1", "type 'runtime.devices=[0,1]'"),
        ("gpus=0,1", "type 'runtime.devices=[0,1]'"),
        ("gpus=2", "type runtime.processes=2"),
        ("device=cuda:1", "type 'runtime.devices=[1]'"),
        ("device=cuda", "type runtime=gpu"),
        ("dtype=bf16", "type runtime.dtype=bfloat16"),
        ("torch_dtype=torch.float16", "type runtime.dtype=float16"),
        ("W=512", "type width=512"),
        ("lora=x.safetensors", "type lora.path=x.safetensors"),
        ("adapter_weights=0.5", "type lora.scale=0.5"),
        ("scheduler=FlowMatchEulerDiscreteScheduler", "type scheduler=euler"),
        ("scheduler=karras", "type scheduler.sigmas=karras"),
        ("scheduler=DPM++ 2M Karras", "type scheduler=dpmpp_2m scheduler.sigmas=karras"),
        ("sampler=uni_pc", "type scheduler=unipc"),
        ("sampler_name=Euler", "type scheduler=euler"),
        ("flow_shift=3", "type scheduler.shift=3"),
        ("count=2", "type --help for the list"),  # model.counted is true or false
        ("torch_compile=true", "type compile=regional"),
        ("enable_model_cpu_offload=true", "type runtime.offload=model"),
        ("offload=sequential", "type runtime.offload=sequential"),
        ("enable_group_offload=true", "type runtime.offload=group"),
        ("fsdp=true", "type runtime.weights=sharded"),
        ("weights=fsdp2", "type runtime.weights=sharded"),
        ("quantization_config=int8", "type quantization=int8"),
        ("cfg_parallel=true", "type cp.cfg_degree=2"),
        ("tp=2", "type cp=auto, or runtime.weights=sharded for less memory"),
        ("dp_degree=2", "type data=2"),
        ("start_image=a.png", "type image=a.png"),
        ("nnodes=2", "type cluster=env or cluster=slurm"),
        ("resolution=512x512", "type height=1024 width=1024"),
        ("model=you/model", "type model.path=you/model beside its model=NAME, or --help for the names"),
    ],
)
def test_a_suggestion_takes_the_value_that_was_typed(word, instead):
    with pytest.raises(Refused) as refused:
        COMPOSER.check_words([word], sweep=False)
    assert [problem.instead for problem in refused.value.problems] == [instead]


@pytest.mark.parametrize(
    ("word", "instead"),
    [
        ("height=512px", "type height=512"),
        ("height=128\\r", "type height=128"),
        ("height=1e3", "type height=1000"),
        ("steps=20.5", "type steps=21"),
        ("seed=1.0", "type seed=1"),
        ("height=0x10", "type height=1000"),
        ("images=two", "type images=2"),
    ],
)
def test_the_number_that_was_meant_is_what_to_type(word, instead):
    with pytest.raises(Refused) as refused:
        COMPOSER.compose([word])
    assert [problem.instead for problem in refused.value.problems] == [instead]


def test_a_variable_that_the_shell_left_in_a_path_is_told(monkeypatch, tmp_path):
    monkeypatch.setenv("PLACE", str(tmp_path))
    monkeypatch.delenv("NOWHERE", raising=False)
    for word in ("output.dir=$PLACE/x", "output.dir=${PLACE}/x"):
        with pytest.raises(Refused, match=rf"as it stands: .*type output\.dir={tmp_path}/x"):
            COMPOSER.check_words([word], sweep=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "$PLACE").mkdir()
    for word in ("output.dir=$PLACE", "output.dir=a$b", "output.dir=$NOWHERE/x", "prompt=$PLACE"):
        COMPOSER.check_words([word], sweep=False)


def test_every_example_is_of_its_kind():
    COMPOSER.compose([f"{name}={example(name)}" for name in fields()])
    assert all(kind(name) for name in fields())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["prompt=a", "cat", "sitting", "steps=2"],
            ["cat sitting: expected key=value; text with spaces must be quoted"],
        ),
        (["prompt=a", "cat"], ["type 'prompt=a cat'"]),
        (["prompt=a", "cat,", "(sitting)"], ["type 'prompt=a cat, (sitting)'"]),
        (["output.dir=my", "pictures", "height"], ["type 'output.dir=my pictures height'"]),
        (["steps=2", "cat"], ["cat: expected key=value"]),
        (["flux"], ["type model=flux"]),
        (["ring"], ["type cp=ring"]),
        (["help"], ["type --help"]),
        (["heigth"], ["type height=VALUE"]),
        (["steps=2", "hydra.sweep.dir=x"], ["works on sweeps only"]),
    ],
)
def test_words_without_a_sign(words, said):
    with pytest.raises(Refused) as refused:
        COMPOSER.check_words(words, sweep=False)
    assert len(refused.value.problems) == 1
    for part in said:
        assert part in str(refused.value)


def test_a_sweeps_folder_has_a_name_of_its_own():
    with pytest.raises(Refused, match=r"type hydra\.sweep\.dir=x"):
        COMPOSER.check_words(["hydra.run.dir=x"], sweep=True)


def test_of_many_options_the_nearest_are_named():
    assert unknown_option("b", ["a", "b2"]) == "unknown option; choose from a, b2"
    many = [f"model{number}" for number in range(30)]
    assert unknown_option("model7x", many).startswith("unknown option; choose from model7, ")
    assert unknown_option("model7x", many).endswith(" ... (30 in all: type --help)")


PLAN = [
    ("model.cp_plan.gather.proj_out.dim=2", "{gather: {proj_out: {dim: 2}}}"),
    ("++model.cp_plan.split.blocks.0.hidden_states.dim=2", "{split: {blocks.0: {hidden_states: {dim: 2}}}}"),
    ("model.cp_plan.split.blocks.*.rope.like=[x,y]", "{split: {blocks.*: {rope: {like: [x,y]}}}}"),
    ("model.cp_plan.masks.blocks.*.attn=[x]", "{masks: {blocks.*.attn: [x]}}"),
    ("model.cp_plan.locals=[attn2]", "{local: [attn2]}"),
]


@pytest.mark.parametrize(("word", "braces"), PLAN)
def test_a_plan_is_one_setting_which_can_be_typed(word, braces):
    with pytest.raises(Refused, match="a plan is one setting") as refused:
        COMPOSER.check_words([word], sweep=False)
    (typed,) = shlex.split(refused.value.problems[0].instead.removeprefix("type "))
    assert typed == f"model.cp_plan={braces}"
    COMPOSER.check_words([typed], sweep=False)
    plan = to_config(COMPOSER.compose([typed])).model.cp_plan
    assert plan["split"][""]["hidden_states"] == {"dim": 1}  # merged into the model's own
    assert plan == merged(plan, yaml.safe_load(braces))


def merged(into, what):
    """The same with more in it."""
    if not isinstance(what, dict):
        return what
    return into | {key: merged(into[key], value) for key, value in what.items()}


def test_what_stands_in_a_plan_for_the_model_itself_is_written_in_a_file():
    with pytest.raises(Refused, match=r"type --config-dir FOLDER model=NAME, with the plan in FOLDER/model/NAME.yaml"):
        COMPOSER.check_words(["model.cp_plan.split.hidden_states.dim=2"], sweep=False)
