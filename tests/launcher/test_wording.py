from launcher.wording import plural, shorten


def test_shorten_leaves_one_printable_line():
    assert shorten("a\nb\x1b[0m") == "a\\nb\\x1b[0m"
    assert shorten("x" * 300, 20) == "x" * 10 + " ... " + "x" * 10


def test_plural():
    assert [plural(count, "rank") for count in (0, 1, 2)] == ["0 ranks", "1 rank", "2 ranks"]
    assert plural(2, "process", "processes") == "2 processes"
