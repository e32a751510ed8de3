"""Total, tax and net: chosen together, because they must add up, and with what was paid and given back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal

from swath.operators.documents.amounts import amounts
from swath.operators.documents.cells import Cell
from swath.operators.documents.fields_labels import best
from swath.operators.documents.fields_values import Candidate, Choice, Values, choice
from swath.operators.documents.shapes import pattern, spans
from swath.operators.documents.templates import Template, words

NAMES = ("net", "tax", "total")
CENT = Decimal("0.011")
ROUNDED = Decimal("0.051")
"""What a sum may be off by where prices are rounded to five cents."""
KEPT = 8
"""Candidates of each field that are tried with one another."""
UNLABELLED = 0.3
"""Score of a net that has no label."""
RATES = (0.005, 0.35)
"""Tax as a share of the total, from a reduced rate on a few goods to the highest of Europe."""


@dataclass(frozen=True)
class _Scored:
    one: Candidate
    value: Decimal
    score: float


def money(template: Template, values: Values) -> dict[str, Choice]:
    """The choices for net, tax and total, as far as the template has them and something speaks for them."""
    found = [one for one in values.of("amount") if isinstance(one.value, Decimal) and abs(one.value) < 10**12]
    wanted = [name for name in NAMES if name in template.fields and template.fields[name].type == "amount"]
    if not found or not wanted:
        return {}
    cents = any(one.decimals == 2 for one in found)
    supported = _supported(found)
    often = Counter(abs(one.value) for one in found if isinstance(one.value, Decimal) and one.value)
    ranked = {
        name: sorted(
            (
                _Scored(one, one.value, score)
                for one in found
                if (score := _score(name, one, cents, supported, often, values.rivals["amount"])) > 0
                and isinstance(one.value, Decimal)
            ),
            key=lambda scored: -scored.score,
        )[:KEPT]
        for name in wanted
    }
    if "net" in ranked:
        ranked["net"] += _unlabelled(found, ranked)
    return _together(ranked)


def _unlabelled(found: Sequence[Candidate], ranked: dict[str, list[_Scored]]) -> list[_Scored]:
    """Amounts that no label calls the net, but that a tax and a total say it is."""
    sums = {
        total.value - tax.value
        for total in ranked.get("total", [])
        for tax in ranked.get("tax", [])
        if tax.value > 0 and total.one is not tax.one
    }
    known = {id(scored.one) for scored in ranked["net"]}
    return [
        _Scored(one, one.value, UNLABELLED)
        for one in found
        if isinstance(one.value, Decimal) and one.value in sums and id(one) not in known
    ][:KEPT]


def _score(
    name: str,
    one: Candidate,
    cents: bool,
    supported: dict[Decimal, float],
    often: Counter[Decimal],
    rivals: frozenset[str],
) -> float:
    assert isinstance(one.value, Decimal)
    score = best([link for link in one.links if not link.above], name, rivals)
    heads = [link for link in one.links if link.above]
    column = best(heads, name, rivals)
    if heads and name == "total":
        other = max((link.strength for link in heads if link.hit.name in ("net", "tax")), default=0.0)
        score -= 1.2 if other > 1.0 and other > column else 0.0
    score = max(score, column) if score <= 0 else score + 0.2 * max(column, 0.0)
    if score <= 0 and name == "total" and one.value in supported:
        score = 0.5
    if score <= 0:
        return 0.0
    page = one.cell.page
    depth = page.depth(one.cell)
    if name == "total":
        score += 0.4 * depth + 0.1 * page.index
        score += 0.25 * min(often[one.value] - 1, 3) if one.value > 0 else -2.0
        score += supported.get(one.value, 0.0)
        score += 0.7 if one.cell.height > 1.35 * page.letter else 0.0
    elif name == "tax":
        score += 0.2 * depth - (0.4 if one.value <= 0 else 0.0)
    else:
        score += 0.1 * depth - (0.8 if one.value <= 0 else 0.0)
    if (cents and one.decimals != 2) or one.remark:
        score -= 1.5
    return score


def _supported(found: Sequence[Candidate]) -> dict[Decimal, float]:
    """Amounts that something says are what was to pay, and how loudly: what was given less the change, a sum and its
    rounding."""
    by_kind: dict[str, set[Decimal]] = {kind: set() for kind in ("tendered", "change", "rounding")}
    for one in found:
        for link in one.links:
            kind = link.hit.name.removeprefix("-")
            if kind in by_kind and not link.above and link.closeness > 0.7 and isinstance(one.value, Decimal):
                by_kind[kind].add(one.value)
    given = {t - abs(c) for t in by_kind["tendered"] for c in by_kind["change"] if t > abs(c)}
    rounding = {r for r in by_kind["rounding"] if 0 < abs(r) <= ROUNDED}
    sums = {one.value for one in found if isinstance(one.value, Decimal)}
    rounded = {s + sign * r for s in sums for r in rounding for sign in (1, -1)} & sums
    # A rounded sum ends in what coins can pay.
    coins = {value for value in rounded if value * 20 == int(value * 20)}
    return dict.fromkeys(coins, 1.5) | dict.fromkeys(given & sums, 3.0)


def _together(ranked: dict[str, list[_Scored]]) -> dict[str, Choice]:
    nothing: list[_Scored | None] = [None]
    best_sum, chosen = -1.0, dict[str, _Scored | None]()
    for total in [*ranked.get("total", []), *nothing]:
        for net in [*ranked.get("net", []), *nothing]:
            for tax in [*ranked.get("tax", []), *nothing]:
                value = _joint(net, tax, total)
                if value > best_sum:
                    best_sum, chosen = value, {"net": net, "tax": tax, "total": total}
    result: dict[str, Choice] = {}
    for name, scored in chosen.items():
        if scored is not None:
            rest = [other.score for other in ranked[name] if other.value != scored.value]
            result[name] = choice(name, scored.one, scored.score, scored.score - max(rest, default=0.0))
    return result


def _joint(net: _Scored | None, tax: _Scored | None, total: _Scored | None) -> float:
    score = sum(weight * s.score for s, weight in ((net, 0.5), (tax, 0.5), (total, 1.0)) if s is not None)
    if net and tax and total and abs(net.value + tax.value - total.value) <= ROUNDED:
        score += 1.5 if tax.value else 0.4
    elif (
        tax and total and not RATES[0] <= float(abs(tax.value) / max(abs(total.value), CENT)) <= RATES[1] and tax.value
    ):
        score -= 2.0
    elif net and tax and total:
        score -= 0.8
    if net and total and net.value > total.value + ROUNDED:
        score -= 2.0
    places = [id(s.one) for s in (net, tax, total) if s]
    if len(set(places)) < len(places):
        score -= 3.0
    if net and total and not tax and net.value == total.value:
        score -= 0.1
    return score


def derived(chosen: dict[str, Choice], wanted: Iterable[str]) -> dict[str, Choice]:
    """The one of net, tax and total that is missing, from the other two, where the tax it makes is plausible."""
    known = {name: chosen[name].value for name in NAMES if name in chosen}
    missing = [name for name in NAMES if name not in known and name in wanted]
    if len(missing) != 1 or not all(isinstance(value, Decimal) for value in known.values()):
        return {}
    (name,) = missing
    sums: dict[str, Decimal] = {key: value for key, value in known.items() if isinstance(value, Decimal)}
    other = "tax" if name == "net" else "net"
    value = sums["net"] + sums["tax"] if name == "total" else sums["total"] - sums[other]
    full = {**sums, name: value}
    share = float(full["tax"] / full["total"]) if full["total"] else 0.0
    untaxed = name == "net" and not full["tax"]
    if not (RATES[0] <= share <= RATES[1] or untaxed):
        return {}
    two = [chosen[key] for key in sums]
    weakest = min(two, key=lambda one: one.score)
    return {name: Choice(name, value, None, None, None, weakest.score, weakest.margin, weakest.read, derived=True)}


def currencies(cells: Sequence[Cell], found_amounts: Sequence[Candidate]) -> list[tuple[str, Candidate]]:
    """Every mention of a currency, as its ISO 4217 code: a symbol anywhere, a code or short word in capitals."""
    taken = {id(one.cell) for one in found_amounts}
    beside = {id(c) for one in found_amounts for c in one.cell.page.rows[one.cell.row]}
    found: list[tuple[str, Candidate]] = []
    behind: list[tuple[str, Candidate]] = []
    for code, spellings in words().currencies.items():
        for spelling in spellings:
            symbol = not spelling.isascii() or "$" in spelling
            iso = spelling == code
            regex = pattern(_quoted(spelling))
            for cell in cells:
                for start, end in spans(regex, cell.text):
                    before, after = cell.text[start - 1 : start], cell.text[end : end + 1]
                    touching = (
                        before.isalpha()
                        or after.isalpha()
                        or (not symbol and before.isalnum() and not before.isdigit())
                    )
                    priced = any(one.end >= start - 1 and one.decimals == 2 for one in amounts(cell.text[:start]))
                    leads = cell.text[end:].lstrip()[:1].isdigit()
                    if spelling == "$" and not (priced or leads):
                        continue  # read for an S, as often as not
                    if touching or (symbol and spelling == "$" and before in ("A", "C", "S", "Z", "K", "R")):
                        continue
                    if symbol or iso or id(cell) in taken or id(cell) in beside:
                        mentions = behind if spelling == "$" and not leads else found
                        mentions.append((code, Candidate(code, cell, start, end)))
    # Behind a price a lone one is read for a 5; several are none where nothing else is named.
    return found or (behind if len(behind) > 1 else [])


def _quoted(text: str) -> str:
    return "".join(f"\\{c}" if c in "$.|()[]*+?^" else c for c in text)


def currency(mentions: Sequence[tuple[str, Candidate]], chosen: dict[str, Choice]) -> Choice | None:
    """The currency of a document: the one most mentioned, those beside its sums counted three times."""
    if not mentions:
        return None
    votes: Counter[str] = Counter()
    rows = {(one.cell.page.index, one.cell.row) for one in chosen.values() if one.cell}
    for code, one in mentions:
        votes[code] += 3 if (one.cell.page.index, one.cell.row) in rows else 1
    (code, most), *rest = votes.most_common(2)
    first = next(one for name, one in mentions if name == code)
    sure = first.raw == code or first.raw not in ("$", "¥", "kr", "Fr.")
    score = min(1.5 + 0.3 * most, 3.0) - (0.0 if sure else 1.0)
    margin = (most - (rest[0][1] if rest else 0)) / 2
    return choice("currency", first, score, min(margin, 3.0))
