"""Pre-processing: rows weighted or drawn again before a network is trained, by any training."""

from retrofair.preprocessing.resampling import resample, resampling_weights
from retrofair.preprocessing.reweighing import reweighing

__all__ = ["resample", "resampling_weights", "reweighing"]
