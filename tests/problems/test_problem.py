"""An inverse problem is its operator and its noise, and its description contains both."""

import dataclasses
import json
from typing import Any

import numpy as np
import pytest
import scipy.stats
import torch
from torch import Tensor

from problems import (
    JPEG,
    MRI,
    Blur,
    Clipping,
    CompressedSensing,
    CorrelatedNoise,
    Decimation,
    Denoising,
    GaussianBlur,
    GaussianNoise,
    Grayscale,
    Inpainting,
    InverseProblem,
    LaplaceNoise,
    LinearMatrix,
    Operator,
    PoissonNoise,
    SaltAndPepperNoise,
    SuperResolution,
    Tomography,
    known_operators,
    problem_from,
    random_mask,
    stack,
)
from problems.description import encode
from tests.conftest import randn, seeded

MASK = random_mask(8, 8, 0.5, seeded())


class TestMeasure:
    def test_measurement_is_operator_plus_noise(self) -> None:
        x = randn(2, 3, 8, 8)
        problem = InverseProblem(SuperResolution(2), GaussianNoise(0.1))
        expected = GaussianNoise(0.1).sample(SuperResolution(2).apply(x), seeded(5))
        assert torch.equal(problem.measure(x, seeded(5)), expected)
        assert problem.input_shape(expected) == (3, 8, 8)

    def test_holes_stay_empty(self) -> None:
        problem = InverseProblem(Inpainting(MASK), GaussianNoise(0.5))
        y = problem.measure(randn(2, 3, 8, 8), seeded(1))
        assert bool((y[..., ~MASK] == 0).all())
        assert bool((y[..., MASK] != 0).all())

    def test_holes_of_k_space_stay_empty(self) -> None:
        y = InverseProblem(MRI(MASK), GaussianNoise(0.5)).measure(randn(2, 3, 8, 8), seeded(1))
        assert bool((y[..., ~MASK] == 0).all())
        assert bool((y[..., MASK] != 0).all())

    @pytest.mark.parametrize(
        "operator",
        [Inpainting(MASK), Clipping(), Tomography((0.0, 40.0), (8, 8))],
        ids=["mask", "clip", "ct"],
    )
    def test_a_generator_for_each_sample(self, operator: Operator) -> None:
        """A measurement depends on its own generator alone, not on its batch.

        Only the rounding of A x may depend on the batch.
        """
        x = randn(3, 1, 8, 8)
        problem = InverseProblem(operator, LaplaceNoise(0.2))
        together = problem.measure(x, [seeded(i) for i in range(3)])
        for i in range(3):
            torch.testing.assert_close(
                together[i : i + 1], problem.measure(x[i : i + 1], [seeded(i)]), atol=1e-13, rtol=0
            )

    def test_frozen(self) -> None:
        problem = InverseProblem(Denoising(), GaussianNoise(1.0))
        with pytest.raises(dataclasses.FrozenInstanceError):
            problem.noise = GaussianNoise(2.0)  # type: ignore[misc]
        with pytest.raises(dataclasses.FrozenInstanceError):
            problem.noise.std = 2.0  # type: ignore[attr-defined]


class TestLikelihood:
    def test_holes_say_nothing(self) -> None:
        """Values in the holes of y or x change neither the residual nor the likelihood."""
        problem = InverseProblem(Inpainting(MASK), GaussianNoise(0.5))
        x, y = randn(2, 3, 8, 8), randn(2, 3, 8, 8, seed=1)
        other_x, other_y = (
            torch.where(MASK, x, 100 + x),
            torch.where(MASK, y, torch.full_like(y, float("nan"))),
        )
        assert torch.equal(problem.residual(y, x), problem.residual(other_y, other_x))
        assert torch.equal(problem.log_likelihood(y, x), problem.log_likelihood(other_y, other_x))
        seen = scipy.stats.norm(x[..., MASK], 0.5).logpdf(y[..., MASK])
        np.testing.assert_allclose(problem.log_likelihood(y, x), seen.sum((1, 2)), rtol=1e-10)

    def test_is_the_noise_around_the_forward_model(self) -> None:
        x = randn(2, 1, 8, 8)
        problem = InverseProblem(GaussianBlur(0.6), GaussianNoise(0.2))
        y = problem.measure(x, seeded(1))
        expected = (
            scipy.stats.norm(GaussianBlur(0.6).apply(x).numpy(), 0.2)
            .logpdf(y.numpy())
            .sum((1, 2, 3))
        )
        np.testing.assert_allclose(problem.log_likelihood(y, x), expected, rtol=1e-12)

    def test_of_correlated_noise(self) -> None:
        x, root = randn(2, 1, 4, 4), GaussianBlur(0.5, "circular", 2.0)
        problem = InverseProblem(Grayscale((2.0,)), CorrelatedNoise(root))
        y, L = problem.measure(x, seeded(1)), root.dense((1, 4, 4))
        expected = scipy.stats.multivariate_normal(cov=(L @ L.T).numpy()).logpdf(
            (y - 2 * x).flatten(1).numpy()
        )
        np.testing.assert_allclose(problem.log_likelihood(y, x), expected, rtol=1e-10)

    def test_one_measurement_for_many_candidates(self) -> None:
        problem = InverseProblem(Denoising(), GaussianNoise(0.5))
        x, y = randn(5, 1, 4, 4), randn(1, 1, 4, 4, seed=1)
        expected = torch.cat([problem.log_likelihood(y, one[None]) for one in x])
        torch.testing.assert_close(problem.log_likelihood(y, x), expected, atol=1e-13, rtol=0)

    def test_residual(self) -> None:
        x, y = randn(2, 3, 8, 8), randn(2, 3, 4, 4, seed=1)
        problem = InverseProblem(SuperResolution(2), GaussianNoise(0.0))
        assert torch.equal(problem.residual(y, x), y - SuperResolution(2).apply(x))


class TestCapabilities:
    def test_of_the_operator_and_the_noise(self) -> None:
        all_of_them = {
            "linear",
            "adjoint",
            "solve",
            "svd",
            "closed_form",
            "gaussian_noise",
            "noise_covariance",
        }
        assert all_of_them <= InverseProblem(Denoising(), GaussianNoise(1.0)).capabilities
        assert (
            "closed_form"
            not in InverseProblem(
                Blur(torch.ones(3, 3), "reflect"), GaussianNoise(1.0)
            ).capabilities
        )
        assert "linear" not in InverseProblem(JPEG(50), GaussianNoise(1.0)).capabilities

    def test_gaussian_noise_is_of_one_level(self) -> None:
        for noise in (
            GaussianNoise(torch.ones(1, 8, 8)),
            LaplaceNoise(1.0),
            CorrelatedNoise(Denoising()),
        ):
            names = InverseProblem(Denoising(), noise).capabilities
            assert "gaussian_noise" not in names and "noise_covariance" in names
        assert (
            "noise_covariance"
            not in InverseProblem(Denoising(), SaltAndPepperNoise(0.1)).capabilities
        )

    def test_linear_operator(self) -> None:
        operator = Denoising()
        assert InverseProblem(operator, GaussianNoise(1.0)).linear_operator is operator
        with pytest.raises(ValueError, match="JPEG is not linear"):
            _ = InverseProblem(JPEG(50), GaussianNoise(1.0)).linear_operator

    def test_to_another_precision(self) -> None:
        noise = GaussianNoise(torch.ones(1, 8, 8, dtype=torch.float64))
        problem = InverseProblem(Blur(randn(3, 3)) @ Inpainting(MASK), noise).to(
            dtype=torch.float32
        )
        assert problem.noise.std.dtype == torch.float32  # type: ignore[attr-defined]
        assert problem.operator.outer.kernel.dtype == torch.float32  # type: ignore[attr-defined]
        assert problem.operator.inner.mask.dtype == torch.bool  # type: ignore[attr-defined]


def examples() -> dict[str, tuple[Operator, tuple[int, ...]]]:
    """Every example of every operator of the package that can be described by values."""
    found = {}
    for shape in ((3, 8, 8), (2, 8, 8)):
        for kind in known_operators():
            if kind.__module__.startswith("problems."):
                found |= {
                    f"{name}-{shape[0]}": (op, shape)
                    for name, op in kind.examples(shape).items()
                    if "function" not in name
                }
    return found


EXAMPLES = examples()


def through_text(problem: InverseProblem) -> InverseProblem:
    return problem_from(json.loads(json.dumps(problem.describe())))


def description(**changes: Any) -> dict[str, Any]:
    return InverseProblem(Inpainting(MASK), GaussianNoise(0.1)).describe() | changes


def tensor(**changes: Any) -> dict[str, Any]:
    return {"operator": "Inpainting", "mask": encode(MASK) | changes}


NOISE = {"noise": "GaussianNoise", "std": 0.1}
BAD_DESCRIPTIONS: dict[str, tuple[Any, str]] = {
    "no dictionary": ([1, 2], "two keys operator and noise"),
    "operator missing": ({"noise": NOISE}, "two keys operator and noise"),
    "a key too many": (description(prior="mnist"), "two keys operator and noise"),
    "operator unknown": (
        description(operator={"operator": "Telescope"}),
        "unknown operator 'Telescope'; known: .*Blur",
    ),
    "operator not named by text": (
        description(operator={"operator": ["Blur"]}),
        r"unknown operator \['Blur'\]",
    ),
    "noise unknown": (
        description(noise={"noise": "Pink"}),
        "unknown noise 'Pink'; known: CorrelatedNoise",
    ),
    "noise for operator": (description(operator=NOISE), "an operator under operator"),
    "operator for noise": (description(noise={"operator": "Denoising"}), "a noise under noise"),
    "operator null": (description(operator=None), "an operator under operator"),
    "no kind": (
        description(operator={"mask": 3}),
        "one of the keys operator, noise or tensor, got mask",
    ),
    "empty": (description(operator={}), "got nothing"),
    "setting unknown": (
        description(noise=NOISE | {"mean": 0.0}),
        "GaussianNoise does not fit it.*mean",
    ),
    "setting missing": (
        description(noise={"noise": "GaussianNoise"}),
        "GaussianNoise does not fit it.*std",
    ),
    "setting of another type": (
        description(noise=NOISE | {"std": "much"}),
        "noise level must be a finite number >= 0, got much",
    ),
    "text for a tensor": (
        description(operator={"operator": "Blur", "kernel": "round"}),
        "a kernel must be a tensor, got str",
    ),
    "list for a tensor": (
        description(operator={"operator": "Inpainting", "mask": [[1, 0]]}),
        "a mask must be a tensor of real numbers, got tuple",
    ),
    "setting out of range": (description(noise=NOISE | {"std": -1.0}), "-1.0"),
    "tensor cut off": (
        description(operator=tensor(tensor=encode(MASK)["tensor"][:-4])),
        "tensor in the description cannot be read",
    ),
    "tensor of other text": (
        description(operator=tensor(tensor="no base64!")),
        "tensor in the description cannot be read",
    ),
    "tensor of other bytes": (
        description(operator=tensor(tensor="AAAA")),
        "tensor in the description cannot be read",
    ),
    "tensor of a number": (
        description(operator=tensor(tensor=3)),
        "tensor in the description cannot be read",
    ),
    "tensor of another size": (
        description(operator=tensor(shape=[80, 80])),
        "8 bytes for 6400 bits",
    ),
    "tensor of a negative size": (
        description(operator=tensor(shape=[-1, 8])),
        "8 bytes for -8 bits",
    ),
    "tensor of floats of another size": (
        description(noise=NOISE | {"std": encode(torch.ones(3)) | {"shape": [4]}}),
        "tensor in the description cannot be read",
    ),
    "tensor of another dtype": (
        description(operator=tensor(dtype="string")),
        "tensor in the description cannot be read.*string",
    ),
    "tensor without shape": (
        description(operator={"operator": "Inpainting", "mask": {"tensor": "", "dtype": "bool"}}),
        "shape",
    ),
}


class TestDescription:
    @pytest.mark.parametrize("name", EXAMPLES)
    def test_round_trip(self, name: str) -> None:
        """An operator written to JSON and read back is the same, bit by bit."""
        operator, shape = EXAMPLES[name]
        again = through_text(InverseProblem(operator, GaussianNoise(0.1))).operator
        x = randn(1, *shape).clamp(-1, 1).float()
        assert type(again) is type(operator) and repr(again) == repr(operator)
        assert torch.equal(again.apply(x), operator.apply(x))

    @pytest.mark.parametrize(
        "dtype", [torch.float16, torch.float32, torch.float64, torch.int64, torch.uint8]
    )
    def test_tensors_keep_their_bits(self, dtype: torch.dtype) -> None:
        matrix = (100 * torch.rand(3, 4, generator=seeded(), dtype=torch.float64)).to(dtype)
        again = through_text(InverseProblem(LinearMatrix(matrix), GaussianNoise(0.1))).operator
        assert isinstance(again, LinearMatrix)
        assert again.matrix.dtype == dtype and torch.equal(again.matrix, matrix)

    @pytest.mark.parametrize("shape", [(1, 1), (3, 5), (8, 8)])
    def test_masks_keep_their_bits(self, shape: tuple[int, int]) -> None:
        """Masks whose bits do not fill the last byte survive as well."""
        mask = torch.rand(shape, generator=seeded()) < 0.7
        mask[0, 0] = True
        again = through_text(InverseProblem(Inpainting(mask), PoissonNoise(3.0))).operator
        assert isinstance(again, Inpainting) and torch.equal(again.mask[0], mask)

    def test_of_operators_within_operators(self) -> None:
        inner = stack(Inpainting(MASK), JPEG(30) @ GaussianBlur(0.7), shape=(3, 8, 8))
        problem = InverseProblem(inner, CorrelatedNoise(LinearMatrix(randn(384, 5))))
        again, x = through_text(problem), randn(1, 3, 8, 8)
        assert torch.equal(again.measure(x, seeded()), problem.measure(x, seeded()))

    def test_numbers_of_numpy(self) -> None:
        """numpy integers become Python integers, so that they can be written."""
        for operator in (JPEG(np.int64(50)), Decimation(torch.ones(3, 3), np.int64(2))):
            assert repr(
                through_text(InverseProblem(operator, GaussianNoise(np.float64(0.1)))).operator
            ) == repr(operator)

    def test_is_plain(self) -> None:
        noise = GaussianNoise(0.25)
        plain = InverseProblem(CompressedSensing(0.5, (8, 8), "dct", seed=3), noise).describe()
        sensing = {
            "operator": "CompressedSensing",
            "fraction": 0.5,
            "shape": [8, 8],
            "transform": "dct",
            "seed": 3,
        }
        assert plain == {
            "format": "scoresde.problem/1",
            "operator": sensing,
            "noise": {"noise": "GaussianNoise", "std": 0.25},
        }

    @pytest.mark.parametrize("name", BAD_DESCRIPTIONS)
    def test_bad_descriptions_are_named(self, name: str) -> None:
        broken, message = BAD_DESCRIPTIONS[name]
        with pytest.raises(ValueError, match=message):
            problem_from(broken)

    def test_of_ones_own_operator(self) -> None:
        @dataclasses.dataclass(frozen=True, eq=False, repr=False)
        class Doubled(Denoising):
            def _apply(self, x: Tensor) -> Tensor:
                return 2 * x

        assert type(through_text(InverseProblem(Doubled(), GaussianNoise(0.1))).operator) is Doubled

    def test_of_two_classes_of_one_name_the_later_is_meant(self) -> None:
        def made(base: type) -> type:
            @dataclasses.dataclass(frozen=True, eq=False, repr=False)
            class Twice(base):  # type: ignore[misc, valid-type]
                def _apply(self, x: Tensor) -> Tensor:
                    return 2 * x

            return Twice

        kept = []
        for base in (Denoising, Denoising, Clipping, Denoising):
            kept.append(made(base))
            assert (
                type(through_text(InverseProblem(kept[-1](), GaussianNoise(0.1))).operator)
                is kept[-1]
            )
