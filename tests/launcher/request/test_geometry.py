from hypothesis import given
from hypothesis import strategies as st

from launcher.request.geometry import (
    Size,
    crop_box,
    divisors,
    image_tokens,
    latent_frames,
    render_frames,
    render_size,
    sizes_that_divide,
)

sides = st.integers(1, 5000)


@given(sides, sides, st.sampled_from([8, 16, 32]))
def test_the_rendered_size_is_the_smallest_multiple_that_covers_the_request(height, width, multiple):
    rendered = render_size(Size(height, width), multiple)
    assert rendered.height % multiple == rendered.width % multiple == 0
    assert 0 <= rendered.height - height < multiple
    assert 0 <= rendered.width - width < multiple


@given(sides, sides)
def test_the_crop_has_the_requested_size_and_lies_inside(height, width):
    requested = Size(height, width)
    rendered = render_size(requested, 16)
    left, top, right, bottom = crop_box(rendered, requested)
    assert (right - left, bottom - top) == (width, height)
    assert 0 <= left <= right <= rendered.width
    assert 0 <= top <= bottom <= rendered.height


@given(st.integers(1, 5000), st.sampled_from([1, 4, 8]))
def test_the_rendered_frames_are_the_fewest_that_the_vae_makes(frames, per_latent):
    rendered = render_frames(frames, per_latent)
    assert 0 <= rendered - frames < per_latent
    assert (rendered - 1) % per_latent == 0
    assert latent_frames(rendered, per_latent) == (rendered - 1) / per_latent + 1


def test_flux_token_counts():
    assert image_tokens(render_size(Size(1000, 1024), 16), 16) == 63 * 64
    assert image_tokens(Size(1008, 1008), 16) == 3969
    assert image_tokens(Size(16, 16), 16) == 1


@given(st.integers(1, 500))
def test_divisors(number):
    assert divisors(number) == [d for d in range(1, number + 1) if number % d == 0]


def test_suggested_sizes_divide():
    found = sizes_that_divide(Size(1008, 1008), 16, 4)  # 63 x 63 tokens
    assert found == [Size(960, 1008), Size(1024, 1008)]
    assert all(image_tokens(size, 16) % 4 == 0 for size in found)
    assert sizes_that_divide(Size(16, 16), 16, 3) == [Size(48, 16)]
    assert sizes_that_divide(Size(16, 80), 16, 4, latents=2) == [Size(32, 80)]
