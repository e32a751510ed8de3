# ruff: noqa: E501 (lists of words)
"""Papers of the types that we have no real ones of, drawn by a seed from sentences in three languages; `dev` papers
take those at even places of a list, `test` papers those at odd ones."""

from __future__ import annotations

import random
from typing import Any

from tests.operators.documents.drawn import Half
from tests.operators.documents.papers import line

PARTS: dict[str, dict[str, tuple[tuple[str, ...], tuple[str, ...]]]] = {
    "letter": {
        "en": ((), ("Dear Mrs Brown,", "Dear Sir or Madam,", "Subject: our meeting", "Re: your visit", "Yours sincerely,", "Kind regards,", "Yours faithfully,", "Best wishes,", "Enclosed: one brochure", "Encl.")),
        "de": ((), ("Sehr geehrte Frau Braun,", "Sehr geehrter Herr Kern,", "Betreff: Ihr Besuch", "Ihr Schreiben vom 3. Mai", "Mit freundlichen Grüßen", "Hochachtungsvoll", "Anlage: ein Prospekt", "Anlagen")),
        "fr": ((), ("Madame, Monsieur,", "Chère Madame,", "Objet : votre visite", "Votre courrier du 3 mai", "Cordialement,", "Veuillez agréer nos salutations distinguées", "Pièce jointe", "P.J.")),
    },
    "purchase_order": {
        "en": (("Purchase Order", "PURCHASE ORDER", "Order form"), ("PO number: 4500123", "Order no. 88121", "Supplier: Acme Ltd", "Vendor: Acme Ltd", "Deliver to: Gate 4", "Ship to: Warehouse 2", "Delivery date: 3 June 2025", "Required by: 3 June 2025")),
        "de": (("Bestellung", "BESTELLUNG", "Auftrag"), ("Bestellnummer: 4500123", "Bestell-Nr. 88121", "Lieferant: Acme GmbH", "Lieferantennummer 7712", "Liefertermin: 3. Juni 2025", "Lieferdatum 03.06.2025", "Lieferanschrift: Tor 4", "Besteller: Herr Kern")),
        "fr": (("Bon de commande", "BON DE COMMANDE", "Commande"), ("Commande n° 88121", "N° de commande 4500123", "Fournisseur : Acme SARL", "Code fournisseur 7712", "Date de livraison : 3 juin 2025", "Livraison souhaitée le 3 juin", "Acheteur : M. Petit", "Livrer à : Quai 4")),
    },
    "remittance": {
        "en": (("Remittance advice", "Payment advice", "REMITTANCE ADVICE"), ("We have paid the following invoices", "This payment settles your invoices", "Payment date: 3 June 2025", "Paid on 3 June 2025", "Payment amount 812.40", "Amount paid 812.40", "Discount taken 8.12", "Bank transfer reference 8812")),
        "de": (("Zahlungsavis", "ZAHLUNGSAVIS", "Avis"), ("Wir haben überwiesen", "Unsere Überweisung begleicht", "Zahlungsdatum: 03.06.2025", "Wertstellung 03.06.2025", "Ihre Rechnung 8812", "Skonto 8,12", "Überweisung 812,40", "Zahlbetrag 812,40")),
        "fr": (("Avis de paiement", "Avis de virement", "AVIS DE PAIEMENT"), ("Date de paiement : 3 juin 2025", "Payé le 3 juin 2025", "Vos factures", "Factures réglées", "Virement 812,40", "Montant viré 812,40")),
    },
    "claim_form": {
        "en": (("Claim form", "Accident report", "Insurance claim"), ("Policy number: P-99812", "Policy no. P-99812", "Date of loss: 3 May 2025", "Date of accident: 3 May 2025", "Name of claimant", "Policyholder", "Please complete in block capitals", "Signature", "Description of loss", "Details of claim")),
        "de": (("Schadenanzeige", "Schadenmeldung", "SCHADENANZEIGE"), ("Versicherungsnummer: 99812", "Versicherungsschein-Nr. 99812", "Schadentag: 3. Mai 2025", "Unfalldatum: 3. Mai 2025", "Versicherungsnehmer", "Name des Versicherten", "Unterschrift", "Ort, Datum, Unterschrift")),
        "fr": (("Déclaration de sinistre", "DÉCLARATION DE SINISTRE", "Formulaire"), ("Numéro de police : 99812", "Police n° 99812", "Date du sinistre : 3 mai 2025", "Date de l'accident", "Assuré", "Nom de l'assuré", "Signature", "Fait à Lyon, signature")),
    },
    "identity_document": {
        "en": (("PASSPORT", "IDENTITY CARD", "Driving licence"), ("Surname", "Surname / Name", "Given names", "Date of birth 03 MAY 1990", "Nationality", "Sex F", "Place of birth UTOPIA", "Date of expiry 03 MAY 2030", "P<UTODOE<<JANE<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<", "Authority")),
        "de": (("PERSONALAUSWEIS", "REISEPASS", "Führerschein"), ("Name / Surname", "Nachname DOE", "Vornamen", "Geburtstag 03.05.1990", "Staatsangehörigkeit DEUTSCH", "Geburtsort BERLIN", "Gültig bis 03.05.2030", "Ausstellende Behörde")),
        "fr": (("PASSEPORT", "CARTE NATIONALE D'IDENTITÉ", "Permis de conduire"), ("Nom DOE", "Prénoms JANE", "Nationalité FRANÇAISE", "Date de naissance 03.05.1990", "Lieu de naissance LYON", "Sexe F")),
    },
    "other": {
        "en": (("A walk in the hills", "Lunch menu", "Minutes of the meeting"), ("Turn left at the old mill.", "Soup of the day", "Present: six members", "The next meeting is in June.")),
        "de": (("Ein Weg durch den Wald", "Mittagskarte", "Protokoll der Sitzung"), ("An der Mühle links abbiegen.", "Tagessuppe", "Anwesend: sechs Mitglieder", "Nächste Sitzung im Juni.")),
        "fr": (("Une promenade", "Carte du midi", "Compte rendu"), ("Tournez à gauche au moulin.", "Soupe du jour", "Présents : six membres", "Prochaine réunion en juin.")),
    },
}  # fmt: skip
PROSE = {
    "en": "we would like to ask you for a little more patience in the matter of the bridge",
    "de": "wir möchten Sie in der Sache der Brücke noch um ein wenig Geduld bitten",
    "fr": "nous vous prions de bien vouloir patienter encore un peu au sujet du pont",
}


def paper(kind: str, seed: int, half: Half) -> list[dict[str, Any]]:
    """The lines of a paper of a type."""
    rng = random.Random(f"{kind} {half} {seed}")
    language = rng.choice(("en", "de", "fr"))
    titles, sentences = PARTS[kind][language]
    of = 0 if half == "dev" else 1
    own, title = sentences[of::2], titles[of::2]
    texts = ["Acme Ltd", "12 Harbour Street"]
    said = rng.sample(own, rng.randrange(max(1, len(own) - 2), len(own) + 1))
    if kind in ("letter", "other"):
        said[1:1] = [PROSE[language]] * rng.randrange(2, 9)
    if kind in ("purchase_order", "remittance"):
        said += [f"Steel brackets {rng.randrange(9, 99)}.00" for _ in range(rng.randrange(1, 6))]
    lines = [line(60, 60 + 30 * place, text) for place, text in enumerate(texts)]
    if title and rng.random() < 0.85:
        lines.append(line(60, 180, rng.choice(title), rng.choice((20.0, 34.0))))
    return lines + [line(60, 260 + 40 * place, text) for place, text in enumerate(said)]
