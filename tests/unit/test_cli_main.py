"""Whatever ends a command: an exit code that scripts can use, words on standard error, and no traceback."""

import json
import subprocess
import sys

import pytest

from pgrelay.cli import main as module
from pgrelay.cli.main import main
from pgrelay.errors import ConfigError, DatabaseUnavailable, NotPermitted, Refused, SchemaMismatch

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
BODY = b'{"test": 2432232314}'
CLASSIC = "X-Webhook-Signature: sha256=80ec8a89ce3cd22133a1066caecb4d04fea7467657c8514d717ec42c38a5c94c"


@pytest.fixture
def ended_by(monkeypatch, capsys):
    """Exit code and standard error of a command that raises."""

    def ended_by(error):
        def run(context):
            raise error

        monkeypatch.setattr(module, "command", lambda name: run)
        return main(["status"]), capsys.readouterr().err

    return ended_by


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (Refused("no", "do this"), 1),
        (SchemaMismatch("no", "do this"), 3),
        (DatabaseUnavailable("no", "do this"), 69),
        (NotPermitted("no", "do this"), 77),
        (ConfigError("no", "do this"), 78),
    ],
)
def test_each_error_of_ours_has_its_exit_code_and_names_the_remedy(ended_by, error, code):
    assert ended_by(error) == (code, "pgrelay: no\n  do this\n")


def test_several_mistakes_begin_their_lines_so_that_editors_find_them(ended_by):
    code, said = ended_by(ConfigError("a.yaml:1:1: x: wrong\na.yaml:2:1: y: wrong"))
    assert code == 78
    assert said.splitlines()[1:] == ["a.yaml:1:1: x: wrong", "a.yaml:2:1: y: wrong"]


def test_a_message_from_elsewhere_cannot_drive_the_terminal(ended_by):
    assert "\x1b" not in ended_by(Refused("\x1b[2J", "\x1b[2J"))[1]


def test_an_interruption_is_130(ended_by):
    assert ended_by(KeyboardInterrupt())[0] == 130


def test_a_fault_of_ours_is_told_with_its_place_and_without_a_traceback(ended_by, monkeypatch):
    monkeypatch.delenv("PGRELAY_DEBUG", raising=False)
    code, said = ended_by(ZeroDivisionError("oops"))
    assert code == 70
    assert "internal error: ZeroDivisionError: oops (test_cli_main.py:" in said
    assert "Traceback" not in said
    monkeypatch.setenv("PGRELAY_DEBUG", "1")
    with pytest.raises(ZeroDivisionError):
        ended_by(ZeroDivisionError())


def test_a_reader_that_has_gone_ends_a_command_quietly():
    program = "from pgrelay.cli.main import main; import sys; sys.exit(main(['completion', 'fish']))"
    with subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={"PYTHONPATH": _path()},
    ) as running:
        running.stdout.close()
        assert running.stderr.read() == b""
    assert running.returncode == 141


@pytest.mark.parametrize("how", ["exec {} completion fish >&-", "exec {} completion fish >/dev/full"])
def test_output_that_cannot_be_written_ends_a_command_without_a_traceback(how):
    done = subprocess.run(
        ["sh", "-c", how.format(f"{sys.executable} -m pgrelay")],
        check=False,
        stderr=subprocess.PIPE,
        text=True,
        env={"PYTHONPATH": _path()},
    )
    assert (done.returncode, done.stderr) in {
        (0, ""),
        (74, "pgrelay: the output cannot be written: No space left on device\n"),
    }
    assert (done.returncode == 0) == how.endswith(">&-")


def _path():
    return ":".join(sys.path)


# A signature by hand --------------------------------------------------------------------------------------------


@pytest.fixture
def verify(tmp_path, capsys):
    def verify(*arguments, body=BODY, secret=SECRET):
        path = tmp_path / "body"
        path.write_bytes(body)
        code = main(["verify", "--secret", secret, *arguments, str(path)])
        return code, capsys.readouterr()

    return verify


def test_the_known_answer_verifies(verify):
    code, said = verify("--header", CLASSIC)
    assert (code, said.out) == (0, "✓ classic: X-Webhook-Signature is genuine\n")


def test_another_body_does_not_and_the_usual_cause_is_told(verify):
    code, said = verify("--header", CLASSIC, body=BODY + b"\n")
    assert code == 1
    assert said.out == "✗ classic: X-Webhook-Signature is not of this body and secret\n"
    assert "byte for byte" in said.err


def test_headers_may_come_as_a_file_of_them_and_as_json_it_is_told_which_scheme(verify, tmp_path):
    headers = tmp_path / "headers"
    headers.write_text(f"POST /x HTTP/1.1\r\nHost: e.com\r\n{CLASSIC}\r\nwebhook-signature: v1,AAAA\r\n\r\n")
    code, said = verify("--headers-file", str(headers), "--json")
    assert code == 1
    standard, classic = json.loads(said.out)
    assert (standard["scheme"], standard["genuine"], classic["scheme"], classic["genuine"]) == (
        "standard",
        False,
        "classic",
        True,
    )
    assert "webhook-id" in standard["reason"]


def test_no_signature_at_all_and_no_such_file_are_mistakes_in_usage(verify, capsys):
    code, said = verify("--header", "Host: e.com")
    assert code == 2
    assert "no signature among the headers" in said.err
    assert main(["verify", "--secret", SECRET, "--header", CLASSIC, "/nowhere/body"]) == 2
    assert capsys.readouterr().err == "pgrelay: /nowhere/body: No such file or directory\n"
