"""``mmtune export`` as people use it."""

from __future__ import annotations

import pytest


@pytest.mark.parametrize(
    "args, message",
    [
        (["nothing", "--to", "new"], "nothing: no such model; give STUDY/t0007"),
        (["s/t0009", "--to", "new"], "trial 't0009' is unknown, did you mean"),
        (["s/t0000", "--to", "new"], "s/t0000: has no model: it ended before its first epoch was over"),
    ],
)
def test_what_is_no_model_is_one_line(mmtune, write_study, args, message):
    write_study(mmtune.cwd / "studies", "COMPLETE")
    done = mmtune("export", *args)
    assert done.code == 2 and message in done.err and done.err.count("\n") == 1, done
    assert not (mmtune.cwd / "new").exists()


def test_nothing_is_written_over(mmtune, write_study):
    folder = write_study(mmtune.cwd / "studies", "COMPLETE").trial("t0000")
    folder.mkdir(parents=True)
    for name in ("model.json", "best.safetensors"):
        (folder / name).write_text("{}")
    (mmtune.cwd / "full").mkdir()
    (mmtune.cwd / "full" / "file").touch()
    done = mmtune("export", "s", "--to", "full")
    assert done.code == 2 and done.err == "mmtune: --to full: exists and is not empty\n", done
