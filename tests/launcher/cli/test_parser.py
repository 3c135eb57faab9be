import pytest

from launcher.cli.parser import Parser
from launcher.problems import Refused


def read(*words: str):
    parser = Parser()
    parser.add_argument("-c", "--cfg", choices=("job", "all"), help="print it")
    parser.add_argument("-m", "--multirun", action="store_true", help="sweep")
    return parser.read(list(words))


def test_options_may_stand_anywhere():
    args = read("a=1", "-m", "b=2", "--cfg", "job")
    assert args.overrides == ["a=1", "b=2"]
    assert args.multirun
    assert args.cfg == "job"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--mutlirun"], "--mutlirun: unknown option; type --multirun"),
        (["-z"], "-z: unknown option; type --help"),
        (["--cfg"], "--cfg: expected one argument"),
        (["--cfg", "x"], "--cfg: invalid choice: 'x'"),
        (["--multirun=3"], "--multirun: ignored explicit argument '3'"),
        (["--height", "512"], "--height: settings are typed without dashes, as key=value; type height=512"),
        (["--prompt=a cat"], "type 'prompt=a cat'"),
        (["a=1", "--num-inference-steps", "20"], "type steps=20"),
        (["--ring_degree", "2"], "type cp.ring_degree=2"),
        (["--model", "flux"], "type model=flux"),
        (["--guidance_scale"], "type guidance=VALUE"),
        (["--config-dir"], "--config-dir: expected one argument"),
    ],
)
def test_a_wrong_option_is_refused_in_words(words, said):
    with pytest.raises(Refused) as refused:
        read(*words)
    assert said in str(refused.value)


def test_the_last_of_two_values_holds_and_the_screen_says_so(capsys):
    assert read("prompt=a", "seed=1", "+prompt=b", "seed=1").overrides == ["prompt=a", "seed=1", "+prompt=b", "seed=1"]
    assert capsys.readouterr().err == "launcher: note: prompt=a is overridden by +prompt=b, which comes later\n"


def test_each_option_has_a_line():
    parser = Parser()
    parser.add_argument("-c", "--cfg", choices=("job", "all"), help="print it")
    assert "  -c, --cfg job|all            print it" in parser.options().splitlines()
    assert "  --config-dir, -cd DIR        a folder of your own YAML files, like conf/" in parser.options().splitlines()
