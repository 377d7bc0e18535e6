import hashlib
import os
import re
import time

import pytest
import yaml
from fake_zoo import edit_card, make_entry

from regzoo.errors import InvalidError, MissingError
from regzoo.hub import cards
from regzoo.io import yaml_json
from regzoo.schema.card import Peer, Score
from regzoo.schema.networks import ModelConfig
from regzoo.schema.outputs import DDFConfig


def error_of(call, *args):
    """The message of the error that a call ends in: always one line of the project's own kind."""
    with pytest.raises((InvalidError, MissingError)) as caught:
        call(*args)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_card_round_trips(tmp_path):
    folder = make_entry(tmp_path / "x")
    card = cards.read(folder)
    text = (folder / "README.md").read_text(encoding="utf-8")
    assert card.name == "lung-ct-ddf"
    assert card.scores[0].baseline == {"unregistered": 0.56, "other": None}
    assert card.files[1] == cards.FileEntry(
        path="model.safetensors", sha256=hashlib.sha256(b"weights").hexdigest(), bytes=7
    )
    assert card.size == sum((folder / file.path).stat().st_size for file in card.files)
    cards.write(folder, card, cards.read_body(folder))
    assert (folder / "README.md").read_text(encoding="utf-8") == text
    assert cards.read(folder) == card
    assert cards.read_body(folder) == "# lung-ct-ddf\n\nA *made up* model."


def test_front_matter_is_a_hub_card_in_a_fixed_order(tmp_path):
    folder = make_entry(tmp_path / "x")
    front = yaml.safe_load((folder / "README.md").read_text(encoding="utf-8").split("---\n")[1])
    assert list(front)[:6] == ["library_name", "pipeline_tag", "license", "tags", "name", "version"]
    assert (front["library_name"], front["pipeline_tag"]) == ("keras", "image-to-image")
    assert set(front) <= set(cards._ORDER)
    assert set(cards._ORDER) == set(cards.Card.model_fields)


def test_awkward_text_survives(tmp_path):
    awkward = ("---\nkey: value\n---", "a: b # c", "naïve ± 0.5 µm", "'\"\\", "yes", "1e-4", "  spaces  ", "- x\n\ty\n")
    folder = make_entry(tmp_path / "x", limits=list(awkward))
    cards.write(folder, cards.read(folder), "text\n---\nmore\n---\n")
    assert cards.read(folder).limits == awkward
    assert cards.read_body(folder) == "text\n---\nmore\n---"


def test_windows_line_ends_and_byte_order_mark_are_read(tmp_path):
    folder = make_entry(tmp_path / "x")
    card, path = cards.read(folder), folder / "README.md"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    assert cards.read(folder) == card


def test_a_run_is_a_card_but_not_publishable(tmp_path):
    make_entry(tmp_path / "x")
    run = cards.Card(name="run", version="1", input={"shape": (8, 8, 8)}, files=cards.manifest(tmp_path / "x"))
    assert cards.publishable(run) == ["license", "summary", "anatomy", "modality", "data", "scores", "limits"]
    cards.write(tmp_path / "x", run, "")
    assert cards.read(tmp_path / "x") == run


def test_publishable_wants_the_command_of_every_score(tmp_path):
    assert cards.publishable(cards.read(make_entry(tmp_path / "x"))) == []
    bare = [{"metric": "dice", "value": 1, "data": "x", "pairs": 1}]
    assert cards.publishable(cards.read(make_entry(tmp_path / "y", scores=bare))) == ["scores[0].command"]


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("summary:", "sumary:", "sumary: unknown key. Did you mean 'summary'?"),
        ("  sd: 0.02", "  sdd: 0.02", "scores[0].sdd: unknown key. Did you mean 'sd'?"),
        (
            "name: percentiles",
            "name: percent",
            "input.intensity.name: expected 'percentiles', 'window', received 'percent'.",
        ),
        ("    low: 1.0", "    lo: 1.0", "input.intensity.lo: unknown key. Did you mean 'low'?"),
        ("version: '1'", "version: 1", "version: expected a valid string, received 1. Put it in quotes."),
        (
            "name: lung-ct-ddf",
            "name: Lung_CT",
            "name: expected text to match pattern '^[a-z0-9]+(-[a-z0-9]+)*$', received 'Lung_CT'.",
        ),
        ("name: lung-ct-ddf\n", "", "name: the key is missing."),
        ("name: percentiles\n    ", "", "input.intensity.name: the key is missing."),
        ("value: 0.8521", "value: .nan", "scores[0].value: expected a finite number, received nan."),
        ("value: 0.8521", "value: .inf", "scores[0].value: expected a finite number, received inf."),
        (
            "value: 0.8521",
            "value: much",
            "scores[0].value: expected a valid number, unable to parse string as a number, received 'much'.",
        ),
        ("pairs: 20", "pairs: 0", "scores[0].pairs: expected greater than or equal to 1, received 0."),
        (
            "url: https://example.org",
            "url: file:///etc/passwd",
            "data[0].url: expected text to match pattern '^https?://\\S+$', received 'file:///etc/passwd'.",
        ),
        (
            "path: scores.json",
            "path: ../scores.json",
            "files[2].path: expected a plain file name inside the folder, received '../scores.json'.",
        ),
        (
            "path: scores.json",
            "path: /etc/passwd",
            "files[2].path: expected a plain file name inside the folder, received '/etc/passwd'.",
        ),
        (
            "path: scores.json",
            "path: a\\b.json",
            "files[2].path: expected a plain file name inside the folder, received 'a\\\\b.json'.",
        ),
        ("path: scores.json", "path: readme.md", "files[2].path: the card cannot list itself."),
        ("path: scores.json", "path: Config.json", "files: a file is listed twice."),
        ("path: model.safetensors", "path: weights.bin", "files: model.safetensors must be listed."),
        ("config: config.json", "config: ../config.json", "config: expected 'config.json', received '../config.json'."),
        ("summary: Registers", 'summary: "\\e[31m"\nx: Registers', "x: unknown key."),
        ("anatomy: lung", 'anatomy: "\\e[31mlung"', "anatomy: expected text without control characters."),
        ("anatomy: lung", 'anatomy: "lu\\u202eng"', "anatomy: expected text without control characters."),
        ("path: scores.json", "path: con.json", "files[2].path: expected a name that is a file on every system"),
        ("path: scores.json", "path: config.json.", "files[2].path: expected a name that is a file on every system"),
        ("anatomy: lung", "anatomy: &a lung", "anchors and aliases (& and *) are not allowed."),
        ("anatomy: lung", "<<: {anatomy: brain}\nanatomy: lung", "merge keys (<<) are not allowed."),
        ("  sd: 0.02", "  <<: {sd: 3}\n  sd: 0.02", "merge keys (<<) are not allowed."),
        ("training: {}", 'training: {a: [{b: "\\u202Ex"}]}', "training.a: expected text without control characters"),
        ("training: {}", 'training: {a: {"\\u2066": 1}}', "training.a: expected text without control characters"),
        (
            "anatomy: lung",
            "anatomy: !!python/object:os.system {}",
            "tags (tag:yaml.org,2002:python/object:os.system) are not allowed.",
        ),
        ("anatomy: lung", "anatomy: lung\nanatomy: brain", "'anatomy' is given twice."),
        ("anatomy: lung", "anatomy: [lung", "not valid YAML, line"),
        ("anatomy: lung", "anatomy: 2024-99-99", "not valid YAML: month must be in 1..12."),
    ],
)
def test_a_bad_card_is_refused_by_path(tmp_path, old, new, expected):
    folder = make_entry(tmp_path / "x")
    edit_card(folder, old, new)
    message = error_of(cards.read, folder)
    assert message.startswith(str(folder / "README.md"))
    assert expected in message


def test_a_card_without_front_matter_or_file(tmp_path):
    assert error_of(cards.read, tmp_path) == f"{tmp_path / 'README.md'} does not exist."
    for text in ("# A readme\n", "", "---\nname: x\n", "----\nname: x\n----\n"):
        (tmp_path / "README.md").write_text(text)
        assert "expected front matter between two lines of '---'" in error_of(cards.read, tmp_path)
    (tmp_path / "README.md").write_text("---\n- a\n---\n")
    assert "expected a mapping of keys to values, received list" in error_of(cards.read, tmp_path)
    (tmp_path / "README.md").write_bytes(b"---\nname: \xff\n---\n")
    assert "expected UTF-8 text, received a bad byte at offset 10" in error_of(cards.read, tmp_path)


def test_oversized_files_are_refused_before_parsing(tmp_path, monkeypatch):
    folder = make_entry(tmp_path / "x")
    with (folder / "README.md").open("a") as file:
        file.write("x" * cards.CARD_LIMIT)
    (folder / "config.json").write_text(" " * cards.CONFIG_LIMIT + "{}")
    monkeypatch.setattr(cards, "parse_yaml", None)
    monkeypatch.setattr(cards, "parse_json", None)
    assert "expected at most 256 KiB, received 257 KiB" in error_of(cards.read, folder)
    assert "expected at most 64 KiB, received 64 KiB" in error_of(cards.read_config, folder)


def test_a_card_that_would_be_too_large_is_not_written(tmp_path):
    folder = make_entry(tmp_path / "x")
    before = (folder / "README.md").read_bytes()
    assert "at most 256 KiB" in error_of(cards.write, folder, cards.read(folder), "x" * cards.CARD_LIMIT)
    assert (folder / "README.md").read_bytes() == before
    assert not list(folder.glob(".*"))


BOMB = "a: &a [x, x]\nb: &b [*a, *a]\nc: &c [*b, *b]\n"


@pytest.mark.parametrize(
    "text",
    [
        BOMB,
        "[" * 200_000,
        "- " * 100_000,
        "? " * 100_000,
        "a: " + "{a: " * 30,
        "a: !!int ''",
        "a: !!timestamp x",
        "a: 0x_",
        "a: " + ":".join("1" * 5000) + ".5",
        "a: " + "9" * 5000,
        "1: 2",
        "[1]: 2",
        "<<: 3",
        "a: \x00",
        "a: \ud7ff\ufffe",
        "a: 'open",
        "a: *b",
        "%YAML 9.9\n---\n",
        "--- {}\n--- {}",
        "null",
    ],
)
def test_hostile_yaml_ends_in_one_line(text):
    assert error_of(yaml_json.parse_yaml, text, "x.yaml").startswith("x.yaml")


def test_many_keys_are_read_in_linear_time():
    text = "".join(f"k{i}: 1\n" for i in range(20_000))
    start = time.process_time()
    assert len(yaml_json.parse_yaml(text, "x.yaml")) == 20_000
    assert time.process_time() - start < 3  # a search among all keys for each key takes 8 s


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{", "not valid JSON"),
        ("[" * 60_000, "at most 24 levels of nesting"),
        ('{"a":' * 40 + "1" + "}" * 40, "at most 24 levels of nesting"),
        ('{"dims": NaN}', "dims: expected a finite number, received nan"),
        ('{"dims": 1e999}', "dims: expected a finite number, received inf"),
        ('{"dims": 2, "dims": 3}', "'dims' is given twice"),
        ('{"dims": 4}', "dims: expected 2 or 3, received 4"),
        ('{"dims": %s}' % ("9" * 5000), "not valid JSON"),
        ("3", "expected a mapping of keys to values, received int"),
        (
            '{"backbone": {"name": "unett"}}',
            "backbone.name: expected 'unet', 'local', 'global', 'voxelmorph', 'pyramid', received 'unett'",
        ),
        (
            '{"backbone": {"name": "unet", "channels": [16, 1000000000]}}',
            "backbone.channels[1]: expected less than or equal to 512",
        ),
        ('{"output": {"name": "dvf", "step": 3}}', "output.step: unknown key. Did you mean 'steps'?"),
        (
            '{"output": {"name": "flow"}}',
            "output.name: expected 'ddf', 'dvf', 'ffd', 'affine', 'keypoints', 'fitted', 'conditional', 'mask', "
            "received 'flow'",
        ),
        ('{"output": {"name": "ddf", "level": 3}}', "output.level must be below 3, the backbone's deepest level."),
    ],
)
def test_a_bad_config_is_refused_by_path(tmp_path, text, expected):
    (tmp_path / "config.json").write_text(text)
    assert expected in error_of(cards.read_config, tmp_path)


def test_config_is_read(tmp_path):
    assert cards.read_config(make_entry(tmp_path / "x")) == ModelConfig(output=DDFConfig())


def test_manifest_lists_the_entry_and_not_its_logs(tmp_path):
    folder = make_entry(tmp_path / "x")
    (folder / "log.csv").write_text("x")
    assert [file.path for file in cards.manifest(folder)] == ["config.json", "model.safetensors", "scores.json"]
    (folder / "model.safetensors").unlink()
    assert error_of(cards.manifest, folder) == f"{folder} has no model.safetensors."


def test_a_card_is_frozen(tmp_path):
    card = cards.read(make_entry(tmp_path / "x"))
    with pytest.raises(ValueError, match="frozen"):
        card.version = "2"


def test_bundled_entries_are_found(tmp_path, monkeypatch):
    monkeypatch.setenv("REGZOO_ZOO", str(tmp_path))
    make_entry(tmp_path / "b-b", name="b-b")
    make_entry(tmp_path / "a-a", name="a-a")
    (tmp_path / "empty").mkdir()
    assert list(cards.bundled().items()) == [("a-a", tmp_path / "a-a"), ("b-b", tmp_path / "b-b")]


@pytest.mark.parametrize("checkout", [True, False])
def test_zoo_of_a_checkout_and_of_a_wheel(tmp_path, monkeypatch, checkout):
    monkeypatch.delenv("REGZOO_ZOO", raising=False)
    monkeypatch.setattr(cards, "__file__", str(tmp_path / "regzoo" / "hub" / "cards.py"))
    if checkout:
        (tmp_path / "pyproject.toml").touch()
    (tmp_path / "zoo_cards").mkdir()  # in site-packages this would be some other project's
    assert cards.zoo_folder() == (tmp_path if checkout else tmp_path / "regzoo").resolve() / "zoo_cards"


def test_model_table(tmp_path):
    one = cards.read(make_entry(tmp_path / "x"))
    two = cards.read(make_entry(tmp_path / "y", name="a-b", license=None, scores=[], anatomy="a|b"))
    lines = cards.model_table({"zoo_cards/x": one, "others/a-b": two}).splitlines()
    assert lines[0] == "<!-- models -->"
    assert lines[1] == "| name | version | anatomy | modality | size | licence | score | HD95 | best peer | seconds |"
    assert lines[3] == f"| [a-b](others/a-b/README.md) | 1 | a\\|b | CT | {two.size} B |  |  |  |  |  |"
    assert lines[4].endswith("| cc-by-4.0 | dice 0.852 ± 0.020, before 0.560 |  |  |  |")
    assert lines[5:] == ["<!-- /models -->"]
    assert len({len(re.findall(r"(?<!\\)\|", line)) for line in lines[1:-1]}) == 1


def test_model_table_shows_both_ways(tmp_path):
    card = cards.read(make_entry(tmp_path / "x"))
    (dice,) = card.scores
    values = {"dice_forward": 0.9, "dice_inverse": 0.804, "hd95": 1.5, "hd95_forward": 1.0, "hd95_inverse": 2.0}
    others = [dice.model_copy(update={"metric": key, "value": value, "unit": "mm"}) for key, value in values.items()]
    twice = [*others, dice.model_copy(update={"metric": "dice_forward", "value": 0.1, "data": "valid pairs"})]
    shown = cards.model_table({"x": card.model_copy(update={"scores": (dice, *twice)})}).splitlines()[3]
    hd95 = "1.500 ± 0.020 mm (map 1.000, inverse 2.000), before 0.560"
    assert shown.endswith(f"| dice 0.852 ± 0.020 (map 0.900, inverse 0.804), before 0.560 | {hd95} |  |  |")


def test_model_table_shows_the_best_peer_and_the_seconds(tmp_path):
    peer = Peer(name="SyN", measure="dice by the map", value=0.8, model=0.86, seconds=3.75, command="python peers.py")
    card = cards.read(make_entry(tmp_path / "x")).model_copy(update={"peer": peer})
    seconds = card.scores[0].model_copy(update={"metric": "network_seconds", "value": 0.1349})
    cards.write(tmp_path / "x", card.model_copy(update={"scores": (*card.scores, seconds)}), "")
    shown = cards.model_table({"x": cards.read(tmp_path / "x")}).splitlines()[3]
    assert shown.endswith("|  | SyN 0.800 beside 0.860 (dice by the map), 3.75 s | 0.13 |")
    tre = peer.model_copy(update={"unit": "mm", "seconds": None, "measure": "tre"})
    assert tre.text() == "SyN 0.800 beside 0.860 mm (tre)"


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({}, "tre 1.705 ± 0.400 mm"),
        ({"pairs": 1}, "tre 1.705 mm (1 pair)"),
        ({"sd": 0.03944}, "tre 1.705 ± 0.039 mm"),
        ({"sd": 0.000123}, "tre 1.705 ± 0.00012 mm"),
        ({"metric": "folds", "value": 0.000381, "sd": None, "unit": None}, "folds 0.00038"),
    ],
)
def test_text_of_a_score(changed, text):
    facts = {"metric": "tre", "value": 1.7049, "sd": 0.4, "unit": "mm", "data": "d", "pairs": 9, "command": "c"}
    assert Score(**facts | changed).text() == text


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (3_612_345, "3.6 MB"), (2 * 10**15, "2000.0 TB")]
)
def test_human_size(count, text):
    assert cards.human_size(count) == text


def test_full_disk_leaves_the_old_card(tmp_path, monkeypatch):
    folder = make_entry(tmp_path / "x")
    card, before = cards.read(folder), (folder / "README.md").read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space"):
        cards.write(folder, card, "new")
    assert (folder / "README.md").read_bytes() == before
    assert not list(folder.glob(".*"))
