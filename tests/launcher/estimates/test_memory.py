"""Memory: weights by their headers."""

from safetensors import safe_open

from launcher.estimates.plan import plan
from launcher.estimates.weights import parameters
from launcher.families.weights import BUNDLED


def test_weights_are_counted_by_their_headers(ask):
    numbers = {}
    for path in BUNDLED.glob("*/*.safetensors"):
        with safe_open(path, "pt") as file:
            numbers[path.parent.name] = sum(file.get_tensor(name).numel() for name in file.keys())  # noqa: SIM118
    assert parameters(ask()) == numbers
    memory = plan(ask("runtime.dtype=bfloat16")).memory
    assert memory.weights == 2 * sum(numbers.values())
