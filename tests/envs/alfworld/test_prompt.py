from envs.alfworld.env import ALFWorldEnv
from envs.alfworld.prompt import ALFWorldPrompt
from envs.alfworld.texts import BANNER
from envs.prompt import Window

ROOM = "You are in the middle of a room. Looking quickly around you, you see a bed 1."
FIRST = f"{BANNER}\n\n{ROOM}\n\nYour task is to: put a pen in bed."
ACTIONS = ["go to bed 1", "help", "inventory", "look"]


def test_the_opening_states_role_room_task_actions_and_format_but_no_banner():
    text = ALFWorldPrompt().opening(FIRST, ACTIONS)
    for part in (
        "household",
        "you see a bed 1.",
        "Your task is to: put a pen in bed.",
        "\ngo to bed 1\n",
        "<action> </action>",
    ):
        assert part in text
    assert "TextWorld" not in text


def test_help_is_never_listed():
    prompt = ALFWorldPrompt()
    assert prompt.listing(ACTIONS).splitlines()[2:] == ["go to bed 1", "inventory", "look"]
    assert prompt.listing(None) == ""


def test_the_task_is_the_words_after_your_task_is_to():
    prompt = ALFWorldPrompt()
    assert prompt.task(FIRST) == "put a pen in bed."
    assert prompt.task("You arrive at bed 1.") == ""


def test_every_task_line_of_the_environment_is_found():
    env, prompt = ALFWorldEnv(), ALFWorldPrompt()
    for task in env.tasks("eval")[:24]:
        observation, _ = env.reset(seed=0, options={"task": task})
        assert observation.endswith(f"Your task is to: {prompt.task(observation)}")
        assert len(prompt.task(observation).split()) > 3


def test_the_window_holds_task_history_and_now_in_order():
    history = [("You arrive at bed 1.", "look"), ("You are facing the bed 1.", "inventory")]
    text = ALFWorldPrompt(thinking=True).window(
        Window("put a pen in bed.", history, 5, "You are not carrying anything.", ACTIONS)
    )
    order = [
        "put a pen in bed.",
        "so far: 5",
        "last 2",
        "4. You arrive at bed 1.",
        "> look",
        "5. You are facing",
        "> inventory",
    ]
    order += ["Step 6, you see now: You are not carrying anything.", "go to bed 1", "<think> </think>"]
    places = [text.index(part) for part in order]
    assert places == sorted(places)
    assert "none of the possible actions" not in text
    assert "none of the possible actions" in ALFWorldPrompt().window(Window("x", [], 1, "y", ACTIONS, valid=False))


def test_the_window_states_the_task_once_and_no_banner():
    for step, history, now in ((0, [], FIRST), (1, [(FIRST, "look")], "You see nothing.")):
        text = ALFWorldPrompt().window(Window("put a pen in bed.", history, step, now, ACTIONS))
        assert text.count("put a pen in bed.") == 1
        assert "you see a bed 1." in text
        assert "TextWorld" not in text


def test_a_tokenizer_made_from_the_lexicon_knows_every_word_of_the_games():
    from agents.models.tokenizer import normalize, split

    prompt = ALFWorldPrompt()
    phrases, words = prompt.lexicon()
    known = {normalize(text) for text in (*phrases, *words)}
    env = ALFWorldEnv()
    for task in env.tasks("test")[:30]:
        observation, info = env.reset(seed=0, options={"task": task})
        for command in [*info["admissible_actions"], "look"]:
            if env._over:
                break
            observation, *_ = env.step(command)
            if command != "help":
                assert set(split(prompt.plain(observation), phrases)) <= known
                assert set(split(command, phrases)) <= known


def test_an_answer_is_read_from_its_tags():
    prompt = ALFWorldPrompt()
    assert prompt.parse("I go. <action> go to  bed 1 </action>") == "go to bed 1"
    assert prompt.parse("go to bed 1") is None
    assert ALFWorldPrompt(thinking=True).parse("<action>look</action>") is None
