"""What is compiled, how often, and that nothing of it is left: on a module of two blocks, which compiles at once."""

from __future__ import annotations

import contextlib

import pytest
import torch
from torch._dynamo.utils import counters
from torch._inductor.exc import CppCompileError

from launcher.worker import compiling


class Block(torch.nn.Module):
    def __init__(self, factor: float) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.full((4,), factor))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + torch.sin(x * self.weight)


class Model(torch.nn.Module):
    _repeated_blocks = ("Block",)

    def __init__(self) -> None:
        super().__init__()
        self.blocks = torch.nn.ModuleList(Block(0.5 + number) for number in range(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            x = block(x)
        return x


@pytest.mark.slow
@pytest.mark.parametrize("how", ["regional", "full"])
def test_a_sweep_over_sizes_compiles_at_most_twice(monkeypatch, how):
    monkeypatch.setitem(compiling.HOW, "backend", "eager")
    counters.clear()
    model, began = Model(), []
    sizes = [torch.linspace(-1, 1, 4 * tokens).reshape(1, tokens, 4) for tokens in (5, 8, 13, 21)]
    with torch.no_grad():
        expected = [model(x) for x in sizes]
        spent = compiling.Compiling(lambda: began.append(1))
        with compiling.blocks_compiled(model, how), compiling.whole_compiled(model, how), spent.timed():
            found = [model(x) for x in sizes]
        again = model(sizes[0])
    assert all(map(torch.equal, found, expected))
    assert torch.equal(again, expected[0])
    assert 1 <= counters["stats"]["unique_graphs"] == len(began) <= 2
    assert spent.seconds > 0
    assert not any("forward" in vars(module) for module in model.modules())


@pytest.mark.slow
def test_what_is_built_is_kept_for_runs_to_come(monkeypatch, tmp_path):
    own = str(tmp_path / "own")
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", own)
    with compiling.whole_compiled(Model(), "full"):  # the user said where
        assert compiling.os.environ["TORCHINDUCTOR_CACHE_DIR"] == own
    monkeypatch.setenv(compiling.COMPILED_VARIABLE, str(tmp_path / "kept"))
    with compiling.whole_compiled(Model(), "full"):
        assert compiling.os.environ["TORCHINDUCTOR_CACHE_DIR"] == str(tmp_path / "kept")
    assert (tmp_path / "kept").stat().st_mode & 0o777 == 0o700


def test_what_a_killed_compiler_leaves_is_not_taken_for_what_it_builds(monkeypatch, tmp_path):
    folder, target = tmp_path / "x_CxxBuild", tmp_path / "x.so"
    folder.mkdir()
    script = tmp_path / "cxx"
    for ends, whole in (("kill -9 $$", False), ("true", True)):
        script.write_text(f'printf some > "$2"; {ends}; printf thing >> "$2"')
        with contextlib.nullcontext() if whole else pytest.raises(CppCompileError):
            compiling.build_whole(f"sh {script} -o {target}", cwd=str(folder))
        assert target.exists() == whole
    assert target.read_text() == "something"
