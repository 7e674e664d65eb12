"""Base networks, and everything that looks into a network."""

from retrofair.networks.hugging_face_network import HuggingFaceNetwork
from retrofair.networks.image_options import image_options
from retrofair.networks.load import load_network, load_weights
from retrofair.networks.logits import as_logits
from retrofair.networks.mlp import MLP
from retrofair.networks.outputs import LogitOf, Outputs, logits, probabilities, probability
from retrofair.networks.resnet import resnet
from retrofair.networks.train import Trained, Training, fitted, train_mlp
from retrofair.networks.training import Fitting, train_network, train_with

__all__ = [
    "MLP",
    "Fitting",
    "HuggingFaceNetwork",
    "LogitOf",
    "Outputs",
    "Trained",
    "Training",
    "as_logits",
    "fitted",
    "image_options",
    "load_network",
    "load_weights",
    "logits",
    "probabilities",
    "probability",
    "resnet",
    "train_mlp",
    "train_network",
    "train_with",
]
