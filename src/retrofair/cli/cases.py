"""What `retrofair certify` certifies: a network with who there can be."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from retrofair.certifiers import Continuous, Domain, Integer
from retrofair.cli import options as o
from retrofair.data import GroupedData
from retrofair.errors import InputError
from retrofair.networks.nnet import read_nnet

SAMPLE = 1000  # people drawn from the domain where there are no data


@dataclass(frozen=True, eq=False)
class Case:
    """A network with who there can be.

    Args:
        rows: all rows of the data, as the network takes them.
        training: the rows for a covariance.
        box: where the domain's ranges come from.
    """

    network: nn.Module
    domain: Domain
    title: str
    box: str
    rows: GroupedData | None = None
    training: GroupedData | None = None

    def relaxed(self) -> Case:
        """The same with whole numbers that are not protected made continuous."""
        box = self.box + "; whole numbers that are not protected taken as continuous (--relax)"
        return replace(self, domain=self.domain.relaxed(), box=box)

    def people(self) -> Tensor:
        """The rows, or people drawn from the domain, as the network takes them."""
        dtype = next((p.dtype for p in self.network.parameters()), torch.float32)
        if self.rows is not None:
            return self.rows.x.to(dtype)
        domain, generator = self.domain, np.random.default_rng(0)
        raw = generator.uniform(domain.low, domain.high, (SAMPLE, domain.d))
        raw[:, domain.integer] = np.rint(raw[:, domain.integer])
        return torch.from_numpy(domain.to_inputs(raw)).to(dtype)


def of_table(choice: o.TableChoice, subject: o.Subject, network: str | None) -> Case:
    """A network on a data set or a file: the domain is the box around all of its rows."""
    rows = subject.rows
    what = "the base network trained here" if subject.trained_here else str(network)
    parts = " (training, validation and test)" if len(subject.parts) > 1 else ""
    return Case(
        subject.network,
        Domain.from_data(rows),
        f"{choice.data}: {what}",
        f"everybody in the box around all {len(rows):,} rows{parts}: every value of a category, "
        "every number between the smallest and the largest; among them are combinations that no "
        "real person has",
        rows,
        subject.parts[0],
    )


def of_nnet(path: str, sensitive: str | None, normalised: bool) -> Case:
    """A .nnet file: the domain is what its ranges allow, in whole numbers."""
    read = read_nnet(path, normalised=normalised)
    count = len(read.low)
    if sensitive is None:
        raise InputError(
            f"expected --sensitive NUMBER for a .nnet file, an input from 0 to {count - 1}"
        )
    free = {input_number(part, count) for part in o.commas(sensitive) or ()}
    features: list[Continuous | Integer] = []
    for i, (low, high) in enumerate(zip(read.low.tolist(), read.high.tolist(), strict=True)):
        whole = low == round(low) and high == round(high)
        features.append((Integer if whole else Continuous)(f"x{i}", low, high, i in free))
    return Case(
        read.network,
        Domain(features),
        f"{path}: {count} inputs",
        "everybody within the ranges of the file, in whole numbers where a range begins and ends "
        "with one; among them are combinations that no real person has",
    )


def input_number(text: str, count: int) -> int:
    """An input by number, 8 or x8."""
    digits = text[1:] if text[:1] in ("x", "X") else text
    if not digits.isdecimal() or not int(digits) < count:
        raise InputError(
            f"expected inputs from 0 to {count - 1} (8 or x8; several by commas), got {text!r} "
            "(--sensitive)"
        )
    return int(digits)
