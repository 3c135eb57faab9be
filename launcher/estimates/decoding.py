"""What a rank holds while its VAE decodes, about.

With c channels of the VAE's last stage (model.vae_width), P pixels and F frames that it decodes at once, b bytes an
element, a stage is c P F b; where that stage holds k x k pixels as one (model.vae_patch), a part in k^2 of it.

    tensors          model.vae_tensors stages: what comes in and goes out of a block, normed and padded copies, and what
                     causal convolutions keep of earlier frames. Counted with the published configuration of each
                     class (tests/launcher/families/test_vae_tensors.py)
    a kernel's own   on a CPU a stage more: oneDNN's convolutions take and give blocks of 16 channels, so fewer count as
                     16. torch's own convolution of films, which takes small ones in float32 (SMALL), writes each value
                     once for each of the 27 places of its kernel. cuDNN's are not known: 3 stages on a GPU
    a mask           of attention where model.vae_mask says so: b n^2, and n^2 that it is made of, with n latents
                     that are decoded at once; before the last stage, so the larger of both counts
    the whole        12 bytes a pixel of a picture in float32; of a film 3 b, once as the last frames are decoded and
                     three times as it is brought from -1 .. 1 to 0 .. 1
    tiles            those that are decoded wait, and are joined to rows, and these to the whole

What is freed goes back to the system at once while a CPU decodes a film (launcher/worker/heap.py). A picture's decode
keeps up to 48 MiB of it.
"""

from __future__ import annotations

from launcher.decoding import OVERLAP
from launcher.estimates.attentions import ELEMENT_SIZE
from launcher.request.request import Request

KERNEL = 3  # stages that a convolution may take on a GPU: an estimate
CHANNELS = 16  # of a block of oneDNN's layout
COLUMNS = 27  # places of a convolution's kernel of 3 x 3 x 3
# A batch's channels, frames and rows, multiplied, up to which torch leaves a film's convolution in float32 to its own
# code: use_mkldnn in https://github.com/pytorch/pytorch/blob/v2.13.0/aten/src/ATen/native/Convolution.cpp
SMALL = 20480
PADDED = 2  # frames, and rows, that are put before and around those of a convolution of 3 x 3 x 3
# Elements that malloc keeps a pixel and channel of a picture's last stage, up to KEPT bytes: flux_tiny's takes 4 at
# 2048 x 1024 and 7.7 at 512 x 512, FLUX.1's 4 at 768 x 768 and 6 at 256 x 256.
WORKSPACE, KEPT = 2, 48 << 20
# Elements a pixel of tiles that are decoded, of the rows that they are joined to, of the whole and of its copies:
# measured with flux_tiny at 2048 x 1024 in tiles of 256 (727 MiB; 735 where two ranks share them).
TILES = 24
PIXEL = 12  # bytes of a finished pixel of a picture: three channels in float32
FILMS = 3  # of a finished film: the VAE's, its frames as they are rescaled, and the tensor that these are put in
# Of a film in tiles: the tiles, which overlap, while the last one is decoded; then with their rows and the whole, of
# which some VAEs make a clamped copy (3.6 of LTX's twin at 33 to 65 frames of 512 x 512, 4.6 of Wan's).
TILED, JOINED = (OVERLAP / (OVERLAP - 1)) ** 2, 4.2


def held(request: Request, rank: int, batch: int) -> int:
    """Bytes that a rank holds at most while it decodes, beside weights.

    Args:
        batch: pictures, or films, that one call draws.
    """
    decoding, model, size = request.decoding, request.config.model, ELEMENT_SIZE.get(request.dtype, 4)
    pixels, frames = request.rendered.height * request.rendered.width, request.rendered_frames
    at_once = _stage(request)
    stages = at_once * model.vae_tensors + _kernels_own(request, at_once)
    parts = int((1 if decoding.slicing else batch) * max(stages, _mask(request))) * (rank == 0 or decoding.shared)
    if frames is None:
        return parts + batch * pixels * (PIXEL + TILES * size * (decoding.tile is not None)) * (rank == 0)
    film = 3 * size * pixels * frames
    if rank > 0:  # its tiles wait until rank 0 has taken them
        return (parts + int(TILED * batch * film) // request.mesh.ranks) * decoding.shared
    if decoding.tile is None:
        return max(parts + batch * film, batch * FILMS * film)
    return max(parts + int(TILED * batch * film), int(JOINED * batch * film))


def _stage(request: Request) -> int:
    """Bytes of the last stage, of all that is decoded at once of one picture or film."""
    model, tile, frames = request.config.model, request.decoding.tile, request.rendered_frames or 1
    height, width = (min(side, tile or side) for side in (request.rendered.height, request.rendered.width))
    size = ELEMENT_SIZE.get(request.dtype, 4)
    return model.vae_width * height * width * min(frames, model.vae_frames or frames) * size // model.vae_patch**2


def _mask(request: Request) -> int:
    """Bytes of the mask among all latents that are decoded at once, and of the comparison that it is made of."""
    model = request.config.model
    if not model.vae_mask:
        return 0
    frames, sides = request.rendered_frames or 1, (request.rendered.height, request.rendered.width)
    latents = -(-min(frames, model.vae_frames or frames) // (model.frames_per_latent or 1))
    for side in sides:
        latents *= min(side, request.decoding.tile or side) // model.vae_scale
    return latents**2 * (ELEMENT_SIZE.get(request.dtype, 4) + 1)


def _kernels_own(request: Request, stage: int) -> int:
    """Bytes that a convolution takes beside its input and output, and with a picture those that malloc keeps."""
    if request.device != "cpu":
        return KERNEL * stage
    model, frames = request.config.model, request.rendered_frames
    own = stage * -(-model.vae_width // CHANNELS) * CHANNELS // model.vae_width
    if frames is None:
        return own + min(WORKSPACE * stage, KEPT)
    height = request.rendered.height
    rows = min(height, request.decoding.tile or height) // model.vae_patch + PADDED
    values = model.vae_width * (min(frames, model.vae_frames or frames) + PADDED) * rows
    return COLUMNS * stage if request.dtype == "float32" and values <= SMALL else own
