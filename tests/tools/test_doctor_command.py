"""The doctor of one machine says what JAX uses, and names the package or the driver that is missing."""

import os
import re
import stat

import pytest

from bert_tpu.core import command
from bert_tpu.tools import doctor


def smi(folder, monkeypatch, answer, code=0):
    """Puts an nvidia-smi with this answer on PATH."""
    folder.mkdir()
    (folder / "nvidia-smi").write_text(f"#!/bin/sh\necho '{answer}'\nexit {code}\n")
    (folder / "nvidia-smi").chmod(stat.S_IRWXU)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")


def test_a_machine_without_an_accelerator_is_fit(capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["doctor"])
    doctor.main()
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines] == [
        ["ok", name] for name in ("packages", "devices", "figures", "step", "disk")
    ]
    assert "tensorflow-cpu 2" in lines[0]
    assert "8 x cpu" in lines[1]
    assert float(re.search(r"([0-9.e+-]+) nats", lines[3])[1]) < doctor.TOLERANCE / 10  # eight devices and one


def test_a_gpu_that_jax_does_not_use_fails_with_the_package(tmp_path, monkeypatch):
    smi(tmp_path / "bin", monkeypatch, "580.65.06, 143771 MiB, 700.00 W")
    (row,) = doctor.devices()
    assert "pip install 'bert_tpu[cuda13]'" in row.fix
    (row,) = doctor.driver()
    assert (row.found, row.fix) == ("580.65.06, 143771 MiB, power limit 700.00 W", "")


def test_an_old_driver_fails_with_the_version_that_is_needed(tmp_path, monkeypatch):
    smi(tmp_path / "bin", monkeypatch, "550.54.15, 40960 MiB, 400.00 W")
    (tmp_path / "jax_cuda13_plugin").mkdir()
    (tmp_path / "jax_cuda13_plugin/__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    (row,) = doctor.driver()
    assert "install driver 580 or later" in row.fix


@pytest.mark.parametrize(("answer", "code"), [("NVIDIA-SMI has failed", 9), ("no devices were found", 0)])
def test_an_unknown_answer_of_the_driver_counts_as_no_gpu(tmp_path, monkeypatch, answer, code):
    smi(tmp_path / "bin", monkeypatch, answer, code)
    assert not list(doctor.driver())
    assert [row.fix for row in doctor.devices()] == [""]


def test_a_fault_ends_in_a_sentence_and_code_1(monkeypatch):
    monkeypatch.setattr(doctor, "DISK_GB", 10**9)
    monkeypatch.setattr("sys.argv", ["doctor"])
    monkeypatch.setattr(doctor, "step", lambda: iter(()))
    with pytest.raises(command.UserError, match=r"^1 of the checks above failed"):
        doctor.main()
