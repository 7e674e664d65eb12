"""What a network's x is made of: the tensors that a file takes one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from retrofair.errors import InputError

ROWS, TOKENS = "rows", "tokens"  # names of dimensions whose size is free
GROUP, OUTPUTS = "group", ("probability", "decision")  # what a file calls the rest
RESERVED = (GROUP, *OUTPUTS)
TABLE, OTHER = 8_192, 64  # rows at a time: what networks make of images and texts is large


@dataclass(frozen=True)
class Input:
    """One input of an exported network: its name, type, and what its columns are.

    Args:
        shape: the sizes of its dimensions, and names of those that are free.
    """

    name: str
    dtype: str
    shape: tuple[int | str, ...]
    columns: tuple[str, ...] = ()

    @property
    def free(self) -> dict[int, str]:
        """The dimensions whose size is free, by name."""
        return {axis: size for axis, size in enumerate(self.shape) if isinstance(size, str)}

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return {
            "name": self.name,
            "dtype": self.dtype,
            "shape": list(self.shape),
            "columns": list(self.columns),
        }


@dataclass(frozen=True)
class Form:
    """A tensor, a tuple of tensors, or a dict of them as tokenizers make it.

    Args:
        kind: Tensor, tuple or dict.
        names: of the tensors.
    """

    kind: type = Tensor
    names: tuple[str, ...] = ("x",)

    @classmethod
    def of(cls, x: Any) -> Form:
        """That of some rows' x."""
        if isinstance(x, dict):
            return cls(dict, tuple(x))
        if isinstance(x, tuple | list):
            return cls(tuple, tuple(f"x{place}" for place in range(len(x))))
        return cls()

    def parts(self, x: Any) -> list[Tensor]:
        """The tensors of x, in the order of the names."""
        if self.kind is dict:
            return [x[name] for name in self.names]
        return list(x) if self.kind is tuple else [x]

    def joined(self, parts: Sequence[Tensor]) -> Any:
        """x of such tensors."""
        if self.kind is dict:
            return dict(zip(self.names, parts, strict=True))
        return tuple(parts) if self.kind is tuple else parts[0]

    def width(self, parts: Sequence[Tensor]) -> int | None:
        """How many tokens a row has, where these may be tokens: whole numbers, of one width."""
        if self.kind is Tensor or any(each.is_floating_point() for each in parts):
            return None
        widths = {each.shape[1] if each.ndim == 2 else None for each in parts}
        return widths.pop() if len(widths) == 1 else None

    def inputs(
        self, x: Any, columns: tuple[str, ...] = (), *, tokens: bool = False
    ) -> tuple[Input, ...]:
        """What a file says that it takes.

        Args:
            tokens: whether rows may have more or fewer of them.

        Raises:
            InputError: a name that a file has for something else.
        """
        taken = [name for name in self.names if name in RESERVED]
        if taken:
            raise InputError(
                f"expected x to be a dict without {taken[0]!r}, which an exported file has a "
                "meaning of its own for: give that tensor another name"
            )
        parts = self.parts(x)
        return tuple(
            Input(
                name,
                str(each.dtype).removeprefix("torch."),
                (ROWS, TOKENS) if tokens else (ROWS, *each.shape[1:]),
                columns if each.ndim == 2 else (),
            )
            for name, each in zip(self.names, parts, strict=True)
        )


def at_once(parts: Sequence[Tensor]) -> int:
    """How many rows are taken at a time."""
    tables = all(each.ndim == 2 and each.is_floating_point() for each in parts if each.ndim > 1)
    return TABLE if tables else OTHER
