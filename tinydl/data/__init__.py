"""Datasets: ArrayDataset (arrays, memory maps), ItemDataset (write your own), StreamDataset (iterators)."""
from tinydl.data.arrays import ArrayDataset, Split
from tinydl.data.batch import Batch, Dataset, LazyBatch
from tinydl.data.items import ItemDataset
from tinydl.data.stream import StreamDataset

__all__ = ["ArrayDataset", "Batch", "Dataset", "ItemDataset", "LazyBatch", "Split", "StreamDataset"]
