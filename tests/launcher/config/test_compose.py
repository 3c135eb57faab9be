"""Every file under conf/ composes, its first line is a command that works; wrong words get the nearest legal ones."""

import shlex

import pytest
import yaml
from shared import GPUS, ROOT

from attention_backends.catalog import KERNELS, MODES
from launcher.config.compose import Composer, to_config
from launcher.config.paths import conf_dir
from launcher.config.text import fields
from launcher.estimates.ways import resolve
from launcher.problems import Refused
from launcher.rules import problems

FILES = sorted(conf_dir().rglob("*.yaml"))
HERE_ONLY = (
    "no weights in the cache",
    "needs the package",
    "only modular blocks",
)  # what a machine may lack without the line being wrong


def test_there_are_files():
    assert len(FILES) > 20
    assert conf_dir() == ROOT / "conf"


@pytest.mark.slow
@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(conf_dir())))
def test_a_files_first_comment_is_a_command_that_uses_it(composer, path):
    header = [
        line for line in path.read_text().splitlines()[:2] if not line.startswith("# @")
    ]  # Hydra's own come first
    words = shlex.split(header[0].removeprefix("# "))
    assert words[:3] == ["python", "-m", "launcher"]
    sweep, plan = "-m" in words[3:], "plan" in words[3:]
    words = [word for word in words[3:] if word not in ("-m", "plan")]
    group = path.parent.name
    if group != "conf":
        assert f"{group}={path.stem}" in words
    composer.check_words(words, sweep)
    composed = composer.compose(words, sweep)
    assert bool(composed.hydra.sweeper.params) == sweep
    found = problems(resolve(to_config(composed), GPUS), plan)
    assert [str(problem) for problem in found if not any(part in problem.rule for part in HERE_ONLY)] == []


@pytest.mark.slow
def test_every_option_of_every_group_composes_and_says_nothing_unknown(composer):
    for group, names in composer.groups.items():
        assert names
        for name in names:
            to_config(composer.compose([f"{group}={name}"]))
            for key in yaml.safe_load((conf_dir() / group / f"{name}.yaml").read_text()):
                known = [field.split(".")[1] for field in fields() if field.startswith(f"{group}.")]
                assert group == "experiment" or key in [*known, "defaults"]


@pytest.mark.slow
def test_groups_of_the_issue_are_there(composer):
    assert set(composer.groups) == {
        "model",
        "cp",
        "attention",
        "runtime",
        "machine",
        "output",
        "tracker",
        "experiment",
        "cache",
        "cluster",
        "scheduler",
    }
    kernels = {
        to_config(composer.compose([f"attention={name}"])).attention.kernel for name in composer.groups["attention"]
    }
    assert kernels == set(KERNELS) - {"_native_math"}  # diffusers' reference kernel: attention.kernel=_native_math
    modes = {to_config(composer.compose([f"cp={name}"])).cp.mode for name in composer.groups["cp"]}
    assert modes == {"auto", *MODES}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("heigth=5", "type height=5"),
        ("ring_degree=2", "type cp.ring_degree=2"),
        ("cp.rign_degree=2", "type cp.ring_degree=2"),
        ("modle=flux", "type model=flux"),
        ("num_inference_steps=4", "type steps=4"),
        ("cp.rotate_method=alltoall", "type cp.schedule=gather or leave it out"),
        ("main_process_port=29500", "takes a free port by itself"),
        ("model=fluxx", "model=fluxx: unknown option; choose from flux, "),
        ("output=gif", "output=gif: unknown option; choose from "),
        ("cp=ring_any", "type cp=ring_anything"),
        ("+foo.bar=1", "unknown setting"),
        ("xyzzy=1", "type --help"),
        ("height", "expected key=value; type height=VALUE"),
        ("output.dir=a,b", "type -m for a sweep, or quote it: 'output.dir=\"a,b\"'"),
        ("num_gpus=2", "type runtime.processes=2"),
        ("gpus=2", "type runtime.processes=2"),
        ("promt=a cat, sitting", "type 'prompt=a cat, sitting'"),
        ("height=(1", "type height=1000"),
        ("=", "type --help"),
        ("", "type --help"),
        ("~height", "can't be removed"),
        ("~cp", "can't be removed"),
    ],
)
def test_wrong_words_get_the_nearest_legal_ones(composer, words, said):
    with pytest.raises(Refused) as refused:
        composer.check_words([words], sweep=False)
        to_config(composer.compose([words]))
    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("height=abc", "height=abc: must be a whole number; type height=1000"),
        ("guidance=x", "guidance=x: must be a number"),
        ("height=null", "height"),
        ("cp.ring_degree=1.5", "cp.ring_degree=1.5: must be a whole number; type cp.ring_degree=2"),
        ("height=${nothing}", "nothing"),
        ("height=[1]", "height"),
        ("model={a:1}", "model"),
        ("runtime.devices=3", "runtime.devices"),
    ],
)
def test_values_of_the_wrong_type(composer, word, said):
    with pytest.raises(Refused) as refused:
        composer.check_words([word], sweep=False)
        to_config(composer.compose([word]))
    assert said in str(refused.value)


def test_quoted_prompts_arrive_as_typed(composer):
    word = 'prompt="a \\"cat\\", (sitting) {here} = [x]"'
    composer.check_words([word], sweep=False)
    assert to_config(composer.compose([word])).prompt == 'a "cat", (sitting) {here} = [x]'


def test_a_folder_of_the_users_own(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "mine.yaml").write_text("defaults: [flux_tiny]\nname: mine\nsteps: 3\n")
    own = Composer(str(tmp_path))
    own.check_words(["model=mine"], sweep=False)
    config = to_config(own.compose(["model=mine"]))
    assert (config.model.name, config.steps, config.model.heads) == ("mine", 3, 6)
    (tmp_path / "model" / "broken.yaml").write_text("a: [\n")
    with pytest.raises(Refused):
        own.compose(["model=broken"])
    with pytest.raises(Refused, match="not a folder"):
        Composer(str(tmp_path / "none"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("head: 6", "model/mine.yaml: head: unknown setting; write head_dim or heads"),
        ("heads: many", "model/mine.yaml: heads: must be a whole number; write heads: 2"),
        ("arguments: {width: w, hight: h}", "model/mine.yaml: hight: unknown setting; write height"),
        ("cp_plan: 3", "model/mine.yaml: cp_plan"),
    ],
)
def test_a_wrong_line_in_a_file_of_the_users_own_is_told_with_the_nearest(tmp_path, text, said):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "mine.yaml").write_text(f"defaults: [flux_tiny, _self_]\n{text}\n")
    with pytest.raises(Refused) as refused:
        Composer(str(tmp_path)).compose(["model=mine"])
    assert said in str(refused.value)


def test_the_bundled_models_facts_are_those_of_its_weights(composer):
    import json

    from launcher.families.weights import BUNDLED

    model = to_config(composer.compose(["model=flux_tiny"])).model
    weights = json.loads((BUNDLED / "transformer" / "config.json").read_text())
    vae = json.loads((BUNDLED / "vae" / "config.json").read_text())
    assert model.heads == weights["num_attention_heads"]
    assert model.head_dim == weights["attention_head_dim"]
    assert model.layers == weights["num_layers"] + weights["num_single_layers"]
    assert model.guidance_embeds == weights["guidance_embeds"]
    assert model.vae_scale == 2 ** (len(vae["block_out_channels"]) - 1)


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("height=128\r", "type height=128, or convert the script"),
        ("prompt=a cat\r", "type 'prompt=a cat', or convert the script"),
        ("prompt=" + "x" * (1 << 18), "a command line has 32768 at most; put it into a file and type prompt_file=FILE"),
        ("output.dir=" + "\udcff" * 100_000, "has 100011 characters; a command line has 32768 at most"),
        ("prompt=" + "(" * 30_000, ""),
        ("prompt=" + "\\" * 30_000 + "(", "there are 1000 backslashes in a row"),
        ("output.dir=" + "[" * 30_000, ""),
        ("seed=" + "[" * 30_000, "brackets are nested more than 50 deep; shorten it"),
        ("seed=" + "1" * 5000, "Exceeds the limit (4300 digits)"),
        ("output.dir=" + "1" * 5000, ""),
        ("hydra.searchpath=[file:///tmp]", "type --config-dir DIR"),
    ],
)
def test_words_that_hydra_is_not_asked_to_read(composer, word, said):
    """Which takes it minutes, or ends in an error that is none of its own; text is quoted instead."""
    if not said:
        composer.check_words([word], sweep=False)
        return
    with pytest.raises(Refused) as refused:
        composer.check_words([word], sweep=False)
    assert said in str(refused.value)


def test_a_current_folder_that_was_removed_is_told(composer, monkeypatch, tmp_path):
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with pytest.raises(Refused, match="the current folder: was removed"):
        composer.compose([])


@pytest.mark.parametrize("name", ["config.yaml", "model/flux.yaml"])
def test_a_file_of_the_users_own_that_hydra_would_not_read_is_refused(tmp_path, name):
    (tmp_path / "model").mkdir()
    (tmp_path / name).write_text("steps: 3")
    with pytest.raises(Refused, match=f"conf/ has a file of this name already: {name}"):
        Composer(str(tmp_path))
    Composer(str(conf_dir()))


def test_the_benchmark_has_every_mode_and_diffusers_own(composer):
    words = ["experiment=cp_benchmark"]
    jobs = [dict(word.split("=") for word in job) for job in composer.jobs(composer.compose(words, sweep=True), words)]
    theirs = [f"diffusers_{mode.name}" for mode in MODES.values() if mode.theirs]
    assert {job["cp"] for job in jobs} == {*MODES, *theirs}
    assert {job["height"] for job in jobs} == {"1024", "1008", "1040"}
    assert {job["runtime.processes"] for job in jobs} == {"1", "2", "4"}
    assert len(jobs) == (8 + 5) * 3 * 3
