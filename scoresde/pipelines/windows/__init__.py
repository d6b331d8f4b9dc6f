"""Pictures that do not fit the memory, restored in windows from file to file."""

from scoresde.pipelines.windows.run import restore_windows

__all__ = ["restore_windows"]
