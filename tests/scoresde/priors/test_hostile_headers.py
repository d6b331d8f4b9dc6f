"""A checkpoint whose header or weights are wrong is refused in one line, before it costs memory."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from scoresde import EDMSDE, InputError, ScorePrior, load_prior, save_prior
from scoresde.files import read_tensors, write_tensors
from scoresde.networks import UNet, UNetConfig

CONFIG = UNetConfig(channels=1, widths=(8, 16), blocks=1, attention=(1,), embedding=16, extra=4)
Header = dict[str, Any]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("prior") / "prior.safetensors"
    save_prior(ScorePrior(UNet(CONFIG), EDMSDE(), (1, 16, 16), fourier=(7, 8)), path)
    return path


def put(*keys: str, value: Any) -> Callable[[Header], None]:
    """Set an entry of the header, at the end of a chain of keys."""

    def change(header: Header) -> None:
        for key in keys[:-1]:
            header = header[key]
        header[keys[-1]] = value

    return change


def drop(*keys: str) -> Callable[[Header], None]:
    def change(header: Header) -> None:
        for key in keys[:-1]:
            header = header[key]
        del header[keys[-1]]

    return change


INF, NAN = float("inf"), float("nan")
HOSTILE: dict[str, tuple[Callable[[Header], None], str]] = {
    "no network": (drop("network"), "no 'network' in its header"),
    "no sde": (drop("sde"), "no 'sde'"),
    "no shape": (drop("shape"), "no 'shape'"),
    "no sigma_data": (drop("sigma_data"), "no 'sigma_data'"),
    "network a list": (put("network", value=[1]), "network is described by a dictionary"),
    "network null": (put("network", value=None), "network is described by a dictionary"),
    "network without kind": (drop("network", "kind"), "unknown network None"),
    "another network": (put("network", "kind", value="Transformer"), "unknown network 'Transf"),
    "kind a list": (put("network", "kind", value=["UNet"]), "unknown network"),
    "setting unknown": (put("network", "depth", value=3), "bad settings of UNet: .*depth"),
    "channels text": (put("network", "channels", value="three"), "channels .*got three"),
    "channels true": (put("network", "channels", value=True), "channels .*got True"),
    "channels 0": (put("network", "channels", value=0), "channels .*got 0"),
    "channels 2.5": (put("network", "channels", value=2.5), "channels .*got 2.5"),
    "channels 1e9": (put("network", "channels", value=10**9), "channels .*at most 65536"),
    "widths a number": (put("network", "widths", value=8), "widths of a UNet are a list"),
    "widths empty": (put("network", "widths", value=[]), "at least one width"),
    "widths text": (put("network", "widths", value="88"), "widths of a UNet are a list"),
    "widths 1e12": (put("network", "widths", value=[8, 10**12]), "widths .*got 1000000000000"),
    "widths NaN": (put("network", "widths", value=[8, NAN]), "widths .*got nan"),
    "widths that the file has not": (
        put("network", "widths", value=[65536, 65536]),
        "has shape .*, the network that the header describes needs",
    ),
    "a hundred levels": (put("network", "widths", value=[8] * 100), "list of at most 12"),
    "blocks 1e9": (put("network", "blocks", value=10**9), "blocks .*at most 256"),
    "blocks of another depth": (put("network", "blocks", value=[1, 1, 1]), "do not fit the 2"),
    "blocks that the file has not": (put("network", "blocks", value=2), "lacks weight"),
    "fewer blocks than the file": (put("network", "attention", value=[]), "has an unknown weight"),
    "attention elsewhere": (put("network", "attention", value=[7]), "not among the 2 levels"),
    "patch 1e6": (put("network", "patch", value=10**6), "patch .*at most 64"),
    "patch null": (put("network", "patch", value=None), "patch .*got None"),
    "extra -1": (put("network", "extra", value=-1), "extra .*got -1"),
    "preactivation text": (put("network", "preactivation", value="yes"), "true or false"),
    "sde a string": (put("sde", value="EDMSDE"), "SDE is described by a dictionary"),
    "sde unknown": (put("sde", "kind", value="Ornstein"), "unknown SDE 'Ornstein'"),
    "sde kind a list": (put("sde", "kind", value=["EDMSDE"]), "unknown SDE"),
    "sde setting unknown": (put("sde", "beta", value=1.0), "bad settings for EDMSDE"),
    "sigma_min text": (put("sde", "sigma_min", value="small"), "sigma_min .*got small"),
    "sigma_min NaN": (put("sde", "sigma_min", value=NAN), "sigma_min .*got nan"),
    "sigma_max infinite": (put("sde", "sigma_max", value=INF), "sigma_max .*got inf"),
    "sigma_max too large": (put("sde", "sigma_max", value=1e60), "in single precision"),
    "shape a number": (put("shape", value=16), "shape of a sample is a list"),
    "shape empty": (put("shape", value=[]), "shape of a sample is a list"),
    "shape negative": (put("shape", value=[1, -16, 16]), "size of a sample .*got -16"),
    "shape 0": (put("shape", value=[1, 0, 16]), "size of a sample .*got 0"),
    "shape fractional": (put("shape", value=[1, 16.5, 16]), "size of a sample .*got 16.5"),
    "shape true": (put("shape", value=[True, 16, 16]), "size of a sample .*got True"),
    "shape vast": (put("shape", value=[1, 10**6, 10**6]), "more than 1073741824 entries"),
    "shape beyond all": (put("shape", value=[1, 10**400, 1]), "size of a sample"),
    "shape of other channels": (put("shape", value=[3, 16, 16]), "images of 1 channels"),
    "shape of two axes": (put("shape", value=[1, 256]), "images of 1 channels"),
    "sigma_data 0": (put("sigma_data", value=0), "sigma_data must be positive, got 0"),
    "sigma_data NaN": (put("sigma_data", value=NAN), "sigma_data .*got nan"),
    "sigma_data infinite": (put("sigma_data", value=INF), "sigma_data .*got inf"),
    "sigma_data text": (put("sigma_data", value="0.5"), "sigma_data .*got 0.5"),
    "sigma_data null": (put("sigma_data", value=None), "sigma_data .*got None"),
    "fourier a number": (put("fourier", value=7), "fourier is a list"),
    "fourier text": (put("fourier", value=["a", "b"]), "exponent of fourier .*got a"),
    "fourier null": (put("fourier", value=None), "fourier is a list"),
    "fourier nested": (put("fourier", value=[[7], [8]]), "exponent of fourier"),
    "fourier fractional": (put("fourier", value=[7.5, 8]), "exponent of fourier .*got 7.5"),
    "fourier huge": (put("fourier", value=[7, 5000]), "exponent of fourier .*at most 32"),
    "fourier many": (put("fourier", value=list(range(30)) * 9), "at most 64 exponents"),
    "fourier of another network": (put("fourier", value=[7]), "4 further inputs .*give 2"),
    "fourier gone": (drop("fourier"), "4 further inputs .*give 0"),
    "card a list": (put("card", value=[1]), "card is a dictionary"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_wrong_header_is_refused(name: str, written: Path, tmp_path: Path) -> None:
    change, message = HOSTILE[name]
    tensors, header = read_tensors(written)
    header = copy.deepcopy(header)
    change(header)
    path = tmp_path / "bad.safetensors"
    write_tensors(path, tensors, header)
    with pytest.raises(InputError, match=message) as error:
        load_prior(path)
    assert "\n" not in str(error.value) and str(path) in str(error.value)


@pytest.mark.parametrize("value", [NAN, INF, -INF])
def test_weights_that_are_not_finite_are_named(value: float, written: Path, tmp_path: Path) -> None:
    tensors, header = read_tensors(written)
    tensors["stem.weight"][1, 0, 2, 2] = value
    write_tensors(tmp_path / "bad.safetensors", tensors, header)
    with pytest.raises(InputError, match=r"stem.weight has NaN or infinite entries \(1 of"):
        load_prior(tmp_path / "bad.safetensors")


@pytest.mark.parametrize("dtype", [torch.int8, torch.complex64, torch.bool], ids=str)
def test_weights_of_another_kind_are_refused(
    dtype: torch.dtype, written: Path, tmp_path: Path
) -> None:
    tensors, header = read_tensors(written)
    tensors["stem.bias"] = tensors["stem.bias"].to(dtype)
    write_tensors(tmp_path / "bad.safetensors", tensors, header)
    with pytest.raises(InputError, match=r"stem\.bias is torch.*, not floating-point"):
        load_prior(tmp_path / "bad.safetensors")


def test_the_right_file_is_read(written: Path) -> None:
    prior = load_prior(written, precision="fp32")
    assert prior.fourier == (7, 8) and prior.network.config == CONFIG
    assert bool(torch.isfinite(prior.denoise(torch.zeros(1, 1, 16, 16), 0.5)).all())
