"""The study `celeba`: its cells and their keys, samples, devices, its page and the gallery."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import TINY
from PIL import Image
from pictures import Pictures

import retrofair as rf
from retrofair.cli.app import run as command
from retrofair.data import StreamedData
from retrofair.debiasers import Threshold
from retrofair.errors import InputError
from retrofair.objective import Constrained
from retrofair.studies import Method, Plan, Store, Study, celeba_page, devices, run, studies_of
from retrofair.studies.celeba import CELEBA, Faces
