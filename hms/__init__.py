"""hms prepares EEG recordings with expert votes for learning: compose, run, load, transform."""

from __future__ import annotations

TYPE_CHECKING = False  # typing's own would be the first thing that takes long
if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from typing import Any

    from hms.config.schema import Config
    from hms.results.run import Run

__all__ = ["compose", "load", "run", "transform"]
__version__ = "0.1.0"


def compose(*overrides: str, config_dir: str | Path | None = None) -> Config:
    """Compose and validate a configuration as the command line would, from any folder.

    Parameters
    ----------
    *overrides : for example ``"cwt=morlet"``, ``"folds.n_splits=7"``
    config_dir : a folder with options of your own, as ``--config-dir`` names one

    Raises
    ------
    ConfigError
        If an override names nothing or a value is out of range; the text says what there is.

    Examples
    --------
    >>> cfg = compose("cwt=gmw", "cwt.n_freqs=32")
    >>> cfg.cwt.kind, cfg.cwt.n_freqs
    ('gmw', 32)
    """
    from hms.engine.frozen import compose as compose_config

    return compose_config(*overrides, config_dir=config_dir)


def run(cfg: Config | Any, *overrides: str) -> Run:
    """Prepare the package of a configuration, or find it finished: the function behind run.py.

    Overrides belong into `compose`; giving them here is an error that says so.

    Raises
    ------
    ConfigError
        If a setting or the votes table is wrong.
    TooManyFailures
        If more recordings cannot be used than ``max_failed_share`` allows, or none can.
    StorageError, EngineError
        If a disk, the machine or a cluster fails; the same call continues where this one stopped.

    Examples
    --------
    >>> made = run(compose("data.n_recordings=6", "data.n_patients=6", "stages=[labels,splits]", "n_jobs=1"))
    >>> made.labels.y_soft.shape
    (6, 6)
    """
    from hms.engine.runner import run as run_config
    from hms.results.run import Run

    return Run.of(run_config([cfg, *overrides] if overrides else cfg))


def load(run: str | Path = "latest", *, outputs: str | Path = "outputs", trust: bool = False) -> Run:
    """Open a finished run.

    Parameters
    ----------
    run : its hash, a unique prefix of that, a path, or ``latest``
    outputs : folder of the runs
    trust : whether code that the run's folder names (its plugins) may be imported, and recordings be made for
        it. A run from somebody else is not to be trusted unseen.

    Raises
    ------
    ConfigError
        If there is no such run, or several.

    Examples
    --------
    >>> made = run(compose("data.n_recordings=6", "data.n_patients=6", "stages=[labels,splits]", "n_jobs=1"))
    >>> load("latest").hash == load(made.hash[:8]).hash == made.hash
    True
    """
    from hms.results.run import find_run

    return find_run(run, outputs, trust=trust)


def transform(
    recording: Any,
    cfg_or_run: Config | Run | Any,
    *,
    channels: Sequence[str] | None = None,
    sfreq: float = 200.0,
    offset_s: float | Sequence[float] = 0.0,
    spectrogram: Any = None,
    spectrogram_offset_s: float = 0.0,
) -> Any:
    """Prepare a recording, or a list of recordings, exactly as a run does, bit for bit.

    Parameters
    ----------
    recording : DataFrame, array or path; or a list of these
        A table with a column per channel and a row per sample; an array of shape (n_channels, n_samples)
        with ``channels``; or a parquet file. µV; NaN is a gap.
    cfg_or_run : the settings to use
    channels : names of the array's rows, spelled as in files: prefixes, references and aliases are understood
    sfreq : sampling rate in Hz
    offset_s : start of the 50 s sub-window in the recording; ``window`` says which part of it becomes x
        For a list of recordings, one for all or one each.
    spectrogram : DataFrame or path, optional
        The competition's spectrogram of the recording, for ``spectrograms=kaggle``.
    spectrogram_offset_s : start of the ten minutes in the spectrogram

    Returns
    -------
    Prepared, or a list of them
        ``spec``, ``freqs``, ``wave`` and ``fs``; see `hms.engine.inference.Prepared`.

    Examples
    --------
    >>> import numpy as np
    >>> from hms.competition import EEG_CHANNELS
    >>> noise = np.random.default_rng(0).normal(scale=20, size=(len(EEG_CHANNELS), 10_000))
    >>> prepared = transform(noise, compose(), channels=EEG_CHANNELS)
    >>> prepared.spec.shape
    (4, 48, 250)
    """
    from hms.engine.inference import transform as transform_recording

    return transform_recording(
        recording,
        cfg_or_run,
        channels=channels,
        sfreq=sfreq,
        offset_s=offset_s,
        spectrogram=spectrogram,
        spectrogram_offset_s=spectrogram_offset_s,
    )


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
