"""NDMF-Net's losses: label smoothing as eq. 12 prints it, and the weighted sum of eq. 14."""

from torch import Tensor
from torch.nn import functional


def smoothed_cross_entropy(logits: Tensor, labels: Tensor, *, smoothing: float) -> Tensor:
    """Cross-entropy with the labels of eq. 12: 1 - eps on the true class, eps / (K - 1) on each other.

    Not torch.nn.CrossEntropyLoss(label_smoothing=eps), which gives eps / K to every class, the true one included.
    The mean over images of the sum over classes; eq. 11 prints neither.

    logits: (B, K); labels: (B,) in 0..K-1.
    """
    log_probabilities = functional.log_softmax(logits.float(), dim=1)
    true = log_probabilities.gather(1, labels[:, None]).squeeze(1)
    others = log_probabilities.sum(1) - true
    return -((1 - smoothing) * true + smoothing / (logits.shape[1] - 1) * others).mean()
