"""What is logged of the two sub-networks, against plain computations; and that carriers name what the network has."""

import numpy as np
import pytest
import torch

from common.probes import frozen_to, replaced_outputs

from .activity import activity, carriers_of, overlap_of, watched_images
from .augmentation_test import chart_run
from .model_test import settings_of
from .network_test import images, network, plain_gem, plain_maps  # noqa: F401  (network is a fixture)
from .overlap_test import plain_centre


def mean_deviation(positions):
    """Root mean square over modalities (6 visible images, then 6 infrared ones) and coordinates."""
    halves = [np.asarray(positions[half]) for half in (slice(0, 6), slice(6, 12))]
    return np.sqrt(np.mean([half.var(0, ddof=1) for half in halves]))


def jaccard(first, second):
    shares = []
    for a, b in zip(first, second, strict=True):
        high = [each - each.min() > 0.5 * (each.max() - each.min()) for each in (a, b)]
        shares.append((high[0] & high[1]).sum() / (high[0] | high[1]).sum())
    return np.mean(shares)


@pytest.mark.parametrize(("reading", "unit"), [("pooled", "pixels"), ("deviation", "pixels"), ("pooled", "cells")])
def test_the_log_has_centres_distances_and_overlap(network, reading, unit):  # noqa: F811
    """Of 288 pixels whatever S is in; L_op alone has S's own unit."""
    model = network("full")
    settings = settings_of(overlap_map=reading, separation_unit=unit, separation=100, height=64, width=32)
    watched = {"visible": images(6, 1), "infrared": images(6, 2)}
    found = activity(model, watched, settings)
    assert model.training
    streams = model.visible_stream, model.infrared_stream
    with torch.no_grad():
        model.eval()
        F_s = plain_maps(model, tuple(watched.values()), streams, "full")
        maps = [plain_gem(each, 1) for each in F_s]
        from_mean = [torch.cat([half - half.mean(0) for half in each.split(6)]) for each in maps]
        read = from_mean if reading == "deviation" else maps
        centres = [torch.stack([plain_centre(values) for values in each]).numpy() for each in read]
    cells = [[np.unravel_index(int(values.argmax()), values.shape) for values in each] for each in maps]
    peaks = [np.array([[(y + 0.5) * 72, (x + 0.5) * 72] for y, x in each]) for each in cells]  # 4 x 2 cells

    for number in (0, 1):
        expected = [*centres[number].mean(0), mean_deviation(centres[number]), mean_deviation(peaks[number])]
        names = ("centre{}_y", "centre{}_x", "centre{}_deviation", "peak{}_deviation")
        assert [found[name.format(number + 1)] for name in names] == pytest.approx(expected, rel=1e-3, abs=1e-3)
    distances, apart = (np.linalg.norm(first - second, axis=1) for first, second in (centres, peaks))
    assert found["distance"] == pytest.approx(distances.mean(), rel=1e-3)
    assert found["distance_deviation"] == pytest.approx(distances.std(ddof=1), rel=1e-2)
    assert found["peak_distance"] == pytest.approx(apart.mean(), rel=1e-4)
    apart_by = distances / (72 if unit == "cells" else 1)
    assert found["unseen_overlap"] == pytest.approx(np.maximum(0, 1 - apart_by / 100).mean(), rel=1e-3)
    assert found["overlap"] == pytest.approx(jaccard(*maps), rel=1e-4)
    assert found["overlap_of_deviations"] == pytest.approx(jaccard(*from_mean), rel=1e-4)
    assert len(found) == 14


def test_equal_maps_overlap_wholly_and_flat_ones_not_at_all():
    maps = torch.rand(3, 4, 2)
    assert overlap_of(maps, 2 * maps + 1) == 1
    assert overlap_of(maps, torch.ones_like(maps)) == overlap_of(*(torch.ones_like(maps),) * 2) == 0


def test_watched_are_different_people_of_the_test_set_and_none_without_sln(tmp_path, monkeypatch):
    monkeypatch.setenv("REID_DATA", str(tmp_path))
    run = chart_run(tmp_path, 5, 2)
    found = watched_images(run)
    assert set(found) == {"visible", "infrared"}
    for position, modality in enumerate(("visible", "infrared")):
        indices = [(int(image[2].median()) - 3) // 3 for image in found[modality]]
        assert [index // 4 for index in indices] == [0, 1, 2, 3, 4]
        assert all(index % 4 // 2 == position for index in indices)
    assert watched_images(chart_run(tmp_path, 5, 2, variant="dfw_re")) == {}
    assert activity(None, {}, run.settings) == {}


DFW_ROWS = {
    "DFW after layer2": ["weakening.layer2.gates"],
    "DFW after layer3": ["weakening.layer3.gates"],
    "DFW after both": ["weakening.layer2.gates", "weakening.layer3.gates"],
}
SLN_ROWS = {"sub-network 1": ["necks.0"], "sub-network 2": ["necks.1"]}
CARRIERS = {"full": DFW_ROWS | SLN_ROWS, "baseline": {}, "dfw": DFW_ROWS, "sln": SLN_ROWS}


@pytest.mark.parametrize("variant", CARRIERS)
def test_replacing_any_carrier_changes_the_test_feature(network, variant):  # noqa: F811
    model = network(variant).eval()
    carriers = carriers_of(model)
    assert carriers == CARRIERS[variant]
    with torch.no_grad():
        before = model.embed(images(), "visible")
        for row, names in carriers.items():
            with replaced_outputs(model, {name: frozen_to(torch.tensor(0.1)) for name in names}):
                assert (model.embed(images(), "visible") - before).abs().max() > 1e-4, row
        torch.testing.assert_close(model.embed(images(), "visible"), before)


def test_dfws_gates_at_1_are_a_network_without_it(network):  # noqa: F811
    model, fewer = network("full").eval(), network("full", dfw_after=["layer2"]).eval()
    fewer.load_state_dict(model.state_dict())
    with torch.no_grad(), replaced_outputs(model, {"weakening.layer3.gates": frozen_to(torch.tensor(1.0))}):
        torch.testing.assert_close(model.embed(images(), "visible"), fewer.embed(images(), "visible"))
