"""Scores against numbers worked out by hand, a slow, plain reference, and properties that every ranking has."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from common.metrics import RankingScores, ScoringError, ranking, score_features, score_ranking

ESTIMATORS = ("step", "trapezoid", "interpolated")


def rank_one_query(ranked: list[tuple[int, int]], distances=None, **options) -> RankingScores:
    """One query, person 1 in camera 1; ranked: (person, camera) from near to far, or at the distances given."""
    ids, cameras = np.array(ranked).T
    distances = np.arange(len(ranked), dtype=np.float32) if distances is None else np.array(distances, np.float32)
    return score_ranking(distances[None], [1], ids, [1], cameras, **options)


MATCH, NON_MATCH, JUNK, DISTRACTOR, SAME_CAMERA = (1, 2), (7, 2), (-1, 2), (0, 2), (1, 1)


@pytest.mark.parametrize(
    ("ranked", "step", "trapezoid", "interpolated", "first_rank", "inverse_penalty"),
    [
        ([MATCH], Fraction(1), Fraction(1), Fraction(1), 1, Fraction(1)),
        ([NON_MATCH, MATCH], Fraction(1, 2), Fraction(1, 4), Fraction(1, 2), 2, Fraction(1, 2)),
        # Matches at ranks 1 and 3. Precision there 1 and 2/3; one rank earlier 1 (before the first) and 1/2.
        (
            [MATCH, NON_MATCH, MATCH],
            (1 + Fraction(2, 3)) / 2,
            (Fraction(1 + 1, 2) + (Fraction(2, 3) + Fraction(1, 2)) / 2) / 2,
            (1 + Fraction(2, 3)) / 2,
            1,
            Fraction(2, 3),
        ),
        # Matches at ranks 2, 3 and 5: precision 1/2, 2/3, 3/5; one rank earlier 0, 1/2, 1/2; highest from there on 2/3,
        # 2/3, 3/5.
        (
            [NON_MATCH, MATCH, MATCH, NON_MATCH, MATCH],
            (Fraction(1, 2) + Fraction(2, 3) + Fraction(3, 5)) / 3,
            (Fraction(1, 2) + Fraction(2, 3) + Fraction(1, 2) + Fraction(3, 5) + Fraction(1, 2)) / 6,
            (2 * Fraction(2, 3) + Fraction(3, 5)) / 3,
            2,
            Fraction(3, 5),
        ),
        # Junk and the person's own camera take no rank; a distractor does.
        ([JUNK, SAME_CAMERA, MATCH], Fraction(1), Fraction(1), Fraction(1), 1, Fraction(1)),
        ([DISTRACTOR, JUNK, MATCH], Fraction(1, 2), Fraction(1, 4), Fraction(1, 2), 2, Fraction(1, 2)),
        # A non-match in the query's own camera takes a rank.
        ([(7, 1), SAME_CAMERA, MATCH], Fraction(1, 2), Fraction(1, 4), Fraction(1, 2), 2, Fraction(1, 2)),
    ],
)
def test_one_query_by_hand(ranked, step, trapezoid, interpolated, first_rank, inverse_penalty):
    for estimator, expected in zip(ESTIMATORS, (step, trapezoid, interpolated), strict=True):
        scores = rank_one_query(ranked, average_precision=estimator, max_rank=4)
        assert scores.mAP == pytest.approx(float(expected), abs=1e-12)
        assert scores.mINP == pytest.approx(float(inverse_penalty), abs=1e-12)
        assert scores.cmc.tolist() == [float(rank >= first_rank) for rank in (1, 2, 3, 4)]
        assert scores.num_valid_queries == 1


def test_person_zero_is_an_ordinary_query():
    scores = score_ranking(np.array([[1.0, 2.0]]), [0], [3, 0], [1], [2, 2])
    assert scores.mAP == float(Fraction(1, 2))


def test_equal_distances_rank_by_gallery_index():
    # At distance 5: non-match, match, non-match, match in gallery order; after the 1.0 the matches have ranks 3 and 5.
    ranked = [NON_MATCH, MATCH, NON_MATCH, MATCH, DISTRACTOR]
    scores = rank_one_query(ranked, [5, 5, 5, 5, 1], max_rank=3)
    assert scores.mAP == pytest.approx(float((Fraction(1, 3) + Fraction(2, 5)) / 2), abs=1e-12)
    assert scores.cmc.tolist() == [0, 0, 1]
    # Junk and images of the same camera at the same distance take no rank in a tie either.
    assert rank_one_query([JUNK, SAME_CAMERA, MATCH, NON_MATCH], [5, 5, 5, 5]).mAP == 1


def test_sysu_mm01_by_hand():
    # A query of camera 3 does not see camera 2. Ranking: 7, 7, 8, match, match; CMC counts 7, 8, match: rank 3.
    ranked = [(1, 2), (7, 1), (7, 4), (8, 2), (8, 5), (1, 1), (1, 4)]
    ids, cameras = np.array(ranked).T
    scores = score_ranking(np.arange(7.0)[None], [1], ids, [3], cameras, protocol="sysu_mm01", max_rank=4)
    assert scores.cmc.tolist() == [0, 0, 1, 1]
    assert scores.mAP == pytest.approx(float((Fraction(1, 4) + Fraction(2, 5)) / 2), abs=1e-12)
    assert scores.mINP == pytest.approx(float(Fraction(2, 5)), abs=1e-12)
    # A query of camera 6 does: its first image is a match, and its own camera does not matter.
    scores = score_ranking(np.arange(7.0)[None], [1], ids, [6], cameras, protocol="sysu_mm01", max_rank=4)
    assert scores.cmc.tolist() == [1, 1, 1, 1]
    assert scores.mAP == pytest.approx(float((1 + Fraction(2, 6) + Fraction(3, 7)) / 3), abs=1e-12)


def test_regdb_has_no_camera_rule():
    scores = score_ranking(np.array([[1.0, 2.0, 3.0]]), [1], [1, 0, 1], [1], [1, 1, 1], protocol="regdb")
    assert scores.mAP == pytest.approx(float((1 + Fraction(2, 3)) / 2), abs=1e-12)


def test_only_queries_with_a_match_are_averaged():
    distances = np.array([[1.0, 2.0, 3.0], [1.0, 2.0, 3.0], [1.0, 2.0, 3.0]])
    # Query 1 finds person 1 at rank 1; query 2 finds person 2 at rank 2; person 9 is not in the gallery.
    scores = score_ranking(distances, [1, 2, 9], [1, 2, 4], [1, 1, 1], [2, 2, 2], max_rank=2)
    assert scores.num_valid_queries == 2
    assert scores.mAP == scores.mINP == float((1 + Fraction(1, 2)) / 2)
    assert scores.cmc.tolist() == [0.5, 1.0]


def test_cmc_stays_flat_beyond_the_gallery():
    scores = rank_one_query([NON_MATCH, MATCH], max_rank=50)
    assert scores.cmc.shape == (50,) and scores.cmc.dtype == np.float64
    assert scores.cmc[0] == 0 and (scores.cmc[1:] == 1).all()


def admitted(protocol: str, query: tuple[int, int], item: tuple[int, int]) -> bool:
    """query, item: (person, camera). Does the protocol rank this gallery image?"""
    if protocol == "market1501":
        return item[0] != -1 and item != query
    if protocol == "sysu_mm01":
        return not (query[1] == 3 and item[1] == 2)
    return True


def reference(distances, query_ids, gallery_ids, query_cameras, gallery_cameras, estimator, max_rank, protocol):
    """The protocol written out in loops and exact fractions: CMC, mAP, mINP, number of valid queries."""
    cmc, precisions, penalties = [Fraction(0)] * max_rank, [], []
    for query, person in enumerate(query_ids):
        ranking = sorted(range(len(gallery_ids)), key=lambda item: (distances[query][item], item))
        rank, found, area, precision = 0, 0, Fraction(0), Fraction(1)
        identities, at_matches = set(), []
        for item in ranking:
            same = gallery_ids[item] == person
            labels = (gallery_ids[item], gallery_cameras[item])
            if not admitted(protocol, (person, query_cameras[query]), labels):
                continue
            rank += 1
            identities.add(gallery_ids[item])
            found += same
            earlier, precision = precision, Fraction(found, rank)
            if same:
                area += precision if estimator == "step" else (precision + earlier) / 2
                at_matches.append(precision)
                last = rank
                if found == 1:
                    first = len(identities) if protocol == "sysu_mm01" else rank
                    cmc = [value + (place >= first) for place, value in enumerate(cmc, start=1)]
        if estimator == "interpolated":
            area = sum(max(at_matches[place:]) for place in range(found))
        if found:
            precisions.append(area / found)
            penalties.append(Fraction(found, last))
    count = len(precisions)
    return [value / count for value in cmc], sum(precisions) / count, sum(penalties) / count, count


def random_case(seed: int):
    """Few distinct distances, so many ties; every kind of label; sometimes one camera or one person."""
    rng = np.random.default_rng(seed)
    num_query, num_gallery = rng.integers(1, 9), rng.integers(1, 25)
    distances = rng.integers(0, rng.choice([2, 6, 40]), (num_query, num_gallery)).astype(
        rng.choice([np.float32, np.float64, np.int64])
    )
    persons, cameras = rng.integers(2, 6), rng.integers(1, 5)
    labels = (
        rng.integers(0, persons, num_query),
        rng.integers(-1, persons, num_gallery),
        rng.integers(0, cameras, num_query),
        rng.integers(0, cameras + 1, num_gallery),
    )
    return distances, *labels


@pytest.mark.parametrize("protocol", ["market1501", "sysu_mm01", "regdb"])
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_equals_the_plain_reference(estimator, protocol, monkeypatch):
    compared = 0
    for seed in range(300):
        case = random_case(seed)
        monkeypatch.setattr(ranking, "BLOCK_MEMORY", 1 if seed % 2 else 2**26)  # one query a block, or all in one
        try:
            scores = score_ranking(*case, protocol=protocol, average_precision=estimator, max_rank=10)
        except ScoringError:
            with pytest.raises(ZeroDivisionError):
                reference(*case, estimator, 10, protocol)
            continue
        cmc, mean_precision, mean_penalty, count = reference(*case, estimator, 10, protocol)
        assert scores.cmc.tolist() == [float(value) for value in cmc]
        assert scores.mAP == pytest.approx(float(mean_precision), abs=1e-12)
        assert scores.mINP == pytest.approx(float(mean_penalty), abs=1e-12)
        assert scores.num_valid_queries == count
        compared += 1
    assert compared > 200


def test_block_size_changes_nothing(monkeypatch):
    rng = np.random.default_rng(0)
    distances = rng.integers(0, 300, (70, 400)).astype(np.float32)
    labels = rng.integers(0, 12, 70), rng.integers(-1, 12, 400), rng.integers(0, 3, 70), rng.integers(0, 3, 400)
    results = []
    for memory in (1, 2**19, 2**26):
        monkeypatch.setattr(ranking, "BLOCK_MEMORY", memory)
        scores = score_ranking(distances, *labels)
        results.append((scores.cmc.tolist(), scores.mAP, scores.mINP, scores.num_valid_queries))
    assert results[0] == results[1] == results[2]


distinct_cases = st.integers(0, 2**32 - 1).map(lambda seed: distinct_case(np.random.default_rng(seed)))


def distinct_case(rng: np.random.Generator):
    """No ties, and the first query has a match."""
    num_query, num_gallery = int(rng.integers(1, 8)), int(rng.integers(2, 30))
    distances = rng.permutation(num_query * num_gallery).reshape(num_query, num_gallery) / 7
    query_ids, gallery_ids = rng.integers(0, 4, num_query), rng.integers(-1, 4, num_gallery)
    query_cameras, gallery_cameras = rng.integers(0, 3, num_query), rng.integers(0, 3, num_gallery)
    gallery_ids[0], gallery_cameras[0] = query_ids[0], query_cameras[0] + 1
    return distances, query_ids, gallery_ids, query_cameras, gallery_cameras


def assert_same(one: RankingScores, other: RankingScores) -> None:
    np.testing.assert_allclose(one.cmc, other.cmc, atol=1e-12)
    assert one.mAP == pytest.approx(other.mAP, abs=1e-12)
    assert one.mINP == pytest.approx(other.mINP, abs=1e-12)
    assert one.num_valid_queries == other.num_valid_queries


@settings(max_examples=60, deadline=None)
@given(case=distinct_cases, estimator=st.sampled_from(ESTIMATORS), seed=st.integers(0, 2**32 - 1))
def test_order_of_gallery_and_queries_does_not_matter(case, estimator, seed):
    distances, query_ids, gallery_ids, query_cameras, gallery_cameras = case
    rng = np.random.default_rng(seed)
    rows, columns = rng.permutation(len(query_ids)), rng.permutation(len(gallery_ids))
    shuffled = score_ranking(
        distances[rows][:, columns],
        query_ids[rows],
        gallery_ids[columns],
        query_cameras[rows],
        gallery_cameras[columns],
        average_precision=estimator,
    )
    original = score_ranking(*case, average_precision=estimator)
    assert_same(shuffled, original)
    assert 0 <= original.mAP <= 1 and 0 <= original.mINP <= 1
    assert (np.diff(original.cmc) >= 0).all() and original.cmc[0] >= 0 and original.cmc[-1] <= 1


@settings(max_examples=60, deadline=None)
@given(case=distinct_cases, place=st.integers(0, 2**32 - 1), near=st.floats(-1, 10))
def test_junk_changes_nothing_and_a_far_distractor_no_cmc(case, place, near):
    distances, query_ids, gallery_ids, query_cameras, gallery_cameras = case
    at = place % (len(gallery_ids) + 1)

    def with_extra(person: int, distance: float) -> RankingScores:
        return score_ranking(
            np.insert(distances, at, distance, axis=1),
            query_ids,
            np.insert(gallery_ids, at, person),
            query_cameras,
            np.insert(gallery_cameras, at, 1),
        )

    original = score_ranking(*case)
    assert_same(with_extra(-1, near), original)
    assert with_extra(99, 1e6).cmc.tolist() == original.cmc.tolist()
    # Person 99 at the front takes a rank before every match.
    assert with_extra(99, -5).mAP < original.mAP


def test_float64_is_not_rounded():
    # The non-match is nearer by 1e-12. Float32 would round this to a tie, in which the match comes first by index.
    distances = np.array([[1.0, 1.0 - 1e-12]])
    labels = [1], [1, 2], [1], [2, 2]
    assert score_ranking(distances, *labels).mAP == 0.5
    assert score_ranking(distances.astype(np.float32), *labels).mAP == 1


def test_takes_tensors_half_precision_and_views():
    distances = np.array([[3.0, 2.0, 1.0]], dtype=np.float32)
    labels = [1], [1, 2, 2], [1], [2, 2, 2]
    read_only = distances[:, ::-1]
    read_only.flags.writeable = False
    assert score_ranking(read_only, *labels).mAP == 1
    third = float(Fraction(1, 3))
    given_as = (distances, torch.from_numpy(distances).half().requires_grad_(), np.asfortranarray(distances))
    assert [score_ranking(values, *labels).mAP for values in given_as] == [third] * 3
    assert distances.tolist() == [[3, 2, 1]]  # the input is unchanged


def random_features(seed: int, num_query=40, num_gallery=150, dim=16):
    rng = np.random.default_rng(seed)
    query_ids, gallery_ids = rng.integers(0, 8, num_query), rng.integers(-1, 8, num_gallery)
    centres = rng.normal(size=(9, dim))
    query = centres[query_ids] + rng.normal(size=(num_query, dim)) + 3
    gallery = centres[gallery_ids] + rng.normal(size=(num_gallery, dim)) + 3
    return query, gallery, query_ids, gallery_ids, rng.integers(0, 3, num_query), rng.integers(0, 3, num_gallery)


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_features_score_like_their_distance_matrix(metric):
    query, gallery, *labels = random_features(0)
    if metric == "euclidean":
        distances = np.linalg.norm(query[:, None] - gallery, axis=2)
    else:
        lengths = np.linalg.norm(query, axis=1)[:, None] * np.linalg.norm(gallery, axis=1)
        distances = 1 - query @ gallery.T / lengths
    expected = score_ranking(distances, *labels)
    assert 0.2 < expected.mAP < 0.9
    for memory_limit in (1, 2**18, 2**30):
        assert_same(score_features(query, gallery, *labels, metric=metric, memory_limit=memory_limit), expected)
        halves = (torch.from_numpy(values).float() for values in (query, gallery))
        assert_same(score_features(*halves, *labels, metric=metric, memory_limit=memory_limit), expected)


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_equal_features_tie(metric):
    # All gallery features are equal: the ranking is the gallery's order, and the match is the last image.
    for num_gallery in range(2, 40):
        query = np.random.default_rng(num_gallery).normal(size=(3, 129)).astype(np.float32)
        gallery = np.repeat(query[:1] + 1, num_gallery, axis=0)
        ids = np.arange(num_gallery)
        cameras = np.ones(num_gallery, int)
        last = [num_gallery - 1] * 3
        scores = score_features(query, gallery, last, ids, [0, 0, 0], cameras, metric=metric, memory_limit=2**16)
        assert scores.mAP == pytest.approx(1 / num_gallery, abs=1e-12)


def test_features_survive_cancellation_and_zeros():
    # The query equals its match: float32 would make the squared distance slightly negative, and cosine of zeros NaN.
    rng = np.random.default_rng(0)
    features = (rng.normal(size=(50, 64)) * 1e-3 + 100).astype(np.float32)
    ids = np.arange(50)
    scores = score_features(features, features, ids, ids, np.zeros(50, int), np.ones(50, int))
    assert 0 < scores.mAP <= 1
    scores = score_features(np.zeros((1, 3)), np.zeros((2, 3)), [1], [2, 1], [0], [1, 1], metric="cosine")
    assert scores.mAP == 0.5


def test_products_are_float32_and_the_setting_is_restored():
    query, gallery, *labels = random_features(0)
    expected = score_features(query, gallery, *labels)
    backends = (torch.backends.cuda.matmul, torch.backends.mkldnn.matmul)
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("medium")
        chosen = [backend.fp32_precision for backend in backends]
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = score_features(query.astype(np.float32), gallery.astype(np.float32), *labels)
        assert [backend.fp32_precision for backend in backends] == chosen
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before)
    assert_same(found, expected)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"distances": np.array([[1.0, 2, 3], [np.nan, 2, 3], [1, np.inf, 3]])}, "NaN in row 1"),
        ({"distances": np.array([[1.0, 2, 3], [1, 2, 3], [1, -np.inf, 3]])}, "infinity in row 2"),
        ({"distances": np.ones(3)}, r"\(3,\)"),
        ({"distances": np.ones((0, 3)), "query_ids": [], "query_cameras": []}, "0 queries"),
        ({"distances": np.ones((3, 0)), "gallery_ids": [], "gallery_cameras": []}, "0 gallery"),
        ({"query_ids": [1, 2]}, r"query_ids has shape \(2,\).*\(3,\)"),
        ({"gallery_cameras": [[1, 1, 1]]}, r"gallery_cameras has shape \(1, 3\).*\(3,\)"),
        ({"gallery_ids": [1.0, 2.0, 3.0]}, "gallery_ids must be integers"),
        ({"query_ids": [7, 8, 9]}, r"ids 7, 8, 9 \(3\), cameras 1 \(1\).*ids 1, 2, 3 \(3\), cameras 2 \(1\)"),
        ({"protocol": "market"}, "unknown protocol 'market'; known: market1501"),
        ({"average_precision": "area"}, "known: step, trapezoid, interpolated"),
        ({"max_rank": 0}, "max_rank"),
    ],
)
def test_bad_input_is_refused(changes, message):
    good = {
        "distances": np.ones((3, 3), dtype=np.float32),
        "query_ids": [1, 2, 3],
        "gallery_ids": [1, 2, 3],
        "query_cameras": [1, 1, 1],
        "gallery_cameras": [2, 2, 2],
    }
    assert score_ranking(**good).num_valid_queries == 3
    with pytest.raises(ScoringError, match=message):
        score_ranking(**(good | changes))


def test_large_finite_distances_are_accepted():
    distances = np.array([[3e38, 3.1e38, 3.2e38]], dtype=np.float32)  # their sum overflows float32
    assert score_ranking(distances, [1], [1, 2, 3], [1], [2, 2, 2]).mAP == 1


@pytest.mark.parametrize(
    ("query", "gallery", "options", "message"),
    [
        (np.ones((2, 4)), np.ones((2, 5)), {}, r"\(2, 4\) and \(2, 5\)"),
        (np.ones((2, 4)), np.array([[1.0] * 4, [np.nan] * 4]), {}, "gallery_features: NaN in row 1"),
        (np.array([[np.inf] * 4, [1.0] * 4]), np.ones((2, 4)), {}, "query_features: infinity in row 0"),
        (np.ones((2, 4)), np.ones((2, 4)), {"metric": "manhattan"}, "known: euclidean, cosine"),
    ],
)
def test_bad_features_are_refused(query, gallery, options, message):
    with pytest.raises(ScoringError, match=message):
        score_features(query, gallery, [1, 2], [1, 2], [1, 1], [2, 2], **options)
