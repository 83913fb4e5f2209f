"""What came of all requests, by kind and by reason, as text."""

from collections import Counter, defaultdict
from dataclasses import dataclass, field

from .answers import Answer
from .known import SILENT

SHOWN = 600
"""Characters of an answer and of a request that are shown."""


@dataclass(slots=True)
class Tally:
    """How often the servers agreed, and the differences nobody has a reason for."""

    sent: Counter[str] = field(default_factory=Counter)
    agreed: Counter[str] = field(default_factory=Counter)
    explained: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    fatal: list[str] = field(default_factory=list)
    """Requests that Triton did not survive, or never answered."""
    unexplained: dict[tuple[str, str], list[str]] = field(default_factory=lambda: defaultdict(list))

    def count(
        self, kind: str, request: str, answers: tuple[Answer, Answer], reasons: list[str] | None
    ) -> None:
        """Take the outcome of one request; no reasons at all where the answers are equal."""
        self.sent[kind] += 1
        if reasons is None:
            triton, deuteron = answers
            text = f"  {kind}: {request[:SHOWN]}\n    Triton:   {str(triton)[:SHOWN]}\n"
            text += f"    deuteron: {str(deuteron)[:SHOWN]}\n"
            self.unexplained[triton.shape(), deuteron.shape()].append(text)
        elif reasons:
            if SILENT.reason in reasons:
                self.fatal.append(f"  {answers[0]}: {request}")
            self.explained[kind] += 1
            self.reasons.update(set(reasons))
        else:
            self.agreed[kind] += 1

    @property
    def agreement(self) -> float:
        """The share of requests answered alike among those without a known reason to differ."""
        counted = self.sent.total() - self.explained.total()
        return self.agreed.total() / counted if counted else 1.0

    def report(self) -> str:
        """Return the tables."""
        lines = [f"{'kind of request':36}{'sent':>8}{'alike':>8}{'known':>8}{'open':>8}"]
        for kind in [*sorted(self.sent), ""]:
            sent, alike, known = (
                each[kind] if kind else each.total() for each in (self.sent, self.agreed, self.explained)
            )
            lines.append(f"{kind or 'all':36}{sent:8}{alike:8}{known:8}{sent - alike - known:8}")
        lines += ["", "known differences:"]
        lines += [f"{number:6}  {reason}" for reason, number in self.reasons.most_common()]
        lines += ["", "requests that ended or hung Triton:", *(self.fatal or ["  none"])]
        lines += ["", "differences without a reason:"]
        groups = sorted(self.unexplained.values(), key=len, reverse=True)
        lines += [f"{len(group):6}\n{group[0]}" for group in groups] or ["  none"]
        lines += ["", f"agreement outside the known differences: {100 * self.agreement:.2f} %"]
        return "\n".join(lines)
