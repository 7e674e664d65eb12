"""Deployment: a network with its rule and preparation as one file that other programs run."""

from retrofair.deploy.exported import Exported
from retrofair.deploy.form import Input
from retrofair.deploy.formats import FORMATS
from retrofair.deploy.parity import Parity
from retrofair.deploy.run import export
from retrofair.deploy.served import Served
from retrofair.deploy.timing import Timing

__all__ = ["FORMATS", "Exported", "Input", "Parity", "Served", "Timing", "export"]
