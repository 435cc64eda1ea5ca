"""The table of a data set: who was recorded, where sub-windows lie and how experts voted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from hms.competition import CLASS_NAMES, CLASSES, JUDGED_START_S, SUB_WINDOW_S, TRAIN_COLUMNS
from hms.sources.synthetic.draws import Rng, Stream, stream, unique_ids
from hms.sources.synthetic.patients import Patient, draw_patient, owners
from hms.sources.synthetic.settings import check_sizes
from hms.sources.synthetic.votes import Row, draw_offsets, draw_opinions, draw_rows

if TYPE_CHECKING:
    import pandas as pd

P_SHARED_SPECTROGRAM = 0.35
MAX_ID = 4_000_000_000


@dataclass(frozen=True)
class Draft:
    """All about one recording but its samples.

    Attributes
    ----------
    index : number of the recording, which with the seed and the patient gives its samples
    start_s : where the recording starts, in seconds after the first one of its spectrogram
    states : shares of experts in favour of each class, one after the other in time
    change_s : where the second state begins; None where there is one
    """

    index: int
    eeg_id: int
    patient: Patient
    spectrogram_id: int
    start_s: int
    states: tuple[tuple[float, ...], ...]
    change_s: float | None
    rows: tuple[Row, ...]

    @property
    def duration_s(self) -> int:
        """Length of the recording: it ends with its last sub-window."""
        return self.rows[-1].offset_s + int(SUB_WINDOW_S)


def draft_recordings(*, n_recordings: int, n_patients: int, seed: int) -> list[Draft]:
    """Return who was recorded, where the labelled sub-windows lie and how experts voted.

    Raises `ValueError` if there are more patients than recordings, or too many of either.
    """
    check_sizes(n_recordings, n_patients)
    rng = stream(seed, Stream.TABLE)
    numbers = owners(rng, n_recordings, n_patients)
    patient_ids = unique_ids(rng, n_patients, above=50, below=65_536)
    eeg_ids = unique_ids(rng, n_recordings, above=500_000, below=MAX_ID)
    spectrogram_ids = unique_ids(rng, n_recordings, above=300_000, below=MAX_ID // 2)
    patients = [draw_patient(number, name, seed=seed) for number, name in enumerate(patient_ids)]
    drafts: list[Draft] = []
    latest: dict[int, Draft] = {}
    for index, number in enumerate(numbers):
        spectrogram_id, start_s = _place_in_spectrogram(rng, latest.get(number), spectrogram_ids[index])
        seen = _draw_seen(stream(seed, Stream.VOTES, index), patients[number])
        latest[number] = Draft(index, eeg_ids[index], patients[number], spectrogram_id, start_s, *seen)
        drafts.append(latest[number])
    return drafts


def _place_in_spectrogram(rng: Rng, before: Draft | None, own_id: int) -> tuple[int, int]:
    """Return the spectrogram of a recording and its start: sometimes that of the patient's last one."""
    shared, pause_s = rng.random() < P_SHARED_SPECTROGRAM, 2 * int(rng.integers(5, 60))
    if before is None or not shared:
        return own_id, 0
    return before.spectrogram_id, before.start_s + before.duration_s + pause_s


def _draw_seen(
    rng: Rng, patient: Patient
) -> tuple[tuple[tuple[float, ...], ...], float | None, tuple[Row, ...]]:
    """Return the states of a recording, where they change, and its rows.

    What is seen changes where the first row of the second panel is judged.
    """
    opinions = draw_opinions(rng, patient)
    rows, n_first = draw_rows(rng, opinions, draw_offsets(rng))
    first, later = (tuple(state.tolist()) for state in (opinions.first, opinions.later))
    if n_first == len(rows):
        return (first,), None, rows
    return (first, later), rows[n_first].offset_s + JUDGED_START_S, rows


def votes_table(drafts: list[Draft], *, seed: int) -> pd.DataFrame:
    """Return train.csv: one row per sub-window, TRAIN_COLUMNS in their order."""
    import pandas as pd

    n_rows = sum(len(draft.rows) for draft in drafts)
    label_ids = iter(unique_ids(stream(seed, Stream.LABEL), n_rows, above=300, below=MAX_ID))
    sub_ids: dict[int, int] = {}
    records = []
    for draft in drafts:
        for sub_id, row in enumerate(draft.rows):
            spectrogram_sub_id = sub_ids.setdefault(draft.spectrogram_id, 0)
            sub_ids[draft.spectrogram_id] += 1
            eeg = (draft.eeg_id, sub_id, float(row.offset_s))
            spectrogram = (draft.spectrogram_id, spectrogram_sub_id, float(draft.start_s + row.offset_s))
            label = (next(label_ids), draft.patient.patient_id)
            consensus = CLASS_NAMES[row.votes.index(max(row.votes))]
            records.append((*eeg, *spectrogram, *label, consensus, *row.votes))
    return pd.DataFrame.from_records(records, columns=list(TRAIN_COLUMNS))


def truth_table(drafts: list[Draft], votes: pd.DataFrame) -> pd.DataFrame:
    """Return the distribution each row's votes were drawn from, in the order of train.csv."""
    import pandas as pd

    truth = pd.DataFrame([row.truth for draft in drafts for row in draft.rows], columns=list(CLASSES))
    return pd.concat([votes[["label_id", "eeg_id", "eeg_sub_id"]], truth.round(6)], axis=1)
