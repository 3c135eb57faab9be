"""A film to start from is decoded before the start, as far as it is wanted, and told of if it can't be."""

import numpy as np
import pytest
from PIL import Image

from launcher.estimates.memory import estimate
from launcher.records.film import Film, encode
from launcher.records.run_dir import RunDir
from launcher.request.geometry import Size
from launcher.request.pictures import look, ready_film
from launcher.rules import problems
from launcher.running.message import job_message, make_ready


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    """Seven frames of 90 x 60, each of one grey, and lighter than the one before."""
    path = tmp_path_factory.mktemp("films") / "x.mp4"
    encode([Image.new("RGB", (90, 60), (30 * n,) * 3) for n in range(7)], path, {}, Film(8))
    return path


def said(path, frames=5):
    found, wrong = look("video", str(path), frames)
    return found, " | ".join(map(str, wrong))


def test_as_many_frames_are_read_as_are_wanted(film):
    ((five,), _), ((seven,), _) = said(film), said(film, 9)
    assert (five.frames, five.size, five.changed) == (5, Size(60, 90), ("its first 5 frames",))
    assert (seven.frames, seven.changed) == (7, ())
    greys = [np.asarray(frame).mean() for frame in ready_film(seven, None, 9)]
    assert np.abs(np.array(greys) - [*range(0, 210, 30), 180, 180]).max() < 3


def test_what_is_no_film_or_a_damaged_one_is_told(film, tmp_path):
    content, path = film.read_bytes(), tmp_path / "x.mp4"
    kind, damage = (
        ("is not a film that can be read (MP4, MOV, WebM or MKV)",),
        ("is damaged or cut", "it is cut short, perhaps", "without pictures"),
    )
    for broken, what in (
        (b"", kind),
        (b"#EXTM3U\nfile:///etc/passwd\n", kind),
        (content[:40], damage),
        (content[: len(content) // 2], damage),
        (content[:4] + b"ftyp" + bytes(999), damage),
        (b"\x1aE\xdf\xa3" + bytes(99), damage),
    ):
        path.write_bytes(broken)
        found, told = said(path)
        assert found == []
        assert any(words in told for words in what), told
        assert "give a MP4, MOV, WebM or MKV file" in told
    assert "can't be read (No such file or directory)" in said(tmp_path / "none.mp4")[1]


def test_a_frame_of_too_many_pixels_is_told(film, monkeypatch):
    monkeypatch.setattr("launcher.request.films.MAX_PIXELS", 5000)
    _, told = said(film, 6)
    assert "has frames of 60 x 90 pixels; at most 0 million are taken" in told


def test_a_request_takes_it_where_its_model_does(ask, film, tmp_path):
    always = ["model=wan_t2v_1_3b", "machine=h100x8_2nodes", "height=50", "width=40", f"video={film}"]
    request = ask(*always, "frames=6", "steps=10")
    assert (request.denoising_steps, request.rendered_frames) == (8, 9)
    plain = ask(*always[:-1], "frames=6", "steps=10")
    assert request.tokens_per_rank == plain.tokens_per_rank
    assert estimate(request) == estimate(plain)
    assert [one.rule for one in problems(ask(*always, "frames=9")) if "video=" in one.value] == [
        "has 7 frames, and 9 are drawn"
    ]
    make_ready(request, RunDir(tmp_path))
    with Image.open(tmp_path / "inputs" / "0.tiff") as kept:
        assert (kept.n_frames, kept.size) == (9, (request.rendered.width, request.rendered.height))
    job = job_message(request, RunDir(tmp_path))
    assert job.started_from[0].path.endswith("inputs/0.tiff")
    assert "num_frames" not in job.call
    assert list(job.recipe.inputs) == ["video"]


def test_a_model_that_takes_none_says_who_does(ask, film):
    (problem,) = problems(ask(f"video={film}"))
    assert "flux_tiny takes no video" in problem.rule
    assert "model=cogvideox_5b" in problem.instead
