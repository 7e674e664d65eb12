"""Images at the command line: audited, debiased, compared, exported; what is wrong is said once."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

pytest.importorskip("transformers")
import retrofair as rf
from hugging_cases import NETWORKS, pictures, saved, table
from retrofair.cli import run
from retrofair.cli.config import defaults_of
from retrofair.networks import load_network

COLUMNS = ["--label", "smiling", "--sensitive", "race", "--privileged", "White"]
LOGITS = ["--outputs", "logits"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with networks, faces/ and labels.csv."""
    root = tmp_path_factory.mktemp("made")
    frame = table()
    pictures(frame, root)
    frame.to_csv(root / "labels.csv", index=False)
    for name in ("resnet", "vit"):
        saved(name, root)
    saved("resnet", root / "three", labels=3)
    return root


@pytest.fixture(autouse=True)
def elsewhere(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in ("resnet", "vit", "three", "faces", "labels.csv"):
        Path(name).symlink_to(made / name)


def of_images(network: str = "resnet", *more: object) -> list[str]:
    given = ["--network", network, "--images", "faces", "--labels", "labels.csv", *COLUMNS]
    return [*given, *LOGITS, *map(str, more)]


def fails(capsys: Any, message: str, *arguments: object) -> None:
    """Exit status 2, one line on standard error, nothing on standard output."""
    assert run([str(each) for each in arguments]) == 2
    out, err = capsys.readouterr()
    assert len(err.splitlines()) == 1, err
    assert message in err
    assert not out


@pytest.mark.parametrize("network", ["resnet", "vit"])
@pytest.mark.parametrize(
    "method",
    [
        ["--method", "fair_head"],
        ["--method", "threshold", "--batch-rows", "16", "--size", "16"],
    ],
)
def test_debias_saves_what_loads_and_decides_alike(network, method, capsys) -> None:
    arguments = of_images(network, *method, "--out", "fair", "--report", "--json")
    assert run(["debias", *arguments]) in (0, 3)
    out, err = capsys.readouterr()
    found = json.loads(out)
    assert found["about"]["rows"] == 60  # half of the rows: the others are the test's
    assert "images of 16 x 16 pixels, prepared as the network's preprocessor_config.json" in err
    assert "preparation.json" not in err
    assert {each.name for each in Path("fair").iterdir()} == {
        *("model.safetensors", "result.json", "audit.json", "before-after.png"),
        *("report.json", "report.html"),
    }
    net = load_network(network)
    result = rf.load_result("fair", net)
    data = rf.images_of(
        "faces",
        "labels.csv",
        label="smiling",
        sensitive="race",
        privileged="White",
        **rf.networks.image_options(network),
    )
    test = rf.split_rows(data, 0, (0.0, 0.5, 0.5)).test
    audit = rf.audit(result, test)
    assert found["test"]["after"]["spd"]["value"] == audit["spd"].value
    # and the whole table with the saved result, by the command line
    names = ["--network", network, "--images", "faces", "--labels", "labels.csv"]
    assert run(["audit", "--result", "fair", *names, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["spd"]["value"] == rf.audit(result, data)["spd"].value


def test_blue_first_where_the_folder_says_so(capsys) -> None:
    shutil.copytree("resnet", "blue")
    values = {"image_processor_type": "MobileViTImageProcessor", "size": {"shortest_edge": 20}}
    values |= {"crop_size": {"height": 16, "width": 16}}
    Path("blue/preprocessor_config.json").write_text(json.dumps(values))
    asked = of_images("blue", "--method", "threshold", "--out", "fair", "--json")
    assert run(["debias", *asked]) in (0, 3)
    assert "blue first" in capsys.readouterr().err
    result = rf.load_result("fair", load_network("blue"))
    labels = {"label": "smiling", "sensitive": "race", "privileged": "White"}
    read = rf.networks.image_options("blue")
    assert read["channels"] == "bgr"
    data = rf.images_of("faces", "labels.csv", **labels, **read)
    other = rf.images_of("faces", "labels.csv", **labels, **read | {"channels": 3})
    assert torch.equal(data.x.flip(1), other.x)
    assert rf.audit(result, data)["spd"].value != rf.audit(result, other)["spd"].value
    names = ["--network", "blue", "--images", "faces", "--labels", "labels.csv"]
    assert run(["audit", "--result", "fair", *names, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["spd"]["value"] == rf.audit(result, data)["spd"].value
    asked = ["export", "fair", "--network", "blue", "--format", "torchscript", "--out", "served"]
    assert run(asked) == 0
    assert "16 x 16 pixels, BGR" in capsys.readouterr().err


def test_a_report_is_written_again_from_its_folder(capsys) -> None:
    assert run(["debias", *of_images("vit", "--method", "threshold", "--out", "o")]) in (0, 3)
    assert run(["report", "o"]) == 0
    page = Path("o/report.html").read_text(encoding="utf-8")
    assert "--images" in page
    assert "labels.csv" in page
    assert 'type="range"' in page or "type=range" in page


def test_options_of_training_reach_the_method(monkeypatch, capsys) -> None:
    from retrofair.cli import debias_command

    seen: list[Any] = []

    def resolved(name: str) -> Any:
        kind = {known.name: known for known in rf.debiasers.ALL}[name]
        return kind(epochs=1, steps=2, batch_size=16)

    real = debias_command.debias_network

    def noted(network: Any, data: Any, goal: Any, method: Any, **more: Any) -> Any:
        seen.append((method, more))
        return real(network, data, goal, method, **more)

    monkeypatch.setattr(debias_command, "resolve", resolved)
    monkeypatch.setattr(debias_command, "debias_network", noted)
    training = ["--layers", 1, "--micro-rows", 8, "--mixed", "--checkpoint", "state"]
    arguments = of_images("resnet", "--method", "lagrangian", *training, "--out", "o")
    assert run(["debias", *arguments]) in (0, 3)
    method, more = seen[0]
    assert (method.layers, method.micro_rows, method.mixed) == (1, 8, True)
    assert method.checkpoint == "state"
    assert not more["head_only"]
    old = load_network("resnet").state_dict()
    new = rf.load_result("o", load_network("resnet")).model.state_dict()
    changed = {name for name in old if not torch.equal(old[name], new[name])}
    assert all("classifier" in name for name in changed)


def test_the_head_only_with_zhang(monkeypatch, capsys) -> None:
    from retrofair.cli import debias_command

    few = rf.debiasers.Zhang(epochs=1, critic_steps=2, actor_steps=2)
    monkeypatch.setattr(debias_command, "resolve", lambda _: few)
    arguments = of_images("resnet", "--method", "zhang", "--head-only", "--json")
    assert run(["debias", *arguments]) in (0, 3)
    assert json.loads(capsys.readouterr().out)["about"]["head_only"] is True


def test_a_cache_holds_what_the_network_says(capsys) -> None:
    arguments = of_images("resnet", "--method", "fair_head", "--cache", "kept", "--json")
    assert run(["debias", *arguments]) in (0, 3)
    first = json.loads(capsys.readouterr().out)
    assert list(Path("kept").iterdir())
    assert run(["debias", *arguments]) in (0, 3)
    second = json.loads(capsys.readouterr().out)
    assert first["test"] == second["test"]


def test_audit_and_frontier(capsys) -> None:
    assert run(["audit", *of_images("vit", "--json")]) == 0
    found = json.loads(capsys.readouterr().out)
    assert -1 <= found["spd"]["value"] <= 1
    methods = ["--methods", "threshold,fair_head", "--bounds", "0.4,0.2", "--choose", "bias=0.9"]
    assert run(["frontier", *of_images("vit", *methods, "--head-only", "--out", "front")]) == 0
    names = ["--network", "vit", "--images", "faces", "--labels", "labels.csv"]
    assert run(["audit", "--result", "front/chosen", *names, "--json"]) == 0


def test_a_zip_gives_what_the_folder_gives(made: Path, capsys) -> None:
    with zipfile.ZipFile("faces.zip", "w") as archive:
        for each in (made / "faces").iterdir():
            archive.write(each, f"inner/{each.name}")
    found = []
    for place in ("faces", "faces.zip"):
        names = ["--network", "vit", "--images", place, "labels.csv", *COLUMNS, *LOGITS]
        assert run(["audit", *names, "--json"]) == 0
        found.append(json.loads(capsys.readouterr().out))
    assert found[0] == found[1]


def test_three_classes(capsys) -> None:
    frame = table().assign(mood=[["calm", "glad", "sad"][k % 3] for k in range(120)])
    frame.to_csv("moods.csv", index=False)
    names = ["--images", "faces", "--labels", "moods.csv", "--label", "mood"]
    more = ["--sensitive", "race", "--network", "three/resnet", "--outputs", "logits"]
    assert run(["debias", *names, *more, "--method", "threshold", "--out", "o"]) in (0, 3)
    assert run(["audit", *names[:4], *more[2:4], "--result", "o", "--json"]) == 0
    capsys.readouterr()
    # two classes only in the labels, three outputs
    fails(capsys, "labels of 3 classes are 0 to 2", "audit", *of_images("three/resnet"))


def test_export_takes_pixels(capsys) -> None:
    pytest.importorskip("onnxruntime")
    assert run(["debias", *of_images("resnet", "--method", "threshold", "--out", "o")]) in (0, 3)
    asked = ["export", "o", "--network", "resnet", "--out", "served", "--format", "torch_export"]
    assert run(asked) == 0
    out, err = capsys.readouterr()
    assert "(rows, 3, 16, 16)" in out
    assert "the file takes images that are prepared: 16 x 16 pixels" in err
    assert "mean 0.5, 0.4, 0.3 and std 0.25, 0.25, 0.5" in err
    assert "wrote served/model.pt2 and export.json" in err


def test_utkface_by_name(data_root: Path, capsys) -> None:
    arguments = ["utkface", "--network", "resnet", "--root", data_root, "--method", "threshold"]
    assert run(["debias", *map(str, arguments), *LOGITS, "--json"]) in (0, 3)
    assert json.loads(capsys.readouterr().out)["about"]["rows"] == 4663


def test_without_a_preprocessor_imagenets_are_noted(made: Path, capsys) -> None:
    shutil.copytree(made / "vit", "plain")
    Path("plain/preprocessor_config.json").unlink()
    assert run(["audit", *of_images("plain", "--json")]) == 0
    assert "16 x 16 pixels, with the mean and spread of ImageNet" in capsys.readouterr().err


def test_a_module_of_ones_own(capsys) -> None:
    Path("faces_net.py").write_text(
        "from torch import nn\n"
        "make = lambda: nn.Sequential(nn.Flatten(), nn.Linear(192, 1))\n"
        "class Wrong(nn.Module):\n"
        "    def __init__(self, answer):\n"
        "        super().__init__()\n"
        "        self.answer = answer\n"
        "    def forward(self, x):\n"
        "        return self.answer\n"
        "none = lambda: Wrong(None)\n"
        "hidden = lambda: Wrong({'hidden': 1})\n"
        "logits = lambda: Wrong({'logits': 1})\n"
    )
    assert run(["audit", *of_images("faces_net:make", "--size", 8, "--json")]) == 0
    assert "8 x 8 pixels, with the mean and spread of ImageNet" in capsys.readouterr().err
    for name, message in (
        ("none", "got NoneType: return them as a tensor"),
        ("hidden", "got dict: return them as a tensor"),
        ("logits", "got dict: return its .logits"),
    ):
        fails(capsys, message, "audit", *of_images(f"faces_net:{name}", "--size", 8))


# --- what is wrong --------------------------------------------------------------------------------


def test_an_image_that_cannot_be_read(made: Path, capsys) -> None:
    shutil.copytree(made / "faces", "some")
    Path("some/005.png").write_bytes(b"no image")
    Path("some/006.png").unlink()
    given = ["--network", "vit", "--images", "some", "--labels", "labels.csv", *COLUMNS, *LOGITS]
    fails(capsys, "120 rows in some, but 1 are not there: 006.png", "audit", *given)
    fails(capsys, "(--on-error skip)", "audit", *given)
    kept = table().drop(6)
    kept.to_csv("kept.csv", index=False)
    given[5] = "kept.csv"
    fails(capsys, "expected an image in '005.png'", "audit", *given)
    fails(capsys, "(--on-error skip)", "audit", *given)
    given[5] = "labels.csv"
    assert run(["audit", *given, "--on-error", "skip"]) == 0
    out, err = capsys.readouterr()
    assert "118 rows" in out
    assert "left out 1 of 120 rows without an image" in err
    assert "left out 1 of 119 rows whose image cannot be read: 005.png" in err


def test_a_group_in_the_test_part_alone_is_said(capsys) -> None:
    frame = table()
    order = np.random.default_rng(0).permutation(120)  # as --seed 0 splits
    frame.loc[order[100], "race"] = "rare"
    frame.to_csv("rare.csv", index=False)
    arguments = of_images("vit", "--method", "threshold")
    arguments[5] = "rare.csv"
    run(["debias", *arguments])
    assert "rare: rows in the test part, and none in the validation part" in capsys.readouterr().err


def test_a_pickle_only_names_the_class_that_converts_it(made: Path, capsys) -> None:
    shutil.copytree(made / "vit", "old")
    Path("old/model.safetensors").unlink()
    torch.save({}, "old/pytorch_model.bin")
    way = "AutoModelForImageClassification.from_pretrained(folder).save_pretrained(folder)"
    fails(capsys, way, "audit", *of_images("old"))


def test_options_that_need_or_exclude_each_other(capsys) -> None:
    images, net = ["--images", "faces"], ["--network", "vit"]
    labels = ["--labels", "labels.csv"]
    fails(capsys, "expected --labels TABLE with --images", "audit", *images, *net)
    fails(capsys, "expected --images FOLDER with --labels", "audit", *labels, *net)
    both = [*images, *labels, "--text", "review", *net]
    fails(capsys, "expected --images or --text, got both", "debias", *both)
    fails(capsys, "--labels or --data", "audit", "x.csv", *images, *labels, *net)
    fails(capsys, "expected --network FOLDER", "debias", *images, *labels, *COLUMNS)
    fails(capsys, "expected --network", "debias", "utkface")
    fails(capsys, "celeba with --images", "audit", "adult", *images, *net)
    fails(capsys, "expected --images with --size", "audit", "labels.csv", "--size", 8)
    fails(capsys, "expected --text with --max-length", "audit", "labels.csv", "--max-length", 8)
    fails(capsys, "with --workers, got none", "audit", "labels.csv", "--workers", 1)
    fails(capsys, "expected no --images with --prediction", "audit", *images, *labels, *net,
          "--prediction", "smiling")  # fmt: skip
    fails(capsys, "expected no --drop with --images", "audit", *of_images("vit", "--drop", "x"))
    fails(capsys, "--on-error", "audit", *of_images("vit", "--on-error", "stop"))
    fails(capsys, "there is no nope (--images)", "audit", "--images", "nope", *labels, *net)
    fails(capsys, "there is no", "audit", *of_images("vit")[:4], "--labels", "nope.csv", *COLUMNS)


def test_devices_and_caches(monkeypatch, capsys) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    fails(capsys, "a GPU that torch can use for --device cuda", "audit",
          *of_images("vit", "--device", "cuda"))  # fmt: skip
    fails(capsys, "--device", "audit", *of_images("vit", "--device", "tpu"))
    assert run(["audit", *of_images("vit", "--device", "cpu", "--json")]) == 0
    capsys.readouterr()
    fails(capsys, "labels.csv is a file (--cache)", "debias",
          *of_images("vit", "--cache", "labels.csv"))  # fmt: skip
    fails(capsys, "is a file (--checkpoint)", "debias",
          *of_images("vit", "--method", "lagrangian", "--checkpoint", "labels.csv"))  # fmt: skip


@pytest.mark.parametrize("command", ["certify", "export"])
def test_commands_that_are_for_tables(command: str, capsys) -> None:
    fails(capsys, "expected a table, got the images of utkface", command, "utkface", "--network",
          "vit", *([] if command == "export" else ["--epsilon", 0.1]))  # fmt: skip


@pytest.mark.parametrize("option", [["--layers", "1"], ["--micro-rows", "8"], ["--mixed"]])
def test_options_of_training_that_a_method_has_not(option, capsys) -> None:
    fails(capsys, f"lagrangian or adversarial with {option[0]}, got random", "debias",
          *of_images("vit", *option))  # fmt: skip
    fails(capsys, f"with {option[0]}, got threshold", "frontier",
          *of_images("vit", *option, "--methods", "threshold"))  # fmt: skip


def test_a_table_without_the_column_and_a_broken_zip(capsys) -> None:
    given = of_images("vit")
    given[given.index("smiling")] = "grinning"
    fails(capsys, "'grinning'", "audit", *given)
    fails(capsys, "'nofile'", "audit", *of_images("vit", "--image-column", "nofile"))
    Path("faces.zip").write_bytes(b"PK nothing")
    given = of_images("vit")
    given[3] = "faces.zip"
    fails(capsys, "cannot be read as a zip", "audit", *given)
    fails(capsys, "(--images)", "audit", *given)


def test_a_label_of_many_values_asks_for_the_positive_one(capsys) -> None:
    table().assign(smiling=np.linspace(0, 1, 120)).to_csv("ages.csv", index=False)
    given = of_images("vit")
    given[5] = "ages.csv"
    fails(capsys, "with --positive", "audit", *given)


def test_a_result_of_images_wants_images(capsys) -> None:
    assert run(["debias", *of_images("vit", "--method", "threshold", "--out", "o")]) in (0, 3)
    capsys.readouterr()
    names = ["--images", "faces", "--labels", "labels.csv"]
    fails(capsys, "expected data as this result was fitted to, --images, got a table", "audit",
          "labels.csv", "--result", "o", "--network", "vit")  # fmt: skip
    fails(capsys, "expected no --size with a saved result", "audit", "--result", "o", "--network",
          "vit", *names, "--size", 8)  # fmt: skip
    frame = table().assign(race="green")
    frame.loc[::2, "race"] = "White"
    frame.to_csv("green.csv", index=False)
    given = ["--result", "o", "--network", "vit", *names[:3], "green.csv"]
    fails(capsys, "['green', 'White']", "audit", *given)


def test_options_from_a_file(made: Path, capsys) -> None:
    Path("conf").mkdir()
    Path("conf/vit").symlink_to(made / "vit")
    Path("conf/faces").symlink_to(made / "faces")
    Path("conf/labels.csv").symlink_to(made / "labels.csv")
    Path("conf/r.toml").write_text(
        'images = "faces"\nlabels = "labels.csv"\nlabel = "smiling"\nsensitive = "race"\n'
        'network = "vit"\noutputs = "logits"\nbatch-rows = 50\n[debias]\nhead-only = true\n'
    )
    found = defaults_of(Path("conf/r.toml"), "debias")
    assert found["network"] == "conf/vit"
    assert found["images"] == "conf/faces"
    assert found["head_only"] is True
    assert run(["audit", "--config", "conf/r.toml", "--json"]) == 0
    # decisions that are made need no images, another table takes the place of the file's
    assert run(["audit", "--config", "conf/r.toml", "labels.csv", "--prediction", "smiling"]) == 0
    assert run(["audit", "--config", "conf/r.toml", "--data", "labels.csv", "--json"]) == 0


def test_kinds_are_those_that_are_tested() -> None:
    assert set(NETWORKS) == {"resnet", "vit", "bert"}
    assert list(pd.read_csv("labels.csv").columns) == ["file", "review", "smiling", "race"]


@pytest.mark.parametrize("kind", ["resnet", "bert"])
def test_a_label_that_is_a_number(kind: str, capsys: Any) -> None:
    frame = table()
    frame["age"] = 20 + 10 * (frame["race"] == "White") + 5 * frame["smiling"]
    frame.to_csv("ages.csv", index=False)
    saved(kind, Path("one"), labels=1)
    given = ["--network", f"one/{kind}", "--label", "age", *COLUMNS[2:], "--regression"]
    of_rows = ["--images", "faces", "--labels", "ages.csv"]
    given += of_rows if kind == "resnet" else ["ages.csv", "--text", "review"]
    assert run(["audit", *given, "--json"]) == 0
    before = json.loads(capsys.readouterr().out)
    assert before["overall"]["rows"] == len(frame)
    assert run(["debias", *given, "--bound", "2000", "--out", "fair", "--json"]) in (0, 3)
    found = json.loads(capsys.readouterr().out)
    after = found["fit"]["after"]["overall"]["loss"]["value"]
    assert after < found["fit"]["before"]["overall"]["loss"]["value"]
    assert Path("fair/model.safetensors").is_file()


@pytest.mark.filterwarnings("ignore::retrofair.errors.RetrofairWarning")
def test_a_network_of_one_channel_gets_grey_images(capsys: Any) -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.ViTConfig(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        image_size=16,
        patch_size=8,
        num_channels=1,
    )
    torch.manual_seed(0)
    transformers.ViTForImageClassification(config).save_pretrained("grey")
    arguments = of_images("grey", "--method", "threshold", "--out", "fair")
    assert run(["debias", *arguments]) in (0, 3)
    assert "grey images, as the network's config.json says" in capsys.readouterr().err
    new = ["--images", "faces", "--labels", "labels.csv", "--network", "grey"]
    assert run(["audit", *new, "--result", "fair", "--json"]) == 0
    capsys.readouterr()
    asked = ["export", "fair", "--network", "grey", "--out", "file", "--format", "torch_export"]
    assert run(asked) == 0
    assert "16 x 16 pixels, grey, (value" in " ".join(capsys.readouterr().err.split())
    says = "3 channels here: images_of(..., channels=1) makes grey ones"
    assert run(["debias", *arguments, "--channels", "3"]) == 2
    assert says in capsys.readouterr().err
    fails(
        capsys,
        "no --channels with a saved result",
        *["audit", *new, "--result", "fair"],
        "--channels",
        1,
    )
    assert run(["debias", *of_images("vit", "--method", "threshold", "--channels", 1)]) == 2
    assert (
        "of one channel in vit/preprocessor_config.json, got [0.5, 0.4, 0.3]; channels=3"
        in capsys.readouterr().err
    )
    assert run(["debias", *of_images("vit", "--method", "threshold", "--channels", 2)]) == 2
    assert "choice for --channels" in capsys.readouterr().err
    fails(
        capsys,
        "expected --images with --channels",
        "audit",
        "labels.csv",
        *COLUMNS,
        "--channels",
        1,
    )
