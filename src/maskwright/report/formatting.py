"""Numbers as people read them: one function per kind of quantity, each returning text.

Every function takes ``None`` for "not measured" and answers with an em dash. A real minus sign
(U+2212) is used because a hyphen vanishes next to digits.
"""

import math

NOT_MEASURED = "—"
MINUS = "\u2212"


def number(value: float | None, digits: int, *, signed: bool = False, suffix: str = "") -> str:
    """A number with fixed decimals, thousands separated: ``number(1234.5, 1) == "1,234.5"``."""
    if value is None:
        return NOT_MEASURED
    if math.isnan(value):
        return "not a number"
    if math.isinf(value):
        return "∞" if value > 0 else f"{MINUS}∞"
    text = f"{value:{'+' if signed else ''},.{digits}f}"
    if not any(character in "123456789" for character in text):
        # A difference that rounds to nothing has no direction, so it gets no sign.
        text = text.lstrip("+-")
    return text.replace("-", MINUS) + suffix


def loss(value: float | None, *, signed: bool = False) -> str:
    """Cross-entropy in nats per predicted token, three decimals."""
    return number(value, 3, signed=signed)


def perplexity(value: float | None, *, signed: bool = False) -> str:
    """exp(loss): one decimal below a thousand, none above."""
    digits = 0 if value is not None and abs(value) >= 1000 else 1
    return number(value, digits, signed=signed)


def accuracy(value: float | None, *, signed: bool = False) -> str:
    """A share in 0..1 as a percentage; a signed one is a difference, in percentage points."""
    scaled = None if value is None else 100 * value
    return number(scaled, 2, signed=signed, suffix=" points" if signed else "%")


def score(value: float | None, *, signed: bool = False) -> str:
    """BLEU or chrF, from 0 to 100, one decimal."""
    return number(value, 1, signed=signed)


def interval(low: float | None, high: float | None, one) -> str:
    """``[low, high]`` with each end written by ``one``; an em dash when either is unknown."""
    if low is None or high is None:
        return f"[{NOT_MEASURED}]"
    return f"[{one(low)}, {one(high)}]"


def count(value: float | None) -> str:
    """A whole number, thousands separated, or in millions from ten million up."""
    if value is not None and abs(value) >= 10_000_000:
        return number(value / 1_000_000, 1, suffix=" M")
    return number(value, 0)


def duration(seconds: float | None) -> str:
    """Seconds as ``21.0 s``, ``5 min 41 s`` or ``2 h 05 min``."""
    if seconds is None or not math.isfinite(seconds) or seconds < 60:
        return number(seconds, 1, suffix=" s")
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min"


def percent(level: float) -> str:
    """A confidence level, without needless decimals: ``percent(0.95) == "95%"``."""
    return f"{100 * level:.4g}%"


def shortened(name: str, length: int) -> str:
    """At most ``length`` characters, the last an ellipsis where something was cut."""
    return name if len(name) <= length else name[: length - 1] + "…"
