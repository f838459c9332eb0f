"""Searches, trials, multi-query, re-ranking and features from a file, with networks of one line of arithmetic."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from common.datasets.base import DataSet, Sample, Search, Subset
from common.errors import UserError
from common.evaluation import evaluate, evaluate_first_search, extract_searches, score_search
from common.evaluation.__main__ import main, read_features
from common.evaluation.report import evaluate_main
from common.evaluation.retrieval import nearest_images, random_identities, rankable
from common.evaluation.searches import average_tracks
from common.metrics import score_features, score_ranking
from common.reranking import k_reciprocal_distances

SETTINGS = SimpleNamespace(height=8, width=4, cache=True)


def _subset(folder, name, labels, modality="visible"):
    """One image for each (person, camera), its red channel 10 x person, its green 20 x camera."""
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
    scores = evaluate(embed_red, dataset, SETTINGS, rerank=False)
    assert list(scores) == ["single_query"]
    assert scores["single_query"]["mAP"] == scores["single_query"]["rank1"] == scores["single_query"]["mINP"] == 1
    assert scores["single_query"]["num_valid_queries"] == 3
    assert evaluate_first_search(embed_red, dataset, SETTINGS) == scores["single_query"]
    worse = evaluate_first_search(lambda images: 50 - embed_red(images), dataset, SETTINGS)
    assert worse == scores["single_query"]  # the same distances
    assert evaluate_first_search(lambda images: embed_red(images) % 20, dataset, SETTINGS)["mAP"] < 1


def test_each_subset_has_its_modality(tmp_path):
    dataset = _dataset(tmp_path)
    streams = {"infrared": embed_red, "visible": lambda images: embed_red(images) + 1000}
    features = extract_searches(streams, dataset.searches, SETTINGS)
    assert features["query"].squeeze().tolist() == [10, 20, 30]
    assert features["gallery"].squeeze().tolist() == [1010, 1020, 1030, 1090]


def test_trials_give_means_and_deviations(tmp_path):
    # Trial 1 holds the matches of all three queries; trial 2 holds only persons 3 and 9.
    trials = (np.array([0, 1, 2]), np.array([2, 3]))
    dataset = _dataset(tmp_path, "regdb", trials)
    search = dataset.searches[0]
    query = torch.tensor([[1.0], [2.0], [8.0]])
    gallery = torch.tensor([[1.0], [2.0], [3.0], [9.0]])
    scores = score_search(search, query, gallery)
    # Trial 1: every match is at rank 1 (3 is the nearest to 8). Trial 2: person 3 comes after person 9.
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


@pytest.mark.parametrize("rerank", [False, True])
def test_a_search_is_scored_by_its_own_protocol(tmp_path, rerank):
    rng = np.random.default_rng(1)
    labels = [(int(person), int(camera)) for person, camera in rng.integers([1, 1], [6, 4], (40, 2))]
    query, gallery = _subset(tmp_path, "query", labels[:10]), _subset(tmp_path, "gallery", labels[10:])
    features = torch.from_numpy(rng.normal(size=(40, 5)) + np.array([[person] for person, _ in labels])).float()
    distances = torch.cdist(features[:10], features[10:])
    if rerank:
        distances = k_reciprocal_distances(features[:10], features[10:])
    columns = query.persons, gallery.persons, query.cameras, gallery.cameras
    found = set()
    for protocol in ("market1501", "sysu_mm01", "regdb"):
        scores = score_search(Search("all", query, gallery, protocol), features[:10], features[10:], rerank=rerank)
        expected = score_ranking(distances, *columns, protocol=protocol)
        assert (scores["mAP"], scores["cmc"][1]) == pytest.approx((expected.mAP, expected.cmc[1])), protocol
        found.add((round(scores["mAP"], 9), round(scores["cmc"][1], 9)))
    assert len(found) == 3


def test_multi_query_averages_a_persons_images_in_the_querys_camera(tmp_path):
    dataset = _dataset(tmp_path)
    features = torch.tensor([[1.0], [3.0], [5.0], [7.0], [100.0]])
    averaged = average_tracks(dataset.query, dataset.subsets["multi_query"], features)
    assert averaged.squeeze().tolist() == [2, 5, 7]
    scores = evaluate(embed_red, dataset, SETTINGS, multi_query=True, rerank=False)
    assert list(scores) == ["single_query", "multi_query"] and scores["multi_query"]["mAP"] == 1


def test_multi_query_without_images_is_refused(tmp_path):
    dataset = _dataset(tmp_path)
    few = Subset("multi_query", dataset.subsets["multi_query"].samples[:2])
    with pytest.raises(UserError, match="2 queries have no image in 'multi_query', the first is person 2 in camera 1"):
        average_tracks(dataset.query, few, torch.zeros(2, 1))
    none = DataSet("x", tmp_path, {}, dataset.searches)
    with pytest.raises(UserError, match="no images for multi-query"):
        evaluate(embed_red, none, SETTINGS, multi_query=True)
    with pytest.raises(UserError, match="nothing to evaluate"):
        evaluate(embed_red, DataSet("coco_keypoints", tmp_path, {}, ()), SETTINGS)


def test_nearest_images_leave_out_what_the_protocol_excludes(tmp_path):
    query, gallery = _subset(tmp_path, "q", [(1, 1)]), _subset(tmp_path, "g", [(1, 1), (2, 1), (1, 2), (3, 1)])
    features = torch.tensor([[0.0], [1.0], [2.0], [3.0]])
    assert rankable(Search("s", query, gallery), np.array([0])).tolist() == [[False, True, True, True]]
    order, distances = nearest_images(Search("s", query, gallery), torch.zeros(1, 1), features, np.array([0]))
    assert order.tolist() == [[1, 2, 3]] and distances.tolist() == [[1, 2, 3]]
    trial = Search("s", query, gallery, "regdb", (np.array([0, 3]),))
    assert nearest_images(trial, torch.zeros(1, 1), features, np.array([0]), 1)[0].tolist() == [[0]]
    assert rankable(trial, np.array([0])).tolist() == [[True, False, False, True]]


def test_random_identities_are_distinct_in_order_and_the_same_at_every_call(tmp_path):
    subset = _subset(tmp_path, "q", [(person, camera) for person in (5, 2, 9, 7) for camera in (1, 2, 3)])
    chosen = random_identities(subset, 3)
    persons = subset.persons[chosen].tolist()
    assert len(set(persons)) == 3 and persons == sorted(persons)
    assert random_identities(subset, 3).tolist() == chosen.tolist()
    assert len(random_identities(subset, 10)) == 4
    seen_by_2 = subset.cameras == 2
    assert set(subset.cameras[random_identities(subset, 4, among=seen_by_2)].tolist()) == {2}


def test_a_papers_own_options_reach_load_run():
    found = {}

    def load_run(directory, device, **own):
        found.update(own, directory=directory)
        raise UserError("no such run")

    options = {"feature_weights": {"nargs": 2, "type": float}}
    with pytest.raises(SystemExit):
        evaluate_main("paper", load_run, ["RUN", "--feature-weights", "0.5", "1"], options=options)
    assert found == {"feature_weights": [0.5, 1.0], "directory": Path("RUN")}


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
