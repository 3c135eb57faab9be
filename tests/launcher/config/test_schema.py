"""The schema: every setting is explained, and conf/ is found."""

from launcher.config.model_schema import fact, option
from launcher.config.paths import conf_dir
from launcher.config.schema import LaunchConfig
from launcher.config.text import fields


def test_every_setting_is_explained():
    for name, field in fields().items():
        assert field.metadata.get("help"), name


def test_a_fact_is_marked_and_an_option_is_not():
    assert fact(1, "x").metadata["fact"]
    assert "fact" not in option(1, "x").metadata


def test_defaults_compose_to_the_dataclass():
    assert LaunchConfig().model.name == ""
    assert (conf_dir() / "config.yaml").is_file()
