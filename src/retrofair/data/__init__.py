"""Grouped data, and how a table becomes one."""

from retrofair.data.grouped import Batch, Batches, GroupedData
from retrofair.data.image_files import Fit
from retrofair.data.image_tables import images_of
from retrofair.data.images import ImageRows
from retrofair.data.label_names import label_names_of
from retrofair.data.learned import Missing
from retrofair.data.preparation import Preparation
from retrofair.data.raw import raw_table
from retrofair.data.split import Splits, split_frame, split_rows
from retrofair.data.streamed import Rows, StreamedData, in_order
from retrofair.data.tables import read_table
from retrofair.data.texts import TextRows, texts_of

__all__ = [
    "Batch",
    "Batches",
    "Fit",
    "GroupedData",
    "ImageRows",
    "Missing",
    "Preparation",
    "Rows",
    "Splits",
    "StreamedData",
    "TextRows",
    "images_of",
    "in_order",
    "label_names_of",
    "raw_table",
    "read_table",
    "split_frame",
    "split_rows",
    "texts_of",
]
