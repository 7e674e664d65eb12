"""What a table says about its groups and its label: their columns and values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from retrofair.data import Batches
from retrofair.errors import InputError


def attributes_of(data: Batches) -> dict[str, tuple[str, ...]]:
    """By protected column the value of each group, of data that a table was made into."""
    made = getattr(data, "preparation", None)
    if made is None or tuple(made.group_names) != tuple(data.group_names):
        return {}
    return dict(zip(made.sensitive, zip(*made.groups, strict=True), strict=True))


def outcome_of(data: Batches) -> str:
    """The label's column and its positive value, where that is not 1 of 0/1."""
    made = getattr(data, "preparation", None)
    if made is None or made.positive is None:
        return ""
    plain = made.positive == "1" and made.negative in ((), ("0",))
    return "" if plain else f"{made.label} = {made.positive}"


def checked_attributes(
    given: Mapping[str, Sequence[str]] | None, names: tuple[str, ...]
) -> dict[str, tuple[str, ...]]:
    """The attributes as given, one value of each for every group.

    Raises:
        InputError: another number of values.
    """
    found = {str(name): tuple(map(str, values)) for name, values in (given or {}).items()}
    for name, values in found.items():
        if len(values) != len(names):
            raise InputError(
                f"expected a value of {name!r} for each of the {len(names)} groups, got "
                f"{len(values)} (attributes)"
            )
    return found
