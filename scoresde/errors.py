"""User-facing errors."""

__all__ = ["InputError"]


class InputError(ValueError):
    """Invalid user input.

    The message is one line that says what is wrong and how to fix it. The command line prints it
    and exits with status 2.

    Example:
        >>> from scoresde import InputError, load_prior
        >>> try:
        ...     load_prior("magic")
        ... except InputError as error:
        ...     print(str(error).split(";")[0])
        unknown prior 'magic'
    """
