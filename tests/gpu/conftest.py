"""What the checks on a GPU share: the reason to skip them, ranks on one GPU, and the report that they write.

Loaded by itself too (`--confcutdir`), where nothing but torch and pytest is installed.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
# Ranks, processes of their own, import from these too.
for folder in (HERE, HERE.parent, HERE.parent / "attention_backends" / "helpers"):
    sys.path.insert(0, str(folder))

from ranks import Ranks  # noqa: E402
from report import NOT_RUN, Report, summary, tables, write  # noqa: E402


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--report", default=None, help="write what was measured to this file")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[KEY] = Report(time.monotonic())


KEY = pytest.StashKey[Report]()
TIMED = ("size", "transport")  # these come first, with nothing beside them
ORDER = (*TIMED, "kernels", "ranks", "with_compile", "families", "launcher")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = [item for item in items if HERE in item.path.parents]
    if here == items:
        items.sort(key=lambda item: ORDER.index(item.path.stem.removeprefix("test_")))
    reason = why_not() if here else ""
    for item in here:
        item.add_marker(pytest.mark.gpu)
        if reason:
            item.add_marker(pytest.mark.skip(reason=reason))


def pytest_collection_finish(session: pytest.Session) -> None:
    report = session.config.stash[KEY]
    report.tests |= {_name(item): NOT_RUN for item in session.items if HERE in item.path.parents}


def _name(item: pytest.Item) -> str:
    return f"{item.path.stem.removeprefix('test_')}: {item.name.removeprefix('test_')}"


def why_not() -> str:
    """What is missing for these checks; nothing where they can run."""
    try:
        import torch
    except ImportError:
        return "needs torch, which is not installed"
    if torch.version.cuda is None:
        return f"needs a torch with CUDA, and this is {torch.__version__}"
    return "" if torch.cuda.is_available() else "needs a GPU, and torch sees none"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    outcome = yield
    if HERE in item.path.parents:
        item.config.stash[KEY].ended(_name(item), outcome)
    return outcome


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    if path := config.getoption("--report"):
        if reason := why_not():  # a file of figures is not to be lost to a machine that measures none
            terminalreporter.write_line(f"No check ran: {reason}. {path} is left as it was.")
            return
        found = config.stash[KEY].asdict()
        write(found, Path(path))
        for line in [*tables(found, found["sources"]).splitlines(), "", *summary(found)]:
            terminalreporter.write_line(line)


@pytest.fixture
def check(request: pytest.FixtureRequest):
    """Note a figure; one above its limit fails the test when it ends, so that the figures after it are seen too."""
    report, begin = request.config.stash[KEY], len(request.config.stash[KEY].checks)
    yield partial(report.check, request.path.stem.removeprefix("test_"))
    wrong = [one for one in report.checks[begin:] if not one["passed"]]
    assert not wrong, "\n".join(f"{one['row']}, {one['name']}: {one['figure']} (limit {one['limit']})" for one in wrong)


@pytest.fixture(scope="session")
def begun(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Future[Any]]]:
    """What each module's `beside` makes: processes take longer to start than to compute, so they start early."""
    here = (item for item in request.session.items if HERE in item.path.parents and isinstance(item, pytest.Function))
    modules = {item.module.__name__: item.module for item in here}
    some = {name: module.beside for name, module in modules.items() if hasattr(module, "beside")}
    pool = ThreadPoolExecutor(max(1, len(some)))
    yield {name: pool.submit(make, tmp_path_factory.mktemp(name)) for name, make in some.items()}
    pool.shutdown(wait=False, cancel_futures=True)  # an interrupted session writes its report first


@pytest.fixture(autouse=True)
def _begin(request: pytest.FixtureRequest) -> None:
    """Begin them with the first check that isn't timed."""
    if request.path.stem.removeprefix("test_") not in TIMED:
        request.getfixturevalue("begun")


@pytest.fixture(scope="module")
def beside(request: pytest.FixtureRequest, begun: dict[str, Future[Any]]) -> Any:
    """What this module's `beside` made."""
    return begun[request.module.__name__].result()


@pytest.fixture(scope="session")
def ranks() -> Iterator[Ranks]:
    pool = Ranks(4, "spawn")
    yield pool
    pool.stop()
