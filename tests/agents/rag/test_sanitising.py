import pytest

from agents.rag.sanitising import clean, sanitise


@pytest.mark.parametrize(
    ("told", "left"),
    [
        ("<script>alert(1)</script>b", "b"),
        ('<p onclick="x()" class="y" style="z">b</p>', "<p>b</p>"),
        ('<a href="javascript:x()">b</a>', "b"),
        ('<img src="x" onerror="y()">b', "b"),
        ("<style>p{}</style><p>b</p>", "<p>b</p>"),
        ("<p>a<br>b</p>", "<p>a<br>b</p>"),
        ("a < b", "a &lt; b"),
    ],
)
def test_only_harmless_tags_are_left(told, left):
    assert clean(told) == left


def test_changed_words_are_not_taken():
    assert sanitise("<p>Nine</p>", "*Eight*") == "<p><em>Eight</em></p>\n"
    assert sanitise("<h1>Eight</h1>", "*Eight*") == "<h1>Eight</h1>"
