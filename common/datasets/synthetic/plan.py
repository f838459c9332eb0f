"""Which picture belongs to which subset: identities, cameras, frames and boxes of a synthetic data set, by size."""

from dataclasses import dataclass

import numpy as np

PLAN = 100  # first number of the plan's seeds, apart from the renderer's


@dataclass(frozen=True)
class Size:
    """Counts of images, unless said otherwise."""

    train_identities: int
    train: int
    test_identities: int
    query: int
    gallery: int  # of test identities
    distractors: int
    junk: int
    drawn: int  # annotators' boxes


SIZES = {
    "tiny": Size(8, 32, 6, 12, 22, 3, 4, 20),  # for tests
    "demo": Size(120, 1200, 100, 270, 730, 120, 150, 1300),  # minutes of training on two cores
    "full": Size(751, 12_936, 750, 3_368, 13_115, 2_798, 3_819, 25_259),  # Market-1501's own counts
}

NUM_CAMERAS = 6
MAX_LABEL = 1501  # identities are numbered from 1 to this, training and test interleaved
SEQUENCES = 6


@dataclass(frozen=True)
class Planned:
    """One picture to come. `person` is a label, -1 for junk and 0 for distractors; `subject` is who is drawn."""

    subset: str  # train | query | gallery | drawn
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


def plan(size: Size, seed: int) -> list[Planned]:
    """All pictures of a data set in a fixed order. Training and test identities are disjoint."""
    rng = np.random.default_rng(np.random.SeedSequence([seed, PLAN]))
    count = size.train_identities + size.test_identities
    labels = np.sort(rng.choice(np.arange(1, MAX_LABEL + 1), count, replace=False))
    train_labels = np.sort(rng.choice(labels, size.train_identities, replace=False)).tolist()
    test_labels = sorted(set(labels.tolist()) - set(train_labels))

    planned: list[Planned] = []
    for person, images in zip(train_labels, _share(rng, size.train, size.train_identities, 2), strict=True):
        seen = _cameras(rng, 2, images)
        planned += [_shot("train", person, frame) for frame in _frames(rng, seen, _share(rng, images, len(seen), 1))]
    queries = _share(rng, size.query, size.test_identities, 2, NUM_CAMERAS)
    gallery = _share(rng, size.gallery, size.test_identities, max(queries))
    for person, asked, images in zip(test_labels, queries, gallery, strict=True):
        seen = _cameras(rng, asked, images)
        # One query in each of the first cameras, and in every camera at least one gallery image: no query is in vain.
        shares = _share(rng, images, len(seen), 1)
        frames = _frames(rng, seen, [share + (place < asked) for place, share in enumerate(shares)])
        first = {seen[place] for place in range(asked)}
        for frame in frames:
            subset = "query" if frame.camera in first else "gallery"
            first.discard(frame.camera)
            planned.append(_shot(subset, person, frame))
    planned += _drawn_boxes(rng, planned, size.drawn)
    planned += _bad_boxes(rng, -1, size.junk, test_labels)
    planned += _bad_boxes(rng, 0, size.distractors, test_labels)
    return planned


def _share(rng: np.random.Generator, total: int, parts: int, least: int, most: int | None = None) -> list[int]:
    """`parts` random whole numbers of at least `least` (and at most `most`) that add up to `total`."""
    shares = np.full(parts, least)
    weights = rng.gamma(3.0, 1.0, parts)
    while (left := total - int(shares.sum())) > 0:
        open_parts = np.ones(parts, bool) if most is None else shares < most
        chances = weights * open_parts
        extra = rng.multinomial(left, chances / chances.sum())
        shares = shares + extra if most is None else np.minimum(shares + extra, most)
    return shares.tolist()


def _cameras(rng: np.random.Generator, least: int, images: int) -> list[int]:
    most = min(NUM_CAMERAS, images)
    count = int(rng.integers(min(least, most), most + 1))
    return rng.permutation(NUM_CAMERAS)[:count].tolist()


def _frames(rng: np.random.Generator, seen: list[int], shares: list[int]) -> list[_Frame]:
    """A track in each camera: frames some 25 apart, as Market-1501 numbers them."""
    frames, index = [], 0
    for camera, count in zip(seen, shares, strict=True):
        sequence, number = int(rng.integers(1, SEQUENCES + 1)), int(rng.integers(10, 4000)) * 25 + 1
        for _ in range(count):
            frames.append(_Frame(camera, index, sequence, number, int(rng.integers(1, 7))))
            number, index = number + 25 * int(rng.integers(1, 4)), index + 1
    return frames


def _shot(subset: str, person: int, frame: _Frame) -> Planned:
    return Planned(subset, person, person, frame.camera, frame.index, frame.sequence, frame.number, frame.detection)


def _drawn_boxes(rng: np.random.Generator, planned: list[Planned], count: int) -> list[Planned]:
    """Annotators' boxes on frames that have a detection too: the tracks of queries first, as multi-query needs them."""
    ranks: dict[tuple[int, int], int] = {}
    keys = []
    for shot in sorted(planned, key=lambda shot: shot.subset != "query"):
        track = (shot.person, shot.camera)
        ranks[track] = ranks.get(track, -1) + 1
        keys.append((ranks[track] + 2 * (shot.subset == "train"), float(rng.random()), shot))
    keys.sort(key=lambda key: key[:2])
    chosen = [shot for _, _, shot in keys[:count]]
    return [
        Planned("drawn", s.person, s.subject, s.camera, s.index, s.sequence, s.frame, 0)
        for s in sorted(chosen, key=lambda s: (s.person, s.index))
    ]


def _bad_boxes(rng: np.random.Generator, person: int, count: int, test_labels: list[int]) -> list[Planned]:
    """Junk (-1) shows test identities badly, distractors (0) something else; both stand in the gallery only."""
    boxes = []
    for index in range(count):
        subject = int(rng.choice(test_labels)) if person < 0 else index
        camera, sequence, detection = (
            int(rng.integers(NUM_CAMERAS)),
            int(rng.integers(1, SEQUENCES + 1)),
            int(rng.integers(1, 7)),
        )
        boxes.append(Planned("gallery", person, subject, camera, 10_000 + index, sequence, 25 * index + 76, detection))
    return boxes
