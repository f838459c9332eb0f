"""CMC, mAP and mINP of re-ID, and the evaluation protocols.

Depends only on numpy, torch's tensors and `common.errors`, so that the folder can be reused elsewhere.
"""

from .bootstrap import standard_errors
from .inputs import ScoringError
from .protocols import JUNK, PROTOCOLS, Protocol
from .ranking import RankedMatches, RankingScores, rank_feature_matches, rank_matches, score_features, score_ranking

__all__ = [
    "JUNK",
    "PROTOCOLS",
    "Protocol",
    "RankedMatches",
    "RankingScores",
    "ScoringError",
    "rank_feature_matches",
    "rank_matches",
    "score_features",
    "score_ranking",
    "standard_errors",
]
