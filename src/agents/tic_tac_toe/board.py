"""The board: nine characters, row by row, each X, O or . for a free cell."""

from functools import cache
from typing import Literal, TypeAlias

Mark: TypeAlias = Literal["X", "O"]
MARKS: tuple[Mark, Mark] = ("X", "O")
FREE = "."
EMPTY = FREE * 9
DRAW = "draw"
LINES = (
    *((0, 1, 2), (3, 4, 5), (6, 7, 8)),
    *((0, 3, 6), (1, 4, 7), (2, 5, 8)),
    *((0, 4, 8), (2, 4, 6)),
)


def other(mark: Mark) -> Mark:
    """Return the opponent's mark."""
    return "O" if mark == "X" else "X"


def free_cells(board: str) -> list[int]:
    """Return the cells that may be played."""
    return [cell for cell, mark in enumerate(board) if mark == FREE]


def play(board: str, cell: int, mark: Mark) -> str:
    """Return the board after a move."""
    return board[:cell] + mark + board[cell + 1 :]


def result(board: str) -> str | None:
    """Return X, O or draw; None while the game goes on."""
    for first, second, third in LINES:
        if board[first] != FREE and board[first] == board[second] == board[third]:
            return board[first]
    return None if FREE in board else DRAW


def to_move(board: str) -> Mark:
    """Return whose turn it is: X begins."""
    return "X" if board.count("X") == board.count("O") else "O"


@cache
def value(board: str) -> int:
    """Return what a board is worth to whoever is to move, with perfect play of both (negamax).

    A won board is worth one and its free cells, so that the quickest win is the best one.
    """
    if end := result(board):
        return 0 if end == DRAW else -1 - len(free_cells(board))
    mark = to_move(board)
    return max(-value(play(board, cell, mark)) for cell in free_cells(board))


def best_cell(board: str) -> int:
    """Return the first of the best cells."""
    mark = to_move(board)
    return min(free_cells(board), key=lambda cell: value(play(board, cell, mark)))


def completing_cell(board: str, mark: Mark) -> int | None:
    """Return a cell that completes three of a mark; None without one."""
    wins = (cell for cell in free_cells(board) if result(play(board, cell, mark)) == mark)
    return next(wins, None)


def draw_board(board: str) -> str:
    """Return the board as three lines, with the numbers of the free cells."""
    cells = [str(cell) if mark == FREE else mark for cell, mark in enumerate(board)]
    return "\n".join(" ".join(cells[row : row + 3]) for row in (0, 3, 6))
