"""The probes of caches, tasks, models and hardware of `atomthink doctor`."""

from __future__ import annotations

from pathlib import Path

import pytest

from atomthink_plugin.doctor import hardware, storage
from atomthink_plugin.doctor.findings import Finding
from atomthink_plugin.doctor.offers import models
from atomthink_plugin.tasks import doctor_probes
from tests.doctor import naming

KEY = "sk-doctor-4fK82hQz71"


def test_journals_are_counted_and_a_cache_that_cannot_be_written_is_broken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for name in ("hf-beam-1", "hf-beam-2"):
        (tmp_path / "atomthink" / "journal" / name).mkdir(parents=True)
        (tmp_path / "atomthink" / "journal" / name / "settings.json").write_text("{}")
    ((_, text),) = storage.journals().facts
    assert "2 runs" in text
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file" / "cache"))  # the superuser may write any folder
    full = storage.shutil.disk_usage(tmp_path)._replace(free=0)
    monkeypatch.setattr(storage.shutil, "disk_usage", lambda _: full)
    finding = storage.journals()
    (problem,) = finding.problems  # where nothing can be written, its space is no further problem
    assert "XDG_CACHE_HOME" in problem.text
    assert problem.broken
    assert "not writable" in finding.facts[0][1]


def test_the_home_folder_is_a_tilde_and_a_full_disk_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "sets"))
    (tmp_path / "sets" / "a___b").mkdir(parents=True)
    full = storage.shutil.disk_usage(tmp_path)._replace(free=2 * 10**9)
    monkeypatch.setattr(storage.shutil, "disk_usage", lambda _: full)
    finding = storage.datasets_cache()
    assert finding.facts[0][1].startswith("~/sets: 1 ")
    (problem,) = finding.problems
    assert "2.0 GB" in problem.text
    assert not problem.broken
    assert not list((tmp_path / "sets").glob("*.tmp")) + list((tmp_path / "sets").glob("tmp*"))


def test_the_judges_key_is_named_and_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("API_TYPE", "azure")
    monkeypatch.delenv("AZURE_API_KEY", raising=False)
    (problem,) = doctor_probes.judge().problems
    assert "AZURE_API_KEY" in problem.text
    monkeypatch.setenv("AZURE_API_KEY", KEY)
    finding = doctor_probes.judge()
    assert not finding.problems
    assert "AZURE_API_KEY" in finding.facts[0][1]
    assert KEY not in finding.facts[0][1]


def test_tasks_are_counted_as_the_variables_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("API_TYPE", "openai")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    replaced = len(list(doctor_probes.BUILTIN.glob("*.yaml")))
    assert f" {replaced} of " in doctor_probes.tasks().facts[0][1]
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    assert " 0 of " in doctor_probes.tasks().facts[0][1]
    monkeypatch.setenv("ATOMTHINK_NO_TASKS", "1")
    assert "ATOMTHINK_NO_TASKS" in doctor_probes.tasks().facts[0][1]


def test_an_entry_point_that_breaks_lmms_eval_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    info = tmp_path / "other-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: other\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[lmms_eval.models]\nextra = no_such_module:models\n")
    assert not models().problems
    monkeypatch.syspath_prepend(tmp_path)
    (problem,) = models().problems
    assert "no_such_module" in problem.text


def test_a_low_limit_of_open_files_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import resource

    monkeypatch.setattr(resource, "getrlimit", lambda _: (256, 4096))
    (problem,) = hardware.open_files().problems
    assert "256" in problem.text
    assert "ulimit" in problem.text
    monkeypatch.setattr(resource, "getrlimit", lambda _: (65536, 65536))
    assert hardware.open_files() == Finding()


def test_gpus_that_torch_does_not_find_are_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(hardware.shutil, "which", lambda _: None)
    assert not naming(hardware.devices().problems, torch.__version__)
    monkeypatch.setattr(hardware.shutil, "which", lambda _: "/usr/bin/nvidia-smi")
    assert naming(hardware.devices().problems, torch.__version__)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    problems = hardware.devices().problems
    assert naming(problems, "CUDA_VISIBLE_DEVICES=''")
    assert not naming(problems, torch.__version__)


def test_gpus_are_grouped_with_their_free_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    free = [12 * 2**30, 20 * 2**30]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda index: (free[index], 24 * 2**30))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "Card")
    finding = hardware.devices()
    assert finding.facts[0] == ("device", "2 x Card, 24 GiB each, free: 12, 20")
    assert [problem.broken for problem in finding.problems] == [False]
    free[0] = 64 * 2**30
    assert not hardware.devices().problems
