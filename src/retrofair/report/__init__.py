"""One HTML file for people: what was asked, what was found, how sure that is, how to repeat it."""

from retrofair.report.page import page
from retrofair.report.record import read_record, record, write_record
from retrofair.report.sections import sections
from retrofair.report.written import report

__all__ = ["page", "read_record", "record", "report", "sections", "write_record"]
