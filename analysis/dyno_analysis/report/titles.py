"""The titles of a comparison's tables. Pure."""

from .comparison import Comparison


def titled(title: str, comparison: Comparison) -> str:
    """The title; it names the endpoints that are simulated, and says if figures are imported."""
    simulated = comparison.simulated
    if simulated:
        title += (
            ", simulated" if len(simulated) == len(comparison.endpoints) else f", simulated: {', '.join(simulated)}"
        )
    if any(row.imported for row in comparison.figures.values()):
        title += ", imported"
    return title
