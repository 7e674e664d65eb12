"""The .nnet text format: sizes, ranges, normalisation, and files that are none."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import torch
from torch import nn

from retrofair.errors import InputError, MissingFileError
from retrofair.networks.nnet import read_nnet

LOW, HIGH = [0.0, -2.0, 1.0], [4.0, 2.0, 9.0]
MEAN, SPREAD = [1.0, 0.5, 4.0, 2.5], [2.0, 4.0, 8.0, 3.0]  # the last is the outputs'


def layers(sizes: tuple[int, ...], seed: int = 0) -> list[nn.Linear]:
    torch.manual_seed(seed)
    return [nn.Linear(a, b) for a, b in itertools.pairwise(sizes)]


def text_of(affine: list[nn.Linear], head: str = "// a comment, with commas\n") -> str:
    """The file as the format's standard says it."""
    sizes = [affine[0].in_features, *(layer.out_features for layer in affine)]
    rows = [[len(affine), sizes[0], sizes[-1], max(sizes)], sizes, [0], LOW, HIGH, MEAN, SPREAD]
    for layer in affine:
        rows += layer.weight.tolist()
        rows += [[value] for value in layer.bias.tolist()]
    return head + "".join(",".join(map(repr, row)) + ",\n" for row in rows)


def written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def plain(affine: list[nn.Linear], x: torch.Tensor) -> torch.Tensor:
    for layer in affine[:-1]:
        x = layer(x).relu()
    return affine[-1](x)


@pytest.fixture
def x() -> torch.Tensor:
    return torch.rand(50, 3, generator=torch.Generator().manual_seed(1)) * 8 - 2


@pytest.mark.parametrize("sizes", [(3, 1), (3, 5, 1), (3, 4, 6, 1), (3, 5, 2)])
def test_the_network_and_its_ranges(sizes, tmp_path, x):
    affine = layers(sizes)
    read = read_nnet(written(tmp_path / "net.nnet", text_of(affine)))
    expected = plain(affine, x)
    found = read.network(x)
    assert found.shape == ((50,) if sizes[-1] == 1 else (50, sizes[-1]))
    torch.testing.assert_close(found, expected.detach().reshape(found.shape))
    assert read.low.tolist() == LOW
    assert read.high.tolist() == HIGH
    assert not read.network.training
    assert not any(p.requires_grad for p in read.network.parameters())


@pytest.mark.parametrize("sizes", [(3, 1), (3, 5, 1), (3, 5, 4, 2)])
def test_normalised_is_what_the_standard_says(sizes, tmp_path, x):
    """Inputs minus mean over range; outputs times range plus mean."""
    affine = layers(sizes)
    read = read_nnet(written(tmp_path / "net.nnet", text_of(affine)), normalised=True)
    inputs = (x - torch.tensor(MEAN[:3])) / torch.tensor(SPREAD[:3])
    expected = (plain(affine, inputs) * SPREAD[3] + MEAN[3]).detach()
    found = read.network(x)
    torch.testing.assert_close(found, expected.reshape(found.shape), rtol=1e-4, atol=1e-4)


def test_without_the_option_means_and_ranges_change_nothing(tmp_path):
    text = text_of(layers((3, 4, 1)))
    odd = text.replace(",".join(map(repr, MEAN)), "7,7,7,7").replace(
        ",".join(map(repr, SPREAD)), "0,0,0,0"
    )
    assert odd != text
    one = read_nnet(written(tmp_path / "one.nnet", text)).network
    two = read_nnet(written(tmp_path / "two.nnet", odd)).network
    for key, value in one.state_dict().items():
        assert torch.equal(value, two.state_dict()[key])


def test_comments_empty_lines_and_missing_last_commas(tmp_path, x):
    affine = layers((3, 4, 1))
    text = text_of(affine, "// one\n//two\n\n").replace(",\n", "\n")
    torch.testing.assert_close(
        read_nnet(written(tmp_path / "net.nnet", text)).network(x),
        plain(affine, x).detach()[:, 0],
    )


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(MissingFileError, match=r"nowhere\.nnet is not there"):
        read_nnet(tmp_path / "nowhere.nnet")
    with pytest.raises(MissingFileError, match="is not there"):
        read_nnet(tmp_path)


def lines_of(text: str) -> list[str]:
    return text.splitlines(keepends=True)


GOOD = text_of(layers((3, 4, 1)))


@pytest.mark.parametrize(
    "text",
    {
        "empty": "",
        "only a comment": "// hello\n",
        "no numbers": "hello, world\n" * 9,
        "one number": "3,\n",
        "cut": GOOD[: len(GOOD) // 2].rsplit("\n", 1)[0] + "\n",
        "cut in a row": GOOD[: len(GOOD) // 2],
        "last bias missing": "".join(lines_of(GOOD)[:-1]),
        "sizes of another network": GOOD.replace("3,4,1,\n", "3,5,1,\n"),
        "more layers than sizes": GOOD.replace("2,3,1,4,\n", "3,3,1,4,\n"),
        "too few ranges": GOOD.replace(",".join(map(repr, LOW)), "0"),
    }.items(),
    ids=lambda item: item[0],
)
def test_broken_files(text, tmp_path):
    path = written(tmp_path / "net.nnet", text[1])
    with pytest.raises(InputError, match=r"expected a \.nnet file, but .*net\.nnet") as error:
        read_nnet(path)
    assert "\n" not in str(error.value)


def test_bytes_that_are_no_text(tmp_path):
    path = tmp_path / "net.nnet"
    path.write_bytes(b"\x80\x04\x95\xff\xfe")
    with pytest.raises(InputError, match="cannot be read"):
        read_nnet(path)


def test_normalising_needs_a_mean_and_a_range_for_each(tmp_path):
    text = GOOD.replace(",".join(map(repr, MEAN)), "1,2,3")
    path = written(tmp_path / "net.nnet", text)
    read_nnet(path)
    with pytest.raises(InputError, match="no mean and range"):
        read_nnet(path, normalised=True)
