"""Programs as they come, an epoch for each line of standard input; run by the interpreter of an environment that has them.

    PYTHON benchmarks/peers/as_they_come.py loader|pythae FOLDER THREADS

FOLDER holds `train.npy` and `test.npy`, MNIST in bytes, (N, 784). The answers are those of `benchmarks.peers.run`: `epoch` has
`seconds`, and `evaluate` the mean `elbo` of a test image in nats, with grey levels as probabilities.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

# Whatever a library prints goes to standard error.
ANSWERS = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
os.dup2(sys.stderr.fileno(), sys.stdout.fileno())

import numpy as np  # noqa: E402
import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402
from torch import nn  # noqa: E402


def say(**answer: object) -> None:
    """One line of JSON."""
    print(json.dumps(answer), file=ANSWERS)


class Pictures(torch.utils.data.Dataset):  # type: ignore[type-arg]
    """Images that become pictures and then tensors one by one, as those of torchvision do."""

    def __init__(self, images: np.ndarray) -> None:
        self.images = images.reshape(-1, 28, 28)

    def __len__(self) -> int:
        """Count the images."""
        return len(self.images)

    def __getitem__(self, number: int) -> torch.Tensor:
        """One image, (1, 28, 28) in [0, 1]."""
        from PIL import Image

        picture = np.array(Image.fromarray(self.images[number]), copy=True)
        return torch.from_numpy(picture)[None].float().div(255)


class Net(nn.Module):
    """784-400-20-400-784."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden, self.mean, self.log_variance = nn.Linear(784, 400), nn.Linear(400, 20), nn.Linear(400, 20)
        self.back, self.logits = nn.Linear(20, 400), nn.Linear(400, 784)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Minus the ELBO, summed over the images."""
        x = x.view(-1, 784)
        h = F.relu(self.hidden(x))
        mean, log_variance = self.mean(h), self.log_variance(h)
        z = mean + torch.exp(0.5 * log_variance) * torch.randn_like(mean)
        p = torch.sigmoid(self.logits(F.relu(self.back(z))))
        kl = -0.5 * torch.sum(1 + log_variance - mean.pow(2) - log_variance.exp())
        return F.binary_cross_entropy(p, x, reduction="sum") + kl


class Loader:
    """The script with a `DataLoader`."""

    version = f"PyTorch {torch.__version__} with a DataLoader"

    def __init__(self, train: np.ndarray, test: np.ndarray) -> None:
        self.net, self.test = Net(), torch.from_numpy(test).float() / 255
        self.adam = torch.optim.Adam(self.net.parameters(), lr=1e-3)
        self.loader = torch.utils.data.DataLoader(Pictures(train), batch_size=128, shuffle=True)

    def epoch(self) -> None:
        """All images once, with the running loss that such scripts print."""
        total = 0.0
        for x in self.loader:
            self.adam.zero_grad()
            loss = self.net(x)
            loss.backward()
            total += loss.item()
            self.adam.step()

    def elbo(self) -> float:
        """Of a test image."""
        with torch.no_grad():
            return -float(self.net(self.test)) / len(self.test)


class Pythae:
    """pythae's pipeline, in a thread that waits before each epoch."""

    def __init__(self, train: np.ndarray, test: np.ndarray) -> None:
        import pythae
        from pythae.data.datasets import BaseDataset
        from pythae.models import VAE, VAEConfig
        from pythae.pipelines import TrainingPipeline
        from pythae.trainers import BaseTrainerConfig
        from pythae.trainers.training_callbacks import TrainingCallback

        self.version = f"pythae {getattr(pythae, '__version__', '')} on PyTorch {torch.__version__}".replace("  ", " ")
        images, self.test = torch.from_numpy(train).float().view(-1, 1, 28, 28) / 255, test
        self.model = VAE(VAEConfig(input_dim=(1, 28, 28), latent_dim=10, reconstruction_loss="bce"))
        self.begin, self.end, peer = threading.Semaphore(0), threading.Semaphore(0), self

        class Turns(TrainingCallback):  # type: ignore[misc]
            """Waits for its turn."""

            def on_epoch_begin(self, training_config: object, **kwargs: object) -> None:
                peer.begin.acquire()

            def on_epoch_end(self, training_config: object, **kwargs: object) -> None:
                peer.end.release()

        folder = str(Path(sys.argv[2]) / "pythae")
        settings = BaseTrainerConfig(output_dir=folder, num_epochs=1000, no_cuda=True)
        pipeline = TrainingPipeline(model=self.model, training_config=settings)
        train_set = BaseDataset(images, torch.zeros(len(images)))
        threading.Thread(target=lambda: pipeline(train_set, callbacks=[Turns()]), daemon=True).start()

    def epoch(self) -> None:
        """One epoch of its trainer."""
        self.begin.release()
        self.end.acquire()

    def elbo(self) -> float:
        """Of a test image."""
        from pythae.data.datasets import DatasetOutput

        images = torch.from_numpy(self.test).float().view(-1, 1, 28, 28) / 255
        self.model.eval()
        with torch.no_grad():
            return -float(self.model(DatasetOutput({"data": images})).loss)


def main() -> None:
    """Answer until standard input ends."""
    name, folder, threads = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    programs: dict[str, Any] = {"loader": Loader, "pythae": Pythae}
    program = programs[name](np.load(folder / "train.npy"), np.load(folder / "test.npy"))
    say(version=program.version)
    for line in sys.stdin:
        if line.split() == ["evaluate"]:
            say(elbo=program.elbo())
        elif line.split() == ["epoch"]:
            start = time.perf_counter()
            program.epoch()
            say(seconds=time.perf_counter() - start)
    os._exit(0)


if __name__ == "__main__":
    main()
