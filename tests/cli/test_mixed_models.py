"""A model of columns of different kinds is refused by the commands that read files, in one line that says what to take."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from vaefast import VAE, evaluate, impute, transform

ROWS = 30


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of a table, and a model of it."""
    folder, generator = tmp_path_factory.mktemp("mixed"), np.random.default_rng(0)
    table = pd.DataFrame({"size": generator.normal(size=ROWS), "town": generator.choice(["Oslo", "Lima", "Rome"], ROWS)})
    VAE(1, hidden_layer_sizes=(4,), epochs=1, random_state=0).fit(table).save(folder / "model.safetensors")
    table.to_csv(folder / "table.csv", index=False)
    table[["size"]].to_csv(folder / "numbers.csv", index=False)
    return folder


@pytest.mark.parametrize("data", ["table.csv", "numbers.csv"])
@pytest.mark.parametrize(
    ("command", "flags"), [(evaluate, ()), (transform, ("--out", "out.csv")), (impute, ("--out", "out.csv"))]
)
def test_no_command_reads_tables_of_such_a_model(folder, monkeypatch, capsys, command, flags, data):
    monkeypatch.chdir(folder)
    assert command.main(["model.safetensors", "--data", data, *flags]) == 3
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith("vaefast: model.safetensors is a model of columns of different kinds, which no command reads: ")
    assert "vaefast.load" in err
    assert not Path("out.csv").exists()
