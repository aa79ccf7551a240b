"""States of a reverse process as films: MP4 with H.264, which every browser plays, and a poster.

Pictures keep sharp pixels: each is enlarged by a whole number. Noise can hardly be compressed, so a
film that is too large loses quality, then size. The last frame stands for a while, so that the
finished images can be looked at. The same states give the same bytes: one thread
encodes, and the file names no time and no encoder.
"""

from collections.abc import Sequence
from itertools import product
from pathlib import Path

import imageio_ffmpeg
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from ihdm.pixels import to_bytes
from ihdm.project import ProjectError

__all__ = ["FRAMES_PER_SECOND", "mosaic", "side_by_side", "write"]

FRAMES_PER_SECOND = 20
HOLD = 30  # frames for which the last state stands
LIMIT = 2_000_000  # bytes of a file
QUALITIES = (20, 26, 32, 38)  # of H.264, the best first
REDUCTIONS = (1, 2, 4, 8)  # of the sides
GAP = 2  # pixels between pictures, on a background of
GREY = 128


def mosaic(states: Tensor, columns: int, side: int = 112) -> NDArray[np.uint8]:
    """Lays pictures out in rows, at each time.

    Args:
        states: (F, N, C, H, W) in [0, 1], of one or three channels; values outside are clipped,
            and those that are not a number are black.
        columns: pictures in a row at most.
        side: to what height in pixels a smaller picture is enlarged, rounded down to a multiple.

    Returns:
        (F, height, width, 3) frames.
    """
    F, N, _, H, W = states.shape
    columns = min(columns, N)
    scale = max(1, side // H)
    rows, height, width = -(-N // columns), scale * H + GAP, scale * W + GAP
    frames = np.full((F, rows * height + GAP, columns * width + GAP, 3), GREY, np.uint8)
    for i in range(N):
        y, x = GAP + i // columns * height, GAP + i % columns * width
        pixels = to_bytes(states[:, i].nan_to_num(0)).permute(0, 2, 3, 1)
        picture = pixels.repeat_interleave(scale, 1).repeat_interleave(scale, 2).numpy()
        frames[:, y : y + scale * H, x : x + scale * W] = picture
    return frames


def side_by_side(films: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Joins films of one length and height from left to right, with a wider gap between them.

    Args:
        films: (F, height, width, 3) frames of each.
    """
    F, height, _, _ = films[0].shape
    gap = np.full((F, height, 8 * GAP, 3), GREY, np.uint8)
    parts = [part for film in films for part in (gap, film)][1:]
    return np.concatenate(parts, axis=2)


def write(frames: NDArray[np.uint8], path: Path) -> tuple[int, int]:
    """Writes a film, and beside it its last frame as a poster of the same name in PNG.

    Args:
        frames: (F, height, width, 3).
        path: of the film, which ends in .mp4.

    Returns:
        Its height and width in pixels.

    Raises:
        ProjectError: it does not fit into 2 MB at the lowest quality and the smallest size.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    for reduction, quality in product(REDUCTIONS, QUALITIES):
        smaller = reduced(frames, reduction)
        encode(smaller, path, quality)
        if path.stat().st_size <= LIMIT:
            Image.fromarray(smaller[-1]).save(path.with_suffix(".png"), optimize=True)
            return smaller.shape[1:3]
    raise ProjectError(
        f"{path} is larger than {LIMIT / 1e6:g} MB at the lowest quality: lower "
        "notebooks.samples.film_frames in params.yaml"
    )


def reduced(frames: NDArray[np.uint8], reduction: int) -> NDArray[np.uint8]:
    """Frames with smaller sides, which are even: the format halves the resolution of colours."""
    _, height, width, _ = frames.shape
    sides = [max(2, 2 * (side // (2 * reduction))) for side in (width, height)]
    if reduction > 1:
        small = [Image.fromarray(frame).resize(sides, Image.Resampling.BOX) for frame in frames]
        return np.stack([np.asarray(frame) for frame in small])
    return np.pad(frames, [(0, 0), (0, height % 2), (0, width % 2), (0, 0)], constant_values=GREY)


def encode(frames: NDArray[np.uint8], path: Path, quality: int) -> None:
    options = ["-crf", str(quality), "-preset", "slow", "-threads", "1", "-movflags", "+faststart"]
    options += ["-map_metadata", "-1", "-fflags", "+bitexact", "-flags:v", "+bitexact"]
    writer = imageio_ffmpeg.write_frames(
        path,
        (frames.shape[2], frames.shape[1]),
        fps=FRAMES_PER_SECOND,
        codec="libx264",
        macro_block_size=2,
        output_params=options,
    )
    writer.send(None)
    for frame in [*frames, *[frames[-1]] * HOLD]:
        writer.send(np.ascontiguousarray(frame))
    writer.close()
