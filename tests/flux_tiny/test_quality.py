"""The quality that the shipped weights must have, on a sample of the pictures by which the model is judged.

    FLUX_TINY_PICTURES=all python -m pytest tests/flux_tiny/test_quality.py

draws all of them, in hours; `python -m launcher.flux_tiny.evaluate` does so faster, on all cores, and prints a table.
"""

import os

import pytest

from launcher.flux_tiny import evaluate

ASKED = os.environ.get("FLUX_TINY_PICTURES", "")


# pictures of a set in a usual run, the mean score, the share above 0.9
@pytest.mark.parametrize(
    ("size", "usual", "mean", "above"),
    [
        ("512x512", 16, 0.95, 0.95),
        ("256x256", 12, 0.93, 0),
        ("256x256 in any words", 12, 0.93, 0),
        ("1000x1024", 2, 0.93, 0),
        ("1008x1008", 1, 0.93, 0),
    ],
)
def test_pictures_show_their_words(size: str, usual: int, mean: float, above: float) -> None:
    (jobs,) = (jobs for name, jobs in evaluate.sets().items() if name.startswith(f"{size},"))
    jobs = evaluate.sample(jobs, None if ASKED == "all" else int(ASKED or usual))
    found = evaluate.summary([score for _, score in evaluate.measure(jobs)])
    assert found["mean"] >= mean, found
    assert found["above 0.9"] >= above, found
    assert found["colours right"] >= 0.98, found
