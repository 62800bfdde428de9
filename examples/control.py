"""Control at batch 1: an actor and a critic, stability and acting speed.

python examples/control.py                       # TensorFlow
KERAS_BACKEND=jax python examples/control.py     # or torch

A cart is to be parked at 0 by a force in [-1, 1]. The critic learns from its
own predictions, with no copy of it held back, at learning rates from ordinary
to too large. No sum of rewards to come is above 37; what the critic believes
is recorded. Normalized are the hidden layers in the middle of both networks.
Then the actor drives one cart, one state at a time, and is timed.
"""

import time

import hush  # noqa: F401
import keras
import numpy as np
from keras import layers
from keras import ops
from matplotlib.figure import Figure
from running import Results
from running import bar
from running import finish
from running import parser
from running import rates_on_axis

from keras_sn import SpectralNormalization
from keras_sn.models import fold_model

LEARNING_RATES = (1e-3, 1e-2, 1e-1, 3e-1)  # Of the critic.
ACTOR_RATE = 1e-3
SEEDS = 5
STEPS = 800
CARTS = 16
BATCH = 128
DISCOUNT = 0.97
HORIZON = 60
WIDTH = 64
# Doing nothing costs 44 an episode, a linear controller 2.9.
PARKED = 5.0
# A critic that believes so much more than is possible has diverged.
DIVERGED = 10 * 1.11 / (1 - DISCOUNT)

WRAPPERS = {"plain": lambda layer: layer, "normalized": SpectralNormalization}


class Carts:
    """Carts on a line: position and speed, drawn anew every HORIZON steps."""

    def __init__(self, number, rng):
        self.rng = rng
        self.number = number
        self.start()

    def start(self):
        self.states = self.rng.uniform(-1, 1, (self.number, 2))
        self.age = 0

    def step(self, forces):
        """Moves all; returns the rewards `(number,)`, from -1.1 to 0."""
        position, speed = self.states.T
        rewards = -(position**2 + 0.1 * speed**2 + 0.01 * forces[:, 0] ** 2)
        speed = np.clip(speed + 0.15 * forces[:, 0], -1, 1)
        position = np.clip(position + 0.1 * speed, -1, 1)
        self.states = np.stack([position, speed], axis=1)
        self.age += 1
        return rewards

    def observations(self):
        return self.states.astype("float32")


def make_actor(wrap):
    return keras.Sequential(
        [
            keras.Input((2,)),
            layers.Dense(WIDTH, "relu"),
            wrap(layers.Dense(WIDTH, "relu")),
            layers.Dense(1, "tanh"),
        ],
        name="actor",
    )


def make_critic(wrap):
    """State and force to the discounted sum of the rewards to come."""
    return keras.Sequential(
        [
            keras.Input((3,)),
            layers.Dense(WIDTH, "relu"),
            wrap(layers.Dense(WIDTH, "relu")),
            layers.Dense(1),
        ],
        name="critic",
    )


class ActorStep(keras.Model):
    """States to the values of the actor's forces; the critic rests."""

    def __init__(self, actor, critic):
        super().__init__()
        self.actor = actor
        self.critic = critic

    def call(self, states, training=None):
        forces = self.actor(states, training=training)
        return self.critic(ops.concatenate([states, forces], axis=1))

    def compute_loss(
        self, x=None, y=None, y_pred=None, sample_weight=None, training=True
    ):
        return -ops.mean(y_pred)


def train(wrap, learning_rate, seed, steps):
    """Deterministic policy gradient.

    Returns:
        The actor, and the largest value that the critic came to believe.

    Reference: Lillicrap et al., 2016, https://arxiv.org/abs/1509.02971
    """
    keras.utils.set_random_seed(seed)
    rng = np.random.default_rng(seed)
    actor, critic = make_actor(wrap), make_critic(wrap)
    critic.compile(keras.optimizers.Adam(learning_rate), "mse")
    acting = ActorStep(actor, critic)
    acting.compile(keras.optimizers.Adam(ACTOR_RATE))
    carts, memory = Carts(CARTS, rng), []
    largest = 0.0
    for _ in range(steps):
        before = carts.observations()
        forces = actor.predict_on_batch(before)
        forces = np.clip(forces + 0.3 * rng.normal(size=forces.shape), -1, 1)
        forces = forces.astype("float32")
        rewards = carts.step(forces)
        after = carts.observations()
        memory.extend(zip(before, forces, rewards, after, strict=True))
        if carts.age == HORIZON:
            carts.start()

        drawn = [memory[i] for i in rng.integers(len(memory), size=BATCH)]
        states, forces, rewards, after = map(np.stack, zip(*drawn, strict=True))
        next_forces = actor.predict_on_batch(after)
        values = critic.predict_on_batch(np.hstack([after, next_forces]))
        largest = max(largest, float(np.abs(values).max()))
        targets = rewards[:, None].astype("float32") + DISCOUNT * values
        critic.trainable = True
        critic.train_on_batch(np.hstack([states, forces]), targets)
        critic.trainable = False
        acting.train_on_batch(states)
    return actor, largest


def cost(actor, seed=1000, carts=200):
    """Mean cost of an episode, over carts at random starts."""
    rng = np.random.default_rng(seed)
    world = Carts(carts, rng)
    total = 0.0
    for _ in range(HORIZON):
        total -= world.step(actor.predict_on_batch(world.observations())).mean()
    return total


def seconds_per_action(actor, calls):
    """`{way to call it: median seconds}`, for one state."""
    state = np.array([[0.5, -0.2]], "float32")
    ways = {
        "actor(state)": lambda: np.array(
            ops.convert_to_numpy(actor(state, training=False))
        ),
        "predict_on_batch": lambda: actor.predict_on_batch(state),
    }
    return {way: median_seconds(call, calls) for way, call in ways.items()}


def median_seconds(call, calls):
    taken = []
    for _ in range(calls):
        start = time.perf_counter()
        call()
        taken.append(time.perf_counter() - start)
    return float(np.median(taken))


def speeds(actors, calls):
    """Rows: the actors of `{name: actor}`, in turns, the best of three."""
    found = {name: [] for name in actors}
    for _ in range(3):
        for name, actor in actors.items():
            found[name].append(seconds_per_action(actor, calls))
    return [
        (name, *(f"{1e6 * min(t[way] for t in taken):.0f}" for way in taken[0]))
        for name, taken in found.items()
    ]


def stability(runs):
    """Rows, from `{(wrapper, rate): [(cost, largest value)]}`."""
    return [
        (
            name,
            f"{rate:g}",
            f"{sum(cost <= PARKED for cost, _ in some)} of {len(some)}",
            f"{np.median([cost for cost, _ in some]):.1f}",
            f"{sum(value > DIVERGED for _, value in some)} of {len(some)}",
            f"{np.median([v for _, v in some]):.0f}",
            f"{max(value for _, value in some):.3g}",
        )
        for (name, rate), some in runs.items()
    ]


def draw(runs):
    """The largest value of every run, and its cost."""
    figure = Figure((9, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    for number, name in enumerate(WRAPPERS):
        rates = [r for n, r in runs if n == name for _ in runs[n, r]]
        rates = np.array(rates) * (0.93, 1.07)[number]
        some = [pair for key in runs if key[0] == name for pair in runs[key]]
        left.plot(rates, [value for _, value in some], "ox"[number], label=name)
        right.plot(rates, [cost for cost, _ in some], "ox"[number], label=name)
    left.axhline(1.11 / (1 - DISCOUNT), color="black", linewidth=0.8)
    left.set_ylabel("largest |value| believed")
    right.axhline(PARKED, color="black", linewidth=0.8)
    right.set_ylabel("cost of an episode")
    for axes in (left, right):
        axes.set_yscale("log")
        rates_on_axis(axes, sorted({rate for _, rate in runs}))
        axes.set_xlabel("learning rate of the critic")
    left.legend()
    return figure


def main():
    options = parser(__doc__, "control").parse_args()
    rates, seeds, steps, calls = LEARNING_RATES, SEEDS, STEPS, 300
    if options.quick:
        rates, seeds, steps, calls = rates[:1], 1, 5, 3
    runs, actors = {}, {}
    with bar("", len(rates) * len(WRAPPERS) * seeds + 1) as step:
        for rate in rates:
            for name, wrap in WRAPPERS.items():
                runs[name, rate] = []
                for seed in range(seeds):
                    step(f"{name}, learning rate {rate:g}, seed {seed}")
                    actor, largest = train(wrap, rate, seed, steps)
                    runs[name, rate].append((cost(actor), largest))
                    actors.setdefault(name, actor)
        step("speed")
        actors["folded"] = fold_model(actors["normalized"])
        fast = speeds(actors, calls)
    finish(
        options.output,
        [
            Results(
                "Stability",
                (
                    *("networks", "rate", "parked", "cost"),
                    *("diverged", "largest value", "worst"),
                ),
                stability(runs),
            ),
            Results(
                "Microseconds for one action",
                ("actor", "actor(state)", "predict_on_batch"),
                fast,
            ),
        ],
        draw(runs),
    )


if __name__ == "__main__":
    main()
