"""Names that go into the command are harmless, and the call is that of the visitor's files."""

from pathlib import Path

import pytest

from scoresde.pipelines.settings import ProblemOptions, RestoreOptions
from scoresde.ui.commands import named_call, safe_name


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("photo.png", "photo.png"),
        ("My Photo (1).JPEG", "My_Photo_1.JPEG"),
        ("../../etc/passwd", "passwd"),
        ("C:\\Users\\me\\a.png", "a.png"),
        ("--out=x.png", "out_x.png"),
        ("$(reboot).png", "reboot.png"),
        ("mask.png", "picture_mask.png"),
        ("restored", "picture_restored"),
        ("…", "picture"),
        (".png", "png"),
        ("a" * 300 + ".png", "a" * 60 + ".png"),
    ],
)
def test_safe_names(given: str, kept: str) -> None:
    assert safe_name(given) == kept


def test_the_call_has_the_visitors_names_and_no_path_of_the_server() -> None:
    problem = ProblemOptions("inpaint", mask=Path("/srv/job-1/mask.png"))
    call = named_call("photo.png", problem, RestoreOptions(batch=1, tile=512), True)
    words = call.command().replace("\\\n", "").split()
    assert words[:3] == ["scoresde", "restore", "photo.png"]
    assert words[words.index("--mask") + 1] == "mask.png" and "/srv" not in call.python()
    assert words[words.index("--batch") + 1] == "1" and words[words.index("--tile") + 1] == "512"
