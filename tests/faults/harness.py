"""`python -m tests.faults.harness [--seed N] [--only WORD] [--cases N] [--json FILE]`: injures run after run, at seeded
moments, and says what that cost."""

from __future__ import annotations

import argparse
import json
import random
import re
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean

from tests.faults import injuries
from tests.faults.injuries import Injury
from tests.faults.world import LONGEST_S, ROOT, Verdict, World, world

LIFE = (
    "listing", "listed", "planning", "planned", "executed", "settled", "staged", "audited", "judged",
    "publish.before_commit", "publish.after_commit", "publish.after_marker", "finishing", "cleaned",
)  # fmt: skip
"""The crash points in the order in which a run comes by them."""
CHAINS = 5
"""Points of one chain are so far apart."""
ON_RAY = {"kill workers", "kill raylet", "kill Prefect server"}
OF_UPKEEP = {"expire.marked"}
PLACES = ("flows/run/*.py", "infra/lake.py", "infra/commits.py")
"""Where the crash points of a run stand."""


@dataclass
class Case:
    """One injured run."""

    fault: str
    kills: int
    missed: str
    note: str
    resumes: int
    recover_s: float
    """From the injury until all was published."""
    killed: list[str]
    """Crash points at which a driver died."""
    verdict: Verdict


def points() -> list[str]:
    """The crash points of a run, as the code names them."""
    texts = [path.read_text() for place in PLACES for path in sorted(ROOT.glob(place))]
    found = {name for text in texts for name in re.findall(r'crash_point\("([^"]+)"\)', text)} - OF_UPKEEP
    return [name for name in LIFE if name in found] + sorted(found - set(LIFE))


def drawn(seed: int, on_ray: bool = True) -> list[tuple[str, Injury]]:
    """The faults of a whole round, in a random order: every crash point twice, everything else at random moments."""
    moments = random.Random(seed)
    faults: list[tuple[str, Injury]] = []
    known = [point for point in points() if point in LIFE]
    chains = [known[start::CHAINS] for start in range(CHAINS)] + [[point] for point in points() if point not in LIFE]
    for chain in chains:
        faults += [
            ("kill at crash points", injuries.at_points(chain, publish, moments.randint(1, 3)))
            for publish in ("run", "wave")
        ]
    several: list[tuple[str, Injury, int]] = [
        ("kill driver, publish: run", injuries.driver("run"), 3),
        ("kill driver, publish: wave", injuries.driver("wave"), 3),
        ("kill workers", injuries.workers, 3),
        ("kill raylet", injuries.raylet, 2),
        ("kill Prefect server", injuries.prefect, 2),
        ("kill S3 server", injuries.s3_server, 3),
        ("S3 answers 503", injuries.weather("busy", 12), 2),
        ("S3 slow", injuries.weather("slow", 12), 1),
        ("S3 cuts connections", injuries.weather("cutting", 12), 2),
        ("S3 takes connections and is silent", injuries.weather("silent", 12), 1),
        ("S3 gone for longer than patience", injuries.weather("gone", 50), 1),
        ("temporary folder full", injuries.full_disk("temp"), 2),
        ("disk of the catalog full", injuries.full_disk("catalog"), 2),
        ("clock jumps ahead", injuries.clock(600), 1),
        ("clock jumps back", injuries.clock(-600), 1),
        ("second driver, clock ahead", injuries.second_clock, 1),
        ("three drivers on one run", injuries.two_drivers, 2),
        ("driver sleeps, another goes on", injuries.sleeper, 1),
        ("two runs on the same partitions", injuries.two_runs, 3),
    ]
    faults += [(name, injury) for name, injury, times in several for _ in range(times)]
    faults = [(name, injury) for name, injury in faults if on_ray or name not in ON_RAY]
    moments.shuffle(faults)
    return faults


def suffer(here: World, fault: str, injury: Injury, moments: random.Random) -> Case:
    """One case: an injured run, resumed until it is through, and compared with an undisturbed one."""
    here.ensure_second()
    here.begin()
    hurt = injury(here, moments)
    resumes, stuck = here.through(prefect=fault == "kill Prefect server")
    took = time.monotonic() - hurt.at
    verdict = here.verdict(stuck)
    return Case(fault, hurt.kills, hurt.missed, hurt.note, resumes, round(took, 1), hurt.killed, verdict)


def undisturbed(here: World) -> None:
    """How long a run takes that nobody disturbs."""
    say("filling")
    here.begin()
    say("undisturbed")
    drive = here.run()
    status = drive.process.wait(LONGEST_S)
    assert status == 0, drive.said()
    here.typical = time.monotonic() - drive.began
    verdict = here.verdict([])
    assert verdict.good, verdict
    say(str(here.house.runs.load(here.house.runs.names()[-1]).phases))


def go(
    faults: Sequence[tuple[str, Injury]],
    seed: int,
    *,
    on_ray: bool,
    items: int = 1500,
    wave_items: int = 540,
    keep: Path | None = None,
) -> list[Case]:
    """The cases, each told on standard error when it is over, and all kept in a file as they come."""
    cases: list[Case] = []
    with world(seed, on_ray, items, wave_items) as here:
        undisturbed(here)
        say(f"an undisturbed run takes {here.typical:.1f} s; seed {seed}; {len(faults)} cases")
        for number, (fault, injury) in enumerate(faults):
            case = suffer(here, fault, injury, random.Random(seed * 1000 + number))
            cases.append(case)
            state = "ok" if case.verdict.good else f"BAD {case.verdict}"
            told = f"missed: {case.missed}" if case.missed else f"kills {case.kills}"
            say(f"{number + 1:3d} {fault}: {told}, resumes {case.resumes}, {case.recover_s} s; {case.note}; {state}")
            if keep:
                keep.write_text(json.dumps({"seed": seed, "table": table(cases), "cases": [asdict(c) for c in cases]}))
    return cases


def table(cases: Iterable[Case]) -> list[dict[str, object]]:
    """By fault: times, kills, lost, doubled, different, wrongly rejected, orphans, stuck, mean seconds to recover."""
    by_fault: dict[str, list[Case]] = {}
    for case in cases:
        if not case.missed:
            by_fault.setdefault(case.fault, []).append(case)
    return [
        {
            "fault": fault,
            "times": len(group),
            "kills": sum(case.kills for case in group),
            **{
                name: sum(getattr(case.verdict, name) for case in group)
                for name in ("lost", "doubled", "different", "wrongly_rejected", "orphans")
            },
            "stuck": sum(bool(case.verdict.stuck) for case in group),
            "mean_recover_s": round(mean(case.recover_s for case in group), 1),
        }
        for fault, group in sorted(by_fault.items())
    ]


def show(rows: list[dict[str, object]]) -> str:
    """The table as text, with its sums."""
    if not rows:
        return "no fault was met"
    names = list(rows[0])
    sums = {name: sum(int(str(row[name])) for row in rows) for name in names[1:-1]}
    lines = [[str(row[name]) for name in names] for row in rows] + [["all", *map(str, sums.values()), ""]]
    heads = [name.replace("_", " ") for name in names]
    widths = [max(len(line[i]) for line in [heads, *lines]) for i in range(len(names))]
    return "\n".join(
        "  ".join(
            [line[0].ljust(widths[0]), *(word.rjust(width) for word, width in zip(line[1:], widths[1:], strict=True))]
        )
        for line in [heads, *lines]
    )


def say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=6)
    parser.add_argument("--only", default="", help="a regular expression: only faults whose name it is found in")
    parser.add_argument("--cases", type=int, help="only so many")
    parser.add_argument("--items", type=int, default=1500)
    parser.add_argument("--ray", default="on", choices=["on", "off"])
    parser.add_argument("--json", type=Path, help="where the cases are kept")
    given = parser.parse_args()
    faults = [fault for fault in drawn(given.seed, given.ray == "on") if re.search(given.only, fault[0])][: given.cases]
    cases = go(faults, given.seed, on_ray=given.ray == "on", items=given.items, keep=given.json)
    print(show(table(cases)))
    sys.exit(not all(case.verdict.good for case in cases))


if __name__ == "__main__":
    main()
