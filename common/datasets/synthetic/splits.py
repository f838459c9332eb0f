"""Splits of a synthetic data set: which identities, cameras, frames and boxes belong to which subset, by size."""

from dataclasses import dataclass

import numpy as np

from common.datasets.synthetic.seeds import PLAN, generator


@dataclass(frozen=True)
class Size:
    """Numbers of images, unless the name says otherwise."""

    train_identities: int
    train: int
    test_identities: int
    query: int
    gallery: int  # of test identities
    distractors: int
    junk: int
    annotated: int  # annotators' boxes
    gallery_only_identities: int = 0  # in neither the training images nor the queries
    gallery_only: int = 0  # images of them


SIZES = {
    "tiny": Size(8, 32, 6, 12, 22, 3, 4, 20),  # for tests
    "demo": Size(200, 1200, 250, 750, 1900, 250, 350, 2600),  # minutes of training on two cores
    "full": Size(751, 12_936, 750, 3_368, 13_115, 2_798, 3_819, 25_259),  # Market-1501's own counts
}

SEQUENCES = 6


@dataclass(frozen=True)
class Layout:
    """What a plan depends on besides its size."""

    num_cameras: int
    max_label: int  # identities are numbered from 1 to this, training and test interleaved


MARKET1501 = Layout(num_cameras=6, max_label=1501)


@dataclass(frozen=True)
class Planned:
    """One image to render. `person` is its label, -1 for junk and 0 for distractors; `subject` is who appears in it."""

    subset: str  # train | query | gallery | annotated
    person: int
    subject: int
    camera: int  # from 0
    index: int  # of the frame among the subject's
    sequence: int  # from 1
    frame: int
    detection: int


@dataclass(frozen=True)
class _Frame:
    camera: int
    index: int
    sequence: int
    number: int
    detection: int


def plan(size: Size, seed: int, layout: Layout = MARKET1501) -> list[Planned]:
    """All images of a data set in a fixed order. Training, test and gallery-only identities are disjoint."""
    rng = generator(seed, PLAN)
    count = size.train_identities + size.test_identities + size.gallery_only_identities
    labels = np.sort(rng.choice(np.arange(1, layout.max_label + 1), count, replace=False))
    train_labels = np.sort(rng.choice(labels, size.train_identities, replace=False)).tolist()
    test_labels = sorted(set(labels.tolist()) - set(train_labels))
    alone: list[int] = []
    if size.gallery_only_identities:
        alone = np.sort(rng.choice(test_labels, size.gallery_only_identities, replace=False)).tolist()
        test_labels = sorted(set(test_labels) - set(alone))

    planned: list[Planned] = []
    for person, images in zip(train_labels, share(rng, size.train, size.train_identities, 2), strict=True):
        seen = _cameras(rng, 2, images, layout.num_cameras)
        planned += [_shot("train", person, frame) for frame in _frames(rng, seen, share(rng, images, len(seen), 1))]
    planned += _test_images(rng, size, test_labels, layout.num_cameras)
    for person, images in zip(alone, share(rng, size.gallery_only, len(alone), 1) if alone else [], strict=True):
        seen = _cameras(rng, 1, 1, layout.num_cameras)  # seen by one camera only, so in no query
        planned += [_shot("gallery", person, frame) for frame in _frames(rng, seen, [images])]
    planned += _annotated_boxes(rng, planned, size.annotated)
    planned += _bad_boxes(rng, -1, size.junk, test_labels, layout.num_cameras)
    planned += _bad_boxes(rng, 0, size.distractors, test_labels, layout.num_cameras)
    return planned


def _test_images(rng: np.random.Generator, size: Size, labels: list[int], num_cameras: int) -> list[Planned]:
    """Queries and gallery images of the test identities."""
    planned = []
    queries = share(rng, size.query, size.test_identities, 2, num_cameras)
    gallery = share(rng, size.gallery, size.test_identities, max(queries))
    for person, num_queries, images in zip(labels, queries, gallery, strict=True):
        seen = _cameras(rng, num_queries, images, num_cameras)
        # One query in each of the first cameras, at least one gallery image in every camera: each query has a match.
        shares = share(rng, images, len(seen), 1)
        frames = _frames(rng, seen, [count + (place < num_queries) for place, count in enumerate(shares)])
        first = {seen[place] for place in range(num_queries)}
        for frame in frames:
            subset = "query" if frame.camera in first else "gallery"
            first.discard(frame.camera)
            planned.append(_shot(subset, person, frame))
    return planned


def share(rng: np.random.Generator, total: int, parts: int, least: int, most: int | None = None) -> list[int]:
    """`parts` random integers from `least` to `most` that add up to `total`. ValueError if there are none."""
    if not least * parts <= total <= (total if most is None else most * parts):
        raise ValueError(f"{total} cannot be shared among {parts} with {least} to {most or 'any number'} each")
    shares = np.full(parts, least)
    weights = rng.gamma(3.0, 1.0, parts)
    while (left := total - int(shares.sum())) > 0:
        open_parts = np.ones(parts, bool) if most is None else shares < most
        chances = weights * open_parts
        extra = rng.multinomial(left, chances / chances.sum())
        shares = shares + extra if most is None else np.minimum(shares + extra, most)
    return shares.tolist()


def _cameras(rng: np.random.Generator, least: int, images: int, num_cameras: int) -> list[int]:
    most = min(num_cameras, images)
    count = int(rng.integers(min(least, most), most + 1))
    return rng.permutation(num_cameras)[:count].tolist()


def _frames(rng: np.random.Generator, seen: list[int], shares: list[int]) -> list[_Frame]:
    """A track in each camera, with frames 25 to 75 apart in the style of Market-1501."""
    frames, index = [], 0
    for camera, count in zip(seen, shares, strict=True):
        sequence, number = int(rng.integers(1, SEQUENCES + 1)), int(rng.integers(10, 4000)) * 25 + 1
        for _ in range(count):
            frames.append(_Frame(camera, index, sequence, number, int(rng.integers(1, 7))))
            number, index = number + 25 * int(rng.integers(1, 4)), index + 1
    return frames


def _shot(subset: str, person: int, frame: _Frame) -> Planned:
    return Planned(subset, person, person, frame.camera, frame.index, frame.sequence, frame.number, frame.detection)


def _annotated_boxes(rng: np.random.Generator, planned: list[Planned], count: int) -> list[Planned]:
    """Annotators' boxes on frames that also have a detection; tracks of queries first, as multi-query needs them."""
    ranks: dict[tuple[int, int], int] = {}
    keys = []
    for shot in sorted(planned, key=lambda shot: shot.subset != "query"):
        track = (shot.person, shot.camera)
        ranks[track] = ranks.get(track, -1) + 1
        keys.append((ranks[track] + 2 * (shot.subset == "train"), float(rng.random()), shot))
    keys.sort(key=lambda key: key[:2])
    chosen = [shot for _, _, shot in keys[:count]]
    return [
        Planned("annotated", s.person, s.subject, s.camera, s.index, s.sequence, s.frame, 0)
        for s in sorted(chosen, key=lambda s: (s.person, s.index))
    ]


def _bad_boxes(
    rng: np.random.Generator, person: int, count: int, test_labels: list[int], num_cameras: int
) -> list[Planned]:
    """Junk (-1): bad boxes on test identities. Distractors (0): boxes on something else. All are gallery images."""
    boxes = []
    for index in range(count):
        subject = int(rng.choice(test_labels)) if person < 0 else index
        camera, sequence, detection = (
            int(rng.integers(num_cameras)),
            int(rng.integers(1, SEQUENCES + 1)),
            int(rng.integers(1, 7)),
        )
        boxes.append(Planned("gallery", person, subject, camera, 10_000 + index, sequence, 25 * index + 76, detection))
    return boxes
