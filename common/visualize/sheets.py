"""Contact sheets, retrieval lists and heat maps, as PNG files below 300 kB; the same input gives the same bytes.

Matches and non-matches have green and red frames as in the papers, and a tick or a cross for colour-blind readers.

Shapes: Q queries, K ranked gallery images, n or B images, C channels, H x W pixels of an image, h x w cells of a map.
"""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torch.nn import functional as F

from common.datasets.base import JUNK, Sample, Subset
from common.errors import UserError

MAX_BYTES = 300_000  # of one committed figure
MAX_WIDTH = 830  # pixels: GitHub shows a wider figure smaller, and its text with it
MAX_CAMERAS = 15  # as in MSMT17; with more (PETA: one per image) columns by camera are useless
GAP = 4  # pixels between images
FONT_SIZE = 15
INK, EMPTY, GREEN, RED = (30, 30, 30), (235, 235, 235), (0, 150, 60), (215, 25, 30)


def sample_sheet(
    subset: Subset,
    path: Path | str,
    *,
    num_identities: int = 8,
    images_per_camera: int = 2,
    height: int = 128,
    seed: int = 0,
) -> Path:
    """Images of identities: one row per person, columns grouped by camera, grey where there is no image.

    The identities are those seen by the most cameras, ties broken at random; junk (person -1) is left out.
    height: of an image in pixels; its width is half of that.
    """
    persons = sorted(set(subset.persons.tolist()) - {JUNK})
    if not persons:
        raise UserError(f"subset {subset.name!r} has no identity to show: it has {len(subset)} images, junk included")
    generator = np.random.default_rng(seed)
    seen_by = {person: len(set(subset.cameras[subset.persons == person].tolist())) for person in persons}
    shuffled = generator.permutation(persons).tolist()
    persons = sorted(sorted(shuffled, key=lambda person: -seen_by[person])[:num_identities])
    groups: dict[int, dict[str, list[Sample]]] = {person: {} for person in persons}
    one_group = len(set(subset.cameras.tolist())) > MAX_CAMERAS
    modalities = {sample.modality for sample in subset.samples}
    for sample in subset.samples:
        if sample.person in groups:
            label = "all images" if one_group else f"camera {sample.camera}"
            label += f"\n{sample.modality}" if len(modalities) > 1 else ""
            groups[sample.person].setdefault(label, []).append(sample)
    labels = sorted({label for row in groups.values() for label in row}, key=_natural_order)
    columns = images_per_camera * (MAX_CAMERAS // 2 if one_group else 1)

    width, margin, head = height // 2, 90, 2 * FONT_SIZE + 14
    step = columns * (width + GAP) + 3 * GAP
    sheet = Image.new("RGB", (margin + step * len(labels), head + len(persons) * (height + GAP)), "white")
    for group, label in enumerate(labels):
        _text(sheet, (margin + group * step + (columns * (width + GAP)) // 2, head // 2), label)
    for row, person in enumerate(persons):
        y = head + row * (height + GAP)
        _text(sheet, (margin // 2, y + height // 2), f"person\n{person}")
        for group, label in enumerate(labels):
            samples = groups[person].get(label, [])
            chosen = generator.choice(len(samples), min(columns, len(samples)), replace=False) if samples else []
            images = [_open(samples[i].path, (width, height)) for i in sorted(chosen)]
            for column in range(columns):
                image = images[column] if column < len(images) else Image.new("RGB", (width, height), EMPTY)
                sheet.paste(image, (margin + group * step + column * (width + GAP), y))
    return _write(sheet, path)


def retrieval_sheet(
    query_paths: Sequence[Path | str],
    gallery_paths_ranked: Sequence[Sequence[Path | str]],
    correct,
    path: Path | str,
    *,
    scores=None,
    headings: Mapping[int, str] | None = None,
    height: int = 120,
) -> Path:
    """Each query and its top K gallery images, framed green (match) or red (non-match).

    gallery_paths_ranked: Q lists of K paths; correct: (Q, K) bool, whether a match; scores: (Q, K) numbers, such as
    similarities, printed above the images; headings: {row: what is written above it}; height: of an image, in pixels.
    At 120 ten results fit the width in which GitHub shows a page.
    """
    correct = np.asarray(correct, dtype=bool)
    expected = (len(query_paths), len(gallery_paths_ranked[0]) if len(gallery_paths_ranked) else 0)
    found = {"gallery_paths_ranked": (len(gallery_paths_ranked), *sorted({len(row) for row in gallery_paths_ranked}))}
    found |= {"correct": correct.shape} | ({} if scores is None else {"scores": np.shape(scores)})
    for name, shape in found.items():
        if shape != expected or 0 in shape:
            raise UserError(f"{name} has shape {shape}, but {expected[0]} queries need {expected}, both at least 1")

    width, frame, line = height // 2, 4, FONT_SIZE + 7
    step, head, gap = width + 2 * frame + GAP, line, 24
    left = step + gap
    headings = headings or {}
    rows_height = expected[0] * (line + height + 2 * frame + GAP) + len(headings) * line
    sheet = Image.new("RGB", (left + step * expected[1], head + rows_height), "white")
    draw = ImageDraw.Draw(sheet)
    _text(sheet, (step // 2, head // 2), "query")
    for rank in range(expected[1]):
        _text(sheet, (left + rank * step + step // 2, head // 2), str(rank + 1))
    y = head
    for row, query in enumerate(query_paths):
        if row in headings:
            draw.text((frame, y + line // 2), headings[row], fill=INK, font=_font(), anchor="lm")
            y += line
        y += line
        sheet.paste(_open(query, (width, height)), (frame, y + frame))
        for rank, gallery_path in enumerate(gallery_paths_ranked[row]):
            x, is_match = left + rank * step, correct[row, rank]
            colour = GREEN if is_match else RED
            draw.rectangle((x, y, x + width + 2 * frame - 1, y + height + 2 * frame - 1), fill=colour)
            sheet.paste(_open(gallery_path, (width, height)), (x + frame, y + frame))
            number = "" if scores is None else f"{float(scores[row][rank]):.2f} "
            _text(sheet, (x + step // 2, y - line // 2), number + ("✓" if is_match else "✗"), colour)
        y += height + 2 * frame + GAP
    return _write(sheet, path)


def activation_map(features: Tensor) -> np.ndarray:
    """Where a feature map is active: (B, C, H, W) -> (B, H, W) float32 in [0, 1] for each image.

    The sum of squared channels of Zagoruyko and Komodakis, "Paying More Attention to Attention", ICLR 2017, Sec. 3.1
    (p = 2). Its square root is taken so that one strong cell does not hide the others.
    """
    return stretched(torch.linalg.vector_norm(features.detach().float(), dim=1)).cpu().numpy()


def stretched(maps: Tensor) -> Tensor:
    """(n, h, w) scaled to [0, 1] map by map; a constant map becomes 0."""
    low, high = maps.amin((1, 2), keepdim=True), maps.amax((1, 2), keepdim=True)
    return (maps - low) / (high - low).clamp(min=torch.finfo(maps.dtype).tiny)


def heat_map_sheet(images, maps_by_column: Mapping[str, object], path: Path | str, *, height: int = 192) -> Path:
    """One row per image: the image, then each map laid over it, from deep blue (lowest) to deep red (highest).

    images: (n, 3, H, W) uint8; maps_by_column: title -> (n, h, w) in any range, scaled to [0, 1] map by map and
    resized bilinearly. height: of an image in the sheet, in pixels; less where many columns need it.
    """
    images = images.cpu() if isinstance(images, Tensor) else torch.from_numpy(np.array(images))
    if images.ndim != 4 or images.shape[1] != 3 or images.dtype != torch.uint8:
        raise UserError(f"images must be (n, 3, H, W) uint8, got {tuple(images.shape)} {images.dtype}")
    room = MAX_WIDTH // (1 + len(maps_by_column)) - 2 * GAP
    height = min(height, room * images.shape[2] // images.shape[3])
    size = (height, round(height * images.shape[3] / images.shape[2]))
    resized = F.interpolate(images.float(), size, mode="bilinear", antialias=True).permute(0, 2, 3, 1) / 255
    columns = {"image": resized}
    for title, maps in maps_by_column.items():
        maps = torch.as_tensor(maps).detach().cpu().float()
        if maps.ndim != 3 or len(maps) != len(images):
            raise UserError(
                f"maps of {title!r} have shape {tuple(maps.shape)}, but {len(images)} images need (n, h, w)"
            )
        maps = F.interpolate(stretched(maps)[:, None], size, mode="bilinear", align_corners=False).squeeze(1)
        heat = torch.from_numpy(matplotlib.colormaps["jet"](maps.numpy())[..., :3]).float()
        columns[title] = 0.5 * resized + 0.5 * heat

    step = max(size[1], *(_text_width(word) + 4 for title in columns for word in title.split())) + 2 * GAP
    titles = [_wrapped(title, step - 2 * GAP) for title in columns]
    head = FONT_SIZE + 14 + (FONT_SIZE + 4) * max(title.count("\n") for title in titles)
    sheet = Image.new("RGB", (step * len(columns), head + len(images) * (height + GAP)), "white")
    for column, (title, pixels) in enumerate(zip(titles, columns.values(), strict=True)):
        _text(sheet, (column * step + step // 2, head // 2), title)
        for row, image in enumerate((pixels * 255).round().clamp(0, 255).to(torch.uint8).numpy()):
            sheet.paste(Image.fromarray(image), (column * step + (step - size[1]) // 2, head + row * (height + GAP)))
    return _write(sheet, path)


def _natural_order(label: str) -> list[int | str]:
    """`camera 10` after `camera 2`."""
    return [int(word) if word.isdigit() else word for word in label.split()]


def _font() -> ImageFont.FreeTypeFont:
    """DejaVu Sans comes with matplotlib, so that text is the same on every machine."""
    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts/ttf/DejaVuSans.ttf", FONT_SIZE)


def _text(sheet: Image.Image, centre: tuple[int, int], text: str, colour: tuple[int, int, int] = INK) -> None:
    ImageDraw.Draw(sheet).text(centre, text, fill=colour, font=_font(), anchor="mm", align="center")


def _text_width(text: str) -> int:
    return int(_font().getlength(text))


def _wrapped(text: str, width: int) -> str:
    """The text with line breaks between words where a line would be wider than that many pixels."""
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        lines[-1:] = [longer] if not lines or _text_width(longer) <= width else [lines[-1], word]
    return "\n".join(lines)


def _open(path: Path | str, size: tuple[int, int]) -> Image.Image:
    try:
        with Image.open(path) as image:
            return image.convert("RGB").resize(size, Image.Resampling.BILINEAR)
    except OSError as error:
        raise UserError(f"cannot read the image {path}: {error}") from None


def _write(sheet: Image.Image, path: Path | str) -> Path:
    """Unchanged if at most MAX_BYTES, else with 256 colours, and then scaled down in steps of 10 % as needed."""
    encoded, scale = _encode(sheet), 1.0
    while len(encoded) > MAX_BYTES:
        size = (round(sheet.width * scale), round(sheet.height * scale))
        encoded = _encode(sheet.resize(size, Image.Resampling.LANCZOS).quantize(256))
        scale *= 0.9
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encoded)
    return path


def _encode(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()
