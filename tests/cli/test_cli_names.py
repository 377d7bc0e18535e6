import json
import os
import re
import subprocess
import sys

import pytest
from fake_zoo import edit_card, make_entry
from typer.testing import CliRunner

import regzoo
from regzoo import cli, hub
from regzoo.cli import registering

MODULES = ("keras", "tensorflow", "torch", "jax", "numpy", "scipy", "nibabel", "matplotlib", "huggingface_hub")


@pytest.fixture(autouse=True)
def zoo(tmp_path, monkeypatch):
    """A bundled zoo of one model, an empty cache and a fresh working folder."""
    for name, folder in (("REGZOO_ZOO", "zoo"), ("REGZOO_CACHE", "cache")):
        monkeypatch.setenv(name, str(tmp_path / folder))
    monkeypatch.chdir(tmp_path)
    make_entry(tmp_path / "zoo" / "lung-ct-ddf")
    return tmp_path / "zoo"


def run(*arguments):
    """Runs the command line inside this process: exit code, stdout, stderr."""
    result = CliRunner().invoke(cli.app, arguments, prog_name="regzoo")
    return result.exit_code, result.stdout, result.stderr


def process(*arguments, **options):
    """Runs the command line as a process of its own."""
    command = [sys.executable, "-W", "error", "-m", "regzoo", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, **options)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("call", [run, process])
def test_list(call):
    code, out, err = call("list")
    assert (code, err) == (0, "")
    lines = [line.split() for line in out.splitlines()]
    assert lines[1] == ["name", "version", "anatomy", "modality", "size", "licence", "score", "source"]
    assert lines[3][:5] == ["lung-ct-ddf", "1", "lung", "CT", lines[3][4]]
    assert "cc-by-4.0" in out
    assert "dice 0.852 ± 0.020" in out


def test_list_does_not_cut_cells_in_a_pipe(zoo):
    name = "x" * 60
    make_entry(zoo / name, name=name)
    assert name in run("list")[1]


@pytest.mark.parametrize("call", [run, process])
def test_list_json(call):
    hub.pull(make_entry(hub.cards.zoo_folder().parent / "x", name="a-run", version="2"))
    code, out, err = call("list", "--json")
    assert (code, err) == (0, "")
    models = json.loads(out)
    assert [(model["name"], model["version"], model["source"]) for model in models] == [
        ("a-run", "2", "cached"),
        ("lung-ct-ddf", "1", "bundled"),
    ]
    assert models[1]["scores"][0]["baseline"] == {"unregistered": 0.56, "other": None}
    assert models[1]["size"] == sum(file["bytes"] for file in models[1]["files"])


def test_list_by_anatomy_and_modality(zoo):
    make_entry(zoo / "brain-mr-dvf", name="brain-mr-dvf", anatomy="brain", modality="MR (T1)")

    def names(*arguments):
        return [model["name"] for model in json.loads(run("list", "--json", *arguments)[1])]

    assert names() == ["brain-mr-dvf", "lung-ct-ddf"]
    assert names("--anatomy", "Lung") == names("--modality", "ct") == ["lung-ct-ddf"]
    assert names("--anatomy", "brain", "--modality", "mr") == ["brain-mr-dvf"]
    assert names("--anatomy", "brain", "--modality", "ct") == []
    make_entry(zoo / "shapes-dvf", name="shapes-dvf", anatomy="any", modality="any")
    assert names("--anatomy", "liver", "--modality", "us") == ["shapes-dvf"]


def test_an_empty_zoo(monkeypatch, tmp_path):
    monkeypatch.setenv("REGZOO_ZOO", str(tmp_path / "nowhere"))
    assert run("list") == (0, "", "No models.\n")
    assert run("list", "--json") == (0, "[]\n", "")


@pytest.mark.parametrize("call", [run, process])
def test_show(call, zoo):
    code, out, err = call("show", "lung-ct-ddf")
    assert (code, err) == (0, "")
    for text in ("Registers [brackets] and | bars.", "unregistered 0.56, other -", "A made up model.", str(zoo)):
        assert text in out


def test_show_names_data_and_command_once_above_a_table_that_fits(zoo):
    out = run("show", "lung-ct-ddf")[1]
    assert len(re.findall(r"(?m)^scores ", out)) == 1
    assert max(len(line.rstrip()) for line in out.splitlines() if "unregistered" in line) <= 80


def test_show_json(zoo):
    code, out, _ = run("show", "lung-ct-ddf@1", "--json")
    assert code == 0
    assert json.loads(out)["folder"] == str(zoo / "lung-ct-ddf")


def test_show_lets_no_hidden_character_through(zoo):
    with (zoo / "lung-ct-ddf" / "README.md").open("a") as file:
        file.write("\n\x1b]0;title\x07 \x9b31m `a\x1bb` \u202etxet\u2066 \u00ad\n")
    out = run("show", "lung-ct-ddf")[1]
    assert r"\x1b]0;title\x07 \x9b31m a\x1bb \u202etxet\u2066 \xad" in out
    assert not {"\x1b", "\x07", "\x9b", "\u202e", "\u2066", "\u00ad"} & set(out)


@pytest.mark.parametrize("call", [run, process])
def test_pull(call, tmp_path):
    folder = tmp_path / "cache" / "lung-ct-ddf@1"
    assert call("pull", "lung-ct-ddf") == (0, f"{folder}\n", "")
    assert (folder / "model.safetensors").read_bytes() == b"weights"


def test_pull_and_register_say_what_may_not_be_sold(zoo, capsys):
    make_entry(zoo / "not-sold", name="not-sold", license="cc-by-nc-sa-4.0")
    told = "warning: not-sold@1 is not for commercial use: its licence is cc-by-nc-sa-4.0.\n"
    assert run("pull", "not-sold") == (0, f"{zoo.parent / 'cache' / 'not-sold@1'}\n", told)
    assert registering.entry_of("not-sold", None).card.name == "not-sold"
    assert capsys.readouterr().err == told


@pytest.mark.parametrize("call", [run, process])
def test_version(call):
    assert call("--version") == (0, f"regzoo {regzoo.__version__}\n", "")


@pytest.mark.parametrize("call", [run, process])
@pytest.mark.parametrize("command", ["show", "pull"])
def test_an_error_is_one_line(call, command):
    message = "error: Unknown model 'lung-ct-dff'. Did you mean 'lung-ct-ddf'? All names: regzoo list.\n"
    assert call(command, "lung-ct-dff") == (1, "", message)


def test_damage_is_one_line(zoo):
    (zoo / "lung-ct-ddf" / "model.safetensors").write_bytes(b"weightz")
    code, out, err = process("pull", "lung-ct-ddf")
    assert (code, out) == (1, "")
    assert err.startswith("error: lung-ct-ddf is damaged: model.safetensors has sha256 ")
    assert err.count("\n") == 1


def test_a_bad_card_is_one_line_and_cannot_steer_the_terminal(zoo):
    edit_card(zoo / "lung-ct-ddf", "anatomy:", '"\\e[31manatomy\\nx":')
    code, _, err = run("show", "lung-ct-ddf")
    assert code == 1
    assert "[31manatomy x: unknown key. Did you mean 'anatomy'?" in err
    assert "\x1b" not in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError(28, "No space left on device", "/cache/x"), "/cache/x: No space left on device"),
        (PermissionError(13, "Permission denied"), "Permission denied"),
        (ValueError("two\nlines"), "two lines"),
        (ValueError(), "ValueError"),
    ],
)
def test_errors_of_the_system_are_one_line(monkeypatch, error, message):
    def fail(_):
        raise error

    monkeypatch.setattr(hub, "pull", fail)
    assert run("pull", "x") == (1, "", f"error: {message}\n")


def test_a_fault_of_our_own_keeps_its_traceback(monkeypatch):
    monkeypatch.setattr(hub, "pull", None)
    assert isinstance(CliRunner().invoke(cli.app, ["pull", "x"]).exception, TypeError)


def test_debug_shows_the_traceback():
    code, _, err = process("--debug", "show", "nope")
    assert code == 1
    assert err.startswith("Traceback")
    assert "InvalidError: Unknown model 'nope'" in err


@pytest.mark.parametrize("arguments", [[], ["recipe"]])
def test_no_command_is_answered_by_the_help(arguments):
    code, out, err = run(*arguments)
    assert code == 2
    assert "Usage: regzoo" in out + err
    assert "Commands:" in out + err


WRONG_USE = {
    "shw": "No such command 'shw'. Did you mean 'show'? Usage: regzoo [OPTIONS] COMMAND [ARGS]...; regzoo -h",
    "--jsn": "No such option: --jsn",
    "show": "Missing argument 'MODEL'. Usage: regzoo show [OPTIONS] MODEL; regzoo show -h",
    "list --jsn": "No such option: --jsn",
    "list x": "Got unexpected extra argument",
    "register a b --refine x": "'--refine': expected a valid integer. Usage: regzoo register [OPTIONS] FIXED MOVING;",
    "register a b -m x --method y": "Give one of --model and --method. Usage: regzoo register",
    "recipe import": "Missing argument 'FILES'. Usage: regzoo recipe import",
    "list --anatomy": "Option '--anatomy' requires an argument.",
}


@pytest.mark.parametrize("arguments", WRONG_USE)
def test_a_wrong_command_line_is_one_line_that_says_how_it_goes(arguments):
    code, out, err = run(*arguments.split())
    assert (code, out) == (2, "")
    assert err.startswith(f"error: {WRONG_USE[arguments]}")
    assert err.endswith(" -h tells more.\n")
    assert err.count("\n") == 1


def test_ctrl_c(monkeypatch):
    def stop(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(hub, "pull", stop)
    assert run("pull", "x") == (130, "", "stopped\n")


@pytest.mark.skipif(os.name == "nt", reason="pipes differ")
@pytest.mark.parametrize("arguments", [["list"], ["list", "--json"], ["show", "lung-ct-ddf"]])
def test_a_closed_pipe_is_no_error(arguments):
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "regzoo", *arguments]
    try:
        done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, timeout=60, check=False)
    finally:
        os.close(write)
    assert done.stderr == b""


@pytest.mark.parametrize("arguments", [["list"], ["show", "lung-ct-ddf"], ["pull", "lung-ct-ddf"], ["--help"]])
def test_heavy_modules_stay_out(arguments):
    code = (
        "import sys\nfrom regzoo.cli import app\n"
        f"app({arguments!r}, standalone_mode=False)\n"
        f"print([name for name in {MODULES!r} if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stderr == "[]\n"


def test_the_console_script_is_the_way_in():
    from importlib.metadata import entry_points

    from regzoo import start

    (script,) = entry_points(group="console_scripts", name="regzoo")
    assert script.load() is start.main
