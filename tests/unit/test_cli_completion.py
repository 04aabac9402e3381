"""Completion scripts know what the parser knows; the one for bash is run."""

import subprocess

import pytest

from pgrelay.cli.arguments import build_parser
from pgrelay.cli.completion import script


@pytest.fixture(scope="module")
def complete(tmp_path_factory):
    """What bash offers for the last of some words."""
    path = tmp_path_factory.mktemp("completion") / "pgrelay.bash"
    path.write_text(script("bash", build_parser()))

    def complete(*words):
        program = 'source "$0"; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _pgrelay; printf "%s\\n" "${COMPREPLY[@]}"'
        done = subprocess.run(
            ["bash", "-c", program, str(path), "pgrelay", *words], capture_output=True, text=True, check=True
        )
        assert done.stderr == ""
        return done.stdout.split()

    return complete


def test_bash_completes_commands_verbs_options_and_choices(complete):
    assert complete("webh") == ["webhooks"]
    assert {"list", "rotate-secret", "--json"} <= set(complete("webhooks", ""))
    assert complete("webhooks", "add", "--max-a") == ["--max-attempts"]
    assert complete("--json", "deliveries", "list", "--status", "") == [
        "pending",
        "in_flight",
        "succeeded",
        "failed",
        "cancelled",
        "expired",
    ]
    assert complete("-c", "x.yaml", "deliveries", "ret") == ["retry"]
    assert complete("completion", "f") == ["fish"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_every_shells_script_names_every_command_and_verb(shell):
    text = script(shell, build_parser())
    for word in ("migrate", "uninstall", "rotate-secret", "recapture", "forward-to", "cancel-pending"):
        assert word in text


def test_fish_gets_summaries_safely_quoted():
    text = script("fish", build_parser())
    assert "-a check -d 'look for everything that could be wrong'" in text
    assert all(line.count("'") % 2 == 0 for line in text.replace("\\'", "").splitlines())
