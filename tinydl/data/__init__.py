"""Data: samples in batches, whatever they come from.

    ArrayDataset    arrays and memory maps; rows are gathered natively (the fast way)
    ItemDataset     a class with __len__ and __getitem__; workers make the samples
    SequenceDataset sequences of unequal lengths, in batches of similar ones, padded
    pad_sequences   labels of unequal numbers as an array, for losses.CTC
    WindowDataset   windows over a long series
    StreamDataset   a callable that gives an iterator; a thread reads ahead
    Normalize       what pictures of an ArrayDataset are scaled by
    augment         what is done to them at random in training

An epoch is an iterator of Batch or LazyBatch; `load()` of either gives a Batch. Orders come from (seed, epoch) alone.
"""
from typing import TYPE_CHECKING

from tinydl import _hints
from tinydl.data import augment
from tinydl.data.arrays import ArrayDataset
from tinydl.data.batch import Batch, Dataset, LazyBatch
from tinydl.data.items import ItemDataset
from tinydl.data.normalize import Normalize
from tinydl.data.sequences import SequenceDataset, pad_sequences
from tinydl.data.split import Split
from tinydl.data.stream import StreamDataset
from tinydl.data.windows import WindowDataset

__all__ = ["ArrayDataset", "Batch", "Dataset", "ItemDataset", "LazyBatch", "Normalize", "SequenceDataset", "Split",
           "StreamDataset", "WindowDataset", "augment", "pad_sequences"]

if not TYPE_CHECKING:       # a type checker would take every name for one that is there
    __getattr__ = _hints.module(__name__)
