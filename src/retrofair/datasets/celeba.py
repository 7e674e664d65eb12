"""CelebA: 202,599 photographs of celebrities with 40 attributes each, and scores of skin tone.

What is predicted (`target`): one of the attributes, Smiling unless another is named. Groups:
"skin" (Light is privileged) or any attribute (having it is privileged). Skin tone is read off two
scores per image, one for darker and one for lighter skin (Savani et al.): only the 134,173 images
with one of them above 0.7 are used then, and never has an image both. Element i of the scores
belongs to image i + 1. The reference code chooses its test images by the position in the test
part, where scores of training images stand; here every image is judged by its own.

The published files hold no images. With `images=`, a folder or zip with 000001.jpg to 202599.jpg,
`load` gives them as `StreamedData`. Without it the other 39 attributes, 0/1, are the features of
`GroupedData` (with "skin" as one more if that is the sensitive column), which is a table to try
things on and not what the papers report about.

The split is the official one; `parts=` makes one at random from the seed. `rows=(40_000, None,
10_000)` draws so many rows of the training, validation and test part by the seed, as the papers
do. CelebA is for non-commercial research only.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from retrofair.data.encoders import Array
from retrofair.datasets.base import Cut, DataSet, Protected, broken
from retrofair.datasets.fetch import DataFile
from retrofair.errors import InputError, unknown

ATTRIBUTES_FILE = "celeba/list_attr_celeba01.csv.zip"
SPLIT_FILE = "celeba/list_eval_partition.csv.gz"
DARK_FILE, LIGHT_FILE = "celebrace/fitz_dark.npy", "celebrace/fitz_light.npy"
LABEL, IMAGE, PART, SKIN = "label", "image", "part", "skin"
SURE = 0.7  # the score above which a skin tone counts
ATTRIBUTES: tuple[str, ...] = (
    *("5_o_Clock_Shadow", "Arched_Eyebrows", "Attractive", "Bags_Under_Eyes", "Bald", "Bangs"),
    *("Big_Lips", "Big_Nose", "Black_Hair", "Blond_Hair", "Blurry", "Brown_Hair"),
    *("Bushy_Eyebrows", "Chubby", "Double_Chin", "Eyeglasses", "Goatee", "Gray_Hair"),
    *("Heavy_Makeup", "High_Cheekbones", "Male", "Mouth_Slightly_Open", "Mustache"),
    *("Narrow_Eyes", "No_Beard", "Oval_Face", "Pale_Skin", "Pointy_Nose", "Receding_Hairline"),
    *("Rosy_Cheeks", "Sideburns", "Smiling", "Straight_Hair", "Wavy_Hair", "Wearing_Earrings"),
    *("Wearing_Hat", "Wearing_Lipstick", "Wearing_Necklace", "Wearing_Necktie", "Young"),
)


def read(
    paths: Mapping[str, Path],
    *,
    sensitive: Sequence[str] = (),
    target: str = "Smiling",
    rows: Sequence[int | None] | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """A row for every image: its name, its official part, the attributes, the label."""
    if target not in ATTRIBUTES:
        raise unknown("target", target, ATTRIBUTES)
    if target in sensitive:
        raise InputError(
            f"expected a sensitive attribute other than {target!r}, which is predicted: take "
            "another, or another target=..."
        )
    table = _attributes(paths[ATTRIBUTES_FILE])
    table[PART] = _official(paths[SPLIT_FILE], table[IMAGE])
    if SKIN in sensitive:
        table = _with_skin(table, paths[DARK_FILE], paths[LIGHT_FILE])
    if rows is not None:
        table = table.iloc[_drawn(table[PART].to_numpy(), rows, seed)]
    table = table.reset_index(drop=True)
    table[LABEL] = table.pop(target).astype(int)
    return table


def _attributes(place: Path) -> pd.DataFrame:
    with zipfile.ZipFile(place) as archive, archive.open("list_attr_celeba01.csv") as file:
        raw = pd.read_csv(file)
    values = raw[list(ATTRIBUTES)].to_numpy()
    if not len(raw) or not np.isin(values, (0, 1)).all():
        raise broken(place, "no rows" if not len(raw) else "values other than 0 and 1")
    table = pd.DataFrame(values.astype(bool), columns=list(ATTRIBUTES))
    table.insert(0, IMAGE, raw["image_id"])
    return table


def _official(place: Path, images: pd.Series) -> Array:
    raw = pd.read_csv(place, names=[IMAGE, PART], header=0)
    if not raw[IMAGE].equals(images) or not raw[PART].isin([0, 1, 2]).all():
        raise broken(place, "other images than the attributes, or parts other than 0, 1 and 2")
    return raw[PART].to_numpy()


def _with_skin(table: pd.DataFrame, dark: Path, light: Path) -> pd.DataFrame:
    """The rows whose skin tone one of the two scores is sure of."""
    sure = []
    for place in (dark, light):
        try:
            scores = np.load(place, allow_pickle=False)
        except (ValueError, OSError, EOFError) as error:
            raise broken(place, f"{type(error).__name__}: {error}") from None
        number = table[IMAGE].str.removesuffix(".jpg").astype(int).to_numpy()
        if scores.ndim != 1 or len(scores) < number.max():
            raise broken(place, f"shape {scores.shape} for {number.max():,} images")
        sure.append(scores[number - 1] > SURE)
    is_dark, is_light = sure
    kept = is_dark != is_light
    table = table[kept].copy()
    table[SKIN] = np.where(is_dark[kept], "Dark", "Light")
    return table


def _drawn(part: Array, rows: Any, seed: int) -> Array:
    """Rows drawn from each part, in the table's order."""
    if not isinstance(rows, Sequence) or len(rows) != 3:
        raise InputError(
            f"expected rows of training, validation and test part, None for all, got {rows!r}; "
            "such as rows=(40_000, None, 10_000)"
        )
    generator = np.random.default_rng(seed)
    chosen = []
    for code, wanted in enumerate(rows):
        of_part = np.flatnonzero(part == code)
        many = len(of_part) if wanted is None else wanted
        if not 0 <= many <= len(of_part):
            raise InputError(
                f"expected at most {len(of_part):,} rows of part {code}, got {many:,} (rows)"
            )
        chosen.append(generator.permutation(of_part)[:many])
    return np.sort(np.concatenate(chosen))


def _protected(name: str) -> Protected:
    lacking = {"Male": "Female"}.get(name, f"not {name}")
    return Protected(name, Cut(1, lacking, name))


TERMS = "for non-commercial research, from the authors of CelebA; "
CELEBA = DataSet(
    name="celeba",
    label=LABEL,
    protected={
        SKIN: Protected("Light"),
        "Male": _protected("Male"),
        "Young": _protected("Young"),
        **{name: _protected(name) for name in ATTRIBUTES},
    },
    read=read,
    file=IMAGE,
    part=PART,
    files=(
        DataFile(
            ATTRIBUTES_FILE,
            "cc5bec25b8ffa50bf8ff27df550785553e7a17acb6c8010bc3cabbbf9dee1b10",
            about=TERMS + "the zip holds list_attr_celeba01.csv with the columns image_id and the "
            "40 attributes as 0/1",
        ),
        DataFile(
            SPLIT_FILE,
            "f7169d050a69a356875b0420b63a8928de539dc0252a093fefe134a8fa9cb139",
            about=TERMS + "a CSV file with a header, an image's name and its part, 0, 1 or 2, in "
            "each row",
        ),
        DataFile(
            DARK_FILE,
            "242046dd4cb578386d015ce7ec01a8bb20bf8255a7861ba617dc84f0133fb01c",
            about="in the folder celebrace of github.com/abacusai/intraprocessing_debiasing",
            needed=False,
        ),
        DataFile(
            LIGHT_FILE,
            "fd5c2f8ed612e39240914e69894248c3bdf61688e599754b0ccfbdeea51fa00d",
            about="in the folder celebrace of github.com/abacusai/intraprocessing_debiasing",
            needed=False,
        ),
    ),
    reference="Liu, Luo, Wang and Tang (2015), Deep learning face attributes in the wild; Savani, "
    "White and Govindarajulu (2020), Intra-processing methods for debiasing neural networks",
)
