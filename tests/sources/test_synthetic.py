"""The synthetic data set: the competition's layout, the same bytes, and patterns as they are named."""

import dataclasses
import hashlib

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import benchmark

import hms
from hms.competition import CHANNELS, CLASS_NAMES, CLASSES, EEG_CHANNELS, TRAIN_COLUMNS, VOTE_COLUMNS
from hms.labels.intervals import HOLDS_FROM, effective_number
from hms.labels.summary import class_agreement
from hms.sources.synthetic import (
    amplifier,
    artifacts,
    draft_recordings,
    generate,
    montage,
    patterns,
    simulate,
    votes_table,
)
from hms.sources.synthetic.background import background
from hms.sources.synthetic.patients import draw_patient, owners
from hms.sources.synthetic.spectrograms import SPECTROGRAM_HZ, chain_power, spectrogram

SMALL = {"n_recordings": 10, "n_patients": 4, "seed": 3, "write_spectrograms": True}
LEFT = [EEG_CHANNELS.index(name) for name in ("Fp1", "F3", "C3", "P3", "F7", "T3", "T5", "O1")]
RIGHT = [EEG_CHANNELS.index(name) for name in ("Fp2", "F4", "C4", "P4", "F8", "T4", "T6", "O2")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return a small data set made in this process."""
    path = tmp_path_factory.mktemp("data")
    generate(path, **SMALL)
    return path


@pytest.fixture(scope="module")
def many():
    """Return the drafts and the votes table of 1,200 recordings of 150 patients."""
    drafts = draft_recordings(n_recordings=1200, n_patients=150, seed=0)
    return drafts, votes_table(drafts, seed=0)


def digests(path):
    """Return the digest of each file by its relative name."""
    files = sorted(p for p in path.rglob("*") if p.is_file())
    return {str(p.relative_to(path)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def peak_hz(wave, *, low_hz, high_hz):
    """Return the frequency of most power between two limits, at 200 samples per second."""
    power, freqs = np.abs(np.fft.rfft(wave)) ** 2, np.fft.rfftfreq(len(wave), 1 / 200)
    inside = (freqs >= low_hz) & (freqs <= high_hz)
    return freqs[inside][np.argmax(power[inside])]


def bases(n=40):
    """Return, for each of some examples, a generator of its patient's traits and one of its own."""
    return [(np.random.default_rng([7, i]), np.random.default_rng([8, i])) for i in range(n)]


# ---------------------------------------------------------------------------------- bytes


@pytest.mark.slow
def test_two_workers_write_the_same_bytes_as_one(folder, tmp_path):
    """Every file is the same whatever n_jobs, and when made a second time."""
    generate(tmp_path / "two", **SMALL, n_jobs=2)
    assert digests(tmp_path / "two") == digests(folder)


def test_a_recording_depends_on_its_number_and_patient_and_not_on_how_many_there_are():
    """The samples are a function of the seed, the recording's number and the patient's."""
    few, more = (draft_recordings(n_recordings=n, n_patients=n, seed=3) for n in (4, 9))
    ours = few[1]
    theirs = dataclasses.replace(more[1], patient=ours.patient)
    again = dataclasses.replace(ours, eeg_id=theirs.eeg_id, start_s=theirs.start_s)
    np.testing.assert_array_equal(simulate(ours, seed=3), simulate(again, seed=3))
    same = draw_patient(ours.patient.number, ours.patient.patient_id, seed=3)
    assert same == ours.patient
    assert draw_patient(ours.patient.number, 51, seed=4).gain != same.gain


def test_another_seed_gives_other_ids_votes_and_samples():
    """Nothing of one seed's table is in another's."""
    ours, theirs = (draft_recordings(n_recordings=20, n_patients=5, seed=seed) for seed in (0, 1))
    assert not {p.eeg_id for p in ours} & {p.eeg_id for p in theirs}
    assert [p.states for p in ours] != [p.states for p in theirs]
    assert not np.allclose(simulate(ours[0], seed=0)[:, :100], simulate(ours[0], seed=1)[:, :100])


# --------------------------------------------------------------------------------- layout


def test_the_folder_has_the_competitions_files_and_only_truth_beside_them(folder):
    """train.csv names every recording and spectrogram there is."""
    table = pd.read_csv(folder / "train.csv")
    assert sorted(p.name for p in folder.iterdir()) == [
        "train.csv",
        "train_eegs",
        "train_spectrograms",
        "truth",
    ]
    assert {p.stem for p in (folder / "train_eegs").iterdir()} == set(table.eeg_id.astype(str))
    assert {p.stem for p in (folder / "train_spectrograms").iterdir()} == set(
        table.spectrogram_id.astype(str)
    )


def test_spectrograms_can_be_left_out(tmp_path):
    """Without write_spectrograms there is no such folder, and the recordings are the same."""
    few = {"n_recordings": 2, "n_patients": 2, "seed": 3}
    generate(tmp_path / "with", **few, write_spectrograms=True)
    generate(tmp_path / "without", **few, write_spectrograms=False)
    rest = {name: d for name, d in digests(tmp_path / "with").items() if "train_spectrograms" not in name}
    assert digests(tmp_path / "without") == rest


def test_a_recording_has_twenty_float32_channels_and_ends_with_its_last_sub_window(folder):
    """Snappy parquet, columns in the competition's order, 200 samples per second."""
    table = pd.read_csv(folder / "train.csv")
    for eeg_id, rows in table.groupby("eeg_id"):
        file = pq.ParquetFile(folder / "train_eegs" / f"{eeg_id}.parquet")
        assert tuple(file.schema_arrow.names) == CHANNELS
        assert set(file.schema_arrow.types) == {pa.float32()}
        assert file.metadata.num_rows == 200 * (50 + rows.eeg_label_offset_seconds.max())
        assert file.metadata.row_group(0).column(0).compression == "SNAPPY"


def test_a_spectrogram_has_400_named_columns_and_ten_minutes_for_every_row(folder):
    """Rows are 2 s apart from 1 s on; the last sub-window of 10 minutes ends with the file."""
    table = pd.read_csv(folder / "train.csv")
    for spectrogram_id, rows in table.groupby("spectrogram_id"):
        frame = pd.read_parquet(folder / "train_spectrograms" / f"{spectrogram_id}.parquet")
        assert frame.columns[0] == "time"
        assert [c[:2] for c in frame.columns[1::100]] == ["LL", "RL", "LP", "RP"]
        assert list(frame.columns[[1, 2, 100]]) == ["LL_0.59", "LL_0.78", "LL_19.92"]
        np.testing.assert_array_equal(frame["time"], 1 + 2 * np.arange(len(frame)))
        assert 2 * len(frame) == rows.spectrogram_label_offset_seconds.max() + 600
        assert set(frame.dtypes.iloc[1:]) == {np.dtype("float32")}


def test_truth_stands_apart_and_row_by_row_beside_train_csv(folder):
    """truth/latent.csv has the rows of train.csv, each a distribution over the six classes."""
    table, truth = pd.read_csv(folder / "train.csv"), pd.read_csv(folder / "truth" / "latent.csv")
    assert list(truth.label_id) == list(table.label_id)
    np.testing.assert_allclose(truth[list(CLASSES)].sum(axis=1), 1, atol=1e-5)
    assert "Not an input" in (folder / "truth" / "README.txt").read_text()


# ---------------------------------------------------------------------------------- votes


def test_columns_ids_and_offsets_are_the_competitions(many):
    """Unique labels and sub-windows, even offsets from 0, one patient and spectrogram per recording."""
    _, table = many
    assert tuple(table.columns) == TRAIN_COLUMNS
    assert table.label_id.is_unique
    assert not table.duplicated(["eeg_id", "eeg_sub_id"]).any()
    assert not table.duplicated(["spectrogram_id", "spectrogram_sub_id"]).any()
    by_recording = table.groupby("eeg_id", sort=False)
    assert (by_recording[["patient_id", "spectrogram_id"]].nunique() == 1).all(axis=None)
    assert (table.groupby("spectrogram_id").patient_id.nunique() == 1).all()
    assert (by_recording.eeg_label_offset_seconds.first() == 0).all()
    assert (table.eeg_label_offset_seconds % 2 == 0).all()
    assert (by_recording.eeg_label_offset_seconds.diff().dropna() >= 2).all()


def test_rows_of_a_recording_stand_together_in_order(many):
    """A recording's rows are not split, and its sub-windows count from 0."""
    _, table = many
    runs = (table.eeg_id != table.eeg_id.shift()).sum()
    assert runs == table.eeg_id.nunique() == 1200
    assert (table.eeg_sub_id == table.groupby("eeg_id").cumcount()).all()


def test_a_spectrogram_holds_its_recordings_one_after_another(many):
    """The labelled 50 s lie 275 s into their ten minutes, and recordings never overlap."""
    drafts, table = many
    assert 0.5 < table.spectrogram_id.nunique() / 1200 < 0.9
    ends = {}
    for draft in drafts:
        assert draft.start_s >= ends.get(draft.spectrogram_id, 0)
        ends[draft.spectrogram_id] = draft.start_s + draft.duration_s


def test_consensus_is_the_class_with_most_votes_and_ties_go_to_the_first(many):
    """As in train.csv, in the order seizure, lpd, gpd, lrda, grda, other."""
    _, table = many
    votes = table[list(VOTE_COLUMNS)].to_numpy()
    assert votes.dtype.kind == "i"
    for row, consensus in zip(votes, table.expert_consensus, strict=True):
        assert consensus == CLASS_NAMES[list(row).index(max(row))]
    assert ((votes == votes.max(axis=1, keepdims=True)).sum(axis=1) > 1).any()


def test_vote_counts_lie_in_1_to_7_or_10_to_28(many):
    """No row has 8 or 9 votes; about 35 % of recordings have a row of 10 or more, of 16 on average."""
    _, table = many
    count = table[list(VOTE_COLUMNS)].sum(axis=1)
    best = count.groupby(table.eeg_id).max()
    assert count.min() == 1
    assert count.max() <= 28
    assert not count.isin([8, 9]).any()
    assert (best >= 10).mean() == pytest.approx(0.35, abs=0.04)
    assert count[count >= 10].mean() == pytest.approx(16, abs=0.5)
    assert (best[best < 10] == 3).mean() == pytest.approx(0.72, abs=0.05)


def test_recordings_are_as_long_and_as_often_relabelled_as_real_ones(many):
    """37 % are 50 s long, the median 58 s; a tenth of recordings has several vote patterns."""
    drafts, _ = many
    durations = np.array([draft.duration_s for draft in drafts])
    assert durations.min() == 50
    assert (durations == 50).mean() == pytest.approx(0.37, abs=0.04)
    assert np.median(durations) == pytest.approx(58, abs=4)
    several = np.mean([len({row.votes for row in draft.rows}) > 1 for draft in drafts])
    assert several == pytest.approx(0.1, abs=0.03)


@pytest.mark.parametrize(
    ("n_recordings", "n_patients", "largest"),
    [(17_089, 1950, 269), (1200, 150, 68), (300, 120, 20), (300, 60, 27), (7, 2, 4), (7, 1, 7), (5, 5, 1)],
)
def test_every_patient_has_a_recording_and_none_more_than_his_share(n_recordings, n_patients, largest):
    """At most 0.694 / sqrt(patients) of all, as the competition's 269 of 17,089, or an equal part."""
    for seed in (0, 1):
        counts = np.bincount(owners(np.random.default_rng(seed), n_recordings, n_patients))
        assert counts.sum() == n_recordings
        assert len(counts) == n_patients
        assert 1 <= counts.min() <= np.median(counts) <= counts.mean()
        assert counts.max() <= largest


@pytest.mark.parametrize("seed", [0, 1])
def test_recordings_per_patient_are_as_skewed_as_the_competitions(seed):
    """Median 3 at either size; of 17,089 recordings some patients have over 100; all count as about 307."""
    counts = np.bincount(owners(np.random.default_rng(seed), 17_089, 1950))
    assert np.median(counts) == 3
    assert 3 <= (counts > 100).sum() <= 40
    assert counts.sum() ** 2 / np.sum(counts**2) == pytest.approx(307, rel=0.1)
    assert np.median(np.bincount(owners(np.random.default_rng(seed), 1200, 150))) == 3


def test_the_embedded_set_has_patients_enough_for_intervals_at_10_votes():
    """The defaults of data=synthetic: more than 20 effective patients among the recordings with 10 votes."""
    data = hms.compose().data
    for seed in range(3):
        drafts = draft_recordings(n_recordings=data.n_recordings, n_patients=data.n_patients, seed=seed)
        best = [(draft.patient.number, max(sum(row.votes) for row in draft.rows)) for draft in drafts]
        counts = np.bincount([number for number, n_votes in best if n_votes >= 10])
        assert effective_number(counts) > HOLDS_FROM


@pytest.mark.slow
def test_recordings_of_one_patient_have_the_same_class_as_often_as_real_ones():
    """0.55 to 0.65, against 0.17 to 0.25 by chance, over three draws of 1,200 recordings."""
    found = []
    for seed in range(3):
        drafts = draft_recordings(n_recordings=1200, n_patients=150, seed=seed)
        best = [max(draft.rows, key=lambda row: sum(row.votes)).votes for draft in drafts]
        label = [votes.index(max(votes)) for votes in best]
        found.append(class_agreement(label, [draft.patient.patient_id for draft in drafts]))
    assert 0.55 < np.mean([f["same_patient"] for f in found]) < 0.65
    assert 0.17 < np.mean([f["other_patient"] for f in found]) < 0.25


def test_votes_follow_the_truth_they_are_drawn_from(many):
    """The mean KL of the truth on rows with 10 votes or more is far under that of the class prior."""
    drafts, _ = many
    rows = [row for draft in drafts for row in draft.rows[:1] if sum(row.votes) >= 10]
    y = np.array([row.votes for row in rows]) / np.array([[sum(row.votes)] for row in rows])

    def kl(p):
        return np.where(y > 0, y * np.log(np.where(y > 0, y, 1) / p), 0).sum(axis=1).mean()

    assert kl(np.array([row.truth for row in rows])) == pytest.approx(0.127, abs=0.02)
    assert kl(y.mean(axis=0)) == pytest.approx(0.88, abs=0.1)


# -------------------------------------------------------------------------------- signals


def test_the_background_has_unit_sd_and_falls_with_frequency():
    """Its SD over electrodes is about 1; power falls from 1-2 Hz to 20-40 Hz by 15 dB and more."""
    waves = np.stack([background(*rng, 4000) for rng in bases(20)])
    assert waves.std(axis=-1).mean() == pytest.approx(1.1, abs=0.25)
    power, freqs = np.mean(np.abs(np.fft.rfft(waves)) ** 2, axis=(0, 1)), np.fft.rfftfreq(4000, 1 / 200)
    slow, fast = (power[(freqs >= low) & (freqs < 2 * low)].mean() for low in (1, 20))
    assert 10 * np.log10(slow / fast) > 15


@pytest.mark.slow
def test_a_patients_backgrounds_resemble_each_other_and_not_those_of_others():
    """Log spectra of electrodes are nearer to those of another recording of the patient."""

    def spectrum(patient, recording):
        wave = background(np.random.default_rng(patient), np.random.default_rng([9, recording]), 8000)
        power = np.abs(np.fft.rfft(wave)) ** 2
        level = np.log(
            np.stack([part.mean(axis=1) for part in np.array_split(power[:, 20:1200], 12, axis=1)])
        )
        return level - level.mean()

    own = [np.abs(spectrum(p, 2 * p) - spectrum(p, 2 * p + 1)).mean() for p in range(12)]
    others = [np.abs(spectrum(p, 2 * p) - spectrum(p + 1, 2 * p + 1)).mean() for p in range(12)]
    assert np.mean(own) < 0.6 * np.mean(others)


@pytest.mark.parametrize("make", [patterns.lpd, patterns.lrda])
def test_lateralised_patterns_are_stronger_over_one_hemisphere(make):
    """One side has over twice the amplitude of the other, and either side occurs."""
    ratios = []
    for rng in bases():
        rms = np.sqrt(np.mean(make(*rng, 10_000).wave ** 2, axis=1))
        ratios.append(np.log2(rms[LEFT].mean() / rms[RIGHT].mean()))
    assert np.min(np.abs(ratios)) > 1
    assert min(ratios) < 0 < max(ratios)


@pytest.mark.parametrize("make", [patterns.gpd, patterns.grda])
def test_generalised_patterns_are_as_strong_on_both_sides(make):
    """Neither side has 1.6 times the amplitude of the other."""
    for rng in bases():
        rms = np.sqrt(np.mean(make(*rng, 10_000).wave ** 2, axis=1))
        assert abs(np.log2(rms[LEFT].mean() / rms[RIGHT].mean())) < np.log2(1.6)


@pytest.mark.parametrize(
    ("make", "low_hz", "high_hz"), [(patterns.lpd, 0.5, 1 / 0.6), (patterns.gpd, 0.8, 2.3)]
)
def test_periodic_discharges_come_at_the_interval_stated(make, low_hz, high_hz):
    """Main peaks of the strongest electrode counted over 50 s give the rate within a tenth."""
    from scipy.signal import find_peaks

    for rng in bases():
        pattern = make(*rng, 10_000)
        wave = pattern.wave[np.argmax(np.ptp(pattern.wave, axis=1))]
        wave = wave * np.sign(wave[np.argmax(np.abs(wave))])
        peaks, _ = find_peaks(wave, height=0.35 * wave.max(), distance=int(0.25 * 200 / pattern.rate_hz))
        assert low_hz <= pattern.rate_hz <= high_hz
        assert np.mean(np.diff(peaks)) / 200 * pattern.rate_hz == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize(("make", "high_hz"), [(patterns.lrda, 2.3), (patterns.grda, 2.6)])
def test_rhythmic_delta_peaks_at_its_rate(make, high_hz):
    """The spectrum's peak is within 0.2 Hz of the stated rate, which is 1 Hz or more."""
    for rng in bases():
        pattern = make(*rng, 10_000)
        strongest = pattern.wave[np.argmax(pattern.wave.std(axis=1))]
        assert 1 <= pattern.rate_hz <= high_hz
        assert peak_hz(strongest, low_hz=0.3, high_hz=20) == pytest.approx(pattern.rate_hz, abs=0.2)


def test_a_seizure_covers_every_judged_second_slows_and_grows():
    """It runs from before 13 s until after the last sub-window's 30 s, and ends slower than it begins."""
    n_samples = 200 * 90
    for rng in bases():
        pattern = patterns.seizure(*rng, n_samples)
        wave = pattern.wave[np.argmax(pattern.wave.std(axis=1))]
        seconds = np.flatnonzero(wave) / 200
        assert seconds[0] <= 12.1
        assert seconds[-1] > 70
        assert 2.6 <= pattern.rate_hz <= 4.5
        early, late = wave[200 * 14 : 200 * 24], wave[200 * 55 : 200 * 65]
        slower = peak_hz(late, low_hz=1, high_hz=4.6)
        assert slower < peak_hz(early, low_hz=1, high_hz=4.6) <= pattern.rate_hz + 0.1
        assert late.std() > early.std() * 0.8


@pytest.mark.parametrize("make", list(patterns.PATTERNS.values()))
def test_a_patients_patterns_keep_their_place_and_nearly_their_rate(make):
    """Two recordings of one patient have one field; rates differ by some percent."""
    for i in range(10):
        first, second = (
            make(np.random.default_rng(i), np.random.default_rng([i, k]), 10_000) for k in (0, 1)
        )
        fields = [p.wave.std(axis=1) / p.wave.std(axis=1).max() for p in (first, second)]
        np.testing.assert_allclose(*fields, atol=0.06)
        assert first.rate_hz == pytest.approx(second.rate_hz, rel=0.45)


def draft_of(states, change_s=None):
    """Return the draft of one recording of 100 s whose experts see what is stated."""
    draft = draft_recordings(n_recordings=1, n_patients=1, seed=0)[0]
    return dataclasses.replace(draft, states=tuple(map(tuple, states)), change_s=change_s)


def test_other_has_no_pattern_and_certainty_makes_a_pattern_stronger():
    """The strength of a pattern follows the share of experts that see it."""
    certain, doubtful, other = (
        patterns.patterns(np.random.default_rng(1), draft_of([state]), 4000).std()
        for state in (np.eye(6)[4], np.array([0, 0, 0, 0, 0.2, 0.8]), np.eye(6)[5])
    )
    assert certain > 2 * doubtful > 0
    assert other == 0


def test_a_pattern_ends_where_what_experts_see_changes():
    """GRDA is there until 2 s before the change, and gone from 2 s after it."""
    wave = patterns.patterns(np.random.default_rng(1), draft_of([np.eye(6)[4], np.eye(6)[5]], 50), 20_000)
    assert wave[:, : 200 * 48].std() > 0
    assert not wave[:, 200 * 52 :].any()


@pytest.mark.slow
def test_some_seizures_reach_the_clipping_limit_and_most_do_not():
    """After the band-pass, 500 µV are reached in a tenth to a half of recordings that show a seizure."""
    from scipy import signal

    sos = signal.butter(4, (0.5, 20), "bandpass", fs=200, output="sos")
    drafts = draft_recordings(n_recordings=24, n_patients=24, seed=2)
    ictal = [dataclasses.replace(d, states=((1.0, 0, 0, 0, 0, 0.0),), change_s=None) for d in drafts]
    eegs = [simulate(draft, seed=2, spoilt=False)[:19, :10_000] for draft in ictal]
    reach = [np.abs(signal.sosfiltfilt(sos, eeg)).max() > 500 for eeg in eegs]
    assert 0.1 <= np.mean(reach) <= 0.5


def test_a_clean_recording_has_no_mains_no_offset_and_a_heart():
    """``spoilt=False`` leaves background, pattern and the EKG."""
    drafts = draft_recordings(n_recordings=6, n_patients=6, seed=0)
    clean = np.stack([simulate(draft, seed=0, spoilt=False)[:, :10_000] for draft in drafts])
    power = np.abs(np.fft.rfft(clean[:, :19] * np.hanning(10_000))) ** 2
    freqs = np.fft.rfftfreq(10_000, 1 / 200)
    mains = power[..., np.abs(freqs - 60) < 0.5].mean(axis=-1)
    beside = power[..., (np.abs(freqs - 60) > 3) & (np.abs(freqs - 60) < 8)].mean(axis=-1)
    assert (mains < 3 * beside).all()
    assert np.abs(clean[:, :19].mean(axis=2)).max() < 60
    assert (np.abs(clean[:, 19]).max(axis=1) > 150).all()


def test_the_heart_beats_55_to_110_times_a_minute():
    """R waves of the EKG channel are counted over a minute."""
    from scipy.signal import find_peaks

    for _, rng in bases(10):
        ekg = artifacts.heartbeat(rng, 12_000)
        peaks, _ = find_peaks(ekg, height=0.5 * ekg.max(), distance=50)
        assert 50 <= len(peaks) <= 115


def test_lost_samples_are_short_gaps_inside_and_blocks_at_the_edges():
    """About 5 % of recordings have NaN in all channels at once."""
    eeg = np.random.default_rng(0).standard_normal((20, 10_000)).astype(np.float32)
    n_gaps = n_edges = 0
    for _, rng in bases(600):
        missing = np.isnan(amplifier.lose_samples(rng, eeg))
        assert (missing.all(axis=0) == missing.any(axis=0)).all()
        edge = missing[0, 0] or missing[0, -1]
        n_edges, n_gaps = n_edges + bool(edge), n_gaps + bool(missing.any() and not edge)
        assert not edge or 18 <= missing[0].sum() <= 5197 + 15
        assert edge or missing[0].sum() <= 15
    assert not np.isnan(eeg).any()
    assert (n_gaps, n_edges) == (pytest.approx(18, abs=12), pytest.approx(12, abs=10))


# --------------------------------------------------------------- patients and their montages


def test_faults_of_the_montage_are_the_patients_and_as_frequent_as_stated():
    """A dead, bridged or loose electrode is the same one in four of five of a patient's recordings."""
    found = {"dead": [], "bridged": [], "loose": []}
    for number in range(300):
        patient = draw_patient(number, 100 + number, seed=1)
        seen = [montage.draw_montage(np.random.default_rng([5, number, i]), patient) for i in range(10)]
        for name, shares in found.items():
            faults = [fault for fault in (getattr(m, name) for m in seen) if fault is not None]
            assert len(set(faults)) <= 1
            shares.append(len(faults) / 10)
    for name, share in (("dead", montage.P_DEAD), ("bridged", montage.P_BRIDGED), ("loose", montage.P_LOOSE)):
        shares = np.array(found[name])
        assert shares.mean() == pytest.approx(share, abs=0.04)
        assert shares[shares > 0].mean() == pytest.approx(0.8, abs=0.08)


def test_dead_bridged_and_loose_electrodes_record_what_such_electrodes_do():
    """Nothing at all, the same as a neighbour, noise that no neighbour has."""
    eeg = np.random.default_rng(0).standard_normal((19, 4000)).astype(np.float32)
    faulty = montage.Montage(None, (3, 4), 7, None, "on")
    bridged = montage.bridge_electrodes(eeg, faulty)
    np.testing.assert_array_equal(bridged[3], bridged[4])
    np.testing.assert_allclose(bridged[3], (eeg[3] + eeg[4]) / 2, rtol=1e-6)
    loose = montage.loosen(np.random.default_rng(1), eeg, faulty)
    assert loose[7].std() > 5 * eeg[7].std()
    np.testing.assert_array_equal(np.delete(loose, 7, axis=0), np.delete(eeg, 7, axis=0))


@pytest.mark.parametrize(("leads", "low_uv", "high_uv"), [("silent", 0, 5), ("open", 100, 20_000)])
def test_an_ekg_whose_leads_are_off_shows_no_heart(leads, low_uv, high_uv):
    """It holds the amplifier's noise, or hum and drift of millivolts."""
    ekg = artifacts.heartbeat(np.random.default_rng(0), 4000)
    off = montage.switch_off(np.random.default_rng(1), ekg, montage.Montage(None, None, None, None, leads))
    assert low_uv < off.std() < high_uv
    assert abs(np.corrcoef(off, ekg)[0, 1]) < 0.2


def test_an_amplifier_keeps_to_its_range_and_some_to_their_steps():
    """Nothing lies beyond 10 mV; a sixth of patients have samples on steps of 0.26 µV."""
    eeg = np.linspace(-20_000, 20_000, 4001, dtype=np.float32)[None]
    kept = [amplifier.digitise(draw_patient(n, 51 + n, seed=0), eeg) for n in range(200)]
    assert {round(float(k.max()), -2) for k in kept} == {3200, 8500, 10_000}
    assert all(k.min() == -k.max() for k in kept)
    on_steps = [np.allclose(k / 0.26, np.rint(k / 0.26), atol=2e-3) for k in kept]
    assert np.mean(on_steps) == pytest.approx(0.16, abs=0.07)


@pytest.mark.slow
def test_what_is_recorded_lies_in_the_ranges_of_real_recordings():
    """Medians over 60 patients of what `benchmarks/likeness.py` looks at are near the real ones."""
    likeness = benchmark("likeness")
    drafts = draft_recordings(n_recordings=60, n_patients=60, seed=4)
    drafts = [dataclasses.replace(draft, rows=draft.rows[:1]) for draft in drafts]
    rows = pd.DataFrame([likeness.statistics(simulate(draft, seed=4)[:19, :10_000]) for draft in drafts])
    for name, low, high in (
        ("pair_sd_uv", 10, 17),
        ("slope", -2.6, -1.8),
        ("fast_share", 0.08, 0.16),
        ("drift_uv", 60, 200),
        ("mains_db", 12, 30),
        ("neighbours", 0.85, 0.93),
        ("dimension", 1.7, 3.0),
    ):
        assert low < rows[name].median() < high, name


# --------------------------------------------------------------------------- spectrograms


def test_chain_power_of_a_sine_lands_in_its_chain_at_its_frequency():
    """10 µV at 10 Hz on F7 alone: two of LL's four pairs see it, integrated power 10²/2 each."""
    eeg = np.zeros((20, 4000), dtype=np.float32)
    eeg[CHANNELS.index("F7")] = 10 * np.sin(2 * np.pi * 10 * np.arange(4000) / 200)
    power = chain_power(eeg)
    assert power.shape == (9, 4, 100)
    assert SPECTROGRAM_HZ[np.argmax(power[4, 0])] == pytest.approx(10, abs=0.1)
    assert power[4, 0].sum() * 200 / 1024 == pytest.approx(50 * 2 / 4, rel=0.01)
    assert not power[:, 1:].any()


def test_a_spectrogram_shows_the_recordings_own_power_at_its_time(folder):
    """The frame centred 2 s into a recording lies 277 s into the sub-window of ten minutes."""
    draft = draft_recordings(n_recordings=10, n_patients=4, seed=3)[0]
    frame = pd.read_parquet(folder / "train_spectrograms" / f"{draft.spectrogram_id}.parquet")
    row = frame[frame["time"] == 275 + draft.start_s + 2].iloc[0, 1:].to_numpy(dtype=np.float32)
    np.testing.assert_allclose(row.reshape(4, 100), chain_power(simulate(draft, seed=3))[0], rtol=1e-5)


def test_surroundings_have_the_level_of_the_nearest_recordings_background(folder):
    """Mean power far from the recording equals the lower quartile of its own frames within 10 %."""
    draft = draft_recordings(n_recordings=10, n_patients=4, seed=3)[0]
    frame = pd.read_parquet(folder / "train_spectrograms" / f"{draft.spectrogram_id}.parquet")
    before = np.nanmean(frame.iloc[:130, 1:].to_numpy(), axis=0).sum()
    own = np.quantile(chain_power(simulate(draft, seed=3)), 0.25, axis=0).sum()
    assert before == pytest.approx(own, rel=0.1)


@pytest.mark.slow
def test_some_spectrograms_have_rows_of_nan():
    """A missing row is missing in all 400 columns, in about 9 % of files."""
    draft = draft_recordings(n_recordings=1, n_patients=1, seed=0)[0]
    eeg = simulate(draft, seed=0)
    missing = [np.isnan(spectrogram([draft], [eeg], seed=seed)) for seed in range(40)]
    assert all((m.all(axis=(1, 2)) == m.any(axis=(1, 2))).all() for m in missing)
    assert 1 <= sum(m.any() for m in missing) <= 10


# ---------------------------------------------------------------------------- wrong input


def test_more_patients_than_recordings_are_refused(tmp_path):
    """Settings and generator both say which numbers do not fit."""
    with pytest.raises(ValueError, match="n_patients 6 is more than n_recordings 5"):
        hms.compose("data.n_recordings=5", "data.n_patients=6")
    with pytest.raises(ValueError, match="n_patients 6 is more than n_recordings 5"):
        generate(tmp_path, n_recordings=5, n_patients=6, seed=0, write_spectrograms=False)


def test_a_folder_with_files_is_refused(tmp_path):
    """Nothing is written over."""
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(ValueError, match="is not empty"):
        generate(tmp_path, n_recordings=2, n_patients=1, seed=0, write_spectrograms=False)
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]


def test_more_recordings_than_a_disk_holds_are_refused():
    with pytest.raises(ValueError, match="n_recordings 1000000000 is more than 1000000"):
        hms.compose("data=synthetic", "data.n_recordings=1000000000")
