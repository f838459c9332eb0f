"""Figures show the right content in the right place, stay small, and are the same bytes each time."""

import matplotlib
import numpy as np
import pytest
import torch
from PIL import Image

from common.datasets.base import JUNK, Sample, Subset
from common.errors import UserError
from common.visualize import curves, sheets
from common.visualize.curves import line_figure, training_curves
from common.visualize.panels import LINE, bar_figure, panel_figure
from common.visualize.sheets import activation_map, heat_map_sheet, retrieval_sheet, sample_sheet

COLOURS = {person: (20 + 30 * person, 60, 250 - 30 * person) for person in range(6)}
LOG = [
    {"epoch": epoch, "loss": 2 / epoch, "triplet_loss": 1 / epoch, "learning_rate": 1e-3, "seconds": 9}
    | ({"mAP": 0.1 * epoch, "rank1": 0.2 * epoch} if epoch % 2 == 0 else {})
    for epoch in range(1, 5)
]


def image_file(folder, name: str, colour, noise: int = 0, seed: int = 0):
    path = folder / f"{name}.png"
    pixels = np.full((128, 64, 3), colour, dtype=np.int64)
    pixels += np.random.default_rng(seed).integers(-noise, noise + 1, pixels.shape)
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path)
    return path


def coloured_subset(folder, *, cameras=(1, 2), modality=lambda camera: "visible") -> Subset:
    """Every person has one colour; camera 2 has no image of person 0."""
    samples = [
        Sample(image_file(folder, f"{person}_{camera}", COLOURS[person]), person, camera, modality(camera))
        for person in COLOURS
        for camera in cameras
        if (person, camera) != (0, 2)
    ]
    junk = Sample(image_file(folder, "junk", (255, 255, 0)), JUNK, 1)
    return Subset("train", (*samples, junk))


def pixels_of(path) -> np.ndarray:
    """(H, W, 3) int."""
    return np.asarray(Image.open(path).convert("RGB")).astype(int)


def count(path, colour) -> int:
    return int((np.abs(pixels_of(path) - colour).max(axis=2) <= 2).sum())


def test_sample_sheet_shows_each_person_in_each_camera(tmp_path):
    subset = coloured_subset(tmp_path)
    path = sample_sheet(subset, tmp_path / "new folder" / "sheet.png", num_identities=9, images_per_camera=2)
    for person, colour in COLOURS.items():
        assert count(path, colour) == 64 * 128 * (1 if person == 0 else 2)
    assert count(path, sheets.EMPTY) >= 64 * 128 * (2 * 6 * 2 - 11)
    assert count(path, (255, 255, 0)) == 0  # junk


def test_sample_sheet_chooses_by_seed_among_those_seen_by_most_cameras(tmp_path):
    subset = coloured_subset(tmp_path)
    sheets = [sample_sheet(subset, tmp_path / "sheet.png", num_identities=2, seed=s).read_bytes() for s in (0, 0, 1, 2)]
    assert sheets[0] == sheets[1]
    assert len(set(sheets)) > 1
    for seed in range(8):
        path = sample_sheet(subset, tmp_path / "sheet.png", num_identities=5, seed=seed)
        assert count(path, COLOURS[0]) == 0  # one camera; the others have two


def test_sample_sheet_groups_modalities_and_many_cameras(tmp_path):
    both = coloured_subset(tmp_path, modality=lambda camera: ("visible", "thermal")[camera - 1])
    assert count(sample_sheet(both, tmp_path / "sheet.png"), COLOURS[3]) == 2 * 64 * 128
    many = coloured_subset(tmp_path, cameras=range(1, 20))
    path = sample_sheet(many, tmp_path / "many.png", num_identities=6, height=32)
    assert count(path, COLOURS[3]) == 14 * 16 * 32  # one group of columns
    with pytest.raises(UserError, match="no identity"):
        sample_sheet(Subset("empty", ()), tmp_path / "sheet.png")


@pytest.mark.parametrize("scores", [None, [[0.9, 0.8, -0.1], [1.0, 0.5, 0.25]]])
def test_retrieval_sheet_frames_matches_green_and_non_matches_red(tmp_path, scores):
    query, gallery = image_file(tmp_path, "query", (0, 0, 255)), image_file(tmp_path, "gallery", (255, 255, 0))
    ranked = [[gallery] * 3] * 2

    def frames(correct):
        path = retrieval_sheet([query] * 2, ranked, correct, tmp_path / "sheet.png", scores=scores)
        assert count(path, (0, 0, 255)) == 2 * 60 * 120 and count(path, (255, 255, 0)) == 6 * 60 * 120
        return count(path, sheets.GREEN), count(path, sheets.RED)

    frame = 68 * 128 - 60 * 120  # plus a few pixels of the text above
    assert frames(np.zeros((2, 3), bool)) == (0, pytest.approx(6 * frame, rel=0.05))
    green, red = frames(np.array([[True, False, False], [True, True, True]]))
    assert (green, red) == (pytest.approx(4 * frame, rel=0.05), pytest.approx(2 * frame, rel=0.05))
    assert green >= 4 * frame and red >= 2 * frame


def test_ten_results_fit_the_width_of_a_page(tmp_path):
    gallery = image_file(tmp_path, "gallery", (255, 255, 0))
    path = retrieval_sheet([gallery], [[gallery] * 10], [[True] * 10], tmp_path / "sheet.png", scores=[[12.82] * 10])
    with Image.open(path) as image:
        assert image.width <= 830  # GitHub scales a wider one down


def test_retrieval_sheet_refuses_inputs_that_do_not_fit(tmp_path):
    query = image_file(tmp_path, "query", (0, 0, 255))
    with pytest.raises(UserError, match=r"correct has shape \(1, 3\).*\(1, 2\)"):
        retrieval_sheet([query], [[query] * 2], np.ones((1, 3)), tmp_path / "sheet.png")
    with pytest.raises(UserError, match=r"gallery_paths_ranked has shape \(2, 1, 2\)"):
        retrieval_sheet([query] * 2, [[query] * 2, [query]], np.ones((2, 2)), tmp_path / "sheet.png")
    with pytest.raises(UserError, match=r"cannot read the image .*missing\.png"):
        retrieval_sheet([tmp_path / "missing.png"], [[query]], [[True]], tmp_path / "sheet.png")


def test_activation_map_is_the_energy_of_the_channels():
    features = torch.zeros(2, 2, 2, 2)
    features[0, :, 0, 0] = torch.tensor([3.0, -4.0])  # energy 5
    features[0, 0, 1, 1] = 2.5
    features[1] = 7.0  # the same everywhere
    maps = activation_map(features.requires_grad_())
    assert isinstance(maps, np.ndarray)
    np.testing.assert_allclose(maps, [[[1, 0], [0, 0.5]], [[0, 0], [0, 0]]], atol=1e-6)


def test_heat_map_sheet_is_red_where_the_map_is_high(tmp_path):
    images = np.zeros((2, 3, 64, 32), dtype=np.uint8)
    maps = np.zeros((2, 4, 2))
    maps[:, :2] = 1000  # the upper half
    path = heat_map_sheet(images, {"scaled": maps - 500, "torch": torch.from_numpy(maps)}, tmp_path / "sheet.png")
    pixels = pixels_of(path)
    head = pixels.shape[0] - 2 * (192 + sheets.GAP)
    width = pixels.shape[1] // 3
    for column in (1, 2):
        for row in (0, 1):
            x, y = column * width + width // 2, head + row * (192 + sheets.GAP)
            upper, lower = pixels[y + 10, x], pixels[y + 180, x]
            # Jet's ends are (0.5, 0, 0) and (0, 0, 0.5), half of each over black.
            assert np.abs(upper - (64, 0, 0)).max() <= 3 and np.abs(lower - (0, 0, 64)).max() <= 3
    with pytest.raises(UserError, match=r"'bad' have shape \(1, 4, 2\), but 2 images"):
        heat_map_sheet(images, {"bad": maps[:1]}, path)
    with pytest.raises(UserError, match="uint8"):
        heat_map_sheet(images / 255, {}, path)


def test_a_heat_map_sheet_with_many_columns_is_as_wide_as_a_page_and_breaks_its_titles(tmp_path):
    images, maps = np.zeros((1, 3, 128, 64), dtype=np.uint8), np.ones((1, 4, 2))
    titles = [f"NDMF-Net, starting weights {number}" for number in range(8)]
    few = pixels_of(heat_map_sheet(images, dict.fromkeys(titles[:1], maps), tmp_path / "few.png"))
    many = pixels_of(heat_map_sheet(images, dict.fromkeys(titles, maps), tmp_path / "many.png"))
    assert few.shape[1] < many.shape[1] <= sheets.MAX_WIDTH
    gaps = (many > 250).all(2).all(0)  # white from top to bottom: between two columns no title runs into the next
    assert (np.diff(gaps.astype(int)) == 1).sum() >= len(titles)


def test_training_curves_draw_what_the_log_has(tmp_path):
    narrow = training_curves([{"epoch": 1, "loss": 1.0, "learning_rate": 1e-3}], tmp_path / "one.png")
    wide = training_curves(LOG, tmp_path / "two.png")
    assert pixels_of(wide).shape[1] == pytest.approx(1.5 * pixels_of(narrow).shape[1], rel=0.02)  # three panels, two
    with pytest.raises(UserError, match="no epoch"):
        training_curves([], tmp_path / "none.png")


def test_line_figure_draws_each_series_and_leaves_gaps(tmp_path):
    def draw(**series):
        path = line_figure(
            tmp_path / "figure.png",
            x=[1, 2, 4],
            series=series,
            x_label="N",
            y_label="mAP (%)",
            deviations={"ours": [1, None, 0.5]},
        )
        return [count(path, matplotlib.colors.to_rgba_array(c)[0, :3] * 255) for c in curves.CURVE_COLOURS[:2]]

    alone, both = draw(ours=[1, 2, 3]), draw(ours=[1, 2, 3], theirs=[3, None, None])
    assert alone[0] > 100 and alone[1] == 0
    assert both[0] > 100 and both[1] > 20
    assert draw(ours=[1, None, 3])[0] < alone[0]  # no line across the gap
    with pytest.raises(UserError, match="'ours': 2 values for 3"):
        draw(ours=[1, 2])
    with pytest.raises(UserError, match="not one of: others"):
        draw(others=[1, 2, 3])


def test_figures_do_not_depend_on_the_users_style(tmp_path):
    first = training_curves(LOG, tmp_path / "curves.png").read_bytes()
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "black"}):
        assert training_curves(LOG, tmp_path / "curves.png").read_bytes() == first
    assert b"Matplotlib" not in first and b"matplotlib" not in first


def test_figures_stay_below_the_size_limit(tmp_path):
    noisy = [image_file(tmp_path, f"noisy{seed}", (128, 128, 128), noise=128, seed=seed) for seed in range(30)]
    ranked, correct = [noisy[start : start + 10] for start in (0, 10, 20)], np.ones((3, 10))
    paths = [retrieval_sheet(noisy[:3], ranked, correct, tmp_path / name) for name in ("one.png", "two.png")]
    assert sheets.MAX_BYTES / 2 < paths[0].stat().st_size <= sheets.MAX_BYTES  # 30 such images: 700 kB
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_a_heading_stands_above_its_row_and_moves_the_rows_below(tmp_path):
    file = tmp_path / "query.png"
    Image.new("RGB", (64, 128), (10, 200, 30)).save(file)
    rows = [file, file], [[file], [file]], [[True], [False]]
    plain = np.asarray(Image.open(retrieval_sheet(*rows, tmp_path / "plain.png")))
    headed = np.asarray(Image.open(retrieval_sheet(*rows, tmp_path / "headed.png", headings={1: "(b) below"})))
    line = headed.shape[0] - plain.shape[0]
    assert 10 < line < 40
    top = int((plain == (10, 200, 30)).all(2).any(1).nonzero()[0].max()) - 127  # of the second row's images
    heading = headed[top - line - 22 : top - 22]
    assert (heading < 100).any(), "something is written"
    np.testing.assert_array_equal(headed[top + line :], plain[top:])


def test_panels_are_two_in_a_row_and_bars_are_as_high_as_their_values(tmp_path):
    series = {"a": [1.0, None, 3.0], "b": [2.0, 2.0, 2.0]}
    panels = {f"loss {number}": series for number in range(4)}
    one = Image.open(panel_figure(tmp_path / "1.png", x=[1, 2, 3], panels={"loss": series}, x_label="epoch"))
    four = Image.open(panel_figure(tmp_path / "4.png", x=[1, 2, 3], panels=panels, x_label="epoch"))
    assert one.height < four.height < 2 * one.height and one.width < four.width <= sheets.MAX_WIDTH
    bordered = panel_figure(
        tmp_path / "b.png", x=[1, 2, 3], panels={"loss": series}, x_label="epoch", borders=[1.5, 2.5]
    )
    changed = (np.asarray(Image.open(bordered)) != np.asarray(one)).any(axis=(0, 2)).nonzero()[0]
    assert len(changed) and changed.max() - changed.min() == pytest.approx(0.4 * one.width, rel=0.1)  # one of x apart

    def coloured(values):
        file = bar_figure(tmp_path / "bars.png", x=["x", "y"], series={"frozen": values}, x_label="m", y_label="mAP")
        wanted = matplotlib.colors.to_rgba_array(curves.CURVE_COLOURS[0])[0, :3] * 255
        return (np.abs(np.asarray(Image.open(file).convert("RGB")) - wanted).max(2) < 2).sum()

    assert coloured([4.0, 1.0]) < coloured([4.0, 4.0])


def test_many_series_can_be_told_apart(tmp_path, monkeypatch):
    drawn, plot = [], matplotlib.axes.Axes.plot

    def kept(axes, *values, **style):
        drawn.append((style["label"], (style["color"], style["marker"], style["linestyle"])))
        return plot(axes, *values, **style)

    monkeypatch.setattr(matplotlib.axes.Axes, "plot", kept)
    series = {str(number): [float(number), 1.0] for number in range(16)}
    panel_figure(tmp_path / "many.png", x=[1, 2], panels={"loss": series, "share": series}, x_label="epoch")
    assert len(dict(drawn)) == len(set(dict(drawn).values())) == 16 and len(set(drawn)) == 16
    first = list(dict(drawn).values())[:7]
    assert first == [(c, m, "-") for c, m in zip(curves.CURVE_COLOURS, curves.CURVE_MARKERS, strict=True)]


def test_panels_share_one_legend_below_them_and_a_series_has_one_colour_in_all(tmp_path):
    """The second panel has the second series only."""
    panels = {"loss": {"a": [1.0, 1.0], "b": [2.0, 2.0]}, "share": {"b": [1.0, 1.0]}}
    drawn = np.asarray(
        Image.open(panel_figure(tmp_path / "p.png", x=[1, 2], panels=panels, x_label="epoch")).convert("RGB")
    )

    def columns(colour):
        wanted = matplotlib.colors.to_rgba_array(colour)[0, :3] * 255
        found = np.abs(drawn - wanted).max(2) < 2
        bottom = found[-int(2 * LINE * 110) :]  # the legend's lines
        return found[:, : drawn.shape[1] // 2].sum(), found[:, drawn.shape[1] // 2 :].sum(), bottom.any()

    (left, right, named), (left_too, right_too, named_too) = map(columns, curves.CURVE_COLOURS[:2])
    assert left > 100 and right < 60 and named  # of the first, only the legend can reach into the right half
    assert left_too > 100 and right_too > 100 and named_too
