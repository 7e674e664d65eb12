"""Which output of a classifier of transformers stands for which label, by both names."""

from __future__ import annotations

import dataclasses
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("transformers")
import retrofair as rf
from hugging_cases import NETWORKS, bert, spoken
from retrofair.errors import InputError, RetrofairWarning
from retrofair.networks import HuggingFaceNetwork, load_network
from retrofair.networks.class_order import order_of, ordered
from retrofair.networks.hugging_face_network import class_names, is_classifier

GOAL = rf.Constrained("spd", 1.0)  # which all keep: what is right stays right
COLUMNS = {"label": "said", "sensitive": "race", "privileged": "White"}


@pytest.mark.parametrize(
    ("outputs", "labels", "order"),
    [
        (["no", "yes"], ["no", "yes"], (0, 1)),
        (["yes", "no"], ["no", "yes"], (1, 0)),
        ([" YES ", "No"], ["no", "yes"], (1, 0)),
        (["1", "0"], ["0", "1"], (1, 0)),
        (["True", "False"], ["0", "1"], (1, 0)),
        (["False", "True"], ["0", "1"], (0, 1)),
        (["1.0", "0.0"], ["0", "1"], (1, 0)),
        # one of the names is enough
        (["happy", "other"], ["not happy", "happy"], (1, 0)),
        (["other", "sad"], ["sad", "glad"], (1, 0)),
        (["sad", "other"], ["sad", "glad"], (0, 1)),
        # a single output is the chance of what it is called
        (["yes"], ["no", "yes"], (0, 1)),
        (["no"], ["no", "yes"], (1, 0)),
        (["young", "middle", "old"], ["middle", "old", "young"], (1, 2, 0)),
        (["2", "0", "1"], ["0", "1", "2"], (1, 2, 0)),
        # outputs that no label is called after come last
        (["none", "b", "c", "a"], ["a", "b", "c"], (3, 1, 2, 0)),
        # names that say no more than places
        (["LABEL_0", "LABEL_1"], ["no", "yes"], None),
        (["LABEL_0", "LABEL_1", "LABEL_2"], ["a", "b", "c"], None),
        (["0", "1"], ["1", "2"], None),
        (["LABEL_0"], ["0", "1"], None),
        (["0"], ["0", "1"], None),
        # other numbers of outputs: said where they are looked at
        (["a", "b", "c"], ["a", "b"], None),
        (["a", "b"], ["a", "b", "c"], None),
        ([], ["no", "yes"], None),
    ],
)
def test_by_names(outputs: list[str], labels: list[str], order: tuple[int, ...] | None) -> None:
    assert order_of(outputs, labels) == (order, "")


@pytest.mark.parametrize(
    ("outputs", "labels", "words"),
    [
        (["NEGATIVE", "POSITIVE"], ["0", "1"], "'POSITIVE' is taken for the label '1'.*--positive"),
        (["NEGATIVE", "POSITIVE"], ["no", "yes"], "'POSITIVE' is taken for the label 'yes'"),
        (["toxic"], ["no", "yes"], "'toxic' is taken for the label 'yes'"),
        (["yes", "YES"], ["no", "yes"], "is taken for the label"),
        (["1 star", "2 stars", "3 stars"], ["1", "2", "3"], "in this order, for the classes 1, 2"),
    ],
)
def test_names_that_do_not_match_are_said(outputs, labels, words) -> None:
    order, note = order_of(outputs, labels)
    assert order is None
    with pytest.warns(RetrofairWarning, match=words):
        warnings.warn(note, RetrofairWarning, stacklevel=1)


def test_three_classes_in_other_words_are_refused() -> None:
    with pytest.raises(InputError, match=r"young, middle, elderly, got old.*0 to 2.*id2label"):
        order_of(["young", "middle", "elderly"], ["middle", "old", "young"])


@pytest.mark.parametrize("kind", NETWORKS)
@pytest.mark.parametrize("words", [["yes", "no"], ["young", "middle", "old"]])
def test_a_network_that_is_right_is_right(kind: str, words: list[str], tmp_path: Path) -> None:
    """Outputs in their places would be wrong on every row of two classes."""
    frame = spoken(kind, tmp_path, words)
    folder = tmp_path / "spoken"
    positive = {"positive": "yes"} if len(words) == 2 else {}
    if kind == "bert":
        data = rf.texts_of(frame, folder, text="review", **COLUMNS, **positive)
    else:
        options = rf.networks.image_options(folder)
        data = rf.images_of(tmp_path / "faces", frame, **options, **COLUMNS, **positive)
    assert data.label_names == tuple(sorted(words))
    network = load_network(str(folder))
    assert rf.audit(network, data)["accuracy"].value == 1.0
    assert network.order is None  # as it was
    unnamed = rf.StreamedData(**{**vars(data), "label_names": ()})
    turned = rf.audit(network, unnamed)["accuracy"].value
    assert turned == 0.0 if len(words) == 2 else turned < 0.7
    for head_only in (False, True):
        result = rf.debias(network, data, GOAL, "fair_head", head_only=head_only)
        assert result.before.performance == 1.0
        made = rf.audit(result, data)["accuracy"].value
        assert made > 0.7
        place = result.save(tmp_path / f"o{head_only}", base=network if head_only else None)
        again = rf.load_result(place, load_network(str(folder)))
        assert rf.audit(again, data)["accuracy"].value == made
    # never worse by the measure of its goal than what is right, the last layer's outputs turned too
    for head_only in (False, True):
        method = rf.debiasers.Random(trials=3)
        result = rf.debias(network, data, GOAL, method, head_only=head_only)
        assert result.after.performance == 1.0
        assert rf.audit(result, data)["accuracy"].value == 1.0
    logits = rf.networks.logits(network, data)
    assert torch.equal(logits, rf.networks.logits(ordered(network, data), data))
    trained = rf.networks.train_network(network, data, data, epochs=1, learning_rate=1e-9)
    assert trained.order == ordered(network, data).order
    if kind != "resnet":  # whose BatchNorm has taken other averages
        assert rf.audit(trained, data)["accuracy"].value == 1.0


def test_a_label_in_other_words_gets_one_note(tmp_path: Path) -> None:
    frame = spoken("bert", tmp_path, ["NEGATIVE", "POSITIVE"])
    frame["said"] = (frame["said"] == "POSITIVE").astype(int)
    data = rf.texts_of(frame, tmp_path / "spoken", text="review", **COLUMNS)
    network = load_network(str(tmp_path / "spoken"))
    with pytest.warns(RetrofairWarning, match="'POSITIVE' is taken for the label '1'") as found:
        assert rf.audit(network, data)["accuracy"].value == 1.0
    assert len(found) == 1
    turned = rf.texts_of(frame, tmp_path / "spoken", text="review", positive=0, **COLUMNS)
    with pytest.warns(RetrofairWarning, match="'POSITIVE' is taken for the label '0'"):
        assert rf.audit(network, turned)["accuracy"].value == 0.0
    # without names of its labels nobody can say anything
    data = rf.StreamedData(**{**vars(data), "label_names": ()})
    assert rf.audit(network, data)["accuracy"].value == 1.0


def test_an_order_stays_where_later_data_say_nothing(tmp_path: Path) -> None:
    frame = spoken("bert", tmp_path, ["yes", "no"])
    data = rf.texts_of(frame, tmp_path / "spoken", text="review", positive="yes", **COLUMNS)
    model = rf.debias(load_network(str(tmp_path / "spoken")), data, GOAL, "threshold").model
    assert model.order == (1, 0)
    unnamed = rf.StreamedData(**{**vars(data), "label_names": ()})
    assert rf.audit(model, unnamed)["accuracy"].value == 1.0
    other = rf.StreamedData(**{**vars(data), "label_names": ("0", "1")})
    assert rf.audit(model, other)["accuracy"].value == 1.0


def test_a_cache_knows_turned_networks_apart(tmp_path: Path) -> None:
    frame = spoken("bert", tmp_path, ["yes", "no"])
    network = load_network(str(tmp_path / "spoken"))
    found = []
    for positive in ("yes", "no"):
        data = rf.texts_of(frame, tmp_path / "spoken", text="review", positive=positive, **COLUMNS)
        result = rf.debias(network, data, GOAL, "threshold", cache=tmp_path / "cache")
        found.append(result.before.performance)
    assert found == [1.0, 1.0]


def test_a_result_of_turned_outputs_wants_such_a_network(tmp_path: Path) -> None:
    frame = spoken("bert", tmp_path, ["yes", "no"])
    data = rf.texts_of(frame, tmp_path / "spoken", text="review", positive="yes", **COLUMNS)
    result = rf.debias(load_network(str(tmp_path / "spoken")), data, GOAL, "threshold")
    place = result.save(tmp_path / "o")
    with pytest.raises(InputError, match="whose outputs the result puts into order, got Linear"):
        rf.load_result(place, torch.nn.Linear(2, 1))


def test_several_labels_at_once(tmp_path: Path) -> None:
    model = bert(3)
    model.config.problem_type = "multi_label_classification"
    model.config.id2label = {0: "toxic", 1: "insult", 2: "threat"}
    model.save_pretrained(tmp_path)
    words = r"3 labels at once \(toxic, insult, threat.*choose one output.*output='toxic'"
    x = torch.randint(2, 11, (60, 6), generator=torch.Generator().manual_seed(0))
    y, group = torch.arange(60) % 2, torch.arange(60) // 30
    data = rf.GroupedData(x=x.float(), y=y, group=group, group_names=("f", "m"))
    for given in (
        lambda: load_network(str(tmp_path)),
        lambda: rf.audit(model, data),
        lambda: rf.debias(model, data, GOAL, "threshold"),
        lambda: rf.frontier(model, data),
        lambda: rf.networks.train_network(model, data, data),
        lambda: rf.networks.logits(model, data),
    ):
        with pytest.raises(InputError, match=words):
            given()
    for output, place in (("Insult", 1), (2, 2)):
        one = HuggingFaceNetwork(model, output=output)
        with torch.no_grad():
            mask = torch.ones_like(x)
            assert torch.equal(one(x), model(input_ids=x, attention_mask=mask).logits[:, place])
        assert one.names == (["toxic", "insult", "threat"][place],)
    for method, head_only in (("threshold", False), (rf.debiasers.Random(trials=3), True)):
        result = rf.debias(one, data, GOAL, method, outputs="logits", head_only=head_only)
        saved = result.save(tmp_path / f"o{head_only}")
        again = rf.load_result(saved, HuggingFaceNetwork(model, output="threat"))
        assert torch.equal(again.predict(x), result.predict(x))
        raw = rf.load_result(saved, model)  # as transformers gives it: the result knows its output
        assert torch.equal(raw.predict(x), result.predict(x))
        with pytest.raises(InputError, match=r"which output 2 is read.*got 0"):
            rf.load_result(saved, HuggingFaceNetwork(model, output="toxic"))
        small = result.save(tmp_path / f"d{head_only}", base=model)  # as transformers gives it
        assert torch.equal(rf.load_result(small, model).predict(x), result.predict(x))
    named = rf.GroupedData(**{**vars(data), "label_names": ("threat", "harmless")})
    assert torch.equal(rf.networks.logits(one, named), -rf.networks.logits(one, data))
    with pytest.raises(InputError, match="toxci"):
        HuggingFaceNetwork(model, output="toxci")
    with pytest.raises(InputError, match="from 0 to 2, got 3"):
        HuggingFaceNetwork(model, output=3)


def test_one_output_of_what_a_factory_makes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "outputs_made.py").write_text(
        "import torch\nimport retrofair as rf\nfrom hugging_cases import bert\n\n\n"
        "def make():\n    model = bert(3)\n"
        "    model.config.problem_type = 'multi_label_classification'\n    return model\n\n\n"
        "plain = lambda: torch.nn.Linear(2, 3)\nsoft = lambda: bert(3)\n"
        "other = lambda: rf.networks.HuggingFaceNetwork(make(), output=0)\n"
    )
    x = torch.randint(2, 11, (5, 6))
    one, model = load_network("outputs_made:make", output="2"), bert(3)
    with torch.no_grad():
        whole = model(input_ids=x, attention_mask=torch.ones_like(x)).logits
        assert torch.equal(one(x), whole[:, 2])
    assert load_network("outputs_made:other").output == 0
    assert load_network("outputs_made:other", output=2).output == 2
    with pytest.raises(InputError, match="output"):
        load_network("outputs_made:other", output="nonsense")
    with pytest.raises(InputError, match=r"which one output is read, got outputs_made:plain"):
        load_network("outputs_made:plain", output=1)
    # the logit of a softmax is no log-odds
    with pytest.raises(InputError, match=r"3 classes that exclude each other.*problem_type="):
        load_network("outputs_made:soft", output=1)


@pytest.mark.parametrize(
    ("label_names", "turned"),
    [
        (("0", "1"), False),
        (("1", "0"), True),
        (("False", "True"), False),
        (("yes", "no"), True),
        (("not no", "no"), True),
        (("No", "other"), False),
        (("-1", "1"), False),
        (("not 1", "1"), False),
        (("1", "not 1"), True),
    ],
)
def test_one_output_and_labels_that_say_whether_it_holds(label_names: Any, turned: bool) -> None:
    model: Any = bert(3)
    model.config.problem_type = "multi_label_classification"
    model.config.id2label = {0: "toxic", 1: "insult", 2: "threat"}
    one = HuggingFaceNetwork(model, output="insult")
    x = torch.randint(2, 11, (60, 6), generator=torch.Generator().manual_seed(0)).float()
    given = {"x": x, "y": torch.arange(60) % 2, "group": torch.arange(60) // 30}
    data = rf.GroupedData(**given, group_names=("f", "m"), label_names=label_names)
    plain = rf.GroupedData(**given, group_names=("f", "m"))
    with warnings.catch_warnings():
        warnings.simplefilter("error", RetrofairWarning)
        found = rf.networks.logits(one, data)
    assert torch.equal(found, rf.networks.logits(one, plain) * (-1 if turned else 1))
    for names in (("bad", "good"), ("1", "2")):  # of which nobody knows what they say
        unknown = rf.GroupedData(**given, group_names=("f", "m"), label_names=names)
        with pytest.warns(RetrofairWarning, match=f"'insult' is taken for the label '{names[1]}'"):
            rf.audit(one, unknown, outputs="logits")
        assert torch.equal(rf.networks.logits(one, unknown), rf.networks.logits(one, plain))


def test_a_result_of_all_outputs_wants_all(tmp_path: Path) -> None:
    frame = spoken("bert", tmp_path, ["yes", "no"])
    data = rf.texts_of(frame, tmp_path / "spoken", text="review", positive="yes", **COLUMNS)
    plain = rf.GroupedData(
        x=data.x["input_ids"], y=data.y, group=data.group, group_names=data.group_names
    )
    place = rf.debias(bert(), plain, GOAL, "threshold", outputs="logits").save(tmp_path / "o")
    one: Any = bert()
    one.config.problem_type = "multi_label_classification"
    with pytest.raises(InputError, match=r"which output all is read.*got 0"):
        rf.load_result(place, HuggingFaceNetwork(one, output=0))


def test_a_batch_made_for_training(tmp_path: Path) -> None:
    model: Any = bert()
    model.config.return_dict = False
    x = {"input_ids": torch.randint(2, 11, (5, 6)), "labels": torch.ones(5, dtype=torch.long)}
    found = HuggingFaceNetwork(model)(**x)
    assert torch.equal(found, HuggingFaceNetwork(bert())(input_ids=x["input_ids"]))


@pytest.mark.parametrize("classes", [2, 3])
def test_a_result_refuses_labels_that_are_coded_otherwise(classes: int, tmp_path: Path) -> None:
    words = ["no", "yes", "perhaps"][:classes]
    frame = spoken("bert", tmp_path, words)
    folder = tmp_path / "spoken"
    positive = {"positive": "yes"} if classes == 2 else {}
    data = rf.texts_of(frame, folder, text="review", **positive, **COLUMNS)
    result = rf.debias(load_network(str(folder)), data, GOAL, "threshold")
    result = rf.load_result(result.save(tmp_path / "o"), load_network(str(folder)))
    assert rf.audit(result, data)["accuracy"].value == 1.0
    if classes == 2:
        other = rf.texts_of(frame, folder, text="review", positive="no", **COLUMNS)
        match = r"no 0, yes 1, got yes 0, no 1: positive='yes'"
    else:  # of which one does not turn up
        frame = frame[frame["said"] != "perhaps"].assign(said=lambda f: f["said"] + "!")
        frame = frame.replace({"said": {"yes!": "yes", "no!": "perhaps"}})
        other = rf.texts_of(frame, folder, text="review", positive="yes", **COLUMNS)
        match = r"no 0, perhaps 1, yes 2, got perhaps 0, yes 1: dataclasses"
    for look in (rf.audit, rf.debiasers.compare):
        with pytest.raises(InputError, match=match):
            look(result, other) if look is rf.audit else look(result, result, other)
    nameless = dataclasses.replace(data, label_names=())
    assert rf.audit(result, nameless)["accuracy"].value == 1.0


@pytest.mark.parametrize("names", [("m", "M"), ("a", " a"), ("True", "1"), ("1", "1.0")])
def test_a_result_takes_names_that_differ_a_little(names: tuple[str, str]) -> None:
    x = torch.linspace(-1, 1, 60)[:, None]
    rows = {"x": x, "y": torch.arange(60) % 2, "group": torch.arange(60) // 30}
    data = rf.GroupedData(**rows, group_names=("f", "m"), label_names=names)
    net = torch.nn.Linear(1, 1)
    result = rf.debias(net, data, GOAL, "threshold", outputs="logits")
    assert rf.audit(result, data)["spd"].value is not None
    turned = dataclasses.replace(data, label_names=names[::-1])
    with pytest.raises(InputError, match="expected labels coded as the result's"):
        rf.audit(result, turned)


def test_names_of_a_config() -> None:
    model = bert(2)
    assert class_names(model) == ("LABEL_0", "LABEL_1")
    model.config.label2id = {"b": 1, "a": 0}  # given alone, the other way round stays made up
    assert class_names(model) == ("a", "b")
    model.config.id2label = {"1": "d", "0": "c"}
    assert class_names(model) == ("c", "d")
    assert class_names(torch.nn.Linear(1, 1)) == ()
    model.config.id2label = model.config.label2id = None
    assert class_names(model) == ()


def test_adapters_are_refused_with_the_way_out() -> None:
    kind = type("PeftModel", (torch.nn.Module,), {"__module__": "peft.peft_model"})
    adapted = type("PeftModelForSequenceClassification", (kind,), {})()
    data = rf.datasets.load("synthetic", n=300).valid
    for given in (
        lambda: rf.audit(adapted, data),
        lambda: rf.debias(adapted, data, GOAL, "threshold"),
        lambda: rf.frontier(adapted, data),
        lambda: rf.export(adapted, "m.onnx", data=data),
    ):
        with pytest.raises(InputError, match=r"got PeftModelFor.*merge_and_unload"):
            given()


def test_classifiers_are_known_without_the_package() -> None:
    class Own(type(bert())):  # type: ignore[misc]
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x

    assert is_classifier(bert())
    assert not is_classifier(Own(bert().config))  # answers as its own code says
    assert not is_classifier(bert().bert)
    assert not is_classifier(torch.nn.Linear(1, 1))
    assert not is_classifier("bert")


@pytest.mark.parametrize(
    ("outputs", "labels"), [(["False", "True"], ["1", "2"]), (["0", "5"], ["5", "7"])]
)
def test_one_number_that_is_alike_is_no_name(outputs: list[str], labels: list[str]) -> None:
    assert order_of(outputs, labels)[0] is None
