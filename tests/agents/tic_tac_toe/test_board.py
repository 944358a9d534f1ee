import pytest

from agents.tic_tac_toe import board


@pytest.mark.parametrize(
    ("cells", "end"),
    [
        (".........", None),
        ("XXX.OO...", "X"),
        ("OX.OX.O.X", "O"),
        ("X.O.XO..X", "X"),
        ("XXO.OXO..", "O"),
        ("XOXXOOOXX", "draw"),
        ("XOXXOOOX.", None),
    ],
)
def test_a_board_tells_its_result(cells, end):
    assert board.result(cells) == end


@pytest.mark.parametrize(
    ("cells", "cell", "why"),
    [
        ("XX.OO....", 2, "wins"),
        ("XX.O.....", 2, "blocks"),
        ("X...O...X", 1, "an edge, for a corner loses"),
        ("XX.OO.X..", 5, "wins rather than blocks"),
    ],
)
def test_the_best_cell(cells, cell, why):
    assert board.best_cell(cells) == cell, why


def test_perfect_play_of_both_is_a_draw():
    assert board.value(board.EMPTY) == 0


def test_a_perfect_player_loses_against_no_line_of_play():
    """Walk the whole tree: every reply of the other is tried."""

    def worst(cells, mine):
        if end := board.result(cells):
            return 0 if end == board.DRAW else 1 if end == mine else -1
        mark = board.to_move(cells)
        tried = [board.best_cell(cells)] if mark == mine else board.free_cells(cells)
        return min(worst(board.play(cells, cell, mark), mine) for cell in tried)

    assert [worst(board.EMPTY, mark) for mark in board.MARKS] == [0, 0]


def test_a_board_is_drawn_with_the_numbers_of_free_cells():
    assert board.draw_board("X...O....") == "X 1 2\n3 O 5\n6 7 8"
