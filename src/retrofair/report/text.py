"""Numbers and names as the page shows them."""

from __future__ import annotations

import decimal
import math
from typing import Any

MINUS, DASH = "\N{MINUS SIGN}", "\N{EN DASH}"

# for readers who do not know the measures; their exact meaning stands beside
LAY = {
    "spd": "Below 0 the unprivileged group gets the positive decision less often: "
    f"{MINUS}0.10 is ten "
    "people fewer in every hundred.",
    "eod": "The same among people whose true label is positive: how often they get it.",
    "aod": "Looks at both kinds of errors: people wrongly refused and people wrongly accepted.",
    "disparate_impact": "0.80 means that for every ten of the privileged group eight of the other "
    "are selected, in equal numbers of people.",
    "demographic_parity_difference": "How far apart the most and the least often selected groups "
    "are.",
    "demographic_parity_ratio": "The least often selected group beside the most often selected.",
    "equal_opportunity_difference": "How much more often true positives are found in the "
    "best-served group than in the worst-served.",
    "false_positive_rate_difference": "How unequally the groups are wrongly given the positive "
    "decision.",
    "equalized_odds_difference": "Neither kind of error should fall on one group more than on "
    "another: the larger of the two gaps.",
    "equalized_odds_ratio": "The same as a ratio; 1 would be equal.",
    "accuracy_difference": "Whether the decisions are right more often for one group.",
    "predictive_parity_difference": "Whether a positive decision is as reliable in each group.",
    "balanced_accuracy": "0.5 is no better than tossing a coin.",
    "accuracy": "With rare positives it is high even if nobody is ever selected.",
    "precision": "Of those selected, how many should be.",
    "recall": "Of those who should be selected, how many are.",
    "roc_auc": "How well the scores rank people, whatever the threshold; 0.5 is chance.",
}
# where more than two groups take the sign away
LAY_MANY = dict.fromkeys(
    ("spd", "eod", "aod"),
    "With more than two groups: the largest difference to the privileged one, without its sign.",
)


def number(value: Any, digits: int = 3) -> str:
    """A figure as the script on the page writes it: halves away from zero, a true minus.

    >>> number(-0.0005), number(-0.0004), number(None), number(0.0625)
    ('\N{MINUS SIGN}0.001', '0.000', '\N{EN DASH}', '0.063')
    """
    if value is None or math.isnan(value):
        return DASH
    if math.isinf(value):
        return (MINUS if value < 0 else "") + "\N{INFINITY}"
    unit = decimal.Decimal(1).scaleb(-digits)
    text = f"{decimal.Decimal(value).quantize(unit, decimal.ROUND_HALF_UP):f}"
    if not text.strip("-0."):
        text = text.lstrip("-")
    return text.replace("-", MINUS)


def span(low: Any, high: Any, digits: int = 3) -> str:
    """An interval, or a dash.

    >>> span(0.1, 0.25), span(None, 1.0)
    ('0.100 to 0.250', '\N{EN DASH}')
    """
    if low is None or high is None or math.isnan(low) or math.isnan(high):
        return DASH
    return f"{number(low, digits)} to {number(high, digits)}"


def signed(value: Any, digits: int = 3) -> str:
    """A change with its sign."""
    text = number(value, digits)
    return f"+{text}" if value is not None and value > 0 and text != DASH else text


def per_cent(value: float, digits: int = 1) -> str:
    """A share in per cent.

    >>> per_cent(0.2512)
    '25.1\N{NO-BREAK SPACE}%'
    """
    return f"{100 * value:.{digits}f}\N{NO-BREAK SPACE}%"


def plain(name: str) -> str:
    """A name without underscores."""
    return name.replace("_", " ")


def threshold_text(value: float) -> str:
    """A threshold with all its digits, but no more.

    >>> threshold_text(0.5), threshold_text(0.435), threshold_text(0.123456789)
    ('0.5', '0.435', '0.123456789')
    """
    return f"{value:.12g}".replace("-", MINUS)
