"""Control at batch 1: an actor and a critic, stability and acting speed.

python examples/control.py                       # TensorFlow
KERAS_BACKEND=jax python examples/control.py     # or torch

A cart is to be parked at 0 by a force in [-1, 1]. The critic learns from its
own predictions, with no copy of it held back, at a learning rate that is
ordinary and at one that is not. What spectral normalization of the hidden
layers does to that is counted over seeds. Then the actor drives one cart, one
state at a time.
"""

import keras
import numpy as np
from keras import layers
from keras import ops

LEARNING_RATES = (1e-3, 1e-2)
ACTOR_RATE = 1e-3
SEEDS = 5
STEPS = 1500
CARTS = 16
BATCH = 128
DISCOUNT = 0.97
HORIZON = 60
WIDTH = 64


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
    """Deterministic policy gradient; returns the actor and the largest value.

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
    """Mean cost of an episode from random starts; doing nothing costs 21."""
    rng = np.random.default_rng(seed)
    world = Carts(carts, rng)
    total = 0.0
    for _ in range(HORIZON):
        total -= world.step(actor.predict_on_batch(world.observations())).mean()
    return total
