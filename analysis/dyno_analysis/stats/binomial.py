"""How sure a share of independent requests is: exact tails of the binomial distribution. Pure."""

from .student_t import incomplete_beta


def at_least(met: int, n: int, share: float) -> float:
    """P(X >= met) of n trials that each succeed with the probability `share`.

    It is I_share(met, n - met + 1) (NIST's Digital Library of Mathematical Functions, 8.17.5).
    """
    return 1.0 if met <= 0 else incomplete_beta(share, met, n - met + 1)


def at_most(met: int, n: int, share: float) -> float:
    """P(X <= met)."""
    return 1.0 if met >= n else incomplete_beta(1 - share, n - met, met + 1)
