"""Templates: what is looked for on papers of a type, as YAML; the shipped ones and those of users."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from swath.operators.documents.cells import fold
from swath.operators.documents.rules import Rule
from swath.operators.documents.shapes import pattern
from swath.schemas.errors import ConfigurationError
from swath.schemas.located import Place, model_of, place, read_yaml

SHIPPED = Path(__file__).parent / "templates"
FIELD_NAME = r"^[a-z][a-z0-9_]*$"

Type = Literal[
    "text", "identifier", "amount", "number", "date", "currency", "iban", "bic", "tax_id", "email", "phone", "website",
    "issuer", "address", "party", "line_items",
]  # fmt: skip
Phrases = dict[str, list[str]]
"""Words by language; the language is for the reader."""


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


def by_language(value: Any) -> Any:
    """A plain list of words as words of any language."""
    return {"any": value} if isinstance(value, list) else value


class FieldTemplate(_Model):
    """One field: its type, the words that stand beside it, where, and what it must look like."""

    type: Type
    strong: Phrases = {}
    """Words that mean this field and no other."""
    labels: Phrases = {}
    weak: Phrases = {}
    """Words that mean it where nothing better is found."""
    avoid: Phrases = {}
    """What stands beside these words is not this field."""
    shape: str | None = None
    """RE2 pattern that the whole value must match; the first group, where there is one, is the value."""
    where: tuple[Literal["right", "below", "anywhere"], ...] = ("right", "below")
    """Where it stands seen from its label; anywhere: its shape is enough."""
    pages: Literal["all", "first", "last"] = "all"
    required: bool = False
    """A document without it gets a row of it without a value that names the check `required`."""
    columns: Phrases = {}
    """Of line items: column to the words over it."""

    _languages = field_validator("strong", "labels", "weak", "avoid", mode="before")(by_language)

    @field_validator("shape")
    @classmethod
    def _compiles(cls, shape: str | None) -> str | None:
        if shape is not None:
            try:
                pattern(shape)
            except ConfigurationError as error:
                raise ValueError(str(error)) from None
        return shape

    @field_validator("strong", "labels", "weak", "avoid", "columns")
    @classmethod
    def _say_something(cls, phrases: Phrases) -> Phrases:
        for words in phrases.values():
            for phrase in words:
                _must_have_letters(phrase)
        return phrases

    @model_validator(mode="after")
    def _can_be_found(self) -> FieldTemplate:
        if "anywhere" in self.where and self.type in ("text", "identifier") and not self.shape:
            raise ValueError("`where: anywhere` of a text needs a `shape:`, or everything would be one")
        if self.type in ("text", "number") and not (self.strong or self.labels or self.weak or self.shape):
            raise ValueError("nothing says where it stands; give `labels:` or a `shape:` with `where: [anywhere]`")
        return self


class Template(_Model):
    """What is looked for on papers of one type."""

    type: str = Field(default="", pattern=r"^([a-z][a-z0-9_]*)?$")
    """The document type it is for; empty: every type without a template of its own."""
    extends: str | None = None
    """Name of a shipped template, or `null` to start from nothing."""
    doc: str = ""
    fields: dict[str, FieldTemplate] = {}
    other_labels: dict[Literal["amounts", "dates", "numbers"], Phrases] = {}
    arithmetic: dict[Literal["tendered", "change", "rounding"], list[str]] = {}
    checks: dict[str, Rule] = {}

    @field_validator("fields")
    @classmethod
    def _names(cls, fields: dict[str, FieldTemplate]) -> dict[str, FieldTemplate]:
        import re

        for name in fields:
            if not re.match(FIELD_NAME, name):
                raise ValueError(f"a field cannot be called {name!r}; use small letters, digits and _")
        return fields

    @field_validator("checks", mode="before")
    @classmethod
    def _rules(cls, checks: Any) -> Any:
        if isinstance(checks, dict):
            return {name: Rule.parse(text) if isinstance(text, str) else text for name, text in checks.items()}
        return checks

    @model_validator(mode="after")
    def _known_fields(self) -> Template:
        if self.extends is None:
            for name, rule in self.checks.items():
                unknown = sorted(rule.names - self.fields.keys())
                if unknown:
                    known = ", ".join(self.fields)
                    raise ValueError(f"check {name!r} reads {unknown[0]!r}, which is no field here; there are {known}")
        return self


class Words(_Model):
    """What words mean on business papers."""

    legal_forms: list[str]
    business: list[str]
    streets: list[str]
    regions: list[str]
    not_address: list[str]
    owner: list[str]
    attention: list[str]
    also_known: list[str]
    address_prefix: list[str]
    currencies: dict[str, list[str]]

    @cached_property
    def patterns(self) -> dict[str, Any]:
        lists = {name: getattr(self, name) for name in type(self).model_fields if name != "currencies"}
        return {name: any_of(phrases) for name, phrases in lists.items()}


def _must_have_letters(phrase: str) -> None:
    if not any(character.isalnum() for character in phrase):
        raise ValueError(f"the label {phrase!r} has neither letter nor digit")


def any_of(phrases: Iterable[str]) -> Any:
    """A pattern over folded text that finds any of the phrases, the longest where several begin at one place."""
    parts = []
    for phrase in phrases:
        words = phrase.replace("...", " … ").split()
        pieces = []
        for word in words:
            if word == "…":
                pieces.append(r"(?:[\pL\pN]+ +){0,3}?")
                continue
            core = fold(word.strip("*")).strip()
            core = " *".join(core.split())
            if core:
                head = r"[\pL\pN]*" if word.startswith("*") else ""
                tail = r"[\pL\pN]*" if word.endswith("*") else ""
                pieces.append(head + core + tail)
        parts.append(" *".join(pieces))
    found = "|".join(sorted(set(filter(None, parts)), key=len, reverse=True))
    return pattern(rf"\b(?:{found})" if found else r"[^\pL\pN ]", longest=True)


@cache
def words() -> Words:
    path = SHIPPED / "words.yaml"
    values, lines = read_yaml(path)
    return model_of(Words, values, path, lines)


@cache
def shipped_template(name: str) -> Template:
    """A template that comes with the package, what it extends taken in."""
    return _extended(*_read(SHIPPED / f"{name}.yaml"))


def load_templates(paths: Iterable[str]) -> dict[str, Template]:
    """Templates by document type: the shipped ones, and over them those of the given files.

    Raises ConfigurationError with file and line.
    """
    found = {"": shipped_template("default")}
    for path in sorted(SHIPPED.glob("*.yaml")):
        if path.stem not in ("words", "default", "types"):
            template = shipped_template(path.stem)
            found[template.type] = template
    for name in paths:
        template, path, lines = _read(Path(name))
        found[template.type] = _extended(template, path, lines)
    return found


def digest(paths: Iterable[str]) -> str:
    """Of the content of all templates that would be used."""
    hashed = hashlib.sha256()
    for path in [*sorted(SHIPPED.glob("*.yaml")), *map(Path, paths)]:
        hashed.update(path.read_bytes())
    return hashed.hexdigest()[:16]


def _read(path: Path) -> tuple[Template, Path, Mapping[Place, int]]:
    values, lines = read_yaml(path)
    return model_of(Template, values, path, lines), path, lines


def _extended(template: Template, path: Path, lines: Mapping[Place, int]) -> Template:
    if template.extends is None:
        return template
    if not (SHIPPED / f"{template.extends}.yaml").is_file() or template.extends in ("words", "types"):
        known = ", ".join(sorted(p.stem for p in SHIPPED.glob("*.yaml") if p.stem not in ("words", "types")))
        where = place(path, lines, ("extends",))
        raise ConfigurationError(f"{where}: there is no template {template.extends!r}; take one of {known}")
    base = shipped_template(template.extends)
    merged = template.model_copy(
        update={
            "extends": None,
            "fields": {**base.fields, **template.fields},
            "other_labels": {**base.other_labels, **template.other_labels},
            "arithmetic": {**base.arithmetic, **template.arithmetic},
            "checks": {**base.checks, **template.checks},
        }
    )
    for name, rule in template.checks.items():
        unknown = sorted(rule.names - merged.fields.keys())
        if unknown:
            raise ConfigurationError(
                f"{place(path, lines, ('checks', name))}: check {name!r} reads {unknown[0]!r}, which is no field; "
                f"there are {', '.join(merged.fields)}"
            )
    return merged
