# ruff: noqa: E501 (lists of words)
"""Invoices of many wordings and layouts, drawn by a seed as lines of text: what is said on them is known.

The wordings of every label are split: `dev` papers take those at even places of its list, `test` papers those at odd
ones, so that what is measured on `test` is measured on words and layouts that nobody looked at while making the rules.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from typing import Any, Literal

from tests.operators.documents.papers import LETTER, line

Half = Literal["dev", "test"]
LANGUAGES = ("en", "de", "fr", "es", "it", "nl")

LABELS: dict[str, dict[str, tuple[str, ...]]] = {
    "title": {
        "en": ("INVOICE", "Invoice", "Tax Invoice", "Sales invoice"),
        "de": ("Rechnung", "RECHNUNG"),
        "fr": ("Facture", "FACTURE"),
        "es": ("Factura", "FACTURA"),
        "it": ("Fattura", "FATTURA"),
        "nl": ("Factuur", "FACTUUR"),
    },
    "document_number": {
        "en": ("Invoice number", "Invoice no.", "Invoice #", "Invoice", "Invoice ID", "Inv. No."),
        "de": ("Rechnungsnummer", "Rechnungs-Nr.", "Rechnung Nr.", "Re.-Nr.", "Belegnummer", "Rechnungsnr."),
        "fr": ("Facture n°", "Numéro de facture", "N° de facture", "Facture no", "N° facture", "Réf. facture"),
        "es": ("Número de factura", "Factura nº", "Nº de factura", "Factura", "Núm. factura", "Nº factura"),
        "it": ("Fattura n.", "Numero fattura", "N. fattura", "Fattura nr.", "Documento n.", "Fattura numero"),
        "nl": ("Factuurnummer", "Factuurnr.", "Factuur", "Factuur nr.", "Factuur nummer", "Factuurno."),
    },
    "purchase_order": {
        "en": ("Purchase order", "PO number", "Your order", "PO #", "P.O. No.", "Customer PO", "Order no."),
        "de": ("Bestellnummer", "Ihre Bestellung", "Bestell-Nr.", "Ihre Bestellnummer", "Auftragsnummer", "Ihr Auftrag"),
        "fr": ("Bon de commande", "N° de commande", "Votre commande", "Commande n°"),
        "es": ("Pedido", "Nº de pedido", "Orden de compra", "Su pedido"),
        "it": ("Ordine n.", "Vs. ordine", "Ordine di acquisto", "Numero ordine"),
        "nl": ("Ordernummer", "Uw bestelling", "Inkoopordernummer", "Bestelnummer", "Bestelnr.", "Uw ordernummer"),
    },
    "issue_date": {
        "en": ("Invoice date", "Date", "Date of issue", "Issued", "Issue date", "Issued on"),
        "de": ("Rechnungsdatum", "Datum", "Ausstellungsdatum", "Belegdatum"),
        "fr": ("Date de facture", "Date", "Date d'émission", "Date de facturation", "Date facture", "Émise le"),
        "es": ("Fecha", "Fecha de factura", "Fecha de emisión", "Fecha factura"),
        "it": ("Data fattura", "Data", "Data documento", "Data di emissione"),
        "nl": ("Factuurdatum", "Datum", "Datum factuur", "Factuur datum"),
    },
    "due_date": {
        "en": ("Due date", "Payment due", "Due", "Pay by", "Payment due by", "Due on", "Payable by"),
        "de": ("Fällig am", "Zahlbar bis", "Fälligkeitsdatum", "Zahlungsziel", "Zahlung bis", "Fällig"),
        "fr": ("Échéance", "Date d'échéance", "À payer avant le", "Date limite de paiement"),
        "es": ("Vencimiento", "Fecha de vencimiento", "Vence el", "Fecha vencimiento", "Pagar antes del", "Vto."),
        "it": ("Scadenza", "Data scadenza", "Scadenza pagamento", "Data di scadenza", "Da pagare entro", "Pagare entro"),
        "nl": ("Vervaldatum", "Te betalen voor", "Uiterste betaaldatum", "Vervaldag", "Betalen voor", "Betaaldatum"),
    },
    "net": {
        "en": ("Subtotal", "Net", "Net amount", "Total excl. VAT", "Sub-total", "Total net", "Total before tax",
               "Taxable amount", "Goods total", "Amount excl. VAT"),
        "de": ("Nettobetrag", "Netto", "Zwischensumme", "Summe netto", "Nettosumme", "Gesamt netto", "Netto gesamt",
               "Warenwert", "Zwischensumme (netto)", "Rechnungsbetrag netto"),
        "fr": ("Total HT", "Montant HT", "Sous-total", "Total hors taxes", "Sous-total HT", "Net HT", "Base HT", "Total H.T."),
        "es": ("Base imponible", "Subtotal", "Neto", "Importe neto", "Total sin IVA", "Total neto", "Suma", "Base"),
        "it": ("Imponibile", "Subtotale", "Totale imponibile", "Netto", "Totale netto", "Totale merce", "Importo netto", "Totale IVA esclusa"),
        "nl": ("Subtotaal", "Totaal excl. btw", "Netto", "Nettobedrag", "Bedrag excl. btw", "Totaal exclusief btw", "Subtotaal excl. btw", "Totaal netto"),
    },
    "tax": {
        "en": ("VAT", "Tax", "Sales tax", "VAT amount", "GST", "Total VAT", "Total tax", "Tax amount"),
        "de": ("MwSt.", "USt.", "Umsatzsteuer", "Mehrwertsteuer", "zzgl. MwSt.", "zzgl. USt.", "MwSt.-Betrag", "Steuerbetrag"),
        "fr": ("TVA", "Montant TVA", "Total TVA", "T.V.A."),
        "es": ("IVA", "Cuota IVA", "I.V.A.", "Importe IVA", "Total IVA", "Impuestos"),
        "it": ("IVA", "Totale IVA", "Imposta", "Importo IVA"),
        "nl": ("BTW", "Btw-bedrag", "Totaal btw", "Btw", "BTW bedrag", "Bedrag btw"),
    },
    "total": {
        "en": ("Total", "Total due", "Amount due", "Total amount", "Grand total", "Balance due", "Invoice total",
               "Total incl. VAT", "TOTAL", "Total payable", "Gross total", "Gross amount"),
        "de": ("Gesamtbetrag", "Gesamt", "Rechnungsbetrag", "Summe", "Bruttobetrag", "Endbetrag", "Gesamtsumme",
               "Zu zahlen", "Total", "Brutto", "Zahlbetrag", "Gesamt brutto"),
        "fr": ("Total TTC", "Net à payer", "Montant TTC", "Total à payer", "Total", "Montant total TTC", "Total T.T.C.", "Montant dû"),
        "es": ("Total", "Total factura", "Total a pagar", "Importe total", "TOTAL", "Total con IVA"),
        "it": ("Totale", "Totale fattura", "Totale da pagare", "Totale documento", "Importo totale", "Netto a pagare"),
        "nl": ("Totaal", "Totaal incl. btw", "Te betalen", "Totaalbedrag", "Totaal te betalen", "Factuurbedrag", "Totaal inclusief btw", "Te voldoen"),
    },
    "customer": {
        "en": ("Bill to", "Invoice to", "Customer", "Billed to", "Sold to", "Client"),
        "de": ("Kunde", "Rechnung an", "Rechnungsempfänger", "Rechnungsadresse"),
        "fr": ("Client", "Facturé à", "Destinataire", "Adresse de facturation"),
        "es": ("Cliente", "Facturar a", "Datos del cliente", "Facturado a"),
        "it": ("Cliente", "Spett.le", "Destinatario", "Intestatario"),
        "nl": ("Klant", "Factuuradres", "Factuur aan", "Gefactureerd aan"),
    },
    "tax_id": {
        "en": ("VAT no.", "VAT number", "VAT ID", "VAT Reg No"),
        "de": ("USt-IdNr.", "USt-ID", "UID", "USt.-Id.-Nr."),
        "fr": ("N° TVA", "TVA intracommunautaire", "N° TVA intracom.", "Numéro de TVA"),
        "es": ("NIF", "CIF", "NIF-IVA", "N.I.F."),
        "it": ("P. IVA", "Partita IVA", "P.IVA", "Part. IVA"),
        "nl": ("Btw-nummer", "Btw-nr.", "BTW nr.", "Btw-id"),
    },
}  # fmt: skip
HEADS: dict[str, tuple[tuple[str, ...], ...]] = {
    "en": (("Description", "Qty", "Unit price", "Amount"), ("Item", "Quantity", "Price", "Total")),
    "de": (("Beschreibung", "Menge", "Einzelpreis", "Betrag"), ("Bezeichnung", "Anzahl", "Preis", "Gesamt")),
    "fr": (("Désignation", "Quantité", "Prix unitaire", "Montant"), ("Description", "Qté", "PU HT", "Total HT")),
    "es": (("Descripción", "Cantidad", "Precio", "Importe"), ("Concepto", "Cant.", "Precio unitario", "Total")),
    "it": (("Descrizione", "Quantità", "Prezzo", "Importo"), ("Articolo", "Q.tà", "Prezzo unitario", "Totale")),
    "nl": (("Omschrijving", "Aantal", "Prijs", "Bedrag"), ("Artikel", "Aantal", "Stukprijs", "Totaal")),
}
FIRMS = (
    ("Nordwind Trading Ltd.", "nordwind-trading.com"), ("Acme Components GmbH", "acme-components.de"),
    ("Harbour Supplies Inc.", "harboursupplies.com"), ("Moreau & Fils SARL", "moreau-fils.fr"),
    ("Talleres Aguirre S.L.", "talleresaguirre.es"), ("Ferrari Utensili S.r.l.", "ferrariutensili.it"),
    ("Van Dijk Techniek B.V.", "vandijktechniek.nl"), ("Blue Oak Design", "blueoakdesign.co.uk"),
    ("Kessler & Brandt", "kessler-brandt.de"), ("Studio Lumen", "studiolumen.eu"),
    ("Petersen Elektro AG", "petersen-elektro.ch"), ("Green Valley Foods LLC", "greenvalleyfoods.com"),
)  # fmt: skip
CLIENTS = (
    "Norwood Partners", "Baker Street Holdings Ltd", "Schulz Maschinenbau GmbH", "Dupont Services SAS",
    "Comercial Levante S.A.", "Officine Romano SpA", "De Boer Logistiek BV", "Jane Whitfield",
)  # fmt: skip
STREETS: dict[str, tuple[tuple[str, str], ...]] = {
    "en": (("12 Harbour Street", "Bristol BS1 4QA"), ("440 Mill Road", "Austin, TX 78701")),
    "de": (("Hauptstraße 12", "10115 Berlin"), ("Am Markt 3", "80331 München")),
    "fr": (("14 rue des Lilas", "69003 Lyon"), ("3 avenue Foch", "75016 Paris")),
    "es": (("Calle Mayor 21", "28013 Madrid"), ("Avda. del Puerto 8", "46021 Valencia")),
    "it": (("Via Garibaldi 7", "20121 Milano"), ("Corso Italia 55", "10121 Torino")),
    "nl": (("Keizersgracht 100", "1015 CX Amsterdam"), ("Dorpsstraat 5", "3011 AA Rotterdam")),
}
MONTHS = {
    "en": "January February March April May June July August September October November December",
    "de": "Januar Februar März April Mai Juni Juli August September Oktober November Dezember",
    "fr": "janvier février mars avril mai juin juillet août septembre octobre novembre décembre",
    "es": "enero febrero marzo abril mayo junio julio agosto septiembre octubre noviembre diciembre",
    "it": "gennaio febbraio marzo aprile maggio giugno luglio agosto settembre ottobre novembre dicembre",
    "nl": "januari februari maart april mei juni juli augustus september oktober november december",
}
GOODS = ("Garden hose", "Oak table", "Paper towels", "Steel brackets", "Desk lamp", "Copper wire", "Wool blanket")
TAX_IDS = ("DE136695976", "FR40303265045", "NL810433941B01", "IT00743110157", "GB980780684", "ATU33864707")
BICS = ("DEUTDEFF", "BNPAFRPP", "INGBNL2A", "UNCRITMM")
RATES = {"en": (20, 8), "de": (19, 7), "fr": (20, 10), "es": (21, 10), "it": (22, 10), "nl": (21, 9)}
WIDTH = 1240.0


@dataclass(frozen=True)
class Paper:
    """A drawn paper."""

    lines: list[dict[str, Any]]
    told: dict[str, str]
    """Field to value, as the operator should say it."""
    about: str
    """How it was drawn, for messages."""


def wide(text: str, height: float = 20.0) -> float:
    return (sum(map(len, text.split())) + 0.6 * text.count(" ")) * LETTER * height / 20


def right(x: float, y: float, text: str, height: float = 20.0) -> dict[str, Any]:
    """A line that ends at x."""
    return line(x - wide(text, height), y, text, height)


def iban(rng: random.Random) -> str:
    body = f"{rng.randrange(10**17, 10**18)}"
    check = 98 - int(f"{body}131400") % 97
    return f"DE{check:02}{body}"


class _Drawer:
    def __init__(self, seed: int, half: Half) -> None:
        self.rng = random.Random(f"{half} {seed}")
        self.half = half
        self.language = self.rng.choice(LANGUAGES)
        self.lines: list[dict[str, Any]] = []
        self.told: dict[str, str] = {}
        self.point = self.language == "en" or self.rng.random() < 0.1
        self.coin = {"en": self.rng.choice(("EUR", "USD", "GBP"))}.get(self.language, "EUR")
        self.symbol = {"EUR": "€", "USD": "$", "GBP": "£"}[self.coin]
        self.coin_at = self.rng.choice(("before", "after", "code_before", "code_after", "label", "nowhere"))
        self.date_style = self.rng.choice(("numeric", "iso", "words"))

    def label(self, name: str) -> str:
        words = LABELS[name][self.language]
        return self.rng.choice(words[0 if self.half == "dev" else 1 :: 2])

    def money(self, value: Decimal, coin: bool = False) -> str:
        text = f"{value:,.2f}"
        if not self.point:
            text = text.replace(",", " ").replace(".", ",").replace(" ", self.thousands)
        if not coin:
            return text
        forms = {"before": f"{self.symbol}{text}", "after": f"{text} {self.symbol}"}
        forms |= {"code_before": f"{self.coin} {text}", "code_after": f"{text} {self.coin}"}
        return forms.get(self.coin_at, text)

    thousands = "."

    def day(self, day: date) -> str:
        if self.date_style == "iso":
            return day.isoformat()
        if self.date_style == "numeric":
            mark = {"de": ".", "nl": "-"}.get(self.language, "/")
            form = "%m/%d/%Y" if self.coin == "USD" else "%d/%m/%Y"
            return day.strftime(form).replace("/", mark)
        month = MONTHS[self.language].split()[day.month - 1]
        return {"en": f"{month} {day.day}, {day.year}", "de": f"{day.day}. {month} {day.year}",
                "es": f"{day.day} de {month} de {day.year}"}.get(self.language, f"{day.day} {month} {day.year}")  # fmt: skip

    def put(self, x: float, y: float, text: str, height: float = 20.0) -> None:
        self.lines.append(line(x, y, text, height))

    def put_right(self, x: float, y: float, text: str) -> None:
        self.lines.append(right(x, y, text))

    # --- the parts of a paper

    def head(self) -> None:
        rng = self.rng
        firm, self.domain = rng.choice(FIRMS)
        street, city = rng.choice(STREETS[self.language])
        x = rng.choice((60, 60, 760))
        self.put(x, 60, firm, rng.choice((20, 26, 34)))
        self.put(x, 110, street)
        self.put(x, 138, city)
        self.put(60 if x > 400 else 760, 200, self.label("title"), rng.choice((28, 40)))
        self.told |= {"issuer": firm, "issuer_address": f"{street} {city}"}

    def customer(self) -> None:
        name = self.rng.choice(CLIENTS)
        street, city = self.rng.choice(STREETS[self.language])
        style = self.rng.choice(("above", "above", "same_line"))
        label = self.label("customer")
        if style == "above":
            self.put(60, 270, label + self.rng.choice(("", ":")))
            self.put(60, 298, name)
        else:
            self.put(60, 298, f"{label}: {name}")
        self.put(60, 326, street)
        self.put(60, 354, city)
        self.told["customer"] = name

    def pairs(self) -> None:
        rng = self.rng
        issued = date(2024, 1, 1) + timedelta(days=rng.randrange(700))
        due = issued + timedelta(days=rng.choice((14, 30, 45)))
        number = rng.choice((f"INV-{rng.randrange(1000, 9999)}", f"{issued.year}{rng.randrange(1000, 9999)}",
                             f"{issued.year}-{rng.randrange(100, 999)}", f"RE{rng.randrange(10_000, 99_999)}"))  # fmt: skip
        told = {"document_number": number, "issue_date": issued.isoformat()}
        said = [(self.label("document_number"), number), (self.label("issue_date"), self.day(issued))]
        if rng.random() < 0.7:
            told["due_date"] = due.isoformat()
            said.append((self.label("due_date"), self.day(due)))
        if rng.random() < 0.6:
            told["purchase_order"] = rng.choice(
                (f"PO-{rng.randrange(1000, 9999)}", f"{rng.randrange(4_500_000, 4_599_999)}")
            )
            said.append((self.label("purchase_order"), told["purchase_order"]))
        self.told |= told
        style = rng.choice(("tab", "colon", "heads"))
        colon = rng.choice(("", ":"))
        for place, (label, value) in enumerate(said):
            if style == "tab":
                self.put(700, 280 + 30 * place, label + colon)
                self.put(1010, 280 + 30 * place, value)
            elif style == "colon":
                self.put(700, 280 + 30 * place, f"{label}: {value}")
            else:
                self.put(60 + 300 * place, 420, label)
                self.put(60 + 300 * place, 448, value)

    def items(self) -> Decimal:
        rng = self.rng
        heads = rng.choice(HEADS[self.language])
        ends = (60.0, 720.0, 940.0, 1180.0)
        numbered = rng.random() < 0.3
        if numbered:
            self.put(60, 520, "Pos.")
        first = 130.0 if numbered else 60.0
        self.put(first, 520, heads[0])
        for end, text in zip(ends[1:], heads[1:], strict=True):
            self.put_right(end, 520, text)
        y, net = 560.0, Decimal(0)
        for place, good in enumerate(rng.sample(GOODS, rng.randrange(1, 6)), 1):
            count, price = rng.randrange(1, 12), Decimal(rng.randrange(150, 90_000)) / 100
            if numbered:
                self.put(60, y, str(place))
            self.put(first, y, good)
            for end, text in zip(ends[1:], (str(count), self.money(price), self.money(count * price)), strict=True):
                self.put_right(end, y, text)
            key = f"line_items[{place}]."
            self.told |= {f"{key}description": good, f"{key}quantity": str(count), f"{key}unit_price": f"{price:.2f}",
                          f"{key}amount": f"{count * price:.2f}"}  # fmt: skip
            net += count * price
            y += 36
        self.y = y + 50
        return net

    def sums(self, net: Decimal) -> str:
        rng = self.rng
        rate = rng.choice(RATES[self.language])
        tax = (net * rate / 100).quantize(Decimal("0.01"))
        self.told |= {"net": f"{net:.2f}", "tax": f"{tax:.2f}", "total": f"{net + tax:.2f}"}
        labels = {name: self.label(name) for name in ("net", "tax", "total")}
        share = f"{rate}%" if self.language in ("en", "nl") else f"{rate} %"
        shared = rng.choice(("none", "after", "brackets", "own_column", "of_base"))
        if shared == "after":
            labels["tax"] += f" {share}"
        elif shared == "brackets":
            labels["tax"] += f" ({share})"
        elif shared == "of_base":
            labels["tax"] += f" {share} ({self.money(net)})"
        if self.coin_at == "label":
            labels["total"] += rng.choice((f" {self.coin}", f" ({self.coin})", f" in {self.coin}"))
        amounts = {"net": net, "tax": tax, "total": net + tax}
        style = rng.choice(("right", "right", "left", "same_cell", "two_columns", "rate_table"))
        if style == "two_columns":  # heads above their sums
            for place, name in enumerate(amounts):
                self.put_right(500 + 330 * place, self.y, labels[name])
                self.put_right(500 + 330 * place, self.y + 32, self.money(amounts[name], coin=True))
            self.y += 32
        else:
            if style == "rate_table":  # what each rate makes, above the sums
                heads = (share, self.money(net), self.money(tax))
                for end, text in zip(
                    (180, 380, 560), ("%", labels["net"], LABELS["tax"][self.language][0]), strict=True
                ):
                    self.put_right(end, self.y, text)
                for end, text in zip((180, 380, 560), heads, strict=True):
                    self.put_right(end, self.y + 30, text)
            x = {"left": 60.0}.get(style, 640.0)
            for name, amount in amounts.items():
                colon = rng.choice(("", ":"))
                if style == "same_cell":
                    self.put(x, self.y, f"{labels[name]}{colon} {self.money(amount, coin=True)}")
                else:
                    self.put(x, self.y, labels[name] + colon)
                    self.put_right(x + 540, self.y, self.money(amount, coin=True))
                    if name == "tax" and shared == "own_column":
                        self.put(x + 250, self.y, share)
                self.y += 34
        return f"{shared} {style}"

    def foot(self) -> None:
        rng, y = self.rng, self.y + 120
        texts = []
        if self.coin_at == "nowhere":
            words = {
                "en": "All amounts in",
                "de": "Alle Beträge in",
                "fr": "Montants en",
                "es": "Importes en",
                "it": "Importi in",
                "nl": "Bedragen in",
            }
            texts.append(f"{words[self.language]} {self.coin}")
        self.told["currency"] = self.coin
        if rng.random() < 0.6:
            number, code = iban(rng), rng.choice(BICS)
            spaced = " ".join(number[i : i + 4] for i in range(0, len(number), 4))
            texts.append(f"IBAN: {rng.choice((number, spaced))}")
            texts.append(f"BIC: {code}")
            self.told |= {"iban": number, "bic": code}
        if rng.random() < 0.6:
            number = rng.choice(TAX_IDS)
            texts.append(f"{self.label('tax_id')}: {number}")
            self.told["tax_id"] = number
        if rng.random() < 0.6:
            texts.append(f"info@{self.domain}")
            self.told["email"] = f"info@{self.domain}"
        if rng.random() < 0.5:
            texts.append(f"www.{self.domain}")
        if rng.random() < 0.5:
            texts.append(f"Tel. +49 30 {rng.randrange(1_000_000, 9_999_999)}")
        for place, text in enumerate(texts):
            self.put(60 + 420 * (place % 3), y + 30 * (place // 3), text)


def invoice(seed: int, half: Half = "dev") -> Paper:
    """An invoice; the same for the same seed."""
    one = _Drawer(seed, half)
    one.head()
    one.customer()
    one.pairs()
    sums = one.sums(one.items())
    one.foot()
    if one.rng.random() < 0.3:
        one.rng.shuffle(one.lines)  # an engine's order is not always the reader's
    return Paper(one.lines, one.told, f"{half} {seed} {one.language} {one.coin_at} {one.date_style} {sums}")


CONFUSED = {"0": "O", "O": "0", "1": "l", "l": "1", "5": "S", "S": "5", "8": "B", "B": "8", "6": "b", "3": "8",
            "7": "1", "2": "Z", ".": "", ",": ".", "e": "c", "m": "rn", "i": "l", "n": "h", "ü": "u", "é": "e"}  # fmt: skip


def noisy(lines: Sequence[dict[str, Any]], seed: int, share: float = 0.01) -> list[dict[str, Any]]:
    """As an engine reads a bad scan: letters confused or lost, words of less confidence, above all the wrong ones."""
    rng = random.Random(seed)
    made = []
    for one in lines:
        words = []
        for word in one["words"]:
            text = "".join(
                (CONFUSED.get(c, "") if rng.random() < 0.8 else "") if rng.random() < share else c for c in word["text"]
            )
            sure = rng.betavariate(12, 2) if text != word["text"] else rng.betavariate(20, 1.5)
            if text:
                words.append({**word, "text": text, "confidence": round(sure, 3)})
        if words:
            text = " ".join(word["text"] for word in words)
            made.append({**one, "text": text, "words": words, "confidence": min(word["confidence"] for word in words)})
    return made
