"""What a cluster should be: pure values, read from TOML, with every fault reported at once."""

from stoker.spec.controller import ControllerSection, Heartbeat
from stoker.spec.engines import EngineGroup, Host
from stoker.spec.model import ClusterSection, ClusterSpec, IPythonSection, KernelSection
from stoker.spec.queue import QueueSection
from stoker.spec.read import parse_spec, read_spec
from stoker.spec.settings import thaw_setting
from stoker.spec.write import render_spec

__all__ = [
    "ClusterSection",
    "ClusterSpec",
    "ControllerSection",
    "EngineGroup",
    "Heartbeat",
    "Host",
    "IPythonSection",
    "KernelSection",
    "QueueSection",
    "parse_spec",
    "read_spec",
    "render_spec",
    "thaw_setting",
]
