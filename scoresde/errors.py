"""The error that means: the input is at fault, and this is what to do."""

__all__ = ["InputError"]


class InputError(ValueError):
    """A user's input that cannot be used. The message is one line that names what is wrong and what to do."""
