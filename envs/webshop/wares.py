"""What the generated shop sells: departments, types of product, attributes, options and words, all of them invented.

Tables only; `generator` draws articles from them, and how attributes and wishes are put stands in `wording`. Words are few on
purpose, so that a small model can learn them. The reward's fuzzy comparison tells the values of an option apart, and no value
contains a color's name by accident, which the reward would take for that color.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Ware:
    """A type of product, from which many articles are made."""

    query: str
    department: str
    category: str
    unit: str
    """How one asks for it: "a", or "a pair of" and the like where the query stands as it is."""
    prices: tuple[float, float]
    """Dollars, from the cheap to the dear."""
    attributes: tuple[str, ...]
    materials: tuple[str, ...]
    uses: tuple[str, ...]
    """What or whom it is for."""
    options: dict[str, tuple[str, ...]]

    @property
    def name(self) -> str:
        """What one article is called: "desk lamp", but "running shoes"."""
        return self.query.removesuffix("s") if self.unit == "a" else self.query


def _words(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(","))


_HEADS = _words("Arb, Bren, Corv, Drel, Elk, Fald, Gorm, Hest, Ilv, Jort, Kelm, Lund")
_MIDDLES = _words("an, ar, el, em, in, ir, ol, om, un, ur, av, ev, ov, az, ez, oz, ad, ed, id, od")
_TAILS = _words("aby, eno, ika, orro, umi, andel, esk, iwen, olt, yra")
BRANDS = tuple(head + tail for head in _HEADS for tail in _TAILS)
MORE_BRANDS = tuple(head + middle + tail for head in _HEADS for middle in _MIDDLES for tail in _TAILS)
"""For articles beyond the default shop's, which would otherwise repeat the same few brands by the thousand."""

LOOKS = _words("classic, premium, everyday, original, deluxe, popular, essential, trusted")

_NOT_NOUNS = """
all allergenic and artificial assemble based cancelling carry carrying classic clean cordless damaged deep deluxe
dental double dry drying easy eco efficient elastic essential everyday extra fast for free friendly from frying ground
heavy herbal high hooded hypo install lasting living long low mixed natural non original painted popular portable
powered premium proof quick recycled relaxed resistant safe saving sectional sensitive sippy soft solid spiral sticky
store stretch super tested thick toxic trusted wicking wireless
"""
NOT_NOUNS = frozenset(_NOT_NOUNS.split())
"""Words of titles that are no nouns; all others are."""

_COLORS = "black, white, grey, navy, red, green, beige, pink"
_FINISHES = "black, white, oak, walnut, espresso, grey"
_SIZES = "xs, s, m, l, xl, xxl"
_PACKS = "1 pack, 2 pack, 3 pack, 4 pack, 6 pack"
_OUNCES = "2 oz, 4 oz, 8 oz, 16 oz"
_STYLES = "modern, vintage, industrial, farmhouse, coastal"
_THREE = "small, medium, large"


def _group(
    department: str,
    shelf: str,
    attributes: str,
    materials: str,
    uses: str,
    options: dict[str, str],
    *types: tuple[str, str, str, float, float],
) -> list[Ware]:
    """Types (query, unit, section, cheap, dear) with the same traits; `shelf` is the most general part of their category."""
    values = {name: _words(text) for name, text in options.items()}
    return [
        Ware(
            query,
            department,
            " › ".join((shelf, section, query.title())),  # noqa: RUF001 - the sign that the reward splits at
            unit,
            (cheap, dear),
            _words(attributes),
            _words(materials),
            _words(uses),
            values,
        )
        for query, unit, section, cheap, dear in types
    ]


# fmt: off
WARES: tuple[Ware, ...] = (
    *_group(
        "fashion", "Clothing, Shoes & Jewelry",
        "rubber sole, memory foam, arch support, slip resistant, water resistant, light weight",
        "leather, suede, mesh, canvas", "women, men, kids",
        {"color": _COLORS, "size": "6, 7, 8, 9, 10, 11", "width": "narrow, regular, wide"},
        ("running shoes", "a pair of", "Athletic Shoes", 35, 110), ("hiking boots", "a pair of", "Outdoor Shoes", 45, 150),
        ("ankle boots", "a pair of", "Boots", 35, 120), ("house slippers", "a pair of", "Slippers", 12, 40),
    ),
    *_group(
        "fashion", "Clothing, Shoes & Jewelry",
        "machine wash, long sleeve, quick drying, moisture wicking, stretch fabric, side pockets",
        "cotton, linen, wool, fleece", "women, men, kids",
        {"color": _COLORS, "size": _SIZES, "style": "plain, striped, plaid, floral"},
        ("dress shirts", "a", "Shirts", 18, 60), ("hooded sweatshirts", "a", "Hoodies", 20, 65),
        ("winter jackets", "a", "Coats", 45, 160),
    ),
    *_group(
        "fashion", "Clothing, Shoes & Jewelry",
        "machine wash, elastic waist, relaxed fit, moisture wicking, stretch fabric, side pockets",
        "cotton, spandex, nylon, fleece", "women, men, gym",
        {"color": _COLORS, "size": _SIZES, "length": "short, regular, long"},
        ("yoga leggings", "a pair of", "Activewear", 15, 50), ("jogger pants", "a pair of", "Pants", 18, 55),
    ),
    *_group(
        "beauty", "Beauty & Personal Care",
        "fragrance free, cruelty free, paraben free, sensitive skin, dry skin, long lasting, dermatologist tested",
        "aloe, shea, oat, coconut", "women, men, travel",
        {"scent": "lavender, rose, citrus, mint, vanilla", "size": _OUNCES, "pack": _PACKS},
        ("face moisturizers", "a", "Face Care", 9, 40), ("body lotions", "a", "Body Care", 7, 28),
        ("lip balms", "a", "Lip Care", 4, 15), ("hand creams", "a", "Hand Care", 5, 22),
    ),
    *_group(
        "beauty", "Beauty & Personal Care",
        "sulfate free, paraben free, cruelty free, argan oil, damaged hair, color safe, natural ingredients",
        "aloe, keratin, honey, coconut", "women, men, salon",
        {"scent": "lavender, rose, citrus, mint, vanilla", "size": _OUNCES, "pack": _PACKS},
        ("hair shampoos", "a", "Hair Wash", 8, 30), ("hair conditioners", "a", "Hair Wash", 8, 30),
        ("hair masks", "a", "Hair Treatments", 10, 38),
    ),
    *_group(
        "home", "Home & Living",
        "machine wash, super soft, wrinkle free, fade resistant, eco friendly, all season",
        "cotton, linen, bamboo, fleece", "bedroom, guests, kids",
        {"color": _COLORS, "size": "twin, full, queen, king", "style": "plain, striped, plaid, floral"},
        ("bed sheets", "a set of", "Bedding", 22, 80), ("throw blankets", "a", "Blankets", 18, 60),
        ("duvet covers", "a", "Bedding", 25, 90),
    ),
    *_group(
        "home", "Home & Living",
        "machine wash, fade resistant, easy clean, hand made, non slip, living room",
        "cotton, wool, jute, velvet", "bedroom, office, hallway",
        {"color": _COLORS, "size": _THREE, "style": _STYLES},
        ("area rugs", "a", "Rugs", 30, 200), ("window curtains", "a pair of", "Curtains", 18, 70),
        ("throw pillows", "a", "Pillows", 12, 40),
    ),
    *_group(
        "home", "Home & Living",
        "energy efficient, easy install, remote control, glass shade, living room, easy assemble",
        "brass, bronze, ceramic, metal", "bedroom, office, hallway",
        {"color": "black, white, gold, silver, copper", "style": _STYLES, "height": "short, medium, tall"},
        ("table lamps", "a", "Lamps", 22, 90), ("floor lamps", "a", "Lamps", 40, 160),
        ("wall sconces", "a", "Wall Lights", 25, 95),
    ),
    *_group(
        "furniture", "Furniture",
        "solid wood, easy assemble, storage space, heavy duty, metal frame, scratch resistant, living room",
        "pine, maple, bamboo, steel", "bedroom, hallway, apartment",
        {"color": _FINISHES, "style": _STYLES, "size": _THREE},
        ("console tables", "a", "Tables", 90, 420), ("coffee tables", "a", "Tables", 80, 400),
        ("tv stands", "a", "Media", 110, 480),
        ("night stands", "a", "Bedroom", 60, 220), ("bookcases", "a", "Storage", 70, 350),
    ),
    *_group(
        "furniture", "Furniture",
        "easy assemble, easy clean, heavy duty, metal frame, space saving, memory foam",
        "leather, velvet, linen, mesh", "office, kitchen, apartment",
        {"color": _COLORS, "style": _STYLES, "height": "short, medium, tall"},
        ("office chairs", "a", "Chairs", 90, 380), ("bar stools", "a", "Stools", 60, 240),
        ("sectional sofas", "a", "Sofas", 480, 1250),
    ),
    *_group(
        "grocery", "Grocery & Gourmet Food",
        "sugar free, gluten free, dairy free, non gmo, plant based, keto friendly",
        "almond, oat, honey, coconut", "breakfast, office, guests",
        {"flavor": "vanilla, hazelnut, caramel, cinnamon, pumpkin", "size": _OUNCES, "pack": _PACKS},
        ("ground coffee", "some", "Coffee", 8, 32), ("herbal tea", "a box of", "Tea", 5, 20),
        ("protein powders", "a", "Nutrition", 18, 60), ("granola bars", "a box of", "Bars", 6, 25),
        ("cookies", "a box of", "Baked Goods", 5, 22),
    ),
    *_group(
        "grocery", "Grocery & Gourmet Food",
        "gluten free, low sodium, non gmo, high protein, artificial flavors, dairy free",
        "sea salt, olive oil, corn oil", "lunch, parties, guests",
        {"flavor": "cheddar, barbecue, garlic, onion, jalapeno", "size": _OUNCES, "pack": _PACKS},
        ("potato chips", "a bag of", "Chips", 4, 20), ("crackers", "a box of", "Baked Snacks", 4, 18),
        ("popcorn", "a bag of", "Corn Snacks", 4, 18), ("mixed nuts", "a bag of", "Nuts", 8, 30),
    ),
    *_group(
        "electronics", "Electronics",
        "noise cancelling, stereo sound, hands free, deep bass, fast charging, water resistant",
        "aluminum, silicone, plastic, leather", "travel, gym, office",
        {"color": _COLORS, "connection": "cable, usb, radio", "size": _THREE},
        ("wireless headphones", "a pair of", "Headphones", 25, 180), ("portable speakers", "a", "Speakers", 20, 140),
        ("sound bars", "a", "Home Audio", 60, 250),
    ),
    *_group(
        "electronics", "Electronics",
        "fast charging, wireless charging, high speed, easy carry, heavy duty, light weight",
        "aluminum, silicone, nylon, carbon", "travel, car, office",
        {"color": _COLORS, "model": "mini, plus, max", "pack": _PACKS},
        ("charging cables", "a", "Cables", 6, 25), ("power banks", "a", "Power", 18, 70),
        ("wall chargers", "a", "Power", 10, 40),
    ),
    *_group(
        "electronics", "Electronics",
        "shock proof, scratch resistant, wireless charging, easy install, light weight, non slip",
        "leather, silicone, plastic, carbon", "travel, women, kids",
        {"color": _COLORS, "model": "mini, plus, max", "style": "plain, striped, plaid, floral"},
        ("phone cases", "a", "Phones", 8, 35), ("tablet cases", "a", "Tablets", 14, 55),
    ),
    *_group(
        "kitchen", "Kitchen & Dining",
        "non stick, dishwasher safe, oven safe, heat resistant, easy clean, heavy duty",
        "steel, iron, ceramic, copper", "camping, families, induction",
        {"color": "black, grey, red, green, silver", "size": "6 inch, 8 inch, 10 inch", "pack": _PACKS},
        ("frying pans", "a", "Pans", 18, 80), ("sauce pans", "a", "Pans", 20, 85), ("baking sheets", "a", "Bakeware", 10, 40),
    ),
    *_group(
        "kitchen", "Kitchen & Dining",
        "bpa free, dishwasher safe, microwave safe, lead free, leak proof, double wall",
        "glass, steel, ceramic, bamboo", "office, school, travel",
        {"color": _COLORS, "capacity": "12 oz, 20 oz, 34 oz", "pack": _PACKS},
        ("coffee mugs", "a", "Mugs", 8, 30), ("water bottles", "a", "Bottles", 10, 40), ("storage jars", "a", "Storage", 9, 38),
    ),
    *_group(
        "sports", "Sports & Outdoors",
        "non slip, extra thick, easy carry, easy clean, eco friendly, non toxic",
        "rubber, cork, foam, cotton", "beginners, women, home",
        {"color": _COLORS, "size": _THREE, "level": "beginner, advanced, expert"},
        ("yoga mats", "a", "Fitness", 15, 70), ("exercise balls", "a", "Fitness", 12, 45),
        ("resistance bands", "a set of", "Training", 9, 40),
    ),
    *_group(
        "sports", "Sports & Outdoors",
        "water resistant, wind resistant, uv protection, easy setup, easy carry, light weight",
        "nylon, canvas, polyester, mesh", "families, hiking, beach",
        {"color": "green, navy, grey, red, orange, khaki", "size": _THREE, "season": "summer, winter, spring"},
        ("camping tents", "a", "Camping", 60, 260), ("sleeping bags", "a", "Camping", 30, 130),
        ("camping chairs", "a", "Chairs", 22, 80),
        ("hiking backpacks", "a", "Packs", 30, 120),
    ),
    *_group(
        "toys", "Toys & Games",
        "non toxic, eco friendly, hand painted, easy store, easy clean, bpa free",
        "wood, plastic, cardboard, foam", "toddlers, boys, girls",
        {"theme": "farm, ocean, jungle, space, castle", "color": "red, blue, green, yellow, pink", "size": _THREE},
        ("building blocks", "a set of", "Building Toys", 12, 60), ("board games", "a", "Games", 12, 45),
        ("jigsaw puzzles", "a", "Puzzles", 8, 30), ("toy trucks", "a", "Vehicles", 9, 45),
        ("craft kits", "a", "Crafts", 10, 40),
    ),
    *_group(
        "office", "Office Products",
        "acid free, recycled paper, smudge proof, easy carry, eco friendly, heavy duty",
        "cardboard, bamboo, cork, leather", "school, students, teachers",
        {"color": _COLORS, "pack": _PACKS, "lines": "ruled, dotted, blank"},
        ("spiral notebooks", "a", "Paper", 5, 22), ("sketch books", "a", "Drawing", 6, 28),
        ("sticky notes", "a set of", "Paper", 4, 16),
    ),
    *_group(
        "office", "Office Products",
        "space saving, easy assemble, easy clean, non slip, heavy duty, scratch resistant",
        "steel, wood, leather, mesh", "school, home, teachers",
        {"color": _FINISHES, "size": _THREE, "style": _STYLES},
        ("desk organizers", "a", "Organizers", 10, 45), ("desk pads", "a", "Organizers", 8, 30),
        ("file cabinets", "a", "Storage", 60, 220),
    ),
    *_group(
        "pets", "Pet Supplies",
        "machine wash, memory foam, non slip, chew resistant, odor control, water resistant",
        "fleece, cotton, canvas, suede", "puppies, home, travel",
        {"color": _COLORS, "size": _THREE, "shape": "round, square, oval"},
        ("dog beds", "a", "Dogs", 20, 95), ("cat beds", "a", "Cats", 18, 70), ("dog mats", "a", "Dogs", 12, 40),
    ),
    *_group(
        "pets", "Pet Supplies",
        "grain free, high protein, dental care, artificial flavors, natural ingredients, non gmo",
        "rice, pumpkin, oat, carrot", "puppies, seniors, training",
        {"flavor": "beef, chicken, salmon, turkey, lamb", "size": _OUNCES, "pack": _PACKS},
        ("dog treats", "a bag of", "Dogs", 5, 25), ("cat treats", "a bag of", "Cats", 4, 20),
    ),
    *_group(
        "baby", "Baby Products",
        "machine wash, super soft, hypo allergenic, snap closure, eco friendly, all season",
        "cotton, muslin, bamboo, fleece", "boys, girls, newborns",
        {"color": _COLORS, "theme": "farm, ocean, jungle, space, castle", "pack": _PACKS},
        ("baby blankets", "a", "Nursery", 12, 45), ("crib sheets", "a", "Nursery", 10, 35),
        ("baby bibs", "a set of", "Feeding", 8, 28),
    ),
    *_group(
        "baby", "Baby Products",
        "bpa free, leak proof, spill proof, easy grip, dishwasher safe, microwave safe",
        "glass, silicone, plastic, steel", "toddlers, travel, newborns",
        {"color": _COLORS, "capacity": "5 oz, 8 oz, 12 oz", "pack": _PACKS},
        ("baby bottles", "a", "Feeding", 7, 32), ("sippy cups", "a", "Feeding", 6, 24),
    ),
    *_group(
        "tools", "Tools & Home Improvement",
        "heavy duty, battery powered, easy grip, water resistant, long lasting, carrying case",
        "steel, rubber, aluminum, carbon", "garage, beginners, car",
        {"color": "red, blue, green, yellow, black, orange", "size": _THREE, "pack": _PACKS},
        ("cordless drills", "a", "Power Tools", 40, 170), ("led flashlights", "a", "Lights", 9, 45),
    ),
    *_group(
        "tools", "Tools & Home Improvement",
        "heavy duty, easy grip, rust resistant, light weight, easy carry, scratch resistant",
        "steel, rubber, nylon, canvas", "garage, beginners, car",
        {"color": "red, blue, green, yellow, black, orange", "size": _THREE, "grade": "home, trade, expert"},
        ("tape measures", "a", "Measuring", 7, 28), ("screwdrivers", "a", "Hand Tools", 7, 35),
        ("tool bags", "a", "Tool Storage", 18, 75),
    ),
)
# fmt: on

OF_QUERY = {ware.query: ware for ware in WARES}
