"""Weights, exported programs and the hub: what is read, and what is refused in one line."""

import io
import json
import pickle
import sys
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from scoresde import EDMSDE, VPSDE, AdaptedPrior, Convention, InputError, load_prior
from scoresde.priors.adapted import read_weights, save_exported
from tests.conftest import randn


class Network(nn.Module):
    """A convolution that is told the noise."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Conv2d(1, 1, 3, padding=1)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """Evaluate the network."""
        return self.layer(x).tanh() * t[:, None, None, None]


def exported(path: Path) -> tuple[Network, Convention]:
    """Export the network with its convention."""
    network = Network().eval()
    batch = torch.export.Dim("batch", min=1, max=512)
    program = torch.export.export(
        network,
        (torch.zeros(2, 1, 8, 8), torch.zeros(2)),
        dynamic_shapes=({0: batch}, {0: batch}),
    )
    convention = Convention("v", VPSDE(), "t", value_range=(0.0, 1.0), fixed_size=True)
    save_exported(program, convention, (1, 8, 8), path)
    return network, convention


def test_torch_export(tmp_path: Path) -> None:
    """The program with its stored convention is the prior of the module, gradients included."""
    path = tmp_path / "prior.pt2"
    network, convention = exported(path)
    prior, wanted = load_prior(f"torch-export:{path}"), AdaptedPrior(network, convention, (1, 8, 8))
    x = randn(5, 1, 8, 8).float()
    torch.testing.assert_close(prior.denoise(x, 0.7), wanted.denoise(x, 0.7), rtol=0, atol=1e-6)
    a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
    prior.denoise(a, 0.7).square().sum().backward()
    wanted.denoise(b, 0.7).square().sum().backward()
    torch.testing.assert_close(a.grad, b.grad, rtol=1e-5, atol=1e-5)
    assert not any(p.requires_grad for p in prior.parameters())


def test_torch_export_refuses_pickles(tmp_path: Path) -> None:
    """A file that torch would unpickle without limits is not opened."""
    path = tmp_path / "prior.pt2"
    exported(path)
    ran = tmp_path / "ran"

    class Harmful:
        def __reduce__(self) -> tuple[object, tuple[object, ...]]:
            return Path.touch, (ran,)

    for entry, content in {
        "data/sample_inputs/model.pt": pickle.dumps(Harmful()),
        "data/constants/model_constants_config.json": json.dumps(
            {"config": {"a": {"use_pickle": True}}}
        ).encode(),
        "serialized_state_dict.pt": pickle.dumps(Harmful()),
    }.items():
        changed = tmp_path / "changed.pt2"
        with zipfile.ZipFile(path) as old, zipfile.ZipFile(changed, "w") as new:
            root = old.namelist()[0].split("/")[0]
            for name in old.namelist():
                if name != f"{root}/{entry}":
                    new.writestr(name, old.read(name))
            new.writestr(f"{root}/{entry}", content)
        with pytest.raises(InputError, match=r"pickled objects|export the network again"):
            load_prior(f"torch-export:{changed}")
        assert not ran.exists()


def test_torch_export_of_others(tmp_path: Path) -> None:
    """Files without a convention, and what is no such file."""
    program = torch.export.export(Network(), (torch.zeros(2, 1, 8, 8), torch.zeros(2)))
    torch.export.save(program, tmp_path / "plain.pt2")
    (tmp_path / "text.pt2").write_text("text")
    for name, message in {
        "plain.pt2": "has no stored convention",
        "text.pt2": "is not a file of torch.export.save",
        "missing.pt2": "there is no exported program",
    }.items():
        with pytest.raises(InputError, match=message):
            load_prior(f"torch-export:{tmp_path / name}")


@pytest.mark.parametrize("nest", [None, "state_dict", "params_ema"])
def test_weights(nest: str | None, tmp_path: Path) -> None:
    """Safetensors, and pickles of plain tensors, also under the usual names."""
    weights = Network().state_dict()
    torch.save({nest: weights} if nest else weights, tmp_path / "net.pth")
    save_file(weights, tmp_path / "net.safetensors")
    for name in ("net.pth", "net.safetensors"):
        found = read_weights(tmp_path / name)
        assert found.keys() == weights.keys()
        assert all(torch.equal(found[k], weights[k]) for k in weights)


def test_weights_that_need_code(tmp_path: Path) -> None:
    """A pickled module is refused, with the reason and the way to convert it."""
    torch.save(Network(), tmp_path / "module.pt")
    (tmp_path / "damaged.pt").write_bytes(b"PK\x03\x04nothing")
    torch.save({"epoch": 3, "w": torch.ones(1)}, tmp_path / "training.pt")
    buffer = io.BytesIO()
    torch.save(torch.ones(2), buffer)
    (tmp_path / "tensor.pt").write_bytes(buffer.getvalue())
    for name, message in {
        "module.pt": r"needs .*Network, and reading it would run code; convert it .*save_file",
        "damaged.pt": "not a whole file of weights",
        "training.pt": r"more than the weights of a module \(epoch\)",
        "tensor.pt": "holds Tensor, not the weights",
        "missing.pt": "there is no file of weights",
    }.items():
        with pytest.raises(InputError, match=message):
            read_weights(tmp_path / name)


def test_diffusers_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """One line says what to install."""
    monkeypatch.setitem(sys.modules, "diffusers", None)
    with pytest.raises(InputError, match=r"needs the package diffusers .*scoresde\[hub\]"):
        load_prior(f"diffusers:{tmp_path}")


def hub(monkeypatch: pytest.MonkeyPatch, cached: Path | None, index: Path | None) -> list[str]:
    """A hub with a cached folder, or with an index to download, or neither."""
    calls: list[str] = []

    def snapshot(name: str, local_files_only: bool = False, **_: object) -> str:
        calls.append("cache" if local_files_only else "download")
        if not local_files_only or cached is None:
            raise OSError("no connection\nsecond line")
        return str(cached)

    def one_file(name: str, file: str) -> str:
        calls.append(file)
        if index is None:
            raise OSError("no connection\nsecond line")
        return str(index)

    module = SimpleNamespace(snapshot_download=snapshot, hf_hub_download=one_file)
    monkeypatch.setitem(sys.modules, "huggingface_hub", module)
    monkeypatch.setitem(sys.modules, "diffusers", SimpleNamespace())
    return calls


def test_hub_offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """One line says what to download, and how the folder is then named."""
    hub(monkeypatch, None, None)
    with pytest.raises(InputError, match=r"no connection\); .* hf download me/cats") as refused:
        load_prior("diffusers:me/cats")
    assert "\n" not in str(refused.value)
    assert "diffusers:FOLDER" in str(refused.value)


def test_hub_refuses_before_the_download(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The weights of a latent model are not fetched."""
    index = tmp_path / "model_index.json"
    index.write_text(json.dumps({"vae": ["diffusers", "AutoencoderKL"]}))
    calls = hub(monkeypatch, None, index)
    with pytest.raises(InputError, match="latent diffusion model"):
        load_prior("diffusers:me/cats")
    assert calls == ["cache", "model_index.json"]


def test_hub_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A cached pipeline is read without a network."""
    calls = hub(monkeypatch, tmp_path, None)
    with pytest.raises(InputError, match=r"has no model_index\.json"):
        load_prior("diffusers:me/cats")
    assert calls == ["cache"]


def test_other_names() -> None:
    """A folder that does not exist, and a network for a prior that brings its own."""
    with pytest.raises(InputError, match=r"there is no folder|needs the package"):
        load_prior("diffusers:./nothing")
    with pytest.raises(InputError, match=r"unknown prior 'magic:x'.*diffusers:FOLDER"):
        load_prior("magic:x")


@pytest.mark.slow
def test_network_argument(tmp_path: Path) -> None:
    """A program brings its own network."""
    exported(tmp_path / "prior.pt2")
    with pytest.raises(InputError, match="leave the argument network out"):
        load_prior(f"torch-export:{tmp_path / 'prior.pt2'}", network=Network())
    assert load_prior(f"torch-export:{tmp_path / 'prior.pt2'}").sde == EDMSDE()
