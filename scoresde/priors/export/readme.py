"""The README beside an exported prior: what it is, and the few lines that run it."""

import json
import math
from typing import Any

from scoresde.priors.base import Prior
from scoresde.priors.export.agreement import Agreement
from scoresde.priors.export.denoiser import TracedDenoiser, trained_levels

__all__ = ["readme"]

_ONNX = """\
```python
import numpy as np
import onnxruntime

session = onnxruntime.InferenceSession("denoiser.onnx")
x_0 = np.zeros((1, {shape}), np.float32)
sigma = np.array([0.5], np.float32)
x = x_0 + sigma[0] * np.random.default_rng(0).standard_normal(x_0.shape, np.float32)
(x0_hat,) = session.run(["x0_hat"], {{"x": x, "sigma": sigma}})
```

`session.get_modelmeta().custom_metadata_map` holds channels, sizes, value range and noise levels.
The graph has no derivatives: it denoises and samples, and serves plug-and-play methods, but not
guidance that differentiates the denoiser, or likelihoods.
"""

_PROGRAM = """\
With torch alone:

```python
import torch

denoise = torch.export.load("denoiser.pt2").module()
sigma = torch.tensor([0.5])
x = torch.zeros(1, {shape}) + sigma * torch.randn(1, {shape})
x0_hat = denoise(x, sigma)
```

With scoresde it is an ordinary prior, gradients included:

```python
from scoresde import load_prior

prior = load_prior("torch-export:denoiser.pt2")
```

The program is read by the version of torch that wrote it ({torch}) and by later ones that keep its
format.
"""

_PIPELINE = """\
```python
from diffusers import DDPMPipeline

pipeline = DDPMPipeline.from_pretrained("FOLDER")
pipeline(batch_size=4, num_inference_steps=100).images[0].save("draw.png")
```

`FOLDER` is this folder. Its network is a class of its own, `unet/scoresde_denoiser.py`, which runs
`unet/denoiser.pt2` by torch.export and needs no scoresde. From the hub, pass
`trust_remote_code=True`. With scoresde the folder is an ordinary prior, and no code of it is run:
`load_prior("diffusers:FOLDER")`.

What is exact, and what is not:

- D(x, sigma) is that of the prior. The network computes the noise
  (x_t - alpha D(x_t / alpha, sigma / alpha)) / sigma of it, in float32.
- The scheduler has {steps} noise levels sigma/alpha from {low:.3g} to {high:.3g}. It keeps alpha^2
  in float32, so the smallest levels are rounded, by up to a few percent; the network is told the
  rounded ones. Times between two steps are interpolated.
- A pipeline starts from N(0, I) in the place of alpha x_0 + sigma n at the largest level, takes as
  many steps as it is told, and clips the pictures to their range. These are approximations of the
  sampler.
"""

_BODIES = {"onnx": _ONNX, "torch-export": _PROGRAM, "diffusers": _PIPELINE}


def readme(
    kind: str,
    name: str,
    prior: Prior,
    traced: TracedDenoiser,
    agreement: Agreement,
    card: dict[str, Any],
    settings: dict[str, Any],
) -> str:
    """Write the model card of an export.

    Args:
        kind: "diffusers", "torch-export" or "onnx".
        name: Name of the prior.
        prior: The prior.
        traced: Its graph.
        agreement: How far the file is from the prior.
        card: What is known about the prior, as plain values.
        settings: Values that the text of the kind names.

    Returns:
        Markdown.
    """
    low, high = trained_levels(prior)
    upper = f"{high:.4g}" if math.isfinite(high) else "infinity"
    facts = [
        ("function", "D(x, sigma): estimate of x_0, given x = x_0 + sigma n with white noise n"),
        ("x", f"float32, (batch, {', '.join(map(str, traced.shape))}); {traced.sizes}"),
        ("sigma", "float32, (batch,), a standard deviation in the units of x"),
        ("values", "pictures on [-1, 1]"),
        ("noise levels of the training", f"{low:.4g} to {upper}"),
        (
            "largest difference from the prior",
            f"{agreement.difference:.2g} (rounding explains {agreement.tolerance:.2g})",
        ),
    ]
    table = "\n".join(f"| {key} | {value} |" for key, value in facts)
    body = _BODIES[kind].format(shape=", ".join(map(str, traced.shape)), **settings)
    known = f"\n```json\n{json.dumps(card, indent=2)}\n```\n" if card else ""
    return (
        f"# The denoiser of the prior {name}\n\nWritten by `scoresde export --to {kind}`.\n\n"
        f"| | |\n|---|---|\n{table}\n\n{body}{known}"
    )
