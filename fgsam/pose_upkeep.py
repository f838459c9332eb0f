"""The pose resolve net in phases 2 and 3: what eq. 3-4 ask of it where they are kept as a loss, and its joint error.

Nothing else asks it for joints there, and the norms of eq. 7-8 hide the scale of its maps: trained like the rest, it
forgets them. Its joint error is therefore logged after each epoch.
"""

from collections.abc import Iterator
from itertools import repeat
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from common import distributed
from common.errors import UserError
from common.images import ImageStore
from common.runs import Run

from .model import FGSAM
from .phases import load_pose_net
from .pose_data import PoseBatch, PoseImages, open_pose_images
from .pose_net import PoseNet
from .pose_scores import joint_scores, mean_joints, predict_joints
from .pretrain_pose import flipped, pose_file, pose_run_for, targets, trained_pose_net
from .skeleton import NUM_ANNOTATED

NUM_WATCHED = 512  # images of unseen people on which the joint error is measured, evenly spaced


def pose_weights(run: Run) -> Path:
    """The file with phase 0's weights; with `pose_weights: auto` phase 0 is trained first where it has none yet."""
    if run.settings.pose_weights != "auto":
        return Path(run.settings.pose_weights).expanduser()
    return trained_pose_net(pose_run_for(run))


class PoseUpkeep:
    """What a run needs for it from phase 2 on. UserError: `pose_loss` needs data or weights that are not there."""

    def __init__(self, run: Run):
        self.run, settings = run, run.settings
        images = _pose_images(run)
        self.people, self.unseen = images or (None, None)
        if settings.pose_loss == "joints" and self.people is None:
            open_pose_images(pose_run_for(run).dataset, settings)  # says what is missing
        self.teacher = self._phase_0() if settings.pose_loss == "maps" else None

    def _phase_0(self) -> PoseNet:
        run = self.run
        net = PoseNet(run.settings, cpb=False, frozen=True)
        load_pose_net(net, pose_weights(run), run.paper, run.settings)
        return net.to(run.device, memory_format=torch.channels_last).eval()

    def _phase_0_file(self) -> Path:
        weights = self.run.settings.pose_weights
        return pose_file(pose_run_for(self.run)) if weights == "auto" else Path(weights).expanduser()

    def batches(self, epoch: int, num_steps: int) -> Iterator[PoseBatch | None]:
        """Of each step of an epoch the pose data of this process; None without `pose_loss: joints`."""
        run = self.run
        if run.settings.pose_loss != "joints":
            return repeat(None, num_steps)
        size = min(len(self.people), max(1, run.settings.pose_batch // distributed.world_size()))

        def read(step: int) -> PoseBatch:
            drawn = np.random.default_rng([run.seed, epoch, step, distributed.rank()])
            batch = self.people.batch(drawn.choice(len(self.people), size, replace=False))
            return flipped(batch, run.settings.pose_flip_probability, run.batch_generator(epoch, num_steps + step))

        return ImageStore.read_ahead(range(num_steps), read)

    @torch.no_grad()
    def asked(self, images: Tensor, batch: PoseBatch | None) -> tuple[list[Tensor], Tensor] | None:
        """What each stage should give, and W: the truth of a batch of pose data, or phase 0's maps of the re-ID images
        (B, 3, H, W), normalised. None without `pose_loss`."""
        if batch is not None:
            wanted, weights = targets(batch, self.run.settings, self.run.device)
            return [wanted] * 3, weights
        if self.teacher is None:
            return None
        with self.run.autocast():
            stages = [maps.float() for maps in self.teacher(images)]
        return stages, torch.ones_like(stages[0])

    def joint_error(self, net: PoseNet) -> dict[str, float]:
        """`joint_distance` as in `joint_scores`, in evaluation mode; nothing where the pose data are not there."""
        if self.unseen is None:
            return {}
        training = net.training
        predicted, true = predict_joints(net.eval(), self.unseen, self.run, self._watched())
        net.train(training)
        return {"joint_distance": joint_scores(predicted, true, predicted[0], self.run.settings)["joint_distance"]}

    def scores(self) -> dict[str, float]:
        """Joint errors, on the same images: `phase0`, `phase2`, `phase3` (each after its last epoch), `mean_joints`,
        and `growth`, the last phase's over phase 0's; what is not known is left out."""
        if self.unseen is None:
            return {}
        log = self.run.history.log
        found = {f"phase{entry['phase']}": entry["joint_distance"] for entry in log if "joint_distance" in entry}
        last = next(reversed(found.values()), None)
        if self._phase_0_file().is_file():
            found["phase0"] = self.joint_error(self.teacher or self._phase_0())["joint_distance"]
            found |= {"growth": last / found["phase0"]} if last else {}
        true = self.unseen.batch(self._watched()).joints[:, 0, :NUM_ANNOTATED]
        mean = mean_joints(self.people)
        found["mean_joints"] = joint_scores(true[..., :2], true, mean, self.run.settings)["mean_joints_distance"]
        return found

    def _watched(self) -> np.ndarray:
        return np.unique(np.linspace(0, len(self.unseen) - 1, NUM_WATCHED).astype(int))


def pose_of(model: FGSAM) -> list[torch.nn.Parameter]:
    """The parameters that phase 0 trained."""
    return [parameter for part in model.pose_net.phase_0_parts() for parameter in part.parameters()]


def _pose_images(run: Run) -> tuple[PoseImages, PoseImages] | None:
    """To train on and of unseen people; None where the data set or its joints are not there."""
    try:
        return open_pose_images(pose_run_for(run).dataset, run.settings)
    except UserError:
        return None
