"""What to write instead, where DuckDB refuses one of Dyno's functions and its message can't know them. Pure."""

import re
from typing import Final

_OWN: Final = "p|p_interval|share|share_known|tokens_per_s|ratio_interval|under|cost"
_FILTERED: Final = re.compile(rf'Function "({_OWN})" is a Macro Function', re.IGNORECASE)
_WINDOWED: Final = "Window function macro bodies must contain exactly one aggregate function"
_PIVOTED: Final = "Columns can only be referenced within the aggregate of a PIVOT expression"

# The spelling with DuckDB's own aggregates, which take FILTER, DISTINCT and a place in PIVOT.
_INSTEAD: Final = {
    "p": ("p(x, q, condition)", "quantile_cont(x, q) FILTER (WHERE condition)"),
    "p_interval": ("p_interval(x, q, condition)", "p_interval(CASE WHEN condition THEN x END, q)"),
    "share": ("share(a, condition)", "avg(CASE WHEN a THEN 1 ELSE 0 END) FILTER (WHERE condition)"),
    "share_known": ("share_known(a, condition)", "avg(CAST(a AS INTEGER)) FILTER (WHERE condition)"),
    "tokens_per_s": ("tokens_per_s(tokens, seconds, condition)", "sum(tokens) / sum(seconds), each with FILTER"),
    "ratio_interval": ("ratio_interval(CASE WHEN condition THEN a END, b)", "the same for b"),
    "under": ("count(*) FILTER (WHERE under(x, most))", "under(x, most) of each row"),
    "cost": ("sum(cost(endpoint, input, output)) FILTER (WHERE condition)", "cost(…) of each row"),
}


def hint(message: str) -> str:
    """What follows DuckDB's message, after a semicolon; empty for a message that needs none."""
    if found := _FILTERED.search(message):
        name = found[1].lower()
        return f"; Dyno's {name}(…) takes no FILTER: write {' or '.join(_INSTEAD[name])}"
    if _PIVOTED in message:
        return (
            "; PIVOT takes DuckDB's own aggregates: quantile_cont(x, q) instead of p(x, q), "
            "avg(CASE WHEN a THEN 1 ELSE 0 END) instead of share(a)"
        )
    if _WINDOWED in message:
        return (
            "; of Dyno's functions p, share and share_known take OVER: instead of tokens_per_s write "
            "sum(tokens) OVER (…) / sum(seconds) OVER (…), and join the groups' values instead of the others"
        )
    return ""
