"""Tables as people have them (numbers, text, categories, dates, gaps) as arrays that a model takes.

    encoder = TableEncoder(one_hot_up_to=8).fit(train)              # of pandas, polars, pyarrow, a dict of columns, an array
    numbers, categories = encoder.transform(test)                   # float32 (n, F) and int32 (n, C)
    model.metadata["encoder"] = encoder.to_dict()                   # travels in the model's file

    encoder     TableEncoder: all columns, by their names
    columns     a table as columns of a few kinds, without importing any of those libraries
    numeric     one column of numbers: gaps, scale, smooth clipping
    categories  one column of categories: codes by frequency, one-hot, 0 and 1
    dates       one column of dates: its parts
    outliers    a target: values that must be mistakes
"""
from tinydl.tables.encoder import Encoded, TableEncoder

__all__ = ["Encoded", "TableEncoder"]
