"""The page: a record's values put into templates, styles and scripts, all in one file."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, UndefinedError
from markupsafe import Markup

from retrofair.debiasers import Effects
from retrofair.debiasers.effects_text import plain
from retrofair.errors import InputError
from retrofair.files import json_text
from retrofair.report.audits import audit_context
from retrofair.report.individuals import certificate_context, curve_context, repair_context
from retrofair.report.numbers import numbers_context
from retrofair.report.points import comparison_context, frontier_context
from retrofair.report.text import number, per_cent, signed, span, threshold_text

STYLES = ("page.css", "figures.css")
SCRIPTS = ("formulas.js", "slider.js", "points.js", "layout.js")
GRAVE = ("Degenerate", "The network is degenerate", "The network is (nearly) constant")
# of what is said of effects, what an expert would object to
GREW = (
    *("Levelling down", "Partly levelling", "Perhaps levelling"),
    *("Constraints whose bias grew", "Other bias that grew"),
)


def page(values: Mapping[str, Any]) -> str:
    """The HTML of a record.

    Raises:
        InputError: values that no command of this version writes.
    """
    try:
        return environment().get_template("page.html").render(_context(values))
    except (
        *(KeyError, TypeError, ValueError, IndexError, AttributeError, UndefinedError),
        RecursionError,  # of values nested too deep
    ) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"expected the values that a command of this version writes, got others: {error!r}; "
            "run the command again with the same --out"
        ) from None


@cache
def environment() -> Environment:
    """Templates that escape whatever is put into them."""
    made = Environment(
        loader=PackageLoader("retrofair.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    made.filters |= {"number": number, "signed": signed, "per_cent": per_cent}
    made.filters |= {"plain": plain, "cut": threshold_text}
    made.globals |= {"span": span}
    return made


def script_json(values: Any) -> Markup:
    """JSON that no text in it can end a script element with, or start one.

    >>> script_json(["</script>"])
    Markup('["\\\\u003c/script\\\\u003e"]')
    """
    text = json_text(values, indent=None)
    for char in "<>&\N{LINE SEPARATOR}\N{PARAGRAPH SEPARATOR}":
        text = text.replace(char, f"\\u{ord(char):04x}")
    return Markup(text)


def _asset(name: str) -> Markup:
    return Markup(files("retrofair.report").joinpath("assets", name).read_text(encoding="utf-8"))


def _context(values: Mapping[str, Any]) -> dict[str, Any]:
    audit = values.get("audit")
    main = audit_context(audit, values.get("before")) if audit is not None else None
    effects = values.get("effects")
    frontier, curve = values.get("frontier"), values.get("curve")
    certificate, comparison = values.get("certificate"), values.get("comparison")
    repaired, numbers = values.get("repair"), values.get("numbers")
    delta = certificate["delta"] if certificate else None
    found: dict[str, Any] = {
        "main": main,
        "result": values.get("result"),
        "effects": None if effects is None else Effects.from_dict(effects),
        "comparison": None if comparison is None else comparison_context(comparison),
        "frontier": None if frontier is None else frontier_context(frontier, values["choose"]),
        "certificate": None if certificate is None else certificate_context(certificate),
        "curve": None if not curve else curve_context(curve, delta),
        "repair": None if repaired is None else repair_context(repaired),
        "numbers": None if numbers is None else numbers_context(numbers, values),
    }
    flags = _flags(values, main, found["effects"])
    return {
        **found,
        "about": values,
        "on_fit": values.get("on_fit"),
        "grave": [flag for flag in flags if flag.startswith(GRAVE)],
        "flags": [flag for flag in flags if not flag.startswith(GRAVE)],
        "contents": _contents(found),
        "known": _known(values),
        "live": None if main is None or main["live"] is None else script_json(main["live"]),
        "styles": [_asset(name) for name in STYLES],
        "scripts": [_asset(name) for name in SCRIPTS],
    }


def _flags(
    values: Mapping[str, Any], main: Mapping[str, Any] | None, effects: Effects | None
) -> list[str]:
    """What an expert would object to, of all results, each once; degenerate ones first."""
    flags = []
    result = values.get("result")
    if result is not None and result["status"] == "degenerate":
        flags.append(
            "Degenerate: the debiased network decides alike for (almost) everybody, or a constant "
            "classifier scores as well. Do not use it."
        )
    if main is not None:
        flags += main["audit"].flags
    if result is not None:
        if result["status"] == "not_met":
            flags.append("The goal was not met on the data that the method was fitted to.")
        flags += result["notes"]
    if effects is not None:
        flags += [line for line in effects.sentences() if line.startswith(GREW)]
    for name in ("frontier", "certificate", "repair", "numbers"):
        if values.get(name) is not None:
            flags += values[name].get("flags", ())
    return list(dict.fromkeys(flag[:1].upper() + flag[1:] for flag in flags))


def _known(values: Mapping[str, Any]) -> set[str]:
    """What a result says of itself and the options or versions say too."""
    said = {name.lstrip("-").replace("-", "_") for name, _ in values["options"]}
    return said | {name for name, _ in values["versions"]} | {"seed", "method", "data"}


def _contents(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The sections that are there: an anchor and a name."""
    main = found["main"]
    known = [
        ("data", "The data", main),
        ("figures", "Measures", main),
        ("numbers", "Loss by group", found["numbers"]),
        ("impact", "Impact ratios", main and (main["impact"] or None)),
        ("changes", "Before and after", found["effects"]),
        ("networks", "Networks compared", found["comparison"]),
        ("frontier", "Frontier", found["frontier"]),
        ("individuals", "Similar people", found["certificate"] or found["curve"]),
        ("repair", "Repair", found["repair"]),
    ]
    shown = [(anchor, name) for anchor, name, there in known if there is not None]
    return [*shown, ("limits", "Limits"), ("reproduce", "Reproduce")]
