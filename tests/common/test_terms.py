from common.terms import is_common, terms


def test_identifiers_count_as_a_whole_and_by_their_parts():
    assert terms("max_rows") == ["max_row", "max", "row"]
    assert terms("HTTPServer") == ["httpserver", "http", "server"]
    assert set(terms("maxRows")) >= {"max", "row"}


def test_inflections_and_synonyms_are_the_same_term():
    assert terms("deployed deploying deployments") == ["deploy", "deploy", "deploy"]
    assert terms("revert") == terms("undo") == terms("roll back") == terms("rolled back")
    assert terms("shut down") == terms("stop")


def test_filler_is_no_term():
    assert terms("How do I get it to do what I want?") == []


def test_thousands_are_one_number():
    assert terms("1,000,000 rows") == terms("a million rows")


def test_letters_of_any_alphabet():
    assert terms("Größe модель 模型") == ["größe", "модель", "模型"]


def test_common_words_are_told_apart():
    assert is_common(terms("automatically")[0])
    assert not is_common(terms("Kubernetes")[0])
