"""A call: the loop that feeds engines with the items of one map, and takes back what they make of them."""

from __future__ import annotations

import math
import pickle
import secrets
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stoker.compute.batching import FIRST_BYTES, Load, Pace, size_batch
from stoker.compute.channel import Answer, Channel, Gone, Home, Lost, open_channel
from stoker.compute.delivery import deliver, lacks_runner
from stoker.compute.faults import ItemPlace, build_death, build_error, show_item
from stoker.compute.ledger import Ledger, Piece
from stoker.compute.losses import CONTROLLER_DIED
from stoker.compute.marks import Mark
from stoker.compute.options import MapOptions
from stoker.compute.packing import Packer, read_pickler, unpack, unpack_known
from stoker.compute.parcels import Parcels
from stoker.compute.progress import Standing, open_progress
from stoker.compute.source import Source
from stoker.compute.stragglers import LEAST, Flight, choose_straggler
from stoker.compute.summary import Summary, Tally
from stoker.errors import ConnectError, DeadlockError, NoEnginesError, StokerError
from stoker.system.processes import identify

__all__ = ["Call", "Explain", "Settled"]

Explain = Callable[[int], str]
"""Gives the cause of the death of a process, by its pid; empty where it is not known. May wait a second for it."""

_GRACE = 0.3
"""Seconds that a reply may come after the news that its engine has left."""
_GRACE_FINISHED = 3.0
"""The same for a batch that had run: its reply is on its way, unless the engine was killed in that very moment."""
_QUIET = 10.0
"""Seconds without news after which the hub and the engines are asked."""
_LULL = 30.0
"""Seconds that all engines are idle, and the hub says that something waits, until that cannot be of this call."""
_LATE = 1.0
"""Seconds that a reply may come after the answer that its engine runs nothing."""
_PARTING = 2.0
"""Seconds that interrupted engines have to answer before a cancelled call leaves them to themselves."""
_LARGE = 16384
"""Bytes of packed items that do not travel in a message to engines of this host."""
_INSIST = 1.0
"""Seconds before an engine that was interrupted is interrupted once more."""
_SMALL = 16384
"""Bytes of a packed function that may travel with each batch."""
_ALONE = 10.0
"""Seconds that a task's own engine may be the only one, before its call on the cluster is given up."""
_TURN = 0.2
_ASK_AGAIN = 2.0
"""Seconds between two questions for an idle engine; such an answer is good for as long."""
_KEPT, _KEPT_EACH = 16, 4
"""Batches, in all and for each engine, that may wait for one that comes before them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """Items in a row that are done with."""

    first: int
    """The index of the first."""

    values: Sequence[Any]
    """Their results; None in the place of one that failed."""

    errors: Mapping[int, BaseException]
    """What those raised that failed, by their place here; a place of ``again`` is neither."""

    again: frozenset[int] = frozenset()
    """Places of items that will be tried again."""

    stored: bool = False
    """Whether an earlier call has done them, and their results are on disk."""


class Call:
    """One map, from its first message to its last."""

    def __init__(
        self,
        view: Any,
        function: Callable[..., Any],
        source: Source,
        options: MapOptions,
        *,
        star: bool = False,
        explain: Explain | None = None,
        earlier: int = 0,
        number: Callable[[int], int] = lambda index: index,
    ) -> None:
        """Prepare it; nothing is sent yet.

        Args:
            view: Of any ipyparallel cluster.
            function: Is called for each item.
            source: The items.
            options: How they are treated.
            star: Whether each item holds the arguments of one call.
            explain: Gives the causes of deaths.
            earlier: How many other items an earlier call has done; progress counts them.
            number: Gives the index that the caller knows an item by, where the source leaves some out.

        Raises:
            TypeError, pickle.PicklingError: The function cannot be packed.
        """
        self._options = options
        self._earlier = earlier
        self._index = number
        self._explain = explain
        self._packer = Packer(_spread(function) if star else function)
        # Before anything is sent: what cannot be packed raises here.
        _ = self._packer.function
        self._channel: Channel = open_channel(view)
        self._marks = self._channel.marks
        self._parcels = Parcels(self._channel.spare_parcels)
        self._ledger = Ledger(source, retries=options.retries)
        self._pace = Pace()
        self._name = secrets.token_hex(8)
        self._brought: set[int] = set()
        """Engines that have the function."""
        self._sent_at: dict[int, float] = {}
        self._sizes: dict[int, int] = {}
        self._bring_pickler = False
        self._taken: dict[str, float] = {}
        """Since when modules that engines lack travel along."""
        self._gone: dict[int, tuple[float, str]] = {}
        """When a batch's engine was seen to leave, and its uuid."""
        self._begun = self._news = time.monotonic()
        self._asked = 0.0
        self._hub_heard = self._begun
        self._alone_since: float | None = None
        self._idle: dict[str, float] = {}
        self._waiting: int | None = None
        self._lull = 0.0
        """Since when nobody has worked, as far as that was seen after the last news."""
        self._held = False
        self._twins: dict[int, int] = {}
        """Of batches that are under way twice: the other's number."""
        self._losers: set[int] = set()
        """Those whose twin came home first, until their engines have answered."""
        self._told: dict[int, float] = {}
        """When the engine of a batch was interrupted."""
        self._longest = 0.0
        self._stopped = False
        self._tally = Tally()
        self._total = None if source.left is None else source.left + earlier
        self._label = options.label or getattr(function, "__name__", "map")
        self._progress = open_progress(options.progress, label=self._label)

    def hold(self, parts: int) -> None:
        """Send nothing new while the caller keeps many parts for which earlier ones are missing."""
        self._held = parts > _KEPT and parts > _KEPT + _KEPT_EACH * len(self._channel.engines)

    @property
    def pace(self) -> Pace:
        """How long the items take that are to be sent next, as far as that is known."""
        return self._pace

    def stop(self) -> None:
        """Have ``run`` cancel the rest and end without an error, from another thread."""
        self._stopped = True
        self._channel.wake()

    @property
    def summary(self) -> Summary:
        """What was done so far."""
        return self._tally.sum_up(
            label=self._label, items=self._ledger.settled, taken=self._ledger.taken, seconds=self._elapsed()
        )

    def run(self) -> Generator[Settled, None, None]:
        """Feed the engines, and give what is settled as it comes home.

        Leaving the iterator early cancels the rest.

        Raises:
            NoEnginesError: There was no engine for ``patience`` seconds.
            ConnectError: The client is closed, or the controller did not answer for ``patience`` seconds.
            StokerError: The engines cannot load the function or the items.
        """
        try:
            self._channel.listen()
            while not self._stopped:
                self._fill()
                if self._is_over():
                    break
                event = self._channel.receive(self._choose_wait())
                while event is not None:
                    yield from self._take(event)
                    event = self._channel.receive(0.0)
                if self._is_over():
                    break
                yield from self._look_after()
                self._progress.show(self._stand())
        finally:
            try:
                self._part()
            finally:
                self._channel.close()
                self._parcels.close()
                self._progress.close(self._stand())
                if self._options.on_summary is not None:
                    self._options.on_summary(self.summary)

    def _elapsed(self) -> float:
        return time.monotonic() - self._begun

    def _is_over(self) -> bool:
        return self._ledger.flying == 0 and self._ledger.left == 0

    # Sending

    def _fill(self) -> None:
        engines = len(self._channel.engines)
        while (load := self._size(engines)).items:
            if self._held and not self._ledger.urgent:
                break
            piece = self._ledger.take(load.items)
            if piece is None:
                break
            if self.pace.home == 0 and self._options.batch is None:
                piece = self._trim(piece)
            self._send(piece, limit=load.seconds)

    def _size(self, engines: int) -> Load:
        return size_batch(
            self.pace,
            left=self._ledger.left,
            engines=engines,
            flying=self._ledger.flying,
            fixed=self._options.batch,
        )

    def _trim(self, piece: Piece) -> Piece:
        """Cut a first batch to what may be sent before anything is known of its items."""
        most = FIRST_BYTES // len(self._packer.pack_columns(piece.cut(0, 1).columns)) if piece.count > 1 else 1
        return self._ledger.shorten(piece, max(most, 1))

    def _send(self, piece: Piece, *, limit: float, engine: str | None = None) -> int:
        number = self._channel.number()
        if not self._ledger.flying:
            self._news = self._hub_heard = time.monotonic()
        self._ledger.depart(piece, number)
        try:
            packed = self._packer.pack_columns(piece.columns)
            engines = self._channel.engines
            near = self._channel.marked.issuperset(engines)
            address, columns = self._lay(number, packed) if near else (None, packed)
            head = (
                self._name,
                number,
                self._options.timeout,
                limit,
                self._options.on_error == "raise" and not self._options.retry_on,
                piece.exact,
                self._marks.place(number),
                address,
            )
            function = self._packer.function if self._is_needed(engines) else None
            pickler = read_pickler() if self._bring_pickler else None
            parts = (pickle.dumps(head), function, columns, pickler)
            known = self._channel.informed.issuperset(engines)
            self._channel.send(number, *deliver(parts, known=known), engine=engine, quiet=near and bool(engines))
        except BaseException:
            self._ledger.return_unrun(number)
            raise
        self._sent_at[number] = time.monotonic()
        self._sizes[number] = len(packed)
        self._tally.sent += piece.count
        return number

    def _lay(self, number: int, packed: bytes) -> tuple[tuple[str, int, int, bytes] | None, bytes | int]:
        """Lay large items into memory, as all engines are of this host; and say where, and what travels instead."""
        if not self._parcels.usable:
            return None, packed
        parcel = self._parcels.take(number)
        if parcel is None:
            return None, packed
        address = parcel.address(number)
        if len(packed) < _LARGE:
            return address, packed
        try:
            parcel.write(packed)
        except OSError:
            return address, packed
        return address, len(packed)

    def _is_needed(self, engines: Mapping[str, int]) -> bool:
        return len(self._packer.function) <= _SMALL or not self._brought.issuperset(engines.values())

    # Receiving

    def _take(self, event: Home | Lost | Gone | Answer) -> Iterator[Settled]:
        if isinstance(event, Answer):
            self._note_answer(event)
            return
        if isinstance(event, Gone):
            if event.uuid:
                self._note_departure(event.uuid)
            return
        self._news = time.monotonic()
        if self._ledger.look(event.number) is None:
            # A late twin: its items are someone else's by now.
            self._losers.discard(event.number)
            self._forget(event.number)
            return
        if isinstance(event, Lost):
            if event.unknown and lacks_runner(event.reason):
                self._channel.misinformed()
                self._return(event.number)
                return
            if event.unknown:
                self._refuse(event.number, StokerError(f"an engine could not run a batch: {event.reason}"))
                return
            settled = self._lose(event)
            if settled is not None:
                yield settled
            return
        kind, *rest = event.reply
        if kind == "done":
            yield from self._settle(event, *rest)
        else:
            self._bring(event, kind, *rest)

    def _settle(
        self, home: Home, seconds: float, count: int, records: list[Any], laid: bytes | int, host: str, pid: int
    ) -> Iterator[Settled]:
        piece = self._ledger.look(home.number)
        assert piece is not None
        try:
            packed = self._parcels.read(home.number, laid) if isinstance(laid, int) else laid
            values, missing = _unpack_results(packed)
        except Exception as error:
            refused = StokerError(
                f"{self._name_items(piece, count)}: their results cannot be read here: {type(error).__name__}: {error}"
            )
            refused.__cause__ = error
            self._refuse(home.number, refused)
            return
        for position, text in missing.items():
            record = (text.partition(":")[0], f"its result cannot be read here: {text}", "", None)
            records = [*records, (position, record)]
        errors = {
            position: build_error(record, self._place(piece, position, engine=home.engine, host=host))
            for position, record in records
        }
        again = frozenset(
            position
            for position, error in errors.items()
            if piece.errors < self._options.retries and isinstance(error, self._options.retry_on)
        )
        size = self._sizes.get(home.number, 0) + len(packed)
        self._channel.inform(home.engine, marked=self._marks.read(home.number) is not None)
        self._parcels.give_back(home.number)
        self._part_twins(home.number)
        self._forget(home.number)
        self._ledger.come_home(home.number, count, again=sorted(again))
        self._tally.failures += len(errors) - len(again)
        # An engine gives back what it has not begun.
        self._tally.sent -= piece.count - count
        self._tally.note(engine=home.engine, host=host, items=count, busy=seconds)
        try:
            # First of all: someone may wait for it.
            if values:
                yield Settled(
                    first=piece.first,
                    values=values,
                    errors={position: error for position, error in errors.items() if position not in again},
                    again=again,
                )
        finally:
            if home.engine is not None:
                self._brought.add(home.engine)
            self._longest = max(self._longest, seconds)
            if count:
                self._note_pace(piece, count=count, seconds=seconds, size_bytes=size * count // max(piece.count, 1))

    def _note_pace(self, piece: Piece, *, count: int, seconds: float, size_bytes: int) -> None:
        self._pace.note(count=count, seconds=seconds, size_bytes=size_bytes)

    def _refuse(self, number: int, error: Exception) -> None:
        """End the call, as a batch can be neither run nor sent again."""
        raise error

    def _bring(self, home: Home, kind: str, what: str, module: str = "", text: str = "") -> None:
        """Send again what an engine could not begin, with what it lacks."""
        piece = self._ledger.look(home.number)
        assert piece is not None
        if kind == "need":
            if what == "columns":
                self._parcels.usable = False
            elif what == "function":
                self._brought.discard(-1 if home.engine is None else home.engine)
            else:
                self._bring_pickler = True
        elif self._sent_at[home.number] >= self._taken.get(module, 0.0):
            if not self._packer.take_along(module):
                engine = "an engine" if home.engine is None else f"engine {home.engine}"
                what = "the function" if what == "function" else self._name_items(piece, piece.count)
                error = StokerError(f"{engine} cannot load {what}: {text}; what it lacks has to be installed there")
                self._refuse(home.number, error)
                return
            self._taken[module] = time.monotonic()
        self._return(home.number)

    # Losses

    def _note_departure(self, uuid: str) -> None:
        for number in self._ledger.numbers():
            if self._was_with(number, uuid):
                self._gone.setdefault(number, (time.monotonic(), uuid))

    def _was_with(self, number: int, uuid: str) -> bool:
        # An engine that dies quickly enough never says that it has begun; a mark is of this host.
        return self._channel.find(number) == uuid or self._is_dead(number)

    def _lose(self, event: Lost) -> Settled | None:
        number = event.number
        mark = self._marks.read(number)
        engine = self._channel.find(number)
        begun = mark is not None or (engine is not None and engine not in self._channel.marked)
        finished = mark is not None and mark.finished
        if not event.ran or not begun or finished or event.reason.endswith(CONTROLLER_DIED):
            self._return(number)
            return None
        return self._lose_begun(number, mark, engine=event.engine)

    def _return(self, number: int) -> None:
        if self._leave_to_twin(number):
            return
        if (piece := self._ledger.look(number)) is not None:
            self._tally.sent -= piece.count
        self._forget(number)
        self._ledger.return_unrun(number)

    def _lose_begun(self, number: int, mark: Mark | None, *, engine: int | None) -> Settled | None:
        self._tally.deaths += 1
        if self._leave_to_twin(number):
            return None
        piece = self._ledger.look(number)
        assert piece is not None
        low, high = (0, piece.count) if mark is None else (mark.low, mark.high)
        overdue = self._is_overdue(number, mark)
        if engine is None:
            engine = self._channel.recall(number)
        self._forget(number)
        given_up = self._ledger.lose(number, low, high, known=mark is not None and not mark.loading, last=overdue)
        if given_up is None:
            return None
        cause = "" if mark is None or self._explain is None or overdue else self._explain(mark.pid)
        place = self._place(given_up.piece, 0, engine=engine, host="", attempt=given_up.piece.attempt - 1)
        error = build_death(given_up.piece, place, cause=cause, timeout=self._options.timeout if overdue else None)
        self._tally.failures += 1
        return Settled(first=given_up.piece.first, values=[None], errors={0: error})

    def _is_overdue(self, number: int, mark: Mark | None) -> bool:
        if mark is None or self._options.timeout is None:
            return False
        now = time.monotonic()
        since = now - self._gone.get(number, (now, ""))[0]
        return mark.seconds - since >= self._options.timeout

    def _look_after(self) -> Iterator[Settled]:
        """See to what no event tells: engines that left with a batch, engines that are missing, messages that are."""
        now = time.monotonic()
        for number, (since, uuid) in list(self._gone.items()):
            if not self._was_with(number, uuid):
                # An engine that leaves hands on what it has not begun.
                del self._gone[number]
                continue
            mark = self._marks.read(number)
            grace = _GRACE_FINISHED if mark is not None and mark.finished else _GRACE
            if now - since > grace and self._ledger.look(number) is not None:
                settled = self._lose(Lost(number=number, ran=True, engine=None, reason="its engine left"))
                if settled is not None:
                    yield settled
        if self._channel.closed:
            raise ConnectError("the client is closed: connect again")
        self._check_engines(now)
        # With a timeout, what hangs has an end, and may be what ends engines.
        if self._options.stragglers and self._options.timeout is None and self._ledger.left == 0:
            self._double_straggler(now)
        if self._ledger.flying and now - self._news > _QUIET:
            yield from self._check_messages(now)
        if self._ledger.flying and self._channel.nested and now - self._news > self._options.patience:
            self._check_nested()

    def _check_engines(self, now: float) -> None:
        if self._channel.engines:
            self._alone_since = None
            return
        if self._alone_since is None:
            self._alone_since = now
        if self._channel.nested and now - self._alone_since >= min(_ALONE, self._options.patience):
            raise DeadlockError(
                "the task that waits for this call runs on the only engine: that cannot run it meanwhile; "
                "start another engine, or make the call where the cluster is used from"
            )
        if now - self._alone_since >= self._options.patience:
            raise NoEnginesError(
                f"there was no engine for {self._options.patience:g} s: {self._ledger.settled} items are done; "
                "start engines, or give it more patience"
            )

    def _check_nested(self) -> None:
        if not any(self._channel.find(number) for number in self._ledger.numbers()):
            raise DeadlockError(
                f"no engine has begun this call for {self._options.patience:g} s, which a task waits for: all engines "
                "are busy, perhaps with tasks that wait in the same way; make such calls where the cluster is used from"
            )

    def _check_messages(self, now: float) -> Iterator[Settled]:
        if now - self._asked > _QUIET:
            self._ask(now)
        if now - max(self._hub_heard, self._news) > self._options.patience:
            raise ConnectError(
                f"the controller did not answer for {self._options.patience:g} s: "
                f"{self._ledger.settled} items are done; see: stoker status"
            )
        if self._waiting is None:
            return
        idle = {uuid for uuid, heard in self._idle.items() if now - heard > _LATE}
        engines = self._channel.engines
        nobody_works = idle.issuperset(engines)
        if self._lull < self._news:
            self._lull = now if nobody_works else 0.0
        # What waits may be someone else's, and wait for ever.
        nothing_waits = self._waiting == 0 or (self._lull > 0.0 and now - self._lull > _LULL)
        for number in self._ledger.numbers():
            if self._sent_at[number] > self._asked:
                continue
            engine = self._channel.find(number)
            # Begun, and its engine runs nothing any more; or not begun, though nothing waits and all are idle.
            if engine in idle or (engine is None and nobody_works and nothing_waits):
                self._return(number)
            elif engine is not None and engine not in engines:
                # It had left before it was known whose the batch was.
                settled = self._lose(Lost(number=number, ran=True, engine=None, reason="its engine left"))
                if settled is not None:
                    yield settled

    def _ask(self, now: float) -> None:
        self._asked = now
        self._idle.clear()
        self._waiting = None
        self._channel.ask()

    def _note_answer(self, answer: Answer) -> None:
        now = time.monotonic()
        if not answer.uuid:
            self._hub_heard = now
        if answer.asked < self._asked:
            return
        if answer.uuid:
            self._idle[answer.uuid] = now
        else:
            self._waiting = answer.waiting

    # Stragglers

    def _double_straggler(self, now: float) -> None:
        """Give an idle engine what another takes too long for."""
        number = choose_straggler(self._list_flights(now), now=now, longest=self._longest)
        if number is None:
            return
        busy = {self._channel.find(each) for each in (*self._ledger.numbers(), *self._losers)}
        free = self._channel.engines.keys() - busy
        if not free:
            return
        idle = [uuid for uuid in sorted(free) if now - self._idle.get(uuid, 0.0) < _ASK_AGAIN]
        if idle:
            piece = self._ledger.look(number)
            assert piece is not None
            twin = self._send(piece, limit=math.inf, engine=idle[0])
            self._twins.update({number: twin, twin: number})
            self._tally.stragglers += 1
        elif now - self._asked > _ASK_AGAIN:
            # An engine may be busy with what someone else has sent.
            self._ask(now)

    def _list_flights(self, now: float) -> Iterator[Flight]:
        for number in self._ledger.numbers():
            if now - self._sent_at[number] <= LEAST:
                # No straggler yet; what follows reads files.
                continue
            piece = self._ledger.look(number)
            assert piece is not None
            # What may have killed an engine is not to kill another meanwhile.
            if not piece.deaths and not piece.exact and not self._is_dead(number):
                yield Flight(
                    number=number, since=self._sent_at[number], expected=self._expect(piece), twin=number in self._twins
                )

    def _is_dead(self, number: int) -> bool:
        mark = self._marks.read(number)
        return mark is not None and identify(mark.pid) is None

    def _expect(self, piece: Piece) -> float | None:
        seconds = self._pace.seconds_per_item
        return None if seconds is None else seconds * piece.count

    def _leave_to_twin(self, number: int) -> bool:
        """Take no more interest in a batch if another has the same items."""
        twin = self._twins.pop(number, None)
        if twin is None:
            return False
        del self._twins[twin]
        self._ledger.drop(number)
        self._forget(number)
        return True

    def _part_twins(self, number: int) -> None:
        """Cancel the twin of a batch that came home."""
        twin = self._twins.pop(number, None)
        if twin is not None:
            del self._twins[twin]
            self._ledger.drop(twin)
            self._losers.add(twin)
            self._channel.abort([twin])
            self._interrupt([twin])

    def _interrupt(self, numbers: Sequence[int]) -> None:
        """Interrupt batches that have begun, and again after a while, but no more often: another may run there."""
        now = time.monotonic()
        begun = [
            number for number in numbers if self._channel.find(number) and now - self._told.get(number, 0.0) > _INSIST
        ]
        self._channel.interrupt(begun)
        self._told.update(dict.fromkeys(begun, now))

    # The end

    def _part(self) -> None:
        """Cancel what is still under way: what is queued is dropped, what runs is interrupted."""
        numbers = [*self._ledger.numbers(), *self._losers]
        if not numbers:
            return
        self._twins.clear()
        self._channel.abort(self._ledger.numbers())
        deadline = time.monotonic() + _PARTING
        # Without engines nobody will answer.
        while numbers and self._channel.engines and time.monotonic() < deadline:
            self._interrupt(numbers)
            event = self._channel.receive(0.02)
            if isinstance(event, Home | Lost):
                self._losers.discard(event.number)
                self._return(event.number)
            numbers = [*self._ledger.numbers(), *self._losers]
        for number in numbers:
            self._forget(number)

    def _forget(self, number: int) -> None:
        self._channel.forget(number)
        self._parcels.drop(number)
        self._sent_at.pop(number, None)
        self._sizes.pop(number, None)
        self._gone.pop(number, None)
        self._told.pop(number, None)

    def _choose_wait(self) -> float:
        return 0.05 if self._gone else _TURN

    def _stand(self) -> Standing:
        engines = len(self._channel.engines)
        return Standing(
            done=self._ledger.settled + self._earlier,
            total=self._total,
            failures=self._tally.failures,
            engines=engines,
            seconds=self._elapsed(),
            earlier=self._earlier,
            note="" if engines else "no engines: waiting",
        )

    def _name_items(self, piece: Piece, count: int) -> str:
        return f"items {self._index(piece.first)} to {self._index(piece.first + count - 1)}"

    def _show(self, piece: Piece, position: int) -> str:
        return show_item(piece, position)

    def _place(self, piece: Piece, position: int, *, engine: int | None, host: str, attempt: int = 0) -> ItemPlace:
        return ItemPlace(
            index=self._index(piece.first + position),
            text=self._show(piece, position),
            engine=engine,
            host=host,
            attempt=attempt or piece.attempt,
        )


def _unpack_results(packed: bytes) -> tuple[list[Any], dict[int, str]]:
    try:
        return unpack(packed), {}
    except (ImportError, AttributeError):
        return unpack_known(packed)


def _spread(function: Callable[..., Any]) -> Callable[..., Any]:
    # A function within a function travels by value, so that engines need no stoker.
    return lambda row: function(*row)
