"""The report: each part of the page is a stage of its own, so that a change redraws only what it touches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from hms.competition import SFREQ_HZ
from hms.config.identity import plain
from hms.config.schema import Config
from hms.labels.classes import Classes
from hms.labels.folds import Split, splits_of
from hms.labels.votes import consensus
from hms.pipeline.selection import implied_stages
from hms.pipeline.stage import (
    TableStage,
    derived,
    register_stage,
    registered_stage,
    setting,
)
from hms.pipeline.tables import View
from hms.quality.spectra import spectrum_freqs
from hms.report.cards import Card, spoken
from hms.report.examples import (
    KINDS,
    Step,
    about_item,
    choose_examples,
    choose_shown_steps,
    contact_sheet,
    steps_card,
)
from hms.report.labels import vote_cards, weight_cards
from hms.report.page import about_items, render_page
from hms.report.quality import count_channels, quality_cards
from hms.report.reproduce import data_overrides
from hms.report.signals import gather, signal_cards
from hms.signal.arrays import Cleaned, Derived, Scalogram
from hms.signal.filters import apply_filter, design_filter
from hms.signal.gaps import fill_gaps
from hms.signal.wavelets import frequencies, is_log_spaced
from hms.stages.derivations import Derivations
from hms.stages.drawing import draw_examples, output_names
from hms.stages.heart import Heart
from hms.stages.labels import Labels
from hms.stages.meta import Meta
from hms.stages.quality import Quality, graded_items, marked_items, read_duplicates, read_ledger
from hms.stages.report_agreement import ReportAgreement
from hms.stages.report_baseline import ReportBaseline
from hms.stages.report_label_issues import ReportLabelIssues
from hms.stages.report_part import ReportPart
from hms.stages.scalograms import Scalograms
from hms.stages.signal import Signal
from hms.stages.sketches import Sketches
from hms.stages.splits import Splits
from hms.store.files import Content
from hms.store.rows import TOGETHER

PARTS = "qc/parts"


def read_splits(tables: View) -> list[Split]:
    """Return the training and the validation rows, per fold."""
    return splits_of(tables.arrays(Splits.files[0]))


@register_stage
@dataclass(frozen=True)
class ReportQuality(ReportPart):
    """Grades, flags, channels and gaps."""

    name = "report_quality"
    version = 5
    inputs: ClassVar[tuple[str, ...]] = ("items", "reasons", *Quality.files, "rows:sketches")
    files: ClassVar[tuple[str, ...]] = (f"{PARTS}/quality.html",)
    sections: ClassVar[Mapping[str, str]] = {"quality": "Quality"}

    quality: Quality
    sketches: Sketches

    def compute(self, tables: View) -> Mapping[str, Content]:
        """Return the part."""
        import pyarrow.parquet as pq

        path, wanted = tables.file(Quality.files[1]), ["channel", "raised"]
        file = pq.ParquetFile(path, read_dictionary=wanted)
        channels = count_channels(file.iter_batches(columns=wanted, use_threads=False))
        ledger = read_ledger(tables)
        cards = quality_cards(
            ledger,
            channels,
            tables.rows("sketches", lambda name: name == "gaps"),
            graded=graded_items(tables, ledger),
            marked=marked_items(tables),
            qc=self.quality.qc,
            window_s=self.sketches.reading.window_s,
            context_s=self.sketches.reading.context_s,
        )
        return self.part(quality=cards)


@register_stage
@dataclass(frozen=True)
class ReportVotes(ReportPart):
    """Totals of votes, disagreement, entropy and patients."""

    name = "report_votes"
    version = 5
    inputs: ClassVar[tuple[str, ...]] = ("used",)
    files: ClassVar[tuple[str, ...]] = (f"{PARTS}/votes.html",)
    sections: ClassVar[Mapping[str, str]] = {"votes": "Votes"}

    meta: Meta
    high_confidence_votes: int = setting("labels.high_confidence_votes")

    def compute(self, tables: View) -> Mapping[str, Content]:
        """Return the part."""
        return self.part(votes=vote_cards(tables.used, high_confidence_votes=self.high_confidence_votes))


@register_stage
@dataclass(frozen=True)
class ReportWeights(ReportPart):
    """Class proportions raw, weighted and per fold; the weights."""

    name = "report_weights"
    version = 4
    inputs: ClassVar[tuple[str, ...]] = (*Labels.files, *Splits.files)
    files: ClassVar[tuple[str, ...]] = (f"{PARTS}/weights.html",)
    sections: ClassVar[Mapping[str, str]] = {"weights": "Weights and folds"}
    absent: ClassVar[str] = (
        "The table of windows has no votes, so there are no labels, and no weights or folds to draw."
    )

    labels: Labels
    splits: Splits

    def compute(self, tables: View) -> Mapping[str, Content]:
        """Return the part."""
        return self.part(weights=weight_cards(tables.arrays(Labels.files[0]), read_splits(tables)))


@register_stage
@dataclass(frozen=True)
class ReportSignals(ReportPart):
    """Spectra and mean scalograms per class, or of all items where they have no votes; values of x."""

    name = "report_signals"
    version = 3
    inputs: ClassVar[tuple[str, ...]] = ("used", "reasons", *Quality.files, "rows:sketches")
    files: ClassVar[tuple[str, ...]] = (f"{PARTS}/signals.html",)
    sections: ClassVar[Mapping[str, str]] = {"signals": "Signals"}

    quality: Quality
    sketches: Sketches

    def compute(self, tables: View) -> Mapping[str, Content]:
        """Return the part."""
        used, label = np.flatnonzero(tables.is_used), np.full(len(tables.is_used), -1)
        ledger = read_ledger(tables).iloc[used]
        shares = {
            n: ledger[n].to_numpy(np.float64) for n in ("x_share_0", "x_share_1") if n in ledger and len(used)
        }
        reading = self.sketches.reading
        freqs = frequencies(self.sketches.scalograms.cwt)
        classes = Classes.of_columns(tables.used.columns)
        label[used] = consensus(tables.used[list(classes.vote_columns)].to_numpy(np.float64))
        blocks = tables.packed("sketches").blocks(lambda name: name != "gaps", len(label), TOGETHER // 4)
        cards = signal_cards(
            gather(blocks, label, tables.is_used, len(classes)) if len(used) else None,
            label[used],
            shares,
            classes=classes,
            freqs_hz=spectrum_freqs(SFREQ_HZ),
            cwt_hz=(float(freqs[0]), float(freqs[-1])),
            window_s=reading.window_s,
            outputs=output_names(self.sketches.scalograms),
        )
        return self.part(signals=cards)


@register_stage
@dataclass(frozen=True)
class ReportExamples(ReportPart):
    """The worst, the cleanest and the most disputed recordings; one recording step by step."""

    name = "report_examples"
    version = 5
    inputs: ClassVar[tuple[str, ...]] = ("items", *Quality.files, "rows:sketches")
    files: ClassVar[tuple[str, ...]] = (f"{PARTS}/examples.html",)
    sections: ClassVar[Mapping[str, str]] = {"examples": "Recordings", "steps": "Step by step"}

    quality: Quality
    sketches: Sketches
    scalograms: Scalograms
    heart: Heart
    high_confidence_votes: int = setting("labels.high_confidence_votes")

    def compute(self, tables: View) -> Mapping[str, Content]:
        """Return the part."""
        ledger, prepared = read_ledger(tables), tables.packed("sketches").row
        chosen = choose_examples(
            tables.items, ledger, prepared, high_confidence_votes=self.high_confidence_votes
        )
        costly = self.quality.qc.grading.costly
        about = {
            row: about_item(tables.items.iloc[row], ledger.iloc[row], costly)
            for row in chain(*chosen.values())
        }
        row = choose_shown_steps(ledger, prepared)
        steps = [] if row is None else self._results(tables, row)
        made = {} if row is None else {row: steps[-2:]}
        shown = draw_examples(tables, self.scalograms, self.heart, about, ledger["raised"].tolist(), made)
        cards: list[Card] = []
        for kind in KINDS:
            sheet = [shown[row] for row in chosen[kind]]
            cards += contact_sheet(kind, sheet, any_prepared=len(prepared) > 0)
        return self.part(examples=cards, steps=[self._steps(tables, row, steps)])

    def _results(self, tables: View, row: int) -> list[Any]:
        derivations = self.scalograms.derivations
        signal = derivations.signal
        return tables.evaluate(row, signal.reading, signal, derivations, self.scalograms)

    def _steps(self, tables: View, row: int | None, results: Sequence[Any]) -> Card:
        if row is None:
            return spoken("One recording, step by step", "No item could be prepared.")
        stage = self.scalograms
        signal = stage.derivations.signal
        item_id = str(tables.items["item_id"].iloc[row])
        steps = show_steps(signal, stage.derivations, *results, outputs=output_names(stage))
        reading = signal.reading
        span = (-reading.context_s, reading.window_s + reading.context_s)
        return steps_card(f"Recording {item_id}", steps, span_s=span, window_s=reading.window_s)


def show_steps(
    signal: Signal,
    derivations: Derivations,
    segment: Any,
    cleaned: Cleaned,
    derived: Derived,
    scalogram: Scalogram,
    *,
    outputs: Sequence[str],
) -> list[Step]:
    """Return one electrode, its derivation and its scalogram after each step of the preparation."""
    params = signal.filter
    channels = [name for name in cleaned.channels if name in segment.channels]
    raw = segment.eeg[[segment.channels.index(name) for name in channels]]
    channel = _telling_channel(raw, cleaned.dead[: len(channels)])
    name = channels[channel]
    filled = fill_gaps(raw, params.gaps, sfreq=segment.sfreq)
    gain = design_filter(params, n_samples=filled.shape[1], sfreq=segment.sfreq)
    filtered = apply_filter(filled, gain)
    pairs = [pair for _, names in derivations.chains for pair in names]
    pair = next(i for i, p in enumerate(pairs) if name in (p, *p.split("-")))
    group = next(c for c, names in derivations.chains if pairs[pair] in names)
    row = outputs.index(group) if group in outputs else outputs.index(pairs[pair])
    gaps = int((~np.isfinite(raw[channel])).sum())
    limit = "no limit" if params.clip_uv is None else f"at ±{params.clip_uv:g} µV"
    clipped = cleaned.eeg[cleaned.channels.index(name)]
    limits = (float(scalogram.freqs[0]), float(scalogram.freqs[-1]))
    is_log, power_note = is_log_spaced(scalogram.freqs), f"{outputs[row]}, log(1 + µV²)"
    n_clipped = 0 if params.clip_uv is None else int((np.abs(clipped) >= params.clip_uv).sum())
    return [
        Step("1 as recorded", raw[channel], "µV", f"{name}, {gaps} samples missing"),
        Step("2 gaps filled", filled[channel], "µV", f"{name}, {params.gaps.kind}"),
        Step("3 filtered", filtered[channel], "µV", f"{name}, {params.kind}"),
        Step("4 clipped", clipped, "µV", f"{name}, {limit}: {n_clipped} samples"),
        Step("5 derivation", derived.values[pair], "µV", pairs[pair]),
        Step("6 wavelet power", np.log1p(scalogram.power[row]), "Hz", power_note, limits, is_log),
        Step("7 scaled x", scalogram.x[row], "Hz", outputs[row], limits, is_log),
    ]


def _telling_channel(raw: NDArray[np.float32], dead: NDArray[np.bool_]) -> int:
    """Return the live channel with most gaps, or with the largest range where none has any."""
    finite = np.isfinite(raw)
    gaps = (~finite).sum(axis=1)
    spread = np.where(finite, raw, -np.inf).max(axis=1) - np.where(finite, raw, np.inf).min(axis=1)
    return int(np.lexsort((-spread, -gaps, dead))[0])


SHIPPED_PARTS: tuple[type[ReportPart], ...] = (
    ReportQuality,
    ReportVotes,
    ReportAgreement,
    ReportWeights,
    ReportSignals,
    ReportExamples,
    ReportBaseline,
    ReportLabelIssues,
)
"""In the order of the page."""


OPTIONAL_PARTS = (ReportAgreement, ReportWeights, ReportBaseline, ReportLabelIssues)
"""Parts that a run without votes, or without a baseline, lacks."""


def parts_of_plugins(cfg: Config) -> tuple[str, ...]:
    """Return the names of the parts that plugins in use add to the page."""
    shipped = {part.name for part in SHIPPED_PARTS}
    found = (name for name in implied_stages(cfg) if name not in shipped)
    return tuple(name for name in found if issubclass(registered_stage(name), ReportPart))


OF_ITEMS = ("items", "reasons", Quality.files[0], Quality.files[2], f"{Splits.files[0]}?")
"""What the page says of items whatever they weigh follows from these."""


def _about_items(exclude_from: str | None, tables: View) -> Mapping[str, Any]:
    ledger, has_labels = read_ledger(tables), tables.has(Splits.files[0])
    return about_items(
        items=tables.items,
        reasons=tables.reasons,
        ledger=ledger,
        graded=graded_items(tables, ledger),
        exclude_from=exclude_from,
        duplicates=read_duplicates(tables),
        splits=read_splits(tables) if has_labels else [],
        has_labels=has_labels,
    )


PAGE_BYTES = 5_000_000
"""Of the page and its parts, pictures included; measured at 60 items, rounded up."""


@register_stage
@dataclass(frozen=True)
class Report(TableStage):
    """The page: headlines, all parts, a table of all items, and what made it."""

    name = "report"
    version = 8
    inputs: ClassVar[tuple[str, ...]] = (
        "items",
        "reasons",
        "facts",
        *Quality.files,
        *ReportQuality.files,
        *ReportVotes.files,
        *ReportSignals.files,
        *ReportExamples.files,
        *(f"{path}?" for stage in (Labels, Splits) for path in stage.files),
        *(f"{path}?" for part in OPTIONAL_PARTS for path in part.files),
    )
    files: ClassVar[tuple[str, ...]] = ("qc/report.html",)

    report_quality: ReportQuality
    report_votes: ReportVotes
    report_weights: ReportWeights | None
    report_signals: ReportSignals
    report_examples: ReportExamples
    data: tuple[str, ...] = derived("data", follows=("data", "seed"))
    own_parts: tuple[str, ...] = derived("own_parts", follows=("plugins",), before=())

    @classmethod
    def from_config(cls, cfg: Config) -> Self:
        """Build with the parts that plugins in use add to the page."""
        return cls(
            ReportQuality.from_config(cfg),
            ReportVotes.from_config(cfg),
            ReportWeights.from_config(cfg),
            ReportSignals.from_config(cfg),
            ReportExamples.from_config(cfg),
            data_overrides(plain(cfg.data)),
            own_parts=parts_of_plugins(cfg),
        )

    def _parts(self) -> tuple[type[ReportPart], ...]:
        """Return the parts of the page, plugins' last."""
        own = (registered_stage(name) for name in self.own_parts)
        return (*SHIPPED_PARTS, *(cls for cls in own if issubclass(cls, ReportPart)))

    def table_bytes(self, n_items: int) -> int:
        """Return what the page takes, whatever the number of items."""
        return PAGE_BYTES

    @property
    def declared(self) -> tuple[str, ...]:
        """Its inputs, and the parts of plugins, which a run may lack."""
        own = self._parts()[len(SHIPPED_PARTS) :]
        return (*self.inputs, *(f"{path}?" for part in own for path in part.files))

    def compute(self, tables: View) -> Mapping[str, Content]:
        """Return the page."""
        parts = {part: self._part(part, tables) for part in self._parts()}
        made = {part: html for part, html in parts.items() if html}
        worst = self.report_quality.quality.qc.exclude_from
        page = render_page(
            tables.once(["page", worst], OF_ITEMS, partial(_about_items, worst)),
            is_used=tables.is_used,
            labels=tables.arrays(Labels.files[0]) if tables.has(Labels.files[0]) else None,
            sections={name: title for part in made for name, title in part.sections.items()},
            parts=list(made.values()),
            facts=tables.facts,
            data=self.data,
        )
        return {self.files[0]: page}

    def _part(self, part: type[ReportPart], tables: View) -> str:
        """Return a part's HTML, or its placeholder."""
        (path,) = part.files
        return tables.file(path).read_text("utf-8") if tables.has(path) else part.placeholder().decode()
