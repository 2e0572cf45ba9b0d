"""Makes what the ears need from a domain's source: language model, dictionary, grammar.

    python -m sts_trio.offline.domain.build

Needs pocketsphinx, whose dictionary has the pronunciations: pip install -e '.[demo]'.
The same source gives the same files, byte for byte.
"""

import random
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec

from sts_trio.offline.domain import SOURCE, Domain, ngrams, parse, phrases

# Of each phrase, this many sentences; short phrases repeat themselves, which is right: they are
# said more often.
SENTENCES = 60


class Unsayable(Exception):
    """A source that no files can be made of: one line that says why."""


def slots_of(domain: Domain) -> dict[str, list[str]]:
    """{slot: ways to say its values}"""
    return {
        name: [spoken for ways in slot.values.values() for spoken in ways]
        for name, slot in domain.slots.items()
    }


def parsed(domain: Domain) -> dict[str, list[phrases.Row]]:
    """{what is meant: its phrases}.

    Raises:
        ValueError: a phrase is malformed or names a slot that there is not.
    """
    parsed = {
        meaning: [phrases.parse(phrase) for phrase in written]
        for meaning, written in domain.phrases().items()
    }
    for rows in parsed.values():
        for name in (name for row in rows for name in phrases.slot_names(row)):
            if name not in domain.slots:
                raise ValueError(f"slot {name} is used but not defined under [slots]")
    return parsed


def sentences(domain: Domain, of_each: int = SENTENCES) -> list[list[str]]:
    """What callers may say, as lists of words; the same every time."""
    chance = random.Random(domain.name)
    slots = slots_of(domain)
    return [
        sentence
        for rows in parsed(domain).values()
        for row in rows
        for _ in range(of_each)
        if (sentence := phrases.say(row, slots, chance))
    ]


def vocabulary(domain: Domain) -> list[str]:
    """Every word that can be heard, sorted."""
    written = [
        word for rows in parsed(domain).values() for row in rows for word in phrases.words(row)
    ]
    spoken = [word for ways in slots_of(domain).values() for way in ways for word in way.split()]
    return sorted({*written, *spoken})


def dictionary(domain: Domain, pronunciations: Iterable[str]) -> list[str]:
    """The lines of `pronunciations` that the domain needs: `word PH ON EMES`, `word(2) ...`.

    Raises:
        ValueError: a word has none.
    """
    wanted = set(vocabulary(domain))
    lines = [
        line for line in pronunciations if line.split(maxsplit=1)[0].partition("(")[0] in wanted
    ]
    missing = wanted - {line.split()[0] for line in lines}
    if missing:
        raise ValueError(
            f"no pronunciation is known of {', '.join(sorted(missing))}: use other words"
        )
    return sorted(lines)


def grammar(domain: Domain) -> list[str]:
    """The phrases as JSGF, one public rule, for recognisers that go by a grammar."""
    meanings = domain.phrases()
    rules = [f"public <said> = {' | '.join(f'<{meaning}>' for meaning in meanings)};"]
    rules += [f"<{meaning}> = {' | '.join(written)};" for meaning, written in meanings.items()]
    rules += [f"<{name}> = {' | '.join(ways)};" for name, ways in slots_of(domain).items()]
    return ["#JSGF V1.0;", f"grammar {domain.name.replace('-', '_')};", *rules]


def build(source: Path, pronunciations: Callable[[], str]) -> list[Path]:
    """Writes the three files beside the source, and tells which.

    Raises:
        Unsayable: the source has a mistake.
        OSError: a file cannot be read or written.
    """
    try:
        domain = parse(source.read_bytes())
        made = {
            ".lm": ngrams.Model(sentences(domain)).arpa(),
            ".dict": dictionary(domain, pronunciations().splitlines()),
            ".gram": grammar(domain),
        }
    except (msgspec.MsgspecError, ValueError) as exc:
        raise Unsayable(f"{source}: {exc}") from exc
    written = []
    for suffix, lines in made.items():
        path = source.with_suffix(suffix)
        path.write_text("\n".join([*lines, ""]), "utf-8")
        written.append(path)
    return written


def main(source: Path = SOURCE) -> None:
    try:
        import pocketsphinx
    except ImportError:
        sys.exit("pocketsphinx is missing: pip install -e '.[demo]'")
    known = Path(pocketsphinx.get_model_path("en-us/cmudict-en-us.dict"))
    try:
        for path in build(source, lambda: known.read_text("utf-8")):
            print(path)
    except (Unsayable, OSError) as exc:
        sys.exit(str(exc))


if __name__ == "__main__":
    main()
