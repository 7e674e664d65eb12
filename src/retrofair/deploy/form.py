"""What a network's x is made of: the tensors that a file takes one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

ROWS, TOKENS = "rows", "tokens"  # names of dimensions whose size is free
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

    def inputs(self, x: Any, columns: tuple[str, ...] = ()) -> tuple[Input, ...]:
        """What a file says that it takes.

        Whole numbers in several tensors of one width are tokens, which may be more or fewer.
        """
        parts = self.parts(x)
        widths = {tuple(each.shape[1:]) for each in parts}
        whole = not any(each.is_floating_point() for each in parts)
        tokens = self.kind is not Tensor and whole and len(widths) == 1 and parts[0].ndim == 2
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
