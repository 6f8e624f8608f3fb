"""The command `proa` from outside: the demo, what it saves, `sample`, `doctor`, and bad arguments.

Every command runs in a process of its own, on a small text and with a tiny model.
"""

import json
import os
import re
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = str(Path(__file__).parents[1])
RUN = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.path.insert(0, sys.argv.pop(1))
from proa.cli.main import main
sys.exit(main())"""
HIDE = "import sys; sys.modules[sys.argv.pop(1)] = None; "
SIZES = {"vocabulary": 260, "context": 16, "width": 8, "layers": 1, "heads": 2, "batch": 4}
TINY = [f"--{name}={size}" for name, size in {**SIZES, "windows": 12}.items()]


def start(*words, hide=None, **environment):
    code = [HIDE + RUN, hide, ROOT] if hide else [RUN, ROOT]
    return subprocess.Popen(
        [sys.executable, "-c", *code, *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1", **environment},
    )


def proa(*words, status=0, **options):
    process = start(*words, **options)
    out, err = process.communicate(timeout=120)
    assert process.returncode == status, f"status {process.returncode}\n{out}\n{err}"
    assert "Traceback" not in err
    return out, err


def demo(text, out, *words, **options):
    shown, err = proa("demo", "--json", "--text", text, "--out", out, *TINY, *words, **options)
    return json.loads(shown), err


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text(
        "".join(
            f"def lower{i}(self, low):\n    return self.lowest({i}, low)\n\n" for i in range(400)
        )
    )
    return path


@pytest.fixture(scope="module")
def trained(text, tmp_path_factory):
    """A run of 40 steps without a stop: its report, its standard error, its folder."""
    out = tmp_path_factory.mktemp("trained") / "model"
    return *demo(text, out, "--steps", 40), out


# Demo


def test_report_has_every_figure_and_the_model_learns(trained, text):
    report, _, out = trained
    assert report["steps_done"] == report["steps"] == len(report["losses"]) == 40
    assert report["tokens_seen"] == 40 * 4 * 16
    assert report["tokens_per_second"] > 0
    assert 0 < report["bits_per_byte_after"] < report["bits_per_byte_before"] < 9
    assert 0 < report["bits_per_byte_trigram"] < 9
    assert 0 < report["bytes_judged"] <= report["bytes_held_out"]
    assert report["bytes_to_learn"] + report["bytes_held_out"] == text.stat().st_size
    assert report["interrupted"] is False
    assert {"prepare", "train", "judge", "sample", "save", "reload"} <= set(report["seconds"])
    assert (
        report["parameters"]
        == 260 * 8 + 16 * 8 + (8 * 24 + 24 + 64 + 8 + 256 + 32 + 256 + 8 + 32) + 16
    )
    assert len(report["samples"]) >= 1


def test_model_is_loaded_in_a_new_process_with_equal_bits(trained):
    report, _, _ = trained
    assert report["reload"]["equal"] is True
    assert report["reload"]["loss"] == report["reload"]["in_a_new_process"]
    assert float.fromhex(report["reload"]["loss"]) > 0


def test_picture_of_the_curves_is_saved(trained):
    report, _, out = trained
    if find_spec("matplotlib") is None:
        assert report["picture"] is None
    else:
        assert Path(report["picture"]).read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert not list(out.glob("*.part"))


def test_same_seed_same_losses_with_and_without_jit(trained, text, tmp_path):
    report, _, _ = trained
    again, _ = demo(text, tmp_path, "--steps", 40, "--no-jit" if report["jit"] else "--jit")
    assert again["losses"] == report["losses"]
    assert again["held_out"] == report["held_out"]
    other, _ = demo(text, tmp_path, "--steps", 40, "--seed", 1)
    assert other["losses"] != report["losses"]


def test_twenty_steps_and_twenty_more_are_forty_bitwise(trained, text, tmp_path):
    report, _, whole = trained
    half, _ = demo(text, tmp_path, "--steps", 40, "--stop-after", 20)
    assert half["losses"] == report["losses"][:20]
    again, _ = proa("demo", "--json", "--out", tmp_path, "--resume")
    rest = json.loads(again)
    assert rest["losses"] == report["losses"]
    assert rest["bits_per_byte_after"] == report["bits_per_byte_after"]
    assert rest["reload"]["loss"] == report["reload"]["loss"]
    assert digest(tmp_path) == digest(whole)


def digest(folder):
    """Every tensor and number of a checkpoint: parameters, slots, counters, schedule, generator."""
    import proa as pa

    tree = pa.load(folder)
    del tree["facts"]
    leaves, structure = pa.tree.flatten(tree)
    return repr(structure), [x.numpy().tobytes() if hasattr(x, "numpy") else x for x in leaves]


def test_float64_runs(text, tmp_path):
    report, _ = demo(text, tmp_path, "--steps", 3, "--dtype", "float64")
    assert report["dtype"] == "float64"
    assert report["reload"]["equal"]


def test_xla_gives_the_same_losses(trained, text, tmp_path):
    short = ("--steps", 40, "--stop-after", 20, "--device", "xla")
    report, _ = demo(text, tmp_path / "xla", *short)
    assert furthest(report["losses"], trained[0]["losses"][:20]) < 1e-5
    wide = ("--steps", 50, "--dtype", "float64")
    numpy, _ = demo(text, tmp_path / "numpy", *wide)
    xla, _ = demo(text, tmp_path / "xla", *wide, "--device", "xla")
    assert furthest(numpy["losses"], xla["losses"]) < 1e-9


def furthest(a, b):
    return max(abs(x - y) for x, y in zip(a, b, strict=True))


def test_resume_refuses_another_run(trained, text, tmp_path):
    _, _, out = trained
    _, err = proa("demo", "--resume", "--out", out, "--steps", 50, status=2)
    assert "--steps 50" in err and err.count("\n") == 1
    _, err = proa("demo", "--resume", "--out", tmp_path / "nothing", status=2)
    assert "no model was saved" in err
    half = tmp_path / "half"
    copy = tmp_path / "copy.txt"
    copy.write_bytes(text.read_bytes())
    demo(copy, half, "--steps", 2, "--stop-after", 1)
    copy.write_bytes(text.read_bytes() * 2)
    _, err = proa("demo", "--resume", "--out", half, status=1)
    assert err.startswith("error: ") and "another text" in err


def test_lines_without_a_terminal_and_quiet(text, tmp_path):
    out, _ = proa("demo", "--text", text, "--out", tmp_path, *TINY, "--steps", 3)
    assert re.search(r"training +3/3 +loss \d", out)
    assert "bits per byte" in out and "bit for bit" in out
    out, err = proa("demo", "--text", text, "--out", tmp_path, *TINY, "--steps", 3, "--quiet")
    assert len(out.splitlines()) == 2 and not err


def test_ctrl_c_ends_with_evaluation_and_save(text, tmp_path):
    process = start("demo", "--text", text, "--out", tmp_path, *TINY, "--steps", 10**6)
    for line in process.stdout:
        if line.startswith("model"):
            break
    time.sleep(3)
    process.send_signal(signal.SIGINT)
    rest, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert "Traceback" not in err
    assert "stopping" in rest and "held out" in rest and "bit for bit" in rest
    out, _ = proa("sample", tmp_path, "--tokens", 5)
    assert out.startswith("def ")


def test_ctrl_c_before_the_training_is_one_line(tmp_path):
    process = start("demo", "--out", tmp_path / "none")
    assert process.stdout.readline().startswith("reading")
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (130, "interrupted\n")
    assert not (tmp_path / "none").exists()


def test_without_matplotlib_the_curve_is_drawn_in_the_terminal(text, tmp_path):
    out, _ = proa(
        "demo", "--text", text, "--out", tmp_path, *TINY, "--steps", 12, hide="matplotlib"
    )
    assert "proa[plot]" in out and "|*" in out
    report, _ = demo(text, tmp_path, "--steps", 3, hide="matplotlib")
    assert report["picture"] is None


# Sample


def test_sample_streams_and_is_reproducible(trained):
    _, _, out = trained
    first, _ = proa("sample", out, "--prompt", "def ", "--tokens", 30, "--seed", 3)
    again, _ = proa("sample", out, "--prompt", "def ", "--tokens", 30, "--seed", 3)
    other, _ = proa("sample", out, "--prompt", "def ", "--tokens", 30, "--seed", 4)
    assert first == again != other
    assert first.startswith("def ") and len(first) > len("def \n")


def test_sample_writes_to_a_stream_that_cannot_show_it(trained):
    out, _ = proa("sample", trained[2], "--prompt", "é", "--tokens", 3, PYTHONIOENCODING="ascii")
    assert out.startswith("?")


def test_sample_writes_while_it_generates(trained):
    _, _, out = trained
    process = start("sample", out, "--tokens", 10**6)
    assert len(process.stdout.read(30)) == 30
    process.stdout.close()  # as `| head` does
    assert process.wait(timeout=60) == 1
    assert process.stderr.read() == ""


@pytest.mark.parametrize("prompt", ["", " ", "é 中", "\n\n", "x" * 500])
def test_sample_takes_any_prompt(trained, prompt):
    from proa.examples import saved, writing

    model, tokenizer = saved.load(trained[2])
    one, two = (
        writing.write(model, tokenizer, prompt, tokens=8, temperature=t) for t in (0.0, 1.0)
    )
    assert all(c.isprintable() or c in "\n\t" for c in one + two)


def test_damaged_model_is_an_error_of_one_line(trained, tmp_path):
    _, err = proa("sample", tmp_path / "nothing", status=1)
    assert err.startswith("error: ") and "proa demo" in err and err.count("\n") == 1
    import proa as pa

    whole = pa.load(trained[2])
    changes = (
        {"width": 1 << 15},
        {"heads": 3},
        {"layers": "many"},
        {"dtype": "int8"},
        {"vocabulary": -1},
    )
    for change in changes:
        settings = {**whole["facts"]["settings"], **change}
        pa.save(tmp_path / "other", {**whole, "facts": {**whole["facts"], "settings": settings}})
        _, err = proa("sample", tmp_path / "other", status=1)
        assert "damaged" in err and err.count("\n") == 1, change
    pa.save(tmp_path / "other", {"w": pa.zeros(3)})
    _, err = proa("sample", tmp_path / "other", status=1)
    assert "damaged" in err
    (tmp_path / "other" / "checkpoint.json").write_text("[" * 100_000)
    _, err = proa("sample", tmp_path / "other", status=1)
    assert err.startswith("error: ")


# Digits


def test_digits_names_the_missing_extra():
    _, err = proa("demo", "--task", "digits", hide="sklearn", status=1)
    assert err.startswith("error: ") and "proa[demo]" in err


def test_digits_of_one_seed_are_told_right():
    out, _ = proa("demo", "--task", "digits", "--seed", 0, "--json")
    report = json.loads(out)
    assert report["median"] >= 0.96
    assert report["accuracies"] == {"0": report["median"]}


# Doctor, and the command itself


def test_doctor_finds_this_machine_in_order():
    out, err = proa("doctor")
    assert "gradient on numpy" in out and "broken" not in out
    report = json.loads(proa("doctor", "--json")[0])
    assert report["healthy"] is True
    assert {"Python", "numpy", "processor", "BLAS threads", "cache folder"} <= {
        f["name"] for f in report["findings"]
    }


def test_doctor_says_how_to_mend(tmp_path):
    folder = tmp_path / "file"
    folder.write_text("")
    out, _ = proa("doctor", PROA_DEVCIE="xla", PROA_CACHE_DIR=str(folder / "cache"))
    assert "PROA_DEVCIE" in out and "is no flag" in out
    assert "set PROA_CACHE_DIR" in out
    out, _ = proa("doctor", PROA_DEVICE="toaster", status=1)
    assert "toaster" in out and "broken" in out


def test_help_and_version():
    out, _ = proa("--help")
    assert all(word in out for word in ("demo", "sample", "doctor", "examples"))
    assert proa()[0] == out
    assert proa("--version")[0].startswith("proa ")
    for command in ("demo", "sample", "doctor"):
        assert "--traceback" in proa(command, "--help")[0]


BAD = [
    ["dmeo"],
    ["demo", "--steps", "0"],
    ["demo", "--steps", "many"],
    ["demo", "--width", "100", "--heads", "3"],
    ["demo", "--vocabulary", "100"],
    ["demo", "--dtype", "int8"],
    ["demo", "--device", "toaster"],
    ["demo", "--text", "/nothing/here"],
    ["demo", "--rate", "nan"],
    ["demo", "--out", __file__],
    ["demo", "--task", "digits", "--steps", "5"],
    ["demo", "--nonsense"],
    ["sample"],
    ["sample", "x", "--temperature", "-1"],
    ["sample", "x", "--tokens", "1.5"],
]


@pytest.mark.parametrize("words", BAD, ids=lambda words: " ".join(words[:3]))
def test_bad_arguments_are_one_line_and_status_2(words):
    out, err = proa(*words, status=2)
    assert out == "" and err.count("\n") == 1 and "error: " in err


def test_error_shows_its_traceback_when_asked(tmp_path):
    process = start("sample", tmp_path, "--traceback")
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1 and "Traceback" in err and "FileError" in err
