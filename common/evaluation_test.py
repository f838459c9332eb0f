"""Searches, trials, multi-query, re-ranking and features from a file, on networks that are one line of arithmetic."""

import numpy as np
import pytest
import torch
from PIL import Image

from common.datasets.base import DataSet, Sample, Search, Subset
from common.errors import UserError
from common.evaluation import (
    average_tracks,
    evaluate,
    evaluate_single_query,
    extract_searches,
    main,
    nearest_answers,
    read_features,
    score_search,
)
from common.metrics import score_features, score_ranking
from common.reranking import k_reciprocal_distances


def _subset(folder, name, labels, modality="visible"):
    """One picture for each (person, camera), its red channel 10 x person, its green 20 x camera."""
    samples = []
    for index, (person, camera) in enumerate(labels):
        path = folder / f"{name}_{index}.png"
        Image.new("RGB", (4, 8), (10 * person, 20 * camera, 0)).save(path)
        samples.append(Sample(path, person, camera, modality))
    return Subset(name, tuple(samples))


def _dataset(folder, protocol="market1501", trials=()):
    query = _subset(folder, "query", [(1, 1), (2, 1), (3, 2)], "infrared")
    gallery = _subset(folder, "gallery", [(1, 2), (2, 2), (3, 1), (9, 1)])
    multi = _subset(folder, "multi_query", [(1, 1), (1, 1), (2, 1), (3, 2), (3, 1)])
    subsets = {subset.name: subset for subset in (query, gallery, multi)}
    return DataSet("market1501", folder, subsets, (Search("single_query", query, gallery, protocol, trials),))


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("REID_DATA", str(tmp_path / "data"))


def embed_red(images):
    """The mean of the red channel: the person."""
    return images.float().mean((2, 3))[:, :1]


def test_a_network_that_knows_the_person_scores_one(tmp_path):
    dataset = _dataset(tmp_path)
    scores = evaluate(embed_red, dataset, 8, 4, rerank=False)
    assert list(scores) == ["single_query"]
    assert scores["single_query"]["mAP"] == scores["single_query"]["rank1"] == scores["single_query"]["mINP"] == 1
    assert scores["single_query"]["num_valid_queries"] == 3
    assert evaluate_single_query(embed_red, dataset, 8, 4) == scores["single_query"]
    worse = evaluate_single_query(lambda images: 50 - embed_red(images), dataset, 8, 4)
    assert worse == scores["single_query"]  # the same distances
    assert evaluate_single_query(lambda images: embed_red(images) % 20, dataset, 8, 4)["mAP"] < 1


def test_each_subset_has_its_modality(tmp_path):
    dataset = _dataset(tmp_path)
    streams = {"infrared": embed_red, "visible": lambda images: embed_red(images) + 1000}
    features = extract_searches(streams, dataset.searches, 8, 4)
    assert features["query"].squeeze().tolist() == [10, 20, 30]
    assert features["gallery"].squeeze().tolist() == [1010, 1020, 1030, 1090]


def test_trials_give_means_and_deviations(tmp_path):
    # Trial 1 has all three right answers at the nearest place; in trial 2 only person 9 and person 3 are there.
    trials = (np.array([0, 1, 2]), np.array([2, 3]))
    dataset = _dataset(tmp_path, "regdb", trials)
    search = dataset.searches[0]
    query = torch.tensor([[1.0], [2.0], [8.0]])
    gallery = torch.tensor([[1.0], [2.0], [3.0], [9.0]])
    scores = score_search(search, query, gallery)
    # Trial 1: persons 1 and 2 at rank 1, person 3 at rank 1 too (8 is nearest to 3). Trial 2: person 3 after 9.
    assert scores["mAP"] == pytest.approx((1 + 1 / 2) / 2)
    assert scores["mAP_std"] == pytest.approx(np.std([1, 1 / 2], ddof=1))
    assert scores["rank1"] == pytest.approx((1 + 0) / 2) and scores["rank5"] == 1
    assert scores["num_valid_queries"] == 3


def test_reranked_scores_are_those_of_reranked_distances(tmp_path):
    rng = np.random.default_rng(0)
    labels = [(int(person), int(camera)) for person, camera in rng.integers([1, 1], [6, 4], (40, 2))]
    query, gallery = _subset(tmp_path, "query", labels[:10]), _subset(tmp_path, "gallery", labels[10:])
    features = torch.from_numpy(rng.normal(size=(40, 5)) + np.array([[person] for person, _ in labels])).float()
    search = Search("single_query", query, gallery)
    plain = score_search(search, features[:10], features[10:])
    found = score_search(search, features[:10], features[10:], rerank=True)
    expected = score_ranking(
        k_reciprocal_distances(features[:10], features[10:]),
        query.persons,
        gallery.persons,
        query.cameras,
        gallery.cameras,
    )
    assert found["mAP"] == expected.mAP and found["mAP"] != plain["mAP"]
    unit = torch.nn.functional.normalize(features)
    cosine = score_search(search, 7 * features[:10], features[10:], rerank=True, metric="cosine")
    assert cosine == score_search(search, unit[:10], unit[10:], rerank=True)


def test_multi_query_averages_a_persons_images_in_the_querys_camera(tmp_path):
    dataset = _dataset(tmp_path)
    features = torch.tensor([[1.0], [3.0], [5.0], [7.0], [100.0]])
    averaged = average_tracks(dataset.query, dataset.subsets["multi_query"], features)
    assert averaged.squeeze().tolist() == [2, 5, 7]
    scores = evaluate(embed_red, dataset, 8, 4, multi_query=True, rerank=False)
    assert list(scores) == ["single_query", "multi_query"] and scores["multi_query"]["mAP"] == 1


def test_multi_query_without_images_says_so(tmp_path):
    dataset = _dataset(tmp_path)
    few = Subset("multi_query", dataset.subsets["multi_query"].samples[:2])
    with pytest.raises(UserError, match="2 queries have no image in 'multi_query', the first is person 2 in camera 1"):
        average_tracks(dataset.query, few, torch.zeros(2, 1))
    none = DataSet("x", tmp_path, {}, dataset.searches)
    with pytest.raises(UserError, match="no images for multi-query"):
        evaluate(embed_red, none, 8, 4, multi_query=True)
    with pytest.raises(UserError, match="nothing to evaluate"):
        evaluate(embed_red, DataSet("coco_keypoints", tmp_path, {}, ()), 8, 4)


def test_nearest_answers_leave_out_what_the_protocol_does(tmp_path):
    dataset = _dataset(tmp_path)
    query, gallery = _subset(tmp_path, "q", [(1, 1)]), _subset(tmp_path, "g", [(1, 1), (2, 1), (1, 2), (3, 1)])
    features = torch.tensor([[0.0], [1.0], [2.0], [3.0]])
    order, distances = nearest_answers(Search("s", query, gallery), torch.zeros(1, 1), features, np.array([0]))
    assert order.tolist() == [[1, 2, 3]] and distances.tolist() == [[1, 2, 3]]
    trial = Search("s", query, gallery, "regdb", (np.array([0, 3]),))
    assert nearest_answers(trial, torch.zeros(1, 1), features, np.array([0]), 1)[0].tolist() == [[0]]
    assert dataset.searches


def _write(path, **changes):
    rng = np.random.default_rng(0)
    ids, cameras = rng.integers(0, 5, 60), rng.integers(0, 3, 60)
    features = (rng.normal(size=(60, 4)) + ids[:, None]).astype(np.float32)
    arrays = {
        "query_features": features[:20], "query_ids": ids[:20], "query_cameras": cameras[:20],
        "gallery_features": features[20:], "gallery_ids": ids[20:], "gallery_cameras": cameras[20:],
    }  # fmt: skip
    arrays = {name: value for name, value in (arrays | changes).items() if value is not None}
    np.savez(path, **arrays)
    return arrays


def test_features_from_a_file(tmp_path, capsys):
    arrays = _write(tmp_path / "features.npz")
    main([str(tmp_path / "features.npz"), "--rerank", "--metric", "cosine"])
    printed = capsys.readouterr().out
    labels = [arrays[name] for name in ("query_ids", "gallery_ids", "query_cameras", "gallery_cameras")]
    expected = score_features(arrays["query_features"], arrays["gallery_features"], *labels, metric="cosine")
    assert (
        f"mAP                {expected.mAP:.2%}" in printed and f"rank1              {expected.cmc[0]:.2%}" in printed
    )
    assert "re-ranked" in printed
    main([str(tmp_path / "features.npz"), "--protocol", "regdb"])
    expected = score_features(arrays["query_features"], arrays["gallery_features"], *labels, protocol="regdb")
    assert f"mAP                {expected.mAP:.2%}" in capsys.readouterr().out


def test_bad_feature_files_are_refused(tmp_path, capsys):
    _write(tmp_path / "some.npz", gallery_ids=None, query_cameras=None)
    with pytest.raises(UserError, match="no array query_cameras, gallery_ids; it has"):
        read_features(tmp_path / "some.npz")
    with pytest.raises(UserError, match="there is no file"):
        read_features(tmp_path / "none.npz")
    (tmp_path / "text.npz").write_text("no archive")
    with pytest.raises(UserError, match="of plain arrays"):
        read_features(tmp_path / "text.npz")
    _write(tmp_path / "objects.npz", query_ids=np.array([{}, 1], dtype=object))
    with pytest.raises(UserError, match="of plain arrays"):
        read_features(tmp_path / "objects.npz")
    np.save(tmp_path / "single.npy", np.ones(3))
    with pytest.raises(UserError, match="of plain arrays"):
        read_features(tmp_path / "single.npy")
    _write(tmp_path / "nan.npz", query_features=np.full((20, 4), np.nan, np.float32))
    with pytest.raises(SystemExit) as stop:
        main([str(tmp_path / "nan.npz")])
    assert stop.value.code == 2 and "NaN in row 0" in capsys.readouterr().err
