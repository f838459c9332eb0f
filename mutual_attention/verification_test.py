"""Held-out pairs, the verifier's accuracy on them with its own and with others' attention, and what is logged."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from common.datasets.base import JUNK, Sample, Search, Subset
from common.metrics import score_features
from common.runs import Run

from . import activity as activity_module
from . import model as model_module
from . import train, verification
from .activity import activity, rms, say_rms_of_first_step, variance_shares, watched_pairs
from .mean_image import prepared
from .model import MutualAttentionNet
from .model_test import settings_of
from .network_test import SMALL, narrow_resnet, plain_attention
from .verification import correct, gates_of, held_out_pairs, partners, same_by_attention, verification_scores

PEOPLE = 12


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A data set of small random images: PEOPLE people of the test set, each with two queries and two gallery images by
    four cameras, one distractor and one junk image."""
    folder, generator = tmp_path_factory.mktemp("images"), np.random.default_rng(0)

    def sample(name, person, camera):
        pixels = generator.integers(0, 256, (8, 4, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((32, 64)).save(folder / f"{name}.png")
        return Sample(folder / f"{name}.png", person=person, camera=camera)

    images = [[sample(f"{person}_{camera}", person, camera) for camera in range(4)] for person in range(5, 5 + PEOPLE)]
    query = Subset("query", tuple(image for own in images for image in own[:2]))
    gallery = [*(image for own in images for image in own[2:]), sample("distractor", 0, 1), sample("junk", JUNK, 2)]
    gallery = Subset("gallery", tuple(gallery))
    search = Search("single_query", query, gallery)
    found = SimpleNamespace(train=query, query=query, gallery=gallery, searches=(search,), subsets={})
    found.fingerprint, found.name = "0" * 16, "market1501"
    return found, folder


@pytest.fixture
def run_of(data, monkeypatch):
    """run_of(variant, ...): a run on `data`, its network, untrained with telling outputs, and the mean image."""
    monkeypatch.setattr(model_module, "build_resnet", narrow_resnet)

    def build(variant="full", seed=0, **sets):
        settings = settings_of(variant, **SMALL | {"cache": False, "precision": "fp32"} | sets)
        run = Run(train.__package__, data[0], variant, settings, seed, torch.device("cpu"), data[1])
        torch.manual_seed(1)
        model = MutualAttentionNet(5, settings)
        with torch.no_grad():
            model.verifier[-1].weight.normal_()
            for module in model.modules():
                module.momentum = 0.7
            for _ in range(2):
                model.train()(*torch.randn(2, 8, 3, 64, 32))
        return run, model.eval(), torch.full((3, 64, 32), 120.0)

    return build


# ------------------------------------------------------------------ pairs


def test_held_out_pairs_are_different_and_half_of_one_person_across_cameras(run_of, monkeypatch):
    run, _, _ = run_of()
    pairs = held_out_pairs(run, 100)
    samples = pairs.images.samples
    assert {sample.person for sample in samples} == set(range(5, 5 + PEOPLE))  # nobody else
    assert len(pairs.same) == 100 and pairs.same.sum() == 50
    chosen = [(samples[first], samples[second]) for first, second in zip(pairs.first, pairs.second, strict=True)]
    assert len({frozenset(pair) for pair in chosen}) == 100
    for (one, other), same in zip(chosen, pairs.same, strict=True):
        assert (one.person == other.person) == same and not (same and one.camera == other.camera)
    assert {sample.path.name for pair in chosen for sample in pair} == {sample.path.name for sample in samples}
    for part in pairs.batches():
        batch = pairs.same[part]
        assert len(batch) <= 64 and batch[: len(batch) // 2].all() and not batch[len(batch) // 2 :].any()
    others = [held_out_pairs(run_of(seed=1)[0], 100)]
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    for again in [*others, held_out_pairs(run, 100)]:  # every run and every process scores the same ones
        assert again.images == pairs.images
        assert all(np.array_equal(one, other) for one, other in zip(again[1:], pairs[1:], strict=True))


def test_there_are_as_many_pairs_as_the_rarer_kind_allows(run_of, data, monkeypatch):
    run, _, _ = run_of()
    pairs = held_out_pairs(run, 1600)
    assert pairs.same.sum() == len(pairs.same) // 2 == PEOPLE * 6  # four images of a person make six pairs
    lonely = Subset("query", data[0].query.samples[:1])
    monkeypatch.setattr(data[0], "query", lonely)
    monkeypatch.setattr(data[0], "gallery", lonely)
    assert held_out_pairs(run, 1600) is None
    assert verification_scores(None, run, None) == {} and watched_pairs(run) is None


# ------------------------------------------------------------------ accuracy


def test_a_pair_counts_as_one_person_above_one_half():
    found = correct(torch.tensor([0.9, 0.5, 0.51, 0.2]), torch.tensor([True, True, False, False]))
    assert found.tolist() == [True, False, False, True]


def test_shuffled_attention_is_of_another_pair_of_the_same_or_of_the_other_label():
    same = torch.arange(10) < 5
    orders = partners(10)
    assert list(orders) == ["within_label", "across_labels"]
    for way, order in orders.items():
        assert sorted(order.tolist()) == list(range(10)) and not (order == torch.arange(10)).any()
        assert (same[order] == same).all() if way == "within_label" else (same[order] != same).all()


def test_others_attention_replaces_that_of_both_stages(run_of):
    run, model, _ = run_of()
    images = torch.randn(12, 3, 64, 32, generator=torch.Generator().manual_seed(3))  # of six pairs
    with torch.no_grad():
        maps3 = model.layer3_maps(images)
        found, own = same_by_attention(model, maps3)
        MA3 = plain_attention(model.attention3, *maps3.chunk(2), run.settings, training=False)

        def probability(order):
            """Eq. 7-8 with each pair's attention taken from `order`, which was computed for its own pair."""
            own4 = []
            for attended in (MA3, MA3[order]):
                with model.attended_statistics:
                    maps4 = model.backbone.layer4(torch.cat([f * attended + f for f in maps3.chunk(2)]))
                own4.append(plain_attention(model.attention4, *maps4.chunk(2), run.settings, training=False))
            with model.attended_statistics:
                features = model.embedding(torch.cat([f * own4[0][order] + f for f in maps4.chunk(2)]).mean((2, 3)))
            logits = model.verifier((features[:6] - features[6:]) ** 2)
            return torch.softmax(logits, 1)[:, 0]

        orders = {"own": [0, 1, 2, 3, 4, 5], "within_label": [2, 0, 1, 5, 3, 4], "across_labels": [3, 4, 5, 0, 1, 2]}
        assert list(found) == list(orders)
        for way, order in orders.items():
            torch.testing.assert_close(found[way], probability(order), msg=way)
    torch.testing.assert_close(own["attention3.gates"], MA3)
    assert len({tuple(values.tolist()) for values in found.values()}) == 3


@pytest.mark.parametrize("variant", ["full", "baseline", "shuffled"])
def test_the_verifiers_scores_are_shares_of_the_pairs(run_of, variant, monkeypatch):
    run, model, mean = run_of(variant)
    assert verification.NUM_PAIRS == 1600
    monkeypatch.setattr(verification, "NUM_PAIRS", 70)
    pairs = held_out_pairs(run, 70)
    parts = list(pairs.batches())  # whose attention is shuffled depends on them
    files = [sample.path for sample in pairs.images.samples]
    pixels = torch.stack([torch.from_numpy(np.array(Image.open(file))).permute(2, 0, 1) for file in files])
    inputs = prepared(pixels, mean)
    first, second = inputs[pairs.first], inputs[pairs.second]
    with torch.no_grad():
        logits = torch.cat([model(first[part], second[part]).verification_logits for part in parts])
        model.verifier[-1].bias[0] -= (logits[:, 0] - logits[:, 1]).median() - 1e-3  # half of the pairs are `same`
        said = torch.cat([model.same_probability(first[part], second[part]) for part in parts]) > 0.5
    assert 30 < said.sum() < 40
    judged = []
    monkeypatch.setattr(verification, "correct", lambda said, same: judged.append(said) or correct(said, same))
    scores = verification_scores(model, run, mean)
    expected = (said.numpy() == pairs.same).mean()
    assert scores["accuracy"] == pytest.approx(expected) and scores["num_pairs"] == len(pairs.same) == 70
    attention = {"within_label", "across_labels", "label_mean", "frozen"} if variant == "full" else set()
    assert set(scores) == {"accuracy", "num_pairs"} | attention
    if variant == "full":
        with torch.no_grad():
            maps3 = model.layer3_maps(torch.cat([first, second]))
            MA3 = model.attention3.mutual_map(*maps3.chunk(2))
            with model.attended_statistics:
                maps4 = model.backbone.layer4(torch.cat([f * MA3 + f for f in maps3.chunk(2)]))
            MA4 = model.attention4.mutual_map(*maps4.chunk(2))
            means = {"label_mean": pairs.same[:, None] == pairs.same, "frozen": np.ones((70, 70), bool)}
            for number, (way, whose) in enumerate(means.items()):
                mean3, mean4 = (torch.stack([MA[own].mean(0) for own in whose]).repeat(2, 1, 1, 1) for MA in (MA3, MA4))
                with model.attended_statistics:
                    maps4 = model.backbone.layer4(maps3 * mean3 + maps3)
                    features = model.embedding((maps4 * mean4 + maps4).mean((2, 3)))
                found = model.verifier((features[:70] - features[70:]) ** 2).softmax(1)[:, 0]
                torch.testing.assert_close(torch.cat(judged[number - 4 :: 2]), found, rtol=1e-4, atol=1e-5, msg=way)
                assert scores[way] == pytest.approx(((found > 0.5).numpy() == pairs.same).mean()), way


def test_verify_images_uses_the_mean_image_and_gives_the_probability(run_of):
    run, model, mean = run_of()
    first, second = torch.randint(256, (2, 3, 3, 64, 32), dtype=torch.uint8)
    expected = model.same_probability(prepared(first, mean), prepared(second, mean))
    torch.testing.assert_close(train.verifier(model, run, mean)(first, second), expected.detach())


@pytest.mark.parametrize("variant", ["full", "baseline"])
def test_a_record_has_the_scores_of_every_search_and_descriptor_the_verifier_and_mean_losses(
    run_of, data, variant, monkeypatch
):
    run, model, mean = run_of(variant)
    query = run.dataset.query
    further = [replace(sample, camera=0) for sample in run.dataset.gallery.samples[: 2 * PEOPLE : 2]]
    monkeypatch.setattr(data[0], "subsets", {"multi_query": Subset("multi_query", (*query.samples, *further))})
    monkeypatch.setattr(train, "mean_image_of", lambda _: mean)
    losses = (
        {"identification_loss": 3.0, "verification_loss": 0.5},
        {"identification_loss": 1.0, "verification_loss": 0.2},
    )
    run.history.log = [{"epoch": epoch, **entry} for epoch, entry in enumerate(losses, 1)]
    scores = train.scores_of(model, run)
    assert scores["mean_losses"] == pytest.approx({"identification_loss": 2.0, "verification_loss": 0.35})
    assert scores["verification"] == verification_scores(model, run, mean)
    subsets = run.dataset.query, run.dataset.gallery
    labels = [getattr(subset, name) for name in ("persons", "cameras") for subset in subsets]
    inputs = []
    for subset in subsets:
        pixels = torch.stack([torch.from_numpy(np.array(Image.open(sample.path))) for sample in subset.samples])
        inputs.append(prepared(pixels.permute(0, 3, 1, 2), mean))
    for descriptor in model.descriptors:
        with torch.no_grad():
            expected = score_features(*(model.embed(images, descriptor) for images in inputs), *labels)
        found = scores if descriptor == "plain" else scores[descriptor]
        assert found["mAP"] == pytest.approx(expected.mAP, abs=1e-6)
    assert ("mean_attended" in scores) == ("self_attended" in scores) == (variant == "full")
    with torch.no_grad():
        features = [model.embed(images) for images in inputs]
        averaged = features[0].clone()
        averaged[::2] = (features[0][::2] + features[1][: 2 * PEOPLE : 2]) / 2  # camera 0's queries, each with one more
        expected = score_features(averaged, features[1], *labels)
    assert scores["multi_query"]["mAP"] == pytest.approx(expected.mAP, abs=1e-6) != scores["mAP"]
    assert {"single_query_reranked", "multi_query_reranked", "before_relu"} <= set(scores) and "plain" not in scores


def test_a_run_is_scored_in_evaluation_mode(run_of, monkeypatch):
    """So that an image's feature does not depend on the rest of its batch, nor on dropout."""
    run, model, _ = run_of()
    finished, modes = [], []
    monkeypatch.setattr(train, "open_run", lambda *_: run)
    monkeypatch.setattr(train, "train", lambda _: model.train())
    monkeypatch.setattr(train, "scores_of", lambda model, _: modes.append(model.training) or {"mAP": 0.5})
    monkeypatch.setattr(Run, "begin", lambda _: None)
    monkeypatch.setattr(Run, "finish", lambda _, scores, size: finished.append((scores, set(size))))
    train.main([])
    assert modes == [False] and finished == [({"mAP": 0.5}, {"num_parameters", "macs"})]


# ------------------------------------------------------------------ what is logged


def test_variance_is_shared_between_a_mask_the_images_and_the_pair():
    """Maps of 2 x 3 pairs and 2 channels by hand: mask (0, 2), first image adds -1 or 1, one pair differs by itself."""
    mask, first = torch.tensor([0.0, 2.0]), torch.tensor([-1.0, 1.0])
    maps = mask.expand(2, 3, 2) + first[:, None, None]
    found = variance_shares(maps)
    assert found == pytest.approx({"mask": 0.5, "image": 0.5, "pair": 0})  # both have a variance of 1
    pair = torch.tensor([[1.0, -1.0, 0.0], [-1.0, 1.0, 0.0]])[..., None]  # its rows and columns sum to 0
    assert variance_shares(maps + pair) == pytest.approx({"mask": 3 / 8, "image": 3 / 8, "pair": 2 / 8})
    second = torch.tensor([-1.5, 0.0, 1.5])[None, :, None]  # variance 3 / 2
    assert variance_shares(maps + second) == pytest.approx({"mask": 2 / 7, "image": 5 / 7, "pair": 0})
    assert variance_shares(torch.ones(2, 2, 3)) == {"mask": 0, "image": 0, "pair": 0}


@pytest.mark.parametrize("sets", [{}, {"temperature": 0.5, "normalisation": "rms"}, {"variant": "literal"}])
def test_the_log_has_rms_gates_shares_and_the_verifiers_accuracies(run_of, sets):
    run, model, mean = run_of(**sets)
    watched = watched_pairs(run)
    assert len(watched.same) == 64 and watched.same[:32].all() and not watched.same[32:].any()
    model.train()
    found = activity(model, run, watched, mean)
    assert model.training
    statistics = ["rms", "mean", "spread", "saturated", "mask", "image", "pair"]
    if run.settings.activation == "none":
        statistics.remove("saturated")
    assert gates_of(model) == ["attention3.gates", "attention4.gates"]
    ways = [f"verifier_{way}" for way in ("own", "within_label", "across_labels")]
    assert list(found) == [f"attention{stage}_{name}" for stage in (3, 4) for name in statistics] + ways
    model.eval()
    with torch.no_grad():
        maps3 = model.layer3_maps(prepared(watched.images, mean))
        f1, f2 = maps3.chunk(2)
        gates = plain_attention(model.attention3, f1, f2, run.settings, training=False)
        before = (gates / (1 - gates)).log() if run.settings.activation == "sigmoid" else gates
        assert found["attention3_rms"] == pytest.approx((before**2).mean().sqrt().item(), rel=0.02)
        assert found["attention3_mean"] == pytest.approx(gates.mean().item(), rel=1e-4)
        if run.settings.activation == "sigmoid":
            near = ((gates < 0.01) | (gates > 0.99)).float().mean().item()
            assert found["attention3_saturated"] == pytest.approx(near, abs=1e-3)
        n = len(watched.crossed) // 2
        assert n == 8 and (watched.crossed[:n] + 64 == watched.crossed[n:]).all() and (watched.crossed[:n] < 32).all()
        one, other = maps3[watched.crossed].chunk(2)
        pairs = [(one[[i]], other[[j]]) for i in range(n) for j in range(n)]
        maps = [plain_attention(model.attention3, *pair, run.settings, training=False) for pair in pairs]
        crossed = torch.cat(maps).double().unflatten(0, (n, n))
        interaction = crossed - crossed.mean(0, keepdim=True) - crossed.mean(1, keepdim=True) + crossed.mean((0, 1))
        share = (interaction**2).mean() / crossed.var(correction=0)
        assert found["attention3_pair"] == pytest.approx(share.item(), rel=1e-3)
        probability, _ = same_by_attention(model, maps3)
        for way, values in probability.items():
            assert found[f"verifier_{way}"] == pytest.approx(correct(values, watched.same).double().mean().item())


def test_the_watched_pairs_that_are_crossed_are_of_different_people(run_of, monkeypatch):
    run, _, _ = run_of()
    pairs = held_out_pairs(run, verification.PAIRS_PER_BATCH)
    watched = watched_pairs(run)
    people = pairs.images.persons[pairs.first[watched.crossed[: activity_module.NUM_CROSSED]]]
    assert len(set(people.tolist())) == 8
    assert watched_pairs(run_of("baseline")[0]) is None
    assert activity(None, run, None, None) == {}
    assert gates_of(run_of("baseline")[1]) == []


def test_the_first_step_says_each_gates_rms_once(run_of, capsys):
    _, model, _ = run_of()
    say_rms_of_first_step(model)
    seen = []
    for stage in (3, 4):
        module = getattr(model, f"attention{stage}").before_gate
        module.register_forward_hook(lambda _m, _i, output: seen.append(rms(output)))
    for _ in range(2):
        model.train()(*torch.randn(2, 4, 3, 64, 32))
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        f"attention{stage}: MA has a root mean square of {value:.3g} before its gate"
        for stage, value in zip((3, 4), seen[:2], strict=True)
    ]
    assert rms(torch.tensor([3.0, 4.0, 0.0, 0.0])) == 2.5
