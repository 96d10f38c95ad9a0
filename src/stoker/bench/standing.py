"""A standing: how one contender did beside each of the others, and how well each kept its workers busy, in words."""

from __future__ import annotations

from dataclasses import dataclass, replace

from stoker.bench.ratios import render_ratio
from stoker.bench.record import BenchRecord, Case, Spread

__all__ = ["Standing"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What a record says of one contender beside each of the others: a line or two a case. False: nothing."""

    record: BenchRecord

    contender: str = "stoker"
    """Whose standing it is."""

    measures: tuple[str, ...] = ()
    """Of which measures; none: the first of the record."""

    serial: str | None = None
    """The contender that uses one core: efficiency is its time / (own time x cores), where cores are those that
    workers can have, ``min(workers, cores of the machine)``. None: there is none, and nothing is said of efficiency."""

    @property
    def lines(self) -> tuple[str, ...]:
        """The lines, in the record's order of cases. Ratios are of figures of the same round."""
        cases = dict.fromkeys(sample.case for sample in self.record.samples)
        others = [name for name in self.record.about if name != self.contender]
        names = self.measures or (self.record.measures[0].name,)
        measures = [measure for measure in self.record.measures if measure.name in names]
        lines = []
        for case in cases:
            if efficiencies := self._render_efficiencies(case):
                lines.append(f"{case}: efficiency {'; '.join(efficiencies)}")
            for measure in measures:
                ratios = [
                    f"{render_ratio(spread)} {measure.comparison} {name}"
                    for name in others
                    if (spread := self._compare(self.contender, name, case, measure.name)) is not None
                ]
                if ratios:
                    lines.append(f"{case}: {self.contender}: {measure.name} {'; '.join(ratios)}")
        return tuple(lines)

    def __bool__(self) -> bool:
        return bool(self.lines)

    def __str__(self) -> str:
        return "\n".join(self.lines)

    def _render_efficiencies(self, case: Case) -> list[str]:
        if self.serial is None:
            return []
        cores = min(case.engines, self.record.machine.cores)
        return [
            f"{name} {render_ratio(spread, part=cores)}"
            for name in self.record.about
            if name != self.serial and (spread := self._compare(name, self.serial, case, self.record.measures[0].name))
        ]

    def _compare(self, contender: str, other: str, case: Case, measure: str) -> Spread | None:
        """Give a measure of a contender, with its ratio to another; None where there is no such ratio."""
        summaries = replace(self.record, baseline=other).summaries
        spreads = (
            spread
            for summary in summaries
            for spread in summary.spreads
            if (summary.contender, summary.case, spread.measure) == (contender, case, measure)
        )
        spread = next(spreads, None)
        return spread if spread is not None and spread.ratio is not None else None
