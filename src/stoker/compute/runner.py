"""Runs one batch on an engine. Its text travels there, so it needs the standard library only, and no stoker.

Whatever an item raises is that item's own. A timer or an interrupt raises only while an item runs, never in this
module's own code between items, so that no reply is lost to either.
"""

from __future__ import annotations

import collections
import contextlib
import faulthandler
import functools
import hashlib
import io
import mmap
import os
import pickle
import signal
import socket
import struct
import sys
import threading
import time
import traceback
import types
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, BinaryIO

__all__ = ["dump_strings", "run_batch", "run_parts", "shorten_name"]

_KEPT = 16
"""Functions of so many calls are kept."""
_GRACE = 1.0
"""Seconds that an item has to end after its timeout, before its engine is ended."""
_QUICK, _SLOW = 20e-6, 80e-6
"""Seconds: so long a step, of one item or of many quick ones, should take; marks cost a microsecond for each."""
_STEP_LIMIT, _TIMED_STEP_LIMIT = 1 << 14, 1 << 8
_SLOT = struct.Struct("=QQQQQ")
"""A call's memory has a slot for each batch: its number, where it is, when that step began, the process, the engine."""
_LARGE = 1 << 14
"""Bytes from which results go into a parcel."""
_SHORT = 64
"""Characters of a string, on average, that may be written as often as it comes."""
_LOADING = 1 << 20 | (1 << 20) - 1
_FINISHED = (1 << 64) - 1

_functions: collections.OrderedDict[str, Callable[..., Any]] = collections.OrderedDict()
_memories: dict[bytes, mmap.mmap | None] = {}


class _ItemTimeout(BaseException):
    """Raised in an item that takes too long. Not an Exception: few functions catch it by mistake."""


def run_batch(head: bytes, function: bytes | None, columns: bytes | int, pickler: str | None = None) -> list[Any]:
    """Run a batch.

    Args:
        head: Pickled: the call's name, the batch's number, the seconds that an item may take or None, the seconds
            after which no further item is begun, whether to stop at the first error, whether to note each item, where
            to note them or None, and the parcel for large results or None.
        function: Pickled; None where an earlier batch of the call has brought it here.
        columns: Pickled: for each argument of the function, the sequence of its values; their length if they are in
            the parcel.
        pickler: The text of cloudpickle, for engines that lack it.

    Returns:
        ``["done", seconds, count, errors, values, host, pid]``, the values pickled or their length in the parcel, or
        ``["need", what]``, or ``["unloadable", what, module, text]``.
    """
    with _Hold() as held:
        begun = _load_batch(head, function, columns, pickler)
    if isinstance(begun, list):
        return begun
    batch, parcel = begun
    # If it was interrupted, nothing has run: it is sent again, if anybody still wants it.
    outcome: Sequence[Any] = ["done", 0.0, 0, [], _dump([])] if held.interrupted else batch.run()
    kind, seconds, count, errors, values = outcome
    reply = [kind, seconds, count, errors, parcel.write(values) or values, socket.gethostname(), os.getpid()]
    parcel.close()
    return reply


def _load_batch(
    head: bytes, function: bytes | None, columns: bytes | int, pickler: str | None
) -> tuple[_Batch, _Parcel] | list[Any]:
    """Read a batch; give it with the parcel for its results, or what to reply instead."""
    call, number, timeout, limit, stop, exact, place, address = pickle.loads(head)  # noqa: S301 - the user's own
    mark = _Mark(place, number)
    mark.note(_LOADING)
    if not _install_pickler(pickler):
        return ["need", "pickler"]
    if call not in _functions:
        if function is None:
            return ["need", "function"]
        try:
            _functions[call] = pickle.loads(function)  # noqa: S301
        except BaseException as error:
            _pass_on(error, KeyboardInterrupt)
            return ["unloadable", "function", _name_missing(error), _describe(error)]
        while len(_functions) > _KEPT:
            _functions.popitem(last=False)
    parcel = _Parcel(address)
    try:
        packed = parcel.read(columns) if isinstance(columns, int) else columns
        if packed is None:
            return ["need", "columns"]
        loaded = pickle.loads(packed)  # noqa: S301
    except BaseException as error:
        _pass_on(error, KeyboardInterrupt)
        return ["unloadable", "items", _name_missing(error), _describe(error)]
    batch = _Batch(_functions[call], loaded, timeout=timeout, limit=limit, stop=stop, exact=exact, mark=mark)
    return batch, parcel


def run_parts(parts: Sequence[Any]) -> list[Any]:
    """Run a batch whose parts come as one argument: each would cost a frame of the message, at every station."""
    return run_batch(*parts)


class _Hold:
    """Holds back the first interrupt: one amid an import would leave modules that are half there for ever.

    It may be meant for the batch before, which was cancelled; a second one raises, for what takes long to be read.
    """

    interrupted = False

    def __enter__(self) -> _Hold:
        self._main = threading.current_thread() is threading.main_thread()
        if self._main:
            self._handler = signal.signal(signal.SIGINT, self._on_interrupt)
        return self

    def __exit__(self, *problem: object) -> None:
        if self._main:
            signal.signal(signal.SIGINT, signal.SIG_DFL if self._handler is None else self._handler)

    def _on_interrupt(self, signum: int, frame: FrameType | None) -> None:
        if self.interrupted:
            raise KeyboardInterrupt
        self.interrupted = True


class _Batch:
    def __init__(
        self,
        function: Callable[..., Any],
        columns: Sequence[Sequence[Any]],
        *,
        timeout: float | None,
        limit: float,
        stop: bool,
        exact: bool,
        mark: _Mark,
    ) -> None:
        self._function = function
        self._columns = columns
        self._timeout = timeout
        self._limit = limit
        self._stop = stop
        # A timer is not seen within a step of functions in C.
        self._longest_step = 1 if exact else _STEP_LIMIT if timeout is None else _TIMED_STEP_LIMIT
        self._mark = mark
        self._values: list[Any] = []
        self._errors: list[tuple[int, tuple[str, str, str, bytes | None]]] = []
        self._running = False
        self._interrupted = False
        self._seen = (0, 0.0)
        self._tick = 0.0
        self._timer = (0.0, 0.0)

    def run(self) -> tuple[str, float, int, list[tuple[int, tuple[str, str, str, bytes | None]]], bytes]:
        handlers = self._take_signals()
        try:
            begin = time.perf_counter()
            self._run_items(until=begin + self._limit)
            seconds = time.perf_counter() - begin
        finally:
            self._give_signals_back(handlers)
        values = self._pack()
        self._mark.note(_FINISHED)
        return "done", seconds, len(self._values), self._errors, values

    def _run_items(self, *, until: float) -> None:
        function, columns, values, clock = self._function, self._columns, self._values, time.perf_counter
        total, step = len(columns[0]), 1
        while (done := len(values)) < total and not self._interrupted:
            self._mark.note(done + 1 << 20 | step)
            slices = [column[done : done + step] for column in columns]
            begin = clock()
            if begin >= until and done:
                return
            try:
                try:
                    self._running = True
                    # What came before an item that raises stays in the list.
                    values.extend(map(function, *slices))
                finally:
                    self._running = False
                if len(values) < min(done + step, total):
                    # To a list it is the end of what it is extended by.
                    raise StopIteration
            except BaseException as error:
                _pass_on(error)
                if len(values) == min(done + step, total):
                    # A signal that came in C code raises after it: no item is left that it could be of.
                    continue
                self._errors.append((len(values), _pack_error(error, timeout=self._timeout)))
                values.append(None)
                if self._stop or self._interrupted:
                    return
            spent = clock() - begin
            if spent < _QUICK:
                step = min(step * 2, self._longest_step)
            elif spent > _SLOW:
                step = max(step // 2, 1)

    def _take_signals(self) -> dict[int, Any]:
        if threading.current_thread() is not threading.main_thread():
            return {}
        handlers: dict[int, Any] = {signal.SIGINT: signal.signal(signal.SIGINT, self._on_interrupt)}
        if self._timeout is not None and hasattr(signal, "setitimer"):
            self._seen = (0, time.monotonic())
            self._tick = min(max(self._timeout / 20, 0.005), 0.5)
            handlers[signal.SIGALRM] = signal.signal(signal.SIGALRM, self._on_tick)
            self._watch()
            self._timer = signal.setitimer(signal.ITIMER_REAL, self._tick, self._tick)
        return handlers

    def _give_signals_back(self, handlers: dict[int, Any]) -> None:
        if getattr(signal, "SIGALRM", None) in handlers:
            signal.setitimer(signal.ITIMER_REAL, 0.0)
            faulthandler.cancel_dump_traceback_later()
        for signum, handler in handlers.items():
            signal.signal(signum, signal.SIG_DFL if handler is None else handler)
        if getattr(signal, "SIGALRM", None) in handlers:
            signal.setitimer(signal.ITIMER_REAL, *self._timer)

    def _watch(self) -> None:
        # Its thread needs no lock of the interpreter: it ends an engine whose item holds that in C code.
        assert self._timeout is not None
        faulthandler.dump_traceback_later(self._timeout + 2 * self._tick + _GRACE, exit=True, file=2)

    def _on_interrupt(self, signum: int, frame: FrameType | None) -> None:
        self._interrupted = True
        if self._running:
            raise KeyboardInterrupt

    def _on_tick(self, signum: int, frame: FrameType | None) -> None:
        if not self._running:
            return
        done, now = len(self._values), time.monotonic()
        if done != self._seen[0]:
            self._seen = (done, now)
            self._watch()
        elif self._timeout is not None and now - self._seen[1] >= self._timeout:
            raise _ItemTimeout

    def _pack(self) -> bytes:
        try:
            return dump_strings(self._values, [self._values]) or _dump(self._values)
        except BaseException as error:
            _pass_on(error)
            self._drop_unsendable()
            return _dump(self._values)

    def _drop_unsendable(self) -> None:
        for position, value in enumerate(self._values):
            try:
                _dump(value)
            except BaseException as error:
                _pass_on(error)
                text = f"its result, a {type(value).__qualname__}, cannot be sent: {_describe(error)}"
                self._values[position] = None
                self._errors.append((position, (type(error).__qualname__, text, "", _pack_exception(error))))


class _Mark:
    """Where a batch notes which item it runs, in memory that it shares with its client if both are on one host."""

    def __init__(self, place: tuple[str, int, int, bytes, int] | None, number: int) -> None:
        self._memory: mmap.mmap | None = None
        if place is not None:
            boot, pid, handle, token, self._offset = place
            if token not in _memories:
                _memories[token] = _map_memory(boot, pid, handle, token)
            self._memory = _memories[token]
        self._number = number

    def note(self, where: int) -> None:
        if self._memory is not None:
            _SLOT.pack_into(
                self._memory, self._offset, self._number, where, time.monotonic_ns(), os.getpid(), _read_engine()
            )


def shorten_name(uuid: str) -> int:
    """Give an engine's uuid in eight bytes."""
    return int.from_bytes(hashlib.sha256(uuid.encode()).digest()[:8], "big")


@functools.cache
def _read_engine() -> int:
    find = getattr(sys.modules.get("IPython"), "get_ipython", None)
    kernel = getattr(find() if find is not None else None, "kernel", None)
    return shorten_name(str(getattr(kernel, "ident", "")))


def _map_memory(boot: str, pid: int, handle: int, token: bytes) -> mmap.mmap | None:
    try:
        shared = _open_shared(boot, pid, handle)
        if shared is None:
            return None
        with shared:
            memory = mmap.mmap(shared.fileno(), 0)
    except (OSError, ValueError):
        return None
    # The number may be another process's in another container.
    return memory if memory[: len(token)] == token else None


class _Parcel:
    """Memory of the client in which large batches travel if both are on one host."""

    def __init__(self, address: tuple[str, int, int, bytes] | None) -> None:
        self._address = address
        self._file: BinaryIO | None = None

    def read(self, length: int) -> bytes | None:
        if not self._open():
            return None
        assert self._file is not None
        packed = self._file.read(length)
        return packed if len(packed) == length else None

    def write(self, packed: bytes) -> int:
        """Say how many bytes it took; 0 where it took none."""
        if len(packed) < _LARGE or not self._open():
            return 0
        assert self._address is not None
        assert self._file is not None
        try:
            self._file.seek(len(self._address[-1]))
            self._file.write(packed)
            self._file.flush()
        except OSError:
            return 0
        return len(packed)

    def close(self) -> None:
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.close()

    def _open(self) -> bool:
        if self._file is None and self._address is not None:
            boot, pid, handle, head = self._address
            try:
                self._file = _open_shared(boot, pid, handle)
                if self._file is not None and self._file.read(len(head)) != head:
                    # It is another batch's by now.
                    self.close()
                    self._file = None
            except OSError:
                self._file = None
            if self._file is None:
                self._address = None
        return self._file is not None


@functools.cache
def _read_boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def _open_shared(boot: str, pid: int, handle: int) -> BinaryIO | None:
    """Open what another process of this host has open."""
    path = Path(f"/proc/{pid}/fd/{handle}")
    if _read_boot() != boot or not path.is_file():
        return None
    return path.open("r+b")


def _install_pickler(text: str | None) -> bool:
    if "cloudpickle" in sys.modules:
        return True
    try:
        import cloudpickle  # noqa: F401
    except ImportError:
        if text is None:
            return False
        package, inner = types.ModuleType("cloudpickle"), types.ModuleType("cloudpickle.cloudpickle")
        package.__path__ = []
        sys.modules["cloudpickle"], sys.modules["cloudpickle.cloudpickle"] = package, inner
        exec(compile(text, "cloudpickle", "exec"), inner.__dict__)  # noqa: S102 - the library's own text
        package.__dict__.update({name: value for name, value in vars(inner).items() if not name.startswith("__")})
        package.cloudpickle = inner  # type: ignore[attr-defined]
    return True


def dump_strings(value: object, columns: Sequence[Sequence[Any]]) -> bytes | None:
    """Pickle a value that consists of lists of short strings, three times as fast; None where it does not.

    Args:
        value: The lists, in whatever tuple or list, or a single one.
        columns: Each of them.
    """
    if not columns or not all(map(_holds_strings, columns)):
        return None
    file = io.BytesIO()
    pickler = pickle.Pickler(file, protocol=5)
    # It keeps no account of what it has written. That is what takes the time, and only spares what comes twice.
    pickler.fast = True
    pickler.dump(value)
    return file.getvalue()


def _holds_strings(column: Sequence[Any]) -> bool:
    return (
        type(column) is list
        and len(column) > 0
        and type(column[0]) is str
        and set(map(type, column)) == {str}
        and sum(map(len, column)) <= _SHORT * len(column)
    )


def _dump(value: object) -> bytes:
    import cloudpickle

    packed: bytes = cloudpickle.dumps(value, protocol=5)
    return packed


def _pass_on(error: BaseException, *kinds: type[BaseException]) -> None:
    """Raise again what ends the engine, or is one of these kinds."""
    if type(error).__name__ == "EngineStopped" or isinstance(error, kinds):
        raise error


def _pack_error(error: BaseException, *, timeout: float | None) -> tuple[str, str, str, bytes | None]:
    if isinstance(error, _ItemTimeout):
        return "_ItemTimeout", f"took longer than {timeout:g} s", _format(error), None
    return type(error).__qualname__, _describe(error), _format(error), _pack_exception(error)


def _pack_exception(error: BaseException) -> bytes | None:
    try:
        packed = _dump(error)
        # Some of them can be written but not read.
        pickle.loads(packed)  # noqa: S301
    except BaseException as fault:
        _pass_on(fault)
        return None
    return packed


def _format(error: BaseException) -> str:
    try:
        frames = error.__traceback__
        # The first is this module's.
        inner = frames.tb_next if frames is not None else None
        return "".join(traceback.format_exception(type(error), error, inner))
    except BaseException:
        return _describe(error)


def _describe(error: BaseException) -> str:
    try:
        text = str(error)
    except BaseException:
        text = ""
    name = type(error).__qualname__
    return f"{name}: {text}" if text else name


def _name_missing(error: BaseException) -> str:
    """Name the module that an engine lacks, or lacks something of; empty where that is not the cause."""
    name = getattr(error, "name", None)
    if isinstance(error, ImportError) and name:
        return str(name)
    if isinstance(error, AttributeError):
        # "Can't get attribute 'f' on <module 'm' from ...>"
        _, _, rest = str(error).partition("<module '")
        return rest.partition("'")[0]
    return ""
