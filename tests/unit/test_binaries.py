"""Finding PostgreSQL's programs, and what another account can reach. The programs here are scripts that say a
version."""

import os
from pathlib import Path

import pytest

from pgrelay.demo import binaries
from pgrelay.demo.binaries import BINDIR_VARIABLE, Binaries, find_binaries
from pgrelay.demo.places import Account, reachable
from pgrelay.errors import Refused


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A machine without any Postgres; calling it installs one version in one place."""
    monkeypatch.delenv(BINDIR_VARIABLE, raising=False)
    monkeypatch.setattr(binaries.shutil, "which", _which_below(tmp_path))
    monkeypatch.setattr(binaries, "_PACKAGED", (f"{tmp_path}/packaged/*/bin",))
    monkeypatch.setattr(binaries, "WHEEL", "pgrelay_test_wheel")
    monkeypatch.syspath_prepend(tmp_path)

    def install(place: str, says: str) -> Path:
        bin_dir = tmp_path / place
        bin_dir.mkdir(parents=True, exist_ok=True)
        for name, said in {"initdb": "", "postgres": says}.items():
            (bin_dir / name).write_text(f"#!/bin/sh\necho '{said}'\n")
            (bin_dir / name).chmod(0o755)
        return bin_dir

    return install


def _which_below(directory: Path):
    """shutil.which as it answers on a machine that has nothing outside `directory`."""

    def which(name: str) -> str | None:
        path = directory / "bin" / name
        return str(path) if path.exists() else None

    return which


def test_the_chosen_directory_comes_first_and_must_hold_a_server(machine, monkeypatch, tmp_path):
    machine("packaged/17/bin", "postgres (PostgreSQL) 17.2")
    chosen = machine("mine", "postgres (PostgreSQL) 14.19 (Debian 14.19-1)")
    monkeypatch.setenv(BINDIR_VARIABLE, str(chosen))
    assert find_binaries() == Binaries(chosen, 14)
    monkeypatch.setenv(BINDIR_VARIABLE, str(tmp_path))
    with pytest.raises(Refused, match=BINDIR_VARIABLE):
        find_binaries()


def test_pg_config_is_believed_only_when_a_server_stands_where_it_points(machine, tmp_path):
    packaged = machine("packaged/15/bin", "postgres (PostgreSQL) 15.18")
    pointed = machine("elsewhere", "postgres (PostgreSQL) 16.1")
    (tmp_path / "bin").mkdir()
    pg_config = tmp_path / "bin/pg_config"
    pg_config.write_text(f"#!/bin/sh\necho {pointed}\n")
    pg_config.chmod(0o755)
    assert find_binaries().bin_dir == pointed
    (pointed / "initdb").unlink()
    assert find_binaries().bin_dir == packaged


def test_the_newest_packaged_version_wins_by_number_and_old_ones_do_not_count(machine):
    machine("packaged/9.6/bin", "postgres (PostgreSQL) 9.6.24")
    machine("packaged/13/bin", "postgres (PostgreSQL) 13.22")
    with pytest.raises(Refused):
        find_binaries()
    newest = machine("packaged/14/bin", "postgres (PostgreSQL) 14.1")
    assert find_binaries() == Binaries(newest, 14)


def test_a_version_or_the_system_can_be_preferred_to_what_comes_first(machine, tmp_path):
    (tmp_path / "pgrelay_test_wheel").mkdir()
    (tmp_path / "pgrelay_test_wheel/__init__.py").write_text("raise RuntimeError('imported')")
    in_wheel = machine("pgrelay_test_wheel/pginstall/bin", "postgres (PostgreSQL) 16.14")
    newer_in_wheel = machine("pgrelay_test_wheel/pginstall18/bin", "postgres (PostgreSQL) 18.4")
    assert find_binaries().bin_dir == newer_in_wheel
    assert find_binaries("16").bin_dir == in_wheel
    with pytest.raises(Refused, match="of this system"):
        find_binaries("system")
    on_path = machine("bin", "postgres (PostgreSQL) 17beta1")
    assert find_binaries("system") == find_binaries() == Binaries(on_path, 17)


def test_without_any_server_the_one_command_that_brings_it_is_named(machine):
    with pytest.raises(Refused) as refused:
        find_binaries()
    assert "pip install 'pgrelay[demo]'" in refused.value.remedy


def test_a_directory_closed_to_others_is_out_of_reach_for_them_and_all_below_it(tmp_path):
    stranger = Account("stranger", os.getuid() + 1, os.getgid() + 1)
    below = tmp_path / "closed" / "open"
    below.mkdir(parents=True)
    (tmp_path / "closed").chmod(0o700)
    assert not reachable(below, stranger)
    assert reachable(below, None)
    assert reachable(Path("/usr"), stranger)
