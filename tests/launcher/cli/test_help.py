import re
import shlex

from launcher.cli import subcommands
from launcher.cli.help import EXAMPLES, page
from launcher.cli.parser import Parser
from launcher.config.compose import Composer
from launcher.config.text import fields

COMPOSER = Composer()


def test_the_page_has_every_choice_setting_and_subcommand():
    text = page(COMPOSER, [], "", Parser())
    for name in [*COMPOSER.groups, *fields(), *subcommands.names(), "--config-dir"]:
        assert re.search(rf"(^|[\s,]){re.escape(name)}([=\s,]|$)", text, re.MULTILINE), name


def test_its_examples_are_legal_words():
    for line in EXAMPLES.splitlines():
        words = shlex.split(re.split(r" {3,}", line.strip())[0])[3:]
        options = {"-m", "plan"} & set(words)
        COMPOSER.check_words([word for word in words if word not in options], sweep="-m" in options)


def test_defaults_are_those_of_the_words_and_bad_words_do_not_matter():
    assert "steps=7 " in page(COMPOSER, ["steps=7"], "", Parser())
    assert "steps=12 " in page(COMPOSER, ["steps=x"], "", Parser())
    assert "python -m launcher plan [option" in page(COMPOSER, [], "plan", Parser())
