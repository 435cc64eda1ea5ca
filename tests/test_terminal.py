"""What is said while a run works: paces and times that are true."""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Callable, Iterator
from threading import Thread

import pytest

from hms import terminal
from hms.terminal import (
    Progress,
    filled,
    heard,
    said_once,
    say,
    spoken_duration,
    spoken_pace,
    table,
    unsaid,
)


class Clock:
    """A clock that a test sets."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clock]:
    monkeypatch.setattr("sys.stderr.isatty", lambda: False, raising=False)
    monkeypatch.setattr(terminal, "_in_notebook", lambda: False)
    return Clock()  # type: ignore[return-value]


def lines(capfd: pytest.CaptureFixture[str]) -> list[str]:
    return capfd.readouterr().err.splitlines()


def test_the_start_of_workers_is_no_part_of_the_pace(clock, capfd) -> None:
    """First 10 of 100 items after 12 s, then 10 a second: 8 s are left, not 108."""
    progress = Progress(100, "scalograms", clock=clock)
    clock.now += 12
    progress.add(10)
    assert lines(capfd) == ["scalograms: 10/100 items"]
    clock.now += 1
    progress.add(10)
    clock.now += 9
    progress.add(30)
    # 40 items in 10 s since the first report
    assert lines(capfd) == ["scalograms: 50/100 items, 4.0 items/s, about 12 s left"]


def test_the_pace_is_that_of_the_last_half_minute(clock, capfd) -> None:
    """Slow at first, ten times as fast later: what is left goes by the later pace."""
    progress = Progress(1000, "x", clock=clock)
    for _ in range(10):
        clock.now += 10
        progress.add(10)
    lines(capfd)
    for _ in range(6):
        clock.now += 10
        progress.add(100)
    assert lines(capfd)[-1] == "x: 700/1000 items, 10 items/s, about 30 s left"


def test_slow_items_have_seconds_each(clock, capfd) -> None:
    progress = Progress(10, "x", clock=clock)
    for _ in range(3):
        clock.now += 25
        progress.add(1)
    assert lines(capfd)[-1] == "x: 3/10 items, 25.0 s an item, about 3 min left"


def test_nothing_is_said_before_ten_seconds(clock, capfd) -> None:
    progress = Progress(10, "x", clock=clock)
    for _ in range(9):
        clock.now += 1
        progress.add(1)
    assert lines(capfd) == []


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.3, "under a second"), (1, "1 s"), (65, "65 s"), (150, "2 min"), (7200, "2.0 h")],
)
def test_durations_are_said_as_people_do(seconds: float, text: str) -> None:
    assert spoken_duration(seconds) == text


@pytest.mark.parametrize(
    ("seconds_each", "text"), [(0.005, "200 items/s"), (0.4, "2.5 items/s"), (12.0, "12.0 s an item")]
)
def test_a_pace_is_never_0(seconds_each: float, text: str) -> None:
    assert spoken_pace(seconds_each) == text


@pytest.mark.slow
def test_a_run_found_finished_does_not_claim_its_seconds_for_now(
    command: Callable[..., object], small_set
) -> None:
    base = ("data=kaggle", f"data.root={small_set}", "stages=[labels]")
    first, again = command(*base), command(*base)
    assert re.search(r"  time taken  \d+\.\d s\n", first.out)
    assert re.search(r"found finished, nothing computed in \d+\.\d s \(made .* in \d+\.\d s\)", again.out)
    assert "time taken" not in again.out


@pytest.mark.slow
def test_a_first_sweep_does_not_say_that_it_takes_0_seconds(command, small_set) -> None:
    base = ("data=kaggle", f"data.root={small_set}", "stages=[labels]", "plan=true")
    planned = command("-m", *base, "weight=linear,log")
    assert "about 0 s" not in planned.out
    assert "the duration is not known: never computed here: " in planned.out


def test_the_making_of_synthetic_recordings_is_reported(outputs, monkeypatch) -> None:
    """As many as there are, whatever the groups they are written in."""
    from hms.sources import embedded

    told: list[int] = []
    monkeypatch.setattr(embedded.Progress, "add", lambda self, count: told.append(count))
    settings = {"n_recordings": 4, "n_patients": 2, "seed": 0, "write_spectrograms": False}
    embedded._Maker(outputs / "made", settings, 1).make()
    assert sum(told) == 4
    assert len(told) > 1


def test_what_goes_on_just_now_is_not_kept_for_a_run_that_is_found_finished(capfd) -> None:
    with heard() as kept:
        say("making recordings", passing=True)
        say("a fold is uneven")
    assert kept == ["a fold is uneven"]
    assert lines(capfd) == ["making recordings", "a fold is uneven"]


def test_members_of_a_sweep_do_not_repeat_what_is_true_of_all(capfd) -> None:
    """Each still keeps it for its own run."""
    with said_once():
        for _ in range(2):
            with heard() as kept:
                say("a fold is uneven")
                assert kept == ["a fold is uneven"]
    say("a fold is uneven")
    assert lines(capfd) == ["a fold is uneven"] * 2


def test_threads_hear_and_silence_themselves_alone(capfd) -> None:
    """A viewer that looks at a run in one thread does not swallow what a run says in another."""
    with unsaid(), heard() as here:
        thread = Thread(target=say, args=("a fold is uneven",))
        thread.start()
        thread.join()
    assert here == []
    assert lines(capfd) == ["a fold is uneven"]


class Writes:
    """The least that a stream of one's own may be."""

    def __init__(self) -> None:
        self.text = ""

    def write(self, text: str) -> None:
        self.text += text


def test_a_stream_that_only_writes_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr", err := Writes())
    monkeypatch.setattr("sys.stdout", Writes())
    progress = Progress(3, "scalograms")
    progress.add(3)
    progress.close()
    say("a fold is uneven")
    assert (table([("a", "b")]), err.text) == ("a  b", "a fold is uneven\n")


def test_a_closed_stream_ends_no_work_and_stays_whose_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    closed = io.StringIO()
    closed.close()
    monkeypatch.setattr("sys.stderr", closed)
    Progress(3, "scalograms").close()
    say("a fold is uneven")
    assert sys.stderr is closed


@pytest.mark.parametrize(("width", "lines"), [(80, 2), (200, 1)])
def test_a_table_fits_the_terminal_and_is_left_as_it_is_elsewhere(
    width: int, lines: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [("scalograms", "missing", "cwt.w0: 5.4414 -> 6; " * 4 + "weight.kind")]
    assert len(table(rows).splitlines()) == 1
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", str(width))
    assert max(map(len, table(rows).splitlines())) <= width
    assert len(table(rows).splitlines()) == lines
    assert max(map(len, filled("word " * 60).splitlines())) == min(width, 100) - 1
