"""`atomthink prm profiles` prints what the YAML files say."""

from __future__ import annotations

import subprocess
import sys

import pytest
import yaml

from atomthink_plugin.cli import main
from atomthink_plugin.scorers.profile_catalogue import PROFILES, all_profiles
from atomthink_plugin.scorers.profile_listing import HEADINGS, profile_grid


def test_the_table_has_a_row_for_each_profile(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["prm", "profiles"]) == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in PROFILES)
    rows = {row[0]: dict(zip(HEADINGS, row, strict=True)) for row in profile_grid(all_profiles()).cells}
    assert rows.keys() == PROFILES.keys()
    assert (rows["pure_prm"]["threshold"], rows["math_shepherd"]["threshold"]) == ("> 0.5", ">= 0.5")
    assert (rows["pure_prm"]["aggregate"], rows["math_shepherd"]["aggregate"]) == ("", "min")
    assert rows["reasoneval_34b"]["read at"] != rows["versaprm"]["read at"] == "tag"
    for name, row in rows.items():
        assert row["verified"] == yaml.safe_load(PROFILES[name].read_text()).get("verified", "transcription")


def test_the_table_needs_no_model() -> None:
    code = "import sys; from atomthink_plugin.cli import main; main(['prm', 'profiles']); "
    code += "print({'torch', 'transformers', 'lmms_eval', 'datasets'} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "set()"


def test_one_profile_is_printed_as_its_file_with_the_command_that_serves_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name, served in (("versaprm", True), ("reasoneval_34b", False)):
        assert main(["prm", "profiles", name]) == 0
        printed = capsys.readouterr().out
        assert printed.endswith(PROFILES[name].read_text(encoding="utf-8"))
        assert ("vllm serve UW-Madison-Lee-Lab/VersaPRM" in printed) == served
        assert main(["prm", "profiles", all_profiles()[name].model.names[0]]) == 0
        assert capsys.readouterr().out == printed
    assert main(["prm", "profiles", "versa"]) == 2
    assert "versaprm" in capsys.readouterr().err
