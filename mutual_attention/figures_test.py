"""Fig. 4's maps: less the mean map, of the verification path, each image beside another one of its person. Fig. 5's
distances."""

import numpy as np
import pytest
import torch
from PIL import Image

from common.evaluation.loaded_run import LoadedRun

from .figures import energy_maps, fig4, fig5, other_image, share_of_same_peak, stretched
from .mean_image import mean_image_of, prepared
from .train import embedder
from .verification_test import data, run_of  # noqa: F401


def test_maps_are_stretched_image_by_image_and_peaks_counted_by_cell():
    maps = np.array([[[1.0, 3.0], [2.0, 1.0]], [[0.0, 8.0], [4.0, 2.0]], [[5.0, 5.0], [5.0, 5.0]]])
    assert stretched(maps)[:2].tolist() == [[[0, 1], [0.5, 0]], [[0, 1], [0.5, 0.25]]]
    assert not stretched(maps)[2].any()
    assert share_of_same_peak(maps) == pytest.approx(2 / 3)  # a constant map counts for its first cell


def test_figure_4_subtracts_each_networks_mean_map(run_of, tmp_path):  # noqa: F811
    run, model, _ = run_of()
    query, loaded = run.dataset.query, LoadedRun(run, model, None)
    with torch.inference_mode():
        energies = energy_maps(loaded, query, np.arange(len(query)))
        first, second = (
            prepared(torch.from_numpy(np.stack([pixels(query, index) for index in pair])), mean_image_of(run))
            for pair in ([0, 5], [other_image(query, 0), other_image(query, 5)])
        )
        maps = model.feature_map(first, second)
    np.testing.assert_allclose(energies[[0, 5]], (maps**2).sum(1).sqrt().numpy(), rtol=1e-3)
    found = fig4({"Ours": loaded}, tmp_path / "fig4.png")
    names = [sample.path.name for sample in query.samples]
    shown = [names.index(name) for name in found["images"]]
    expected = energies[shown] - energies.mean(0)
    low, high = expected.min((1, 2), keepdims=True), expected.max((1, 2), keepdims=True)
    np.testing.assert_allclose(found["maps"]["Ours"], (expected - low) / (high - low), atol=0.02)
    assert found["compared_with"] == [names[other_image(query, index)] for index in shown]
    before, after = found["same_peak"]["Ours"].values()
    peaks = np.bincount((energies - energies.mean(0)).reshape(len(query), -1).argmax(1))
    assert after == pytest.approx(peaks.max() / len(query)) and before >= after
    assert len(found["table"]["headers"]) == len(found["table"]["rows"][0])
    assert (tmp_path / "fig4.png").stat().st_size < 300_000


def test_figure_5_has_the_euclidean_distances_of_the_tested_descriptors(run_of, tmp_path):  # noqa: F811
    run, model, _ = run_of()
    mean = mean_image_of(run)
    found = fig5({"Ours": LoadedRun(run, model, embedder(model, run, mean))}, tmp_path / "fig5.png")["queries"]
    (search,), features = run.dataset.searches, {}
    for subset in (search.query, search.gallery):
        images = torch.from_numpy(np.stack([pixels(subset, index) for index in range(len(subset))]))
        with torch.no_grad():
            vectors = model.embed(prepared(images, mean)).double().numpy()
        features |= {sample.path.name: vector for sample, vector in zip(subset.samples, vectors, strict=True)}
    assert len(found) == 6
    for entry in found:
        expected = [((features[entry["name"]] - features[name]) ** 2).sum() ** 0.5 for name in entry["ranked"]]
        assert entry["distance"] == pytest.approx(expected, abs=2e-3) and expected[-1] > 0.1


def pixels(subset, index):
    with Image.open(subset.samples[index].path) as image:
        return np.asarray(image).transpose(2, 0, 1)
