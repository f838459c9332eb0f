"""The page of made-up results."""

from benchmarks.gpu.page import DIFFERS, results_page, verdicts
from benchmarks.gpu.results import Entry, Results

MACHINE = {"device": "cuda", "gpu": "Some GPU", "driver": "550.1", "torch": "2.11.0", "python": "3.11.4"}
MACHINE |= {"cpu": "Some CPU", "cores": 8}
SPEED = {"precision": "bf16", "batch": 64, "size": "resnet50, 256x128", "images_per_second": 1200.0, "memory": 2**32}
LOSSES = {
    "steps": 20,
    "worst_step": 2,
    "steps_within_strict_limit": 1,
    "largest_difference": 0.05,
    "difference": 0.02,
    "limit": 1e-3,
    "agrees": False,
}
SCORES = {"mAP": 0.5, "committed": [0.49, 0.5, 0.51], "difference": 0.0, "limit": 0.02, "agrees": True}
SCORES |= {"noise": "two standard deviations of 3 seeds", "stale": ""}


def results(*entries):
    found = Results(machine=MACHINE, commit="0123456789abcdef")
    for part, what, paper, result in entries:
        kept = {"error": result} if isinstance(result, str) else {"result": result}
        found.add(part, what, paper, Entry(identity={}, finished="2026-11-21T10:00:00+00:00", seconds=1.0, **kept))
    return found


def cells(page, start):
    """The cells of the only row that starts with these."""
    (line,) = [line for line in page.split("\n") if [c.strip() for c in line.split("|")[1:-1]][: len(start)] == start]
    return [cell.strip() for cell in line.split("|")[1:-1]][len(start) :]


def test_a_disagreement_is_marked_and_explained():
    found = results(
        ("agree", "features", "ndmf_net", {"images": 64, "difference": 2e-6, "limit": 1e-3, "agrees": True}),
        ("agree", "losses", "ndmf_net", LOSSES),
        ("agree", "scores", "ndmf_net", SCORES),
        ("agree", "features", "mgre", "RuntimeError: CUDA error"),
    )
    page = results_page(found)
    assert cells(page, ["NDMF-Net"]) == ["2.0e-06, agrees", "5.0e-02, **differs**", "50.0%, agrees"]
    assert cells(page, ["MGRe"]) == ["**failed**", "not measured yet", "not measured yet"]
    why = "largest difference 5.0e-02, at most 1e-03 for the first 1 of 20 steps; 2.0e-02 in step 2, where the limit is"
    assert f"- **NDMF-Net, losses: differs, {why} 1.0e-03.**" in page
    assert "- **MGRe, features: failed, RuntimeError: CUDA error.**" in page
    assert "- NDMF-Net, scores: agrees, mAP 50.0% here, 49.0%, 50.0%, 51.0% committed, difference 0.0 points" in page
    assert [verdict.what for verdict in verdicts(found) if verdict.verdict == DIFFERS] == ["losses"]
    assert "Some GPU" in page and "driver 550.1, torch 2.11.0" in page and "Commit 0123456789, 2026-11-21" in page


def test_a_stale_record_and_an_unknown_noise_are_said():
    one = SCORES | {"agrees": False, "difference": 0.03, "stale": "source code", "noise": "noise unknown (one seed)"}
    none = {"mAP": 0.5, "agrees": None, "noise": "no committed record of this run"}
    page = results_page(results(("agree", "scores", "ndmf_net", one), ("agree", "scores", "mgre", none)))
    assert "limit 2.0 (noise unknown (one seed)); the committed record is stale: the source code changed.**" in page
    assert "- MGRe, scores: unknown, mAP 50.0% here, no committed record of this run." in page


def test_speed_is_beside_the_plain_loop_and_compiling_beside_not():
    plain = {"plain_images_per_second": 1500.0, "plain_memory": 2**31}
    page = results_page(
        results(
            ("speed", "training, half precision", "ndmf_net", SPEED | plain),
            ("speed", "training, half precision, compiled", "ndmf_net", SPEED | {"images_per_second": 1500.0}),
            ("speed", "inference", "fgsam", "OutOfMemoryError: CUDA out of memory"),
        )
    )
    row = cells(page, ["NDMF-Net", "training, half precision"])
    assert row == ["resnet50, 256x128", "bf16", "64", "1,200", "1,500", "80%", "4.00", "2.00"]
    compiled = cells(page, ["NDMF-Net", "training, half precision, compiled (1.25 x, helps)"])
    assert compiled == ["resnet50, 256x128", "bf16", "64", "1,500", "–", "", "4.00", "–"]
    assert "- **FGSAM, inference: failed, OutOfMemoryError: CUDA out of memory.**" in page
    assert "- FGSAM: steps and epochs are those of phase 3" in page


def test_an_epoch_has_its_seconds():
    seconds = {"draw_seconds": 10.0, "decode_seconds": 5.2, "train_seconds": 9.0, "evaluate_seconds": 30.0}
    page = results_page(results(("epoch", "epoch", "mgre", SPEED | seconds | {"images": 12_936})))
    assert cells(page, ["MGRe", "resnet50, 256x128", "bf16"]) == ["12,936", "10", "5", "9", "30", "1,200", "4.00"]
