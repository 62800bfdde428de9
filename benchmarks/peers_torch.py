"""PyTorch's own `parametrizations.spectral_norm`, on models of PyTorch."""

import io
from collections.abc import Callable

import torch
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

from benchmarks.subjects import Subject
from benchmarks.workloads import PLAIN_MLP
from benchmarks.workloads import RESNET_18
from benchmarks.workloads import SNGAN
from benchmarks.workloads import TOKENS
from benchmarks.workloads import Case

PLAIN = "PyTorch plain"
NORMALIZED = "PyTorch"
Wrap = Callable[[nn.Module], nn.Module]


class TorchSubject(Subject):
    """A model of PyTorch, without Keras."""

    def __init__(
        self, name: str, model: nn.Module, inputs: torch.Tensor
    ) -> None:
        super().__init__(name, PLAIN)
        self.model = model
        self.inputs = inputs
        with torch.no_grad():
            self.targets = torch.randn_like(model(inputs))
        self.optimizer = torch.optim.SGD(model.parameters(), 1e-4)

    def train(self) -> None:
        self.model.train()
        self.optimizer.zero_grad()
        loss = nn.functional.mse_loss(self.model(self.inputs), self.targets)
        loss.backward()
        self.optimizer.step()
        loss.item()

    def predict(self) -> None:
        self.model.eval()
        with torch.inference_mode():
            self.model(self.inputs).cpu().numpy()

    def call(self) -> None:
        self.model.eval()
        # With a graph, as Keras's eager call records one.
        self.model(self.inputs).detach().cpu().numpy()

    def reload(self) -> None:
        buffer = io.BytesIO()
        torch.save(self.model.state_dict(), buffer)
        buffer.seek(0)
        self.model.load_state_dict(torch.load(buffer))


def mlp(wrap: Wrap) -> nn.Module:
    """As `workloads.mlp`."""
    modules: list[nn.Module] = []
    for size, width in zip(PLAIN_MLP, PLAIN_MLP[1:], strict=False):  # noqa: RUF007
        modules += [wrap(nn.Linear(size, width)), nn.ReLU()]
    return nn.Sequential(*modules[:-1])


def discriminator(wrap: Wrap) -> nn.Module:
    """As `workloads.discriminator`."""
    modules: list[nn.Module] = []
    channels = 3
    for filters, size, strides in SNGAN:
        layer = nn.Conv2d(channels, filters, size, strides, padding=1)
        modules += [wrap(layer), nn.LeakyReLU(0.1)]
        channels = filters
    return nn.Sequential(
        *modules, nn.Flatten(), wrap(nn.Linear(channels * 16, 1))
    )


class Residual(nn.Module):
    """A block of two convolutions of a ResNet."""

    def __init__(
        self, wrap: Wrap, channels: int, filters: int, strides: int
    ) -> None:
        super().__init__()
        self.path = nn.Sequential(
            *_convolution(wrap, channels, filters, 3, strides),
            nn.ReLU(),
            *_convolution(wrap, filters, filters, 3),
        )
        same = strides == 1 and channels == filters
        shortcut = _convolution(wrap, channels, filters, 1, strides)
        self.shortcut = nn.Identity() if same else nn.Sequential(*shortcut)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.shortcut(x) + self.path(x))


def _convolution(
    wrap: Wrap, channels: int, filters: int, size: int, strides: int = 1
) -> list[nn.Module]:
    layer = nn.Conv2d(
        channels, filters, size, strides, padding=size // 2, bias=False
    )
    return [wrap(layer), nn.BatchNorm2d(filters)]


def resnet18(wrap: Wrap) -> nn.Module:
    """As `workloads.resnet` of 18 layers."""
    modules = [*_convolution(wrap, 3, 64, 3), nn.ReLU()]
    channels = 64
    for stage, (filters, blocks) in enumerate(RESNET_18):
        for i in range(blocks):
            strides = 2 if stage and not i else 1
            modules.append(Residual(wrap, channels, filters, strides))
            channels = filters
    return nn.Sequential(
        *modules,
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        wrap(nn.Linear(channels, 10)),
    )


class MeanEmbedding(nn.Module):
    """As `workloads.embedding`."""

    def __init__(self, wrap: Wrap) -> None:
        super().__init__()
        self.table = wrap(nn.Embedding(TOKENS, 64))
        self.head = wrap(nn.Linear(64, 10))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.table(x).mean(1))


def images(batch: int) -> torch.Tensor:
    return torch.randn(batch, 3, 32, 32)


# Name of the case: the model and its inputs.
MODELS = {
    "mlp": (mlp, lambda batch: torch.randn(batch, PLAIN_MLP[0])),
    "discriminator": (discriminator, images),
    "resnet18": (resnet18, images),
    "embedding": (
        MeanEmbedding,
        lambda batch: torch.randint(0, TOKENS, (batch, 64)),
    ),
}


def subjects(case: Case) -> list[Subject]:
    """The plain model and the normalized one, if there is an equal model."""
    if case.name not in MODELS:
        return []
    build, inputs = MODELS[case.name]
    torch.manual_seed(0)
    # Where Keras computes.
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return [
        TorchSubject(
            name, build(wrap).to(device), inputs(case.batch).to(device)
        )
        for name, wrap in ((PLAIN, lambda m: m), (NORMALIZED, spectral_norm))
    ]
