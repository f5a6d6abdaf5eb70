"""How attributes are put, and how customers say what they want: in the official template, or as people write.

Which article, attributes, options and price limit a sentence is about is the generator's choice; here they become words.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeVar

from envs.webshop.goals import price_clause
from envs.webshop.products import NO_PRICE_LIMIT
from envs.webshop.wares import Ware

T = TypeVar("T")

ATTRIBUTES: dict[str, tuple[str, str]] = {
    # As the reward knows it: (as people say it, what a bullet adds)
    "rubber sole": ("with a rubber sole", "grips wet and dry ground"),
    "memory foam": ("with memory foam", "takes the shape of the body"),
    "arch support": ("with arch support", "less strain on long days"),
    "slip resistant": ("slip resistant", "a firm step on smooth floors"),
    "water resistant": ("water resistant", "rain rolls off"),
    "light weight": ("lightweight", "you hardly feel it"),
    "machine wash": ("machine washable", "goes in the washer and the dryer"),
    "long sleeve": ("with long sleeves", "keeps the arms warm"),
    "relaxed fit": ("in a relaxed fit", "room to move"),
    "quick drying": ("quick drying", "dry again in no time"),
    "moisture wicking": ("moisture wicking", "keeps you dry and cool"),
    "stretch fabric": ("made of stretch fabric", "moves with the body"),
    "side pockets": ("with side pockets", "keeps small things close"),
    "elastic waist": ("with an elastic waist", "fits day after day"),
    "fade resistant": ("fade resistant", "keeps its color in the sun"),
    "fragrance free": ("fragrance free", "no perfume of any kind"),
    "cruelty free": ("cruelty free", "never tested on animals"),
    "paraben free": ("paraben free", "no harsh preservatives"),
    "sulfate free": ("sulfate free", "cleans without harsh soap"),
    "sensitive skin": ("for sensitive skin", "mild enough for every day"),
    "dry skin": ("for dry skin", "gives moisture back"),
    "long lasting": ("long lasting", "lasts from morning to night"),
    "dermatologist tested": ("dermatologist tested", "checked by doctors"),
    "argan oil": ("with argan oil", "gives a healthy shine"),
    "damaged hair": ("for damaged hair", "repairs from root to tip"),
    "color safe": ("color safe", "keeps dyed hair bright"),
    "natural ingredients": ("made of natural ingredients", "nothing you cannot read"),
    "super soft": ("super soft", "gentle to the touch"),
    "wrinkle free": ("wrinkle free", "no iron needed"),
    "eco friendly": ("eco friendly", "kind to the planet"),
    "all season": ("for all seasons", "warm in winter and cool in summer"),
    "living room": ("for the living room", "looks at home beside the sofa"),
    "easy clean": ("easy to clean", "wipes down in a minute"),
    "hand made": ("hand made", "no two are alike"),
    "non slip": ("non slip", "stays where you put it"),
    "energy efficient": ("energy efficient", "saves power every hour"),
    "easy install": ("easy to install", "ready in five minutes"),
    "remote control": ("with a remote control", "works from across the room"),
    "glass shade": ("with a glass shade", "spreads a warm glow"),
    "solid wood": ("made of solid wood", "strong enough for a lifetime"),
    "easy assemble": ("easy to assemble", "all parts and tools in the box"),
    "storage space": ("with storage space", "hides what lies around"),
    "heavy duty": ("heavy duty", "built for hard work"),
    "metal frame": ("with a metal frame", "does not bend"),
    "space saving": ("space saving", "fits in a small corner"),
    "scratch resistant": ("scratch resistant", "still looks new next year"),
    "gluten free": ("gluten free", "no wheat, rye or barley"),
    "sugar free": ("sugar free", "sweet without any sugar"),
    "low sodium": ("low sodium", "only a pinch of salt"),
    "non gmo": ("non gmo", "grown from old seeds"),
    "dairy free": ("dairy free", "no milk and no butter"),
    "plant based": ("plant based", "nothing from animals"),
    "high protein": ("high in protein", "keeps you full for longer"),
    "keto friendly": ("keto friendly", "hardly any carbs"),
    "artificial flavors": ("without artificial flavors", "we add none of them"),
    "noise cancelling": ("noise cancelling", "hear only what you want"),
    "stereo sound": ("with stereo sound", "clear on both sides"),
    "hands free": ("hands free", "take calls while you drive"),
    "deep bass": ("with deep bass", "you can feel the beat"),
    "fast charging": ("fast charging", "half full in twenty minutes"),
    "wireless charging": ("with wireless charging", "no need to plug in"),
    "shock proof": ("shock proof", "survives a fall"),
    "high speed": ("high speed", "no more waiting"),
    "non stick": ("non stick", "nothing burns on"),
    "dishwasher safe": ("dishwasher safe", "any rack will do"),
    "oven safe": ("oven safe", "from the stove to the oven"),
    "heat resistant": ("heat resistant", "stays cool in your hand"),
    "microwave safe": ("microwave safe", "warm it up as it is"),
    "bpa free": ("bpa free", "safe for food and drinks"),
    "lead free": ("lead free", "checked in every batch"),
    "leak proof": ("leak proof", "no drop gets out"),
    "double wall": ("with a double wall", "keeps hot and cold for hours"),
    "easy carry": ("easy to carry", "comes with a strap"),
    "extra thick": ("extra thick", "soft under knees and elbows"),
    "easy setup": ("easy to set up", "one person can do it"),
    "wind resistant": ("wind resistant", "stands firm in a storm"),
    "uv protection": ("with uv protection", "keeps the sun out"),
    "non toxic": ("non toxic", "safe for little hands"),
    "battery powered": ("battery powered", "runs for weeks"),
    "hand painted": ("hand painted", "every piece is a little different"),
    "easy store": ("easy to store", "folds flat"),
    "acid free": ("acid free", "pages do not turn yellow"),
    "recycled paper": ("made of recycled paper", "saves trees"),
    "smudge proof": ("smudge proof", "clean hands and clean pages"),
    "chew resistant": ("chew resistant", "holds out against strong teeth"),
    "odor control": ("with odor control", "the room stays fresh"),
    "grain free": ("grain free", "easy on the stomach"),
    "dental care": ("for dental care", "clean teeth and fresh breath"),
    "hypo allergenic": ("hypo allergenic", "gentle to newborn skin"),
    "snap closure": ("with a snap closure", "opens with one hand"),
    "easy grip": ("with an easy grip", "sits well in the hand"),
    "spill proof": ("spill proof", "can be tipped over without harm"),
    "rust resistant": ("rust resistant", "can stay out in the rain"),
    "carrying case": ("with a carrying case", "all in one place"),
}


class Pick(Protocol):
    """Draws one of several values."""

    def __call__(self, values: Sequence[T], /) -> T: ...


def template(ware: Ware, attributes: Sequence[str], options: dict[str, str], limit: float) -> str:
    """The sentence of synthetic goals: `Find me {attributes} {query} with {option}: {value}, and price lower than ...`."""
    with_these = [attribute for attribute in attributes if ATTRIBUTES[attribute][0].startswith("with ")]
    for_these = [attribute for attribute in attributes if ATTRIBUTES[attribute][0].startswith("for ")]
    before = [attribute for attribute in attributes if attribute not in (*with_these, *for_these)]
    text = " ".join(["Find me", *([", ".join(before)] if before else []), ware.query])
    if with_these:
        text += f" with {', '.join(with_these)}"
    if for_these:
        text += f" for {', '.join(for_these)}"
    if options:
        text += f" with {', and '.join(f'{name}: {value}' for name, value in options.items())}"
    return text + price_clause(limit)


# -- sentences as people write them -----------------------------------------------------------------------------------------

PATTERNS = (
    # {described}: a box of gluten free crackers; {plain}: a box of crackers; {traits}: that are gluten free; {wish}: they
    # should be gluten free; {choices}: in navy, size 9; {limit}: under 30.00 dollars. Between bars stand clauses; one that
    # would have no {choices} or no {limit} is left out.
    "i am looking for {described}|{choices}|{limit}",
    "i'm looking for {described}|{choices}|{limit}",
    "i am looking for {plain} {traits}|{choices}|{limit}",
    "i'm looking for {plain} {traits}|{choices}|and {limit}",
    "i am looking to buy {described}|{limit}|{choices}",
    "i'm looking to buy {plain} {traits}|{limit}|{choices}",
    "i need {described}|{choices}|{limit}",
    "i need {plain} {traits}|{choices}|{limit}",
    "i need {plain}|{choices}|{wish}|{limit}",
    "i need to buy {described}|{choices}|{limit}",
    "i need to find {plain}|{wish}|{choices}|{limit}",
    "i want {described}|{choices}|{limit}",
    "i want {plain} {traits}|{choices}|and {limit}",
    "i want to buy {described}|{choices}|{limit}",
    "i want to buy {plain}|{limit}|{wish}|{choices}",
    "i want to order {plain} {traits}|{choices}|{limit}",
    "i would like {described}|{choices}|{limit}",
    "i would like {plain} {traits}|{limit}|{choices}",
    "i would like to find {described}|{choices}|{limit}",
    "i would like to purchase {plain} {traits}|{choices}|{limit}",
    "i'd like {described}|{limit}|preferably {choices}",
    "i'd like to get {plain}|{wish}|{choices}|{limit}",
    "find me {described}|{choices}|{limit}",
    "find {plain} {traits}|{choices}|{limit}",
    "please find me {described}|{choices}|{limit}",
    "can you find me {described}|{choices}|{limit}",
    "can you find {plain} {traits}|{choices}|and {limit}",
    "can you help me find {plain}|{wish}|{choices}|{limit}",
    "could you show me {described}|{choices}|{limit}",
    "could you look for {plain} {traits}|{choices}|{limit}",
    "show me {described}|{choices}|{limit}",
    "show me {plain}|{limit}|{wish}|{choices}",
    "get me {described}|{limit}|{choices}",
    "get me {plain} {traits}|{choices}|{limit}",
    "help me find {described}|{choices}|{limit}",
    "help me choose {plain} {traits}|{choices}|{limit}",
    "do you have {described}|{choices}|{limit}",
    "do you sell {plain} {traits}|{choices}|{limit}",
    "is there {described}|{choices}|{limit}",
    "where can i get {plain} {traits}|{choices}|{limit}",
    "{choices}|i need {described}|{limit}",
    "{limit}|i want {described}|{choices}",
    "my friend needs {described}|{choices}|{limit}",
    "my family wants {plain} {traits}|{choices}|{limit}",
    "we are out of luck without {described}|{choices}|{limit}",
    "we need {plain}|{wish}|{choices}|{limit}",
    "shopping for {described}|{choices}|{limit}",
    "looking for {plain} {traits}|{choices}|{limit}",
)
GREETINGS = ("", "", "", "", "", "", "hi, ", "hello, ", "good morning, ", "hey there, ")
LIMITS = (
    "and price lower than {} dollars",
    "for less than {} dollars",
    "for under {} dollars",
    "under {} dollars",
    "below {} dollars",
    "with a price below {} dollars",
    "costing less than {} dollars",
    "priced lower than {} dollars",
    "at less than {} dollars",
    "no more than {} dollars",
)
CHOICES = {
    "color": ("in {}", "in the color {}", "in {} color", "color {}"),
    "size": ("size {}", "in size {}", "in a size {}", "size should be {}"),
    "pack": ("in a {}", "as a {}", "{}"),
    "flavor": ("{} flavor", "with {} flavor", "in the flavor {}"),
    "scent": ("{} scent", "with a {} scent", "in the scent {}"),
    "capacity": ("holding {}", "capacity {}", "with {} capacity"),
}
_OTHER_CHOICES = ("{name} {}", "in {name} {}", "with {name} {}", "{} {name}")


def sentence(ware: Ware, attributes: Sequence[str], options: dict[str, str], limit: float, pick: Pick) -> str:
    """What a customer writes who wants an article of this type; its wording is drawn by `pick`."""
    spoken = [ATTRIBUTES[attribute][0] for attribute in attributes]
    after = [words for words in spoken if words.startswith(("with ", "without ", "for ", "in ", "made "))]
    before = [words for words in spoken if words not in after]
    many = ware.unit != "a" and ware.name.endswith("s")
    traits = [f"that {'are' if many else 'is'} {' and '.join(before)}"] if before else []
    comma = pick((", ", " and "))
    slots = {
        "described": " ".join([asked_for(ware, comma.join(before)), *([" and ".join(after)] if after else [])]),
        "plain": asked_for(ware, ""),
        "traits": " ".join([*traits, " and ".join(after)]).strip(),
        "wish": f"{'they' if many else 'it'} should be {' and '.join(spoken)}",
        "choices": comma.join(
            pick(CHOICES.get(name, _OTHER_CHOICES)).format(value, name=name) for name, value in options.items()
        ),
        "limit": "" if limit == NO_PRICE_LIMIT else pick(LIMITS).format(f"{limit:.2f}").removeprefix("and "),
    }
    missing = tuple(f"{{{slot}}}" for slot in ("choices", "limit") if not slots[slot])
    clauses = [clause for clause in pick(PATTERNS).split("|") if not (missing and clause.endswith(missing))]
    text = pick(GREETINGS) + ", ".join(clauses).format_map(slots)
    return text if pick((True, True, True, False)) else text[0].upper() + text[1:]


def asked_for(ware: Ware, adjectives: str) -> str:
    """The thing with article or unit: "an easy to clean frying pan", "a box of gluten free crackers"."""
    words = f"{adjectives} {ware.name}" if adjectives else ware.name
    if ware.unit != "a":
        return f"{ware.unit} {words}"
    return f"{'an' if words[0] in 'aeio' else 'a'} {words}"
