"""Resume a training run after its code was refactored.

A small convolutional network learns to read digits at two scales, each with a
learning rate of its own. Halfway, model and optimizer are saved. Then somebody
tidies up the code: submodules and param groups are now listed in alphabetical
order. The network computes what it always did, and every parameter still has
its name. Does the resumed run continue as if nothing had happened?

The script trains three times from that checkpoint:

* uninterrupted: the run that never stopped;
* reordered: submodules and param groups in another order;
* regrouped: in that order, and with one param group per layer, loaded with
  ``strict=False``.

It compares the final parameters bit for bit, prints the loss curves and draws
them. The exit status is 0 if both resumed runs end where the uninterrupted one
does, and 1 if not.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import AdamW, Optimizer


BATCH_SIZE = 32
CHANNELS = 12

#: The options of each part of the network. They differ on purpose.
OPTIONS: dict[str, dict[str, float]] = {
    "fine": {"lr": 3e-3, "weight_decay": 0.0},
    "coarse": {"lr": 1e-4, "weight_decay": 0.1},
    "head": {"lr": 1e-3, "weight_decay": 0.01},
}

Groups = list[dict[str, Any]]


class Run(NamedTuple):
    """A model, the optimizer that trains it, and the loss of each epoch."""

    model: nn.Module
    optimizer: Optimizer
    losses: list[float]


class Holding(NamedTuple):
    """What an optimizer holds for one parameter."""

    momentum: Tensor
    lr: float


# ---- The network and its param groups ----------------------------------------


class TwoScales(nn.Module):
    """Looks at an image through close and through spread 3x3 windows.

    Args:
        parts (sequence of str): the order in which the submodules are
            registered. It makes no difference to what is computed.
    """

    def __init__(self, parts: Sequence[str] = ("fine", "coarse", "head")) -> None:
        super().__init__()
        modules = {
            "fine": _branch(dilation=1),
            "coarse": _branch(dilation=2),
            "head": nn.Linear(2 * CHANNELS * 4 * 4, 10),
        }
        for part in parts:
            self.add_module(part, modules[part])

    def forward(self, images: Tensor) -> Tensor:
        """Images of shape (N, 1, 8, 8) to logits of shape (N, 10)."""
        scales = torch.cat([self.fine(images), self.coarse(images)], dim=1)
        return self.head(functional.max_pool2d(scales, 2).flatten(1))


def _branch(dilation: int) -> nn.Module:
    same_size = {"padding": dilation, "dilation": dilation}
    return nn.Sequential(
        nn.Conv2d(1, CHANNELS, 3, **same_size),
        nn.ReLU(),
        nn.Conv2d(CHANNELS, CHANNELS, 3, **same_size),
        nn.ReLU(),
    )


def groups_by_part(model: nn.Module) -> Groups:
    """One param group per part of the network, with that part's options."""
    return [
        {"params": part.named_parameters(prefix=name), **OPTIONS[name]}
        for name, part in model.named_children()
    ]


def groups_by_layer(model: nn.Module) -> Groups:
    """One param group per layer. The options are left to the checkpoint."""
    return [
        {"params": layer.named_parameters(prefix=name)}
        for name, layer in model.named_modules()
        if isinstance(layer, (nn.Conv2d, nn.Linear))
    ]


#: The ways to resume: the param groups, and how the optimizer is to load.
RESUMPTIONS: dict[str, tuple[Callable[[nn.Module], Groups], dict[str, bool]]] = {
    "reordered": (groups_by_part, {}),
    "regrouped": (groups_by_layer, {"strict": False}),
}


# ---- Training, saving, resuming ----------------------------------------------


def train(run: Run, images: Tensor, labels: Tensor, epochs: range) -> None:
    """Train, and append the mean training loss of each epoch to ``run.losses``."""
    for epoch in epochs:
        order = torch.Generator().manual_seed(epoch)
        total = 0.0
        for batch in torch.randperm(len(images), generator=order).split(BATCH_SIZE):
            run.optimizer.zero_grad()
            loss = functional.cross_entropy(run.model(images[batch]), labels[batch])
            loss.backward()
            run.optimizer.step()
            total += loss.item() * len(batch)
        run.losses.append(total / len(images))


def save(run: Run, checkpoint: Path) -> None:
    """Save what is needed to resume."""
    state = {
        "model": run.model.state_dict(),
        "optimizer": run.optimizer.state_dict(),
        "losses": run.losses,
    }
    torch.save(state, checkpoint)


def resume(
    checkpoint: Path, make_groups: Callable[[nn.Module], Groups], **how: bool
) -> Run:
    """Build the refactored model and its optimizer, and load a checkpoint."""
    model = TwoScales(parts=sorted(OPTIONS))
    optimizer = AdamW(make_groups(model))
    saved = torch.load(checkpoint, weights_only=True)
    model.load_state_dict(saved["model"])
    optimizer.load_state_dict(saved["optimizer"], **how)
    return Run(model, optimizer, saved["losses"])


# ---- What came of it ---------------------------------------------------------


def holdings(run: Run) -> dict[str, Holding]:
    """What the optimizer holds for each parameter, by the model's names."""
    optimizer = run.optimizer
    lrs = {p: group["lr"] for group in optimizer.param_groups for p in group["params"]}
    return {
        name: Holding(optimizer.state[param]["exp_avg"].clone(), lrs[param])
        for name, param in run.model.named_parameters()
    }


def mix_ups(saved: dict[str, Holding], loaded: dict[str, Holding]) -> list[str]:
    """Say which parameters hold after loading what belongs to others."""

    def same(one: Holding, other: Holding) -> bool:
        return torch.equal(one.momentum, other.momentum)

    found = []
    for name, own in saved.items():
        held = loaded[name]
        wrong = []
        if not same(own, held):
            owner = next((n for n, h in saved.items() if same(h, held)), "no parameter")
            wrong.append(f"momentum of {owner}")
        if held.lr != own.lr:
            wrong.append(f"learning rate {held.lr:g} instead of {own.lr:g}")
        if wrong:
            found.append(f"{name}: {', '.join(wrong)}")
    return found


def differing(run: Run, other: Run) -> list[str]:
    """The names of the parameters that are not the same, bit for bit."""
    theirs = dict(other.model.named_parameters())
    return [n for n, p in run.model.named_parameters() if not torch.equal(p, theirs[n])]


def print_curves(curves: dict[str, list[float]], first: int) -> None:
    """Print the losses of the epochs from ``first`` on, one column per run."""
    print("\nepoch  " + "  ".join(f"{title:>13}" for title in curves))
    for epoch, losses in enumerate(zip(*curves.values()), start=1):
        if epoch >= first:
            print(f"{epoch:5}  " + "  ".join(f"{loss:13.9f}" for loss in losses))


def draw_curves(curves: dict[str, list[float]], saved_at: int, picture: Path) -> None:
    """Draw the loss curves into a PNG file."""
    matplotlib.use("Agg")
    from matplotlib import pyplot

    styles = [
        {"color": "0.8", "linewidth": 6},
        {"color": "tab:red", "linewidth": 1.8},
        {"color": "tab:blue", "linewidth": 1.8, "linestyle": (0, (4, 4))},
    ]
    figure, axes = pyplot.subplots(figsize=(7, 3.6), layout="constrained")
    for (title, losses), style in zip(curves.items(), styles):
        start = 1 if title == "uninterrupted" else saved_at
        epochs = range(start, len(losses) + 1)
        axes.plot(epochs, losses[start - 1 :], label=title, **style)
    axes.axvline(saved_at, color="0.4", linewidth=0.8, linestyle=":")
    axes.annotate(
        "saved, resumed",
        (saved_at, 1),
        xycoords=("data", "axes fraction"),
        xytext=(4, -12),
        textcoords="offset points",
        color="0.4",
    )
    axes.set(yscale="log", xlabel="epoch", ylabel="training loss")
    axes.set_title(f"torch {torch.__version__}")
    axes.legend(frameon=False)
    picture.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(picture, dpi=100)


def parse_options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").partition("\n")[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--epochs", type=int, default=16, help="length of a run")
    parser.add_argument("--seed", type=int, default=0, help="of the first weights")
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("build", "resume_after_refactoring.png"),
        metavar="FILE",
        help="where the picture goes",
    )
    options = parser.parse_args()
    if options.epochs < 2:
        parser.error("--epochs must be at least 2, or there is nothing to resume.")
    return options


def main() -> int:
    """Run the experiment.

    Returns:
        int: the exit status.
    """
    options = parse_options()
    torch.manual_seed(options.seed)
    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(1)
    digits = load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1) / 16
    labels = torch.tensor(digits.target)
    half = options.epochs // 2

    model = TwoScales()
    uninterrupted = Run(model, AdamW(groups_by_part(model)), [])
    train(uninterrupted, images, labels, range(half))
    saved = holdings(uninterrupted)
    resumed: dict[str, Run] = {}
    refused: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = Path(folder, "checkpoint.pt")
        save(uninterrupted, checkpoint)
        for title, (make_groups, how) in RESUMPTIONS.items():
            try:
                resumed[title] = resume(checkpoint, make_groups, **how)
            except (TypeError, ValueError) as error:
                refused[title] = str(error)

    print(f"torch {torch.__version__}, saved after epoch {half} of {options.epochs}")
    for title, run in resumed.items():
        found = mix_ups(saved, holdings(run))
        count = f"{len(found)} of {len(saved)} parameters"
        print(f"{title}: loaded without an error; {count} hold what is not theirs")
        print("".join(f"    {line}\n" for line in found), end="")
    for title, reason in refused.items():
        print(f"{title}: not loaded: {reason}")

    for run in (uninterrupted, *resumed.values()):
        train(run, images, labels, range(half, options.epochs))
    runs = {"uninterrupted": uninterrupted, **resumed}
    curves = {title: run.losses for title, run in runs.items()}
    print_curves(curves, first=half)
    draw_curves(curves, half, options.out)
    print(f"\nThe curves are drawn in {options.out}.")

    failures = len(refused)
    for title, run in resumed.items():
        different = differing(uninterrupted, run)
        failures += bool(different)
        verdict = f"{len(different)} DIFFER" if different else "equal, bit for bit"
        print(f"{title}: {len(saved)} parameters at the end: {verdict}")
    for title in refused:
        print(f"{title}: NOT RESUMED")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
