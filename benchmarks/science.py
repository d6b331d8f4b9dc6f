"""Worked examples of three sciences with simulated data: MRI, CT and a microscope.

    nice python benchmarks/science.py
    nice python benchmarks/science.py --part ct --again
    nice python benchmarks/science.py --retrain

Each part measures random phantoms as an instrument would, restores them with the usual methods and
with draws of the posterior, and reports errors and 90 % intervals in the units of the instrument.
The phantoms of the training are other ones. Finished parts are kept in results/science.json and
not measured again, except with --again; the page is results/science.md. The priors ship with the
package; with --retrain they are trained first, eleven minutes of one core each, and kept in
runs/phantoms.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import scoresde  # noqa: F401  (before torch: it decides how threads wait)

# isort: split
import science_ct
import science_microscope
import science_mri
import torch
from science_parts import LEVEL, exact_coverage
from tables import RESULTS, Cells, short_command, table, write_page

from scoresde import GreyPrior, load_prior

PARTS = ("mri", "ct", "ct on a finer grid", "microscope")
PICTURES, DRAWS = 16, 8
MRI_SOLVERS = ["warm-start"]
CT_SOLVERS = ["logarithm, warm-start", "counts, warm-start", "counts, mmps"]
PHOTONS = 5000.0
RETRAINED = Path(__file__).parents[1] / "runs/phantoms"


def prior_of(name: str, retrain: bool) -> Any:
    """The prior that ships, or the one that was trained by this script."""
    path = RETRAINED / f"{name}.safetensors"
    if not retrain:
        return load_prior(f"phantoms/{name}", precision="fp32")
    if not path.exists():
        sys.path.insert(0, str(Path(__file__).parent / "maintenance"))
        from train_phantoms import STEPS, made

        path.parent.mkdir(parents=True, exist_ok=True)
        made(name, STEPS, RETRAINED)
    return load_prior(path, precision="fp32")


def measured(part: str, retrain: bool) -> dict[str, Any]:
    """The rows of a part."""
    if part == "mri":
        prior = prior_of("head", retrain)
        return science_mri.run(prior, MRI_SOLVERS, [4, 8], PICTURES, DRAWS)
    if part == "ct":
        return science_ct.run(
            prior_of("body", retrain), CT_SOLVERS, PHOTONS, PICTURES, DRAWS, finer=1
        )
    if part == "ct on a finer grid":
        few = science_ct.FEW
        return science_ct.run(
            prior_of("body", retrain), CT_SOLVERS[:1], PHOTONS, few, DRAWS, finer=2
        )
    priors = {
        "prior cells": prior_of("cells", retrain),
        "prior natural": GreyPrior(load_prior("natural", precision="fp32")),
    }
    return science_microscope.run(priors, ("prior natural",), "warm-start", PICTURES, DRAWS)


def parameter(row: dict[str, Any]) -> str:
    """The best value of the parameter of a classical method."""
    value = row.get("parameter")
    return "" if value is None else f"{value:g}" if isinstance(value, float | int) else value


def interval_cells(row: dict[str, Any], digits: int) -> list[str]:
    """Coverage and width, raw and calibrated."""
    if "raw" not in row:
        return [""] * 4
    return [
        f"{100 * row['raw']:.1f}",
        f"{row['raw width']:.{digits}f}",
        f"{100 * row['calibrated']:.1f}",
        f"{row['calibrated width']:.{digits}f}",
    ]


INTERVALS = ["raw cover %", "raw width", "calibrated cover %", "calibrated width"]


def mri_lines(cells: dict[str, Any]) -> list[str]:
    """The table of the first part."""
    rows = []
    for key, row in cells.items():
        acceleration, name = key.split("/", 1)
        single = f"{row['one draw']:.2f}" if "one draw" in row else ""
        rows.append(
            [
                f"×{acceleration}",
                name,
                parameter(row),
                f"{row['psnr']:.2f}",
                single,
                f"{row['seconds']:.2f}",
                *interval_cells(row, 0),
            ]
        )
    head = ["columns", "method", "parameter", "PSNR dB", "one draw dB", "s a slice", *INTERVALS]
    return table(head, rows)


def ct_lines(cells: dict[str, Any]) -> list[str]:
    """The table of the second part."""
    rows = []
    for name, row in cells.items():
        single = f"{row['one draw']:.1f}" if "one draw" in row else ""
        rows.append(
            [
                name,
                parameter(row),
                f"{row['rmse']:.1f}",
                f"{row['body']:.1f}",
                single,
                f"{row['seconds']:.2f}",
                *interval_cells(row, 0),
            ]
        )
    head = ["method", "parameter", "RMSE HU", "in the body", "one draw"]
    return table([*head, "s a slice", *INTERVALS], rows)


def microscope_lines(cells: dict[str, Any]) -> list[str]:
    """The table of the third part."""
    rows = []
    for name, row in cells.items():
        rows.append(
            [
                name,
                parameter(row),
                f"{row['rmse']:.2f}" if "rmse" in row else "",
                f"{row['psnr']:.2f}" if "psnr" in row else "",
                f"{row['few']:.2f}",
                f"{row['one draw']:.2f}" if "one draw" in row else "",
                f"{row['seconds']:.2f}",
                *interval_cells(row, 1),
            ]
        )
    few = f"first {science_microscope.FEW} planes"
    head = ["method", "parameter", "RMSE photons", "PSNR dB", few, "one draw of these"]
    return table([*head, "s a plane", *INTERVALS], rows)


TITLES = {
    "mri": "MRI: eight coils, complex images",
    "ct": "CT: a fan beam and few photons",
    "ct on a finer grid": "CT: measured on a finer grid",
    "microscope": "Microscope: deconvolution of a stack of 16 bits",
}
TEXTS = {
    "mri": (
        f"Heads of {science_mri.SIDE}×{science_mri.SIDE} pixels with a smooth phase, their "
        f"brightest tissue at 500 to {science_mri.BRIGHT:g} units of the scanner. "
        f"{science_mri.COILS} coils with correlated noise of {science_mri.NOISE:g} units in most "
        "of them; the covariance is estimated from a scan of noise. Sensitivities are estimated "
        f"by ESPIRiT from another scan of the middle {science_mri.CALIBRATION}×"
        f"{science_mri.CALIBRATION} samples. Random columns of k-space, 16 of 64 and 8 of 64. But "
        "for the sensitivities, an image is measured by the operator with which it is restored. "
        "PSNR is of magnitudes, the peak is the brightest pixel of the slice. Coverage is at the "
        "pixels where ESPIRiT finds an object, widths are in units of the scanner."
    ),
    "ct": (
        f"Trunks of {science_ct.SIDE}×{science_ct.SIDE} pixels of {science_ct.FAN.pixel:g} mm, "
        f"{len(science_ct.FAN.angles)} angles over 360 degrees, {science_ct.FAN.detectors} "
        f"detectors at a distance of {science_ct.FAN.pitch:g} mm, {PHOTONS:g} photons a ray, of "
        "which a few to twenty are left on the darkest ray of a slice. Measured by the operator "
        "with which it is restored, which flatters all methods but FBP. FBP sorts the fan into "
        "parallel rays by interpolation for scikit-image's `iradon`. TV is least squares weighted "
        f"by the counts. The solvers by the counts restored the first {science_ct.FEW} slices. In "
        "the body: pixels above -950 HU. Widths are in HU."
    ),
    "ct on a finer grid": (
        f"{science_ct.FEW} slices are drawn with pixels of half the side and "
        "measured so, which the coarse grid cannot explain. All but FBP count what it misses as "
        "noise, with the standard deviation known."
    ),
    "microscope": (
        f"Planes of {science_microscope.SIDE}×{science_microscope.SIDE} pixels of 0.1 µm, green "
        "light, NA 1.2 in water: the blur of the lens in focus, plane by plane, without the light "
        f"of other planes. {science_microscope.PEAK:g} photons at the brightest pixel, "
        f"{science_microscope.READ:g} of read noise, {science_microscope.GAIN:g} units of the "
        f"camera per photon on a zero of {science_microscope.OFFSET:g}, written as a TIFF of 16 "
        "bits and read again. Two priors: one trained on such cells, and that of photographs, "
        f"which has seen none and restored the first {science_microscope.FEW} planes. PSNR has "
        "this peak; errors and widths are in photons."
    ),
}
LINES = {
    "mri": mri_lines,
    "ct": ct_lines,
    "ct on a finer grid": ct_lines,
    "microscope": microscope_lines,
}


def page(cells: Cells, command: str) -> list[str]:
    """The lines of the page."""
    loss = 100 * (PICTURES * (1 - LEVEL) - 1) / (PICTURES - 1)
    lines = [
        "# Worked examples: MRI, CT, microscope",
        "",
        f"Random phantoms (`scoresde.data.phantoms`), {PICTURES} in each part, {DRAWS} draws of "
        "each, whose mean is the estimate. The priors are small networks, trained for minutes on "
        "other phantoms of the same law, which real anatomy and specimens do not follow: the "
        "tables compare methods on equal data and say nothing about patients. A classical method "
        "has its parameter chosen as the best on the judged pictures, which flatters it. Raw "
        "intervals of 90 % are the mean ± 1.645 standard deviations of the draws; those of "
        f"{DRAWS} exact draws of a Gaussian would hold {100 * exact_coverage(DRAWS):.1f} %. "
        "Calibrated ones are scaled on all other pictures of the part (conformal risk control at "
        f"{100 * LEVEL:.0f} %). This guarantees 90 % on average over pictures, up to chance, and "
        f"with so few pictures it asks for more: a mean loss of {loss:.1f} % on the {PICTURES - 1} "
        "others. Seconds are wall time on one core beside another busy process: they compare "
        "rows.",
        "",
        f"`{command}`",
    ]
    for part in PARTS:
        found = cells.get(part)
        if found:
            minutes = found["minutes"]
            lines += [
                "",
                f"## {TITLES[part]}",
                "",
                f"{TEXTS[part]} Took {minutes:.1f} minutes.",
                "",
            ]
            lines += LINES[part](found["rows"])
            lines += ["", *NOTES[part]] if part in NOTES else []
    return lines


NOTES: dict[str, list[str]] = {
    "mri": [
        "The errors of ours are the smallest. Its raw intervals are too narrow: they hold less "
        "than those of exact draws would. The network is to blame at least in part: at a noise of "
        "1 a linear filter denoises heads better (see its card), and much of what these columns "
        "leave open is decided there. Calibration mends the coverage; the width that it takes at "
        "×8, more than a quarter of the brightest tissue, says how little is known."
    ],
    "ct": [
        "By the counts, which solvers write as line integrals with the same likelihood, the errors "
        "of the first slices are about those by the logarithm and its variance."
    ],
    "ct on a finer grid": [
        "No image of the coarse grid explains these data, which costs all methods but FBP a tenth "
        "to a fifth in error."
    ],
    "microscope": [
        "The lead is over simple methods, which need a thousandth of the time. The blur is in "
        "two dimensions; light from other planes, as in a real stack, is not modelled."
    ],
}


def main(arguments: Sequence[str]) -> None:
    """Read the options, run, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--part", action="append", choices=PARTS)
    parser.add_argument("--again", action="store_true", help="measure finished parts again")
    parser.add_argument("--retrain", action="store_true", help="train the priors first")
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    cells = Cells(given.out / "science.json")
    for part in given.part or PARTS:
        if part in cells and not given.again:
            continue
        start = time.perf_counter()
        rows = measured(part, given.retrain)
        cells.put(part, {"rows": rows, "minutes": (time.perf_counter() - start) / 60})
    write_page(given.out / "science.md", page(cells, short_command("science.py", [])))


if __name__ == "__main__":
    main(sys.argv[1:])
