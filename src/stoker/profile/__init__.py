"""The IPython profile that a spec becomes: rendered, planned, then written."""

from stoker.profile.apply import apply_plan
from stoker.profile.directory import ProfileDirectory, find_ipython_dir
from stoker.profile.plan import FileChange, Plan, read_plan
from stoker.profile.render import ProfileSettings, render_settings
from stoker.profile.verify import check_plan, list_config_files, verify_plan

__all__ = [
    "FileChange",
    "Plan",
    "ProfileDirectory",
    "ProfileSettings",
    "apply_plan",
    "check_plan",
    "find_ipython_dir",
    "list_config_files",
    "read_plan",
    "render_settings",
    "verify_plan",
]
