"""A folder of pictures through one runner: files -> files, for any files in the folder."""

from restore.folder.log import LOG_NAME
from restore.folder.networks import Networks
from restore.folder.pipeline import Outcome, Writing
from restore.folder.plan import Job, passed_over, plan
from restore.folder.run import Summary, restore_folder

__all__ = ["LOG_NAME", "Job", "Networks", "Outcome", "Summary", "Writing", "passed_over", "plan", "restore_folder"]
