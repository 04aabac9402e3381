"""What ends up in the wheel: a forgotten file shows only after somebody installed it."""

import zipfile
from pathlib import Path

import pytest
from hatchling.builders.wheel import WheelBuilder

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    [path] = WheelBuilder(str(ROOT)).build(
        directory=str(tmp_path_factory.mktemp("dist")), versions=["standard"]
    )
    with zipfile.ZipFile(path) as opened:
        yield opened


def tree(directory: Path) -> dict[str, bytes]:
    return {
        path.relative_to(directory).as_posix(): path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file()
    }


def packed(wheel: zipfile.ZipFile, prefix: str) -> dict[str, bytes]:
    return {
        name.removeprefix(prefix): wheel.read(name) for name in wheel.namelist() if name.startswith(prefix)
    }


def test_the_wheel_holds_the_whole_sql_tree_byte_for_byte(wheel):
    assert packed(wheel, "pgrelay/sql/") == tree(ROOT / "sql")


def test_the_wheel_holds_every_file_of_the_package(wheel):
    source = {name for name in tree(ROOT / "src/pgrelay") if "__pycache__" not in name}
    assert source <= set(packed(wheel, "pgrelay/"))


def test_the_wheel_holds_the_example_configuration_what_is_contributed_and_the_licence(wheel):
    assert wheel.read("pgrelay/config.example.yaml") == (ROOT / "config.example.yaml").read_bytes()
    assert packed(wheel, "pgrelay/contrib/") == tree(ROOT / "contrib")
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in wheel.namelist())


def test_the_wheel_is_typed_pure_and_brings_the_command(wheel):
    [metadata] = [name for name in wheel.namelist() if name.endswith(".dist-info/WHEEL")]
    [commands] = [name for name in wheel.namelist() if name.endswith(".dist-info/entry_points.txt")]
    assert "Tag: py3-none-any" in wheel.read(metadata).decode()
    assert "pgrelay = pgrelay.__main__:run" in wheel.read(commands).decode()
    assert "pgrelay/py.typed" in wheel.namelist()
