"""A seeded data set in the competition's layout, whose labels follow from its signals.

Modules in the order in which a recording comes to be: `patients` have a disease, habits and a montage;
`votes` says what experts see in a recording and how they vote; `drafts` lays recordings and sub-windows out;
`background`, `patterns` and `artifacts` make the brain's and the body's part of the signal, `montage` and
`amplifier` spoil it; `recordings` puts them together, `spectrograms` sums up the power, `write` writes files.

Every recording is a pure function of (seed, its number, its patient), so that the files are the same bytes
whatever the number of workers. What experts see in a recording is drawn first, as a distribution over the
classes; the votes are drawn from it, and the patterns are laid over background EEG with strengths that follow
from it. A model can therefore learn the votes from the signals, and the drawn distribution bounds what any
model can reach. All recordings of a patient share what real ones share, so that a model can recognise
patients, and folds that ignore them look better than they are.

Numbers and their sources: docs/decisions/synthetic.md.

References
----------
Hirsch LJ et al., "American Clinical Neurophysiology Society's Standardized Critical Care
EEG Terminology: 2021 Version", J Clin Neurophysiol 38 (2021): rates and forms of periodic
discharges, rhythmic delta and seizures.
Jing J et al., "Development of Expert-Level Classification of Seizures and Rhythmic and
Periodic Patterns During EEG Interpretation", Neurology 100 (2023): the votes of 20 experts
that the Dirichlet parameters are fitted to.
Kaggle, "HMS - Harmful Brain Activity Classification" (2024), data page: files and columns.
"""

from hms.sources.synthetic.drafts import Draft, draft_recordings, votes_table
from hms.sources.synthetic.recordings import simulate
from hms.sources.synthetic.settings import Synthetic
from hms.sources.synthetic.write import generate

__all__ = ["Draft", "Synthetic", "draft_recordings", "generate", "simulate", "votes_table"]
