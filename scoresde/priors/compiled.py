"""Compilation of a network for inference, with a way back."""

import warnings
from collections.abc import Callable

import torch
from torch import Tensor, nn

__all__ = ["CompiledNetwork", "compiler_reason"]


def compiler_reason(error: RuntimeError) -> str | None:
    """Find the one line of a compiler's many that says why it failed.

    Args:
        error: What was raised by a compiled function.

    Returns:
        The reason; None if the error is not that of the compiler.
    """
    from torch._dynamo.exc import TorchDynamoException  # takes seconds to import

    if not isinstance(error, TorchDynamoException):
        return None
    lines = (line.strip() for line in str(error).splitlines())
    said = (line for line in lines if line and not line.endswith(":"))
    return next(said, type(error).__name__)


class CompiledNetwork:
    """Evaluates a network by ``torch.compile``, and as it is where that is not possible.

    Batch and picture may have any size: one compilation serves all, except that a batch of one
    and gradients each have their own. Within ``torch.func`` the network is evaluated as it is. If
    compilation fails, a warning says so once.
    """

    def __init__(self) -> None:
        self._network: nn.Module | None = None
        self._program: Callable[[Tensor, Tensor], Tensor] | None = None
        self._failed = False

    def __call__(self, network: nn.Module, x: Tensor, label: Tensor) -> Tensor:
        """Evaluate a network.

        Args:
            network: The network. Another one than the last time is compiled anew.
            x: Its first argument.
            label: Its second argument.

        Returns:
            The output of the network.
        """
        within_func = torch._C._functorch.peek_interpreter_stack() is not None
        if self._failed or within_func:
            plain: Tensor = network(x, label)
            return plain
        if self._program is None or self._network is not network:
            import torch._functorch.config as functorch  # slow to import

            # Solvers take several products with the Jacobian from one evaluation, so its buffers
            # must outlive the first. It counts when a backward pass is compiled, at any later time.
            functorch.donated_buffer = False
            self._network, self._program = network, torch.compile(network, dynamic=True)
        try:
            return self._program(x, label)
        except RuntimeError as error:
            reason = compiler_reason(error)
            if reason is None:
                raise
            self._failed, self._program = True, None
            warnings.warn(
                f"torch.compile failed, so the network runs uncompiled ({reason})", stacklevel=2
            )
            return self(network, x, label)
