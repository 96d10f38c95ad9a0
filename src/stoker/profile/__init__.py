"""The IPython profile that a spec becomes: rendered, planned, then written.

Names are imported when they are first used, so that ``stoker.profile.directory`` alone is quickly there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from stoker.system.late import import_late

if TYPE_CHECKING:
    from stoker.profile.apply import apply_plan
    from stoker.profile.directory import ProfileDirectory, find_ipython_dir
    from stoker.profile.plan import FileChange, Plan, read_plan
    from stoker.profile.render import ProfileSettings, render_engine_config, render_settings
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
    "render_engine_config",
    "render_settings",
    "verify_plan",
]

_MODULES = {
    "FileChange": "plan",
    "Plan": "plan",
    "ProfileDirectory": "directory",
    "ProfileSettings": "render",
    "apply_plan": "apply",
    "check_plan": "verify",
    "find_ipython_dir": "directory",
    "list_config_files": "verify",
    "read_plan": "plan",
    "render_engine_config": "render",
    "render_settings": "render",
    "verify_plan": "verify",
}

__getattr__, __dir__ = import_late(__name__, _MODULES)
