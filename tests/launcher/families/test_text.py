"""How many tokens a prompt has, with the bundled model's tokenizer."""

import dataclasses

from launcher.families.text import count_tokens


def test_what_is_padded_is_counted_only_where_it_may_be_cut_off(ask):
    model = ask().config.model
    long = "red " * model.text_tokens
    short, counted = count_tokens(model, ["red dots", long])
    assert short is None
    assert counted is not None
    assert counted > model.text_tokens


def test_text_as_long_as_its_prompt_is_counted_within_the_template(ask):
    model = dataclasses.replace(ask().config.model, text="prompt")
    (plain,) = count_tokens(model, ["red dots"])
    within = dataclasses.replace(model, text_template="blue {} waves")
    assert count_tokens(within, ["red dots"]) == [plain + 2]
    assert count_tokens(dataclasses.replace(within, text_dropped=1), ["red dots"]) == [plain + 1]
    assert count_tokens(dataclasses.replace(model, text_dropped=99), ["red dots"]) == [0]


def test_without_a_tokenizer_nothing_is_counted(ask, tmp_path):
    model = dataclasses.replace(ask().config.model, text="prompt", path=str(tmp_path))
    assert count_tokens(model, ["a", "b"]) == [None, None]
