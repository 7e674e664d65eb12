"""Retrofit fairness to a trained neural network: audit it, debias it, certify it."""

from retrofair.data import GroupedData
from retrofair.errors import InputError, RetrofairError, RetrofairWarning

__version__ = "0.1.0"
__all__ = ["GroupedData", "InputError", "RetrofairError", "RetrofairWarning", "__version__"]
