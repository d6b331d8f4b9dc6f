"""Restore many pictures: a list of jobs, done in this process or by workers, resumed by content."""

from scoresde.pipelines.folders.jobs import Job, list_jobs, names_many
from scoresde.pipelines.folders.run import FolderOptions, FolderResult, Row, restore_folder

__all__ = [
    "FolderOptions",
    "FolderResult",
    "Job",
    "Row",
    "list_jobs",
    "names_many",
    "restore_folder",
]
