"""The table of what each model does is current, and names only what is shown."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import pipelines
import tasks_table
import twins

from launcher.families.tasks import tasks


def test_the_table_is_current():
    """`python tests/families/tasks_table.py` writes it."""
    assert f"{tasks_table.BEGIN}\n{tasks_table.table()}\n{tasks_table.END}" in tasks_table.TABLE.read_text()


def test_it_names_what_has_a_twin_and_is_a_task():
    known = {"flux_tiny", *twins.FACTS, *pipelines.PIPELINES, *pipelines.STARTING}
    assert set(tasks_table.CELLS) | set(tasks_table.TEXT) <= known
    models = tasks_table.models()
    for name, done in tasks_table.CELLS.items():
        assert set(done) <= set(tasks(models[name])), name
