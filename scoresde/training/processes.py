"""Several processes that train one model: one on each GPU, or some on the CPUs of a machine.

Processes meet in every step, where gradients are averaged. What one of them alone would do, such as
to stop or to end with an error, all do together; otherwise the rest would wait for it. The first
process writes and speaks for all.
"""

import os
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor, nn

from scoresde.errors import InputError, OtherProcessError, require
from scoresde.training.share import Share

__all__ = ["Processes", "new_accelerator"]

_REFUSED = {
    "ACCELERATE_USE_FSDP": "FSDP",
    "ACCELERATE_USE_DEEPSPEED": "DeepSpeed",
    "ACCELERATE_USE_MEGATRON_LM": "Megatron-LM",
}


_MPI = ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")


def new_accelerator(*, cpu: bool, log: Path | None) -> Any:
    """Create accelerate's Accelerator.

    Args:
        cpu: Train on the CPU even where there is a GPU.
        log: Folder of a TensorBoard log; None for no log.

    Returns:
        The accelerator, of all processes that `accelerate launch` or `torchrun` has started.

    Raises:
        InputError: If accelerate is not installed, or was configured for what the loop does not do:
            to split the model itself.
    """
    require("train", "training", "accelerate", *(["tensorboard"] if log else []))
    from accelerate import Accelerator  # slow to import; reading a configuration needs none

    for name, what in _REFUSED.items():
        if os.environ.get(name, "false").lower() == "true":
            raise InputError(
                f"training does not run under {what}, which splits the model: every process holds "
                "a whole copy (DDP); run `accelerate config` again, or pass a file of such a "
                "configuration by --config_file"
            )
    _check_launcher()
    started = int(os.environ.get("WORLD_SIZE", "1"))
    # without a GPU, or with one that cannot be shared, accelerate would make single runs of them
    gpu = torch.accelerator.current_accelerator(check_available=True)
    cpu = cpu or (started > 1 and (gpu is None or gpu.type == "mps"))
    logging: dict[str, Any] = {} if log is None else {"log_with": "tensorboard"}
    if log is not None:
        logging["project_dir"] = str(log)
    # tasks choose their own precision: accelerate's holds for the whole process; and the loop
    # compiles the model and splits batches by its own settings
    accelerator = Accelerator(mixed_precision="no", cpu=cpu, dynamo_backend="no", **logging)
    accelerator.gradient_accumulation_steps = 1
    if accelerator.num_processes < started:
        raise InputError(
            f"{started} processes were started, and accelerate knows of "
            f"{accelerator.num_processes}; start them by `accelerate launch` or `torchrun`"
        )
    return accelerator


def _check_launcher() -> None:
    """Warn of `accelerate launch --num_processes N` that starts one process: one without GPUs."""
    environment = os.environ.keys()
    asked = {"ACCELERATE_USE_CPU", "MASTER_ADDR"} <= environment
    if asked and not environment & {"WORLD_SIZE", *_MPI}:
        warnings.warn(
            "one process trains: without several GPUs `accelerate launch` starts more only with "
            "--multi_gpu; `torchrun --nproc_per_node N` does the same",
            stacklevel=2,
        )


class Processes:
    """What the processes of a run do together. A single process waits for nobody.

    Args:
        accelerator: Accelerate's Accelerator.
    """

    def __init__(self, accelerator: Any) -> None:
        self.share = Share(accelerator.process_index, accelerator.num_processes)
        self.several = self.share.processes > 1
        self.first = self.share.rank == 0
        self._device: torch.device = accelerator.device

    def mean(self, value: Tensor) -> Tensor:
        """Average a tensor over the processes.

        Args:
            value: A tensor of the same shape in each.

        Returns:
            The mean, the same bits in each.
        """
        if not self.several:
            return value
        total = value.detach().clone()
        torch.distributed.all_reduce(total)
        return total / self.share.processes

    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Average the gradients of parameters over the processes, in place.

        Args:
            parameters: Parameters, of which the same ones have gradients in each process.
        """
        gradients = [p.grad for p in parameters if p.grad is not None]
        if not self.several or not gradients:
            return
        means = self.mean(torch.cat([g.flatten() for g in gradients]))
        for gradient, new in zip(
            gradients, means.split([g.numel() for g in gradients]), strict=True
        ):
            gradient.copy_(new.view_as(gradient))

    def copy_from_first(self, module: nn.Module) -> None:
        """Give all processes the weights and buffers of the first.

        Args:
            module: A module of the same form in each.
        """
        if self.several:
            with torch.no_grad():
                for value in (*module.parameters(), *module.buffers()):
                    whole = value.contiguous()
                    torch.distributed.broadcast(whole, 0)
                    value.copy_(whole)

    def gathered(self, number: int) -> list[int]:
        """Collect a number of each process.

        Args:
            number: The number of this process.

        Returns:
            The numbers by rank.
        """
        if not self.several:
            return [number]
        numbers = torch.zeros(self.share.processes, dtype=torch.int64, device=self._device)
        numbers[self.share.rank] = number
        torch.distributed.all_reduce(numbers)
        return numbers.tolist()

    @contextmanager
    def together(self) -> Iterator[None]:
        """Wait for all processes at the end of the block; if it fails in one, it fails in all.

        Yields:
            Nothing.

        Raises:
            OtherProcessError: If the block failed in another process, which says why: that of the
                lowest rank.
        """
        failed: Exception | None = None
        try:
            yield
        except Exception as error:
            if not self.several:
                raise
            failed = error
        if not self.several:
            return
        failures = self.gathered(int(failed is not None))
        if any(failures):
            self.fail(failed, failures.index(1))

    def fail(self, error: Exception | None, speaker: int = 0) -> NoReturn:
        """Raise the error of a failure that all processes know of.

        Args:
            error: The error of this process.
            speaker: The process that says what is wrong.

        Raises:
            OtherProcessError: In all processes but the speaker.
        """
        if error is not None and self.share.rank == speaker:
            raise error
        raise OtherProcessError(f"process {speaker} of {self.share.processes} failed") from error

    @contextmanager
    def met(self, step: int, state: Path) -> Iterator[None]:
        """Raise one clear line if another process has gone.

        Args:
            step: Number of the step.
            state: File of the last state.

        Yields:
            Nothing.

        Raises:
            InputError: If the block fails since another process has ended.
        """
        try:
            yield
        except RuntimeError as error:
            lost = isinstance(error, torch.distributed.DistError) or "gloo" in str(error)
            if not self.several or not lost:
                raise
            rest = f"; {state} holds the last good state" if state.exists() else ""
            raise InputError(
                f"process {self.share.rank} has lost the others in step {step}: one of them has "
                f"ended{rest}"
            ) from error
