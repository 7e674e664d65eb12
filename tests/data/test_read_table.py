"""read_table: every delimiter, whole files, and damaged ones that must not pass as whole."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from retrofair.data import read_table
from retrofair.errors import InputError, MissingFileError, RetrofairWarning


def write(folder: Path, content: str | bytes, name: str = "t.csv") -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize(
    ("content", "columns", "rows"),
    [
        ("a,b\n1,x\n2,y\n", ["a", "b"], [[1, "x"], [2, "y"]]),
        ("a;b\n1,5,0;x\n2,0;y\n", ["a", "b"], [["1,5,0", "x"], ["2,0", "y"]]),
        ("a\tb\n1\tx\n", ["a", "b"], [[1, "x"]]),
        ("a|b\n1|x\n", ["a", "b"], [[1, "x"]]),
        ("a, b\n1, x\n", ["a", "b"], [[1, "x"]]),
        ("a\n1\n2\n", ["a"], [[1], [2]]),
        (b"\xef\xbb\xbfa,b\r\n1,x\r\n", ["a", "b"], [[1, "x"]]),
        ("a,b\r1,x\r", ["a", "b"], [[1, "x"]]),
        ("\na,b\n1,x\n\n\n", ["a", "b"], [[1, "x"]]),
        ("a,b\n1,x", ["a", "b"], [[1, "x"]]),
        ("ä,b\n1,ß\n", ["ä", "b"], [[1, "ß"]]),
        ('"a;b;c",d\n1,2\n', ["a;b;c", "d"], [[1, 2]]),
        ('a,b\n1,"x ""q"", y"\n', ["a", "b"], [[1, 'x "q", y']]),
        ('a,b\n1,"x\ny"\n', ["a", "b"], [[1, "x\ny"]]),
        (
            'a,b,c\n0,0,0\n1,2,"x\ny,z\n\nw"\n',
            ["a", "b", "c"],
            [[0, 0, "0"], [1, 2, "x\ny,z\n\nw"]],
        ),
    ],
)
def test_whole_files(tmp_path: Path, content: Any, columns: list[str], rows: list[Any]) -> None:
    frame = read_table(write(tmp_path, content))
    assert list(frame.columns) == columns
    assert frame.to_numpy(dtype=object).tolist() == rows
    assert isinstance(frame.index, pd.RangeIndex)


@pytest.mark.parametrize(
    "last", ["1,x,", '1,"x\ny",', '1,"5"" pipe\nlong",', '1,5" pipe,', f"1,{'long' * 50_000},"]
)
def test_an_empty_last_field_is_a_missing_value_not_a_cut(tmp_path: Path, last: str) -> None:
    frame = read_table(write(tmp_path, f"a,b,c\n0,o,o\n{last}\n"))
    assert len(frame) == 2
    assert frame["c"].isna().tolist() == [False, True]


@pytest.mark.parametrize(
    "content",
    [
        "a,b,c\n1,2,3\n4,5",
        "a,b,c\n1,2,3\n4",
        'a,b,c\n1,"x\ny",3\n4,"x\ny"',
        "a,b,c\n" + "1,2,3\n" * 30_000 + "4,5",
        'a,b,c\n1,2,3\n4,"' + "x\n" * 40_000 + '"',
    ],
    ids=["two fields", "one field", "quoted newline", "long file", "long field"],
)
def test_a_last_line_that_is_cut_off(tmp_path: Path, content: str) -> None:
    with pytest.raises(InputError, match=r"looks cut off: its last line has [12] of 3 fields"):
        read_table(write(tmp_path, content))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "is empty"),
        ("\n\n", "cannot be read"),
        ("a,b\n", "only a header"),
        ("a,b", "only a header"),
        ('a,b,c\n1,"x",3\n4,"yy', "damaged or cut off"),
        ("a,b\n1,é\n".encode("latin-1"), "in UTF-8"),
        (("a,b\n" + "1,x\n" * 100_000 + "1,é\n").encode("latin-1"), "in UTF-8"),
        ("a,b\n1,x\n".encode("utf-16"), "in UTF-8"),
        ("a,b\n1,2\n1,2,3\n", "cannot be read"),
        ("a,b\n1,2,3\n4,5,6\n", "the rows of .* have more fields"),
        ("a,b\n0,2,3\n1,5,6\n", "the rows of .* have more fields"),
    ],
    ids=[
        "empty",
        "blank",
        "header",
        "header without newline",
        "cut inside quotes",
        "latin-1",
        "latin-1 late",
        "utf-16",
        "longer row",
        "longer rows",
        "numbered rows",
    ],
)
def test_files_that_are_no_table(tmp_path: Path, content: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        read_table(write(tmp_path, content))


def test_a_missing_file_a_folder_and_another_suffix(tmp_path: Path) -> None:
    for path in (tmp_path / "nope.csv", tmp_path):
        with pytest.raises(MissingFileError, match="there is no file"):
            read_table(path)
    with pytest.raises(InputError, match=r"a \.csv or \.parquet file"):
        read_table(write(tmp_path, "a,b\n1,2\n", "t.xlsx"))


def test_the_suffix_may_be_in_capitals_and_the_path_a_text(tmp_path: Path) -> None:
    assert len(read_table(str(write(tmp_path, "a,b\n1,2\n", "T.CSV")))) == 1


def test_parquet(tmp_path: Path) -> None:
    frame = pd.DataFrame({"a": [1, 2], "b": ["x", None]})
    path = tmp_path / "t.parquet"
    frame.to_parquet(path)
    assert read_table(path)["a"].tolist() == [1, 2]
    whole = path.read_bytes()
    for content in (whole[: len(whole) // 2], whole[:-1], b"PAR1", b"a,b\n1,2\n"):
        with pytest.raises(InputError, match="expected a Parquet file"):
            read_table(write(tmp_path, content, "cut.parquet"))
    with pytest.raises(InputError, match="is empty"):
        read_table(write(tmp_path, b"", "none.parquet"))


def test_only_an_empty_field_is_missing_among_texts(tmp_path: Path) -> None:
    texts = ["NA", "None", "null", "nan", "N/A", "?", "-", "DE"]
    frame = read_table(write(tmp_path, "a,b\n" + "".join(f"1,{t}\n" for t in texts) + '2,""\n'))
    assert frame["b"].tolist()[:-1] == texts
    assert frame["b"].isna().tolist() == [False] * 8 + [True]


def test_marks_of_missing_values_among_numbers(tmp_path: Path) -> None:
    rows = "1,NA,NA,NA\n2.5,?,?,x\n-,3,3,4\nnan,4,,5\n,5,5,6\n"
    with pytest.warns(RetrofairWarning) as told:
        frame = read_table(write(tmp_path, "a,b,c,d\n" + rows))
    assert frame["a"].tolist()[:2] == [1.0, 2.5]
    assert frame["a"].isna().tolist() == [False, False, True, True, True]
    assert frame["b"].isna().tolist() == [True, True, False, False, False]
    assert frame["c"].isna().sum() == 3
    assert frame["b"].dtype == frame["c"].dtype == float
    assert frame["d"].tolist() == ["NA", "x", "4", "5", "6"]
    assert [str(each.message).partition(", as")[0] for each in told] == [
        "took '-', 'nan' in 2 rows of column 'a' as missing",
        "took '?', 'NA' in 2 rows of column 'b' as missing",
        "took '?', 'NA' in 2 rows of column 'c' as missing",
    ]


def test_truth_values_with_gaps(tmp_path: Path) -> None:
    with pytest.warns(RetrofairWarning, match="took 'NA' in 1 rows of column 'b'"):
        frame = read_table(write(tmp_path, "a,b\nTrue,True\n,NA\nFalse,False\n"))
    for name in "ab":
        assert frame[name].dropna().tolist() == [True, False]
        assert frame[name].isna().sum() == 1


@pytest.mark.parametrize("mark", [";", "\t"])
def test_decimal_commas(mark: str, tmp_path: Path) -> None:
    rows = ["a;b;c;d", "0,3;1.234,5;1,2;3", "-2;NA;x;4", "10,25;-1.234.567,0;3,4;NA"]
    with pytest.warns(RetrofairWarning) as told:
        frame = read_table(write(tmp_path, "\n".join(rows).replace(";", mark)))
    assert frame["a"].tolist() == [0.3, -2, 10.25]
    assert frame["b"].dropna().tolist() == [1234.5, -1234567]
    assert frame["c"].tolist() == ["1,2", "x", "3,4"]
    assert frame["d"].dropna().tolist() == [3, 4]
    said = [str(each.message) for each in told]
    assert [note for note in said if "comma" in note] == [
        f"read the numbers of column {name!r} with a decimal comma" for name in "ab"
    ]
    assert len(said) == 4


def test_commas_inside_quotes_are_no_decimal_commas(tmp_path: Path) -> None:
    frame = read_table(write(tmp_path, 'a,b\n"0,3",1\n"0,4",2\n'))
    assert frame["a"].tolist() == ["0,3", "0,4"]
    frame = read_table(write(tmp_path, "a;b\n1,2,3;1\n1,23.4;2\n"))
    assert frame["a"].tolist() == ["1,2,3", "1,23.4"]


def test_a_column_of_marks_alone_is_one_of_texts(tmp_path: Path) -> None:
    assert read_table(write(tmp_path, "a,b\n1,NA\n2,NA\n"))["b"].tolist() == ["NA", "NA"]


def test_a_published_file() -> None:
    root = os.environ.get("RETROFAIR_DATA")
    if not root:
        pytest.skip("RETROFAIR_DATA is not set: no folder with the published data files")
    frame = read_table(Path(root) / "bank" / "bank-additional-full.csv")  # ; and quotes
    assert frame.shape == (41_188, 21)
    assert set(frame["y"]) == {"yes", "no"}
