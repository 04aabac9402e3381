"""The command, run on the sample application's database."""

import pytest

from support.command import Command


@pytest.fixture
def pgrelay(app, tmp_path):
    return Command(tmp_path, app.dsn)
