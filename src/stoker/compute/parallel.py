"""A decorator that turns a function of one element into a function of whole sequences, run by engines.

It does what ``@view.parallel`` of ipyparallel does, with one thing put right: there, ``f.map(sequence)``
gives the function elements, but ``f(sequence)`` gives it sub-sequences. Here both give it elements::

    @parallel(client.load_balanced_view())
    def square(x):
        return x * x

    square.map(range(4)) == square(range(4)) == [0, 1, 4, 9]
"""

from __future__ import annotations

import dis
import functools
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from types import CodeType, FunctionType
from typing import Any, Generic, Literal, Protocol, TypeVar, cast, overload

from stoker.errors import StokerError

__all__ = ["ParallelFunction", "PendingMap", "parallel", "portable"]

R = TypeVar("R")
Home = TypeVar("Home")
F = TypeVar("F", bound=Callable[..., object])


class PendingMap(Protocol[R]):
    """What ipyparallel's ``AsyncMapResult`` offers, with types: results on their way home."""

    @property
    def progress(self) -> int:
        """How many items have come home."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[R]: ...

    def ready(self) -> bool:
        """Whether all items have come home."""

    def wait(self, timeout: float = -1) -> bool:
        """Wait up to ``timeout`` seconds (negative: for ever), and say whether all have come home."""

    def get(self, timeout: float | None = None) -> list[R]:
        """Hand over all results; a ``TimeoutError`` if they are not there within ``timeout`` seconds."""

    def abort(self) -> None:
        """Ask the engines to drop what they have not started; waits for their answers."""


class ParallelFunction(Generic[Home]):
    """A function whose calls are spread over the engines of a view, one call per element.

    Several sequences give the function several arguments, and the shortest ends the map, as with the builtin.
    """

    def __init__(
        self, view: Any, function: Callable[..., object], *, block: bool, ordered: bool, chunksize: int | None
    ) -> None:
        # First, because it brings along whatever attributes the function carries, of any name.
        functools.update_wrapper(self, function)
        self.view = view
        self.function = function
        self.block = block
        self.ordered = ordered
        self.chunksize = chunksize

    def __repr__(self) -> str:
        name = getattr(self.function, "__qualname__", repr(self.function))
        return f"<{type(self).__name__} {name} on {self.view!r}>"

    def map(self, *sequences: Iterable[Any]) -> Home:
        """Call the function once for each element, on the engines.

        Returns:
            With ``block=True`` a list of the results, in the order of the elements, however long that takes;
            with ``block=False`` ipyparallel's ``AsyncMapResult``, whose ``get`` takes a timeout.

        Raises:
            ipyparallel.error.RemoteError: With ``block=True``: the function raised on an engine, or the
                engine died.
        """
        if not sequences:
            raise TypeError(f"{getattr(self, '__name__', 'map')}: at least one sequence is needed to map over")
        pending = self._submit(_even(sequences))
        # ipyparallel's own block=True answers Ctrl-C by returning the unfinished result instead of a list.
        return cast("Home", pending.get() if self.block else pending)

    def __call__(self, *sequences: Iterable[Any]) -> Home:
        """Do what ``map`` does."""
        return self.map(*sequences)

    def _submit(self, sequences: Sequence[Sequence[Any]]) -> Any:
        if len(sequences[0]) == 0:
            return _nothing(self.view.client, ordered=self.ordered)
        decorate = self.view.parallel(block=False, ordered=self.ordered, chunksize=self.chunksize)
        return decorate(portable(self.function)).map(*sequences)


@overload
def parallel(
    view: Any, *, block: Literal[True] = True, ordered: bool = True, chunksize: int | None = None
) -> Callable[[Callable[..., R]], ParallelFunction[list[R]]]: ...
@overload
def parallel(
    view: Any, *, block: Literal[False], ordered: bool = True, chunksize: int | None = None
) -> Callable[[Callable[..., R]], ParallelFunction[PendingMap[R]]]: ...
@overload
def parallel(
    view: Any, *, block: bool, ordered: bool = True, chunksize: int | None = None
) -> Callable[[Callable[..., R]], ParallelFunction[list[R] | PendingMap[R]]]: ...
def parallel(
    view: Any, *, block: bool = True, ordered: bool = True, chunksize: int | None = None
) -> Callable[[Callable[..., R]], ParallelFunction[Any]]:
    """Make a decorator that spreads the calls of a function over the engines of a view.

    Args:
        view: Any ipyparallel view. A load-balanced one hands out elements as engines become free; a direct
            one cuts the sequence into one slice per engine.
        block: Whether calls wait for the results. The wait has no limit; where one is needed, take
            ``block=False`` and ``get(timeout)``.
        ordered: With ``block=False``, whether iterating gives results in the order of the elements or as they
            arrive. A list is always in order.
        chunksize: How many elements travel in one message; None means one. About 7 ms of CPU go into a
            message, so short calls want hundreds. Only for load-balanced views: others ignore it, with a
            warning.

    Raises:
        StokerError: The chunk size is below 1.
    """
    if chunksize is not None and chunksize < 1:
        raise StokerError(f"parallel: chunksize must be 1 or more, or None, got {chunksize}")

    def decorate(function: Callable[..., R]) -> ParallelFunction[Any]:
        return ParallelFunction(view, function, block=block, ordered=ordered, chunksize=chunksize)

    return decorate


def portable(function: F) -> F:
    """Give back the function in a form that engines can run without having its module.

    ipyparallel sends a function's code, but the engine looks up its globals in the module it came from, and
    so has to import that first. A function that uses no globals of its module (it may import inside itself)
    does not need it: a copy that claims to come from ``__main__`` runs on any engine. A function that does
    use them is given back as it is, and its module must be importable on the engines. The function itself is
    never changed. (``ipyparallel.interactive`` re-homes every function, fails on closures, and drops keyword
    defaults.)
    """
    if not isinstance(function, FunctionType):
        return function
    if (function.__module__ or "__main__").startswith("__") or _needs_module(function.__code__, function.__globals__):
        return function
    copy = FunctionType(
        function.__code__,
        function.__globals__,
        function.__name__,
        function.__defaults__,
        function.__closure__,
    )
    copy.__kwdefaults__ = function.__kwdefaults__
    copy.__module__ = "__main__"
    # Annotations stay behind: the engines would have to be able to import their classes, which no call needs.
    return cast("F", copy)


def _needs_module(code: CodeType, module: dict[str, Any]) -> bool:
    """Tell whether code reads or writes globals of its module, or imports relatively to it."""
    instructions = list(dis.get_instructions(code))
    for position, instruction in enumerate(instructions):
        # Class bodies read __name__ for their __module__; every module has one, the engine's __main__ too.
        if (
            ("GLOBAL" in instruction.opname or instruction.opname == "LOAD_NAME")
            and instruction.argval in module
            and instruction.argval not in ("__name__", "__builtins__")
        ):
            return True
        # The compiler puts the level of an import two instructions before it; above 0 it is a relative one.
        if instruction.opname == "IMPORT_NAME" and instructions[position - 2].argval:
            return True
    return any(_needs_module(inner, module) for inner in code.co_consts if isinstance(inner, CodeType))


def _even(sequences: Sequence[Iterable[Any]]) -> list[Sequence[Any]]:
    """Turn what can only be iterated into lists, and cut several to the length of the shortest."""
    if len(sequences) == 1:
        return [_sliceable(sequences[0])]
    # strict=False: that is the builtin's rule, and it lets one of them be endless.
    rows = list(zip(*sequences, strict=False))
    return [[row[column] for row in rows] for column in range(len(sequences))]


def _sliceable(sequence: Iterable[Any]) -> Sequence[Any]:
    numpy = sys.modules.get("numpy")
    if isinstance(sequence, Sequence) or (numpy is not None and isinstance(sequence, numpy.ndarray)):
        return cast("Sequence[Any]", sequence)
    return list(sequence)


def _nothing(client: Any, *, ordered: bool) -> Any:
    """Build the result of a map over no elements, where ipyparallel gives a bare list even without blocking."""
    from concurrent.futures import Future

    from ipyparallel import AsyncMapResult
    from ipyparallel.client.client import Metadata
    from ipyparallel.client.futures import MessageFuture
    from ipyparallel.client.map import Map

    message = MessageFuture("no-elements")
    message.output = Future()
    message.output.metadata = Metadata()
    message.output.set_result(None)
    message.set_result([])
    return AsyncMapResult(client, [message], Map(), ordered=ordered, chunk_sizes={message.msg_id: 0})
