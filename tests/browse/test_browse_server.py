"""Who may ask the viewer for what: this machine, with the token, from the viewer's own page."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
from conftest import Prepared, skip_without
from edf_files import EdfFile, tones

import hms
from hms.browse.server import Viewer, start
from hms.cli import main as hms_main
from hms.errors import ConfigError
from hms.results.run import Run

for needed in ("uvicorn", "starlette"):
    skip_without(needed, "NO EXTRA browse: the viewer was NOT tested; pip install 'hms-eeg[browse]'")


class Asked:
    """Asks a viewer as a program would."""

    def __init__(self, viewer: Viewer) -> None:
        found = urlsplit(viewer.address)
        self.port, self.token = found.port or 0, found.path.strip("/")
        self.host = f"127.0.0.1:{self.port}"

    def __call__(
        self, path: str, method: str = "GET", body: bytes = b"", **headers: str
    ) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.putrequest(method, path, skip_host=True)
            for name, value in ({"Host": self.host, "Content-Length": str(len(body))} | headers).items():
                connection.putheader(name, value)
            connection.endheaders(body)
            answer = connection.getresponse()
            return answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read()
        finally:
            connection.close()

    def json(self, path: str) -> Any:
        status, _, body = self(f"/{self.token}/{path}")
        assert status == 200, body
        return json.loads(body)

    def mark(self, row: int, **mark: str) -> tuple[int, dict[str, str], bytes]:
        body = json.dumps(mark).encode()
        return self(f"/{self.token}/marks/{row}", "POST", body, Origin=f"http://{self.host}")


@pytest.fixture(scope="module")
def marks_of_all(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("marks") / "marks.csv"


@pytest.fixture
def marks(marks_of_all: Path) -> Path:
    """Return the file of marks, which is not there yet."""
    marks_of_all.unlink(missing_ok=True)
    return marks_of_all


@pytest.fixture(scope="module")
def viewer(finished: Run, marks_of_all: Path) -> Iterator[Viewer]:
    """Start the viewer that all tests ask which need no other one."""
    started = start(finished, marks=marks_of_all, who="ab")
    yield started
    started.stop()


def test_the_list_is_the_run_s_own(viewer: Viewer, finished: Run) -> None:
    ask = Asked(viewer)
    columns, labels = ask.json("list"), finished.labels
    assert columns["id"] == finished.meta["item_id"].tolist()
    assert columns["class"] == labels.y_soft.argmax(axis=1).tolist()
    assert columns["total"] == labels.vote_sum.tolist()
    numbered = columns["shares"]
    shares = [list(map(float, numbered["texts"][k].split())) for k in numbered["rows"]]
    assert np.allclose(shares, labels.y_soft, atol=1e-3)
    entropy = -(labels.y_soft * np.log(np.where(labels.y_soft > 0, labels.y_soft, 1))).sum(axis=1)
    assert np.allclose(columns["entropy"], entropy, atol=1e-3)
    grades = finished.qc["grade"].tolist()
    assert [ask.json("about")["grades"][k] for k in columns["grade"]] == grades


def unpacked(body: bytes) -> dict[str, Any]:
    length = int.from_bytes(body[:4], "little")
    told, at = json.loads(body[4 : 4 + length]), 4 + length
    for entry in told["arrays"]:
        array = np.frombuffer(body, entry["type"], int(np.prod(entry["shape"])), at)
        told[entry["name"]] = array.reshape(entry["shape"])
        at += -(-array.nbytes // 4) * 4
    return told


def test_an_item_comes_with_its_scalograms_flags_and_the_values_that_raised_them(
    viewer: Viewer, finished: Run
) -> None:
    ask = Asked(viewer)
    raised = finished.qc["raised"].fillna("").astype(str)
    row = int(np.flatnonzero(raised.str.contains("line"))[0])
    item_id = finished.meta["item_id"].iloc[row]
    told = unpacked(ask(f"/{ask.token}/item/{row}")[2])
    assert told["id"] == item_id
    assert np.abs(told["x"] / 255 - finished.spec(item_id)).max() <= 0.5 / 255 + 1e-6
    assert [flag for flag, _ in told["flags"]] == raised.iloc[row].split(";")
    channel, flags = next((c, dict(f)) for c, f in told["channels"].items() if "line" in dict(f))
    table = finished.evaluate(item_id, "measures")
    at = list(hms.competition.CHANNELS).index(channel)
    worst = max(table["line50_db"][at], table["line60_db"][at])
    assert flags["line"] == f"{worst:.3g} dB"


def test_only_this_machine_by_its_name_with_the_token_is_answered(viewer: Viewer) -> None:
    ask = Asked(viewer)
    assert ask(f"/{ask.token}/about")[0] == 200
    assert ask(f"/{ask.token}/about", Host=f"localhost:{ask.port}")[0] == 200
    for path, host in (
        ("/about", ask.host), ("/", ask.host), (f"/{ask.token[:-1]}/about", ask.host),
        (f"/{ask.token}x/about", ask.host),
        (f"/{ask.token}/about", "example.org"), (f"/{ask.token}/about", f"example.org:{ask.port}"),
        (f"/{ask.token}/about", ""),
    ):  # fmt: skip
        status, headers, body = ask(path, Host=host)
        assert status == 403, (path, host)
        assert ask.token.encode() not in body
        assert headers["x-content-type-options"] == "nosniff"


def test_it_listens_to_nobody_else(viewer: Viewer) -> None:
    port = Asked(viewer).port
    others = {info[4][0] for info in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)}
    for other in others - {"127.0.0.1"} | {"127.0.0.2"}:
        with socket.socket() as tried:
            tried.settimeout(2)
            assert tried.connect_ex((other, port)) != 0


def test_another_page_writes_no_mark(viewer: Viewer, marks: Path) -> None:
    ask = Asked(viewer)
    path, body = f"/{ask.token}/marks/0", b'{"mark": "exclude"}'
    assert ask(path, "POST", body)[0] == 403
    assert ask(path, "POST", body, Origin="http://example.org")[0] == 403
    assert ask(path, "POST", body, Origin="null")[0] == 403
    assert ask(path, "GET")[0] == 405
    assert not marks.exists()
    assert ask(path, "POST", body, Origin=f"http://{ask.host}")[0] == 200
    assert len(marks.read_text().splitlines()) == 2


def test_the_page_may_load_nothing_from_elsewhere_and_stand_in_no_frame(viewer: Viewer) -> None:
    ask = Asked(viewer)
    _, headers, _ = ask(f"/{ask.token}/")
    policy = headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self';")
    assert "frame-ancestors 'none'" in policy
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cache-control"] == "no-store"


def test_a_report_runs_apart_from_the_viewer(viewer: Viewer, finished: Run) -> None:
    """A run's folder may be somebody else's, and its report with it."""
    ask = Asked(viewer)
    status, headers, body = ask(f"/{ask.token}/report")
    assert status == 200
    assert "sandbox allow-scripts" in headers["content-security-policy"]
    assert "allow-same-origin" not in headers["content-security-policy"]
    assert f'data-finished="{finished.manifest["finished"]}"'.encode() in body


@pytest.mark.parametrize(
    "path",
    ["item/10", "item/99999999", "item/-1", "item/1e3", "item/..%2f..%2fetc", "../about", "%2e%2e/about",
     "static/x", "main.js/../../x", "traces/0?montage=nope", "traces/0?length=1e9", "traces/0?start=nan",
     "traces/0?notch=55", "spectrum/0?length=-1", "report/../manifest.json"],
)  # fmt: skip
def test_what_is_no_item_or_no_file_of_the_page_is_refused(viewer: Viewer, path: str) -> None:
    ask = Asked(viewer)
    assert ask(f"/{ask.token}/{path}")[0] in (403, 404, 422)


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"mark": 3}', b'{"mark": "drop"}', b'{"votes": "x=1"}'])
def test_a_mark_that_is_none_is_refused_in_words(viewer: Viewer, marks: Path, body: bytes) -> None:
    ask = Asked(viewer)
    status, _, answer = ask(f"/{ask.token}/marks/0", "POST", body, Origin=f"http://{ask.host}")
    assert status == 422
    assert json.loads(answer)["problem"]
    assert not marks.exists()
    huge = ask(f"/{ask.token}/marks/0", "POST", b" " * 70_000, Origin=f"http://{ask.host}")
    assert huge[0] == 413


def test_without_a_file_nothing_is_written(finished: Run) -> None:
    started = start(finished)
    try:
        status, _, body = Asked(started).mark(0, mark="exclude")
    finally:
        started.stop()
    assert status == 422
    assert "hms browse --marks FILE" in json.loads(body)["problem"]


def test_a_blind_reader_is_told_no_votes_grades_flags_or_marks_of_others(finished: Run, marks: Path) -> None:
    item = finished.meta["item_id"].iloc[0]
    marks.write_text(f"item_id,mark,votes,note,when,who\n{item},exclude,lpd=1,secret,1,cd\n")
    started = start(finished, marks=marks, who="ab", blind=True)
    try:
        ask = Asked(started)
        assert sorted(ask.json("list")) == ["fold", "id", "patient"]
        told = unpacked(ask(f"/{ask.token}/item/0")[2])
        assert not {"shares", "predicted", "grade", "flags", "channels", "reason", "issue"} & set(told)
        assert ask.json("marks")["marks"] == []
        assert ask(f"/{ask.token}/report")[0] == 422
    finally:
        started.stop()


@pytest.mark.slow
def test_pseudonyms_are_kept_in_every_answer(
    tmp_path: Path, command: Callable[..., Prepared], outputs: Path
) -> None:
    root = tmp_path / "Klinikum" / "Mustermann"
    rng = np.random.default_rng(0)
    for number in range(2):
        EdfFile(eeg=tones(60) + rng.normal(0, 15, (19, 12_000)), patient="MRN4711 F X Annemarie").write(
            root / f"Annemarie {number}.edf"
        )
    key = tmp_path / "key"
    key.write_text("0123456789abcdef" * 4)
    done = command("data=edf", f"data.root={root}", f"data.pseudonyms={key}", "data.patient=file",
                   "stages=[scalograms,waveforms]", "folds=none")  # fmt: skip
    assert done.code == 0, done.err
    started = start(hms.load("latest", outputs=outputs))
    try:
        ask = Asked(started)
        paths = ("list", "about", "item/0", "traces/0", "spectrum/0?length=10", "traces/0?montage=ears")
        answers = [ask(f"/{ask.token}/{path}")[2] for path in paths]
        assert unpacked(answers[3])["missing"] != ""  # the key's owner alone reads recordings
    finally:
        started.stop()
    for word in (b"Annemarie", b"Mustermann", b"Klinikum", b"MRN4711"):
        assert not any(word in answer for answer in answers)


def test_a_port_in_use_a_folder_inside_and_an_item_that_is_none_end_with_2(
    viewer: Viewer, finished: Run, capfd: pytest.CaptureFixture[str]
) -> None:
    base = ["--outputs", str(finished.path.parent), "browse", finished.hash]
    for words, text in (
        (["--port", str(Asked(viewer).port)], "is in use; without --port, a free port is chosen"),
        (["--port", "99999"], "--port 99999 cannot be used"),
        (["--marks", str(finished.path / "m.csv")], "lies inside the run, which hms browse only reads"),
        (["--marks", str(finished.path.parent / "store" / "m.csv")], "lies inside the store"),
        (["--item", "12"], "has no item '12'"),
        (["--predictions", "no.csv"], "no.csv"),
    ):
        assert hms_main([*base, *words]) == 2
        assert text in capfd.readouterr().err
    assert hms_main(["--outputs", str(finished.path.parent), "browse", "0123"]) == 2
    assert "no finished run '0123'" in capfd.readouterr().err


@pytest.mark.slow
def test_a_damaged_file_of_an_item_is_told_in_its_place(own_set: Path, outputs: Path) -> None:
    base = ("data=kaggle", f"data.root={own_set}", f"outputs_dir={outputs}", "n_jobs=1")
    run = hms.run(hms.compose(*base, "stages=[scalograms,labels,splits]"))
    item = run.meta["item_id"].iloc[0]
    path = run.path / "spec_hr_out" / f"{item}_hr.npz"
    path.resolve().write_bytes(b"x" * path.stat().st_size)
    started = start(run)
    try:
        ask = Asked(started)
        told = unpacked(ask(f"/{ask.token}/item/0")[2])
        assert "is damaged or not a file of hms" in told["problem"]
        assert told["total"] == run.labels.vote_sum[0]
        assert "problem" not in unpacked(ask(f"/{ask.token}/item/1")[2])
        assert ask(f"/{ask.token}/traces/0?start=20")[0] == 200
    finally:
        started.stop()


def test_a_package_in_shards_has_its_pictures(small_set: Path, outputs: Path) -> None:
    from hms.browse.app import Desk
    from hms.browse.listing import Listing
    from hms.browse.signals import Signals

    base = ("data=kaggle", f"data.root={small_set}", f"outputs_dir={outputs}", "n_jobs=1")
    run = hms.run(hms.compose(*base, "stages=[scalograms,waveforms,labels]", "package.format=shards"))
    desk = Desk(Listing(run), Signals(run), None, b"", 0)
    assert [about["name"] for about in unpacked(desk.item(0))["arrays"]] == ["x"]
    assert [about["name"] for about in unpacked(desk.thumbs([1]))["arrays"]] == ["x1", "w1"]


def test_a_run_shows_its_viewer_in_a_notebook_until_it_is_stopped(finished: Run) -> None:
    shown = finished.browse()
    try:
        assert f'<iframe src="{shown.address}"' in shown._repr_html_()
        policy = Asked(shown)(f"/{Asked(shown).token}/")[1]["content-security-policy"]
        assert "frame-ancestors http://localhost:* http://127.0.0.1:*" in policy
    finally:
        shown.stop()
    with pytest.raises(OSError, match="refused"):
        Asked(shown)("/")


def test_predictions_of_a_file_stand_beside_the_votes(finished: Run, tmp_path: Path) -> None:
    lines = ["item_id," + ",".join(hms.competition.CLASSES)]
    lines += [f"{finished.meta['item_id'].iloc[1]},0.5,0.5,0,0,0,0"]
    (tmp_path / "p.csv").write_text("\n".join(lines) + "\n")
    started = start(finished, predictions=tmp_path / "p.csv")
    try:
        ask = Asked(started)
        columns = ask.json("list")
        assert columns["predicted"][:3] == [-1, 0, -1]
        told = unpacked(ask(f"/{ask.token}/item/1")[2])
        assert told["predicted"] == [0.5, 0.5, 0, 0, 0, 0]
    finally:
        started.stop()


def test_without_the_extra_the_way_to_it_is_said(finished: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "uvicorn", None)
    with pytest.raises(ConfigError, match=r"pip install 'hms-eeg\[browse\]'"):
        start(finished)
