"""What pages say in each form, and that our HTML says the same to a reader of the official pages."""

import re
from html import unescape
from html.parser import HTMLParser
from urllib.parse import unquote

import pytest

from envs.webshop import html, official, parity
from envs.webshop.engine import Session, parse
from envs.webshop.observation import render
from envs.webshop.store import ListCatalogue
from tests.envs.webshop.shops import ODD, PLAIN, PRODUCTS, SHIRT, SIGNS, TEA, goal, session

TOLD = goal().instruction
OPEN_SHIRT = ("search[shirt]", f"click[{SHIRT}]")
OPEN_TEA = ("search[tea]", f"click[{TEA}]")
OPEN_ODD = ("search[more]", f"click[{ODD}]")
VISITS = [
    (),
    ("search[thing]",),
    ("search[thing]", "click[next >]"),
    ("search[thing]", *["click[next >]"] * 3),
    ("search[nothing like it]",),
    OPEN_SHIRT,
    (*OPEN_SHIRT, "click[red]", "click[small]"),
    (*OPEN_SHIRT, "click[red]", "click[Features]"),
    (*OPEN_SHIRT, "click[Description]"),
    (*OPEN_SHIRT, "click[< prev]"),
    (*OPEN_SHIRT, "click[navy blue]", "click[one]", "click[buy now]"),
    ("search[signs]",),
    ("search[signs]", f"click[{SIGNS}]"),
    OPEN_TEA,
    (*OPEN_TEA, "click[café]"),
    (*OPEN_TEA, """click[5' x 7" <tag> & more]"""),
    (*OPEN_TEA, """click[5' x 7" <tag> & more]""", "click[buy now]"),
    (*OPEN_TEA, "click[features]"),
    (*OPEN_TEA, "click[description]"),
    OPEN_ODD,
    (*OPEN_ODD, "click[plain]"),
    (*OPEN_ODD, "click[description]"),
    (*OPEN_ODD, "click[attributes]"),
    ('search[</a><script>"x"</script> & "red" shirt /..?#]', f"click[{SHIRT}]"),
    ("search[shirt \ud800 \0 é]", f"click[{SHIRT}]", "click[red]"),
]


class OfficialReader(HTMLParser):
    """Reads a page as the official environment does with BeautifulSoup: its text nodes, and what can be clicked."""

    VOID = ("meta", "br", "input", "img")
    HIDDEN = ("style", "script", "head", "title", "meta", "[document]")

    def __init__(self, page):
        super().__init__()
        self.open, self.kept, self.nodes = [("[document]", {})], "", []
        self.ids, self.buttons, self.links, self.options = {}, [], [], []
        self.feed(page)
        self.close()
        self.flush()
        assert [tag for tag, _ in self.open] == ["[document]"], "a tag was left open"

    def flush(self):
        text, self.kept = self.kept, ""
        if text and not text.strip(" \n\t\f\r"):
            text = "\n" if "\n" in text else " "
        if text:
            tag, attributes = self.open[-1]
            self.nodes.append((tag, attributes.get("class"), text))
            for inside, those in self.open:
                if "btn" in those.get("class", "").split():
                    self.buttons.append(text)
                if those.get("class") == "product-link":
                    self.links.append(text)
                self.ids.setdefault(those.get("id"), []).append((inside, text))

    def handle_data(self, data):
        self.kept += data

    def handle_starttag(self, tag, attrs):
        self.flush()
        attributes = dict(attrs)
        if tag == "input" and attributes["type"] == "radio":
            self.options.append(attributes["value"])
        if tag in self.VOID:
            self.ids.setdefault(attributes.get("id"), [])
        else:
            self.open.append((tag, attributes))

    def handle_endtag(self, tag):
        self.flush()
        assert self.open.pop()[0] == tag

    def visible(self):
        return [node for node in self.nodes if node[0] not in self.HIDDEN and node[2] != "\n"]

    def text(self):
        return " [SEP] ".join(text.strip() for _, _, text in self.visible())

    def text_rich(self, url, visited):
        read = ""
        for tag, kind, text in self.visible():
            if tag == "button":
                line = f"[button] {text} [button_]"
            elif tag == "label":
                line = f"  [button] {text} [button_]"
                if f'"{text}"' in url:
                    line = f"  [clicked button] {text} [clicked button_]"
                    read = f"You have clicked {text}.\n{read}"
            elif kind == "product-link":
                word = "clicked button" if text in visited else "button"
                line = f"\n[{word}] {text} [{word}_]"
            else:
                line = text
            read += line + "\n"
        return read

    def available(self):
        texts = [text.lower() for text in self.buttons + self.links] + self.options
        return {"has_search_bar": "search_input" in self.ids, "clickables": list(dict.fromkeys(texts))}


def reads_officially(visit):
    """Our HTML says to the official reader what the other forms say."""
    read = OfficialReader(render(visit.view, "html"))
    assert read.text() == render(visit.view, "text")
    assert read.text_rich(render(visit.view, "url"), visit.visited) == render(visit.view, "text_rich")
    assert read.available() == {"has_search_bar": visit.page == "search", "clickables": visit.clickables}
    return read


# -- text ----------------------------------------------------------------------------------------------------------------------


def test_a_search_page_tells_what_to_find():
    assert render(session().view, "text") == f"WebShop [SEP] Instruction: [SEP] {TOLD} [SEP] Search"
    assert render(session().view, "text_rich") == f"WebShop\nInstruction: \n{TOLD}\n[button] Search [button_]\n"
    assert render(session().view, "url") == "http://127.0.0.1:3000/7"


def test_results_list_number_title_and_price_and_mark_what_was_seen():
    visit = session(*OPEN_SHIRT, "click[< prev]")
    assert render(visit.view, "text").endswith(
        f"Search [SEP] Page 1 (Total results: 1) [SEP] Next > [SEP] {SHIRT} [SEP] {PRODUCTS[0].title} [SEP] $15.0 to $20.0"
    )
    assert f"\n\n[clicked button] {SHIRT} [clicked button_]\n" in render(visit.view, "text_rich")
    assert f"\n\n[button] {SHIRT} [button_]\n" in render(session("search[shirt]").view, "text_rich")


def test_an_item_page_marks_chosen_options_and_tells_them_first_in_reverse():
    rich = render(session(*OPEN_SHIRT, "click[small]", "click[red]").view, "text_rich")
    assert rich.startswith("You have clicked small.\nYou have clicked red.\nInstruction:\n")
    assert "\ncolor\n  [clicked button] red [clicked button_]\n  [button] navy blue [button_]\n" in rich
    assert rich.endswith(
        "Rating: N.A.\n" + "".join(f"[button] {b} [button_]\n" for b in ("Description", "Features", "Reviews", "Buy Now"))
    )


def test_an_option_reads_as_clicked_if_its_value_stands_quoted_in_the_url():
    assert "[clicked button] red" in render(session('search["red" shirt]', f"click[{SHIRT}]").view, "text_rich")
    named = render(session(*OPEN_ODD, "click[blue]").view, "text_rich")  # {"color": "blue"}, and there is a value "color"
    assert named.startswith("You have clicked blue.\nYou have clicked color.\n")


def test_an_option_that_json_escapes_never_reads_as_clicked():
    for value in ("café", 'the "best"'):
        visit = session(*OPEN_TEA, f"click[{value}]")
        assert visit.options == {"flavor name": value}
        assert "clicked" not in render(visit.view, "text_rich")


def test_of_white_space_the_official_parser_keeps_one_blank_or_none_at_all():
    visit = session(*OPEN_TEA, "click[features]")  # features "", "\n", "\xa0", "sugar free", each after a blank
    assert render(visit.view, "text").endswith("< Prev [SEP]  [SEP]  [SEP] sugar free")
    assert render(visit.view, "text_rich").endswith("< Prev [button_]\n \n \xa0\n sugar free\n")
    blank = session(*OPEN_TEA, "click[description]")  # "  \n "
    empty = session("search[b0plain001]", f"click[{PLAIN}]", "click[description]")
    assert render(blank.view, "text_rich").endswith("[button] < Prev [button_]\n")
    assert render(empty.view, "text_rich") == render(blank.view, "text_rich")


def test_signs_of_html_in_the_catalogue_are_text():
    assert '[SEP] <script>alert("x")</script> &amp; more [SEP]' in render(session(*OPEN_ODD).view, "text")
    description = render(session(*OPEN_ODD, "click[description]").view, "text_rich")
    assert description.endswith("[button_]\n  spaces\n and <b>tags</b> &lt;kept&gt;  \n")


def test_urls_spell_query_and_options_as_officially():
    assert render(session("search[Two  words]").view, "url") == "http://127.0.0.1:3000/search_results/7/two++words/1"
    visit = session("search[a shirt]", f"click[{SHIRT}]", "click[navy blue]", "click[one]")
    assert (
        render(visit.view, "url")
        == f'http://127.0.0.1:3000/item_page/7/{SHIRT}/a+shirt/1/{{"color": "navy blue", "size": "one"}}'
    )
    visit.act("click[features]")
    spelt = "{'color': 'navy blue', 'size': 'one'}"
    assert render(visit.view, "url") == f"http://127.0.0.1:3000/item_sub_page/7/{SHIRT}/a+shirt/1/Features/{spelt}"
    visit.act("click[< prev]")
    visit.act("click[buy now]")
    assert render(visit.view, "url") == f"http://127.0.0.1:3000/done/7/{SHIRT}/{spelt}"


def test_the_last_page_tells_what_was_bought_and_its_score():
    visit = session(*OPEN_TEA, """click[5' x 7" <tag> & more]""", "click[buy now]")
    lines = render(visit.view, "text_rich").split("\n")
    assert lines[0] == "Thank you for shopping with us!"
    assert lines[lines.index("options") + 1] == r'{"flavor name": "5\u0027 x 7\" \u003ctag\u003e \u0026 more"}'
    assert lines[lines.index("Your score (min 0.0, max 1.0)") + 1] == str(visit.bought.total)
    assert visit.clickables == []
    several = session(*OPEN_SHIRT, "click[small]", "click[red]", "click[buy now]")
    assert '\n{"color": "red", "size": "small"}\n' in render(several.view, "text_rich")


# -- HTML ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("actions", VISITS)
@pytest.mark.parametrize("told", [TOLD, '<b>"x"</b> & &lt;', " ", "a\n\nb", ""])
def test_html_reads_like_text_to_the_official_reader(actions, told):
    read = reads_officially(session(*actions, goal=goal(instruction=told), show_attributes="attributes" in actions[-1:]))
    if actions[-1:] != ("click[buy now]",):
        heading = "".join(text for tag, text in read.ids["instruction-text"] if tag == "div")
        assert heading.replace(" ", "") == f"Instruction:{told.replace(' ', '')}"


def test_the_article_s_picture_is_on_its_page():
    assert '<img id="product-image" src="https://pictures.example/shirt.jpg"' in html.render(session(*OPEN_SHIRT).view)
    assert "<img" not in html.render(session(*OPEN_TEA).view)


def test_what_the_agent_or_the_catalogue_writes_is_never_markup():
    for actions in VISITS:
        page = html.render(session(*actions, name='"><script>').view)
        assert "<script" not in page
        assert "<tag>" not in page
        assert "<i" not in page.replace("<input", "").replace("<img", "")
        assert not re.search(r'(action|href)="[^"]*[<>]', page)


def test_chosen_options_are_checked():
    page = html.render(session(*OPEN_SHIRT, "click[red]").view)
    assert re.findall(r'value="([^"]*)" checked', page) == ["red"]
    page = html.render(session(*OPEN_ODD, "click[plain]").view)
    assert re.findall(r'name="([^"]*)" value="[^"]*" checked', page) == ["Style"]


def test_every_button_and_link_carries_its_action():
    for actions in VISITS:
        visit = session(*actions)
        page = html.render(visit.view)
        clicks = [unescape(value) for value in re.findall(r'name="action" value="(.*?)"', page)]
        clicks += [unquote(value) for value in re.findall(r'\?action=(.*?)"', page)]
        names = [parse(click)[1].lower() for click in clicks]
        options = [part.text for part in visit.view.parts if part.role == "option"]
        assert list(dict.fromkeys(names + options)) == (visit.clickables if visit.page != "search" else [])


# -- the official shop ---------------------------------------------------------------------------------------------------------


def recorded_search(episodes, catalogue):
    """A search that finds what was found when the episodes were recorded, on the pages that were looked at."""
    found = {}
    for episode in episodes:
        query = ""
        for step in episode["steps"]:
            name, argument = parse(step["action"] or "")
            if name == "search" and argument:
                query = argument.lower()
            if "/search_results/" in step["url"]:
                total = int(re.search(r"Total results: (\d+)", step["text"])[1])
                places = found.setdefault(query, [0] * total)
                first = 10 * (int(step["url"].rsplit("/", 1)[1]) - 1)
                listed = step["avail"]["clickables"]
                listed = listed[listed.index("next >") + 1 :]
                places[first : first + len(listed)] = [catalogue.index(asin.upper()) for asin in listed]
    return found.__getitem__


@pytest.mark.data
@pytest.mark.parametrize(("file", "human", "states"), [("synth", False, 805), ("human", True, 96)])
def test_every_recorded_page_is_rendered_alike_in_every_form(webshop_data, file, human, states):
    products, goals = official.read(webshop_data, human=human)
    catalogue = ListCatalogue(products)
    episodes = parity.read_recording(webshop_data / f"golden_official_1k_{file}.jsonl.gz").episodes
    search = recorded_search(episodes, catalogue)
    for episode in episodes:
        visit = Session(catalogue, search, goals[episode["goal_idx"]], str(episode["goal_idx"]))
        for number, step in enumerate(episode["steps"]):
            if number:
                outcome = visit.act(step["action"])
                assert (outcome.reward, outcome.done) == (step["reward"], step["done"])
            for mode in ("text", "text_rich", "url"):
                assert render(visit.view, mode) == step[mode]
            assert reads_officially(visit).available() == step["avail"]
            states -= 1
        assert visit.bought.parts == episode["reward_info"]
    assert states == 0
