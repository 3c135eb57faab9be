"""The whole of what a user reads for a bad command line, kept in golden_refusals.txt for the eye.

`python -m pytest tests/launcher/cli/test_golden.py --update-golden` writes the file anew: read what changed.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from shared import GPUS, LAPTOP

from launcher import machines as machine
from launcher.cli.main import main

GOLDEN = Path(__file__).with_name("golden_refusals.txt")
ON_A_LAPTOP = r"""
heigth=1000
height
height=abc
height=0
height=-16 steps=0 images=0
width=70000
height=1000,1008
output.dir=a,b
height=(1
num_gpus=2
promt='a cat, sitting'
model=fluxx
model=flux cp=ring_anything height=1000
model=flux runtime=cpu guidance=null
model=flux frames=81
model=qwenimage runtime=cpu cp=ulysses cp.ulysses_degree=5
model=wan_t2v_1_3b runtime=cpu height=20000 frames=null
model=wan_t2v_1_3b runtime=cpu output=jpeg
model=hunyuan_video runtime=cpu cp=ring_anything
cp=ring_any
ring_degree=2
cp.ring_degree=1.5
cp=ring cp.ring_degree=1
cp=ring cp.ring_degree=0
cp=ring cp.ring_degree=2 cp.ulysses_degree=2
cp=ring_anything cp.ring_degree=2 cp.ulysses_degree=2
cp=ring_anything cp.ring_degree=2 runtime.processes=3
cp=ring cp.ring_degree=2 height=1000 width=1000
cp=ring cp.ring_degree=3
cp=ulysses cp.ulysses_degree=5
cp=ulysses_anything cp.ring_degree=2
cp=ulysses cp.schedule=staged
cp=ring cp.transport=nccl
cp=unified cp.ring_degree=2 cp.ulysses_degree=1
cp=unified_anything cp.ring_degree=1 cp.ulysses_degree=1
cp=none runtime.processes=2
cp=ring_anything runtime.processes=100
cp=auto cp.ring_degree=2 runtime.processes=3
cp.mode=rign
cp.schedule=fast
cp.rotate_method=alltoall
num_inference_steps=4 guidance_scale=1
runtime.main_process_port=29500
image=cat.png
lora.scale=0.5
lora.path=style.bin
attention=flash
attention=native_cudnn
attention.kernel=flush
runtime.device=cuda
runtime.device=gpu
runtime.devices=[0]
runtime.dtype=float8
runtime.offload=model
cp=ring_anything cache=first_block runtime.weights=sharded
runtime.timeout=0
guidance=3.5
guidance=nan
negative_prompt=blue
model.true_cfg=0.5
seed=-1
steps=1001
prompt_file=nowhere.txt
prompt=cat prompt_file=nowhere.txt
output=gif
output=webp height=20000
output.dir=/dev/null/x
model.path=nowhere
model.path=../..
model.heads=0
machine=h100x8
machine.gpus=8
cp=ring_anything runtime.processes=0
model.pipeline=WanPipeline
model.cp_plan.gather.proj_out.dim=2
'model.cp_plan={gather: {proj_out: {dim: 2}}}'
machine=h100
-m cp=ring,ulysses cp.ulysses_degree=4
-m machine=h100x8,here steps=0
experiment=all_modes
resume=outputs
-m seed=1,2 resume=outputs
hydra.job.chdir=true
hydra/job_logging=default
hydra.mode=MULTIRUN
+hydra.callbacks.mine._target_=os.system
hydra.searchpath=[file:///tmp]
output.dir=
'output.dir="~nobody_here/x"'
hydra.run.dir=
-m 'seed=interval(1,2)'
height=null
height=[1]
model={a:1}
height='${nothing}'
seed='???'
cp.mode='???'
hydra/sweeper=optuna
--mutlirun
--config-path x
--config-dir nowhere
~height
plan -m height=1,2
height=1000 plan
plan machine=rtx4090x4 machine.link_gbps=0
output.metadata=all
data=x
data=2
data=3 images=8
objective=fast
memory=all
compile=true
compile=full cache=pab
torch_compile=true
quantization=int4
quantization=bnb
quantize=int8
objective=throughput data=2 images=2 cp=none
-m data=3 seed=1,2
-m data=1,2 seed=1,2
-m data=2 seed=1
cp.cfg_degree=2
cp.cfg_degree=3 model.true_cfg=2
cp=ring_anything cp.ring_degree=2 cp.cfg_degree=2 model.true_cfg=2 runtime.processes=2
cp=ring_anything cp.shares=[2,1,1]
cp=ring_anything cp.shares=[2,0]
cp=ring cp.shares=[2,1]
plan machine=h100x8 model=flux data=9 images=9
plan machine=h100x8 model=flux data=4 images=4 cp=ring_anything cp.ring_degree=3
reproduce
reproduce nowhere.png
reproduce nowhere.png --exakt
runs
runs . modl=flux
runs . status=fialed
runs . since=yesterday
runs rm
report
report nowhere
"""
ON_FOUR_GPUS = r"""
model=flux cp=ring_anything height=1000
cp=ring_anything cp.ring_degree=5
cp=ulysses cp.ulysses_degree=4
data=4 images=4 cp=ulysses
runtime.devices=[4]
runtime.devices=[1,1]
attention=native_flash runtime.dtype=float32
attention=flash
runtime=cpu runtime.devices=[0]
"""
LINES = [(shlex.split(line), LAPTOP) for line in ON_A_LAPTOP.splitlines() if line]
LINES += [(["height=128\r"], LAPTOP), (["prompt=a cat\r"], LAPTOP)]  # from a script with Windows line ends
LINES += [(shlex.split(line), GPUS) for line in ON_FOUR_GPUS.splitlines() if line]


def read(text: str) -> dict[str, str]:
    """What is said for each line."""
    entries = [entry.partition("\n") for entry in text.split("\n$ ")[1:]]
    return {line: said.rstrip("\n") for line, _, said in entries}


@pytest.fixture
def answer(monkeypatch, tmp_path, capfd):
    """What a command line prints on standard error, on a machine and with no hub in reach."""
    from huggingface_hub import constants

    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")  # where nobody listens, on any machine
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))

    def run(words: list[str], here: machine.Machine) -> str:
        monkeypatch.setattr(machine, "here", lambda: here)
        capfd.readouterr()
        assert main(words) == 1
        out, err = capfd.readouterr()
        table = words[0] == "plan"
        said = (err if table else out + err).rstrip("\n").replace(str(tmp_path), "FOLDER")
        return re.sub(r"outputs/\S+", "outputs/RUN", said)

    return run


def shown(words: list[str], here: machine.Machine) -> str:
    line = shlex.join(["python", "-m", "launcher", *words]).replace("\r", "\\r")
    return line + ("  # with four GPUs" if here is GPUS else "")


@pytest.mark.slow
def test_every_bad_line_is_answered_as_it_was_read(answer, request):
    said = {shown(words, here): answer(words, here) for words, here in LINES}
    if request.config.getoption("--update-golden"):
        entries = [f"\n$ {line}\n{text}\n" for line, text in said.items()]
        GOLDEN.write_text("What a bad command line is answered with.\n" + "".join(entries), encoding="utf-8")
    assert read(GOLDEN.read_text(encoding="utf-8")) == said
    assert len(said) >= 40
    for text in said.values():
        assert "Traceback" not in text
        assert "internal error" not in text
