"""Two processes (gloo, CPU) against one: the same batch, the same step, the same scores."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from common import distributed
from common.errors import UserError, command
from common.evaluation.features import extract_features
from common.losses import batch_hard_triplet
from common.paths import REPOSITORY
from common.samplers import IdentitySampler

LABELS = np.repeat(np.arange(12), 6)
IN_TWO_PROCESSES = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
IN_TWO_PROCESSES += ["-m", "common.distributed_test"]


class Numbers:
    """Stands in for a store of seven images."""

    def __len__(self):
        return 7

    def gather(self, indices):
        return torch.from_numpy(indices)


def one_step(folder: Path) -> None:
    """One SGD step on the first batch of an epoch; each rank writes its result to a file."""
    device = distributed.initialise(torch.device("cpu"))
    torch.manual_seed(0)
    images = torch.randn(len(LABELS), 3, 16, 8)
    model = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3), torch.nn.BatchNorm2d(8), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(672, 12)
    ).eval()  # batch norm's statistics are each rank's own, so they are left out of the comparison
    network = distributed.parallel(model, device)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
    sampler = IdentitySampler(LABELS, 4, 3, seed=5)
    indices = next(sampler.batches(1))
    targets = torch.from_numpy(LABELS[indices])
    logits = network(images[indices])
    triplet = batch_hard_triplet(
        distributed.gather_with_gradient(logits), distributed.gather(targets), margin=50.0
    )  # a margin that every triplet violates: every anchor has a gradient
    (torch.nn.functional.cross_entropy(logits, targets) + triplet).backward()
    optimiser.step()
    own = torch.nn.BatchNorm1d(3)  # each rank's running statistics are of its own batches
    own(1 + distributed.rank() + torch.randn(8, 3))
    distributed.share_buffers(own, optimiser)
    result = {
        "running_mean": own.running_mean,
        "features": extract_features(lambda numbers: numbers[:, None] + 0.5, Numbers(), batch_size=2),
        "weights": model.state_dict(),
        "indices": torch.from_numpy(indices),
        "triplet": triplet.detach(),
        "mean_rank": torch.tensor(distributed.mean(float(distributed.rank()), device)),
    }
    torch.save(result, folder / f"rank{distributed.rank()}-of-{distributed.world_size()}.pt")


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    one_step(folder)
    finished = subprocess.run(
        [*IN_TWO_PROCESSES, str(folder)], cwd=REPOSITORY, capture_output=True, text=True, timeout=120
    )
    assert finished.returncode == 0, finished.stderr
    return {file.stem: torch.load(file, weights_only=True) for file in folder.iterdir()}


def test_after_one_step_two_processes_have_the_weights_of_one(results):
    one, first, second = results["rank0-of-1"], results["rank0-of-2"], results["rank1-of-2"]
    for name, weight in one["weights"].items():
        torch.testing.assert_close(first["weights"][name], weight, rtol=0, atol=1e-5)
        assert torch.equal(first["weights"][name], second["weights"][name])


def test_ranks_have_disjoint_identities_that_make_up_the_global_batch(results):
    one, first, second = (results[name]["indices"].numpy() for name in ("rank0-of-1", "rank0-of-2", "rank1-of-2"))
    assert not set(LABELS[first]) & set(LABELS[second])
    assert sorted([*first, *second]) == sorted(one)


def test_the_triplet_loss_is_of_the_global_batch_and_means_are_over_ranks(results):
    for name in ("rank0-of-2", "rank1-of-2"):
        torch.testing.assert_close(results[name]["triplet"], results["rank0-of-1"]["triplet"])
        assert results[name]["mean_rank"] == 0.5


def test_all_ranks_have_rank_0s_buffers_and_the_features_of_one_process(results):
    means = [results[name]["running_mean"] for name in ("rank0-of-2", "rank1-of-2")]
    torch.testing.assert_close(means[0], means[1], rtol=0, atol=0)
    assert (means[0] > 0.05).all() and (means[0] < 0.15).all()  # a tenth of rank 0's mean of 1, not of rank 1's of 2
    for name in ("rank0-of-1", "rank0-of-2", "rank1-of-2"):
        assert results[name]["features"].squeeze(1).tolist() == [index + 0.5 for index in range(7)]


def test_an_error_of_the_main_process_lets_the_others_go_on(monkeypatch):
    passed = []
    monkeypatch.setattr(distributed, "barrier", lambda: passed.append("barrier"))
    with pytest.raises(UserError), distributed.main_process_first():
        raise UserError("no such file")
    assert passed == ["barrier"]


def test_identities_that_do_not_divide_among_processes_are_refused():
    with pytest.raises(UserError, match="identities_per_batch is 4, which 3 processes cannot share"):
        IdentitySampler(LABELS, 4, 3, seed=0, world_size=3)


@command
def one_fails(words: list[str]) -> None:
    """The process `words[0]` raises a UserError while the others wait for it in a collective operation."""
    distributed.initialise(torch.device("cpu"))
    if distributed.rank() == int(words[0]):
        raise UserError("the disk is full")
    distributed.barrier()


@pytest.mark.parametrize("rank", [0, 1])
def test_a_user_error_of_one_process_ends_the_others_with_its_message(rank):
    finished = subprocess.run(
        [*IN_TWO_PROCESSES, f"fail={rank}"], cwd=REPOSITORY, capture_output=True, text=True, timeout=60
    )
    assert finished.returncode != 0
    assert "error: the disk is full\n" in finished.stderr
    assert f"error: the disk is full (process {rank})\n" in finished.stderr
    assert "interrupted" not in finished.stderr


if __name__ == "__main__":
    if sys.argv[1].startswith("fail="):
        one_fails([sys.argv[1].removeprefix("fail=")])
    else:
        one_step(Path(sys.argv[1]))
