"""What is left out follows from the rest."""

import json

import pytest
from shared import GPUS, LAPTOP

from attention_backends.catalog import MODES
from launcher.machines import Gpu, Machine


@pytest.mark.parametrize(
    ("words", "machine", "expected"),
    [
        (["cp=auto"], LAPTOP, ("none", 1, 1, 1, "cpu")),
        (["cp=auto", "model=flux"], GPUS, ("ulysses", 1, 4, 4, "cuda")),
        (["cp=auto", "model=flux", "cp.ring_degree=2"], GPUS, ("unified", 2, 2, 4, "cuda")),
        (["cp=auto", "runtime.processes=3"], LAPTOP, ("ring_anything", 3, 1, 3, "cpu")),
        (["cp=auto", "runtime.devices=[1]"], GPUS, ("none", 1, 1, 1, "cuda")),
        (["cp=none"], GPUS, ("none", 1, 1, 1, "cuda")),
        (["cp=ring_anything"], LAPTOP, ("ring_anything", 2, 1, 2, "cpu")),
        (["cp=ring_anything"], GPUS, ("ring_anything", 4, 1, 4, "cuda")),
        (["cp=ring_anything", "cp.ring_degree=3"], GPUS, ("ring_anything", 3, 1, 3, "cuda")),
        (["cp=ulysses", "runtime.processes=3"], LAPTOP, ("ulysses", 1, 3, 3, "cpu")),
        (["cp=unified"], LAPTOP, ("unified", 2, 2, 4, "cpu")),
        (["cp=unified", "cp.ulysses_degree=3"], LAPTOP, ("unified", 1, 3, 3, "cpu")),
        (["cp=unified", "cp.ring_degree=2", "cp.ulysses_degree=3"], LAPTOP, ("unified", 2, 3, 6, "cpu")),
        (["cp=unified", "runtime.device=cpu"], GPUS, ("unified", 2, 2, 4, "cpu")),
        (["cp=ring", "runtime.devices=[1,3]"], GPUS, ("ring", 2, 1, 2, "cuda")),
    ],
)
def test_degrees_follow_from_what_is_given_and_the_machine(ask, words, machine, expected):
    request = ask(*words, machine=machine)
    assert (request.mode, request.mesh.ring, request.mesh.ulysses, request.mesh.ranks, request.device) == expected


def test_chosen_gpus_are_used_in_their_order(ask):
    assert ask("cp=ring", "runtime.devices=[3,1]", machine=GPUS).devices == (3, 1)
    assert ask("cp=ring", "cp.ring_degree=2", machine=GPUS).devices == (0, 1)
    assert ask("cp=ring", "runtime=cpu", machine=GPUS).devices == ()


def test_dtype_and_threads_follow_from_the_device(ask):
    request = ask("cp=ring_anything", "runtime.processes=2", machine=Machine(cores=6))
    assert (request.dtype, request.threads) == ("float32", 3)
    assert ask("cp=ring_anything", "runtime.processes=5").threads == 1
    assert ask("cp=none", machine=Machine(4, (Gpu(0, "A100", 40000),))).dtype == "bfloat16"


def test_sizes_and_tokens(ask):
    request = ask("model=flux", "cp=ring_anything", "height=1000", "cp.ring_degree=3", machine=GPUS)
    assert str(request.rendered) == "1008 x 1024"
    assert request.streams == {"text": 512, "image": 4032}
    assert request.tokens_per_rank == [{"text": t, "image": 1344} for t in (171, 171, 170)]


def test_tokens_of_a_video_and_what_is_split(ask):
    wan = ask("model=wan_t2v_1_3b", "frames=80", "height=470")
    assert (wan.frames, wan.rendered_frames, str(wan.rendered)) == (80, 81, "480 x 832")
    assert wan.streams == {"video": 21 * 30 * 52}  # every rank holds the text whole
    ltx = ask("model=ltx_video", "cp=unified_anything", "cp.ring_degree=3")
    assert ltx.streams == {"text": 128, "video": 21 * 16 * 22}
    assert [sum(rank.values()) for rank in ltx.tokens_per_rank] == [2507, 2507, 2506]
    assert ask().frames is None


def test_a_mask_asks_for_the_mode_that_takes_one(ask):
    assert MODES[ask("model=ltx_video", "runtime.processes=2").mode].masks
    assert ask("model=ltx_video", "runtime.processes=3").mode == "unified_anything"  # 128 text tokens


def test_text_that_is_as_long_as_the_prompt_is_not_known_without_its_tokenizer(ask):
    request = ask("model=qwenimage")
    assert request.texts is None
    assert request.streams == {"text": 512, "image": 83 * 83}  # the most that there can be


@pytest.mark.parametrize(
    ("words", "negative"),
    [
        (["model=qwenimage"], ""),
        (["model=qwenimage", "model.true_cfg=1"], None),
        (["model=wan_t2v_1_3b", "negative_prompt=blue"], "blue"),
        (["model=wan_t2v_1_3b", "guidance=1"], None),
        (["model.true_cfg=2"], ""),
        (["model=flux"], None),
    ],
)
def test_classifier_free_guidance_has_a_negative_prompt(ask, words, negative):
    assert ask(*words).negative_prompt == negative


def test_a_seed_is_drawn_once_and_a_given_one_is_kept(ask):
    assert ask("seed=7").seed == 7
    assert 0 <= ask().seed < 2**32
    assert ask().seed != ask().seed


def test_the_prompt_is_the_models_own_unless_given(ask, tmp_path):
    assert ask().prompts == ("red dots on a yellow background",)
    assert ask("prompt=green waves").prompts == ("green waves",)
    odd = 'a "cat", (sitting) {here}\non = two lines, ünï ☃ 猫 🐈'
    (tmp_path / "one.txt").write_text(odd + "\n", encoding="utf-8")
    assert ask(f"prompt_file={tmp_path / 'one.txt'}").prompts == (odd,)
    (tmp_path / "many.json").write_text(json.dumps(["one", odd]), encoding="utf-8")
    assert ask(f"prompt_file={tmp_path / 'many.json'}").prompts == ("one", odd)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("missing.txt", None, "can't be read (No such file or directory)"),
        ("binary.txt", b"\xff\xfe\x00a", "is not UTF-8"),
        ("broken.json", b"[", "is not valid JSON"),
        ("number.json", b"[1]", "must be a list of strings"),
        ("empty.json", b"[]", "must be a list of strings"),
        ("large.txt", b"a" * 2_000_000, "is 2000000 bytes long"),
        ("deep.json", b"[" * 100_000, "is not valid JSON"),
    ],
)
def test_a_prompt_file_that_cannot_be_used_is_a_problem(ask, tmp_path, name, content, said):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    (problem,) = ask(f"prompt_file={tmp_path / name}").problems
    assert said in problem.rule
    assert problem.instead
