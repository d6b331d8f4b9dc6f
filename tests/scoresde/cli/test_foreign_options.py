"""Errors advise options that the command has: `tests.commands.run` looks at every error."""

from pathlib import Path

import numpy as np
import pytest

from tests.commands import foreign_options, run


def test_an_option_of_another_command_is_seen() -> None:
    advice = "name one of them with --array NAME"
    assert foreign_options(("compare", "--dataset", "x.npz"), advice) == {"--array"}
    assert foreign_options(("train", "x.npz"), advice) == set()
    # a second name of a flag, what the user wrote, and another command as a whole
    assert foreign_options(("train", "x"), "--plain-blocks and --no-compile") == set()
    assert foreign_options(("restore", "--magic=3"), "No such option: --magic") == set()
    assert foreign_options(("average", "x"), "use `scoresde train --snapshot-every 5`") == set()
    assert foreign_options(("average", "x"), "use --snapshot-every 5") == {"--snapshot-every"}


@pytest.mark.parametrize("suffix", ["npz", "npy"])
def test_a_comparison_of_one_array(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, suffix: str
) -> None:
    data = tmp_path / f"only.{suffix}"
    images = np.zeros((9, 28, 28), np.uint8)
    if suffix == "npz":
        np.savez(data, images=images)
    else:
        np.save(data, images)
    code, out, err = run(
        capsys, "compare", "--dataset", data, "--out", tmp_path / "o", "--work", tmp_path / "w"
    )
    assert (code, out) == (2, "") and err.count("\n") == 1
    assert "train_images and test_images" in err
    assert suffix == "npy" or "it holds images (9, 28, 28)" in err
