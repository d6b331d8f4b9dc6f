"""Tensors in files: what is written is read, and pages leave the memory of the process."""

import errno
from pathlib import Path

import psutil
import pytest
import torch

from problems.storage import VectorList, mapped_empty, release
from tests.conftest import randn


def test_a_tensor_in_a_file_is_like_any_other() -> None:
    x, expected = mapped_empty((3, 2, 5)), torch.zeros(3, 2, 5)
    assert torch.equal(x, expected)
    for i in range(3):
        x[i] = expected[i] = randn(2, 5, seed=i)
        release(x[i])
    assert torch.equal(x, expected)
    assert torch.equal(x.mean(0), expected.mean(0))


def test_the_file_has_no_name(tmp_path: Path) -> None:
    x = mapped_empty((1000,), folder=tmp_path)
    assert not list(tmp_path.iterdir())
    assert float(x.sum()) == 0


@pytest.mark.skipif(not psutil.LINUX, reason="resident pages are counted by Linux")
def test_released_pages_are_in_memory_no_more() -> None:
    def resident() -> int:
        return int(psutil.Process().memory_info().rss)

    before, size = resident(), 1 << 26
    x = mapped_empty((size // 4,))
    x.fill_(1.0)
    full = resident()
    release(x)
    assert full - before > 0.9 * size and resident() - before < 0.2 * size
    assert float(x[:: 1 << 20].sum()) == size // 4 >> 20


def test_other_tensors_keep_their_values() -> None:
    x = randn(4, 4)
    kept = x.clone()
    release(x)
    assert torch.equal(x, kept)


def test_a_full_disk_is_an_error_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(number: int, start: int, size: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.posix_fallocate", full, raising=False)
    with pytest.raises(OSError, match="No space"):
        mapped_empty((4,))


@pytest.mark.parametrize("large", [1, 1000])
def test_vectors_come_back_in_order(large: int) -> None:
    vectors, expected = VectorList(large), [randn(1, 7, seed=i) for i in range(4)]
    for x in expected:
        vectors.append(x.clone())
    for _ in range(2):
        assert all(torch.equal(a, b) for a, b in zip(vectors, expected, strict=True))


def test_gradients_pass_through_vectors() -> None:
    x, vectors = torch.ones(2, 3, requires_grad=True), VectorList(large=1)
    vectors.append(2 * x)
    sum(one.sum() for one in vectors).backward()
    assert x.grad is not None and x.grad.eq(2).all()
