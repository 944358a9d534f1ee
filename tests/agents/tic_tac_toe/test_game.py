"""Games through ADK's Runner, with the real agents, tools, callbacks and sessions."""

import asyncio
import json
import re
from collections import Counter

import pytest
from google.adk.apps import App
from google.adk.sessions import InMemorySessionService
from google.adk.sessions.sqlite_session_service import SqliteSessionService

from agents.running import event_text, run
from agents.tic_tac_toe import agent, board
from inference.errors import AgentError

NO_MODELS = {"X": None, "O": None}


def game_app(models=NO_MODELS, styles=None, **options) -> App:
    styles = styles or {"X": "perfect", "O": "random"}
    return App(name="tic_tac_toe", root_agent=agent.create_game(models, styles, **options))


def replay(moves) -> str:
    """Play moves on a board; fails if one is not on a free cell or not of whose turn it is."""
    cells = board.EMPTY
    for move in moves:
        assert move["mark"] == board.to_move(cells)
        assert move["cell"] in board.free_cells(cells)
        cells = board.play(cells, move["cell"], move["mark"])
    return cells


def play_many(styles, games: int) -> list[dict]:
    """Return the state after each of some games."""

    async def play():
        app = game_app(styles=styles, silent=True)
        runs = (run(app, "play", state={"seed": seed}) for seed in range(games))
        return [(await one).state for one in runs]

    return asyncio.run(play())


@pytest.mark.integration
@pytest.mark.parametrize(
    ("styles", "lost"),
    [({"X": "perfect", "O": "random"}, "O"), ({"X": "random", "O": "perfect"}, "X")],
)
def test_a_perfect_player_never_loses_to_the_random_one(styles, lost):
    """100 games from each side, the commentator silent."""
    ends = play_many(styles, 100)
    assert Counter(end["result"] for end in ends)[lost] == 0
    assert all(board.result(end["board"]) == end["result"] for end in ends)
    # the same game a hundred times would prove little
    assert len({end["board"] for end in ends}) > 10


def test_two_perfect_players_draw():
    ends = play_many({"X": "perfect", "O": "perfect"}, 2)
    assert [end["result"] for end in ends] == ["draw", "draw"]


def test_rules_without_tools_play_on_too(talk):
    told = talk(game_app(styles={"X": "unaided", "O": "perfect"}), "play")
    assert told.state["result"] == "draw"
    assert {name for name, _ in told.calls} == {"best_move"}


def test_the_tournament_plays_remarks_and_keeps_the_score(talk):
    sessions, events = InMemorySessionService(), []
    app = App(name="tic_tac_toe", root_agent=agent.create_tournament())
    first = talk(app, "Let us play a game!", sessions=sessions, on_event=events.append)
    moves = first.state["moves"]
    assert replay(moves) == first.state["board"]
    remarks = [event_text(event) for event in events if event.author == "commentator"]
    assert len(remarks) == len(moves)
    assert all(re.match(r"[XO] |The board is full", remark) for remark in remarks)
    second = talk(app, "Another game, please", sessions=sessions)
    assert second.state["game"] == 2
    told = talk(app, "What is the score?", sessions=sessions)
    assert told.calls == [("tally", {})]
    score = second.state["score"]
    assert sum(score.values()) == 2
    assert told.text == f"Score so far: X {score['X']}, O {score['O']}, draw {score['draw']}."
    assert talk(app, "Good morning").text.startswith("Say `play`")


def test_sessions_never_share_a_board():
    """Two users play at once, against the same agents."""

    async def both():
        sessions, app = InMemorySessionService(), game_app()
        seeds = {"ann": 1, "bob": 2}
        runs = [
            run(app, "play", user=user, sessions=sessions, state={"seed": seed})
            for user, seed in seeds.items()
        ]
        return await asyncio.gather(*runs)

    def alone(seed):
        return asyncio.run(run(game_app(), "play", state={"seed": seed})).state["moves"]

    def cells(moves):
        return [move["cell"] for move in moves]

    together = asyncio.run(both())
    assert [one.state["game"] for one in together] == [1, 1]
    for told, seed in zip(together, (1, 2), strict=True):
        assert replay(told.state["moves"]) == told.state["board"]
        assert cells(told.state["moves"]) == cells(alone(seed))
    assert together[0].state["board"] != together[1].state["board"]


def test_an_unfinished_game_goes_on_from_the_store(tmp_path, scripted):
    """O's model breaks down at its second move; another process goes on from the same file."""
    file = str(tmp_path / "sessions.db")
    asked = []

    def breaks(request):
        asked.append(request)
        if len(asked) > 1:
            raise AgentError("no more")
        cell = re.search(r"free cell: (\S{9})", str(request.config.system_instruction))[1].index(
            "."
        )
        return {"cell": cell}

    with pytest.raises(AgentError, match="no more"):
        asyncio.run(
            run(
                game_app({"X": None, "O": scripted(breaks)}),
                "play",
                sessions=SqliteSessionService(file),
            )
        )
    events = []
    told = asyncio.run(
        run(game_app(), "go on", sessions=SqliteSessionService(file), on_event=events.append)
    )
    assert [move["cell"] for move in told.state["moves"][:3]] == [0, 1, 3]
    assert replay(told.state["moves"]) == told.state["board"]
    assert told.state["game"] == 1
    assert "begins" not in "".join(event_text(event) for event in events)
    assert sum(told.state["score"].values()) == 1


BAD = {
    "taken": {"cell": 0},
    "outside": {"cell": 9},
    "not a number": {"cell": "the middle"},
    "without a cell": {"reason": "I win"},
    "long-winded": {"cell": 4, "reason": "because " * 100},
    "prose": "I take the middle, of course.",
    "1 MB": "4" * 1_000_000,
    "half of it": '{"cell": 4, "reas',
    "a list": "[4]",
    "nothing": "",
    "not even that": None,
    "a tool that is not there": ("cheat", {"cell": 4}),
}


def answer_with(bad, *, native, results):
    """Ask for a random cell, and answer with something else than it returns."""

    def reply(request):
        if "random_move" not in results(request):
            return ("random_move", {})
        if isinstance(bad, dict) and not native:
            return ("set_model_response", bad)
        return bad

    return reply


@pytest.mark.parametrize("native", [True, False], ids=["JSON", "set_model_response"])
@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
def test_bad_moves_are_mended_and_counted(bad, native, scripted, results, talk):
    model = scripted(answer_with(bad, native=native, results=results), native=native)
    told = talk(game_app({"X": None, "O": model}, silent=True), "play")
    state = told.state
    assert replay(state["moves"]) == state["board"]
    assert state["result"] == "X"
    by_o = [move for move in state["moves"] if move["mark"] == "O"]
    assert state["mended"] == {"O": len(by_o)}
    assert all(move["reason"].startswith("mended: the model said ") for move in by_o)


@pytest.mark.parametrize("native", [True, False], ids=["JSON", "set_model_response"])
def test_good_moves_are_left_alone(native, scripted, results, talk):
    def reply(request):
        if "random_move" not in results(request):
            return ("random_move", {})
        move = {"cell": results(request)["random_move"]["cell"], "reason": "by chance"}
        return move if native else ("set_model_response", move)

    told = talk(game_app({"X": None, "O": scripted(reply, native=native)}, silent=True), "play")
    assert told.state["mended"] == {}
    assert {move["reason"] for move in told.state["moves"]} == {"best_move says so", "by chance"}


@pytest.mark.parametrize("native", [True, False], ids=["JSON", "set_model_response"])
def test_a_player_that_calls_tools_for_ever_is_stopped(native, scripted, talk):
    model = scripted(("best_move", {}), native=native)
    told = talk(game_app({"X": None, "O": model}, silent=True), "play")
    by_o = [move for move in told.state["moves"] if move["mark"] == "O"]
    assert told.state["mended"] == {"O": len(by_o)}
    assert "4 tools, and no move" in by_o[0]["reason"]


def test_an_answer_beside_a_tool_counts(scripted, talk):
    """A model may ask for a tool and answer in one breath."""
    from google.adk.models import LlmResponse  # noqa: PLC0415 - here alone
    from google.genai import types  # noqa: PLC0415

    class Both(type(scripted(""))):
        async def generate_content_async(self, llm_request, **_):
            cells = re.search(r"free cell: (\S{9})", str(llm_request.config.system_instruction))[1]
            calls = [("random_move", {}), ("set_model_response", {"cell": cells.rindex(".")})]
            parts = [types.Part.from_function_call(name=name, args=args) for name, args in calls]
            yield LlmResponse(content=types.Content(role="model", parts=parts))

    model = Both(reply=json.dumps, native=False)
    told = talk(game_app({"X": None, "O": model}, silent=True), "play")
    assert told.state["mended"] == {}
    assert [move["cell"] for move in told.state["moves"]][1] == 8


@pytest.mark.integration
def test_each_player_has_its_own_model_and_style(monkeypatch):
    monkeypatch.setenv("PLAYER_O", "ollama_chat/qwen3")
    monkeypatch.setenv("STYLE_X", "unaided")
    players = agent.create_tournament().sub_agents[0].players
    assert players["X"].model.model == "embedded/rules (rules, not an LLM)"
    assert "Style: unaided" in players["X"].instruction
    assert players["O"].model.model == "ollama_chat/qwen3"
    assert "Style: random" in players["O"].instruction
    monkeypatch.setenv("STYLE_O", "brave")
    with pytest.raises(AgentError, match="STYLE_O: expected one of perfect, random, unaided"):
        agent.create_tournament()
