"""Grouped data, and how a table becomes one."""

from retrofair.data.grouped import Batch, Batches, GroupedData
from retrofair.data.learned import Missing
from retrofair.data.preparation import Preparation
from retrofair.data.raw import raw_table
from retrofair.data.split import Splits, split_frame
from retrofair.data.streamed import Rows, StreamedData
from retrofair.data.tables import read_table

__all__ = [
    "Batch",
    "Batches",
    "GroupedData",
    "Missing",
    "Preparation",
    "Rows",
    "Splits",
    "StreamedData",
    "raw_table",
    "read_table",
    "split_frame",
]
