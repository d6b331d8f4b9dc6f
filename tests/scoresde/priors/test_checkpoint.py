"""Priors on disk: they are read back as written, and a bad file is refused in one line."""

import json
import pickle
import struct
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

import scoresde.files
from scoresde import EDMSDE, VPSDE, InputError, ScorePrior, load_prior, save_prior
from scoresde.files import read_tensors, write_tensors
from scoresde.networks import Perceptron, PerceptronConfig, UNet, UNetConfig
from scoresde.priors.checkpoint import embedded_priors
from tests.conftest import seeded

CONFIG = UNetConfig(channels=1, patch=2, widths=(8, 16), blocks=1, attention=(1,), embedding=16)


def make_prior() -> ScorePrior:
    """A prior with random weights and no setting at its default."""
    generator, network = seeded(0), UNet(CONFIG)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(0.2 * torch.randn(parameter.shape, generator=generator))
    return ScorePrior(
        network,
        VPSDE(0.2, 15.0, 2e-3),
        (1, 24, 16),
        sigma_data=0.37,
        card={"name": "test", "images": [1, 2]},
    )


@pytest.fixture
def prior() -> ScorePrior:
    return make_prior()


@pytest.fixture
def path(prior: ScorePrior, tmp_path: Path) -> Path:
    save_prior(prior, tmp_path / "prior.safetensors")
    return tmp_path / "prior.safetensors"


def refused(path: str | Path, match: str | None = None) -> str:
    """The message that refuses a file: one line that names the file."""
    with pytest.raises(InputError, match=match) as error:
        load_prior(path)
    message = str(error.value)
    assert "\n" not in message and str(path) in message
    return message


class TestRoundTrip:
    def test_everything_comes_back(self, prior: ScorePrior, path: Path) -> None:
        back = load_prior(path, precision="fp32")
        assert isinstance(back, ScorePrior) and isinstance(back.network, UNet)
        assert back.network.config == CONFIG
        assert (back.sde, back.shape, back.sigma_data, back.card) == (
            prior.sde,
            prior.shape,
            prior.sigma_data,
            prior.card,
        )
        expected = prior.network.state_dict()
        assert back.network.state_dict().keys() == expected.keys()
        for name, value in back.network.state_dict().items():
            assert value.dtype == torch.float32 and torch.equal(value, expected[name]), name

    def test_answers_are_the_same(self, prior: ScorePrior, path: Path) -> None:
        x = torch.randn(2, 1, 10, 7, generator=seeded(1))
        torch.testing.assert_close(
            load_prior(path, precision="fp32").denoise(x, 0.4),
            prior.denoise(x, 0.4).detach(),
            rtol=1e-5,
            atol=1e-5,
        )

    def test_frozen_and_ready(self, path: Path) -> None:
        back = load_prior(path, precision="bf16")
        assert not back.training and not any(p.requires_grad for p in back.parameters())
        assert back.precision == "bf16" and load_prior(str(path)).precision == "auto"

    def test_half_precision(self, prior: ScorePrior, tmp_path: Path) -> None:
        """Half the file size; weights rounded to 11 bits, or to the smallest spacing."""
        save_prior(prior, tmp_path / "half.safetensors", torch.float16)
        save_prior(prior, tmp_path / "full.safetensors")
        stored = load_file(tmp_path / "half.safetensors")
        assert {v.dtype for v in stored.values()} == {torch.float16}
        assert sum(v.nbytes for v in stored.values()) * 2 == sum(
            v.nbytes for v in load_file(tmp_path / "full.safetensors").values()
        )
        expected = prior.network.state_dict()
        for name, value in load_prior(tmp_path / "half.safetensors").network.state_dict().items():
            assert value.dtype == torch.float32
            torch.testing.assert_close(value, expected[name], rtol=2**-11, atol=2**-25)

    def test_saving_leaves_the_prior_as_it_is(self, prior: ScorePrior, tmp_path: Path) -> None:
        save_prior(prior, tmp_path / "a.safetensors", torch.float16)
        expected = make_prior().network.state_dict()
        assert all(torch.equal(v, expected[k]) for k, v in prior.network.state_dict().items())

    def test_the_file_is_plain_safetensors(self, path: Path) -> None:
        """Eight bytes of length, a JSON header and raw numbers: nothing that could be executed."""
        raw = path.read_bytes()
        (length,) = struct.unpack("<Q", raw[:8])
        header = json.loads(raw[8 : 8 + length])
        ours = json.loads(header["__metadata__"]["scoresde"])
        assert ours["network"]["kind"] == "UNet" and ours["sde"]["kind"] == "VPSDE"
        end = max(
            entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"
        )
        assert len(raw) == 8 + length + end

    def test_tensors_of_any_layout(self, tmp_path: Path) -> None:
        tensors = {
            "a": torch.arange(24.0).reshape(2, 3, 2, 2).to(memory_format=torch.channels_last),
            "b": torch.eye(3).double().T[1:],
        }
        write_tensors(tmp_path / "t.safetensors", tensors, {"format": "test", "x": 0.1})
        back, header = read_tensors(tmp_path / "t.safetensors")
        assert header == {"format": "test", "x": 0.1}
        assert all(torch.equal(back[k], v) and back[k].dtype == v.dtype for k, v in tensors.items())

    def test_a_prior_of_vectors(self, tmp_path: Path) -> None:
        network = Perceptron(PerceptronConfig(3, (8, 5), embedding=6, extra=12))
        torch.nn.init.normal_(network.layers[-1].weight)
        prior = ScorePrior(network, EDMSDE(), (3,), fourier=(0, 1))
        save_prior(prior, tmp_path / "vectors.safetensors")
        back, x = load_prior(tmp_path / "vectors.safetensors"), torch.randn(4, 3)
        assert torch.equal(back.denoise(x, 0.3), prior.denoise(x, 0.3)) and not torch.equal(
            back.denoise(x, 0.3), x
        )
        with pytest.raises(ValueError, match=r"at least 1.*got 0"):
            PerceptronConfig(3, (8, 0))

    @pytest.mark.parametrize("name", embedded_priors())
    def test_embedded_priors_load(self, name: str) -> None:
        prior = load_prior(name)
        x = torch.randn(1, prior.shape[0], 16, 16, generator=seeded(0))
        assert torch.isfinite(prior.denoise(x, prior.sde.t_max)).all()


class TestRefused:
    @pytest.mark.parametrize("kept", [0, 4, 8, 100, 0.5, -1])
    def test_truncated(self, path: Path, kept: float) -> None:
        raw = path.read_bytes()
        path.write_bytes(raw[: int(kept * len(raw)) if isinstance(kept, float) else kept])
        refused(path, "safetensors")

    @pytest.mark.parametrize(
        "content",
        [b"hello", b"\x80\x04K\x01.", b"PK\x03\x04" + bytes(100), b"\xff" * 64],
        ids=["text", "pickle", "zip", "ones"],
    )
    def test_other_files(self, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "a.safetensors").write_bytes(content)
        refused(tmp_path / "a.safetensors", "not a whole safetensors file")

    def test_a_pickle_is_never_run(self, tmp_path: Path) -> None:
        class Trap:
            def __reduce__(self) -> tuple:
                return (Path.touch, (tmp_path / "sprung",))

        for name in ("a.safetensors", "a.pt"):
            (tmp_path / name).write_bytes(pickle.dumps(Trap()))
            refused(tmp_path / name)
        assert not (tmp_path / "sprung").exists()

    def test_foreign_safetensors(self, tmp_path: Path) -> None:
        save_file({"weight": torch.zeros(3)}, tmp_path / "a.safetensors")
        refused(tmp_path / "a.safetensors", "not one of scoresde's")
        save_file(
            {"weight": torch.zeros(3)}, tmp_path / "b.safetensors", metadata={"scoresde": "{"}
        )
        refused(tmp_path / "b.safetensors")
        save_file(
            {"weight": torch.zeros(3)}, tmp_path / "c.safetensors", metadata={"scoresde": "3"}
        )
        refused(tmp_path / "c.safetensors")

    @pytest.mark.parametrize(
        "change",
        [
            {"format": "scoresde.prior/999"},
            {"format": None},
            {"network": {"kind": "Transformer"}},
            {"network": {"kind": "UNet", "depth": 3}},
            {"network": {"kind": "UNet"}},
            {"network": None},
            {"network": {"kind": "UNet", "channels": 1, "widths": "many"}},
            {"sde": {"kind": "Ornstein"}},
            {"sde": None},
            {"shape": None},
            {"sigma_data": -1.0},
            {"sigma_data": None},
        ],
        ids=str,
    )
    def test_headers_that_describe_no_prior(self, path: Path, change: dict) -> None:
        tensors, header = read_tensors(path)
        write_tensors(path, tensors, header | change)
        refused(path)

    @pytest.mark.parametrize("key", ["format", "network", "sde", "shape", "sigma_data"])
    def test_headers_with_a_part_missing(self, path: Path, key: str) -> None:
        tensors, header = read_tensors(path)
        del header[key]
        write_tensors(path, tensors, header)
        refused(path, key)

    def test_weights_of_another_network(self, path: Path) -> None:
        """The message says which weight is wrong."""
        tensors, header = read_tensors(path)
        del tensors["head.bias"]
        write_tensors(path, tensors, header)
        refused(path, "head.bias")

    @pytest.mark.parametrize("name", ["no-such-prior", "no/such/prior", ""])
    def test_unknown_names(self, name: str) -> None:
        assert "unknown prior" in refused(name)

    def test_missing_files_and_folders(self, tmp_path: Path) -> None:
        refused(tmp_path / "no.safetensors", "no checkpoint")
        (tmp_path / "folder.safetensors").mkdir()
        refused(tmp_path / "folder.safetensors")
        refused(tmp_path)


class TestWriting:
    @pytest.mark.parametrize(
        "error",
        [
            OSError(28, "No space left on device"),
            SafetensorError("I/O error: No space left on device"),
        ],
        ids=["os", "safetensors"],
    )
    def test_a_failing_write_leaves_the_old_file_and_nothing_else(
        self, prior: ScorePrior, path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
    ) -> None:
        before = path.read_bytes()

        def fail(tensors: dict, name: Path, metadata: dict) -> None:
            Path(name).write_bytes(b"half of it")
            raise error

        monkeypatch.setattr(scoresde.files, "save_file", fail)
        with pytest.raises(InputError, match="No space left") as caught:
            save_prior(prior, path)
        assert "\n" not in str(caught.value) and str(path) in str(caught.value)
        assert path.read_bytes() == before
        assert [p.name for p in path.parent.iterdir()] == [path.name]

    def test_an_interrupt_leaves_no_temporary_file(
        self, prior: ScorePrior, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def interrupt(*args: object, **kwargs: object) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(scoresde.files, "save_file", interrupt)
        with pytest.raises(KeyboardInterrupt):
            save_prior(prior, path)
        assert [p.name for p in path.parent.iterdir()] == [path.name]

    def test_folders_that_cannot_be_written(self, prior: ScorePrior, path: Path) -> None:
        for target in (path.parent / "no" / "a.safetensors", path / "a.safetensors"):
            with pytest.raises(InputError, match="cannot write") as error:
                save_prior(prior, target)
            assert "\n" not in str(error.value) and str(target) in str(error.value)

    def test_replaces_an_older_prior(self, prior: ScorePrior, path: Path) -> None:
        save_prior(prior.with_sde(EDMSDE()), path)
        assert load_prior(path).sde == EDMSDE()
