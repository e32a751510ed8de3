"""How many fields of real papers are right, and whether their confidences say so; prints one JSON object.

    python -m tests.benchmarks.fields [--receipts FOLDER] [--invoices FOLDER] [--warehouse FOLDER]... [--engine NAME]
                                      [--calibrate] [--output FILE]

RECEIPTS holds img/ and key/NNN.json (company, date, address, total), as SROIE of ICDAR 2019 does; INVOICES holds PDFs
and pictures with a JSON of the same name (invoice2data's fields). The lines are taken from warehouses that
`swath run documents FOLDER --warehouse W` made; without any, that is done first, with ENGINE.

Right is: the same letters and digits in the same order, whatever case, spaces and punctuation (`strict`: whatever case
and runs of spaces only); the same day; the same amount. A missing value is wrong. Halves are by a hash of the file's
name: `dev` was looked at while the rules were made, `test` was not.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import subprocess
import sys
import tempfile
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal, InvalidOperation
from difflib import SequenceMatcher
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from tests.operators.documents import drawn, papers
from tests.operators.documents.drawn import Half

from swath.operators.documents.amounts import number
from swath.operators.documents.cells import document
from swath.operators.documents.dates import dates
from swath.operators.documents.document_type import load_types, probabilities, scores
from swath.operators.documents.fields import Judged, Reader
from swath.operators.documents.fields_checks import WEIGHTS, confidence, features
from swath.operators.documents.fields_values import text_of
from swath.operators.documents.templates import load_templates

DATA = Path(__file__).parents[2] / "../shared/data"
BARS = {"total": 0.92, "issue_date": 0.92, "issuer": 0.75, "issuer_address": 0.6}
"""Of the receipts, over both halves."""
TODAY = date(2026, 11, 1)
RECEIPT_KEYS = {"company": "issuer", "address": "issuer_address", "date": "issue_date", "total": "total"}
INVOICE_KEYS = {
    "issuer": "issuer",
    "amount": "total",
    "amount_untaxed": "net",
    "amount_tax": "tax",
    "date": "issue_date",
    "date_due": "due_date",
    "invoice_number": "document_number",
    "order_id": "purchase_order",
    "purchase_order_id": "purchase_order",
    "currency": "currency",
    "iban": "iban",
    "bic": "bic",
    "vat": "tax_id",
    "static_vat": "tax_id",
    "siren": "tax_id",
    "partner_email": "email",
    "telephone": "phone",
    "partner_website": "website",
}
ITEM_KEYS = {"name": "description", "qty": "quantity", "price_unit": "unit_price", "price_subtotal": "amount"}


@dataclass(frozen=True)
class Asked:
    """A field that the truth names, what was found, and whether it is right."""

    file: str
    half: str
    field: str
    wanted: str
    found: str | None
    right: bool
    strict: bool
    read: bool
    """Whether the letters of what is wanted are among those that the engine read."""
    judged: Judged | None

    @property
    def confidence(self) -> float:
        one = self.judged
        return confidence(one.choice, len(one.failed), one.passed) if one else 0.0

    @property
    def why(self) -> str:
        """In a few words, why a wrong one is wrong."""
        if not self.read:
            return "the engine did not read it so"
        return "nothing was found" if self.found is None else "another value was chosen"


def half_of(name: str) -> str:
    return "dev" if int(hashlib.sha256(name.encode()).hexdigest(), 16) % 2 == 0 else "test"


def letters(text: object) -> str:
    """Letters and digits alone, case-folded."""
    return "".join(c for c in unicodedata.normalize("NFKC", str(text or "")).casefold() if c.isalnum())


def amount(text: object) -> Decimal | None:
    with contextlib.suppress(InvalidOperation):
        return Decimal(str(text))
    return number("".join(c for c in str(text) if c.isdigit() or c in ".,-"))[0]


def is_right(field: str, wanted: object, found: str | None) -> bool:
    if found is None:
        return False
    if kind(field) == "amount":
        return amount(wanted) == amount(found)
    if kind(field) == "date":
        return found == day(wanted)
    if field.endswith("description"):  # theirs may be the first line of an item's text
        return letters(wanted) in letters(found)
    if field == "website":
        return letters(found).removeprefix("http").removeprefix("www") == letters(
            str(wanted).removeprefix("http://").removeprefix("www.")
        )
    if field == "tax_id" and len(letters(wanted)) == 9 and len(letters(found)) == 14:
        return letters(found).startswith(letters(wanted))  # a SIRET begins with the SIREN
    return letters(wanted) == letters(found)


def day(text: object) -> str | None:
    """The truth's day; receipts write the day first."""
    found = dates(str(text))
    return found[0].value.isoformat() if found else None


def pages_of(warehouses: Sequence[Path], folder: Path) -> dict[str, list[dict[str, Any]]]:
    """The pages with their lines by file name, of the files below a folder."""
    from swath.flows.ask.query import open_session
    from swath.infra.uris import local_path

    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for warehouse in warehouses:
        with contextlib.closing(open_session(str(warehouse))) as session:
            sql = "SELECT source_uri, object_id, item_id, page, lines FROM stored WHERE status = 'ok' ORDER BY page"
            for row in session.stream(sql).read_all().to_pylist():
                if local_path(row["source_uri"]).resolve().is_relative_to(folder.resolve()):
                    found[row["source_uri"].rpartition("/")[2]].append(row)
    return dict(found)


Truth = Iterable[tuple[str, object]]
"""Name of the field and what it is: `line_items[1].amount`, 12.5."""


@cache
def _reader() -> Reader:
    return Reader(load_templates(())[""])


def asked(of: dict[str, list[dict[str, Any]]], truth: Callable[[str], Truth]) -> list[Asked]:
    """Every field that the truth of a paper names, with what was found."""
    reader = _reader()
    found = []
    for file, pages in sorted(of.items()):
        wanted = list(truth(file))
        if not wanted:
            continue
        judged = {one.choice.name: one for one in reader.judge(document(pages), TODAY)}
        places = paired(wanted, judged)
        text = letters("".join(line["text"] or "" for page in pages for line in page["lines"] or []))
        for name, value in wanted:
            item, point, column = name.partition(".")
            one = judged.get(places.get(item, item) + point + column)
            got = text_of(one.choice.value) if one else None
            right = is_right(name, value, got)
            strict = right and (name not in RECEIPT_KEYS.values() or plain(value) == plain(got) or kind(name) != "text")
            read = letters(value) in text or (kind(name) != "text" and got is not None)
            half = half_of(Path(file).stem)
            found.append(Asked(file, half, name, str(value), got, right, strict, read, one))
    return found


def paired(wanted: Sequence[tuple[str, object]], judged: dict[str, Judged]) -> dict[str, str]:
    """From the line items of the truth to those found, by the likeness of their descriptions: the truth's order is not
    always the paper's."""
    found = {name.partition(".")[0]: one for name, one in judged.items() if name.endswith("].description")}
    pairs = sorted(
        (
            (likeness(letters(value), letters(one.choice.value)), name.partition(".")[0], place)
            for name, value in wanted
            if name.endswith("].description")
            for place, one in found.items()
        ),
        reverse=True,
    )
    places: dict[str, str] = {}
    for alike, item, place in pairs:
        if alike > 0.5 and item not in places and place not in places.values():
            places[item] = place
    return {name.partition(".")[0]: "nowhere" for name, _ in wanted if "[" in name} | places


def likeness(wanted: str, found: str) -> float:
    """The share of the letters wanted that are found in their order: the truth may be the first line of several."""
    blocks = SequenceMatcher(None, wanted, found, autojunk=False).get_matching_blocks()
    return sum(block.size for block in blocks) / max(len(wanted), 1)


def kind(name: str) -> str:
    last = name.rpartition(".")[2]
    if last in ("total", "net", "tax", "amount", "quantity", "unit_price"):
        return "amount"
    return "date" if last.endswith("_date") else "text"


def plain(text: object) -> str:
    return " ".join(str(text).casefold().split())


def receipt_truth(folder: Path) -> Callable[[str], Truth]:
    def truth(file: str) -> Truth:
        path = folder / "key" / f"{Path(file).stem}.json"
        return [(RECEIPT_KEYS[key], value) for key, value in json.loads(path.read_text()).items() if path.exists()]

    return truth


def invoice_truth(folder: Path) -> Callable[[str], Truth]:
    def truth(file: str) -> Truth:
        path = folder / f"{Path(file).stem}.json"
        if not path.exists():
            return
        (told,) = json.loads(path.read_text())
        seen = set()
        for key, name in INVOICE_KEYS.items():
            if key in told and name not in seen:
                seen.add(name)
                # `issuer` is what the set calls a company; `partner_name`, where it has one, what the paper does.
                yield name, told.get("partner_name", told[key]) if name == "issuer" else told[key]
        items = [one for one in told.get("lines", []) if one.get("name")]
        for place, one in enumerate(items, 1):
            for key, column in ITEM_KEYS.items():
                if key in one:
                    # The set calls the only money of an item its price, whether or not it stands for one piece.
                    only = key == "price_unit" and not {"qty", "price_subtotal"} & one.keys()
                    yield f"line_items[{place}].{'amount' if only else column}", str(one[key]).split("\n")[0]

    return truth


HALVES: tuple[Half, ...] = ("dev", "test")
SCANS = (0.0, 0.0, 0.003, 0.01, 0.03)
"""Shares of misread letters of the drawn papers, by turns."""


def on_drawn(half: Half, count: int) -> list[Asked]:
    """Drawn invoices of the wordings of a half, clean and as bad scans are read."""
    found = []
    for seed in range(count):
        share, paper = SCANS[seed % len(SCANS)], drawn.invoice(seed, half)
        lines = drawn.noisy(paper.lines, seed, share) if share else paper.lines
        name = f"{half} {seed} {'scanned' if share else 'clean'}"
        found += asked({name: [papers.page(lines)]}, lambda _, told=paper.told: list(told.items()))  # type: ignore[misc]
    return found


def first_pass(found: Sequence[Asked], threshold: float = 0.8) -> dict[str, Any]:
    """Of papers, clean and scanned: the share all of whose values are right, and about which nothing is to be decided,
    and of the latter the share with a wrong value."""
    made = {}
    for kind in ("clean", "scanned"):
        files: dict[str, list[Asked]] = defaultdict(list)
        for one in found:
            if one.file.endswith(kind):
                files[one.file].append(one)
        right = {file: all(one.right for one in ones) for file, ones in files.items()}
        sure = [
            file
            for file, ones in files.items()
            if all(one.judged and not one.judged.failed and one.confidence >= threshold for one in ones if one.found)
        ]
        made[kind] = {
            "papers": len(files),
            "all_right": round(sum(right.values()) / len(files), 4),
            "first_pass": round(len(sure) / len(files), 4),
            "wrong_of_first_pass": round(sum(not right[file] for file in sure) / max(len(sure), 1), 4),
        }
    return made


def table(found: Sequence[Asked], fields: Sequence[str]) -> dict[str, Any]:
    """Share that is right by field, of all and of each half."""
    made: dict[str, Any] = {}
    for field in fields:
        of = [one for one in found if group(one.field) == field]
        if of:
            made[field] = {"asked": len(of), "all": share(of, lambda one: one.right)}
            for half in ("dev", "test"):
                made[field][half] = share([one for one in of if one.half == half], lambda one: one.right)
            made[field]["strict"] = share(of, lambda one: one.strict)
    return made


def group(name: str) -> str:
    """`line_items[3].amount` as `line_items.amount`."""
    return "line_items." + name.rpartition(".")[2] if "[" in name else name


def share(of: Sequence[Asked], what: Callable[[Asked], bool]) -> float | None:
    return round(sum(map(what, of)) / len(of), 4) if of else None


def reliability(found: Sequence[Asked]) -> dict[str, Any]:
    """How far the confidences of what was found are from the shares that are right: Brier score, expected calibration
    error in five bins of equal width (Guo et al. 2017), and the bins."""
    said = [one for one in found if one.judged]
    if not said:
        return {}
    sure = np.array([one.confidence for one in said])
    right = np.array([one.right for one in said], float)
    bins, error = [], 0.0
    for low in (0.0, 0.2, 0.4, 0.6, 0.8):
        inside = (sure >= low) & (sure < (low + 0.2 if low < 0.8 else 1.01))
        if inside.any():
            gap = abs(sure[inside].mean() - right[inside].mean())
            error += gap * inside.mean()
            mean, share_right = round(float(sure[inside].mean()), 3), round(float(right[inside].mean()), 3)
            bins.append({"from": low, "values": int(inside.sum()), "confidence": mean, "right": share_right})
    return {
        "values": len(said),
        "brier": round(float(((sure - right) ** 2).mean()), 4),
        "brier_of_the_mean": round(float(right.mean() * (1 - right.mean())), 4),
        "expected_calibration_error": round(float(error), 4),
        "bins": bins,
    }


FIXED = ("derived", "failed")
"""Weights that are set, not fitted: too few values on real papers are derived or contradicted, and a failed check must
lower the confidence."""


def calibrated(found: Sequence[Asked], penalty: float = 0.5) -> dict[str, float]:
    """Weights of a logistic regression by Newton's method, drawn to those that are there by a ridge penalty."""
    rows = [features(one.judged.choice, len(one.judged.failed), one.judged.passed) for one in found if one.judged]
    names = [name for name in rows[0] if name not in FIXED]
    x = np.array([[row[name] for name in names] for row in rows])
    given = np.array([sum(WEIGHTS[name] * row[name] for name in FIXED) for row in rows])
    y = np.array([one.right for one in found if one.judged], float)
    prior = np.array([WEIGHTS[name] for name in names])
    weights = prior.copy()
    for _ in range(50):
        p = 1 / (1 + np.exp(-(x @ weights + given)))
        gradient = x.T @ (y - p) - penalty * (weights - prior)
        hessian = (x * (p * (1 - p))[:, None]).T @ x + penalty * np.eye(len(names))
        weights = weights + np.linalg.solve(hessian, gradient)
    return dict(zip(names, np.round(weights, 3).tolist(), strict=True)) | {name: WEIGHTS[name] for name in FIXED}


def worst(found: Sequence[Asked], count: int = 10) -> list[dict[str, Any]]:
    """The papers with most wrong fields, with why."""
    wrong: dict[str, list[Asked]] = defaultdict(list)
    for one in found:
        if not one.right:
            wrong[one.file].append(one)
    ranked = sorted(wrong.items(), key=lambda pair: (-len(pair[1]), -max(one.confidence for one in pair[1])))
    return [
        {
            "file": file,
            "half": ones[0].half,
            "wrong": [
                {"field": o.field, "wanted": o.wanted, "found": o.found, "confidence": o.confidence, "why": o.why}
                for o in ones
            ],
        }
        for file, ones in ranked[:count]
    ]


def types_table(papers: dict[str, list[dict[str, Any]]], wanted: str) -> dict[str, Any]:
    """Of papers of one type: the share told right, and the mean confidence in the right type."""
    types = load_types(())
    told = [dict(probabilities(scores(document(pages), types))) for pages in papers.values()]
    right = [max(one, key=lambda name: one[name]) == wanted for one in told]
    return {
        "papers": len(told),
        "right": round(float(np.mean(right)), 4),
        "mean_probability": round(float(np.mean([one[wanted] for one in told])), 4),
    }


def read_papers(folders: Sequence[Path], engine: str, root: Path) -> list[Path]:
    """Warehouses with the lines of all papers in the folders."""
    warehouses = []
    for index, folder in enumerate(folders):
        warehouses.append(root / str(index))
        command = [sys.executable, "-m", "swath.flows.cli", "run", "documents", str(folder), "--ray", "off"]
        command += ["--warehouse", str(warehouses[-1]), "--set", f"ocr.engine={engine}", "--max-rejects", "1"]
        subprocess.run(command, check=True, stdout=sys.stderr)
    return warehouses


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--receipts", type=Path, default=DATA / "receipts_sroie")
    parser.add_argument("--invoices", type=Path, default=DATA / "ocr_pages/invoices")
    parser.add_argument("--warehouse", type=Path, action="append")
    parser.add_argument("--engine", default="rapidocr")
    parser.add_argument("--calibrate", action="store_true", help="print the weights that the dev half gives")
    parser.add_argument("--drawn", type=int, default=400, help="how many invoices are drawn of each half")
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    if not (options.receipts / "key").is_dir():
        sys.exit(f"no receipts in {options.receipts}; give a folder with img/ and key/ by --receipts")
    with tempfile.TemporaryDirectory() as root:
        folders = [options.receipts / "img", options.invoices]
        warehouses = options.warehouse or read_papers(folders, options.engine, Path(root))
        receipts, invoices = (pages_of(warehouses, folder) for folder in folders)
    on_receipts = asked(receipts, receipt_truth(options.receipts))
    on_invoices = asked(invoices, invoice_truth(options.invoices))
    dev = [one for one in (*on_receipts, *on_invoices) if one.half == "dev"]
    test = [one for one in (*on_receipts, *on_invoices) if one.half == "test"]
    shares = table(on_receipts, list(RECEIPT_KEYS.values()))
    result = {
        "receipts": shares,
        "bars": [
            {"name": name, "value": shares[name]["all"], "at_least": bar, "met": (shares[name]["all"] or 0) >= bar}
            for name, bar in BARS.items()
        ],
        "invoices": table(on_invoices, sorted({group(one.field) for one in on_invoices})),
        "reliability": {"dev": reliability(dev), "test": reliability(test)},
        "types": {"receipt": types_table(receipts, "receipt"), "invoice": types_table(invoices, "invoice")},
        "worst_receipts": worst(on_receipts),
        "wrong_on_invoices": worst(on_invoices, len(invoices)),
    }
    on_halves: dict[str, list[Asked]] = {half: on_drawn(half, options.drawn) for half in HALVES}
    result["drawn"] = {
        half: {
            "fields": {
                field: row["all"] for field, row in table(found, sorted({group(o.field) for o in found})).items()
            },
            "reliability": reliability(found),
            "papers": first_pass(found),
        }
        for half, found in on_halves.items()
    }
    if options.calibrate:
        # The real papers count as much as the drawn ones, of which there are many more.
        result["weights"] = calibrated(dev * max(len(on_halves["dev"]) // len(dev), 1) + on_halves["dev"])
    text = json.dumps(result, indent=1, ensure_ascii=False)
    print(text)
    if options.output:
        options.output.write_text(text + "\n")


if __name__ == "__main__":
    main()
