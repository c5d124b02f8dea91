"""A folder of pictures through one runner: files -> files, whatever lies in the folder and whatever happens."""

from restore.folder.log import LOG_NAME
from restore.folder.pipeline import Outcome, Writing
from restore.folder.plan import Job, plan
from restore.folder.run import Summary, restore_folder

__all__ = ["LOG_NAME", "Job", "Outcome", "Summary", "Writing", "plan", "restore_folder"]
