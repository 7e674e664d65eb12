"""What `retrofair init` writes: a commented TOML file of options."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from retrofair.data.guesses import Guess, Guesses

WIDTH = 96  # of a comment
ABOUT = (
    "Options of retrofair's commands, read only when asked for with --config; those on the command "
    "line win. A key above the first [table] is for every command that has the option, one below "
    "for that command alone. Paths are relative to this file."
)
USES = """
   retrofair audit --config {name}
   retrofair debias --config {name} --out fair/
   retrofair certify --config {name}"""
FURTHER = """
# true: leave the protected columns out of the features
blind = false
seed = 0

# Your own network; without one, debias and the others train a base network.
# network = "mymodels:make_net"  # a function that returns an nn.Module
# weights = "net.safetensors"
# images = "faces/"  # a folder or zip: the table above then names them and holds their labels
# text = "review"  # or a column of texts; network is the folder of a Hugging Face classifier

[audit]
{audit}

[debias]
measure = "spd"  # selection rates; "eod", "aod": given the label. See retrofair debias --help
epsilon = 0.05  # the bound on the bias
method = "fair_head"
performance = "balanced_accuracy"

[frontier]
measure = "spd"
choose = "bias=0.05"

[certify]
epsilon = 0.2  # how far apart two similar people are, in standard deviations
# tolerance = {example}  # or in the columns' own units; then remove epsilon
# delta = 0.1  # ask whether no such pair differs by more
seconds = 60

[repair]
epsilon = 0.2
delta = 0.1
"""


@dataclass(frozen=True)
class Setting:
    """One line of the file: a key, its value (None: to be filled in), and why."""

    key: str
    value: Any
    why: str


def settings_of_table(data: str, found: Guesses) -> list[Setting]:
    """The settings that guesses about a table make."""
    lines = [Setting("data", data, f"{found.rows:,} rows")]
    for key, guess, absent in (
        ("label", found.label, "no column of two values found: name the one to predict"),
        ("positive", found.positive, "name the favourable value of the label"),
        ("sensitive", found.sensitive, "no column is called like a protected one: name it"),
        ("privileged", found.privileged, "name the privileged value"),
    ):
        lines.append(_setting(key, guess, absent))
    if found.drop or found.telling:
        why = "; ".join(f"{name}: {reason}" for name, reason in found.drop.items())
        if found.telling:
            listed = "; ".join(f"{name} {reason}" for name, reason in found.telling.items())
            why += f"{'. ' if why else ''}Known only afterwards? Then drop it too: {listed}"
        lines.append(Setting("drop", list(found.drop), why))
    lines.append(Setting("missing", found.missing.value, found.missing.why))
    return lines


def _setting(key: str, guess: Guess | None, absent: str) -> Setting:
    if guess is None:
        return Setting(key, None, absent)
    return Setting(key, guess.value, guess.why + ("" if guess.sure else ": a guess, check it"))


def text_of_config(
    name: str,
    lines: Sequence[Setting],
    *,
    protected: Mapping[str, str],
    prediction: str | None,
    numbers: Sequence[str],
) -> str:
    """The whole file.

    Args:
        name: of the file, as the commands in its comments call it.
        protected: further columns that may be named as sensitive, with a remark.
        prediction: a column of decisions, or None.
        numbers: names of numeric features, for an example.
    """
    tables = {
        "example": f"{{ {_key(numbers[0])} = 1 }}" if numbers else "{ age = 5 }",
        "audit": 'threshold = 0.5\n# prediction = "decision"  # a column of decisions'
        if prediction is None
        else _assigned("prediction", prediction),
    }
    out = [*_comment(ABOUT), *(f"#{line}" for line in USES.format(name=name).splitlines())]
    for line in lines:
        out += ["", *_comment(line.why)]
        if line.key == "sensitive" and protected:
            out += _comment("Also found; several, as a list, make their intersections the groups:")
            for column, remark in protected.items():
                out += _comment(f"  {column}: {remark}")
        out.append(_assigned(line.key, line.value))
    return "\n".join(out) + "\n" + FURTHER.format(**tables)


def _assigned(key: str, value: Any) -> str:
    if value is None:
        return f'# {key} = ""'
    return f"{key} = {_toml(value)}"


def _toml(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    # JSON's texts are TOML's, but for one sign
    return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")


def _key(name: str) -> str:
    plain = all(sign.isascii() and (sign.isalnum() or sign in "-_") for sign in name)
    return name if name and plain else _toml(name)


def _comment(text: str) -> list[str]:
    """The text as lines of a comment; what cannot be printed becomes a space."""
    plain = "".join(sign if sign.isprintable() else " " for sign in text)
    indent = " " * (len(plain) - len(plain.lstrip()))
    lines: list[str] = []
    line = ""
    for word in plain.split():
        if line and len(line) + len(word) + 1 > WIDTH:
            lines.append(line)
            line = ""
        line = f"{line} {word}" if line else word
    return [f"# {indent}{each}" for each in [*lines, line]]
