"""Tables of a run in parquet files, whose sizes are looked at before their content."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hms.errors import ConfigError

if TYPE_CHECKING:
    import pandas as pd

MOST_DECODED = 1 << 30
"""Bytes that a table of a run may take, and values that it may have."""


def read_table(data: bytes, *columns: str) -> pd.DataFrame:
    """Return columns of a parquet file of a run, all of them if none is named.

    Texts come as categories: one that is in every row is in memory once. Raises `ConfigError` if it is not a
    parquet file, lacks a column, or would take too much memory.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        metadata = pq.read_metadata(pa.BufferReader(data))
        groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
        n_values = metadata.num_rows * max(1, len(columns) or metadata.num_columns)
        if max(n_values, sum(group.total_byte_size for group in groups)) > MOST_DECODED:
            raise ConfigError(f"a table of {metadata.num_rows} rows is too large for a run")
        texts = [field.name for field in metadata.schema.to_arrow_schema() if _is_text(field.type)]
        source = pq.ParquetFile(pa.BufferReader(data), read_dictionary=texts)
        table: pd.DataFrame = source.read(columns=list(columns) or None, use_threads=False).to_pandas()
        return table
    except ConfigError:
        raise
    except (pa.ArrowException, KeyError, OSError, ValueError) as error:
        raise ConfigError(f"a table of the run is damaged: {' '.join(str(error).split())[:160]}") from None


def _is_text(kind: Any) -> bool:
    import pyarrow as pa

    kinds = (pa.types.is_string, pa.types.is_large_string, pa.types.is_binary)
    return any(is_kind(kind) for is_kind in kinds)
