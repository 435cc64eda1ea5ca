"""The competition's spectrograms: ten minutes around a sub-window, one file for many."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hms.competition import CHAINS
from hms.errors import Unusable
from hms.sources.files import check_decoded_size, float32_rows, one_batch, open_parquet
from hms.store.files import digest_bytes
from hms.terminal import shortened

SPECTROGRAM = "spectrogram"
"""Kind of these files among the companions of a recording."""

STEP_S = 2.0
"""Seconds from one row of a file to the next."""

SPECTROGRAM_S = 600.0
"""Length of a sub-window's spectrogram (the competition's data page)."""


@dataclass(frozen=True)
class Crop:
    """One sub-window's part of a spectrogram file, as it is in the file.

    Attributes
    ----------
    power : float32, shape (4, n_freqs, n_rows), chains in the order LL, LP, RL, RP; NaN where
        the file has none
    freqs : float32, shape (n_freqs,), ascending, Hz
    """

    power: NDArray[np.float32]
    freqs: NDArray[np.float32]


class SpectrogramFile:
    """A spectrogram file, decoded from bytes that were read once."""

    def __init__(self, data: bytes) -> None:
        self._digest = digest_bytes(data)
        self._file, self._reason = open_parquet(data)
        self._decoded: Crop | None = None

    def digest_of(self, part: str) -> str:
        """Return the digest of the whole file."""
        return self._digest

    def segment(self, start_s: float) -> Crop:
        """Return the ten minutes from ``start_s``.

        Rows are counted, their ``time`` is not read: in some files it is stored in 16 bits and wraps. Raises
        `Unusable` if the file is damaged, has other columns or ends before.
        """
        whole = self._decode()
        n_rows, first = round(SPECTROGRAM_S / STEP_S), round(start_s / STEP_S)
        if first + n_rows > whole.power.shape[2]:
            raise Unusable(
                f"the spectrogram's sub-window ends at {start_s + SPECTROGRAM_S:g} s "
                f"but the file lasts {whole.power.shape[2] * STEP_S:g} s"
            )
        return Crop(whole.power[:, :, first : first + n_rows], whole.freqs)

    def _decode(self) -> Crop:
        """Decode the file once; several sub-windows share it."""
        import pyarrow as pa

        if self._file is None:
            raise Unusable(f"the spectrogram's {self._reason}")
        if self._decoded is None:
            names, freqs = _columns(list(self._file.schema_arrow.names))
            try:
                groups = range(self._file.metadata.num_row_groups)
                check_decoded_size(self._file, groups, names, self._file.metadata.num_rows)
                table = self._file.read(columns=names, use_threads=False).select(names)
                batches = table.to_batches() or [pa.RecordBatch.from_pylist([], schema=table.schema)]
                rows = float32_rows(one_batch(batches))
            except (pa.ArrowException, KeyError, OSError, ValueError) as error:
                raise Unusable(f"the spectrogram's file is damaged: {shortened(error)}") from None
            power = rows.reshape(len(CHAINS), freqs.size, -1)
            self._decoded = Crop(power, freqs)
        return self._decoded


def _columns(present: list[str]) -> tuple[list[str], NDArray[np.float32]]:
    """Return the columns chain after chain, frequencies ascending, and the frequencies.

    The files have the chains in the order LL, RL, LP, RP.
    """
    found: dict[str, dict[float, str]] = {chain: {} for chain in CHAINS}
    for name in present:
        chain, _, hz = name.partition("_")
        if chain in found and _is_number(hz):
            found[chain][float(hz)] = name
    freqs = sorted(found[CHAINS[0]])
    if not freqs or any(sorted(by_hz) != freqs for by_hz in found.values()):
        have: Any = {chain: len(by_hz) for chain, by_hz in found.items()}
        raise Unusable(
            f"the spectrogram's file needs columns such as LL_0.59 at the same frequencies for "
            f"{', '.join(CHAINS)}; it has {', '.join(f'{n} of {chain}' for chain, n in have.items())}"
        )
    return [found[chain][hz] for chain in CHAINS for hz in freqs], np.array(freqs, np.float32)


def _is_number(text: str) -> bool:
    try:
        return float(text) >= 0
    except ValueError:
        return False
