"""A classifier of transformers as a network that answers with the library's logits."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from retrofair.data.label_names import plain
from retrofair.errors import InputError, unknown

# the task at the end of an architecture's name, and transformers' class that loads it
TASKS = {
    "ForSequenceClassification": "AutoModelForSequenceClassification",
    "ForImageClassification": "AutoModelForImageClassification",
}
MANY = "multi_label_classification"
GENERIC = re.compile(r"(label|class)?[ _-]?\d+")


class HuggingFaceNetwork(nn.Module):
    """A classifier whose outputs are logits as the library has them.

    (n,) for two classes, the difference of their logits, or for one; (n, K) otherwise. It takes a
    dict of its inputs, or its main one alone: pixels (n, c, h, w), or token ids (n, length), for
    which the attention mask is then wherever they are not the padding. Classifiers of transformers
    are wrapped in it by everything that takes a network. Where data know what their labels are
    called (`label_names`), its outputs are put into their order by the names in its config.

    Args:
        network: a classifier of sequences or images; it is held, not copied.
        output: the name or place of the one output to read, whose logit is that of label 1, for
            networks that tell several things at once (multi-label).

    Raises:
        InputError: a network of several labels at once without `output`, or one that it has not; an
            `output` of one whose classes exclude each other.
    """

    def __init__(self, network: nn.Module, *, output: str | int | None = None) -> None:
        super().__init__()
        self.network = network
        self.main = str(getattr(network, "main_input_name", "input_ids"))
        self.padding = getattr(getattr(network, "config", None), "pad_token_id", None)
        self.output: int | None = None if output is None else _place(output, class_names(network))
        # which output stands for each label; None: as they come
        self.order: tuple[int, ...] | None = None
        self.training = network.training
        if output is None:
            _refuse_many(network)
        else:
            _refuse_one(network)

    @property
    def names(self) -> tuple[str, ...]:
        """What the config calls the outputs that are read; () where it does not."""
        found = class_names(self.network)
        return found if self.output is None or not found else (found[self.output],)

    def forward(self, x: Tensor | None = None, **named: Tensor) -> Tensor:
        if x is not None:
            named = self._named(x)
        named.pop("labels", None)  # of batches made for training: for a loss that nobody asks for
        out = self.network(**named)
        return self.read(out[0] if isinstance(out, tuple) else out.logits)

    def read(self, logits: Tensor) -> Tensor:
        """(n,) or (n, K) of all that the classifier says, (n, outputs)."""
        if self.output is not None:
            logits = logits[:, self.output : self.output + 1]
        outputs = logits.shape[1]
        order = self.order
        if order is None or len(order) != max(2, outputs):
            order = tuple(range(max(2, outputs)))
        if outputs == 1:
            return -logits[:, 0] if order == (1, 0) else logits[:, 0]
        if outputs == 2:
            return logits[:, order[1]] - logits[:, order[0]]
        if order == tuple(range(outputs)):
            return logits
        return torch.stack([logits[:, place] for place in order], 1)

    def arranged(
        self, order: Sequence[int] | None, output: int | None = None
    ) -> HuggingFaceNetwork:
        """The same network, not a copy, with its outputs in this order.

        Args:
            order: which output stands for each label; None: as they come.
            output: as of the class; None: as it is.
        """
        made = HuggingFaceNetwork(self.network, output=self.output if output is None else output)
        made.main, made.padding = self.main, self.padding
        plain = order is None or list(order) == sorted(order)
        made.order = None if plain or order is None else tuple(order)
        made.training = self.training
        return made

    def extra_repr(self) -> str:
        # it tells networks apart, by which records of them are found; "" where nothing is turned
        said = {"output": self.output, "order": self.order}
        return ", ".join(f"{name}={value}" for name, value in said.items() if value is not None)

    def _named(self, x: Tensor) -> dict[str, Tensor]:
        if self.main != "input_ids":
            return {self.main: x}
        ids = x.long()  # a table holds them as numbers
        if self.padding is None:
            return {self.main: ids}
        return {self.main: ids, "attention_mask": (ids != self.padding).long()}


def is_classifier(model: object) -> bool:
    """Whether this is a classifier of transformers, as its own code runs it; known by names, so
    that transformers is not imported for it."""
    kinds = type(model).__mro__
    ours = getattr(getattr(type(model), "forward", None), "__module__", None) or ""
    return (
        isinstance(model, nn.Module)
        and ours.startswith("transformers")  # what a forward of the user's own gives is not known
        and any(kind.__name__ == "PreTrainedModel" for kind in kinds)
        and any(kind.__name__.endswith(tuple(TASKS)) for kind in kinds)
    )


def refuse_adapters(model: object) -> None:
    """Refuse a network of the package peft, whose own weights are not those that it decides by.

    Raises:
        InputError: it is one.
    """
    if any(
        kind.__name__ == "PeftModel" and kind.__module__.startswith("peft")
        for kind in type(model).__mro__
    ):
        raise InputError(
            f"expected a network with weights of its own, got {type(model).__name__}, which has "
            "adapters beside them: merge them in a copy, copy.deepcopy(model).merge_and_unload()"
        )


def class_names(network: Any) -> tuple[str, ...]:
    """The outputs' names in order, as a network's config has them; () where it has none.

    `id2label` counts; `label2id` where that has the names that transformers makes up.
    """
    config = getattr(network, "config", None)
    of_id, of_label = getattr(config, "id2label", None), getattr(config, "label2id", None)
    named = _in_order(of_id)
    if (not named or generic(named)) and isinstance(of_label, Mapping):
        turned = _in_order({place: name for name, place in of_label.items()})
        if len(turned) == len(of_label) and len(turned) in (len(named) or len(turned),):
            return turned
    return named


def generic(names: Sequence[str]) -> bool:
    """Whether names say no more than places: LABEL_0, LABEL_1."""
    return all(GENERIC.fullmatch(name.strip().casefold()) for name in names)


def _in_order(names: Any) -> tuple[str, ...]:
    if not isinstance(names, Mapping):
        return ()
    try:
        by_place = {int(place): str(name) for place, name in names.items()}
    except (TypeError, ValueError):
        return ()
    if sorted(by_place) != list(range(len(by_place))):
        return ()
    return tuple(by_place[place] for place in range(len(by_place)))


def _place(output: str | int, names: tuple[str, ...]) -> int:
    known = [plain(name) for name in names]
    if isinstance(output, str) and output.isdecimal() and plain(output) not in known:
        output = int(output)
    if isinstance(output, int) and not isinstance(output, bool):
        if not 0 <= output < (len(names) or output + 1):
            raise InputError(f"expected output from 0 to {len(names) - 1}, got {output}")
        return output
    if plain(str(output)) not in known:
        raise unknown("output", str(output), names)
    return known.index(plain(str(output)))


def _refuse_one(network: nn.Module) -> None:
    """An output of a softmax says nothing by itself."""
    names = class_names(network)
    if _kind(network) != MANY and len(names) > 1:
        raise InputError(
            f"expected a network of several labels at once to read one output, got one of "
            f"{len(names)} classes that exclude each other ({_shown(names)}): leave output out "
            f"(--label-output), or set problem_type={MANY!r} in its config where they do not"
        )


def _kind(network: nn.Module) -> str | None:
    return getattr(getattr(network, "config", None), "problem_type", None)


def _shown(names: Sequence[str]) -> str:
    return f"{', '.join(names[:6])}{', ...' if len(names) > 6 else ''}"


def _refuse_many(network: nn.Module) -> None:
    names = class_names(network)
    if _kind(network) != MANY or len(names) < 2:
        return
    raise InputError(
        f"expected a network whose classes exclude each other, got one of {len(names)} labels at "
        f"once ({_shown(names)}; problem_type={MANY!r} "
        "in its config): choose one output, networks.HuggingFaceNetwork(model, "
        f"output={names[0]!r}), on the command line --label-output {names[0]!r} or a label's "
        "column that is called as one of them; or audit one label's decisions as a column "
        "(--prediction)"
    )
