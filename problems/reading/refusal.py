"""A reason why a file is not read."""

__all__ = ["RefusalError"]


class RefusalError(Exception):
    """A fault of a file in the words of the final message, which adds the path.

    The parsers of other projects raise errors of many types on damaged files. This type tells the
    words of this package from theirs.
    """
