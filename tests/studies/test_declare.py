"""Declared studies: a whole file, its defaults, and every mistake with its line."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrofair import debiasers
from retrofair.datasets.synthetic import read
from retrofair.errors import InputError, MissingFileError
from retrofair.networks import Training
from retrofair.objective import Constrained, Weighted
from retrofair.studies.declare import METHOD, read_study
from retrofair.studies.grid_study import GridStudy
from retrofair.studies.results import YARDSTICKS
from retrofair.studies.sources import Source
from retrofair.studies.toml_table import LARGEST, locate

PAGE = Path(__file__).parents[2] / "docs" / "studies.md"

SHORT = """\
measures = ["spd"]
methods = ["threshold", "random"]
[[data]]
name = "synthetic"
"""

FULL = """\
name = "hiring"
title = "Hiring by sex and age"
measures = ["spd", "eod"]
seeds = [3, 1]

[objective]
lam = 1
performance = "accuracy"

[[data]]
name = "synthetic"
sensitive = ["sex", "region"]
include_sensitive = false

[[data]]
file = "tables/people.csv"
label = "hired"
positive = "yes"
sensitive = "sex"
privileged = "Male"

[[network]]
name = "wide"
width = 64

[[network]]
name = "slow"
learning_rate = 1

[[method]]
method = "random"
trials = 500
scale = 1

[[method]]
name = "layerwise, random search"
method = "layerwise"
layers = 2
optimizer = "random"
measures = ["statistical_parity_difference"]
"""


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder with a table below it, where paths relative to the TOML file lead."""
    monkeypatch.chdir(tmp_path)
    frame = read({}, n=200, seed=1)
    frame["hired"] = np.where(frame["hired"] == 1, "yes", "no")
    (tmp_path / "project" / "tables").mkdir(parents=True)
    frame.to_csv(tmp_path / "project" / "tables" / "people.csv", index=False)


def declared(text: str | bytes, name: str = "study.toml") -> GridStudy:
    file = Path("project") / name
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_study(file)


def refused(text: str | bytes, name: str = "study.toml") -> str:
    """The message, which names the file once."""
    with pytest.raises(InputError) as caught:
        declared(text, name)
    message = str(caught.value)
    assert message.count(name) == 1
    assert "\n" not in message
    return message


def test_a_whole_file() -> None:
    study = declared(FULL)
    grid = study.grid
    people = Path("project/tables/people.csv").absolute()
    assert (study.name, study.title) == ("hiring", "Hiring by sex and age")
    assert grid.sources == (
        Source("synthetic", ("sex", "region"), include_sensitive=False),
        Source(str(people), ("sex",), label="hired", positive="yes", privileged=("Male",)),
    )
    assert grid.measures == ("spd", "eod")
    assert grid.seeds == (3, 1)
    assert grid.objective == Weighted("spd", lam=1.0, performance="accuracy")
    assert grid.trainings == (("wide", Training(width=64)), ("slow", Training(learning_rate=1.0)))
    first, second = grid.methods
    assert (first.name, first.measures) == ("random", None)
    assert first.debiaser == debiasers.Random(trials=500, scale=1.0)
    assert (second.name, second.measures) == ("layerwise, random search", ("spd",))
    assert second.debiaser == debiasers.Layerwise(layers=2, optimizer="random")
    # per seed and network: two data sets, one measure with two methods and one with one
    assert len(study.cells()) == 2 * 2 * 2 * 3


def test_whole_numbers_are_the_numbers_they_stand_for() -> None:
    """The key of a cell comes from its text, in which 1 and 1.0 differ."""
    grid = declared(FULL).grid
    config = grid.cells()[0].config()
    assert isinstance(config["options"]["scale"], float)
    assert isinstance(config["objective"]["lam"], float)
    assert isinstance(grid.trainings[1][1].learning_rate, float)


def test_defaults() -> None:
    study = declared(SHORT, "my study.toml")
    grid = study.grid
    assert (study.name, study.title) == ("my study", "my study")
    assert grid.sources == (Source("synthetic", ("sex",)),)
    assert grid.seeds == (0, 1, 2, 3, 4)
    assert grid.objective == Constrained("spd", epsilon=0.05, performance="balanced_accuracy")
    assert grid.trainings == (("", Training()),)
    assert [method.debiaser for method in grid.methods] == [
        debiasers.Threshold(),
        debiasers.Random(),
    ]


def test_one_text_stands_for_a_list_of_one() -> None:
    grid = declared('measures = "spd"\nmethods = "threshold"\ndata = [{name = "synthetic"}]').grid
    assert grid.measures == ("spd",)
    assert len(grid.methods) == 1
    assert len(grid.sources) == 1


def test_plain_methods_come_before_those_with_options() -> None:
    text = SHORT + '[[method]]\nname = "more"\nmethod = "random"\ntrials = 7\n'
    assert [method.name for method in declared(text).grid.methods] == [
        "threshold",
        "random",
        "more",
    ]


def test_files_of_other_editors() -> None:
    """With the byte order mark and the line ends of Windows."""
    text = SHORT.replace("\n", "\r\n")
    assert declared(b"\xef\xbb\xbf" + text.encode()).grid == declared(SHORT).grid
    assert "line 5: unknown" in refused(text + 'sensitiv = "sex"\r\n')


def test_numbers_and_truth_values_of_a_table() -> None:
    file = Path("project/flags.csv")
    rows = [f"{i},{i % 2 == 0},{i % 3}" for i in range(30)]
    file.write_text("\n".join(["age,hired,kind", *rows]))
    text = SHORT.replace(
        'name = "synthetic"',
        'file = "flags.csv"\nlabel = "hired"\npositive = false\nsensitive = "kind"\nprivileged = 2',
    )
    (source,) = declared(text).grid.sources
    assert (source.positive, source.privileged) == ("0", ("2",))
    splits = source.load()
    assert splits.train.group_names[-1] == "2"


def test_the_examples_of_the_page() -> None:
    Path("project/people.csv").write_bytes(Path("project/tables/people.csv").read_bytes())
    examples = re.findall(r"```toml\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert examples
    for example in examples:
        study = declared(example)
        assert study.cells()


def test_options_cannot_be_mistaken_for_what_a_block_says_itself() -> None:
    for kind in debiasers.ALL:
        options: Any = kind
        assert not {field.name for field in dataclasses.fields(options)} & set(METHOD)
    assert not {field.name for field in dataclasses.fields(Training)} & set(METHOD)


# --- mistakes -------------------------------------------------------------------------------------


# what is replaced in the full file, by what, the text whose line is named, and what is said
MISTAKES = [
    # unknown fields, at every level
    ("seeds = [3, 1]", "sedes = 5", "sedes", "did you mean 'seeds'?"),
    ("lam = 1", "epsilo = 1", "epsilo", "field of [objective] 'epsilo': did you mean 'epsilon'?"),
    ("include_sensitive", "include", "include", "did you mean 'include_sensitive'?"),
    ("privileged = ", "privilege = ", "privilege =", "did you mean 'privileged'?"),
    ("width = 64", "widht = 64", "widht", "field of [[network]] 'widht': did you mean 'width'?"),
    (
        "trials",
        "trails",
        "trails",
        "choose from: batch_norm, measures, method, name, scale, trials",
    ),
    ("layers", "batch_norm", "batch_norm", "unknown field of [[method]] 'batch_norm'"),
    ('method = "random"', 'metod = "random"', "metod", "did you mean 'method'?"),
    # wrong types
    ('name = "hiring"', "name = 5", "name = 5", "expected name to be a text, got 5"),
    ('["spd", "eod"]', "5", "measures = 5", "expected measures to be a list of texts, got 5"),
    ('["spd", "eod"]', '["spd", 5]', ", 5]", "a list of texts, got ['spd', 5]"),
    ('["sex", "region"]', "true", "sensitive = true", "a list of texts, got true"),
    ("seeds = [3, 1]", 'seeds = "5"', "seeds", "expected seeds to be a whole number, got '5'"),
    ("seeds = [3, 1]", "seeds = true", "seeds", "a whole number, got true"),
    ("seeds = [3, 1]", "seeds = 5.0", "seeds", "a whole number, got 5.0"),
    ("[3, 1]", "[3, true]", "seeds", "expected each seed to be a whole number, got true"),
    ("lam = 1", "lam = true", "lam", "expected lam to be a number, got true"),
    ("lam = 1", 'lam = "1"', "lam", "expected lam to be a number, got '1'"),
    ("lam = 1", "lam = nan", "lam", "expected lam to be a number, got nan"),
    ("scale = 1", "scale = inf", "scale", "expected scale to be a number, got inf"),
    ("lam = 1", "lam = 2020-01-02", "lam", "a number, got 2020-01-02"),
    ("lam = 1", f"lam = 0x{'f' * 5000}", "lam", "a number, got one of more than 64 bits"),
    ("include_sensitive = false", "include_sensitive = 0", "include_s", "true or false, got 0"),
    ('privileged = "Male"', "privileged = 2020-01-02", "privil", "a list of texts, got 2020-01-02"),
    ("width = 64", "width = 64.5", "width", "expected width to be a whole number, got 64.5"),
    ("trials = 500", "trials = true", "trials", "expected trials to be a whole number, got true"),
    ("layers = 2", "layers = { a = 1 }", "layers", "expected layers to be a whole number, got a"),
    ('optimizer = "random"', "optimizer = [1]", "optimizer", "unknown choice for optimizer '[1]'"),
    ("[objective]\nlam = 1", "[[objective]]\nlam = 1", "[[obj", "one table, [objective], got [a"),
    # unknown names
    ('"eod"', '"edo"', "measures = ", "unknown measure 'edo': did you mean 'eod'?"),
    ('performance = "accuracy"', 'performance = "acuracy"', "perf", "did you mean 'accuracy'?"),
    ('"synthetic"', '"syntetic"', '"syntetic"', "did you mean 'synthetic'?"),
    ('"synthetic"', '"people.csv"', '"people.csv"', "use file ="),
    ('"region"', '"age"', '"age"', "unknown sensitive attribute of synthetic 'age'"),
    ('method = "layerwise"', 'method = "layers"', '"layers"', "did you mean 'layerwise'?"),
    ('optimizer = "random"', 'optimizer = "rnd"', '"rnd"', "unknown choice for optimizer 'rnd'"),
    ('"statistical_parity_difference"', '"aod"', '"aod"', "(choose from: eod, spd)"),
    # missing
    ('measures = ["spd", "eod"]', "", "", "the field 'measures' in the file"),
    ('[[data]]\nname = "synthetic"', "[[data]]", "[[data]]\nsens", "got none"),
    ('label = "hired"', "", "[[data]]\nfile", "expected the field 'label' in [[data]], got none"),
    ('sensitive = "sex"', "", "[[data]]\nfile", "the field 'sensitive' in [[data]]"),
    ('method = "random"\n', "", "[[method]]\ntrials", "the field 'method' in [[method]]"),
    ('name = "slow"\n', "", "[[network]]\nlearning", "the field 'name' in [[network]]"),
    # twice
    ('"eod"', '"statistical_parity_difference"', '["spd"', "different measures, got 'spd' twice"),
    ("[3, 1]", "[3, 3]", "[3, 3]", "expected different seeds, got 3 twice"),
    ('"region"', '"sex"', '["sex"', "one or more different sensitive attributes"),
    ('"slow"', '"wide"', 'name = "wide"\nlearning', "'wide' as in line 23"),
    ('"layerwise, random search"', '"random"', 'name = "random"', "'random' as in line 30"),
    ("lam = 1", "lam = 1\nepsilon = 0.1", "lam", "expected epsilon (a bound on the bias) or lam"),
    ('file = "tables', 'name = "adult"\nfile = "tables', '[[data]]\nname = "adult', "got both"),
    ('"layerwise, random search"', f'"{YARDSTICKS[0]}"', YARDSTICKS[0], "a name that is not taken"),
    # empty
    ('["spd", "eod"]', "[]", "measures = []", "at least one text, got []"),
    ('["sex", "region"]', "[]", "sensitive = []", "at least one text, got []"),
    ("[3, 1]", "[]", "seeds", "expected 1 to 1000 seeds, got 0"),
    ('["statistical_parity_difference"]', "[]", "measures = []", "at least one text, got []"),
    ('title = "Hiring by sex and age"', 'title = " "', "title", "expected title to be one line"),
    ('"wide"', '"a|b"', '"a|b"', "expected name to be one line without |"),
    ('"Hiring by sex and age"', '"a\\nb"', "title", "one line without |, got 'a\\nb'"),
    # out of range
    ("[3, 1]", "[3, -1]", "seeds", "expected a seed from 0 to 2**63 - 1, got -1"),
    ("[3, 1]", f"[{2**63}]", "seeds", "a whole number, got one of more than 64 bits"),
    ("[3, 1]", "0", "seeds", "expected seeds to be a number from 1 to 1000, got 0"),
    ("[3, 1]", "-2", "seeds", "expected seeds to be a number from 1 to 1000, got -2"),
    ("[3, 1]", "2026", "seeds", "seeds = [2026]"),
    ("lam = 1", "lam = 1.5", "lam", "expected lam in [0, 1], got 1.5"),
    ("lam = 1", "epsilon = 0", "epsilon", "expected epsilon in (0, 1], got 0.0"),
    ("trials = 500", "trials = 0", "trials", "expected trials >= 1 and scale > 0, got 0 and 1.0"),
    ("scale = 1", "scale = -1", "scale", "expected trials >= 1 and scale > 0, got 500 and -1.0"),
    ("layers = 2", "layers = 0", "layers", "expected layers >= 1"),
    ("trials = 500\nscale = 1", "trials = 0\nscale = 0", '[[method]]\nmethod = "r', "got 0 and 0"),
    ("width = 64", "width = 0", "width", "expected width >= 1"),
    ("learning_rate = 1", "learning_rate = 0", "learning", "expected batch_size >= 2 and learning"),
    # names of files
    ('name = "hiring"', 'name = "a/b"', "a/b", "expected a name for files"),
    ('name = "hiring"', 'name = ".."', "..", "expected a name for files"),
    ('name = "hiring"', 'name = ""', 'name = ""', "expected a name for files"),
    ('name = "hiring"', f'name = "{"a" * 61}"', 'name = "aa', "at most 60"),
    # fields of another place
    ("include_sensitive", "label", "label = false", "expected label with file only"),
    ("width = 64", "width = 64\nseeds = 3", "seeds = 3", "above the first [table], got it in [[n"),
    ("lam = 1", 'lam = 1\nmethods = ["random"]', "methods", "expected methods above the first"),
    # the user's table
    ("tables/people.csv", "people.csv", "people.csv", "project/people.csv, found no such file"),
    ("tables/people.csv", "tables", "tables", "expected a file of type"),
    ("tables/people.csv", f"{'a' * 300}.csv", "aaa", "File name too long"),
    ('label = "hired"', 'label = "hird"', "[[data]]\nfile", "'hird'"),
    ('positive = "yes"', 'positive = "ja"', "[[data]]\nfile", "'ja'"),
    ('positive = "yes"', 'positive = ["yes", "no"]', "positive", "expected one positive value"),
    ('"Male"', '"male"', "[[data]]\nfile", "column 'sex' 'male'"),
]


@pytest.mark.parametrize(("old", "new", "mark", "said"), MISTAKES)
def test_a_mistake_is_named_with_its_line(old: str, new: str, mark: str, said: str) -> None:
    assert old in FULL
    text = FULL.replace(old, new, 1)
    message = refused(text)
    assert said in message
    line = text[: text.index(mark)].count("\n") + 1
    assert ("study.toml: " if not mark else f"study.toml, line {line}: ") in message


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (SHORT.replace("[[data]]", "[data]"), "line 3: expected blocks, each headed [[data]]"),
        (SHORT.replace("methods", "#"), "toml: expected the field 'methods' in the file"),
        (SHORT.split("[[")[0], "toml: expected the field 'data' in the file"),
        ("", "toml: expected the field 'measures' in the file"),
        (SHORT + '[[data]]\nname = "synthetic"\n', "line 5: expected different [[data]]"),
        (SHORT.replace('"random"', '"threshold"'), "line 2: expected different methods"),
        (SHORT.replace('"random"', '"rnd"'), "line 2: unknown method 'rnd'"),
        (SHORT + '[[method]]\nmethod = "random"\n', "line 5: expected a name that is not taken"),
        (SHORT + '[[method]]\nmethod = "threshold"\nx = 1\n', "(choose from: measures, method, n"),
        (SHORT + "[[data]]\n", "line 5: expected name (a data set) or file"),
        (SHORT + "[a]\n", "line 5: unknown field of the file 'a'"),
        (SHORT + "[data.b]\nc = 1\n", "line 5: unknown field of [[data]] 'b'"),
        ("objective = 5\n" + SHORT, "line 1: expected one table, [objective], got 5"),
        ("method = [[{}]]\n" + SHORT, "line 1: expected blocks"),
    ],
)
def test_a_mistake_in_the_tables(text: str, said: str) -> None:
    assert said in refused(text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a = 1\nname = hiring\n", "study.toml, line 2: expected TOML"),
        ("a = 1\nb = [1,\n2\n", "study.toml: expected TOML"),  # not closed: no line is its own
        ("a = 1\n\na = 2\n", "study.toml, line 3: expected TOML"),
        ('"at line 9, column 9)" = 1\n"at line 9, column 9)" = 1', "study.toml, line 2: "),
        ("[[data]\n", "study.toml, line 1: "),
        (b"a = 1\nb = '\xe4'\n", "study.toml, line 2: expected text in UTF-8, got the byte 0xe4"),
        ("a = 1\n".encode("utf-16"), "study.toml, line 1: expected text in UTF-8"),
        (b"a = 1\0\n", "study.toml, line 1: expected TOML"),
        ("a = " + "9" * 5000, "study.toml: expected TOML"),
        ("a = " + "[" * 50_000, "study.toml: expected TOML"),
        ("#" * (LARGEST + 1), "study.toml is larger"),
    ],
)
def test_what_is_not_toml(text: str | bytes, said: str) -> None:
    assert said in refused(text)


def test_no_such_file() -> None:
    with pytest.raises(MissingFileError, match=r"there is no file nowhere\.toml"):
        read_study("nowhere.toml")
    with pytest.raises(InputError, match=r"project cannot be read: Is a directory"):
        read_study(Path("project"))


def test_a_name_from_the_file_that_no_file_can_have() -> None:
    assert "a:b.toml: expected a name for files" in refused(SHORT, "a:b.toml")
    assert declared('name = "ab"\n' + SHORT, "a:b.toml").name == "ab"


# --- lines ----------------------------------------------------------------------------------------

# a misspelt field is looked for wherever it could seem to stand
TRAPS = """\
# epsilo = 1
title = "epsilo = 2"
seeds = [
    # epsilo = 3
    1,  # ]
    2,
]
name = \'\'\'trap\'\'\'
measures = ["spd"] # [objective]
methods = [
    "threshold", # epsilo = [ " \'
]
objective . performance = "accuracy" # objective.epsilo

[[data]] # [[data]]
name = "synthetic"
"sensitive" = "sex"

[[method]]
name = "epsilo"
method = "random"
"""


@pytest.mark.parametrize(
    ("line", "new", "said"),
    [
        (13, "objective.performance = 'accuracy'\n  objective.epsilo = 1", "'epsilo'"),
        (13, "#\nobjective = { performance = 'accuracy', epsilo = 1 }", "'epsilo'"),
        (13, "#\n\"objective\" . 'epsilo' = 1", "'epsilo'"),
        (15, "#\n[objective.epsilo]\n[[data]]", "field of [objective] 'epsilo'"),
        (16, "name = 'synthetic'\n\"epsilo\" = [\n[1],\n]", "field of [[data]] 'epsilo'"),
        (16, "name = 'synthetic'\n\"eps\\u0069lo\" = 1", "field of [[data]] 'epsilo'"),
        (16, "name = 'synthetic'\nepsilo.a.b = 1", "field of [[data]] 'epsilo'"),
        (20, '#\nepsilo = """\n[[method]]\nepsilo = 1"""', "field of [[method]] 'epsilo'"),
        (21, "method = 'random'\nepsilo = []", "field of [[method]] 'epsilo'"),
        (21, "method = 'random'\n[[method.epsilo]]\nepsilo = 1", "field of [[method]] 'epsilo'"),
        (21, "method = 'random'\n[[method]]\nmethod = 'zhang'", None),
    ],
)
def test_the_line_is_that_of_the_key(line: int, new: str, said: str | None) -> None:
    """The mistake stands in the line after the one given; TRAPS itself has none."""
    lines = TRAPS.splitlines()
    text = "\n".join([*lines[: line - 1], new, *lines[line:]])
    if said is None:
        assert [method.name for method in declared(text).grid.methods][-1] == "zhang"
        return
    assert f"study.toml, line {line + 1}: unknown" in (message := refused(text))
    assert said in message


def test_the_line_in_the_second_of_two_blocks() -> None:
    text = SHORT + '[[data]]\nname = "synthetic"\nsensitive = ["sex", "region"]\nlabel = "x"\n'
    assert "line 8: expected label with file only" in refused(text)


def test_blocks_in_a_list_have_the_line_of_the_list() -> None:
    text = SHORT.split("[[")[0] + "data = [\n{ name = 'synthetic' },\n{ name = 'x' },\n]\n"
    assert "line 3: unknown data set 'x'" in refused(text)


def statements() -> st.SearchStrategy[list[tuple[str, bool]]]:
    """Pieces of TOML, each whole by itself, and whether it is a key of its own."""
    nothing = st.sampled_from(["", "  # k = 1", '# """', "\t", "# [x]", "# ["])
    values = st.sampled_from(
        [
            "1",
            "'#'",
            '"\\" k = 1 #"',
            "[ # ]\n1, # k = 1\n\n[2,\n3],\n] # ]",
            '"""\nk = 1\n[x]\n\\"""\n""" # "',
            "'''\nk = 1\n]\n'''",
            "{ k = 1, l.k = '}' }",
            "[ { k = 1 },\n { k = ']' } ]",
            '"\u2028 \x85"',
            "1979-05-27T07:32:00Z",
        ]
    )
    return st.lists(
        st.one_of(nothing.map(lambda s: (s, False)), values.map(lambda v: (v, True))), max_size=12
    )


@given(
    tables=st.lists(
        st.tuples(st.sampled_from(["[{}]", "[[many]]", "[ 'x y' . {} ]"]), statements()), max_size=4
    ),
    end=st.sampled_from(["\n", "\r\n"]),
)
def test_lines_of_any_file(tables: list[tuple[str, list[tuple[str, bool]]]], end: str) -> None:
    """Against the lines counted while the file is put together."""
    text, line, expected, blocks = "", 1, {}, 0

    def add(piece: str) -> None:
        nonlocal text, line
        text += piece + "\n"
        line += piece.count("\n") + 1

    for n, (head, body) in enumerate(tables):
        name = f"t{n}"
        if head == "[[many]]":
            table: tuple[str | int, ...] = ("many", blocks)
            blocks += 1
        else:
            table = ("x y", name) if "x y" in head else (name,)
        expected[table] = line
        add(head.format(name))
        for m, (piece, is_value) in enumerate(body):
            if is_value:
                expected[(*table, f"k{m}")] = line
                piece = f"k{m} = {piece}" if m % 2 else f"  'k{m}'={piece}"
            add(piece)
    found = locate(text.replace("\n", end))
    assert {key: found[key] for key in expected} == expected
    tops = {key for key in found if len(key) == 3 and key[0] == "many"}
    assert tops == {key for key in expected if len(key) == 3 and key[0] == "many"}
