"""Ratios: how many times as good as the baseline each contender was, in words."""

from __future__ import annotations

from dataclasses import dataclass

from stoker.bench.record import BenchRecord, Spread, Summary

__all__ = ["Ratios", "render_ratio"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ratios:
    """What a record says of its contenders beside the baseline: a line for each, in each case. False: nothing."""

    record: BenchRecord

    measures: tuple[str, ...]
    """Those that are of interest, by name; the ones that were not measured are left out."""

    @property
    def lines(self) -> tuple[str, ...]:
        """The lines, in the record's order."""
        summaries = (summary for summary in self.record.summaries if summary.contender != self.record.baseline)
        told = ((summary, self._compare(summary)) for summary in summaries)
        return tuple(
            f"{summary.case}: {summary.contender} ({self.record.about[summary.contender]}): {'; '.join(ratios)}"
            for summary, ratios in told
            if ratios
        )

    def __bool__(self) -> bool:
        return bool(self.lines)

    def __str__(self) -> str:
        return "\n".join(self.lines)

    def _compare(self, summary: Summary) -> list[str]:
        measured = {measure.name: measure for measure in self.record.measures}
        return [
            f"{spread.measure} {render_ratio(spread)} {measured[spread.measure].comparison} {self.record.baseline}"
            for spread in summary.spreads
            if spread.measure in self.measures and spread.ratio is not None
        ]


def render_ratio(spread: Spread, *, part: int = 1) -> str:
    """Render a ratio that there is, or, where ``part`` is more than 1, one by so many."""
    ratio, minimum, maximum = (
        (value or 0.0) / part for value in (spread.ratio, spread.ratio_minimum, spread.ratio_maximum)
    )
    return f"{ratio:.2f}" if minimum == maximum else f"{ratio:.2f} ({minimum:.2f} to {maximum:.2f})"
