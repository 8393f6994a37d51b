"""Networks of images, sequences and smooth activations beside PyTorch and JAX: training steps, each library in a process.

    python bench/networks.py --threads 1,2 --rounds 7 --out networks.json

Libraries take turns of a fifth of a second on the same CPUs, with their thread counts set; a ratio is the median over the rounds
of the two rates within one. All begin with the same parameters and see the same batches: `--check` prints how far the losses of
the first 10 steps are apart. Modes: tinydl serial, and on several threads shard (each batch cut into a part a thread, the same
updates) and group (a batch a thread, their mean one update); torch eager with fused Adam, the same channels_last, and
torch.compile of model and loss; jax step, one jitted call a batch, and scan, eight batches a call (not of images).

networks_torch.py and networks_jax.py have the others' networks. PyTorch is kept from handing memory back to the system after each
step (MALLOC_MMAP_THRESHOLD_, MALLOC_TRIM_THRESHOLD_), which would cost it a fifth.
"""
import argparse
import importlib
import json
import os
import statistics
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from tinydl import Model, Trainer, data, losses, nn, optim, torch_weights

BATCHES = 8         # in memory
MODES = {"tinydl": ("serial",), "torch": ("eager", "nhwc", "compile"), "jax": ("step", "scan")}
SEVERAL = {"tinydl": ("shard", "group")}
IMAGES = ("cnn", "residual", "depthwise")


def separable(i, o):
    return [nn.Conv2d(i, i, 3, padding=1, groups=i, bias=False), nn.BatchNorm2d(i), nn.ReLU(),
            nn.Conv2d(i, o, 1, bias=False), nn.BatchNorm2d(o), nn.ReLU()]


def block(i, o, stride):
    """Two convolutions and a shortcut, of 1x1 where sizes change."""
    inner = nn.Sequential(nn.Conv2d(i, o, 3, stride, 1, bias=False), nn.BatchNorm2d(o), nn.ReLU(),
                          nn.Conv2d(o, o, 3, padding=1, bias=False), nn.BatchNorm2d(o))
    if i == o:
        return nn.Residual(inner)
    return [inner, nn.Sequential(nn.Conv2d(i, o, 1, stride, bias=False), nn.BatchNorm2d(o))]


def residual(x):
    h = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU())(x)
    for i, o, stride in ((16, 16, 1), (16, 16, 1), (16, 32, 2), (32, 32, 1), (32, 64, 2), (64, 64, 1)):
        made = block(i, o, stride)
        h = nn.ReLU()(nn.Add()([part(h) for part in made]) if isinstance(made, list) else made(h))
    return nn.Linear(64, 10)(nn.GlobalAvgPool()(h))


#: of each: sample, batch, classes, the network
NETS = {
    "silu": ((30,), 1024, 10, lambda: nn.Sequential(
        nn.Linear(30, 128), nn.SiLU(), nn.Linear(128, 128), nn.SiLU(), nn.Linear(128, 128), nn.SiLU(), nn.Linear(128, 10))),
    "gelu": ((64,), 256, 10, lambda: nn.Sequential(
        nn.Linear(64, 256), nn.LayerNorm(256), nn.GELU(), nn.Linear(256, 256), nn.LayerNorm(256), nn.GELU(), nn.Linear(256, 10))),
    "cnn": ((1, 28, 28), 64, 10, lambda: nn.Sequential(
        nn.Conv2d(1, 32, 3), nn.ReLU(), nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(64 * 144, 128), nn.ReLU(), nn.Linear(128, 10))),
    "residual": ((3, 32, 32), 64, 10, residual),
    "depthwise": ((3, 32, 32), 64, 10, lambda: nn.Sequential(
        nn.Conv2d(3, 32, 3, padding=1, bias=False), nn.BatchNorm2d(32), nn.ReLU(), *separable(32, 64), *separable(64, 128),
        nn.GlobalAvgPool(), nn.Linear(128, 10))),
    "lstm": ((32, 32), 64, 10, lambda: nn.Sequential(nn.LSTM(32, 128, return_sequences=False), nn.Linear(128, 10))),
    "gru": ((16, 8), 16, 10, lambda: nn.Sequential(nn.GRU(8, 64, return_sequences=False), nn.Linear(64, 10))),
    "transformer": ((32, 64), 32, 10, lambda: nn.Sequential(
        nn.TransformerEncoderLayer(64, 4, 256, dropout=0.0), nn.TransformerEncoderLayer(64, 4, 256, dropout=0.0), nn.Mean(0),
        nn.Linear(64, 10))),
    "characters": ((64,), 32, 96, lambda: nn.Sequential(
        nn.Embedding(96, 64), nn.LSTM(64, 256, num_layers=2), nn.Linear(256, 96))),
}


def arrays(name):
    """x and y of all batches; labels are random, so the loss stays near that of a guess."""
    shape, batch, classes, _ = NETS[name]
    random = np.random.default_rng(1)
    n = batch * BATCHES
    if name == "characters":
        return random.integers(0, classes, (n, *shape)), random.integers(0, classes, (n, *shape))
    return (0.3 * random.standard_normal((n, *shape))).astype(np.float32), random.integers(0, classes, n)


def model(name):
    shape, _, _, make = NETS[name]
    if name == "residual":
        x = nn.Input(shape)
        return Model(inputs=x, outputs=residual(x), seed=0)
    made = Model(make(), seed=0)
    made.predict(arrays(name)[0][:1])       # so that it knows its inputs
    return made


def parameters(name):
    """PyTorch's names and layouts: what all libraries begin with."""
    return torch_weights.state_dict(model(name))


class Ours:
    def __init__(self, name, mode, threads):
        strategy = {"serial": {"strategy": "serial"}, "shard": {"strategy": "shard", "shards_per_batch": threads},
                    "group": {"strategy": "group", "batches_per_update": threads}}[mode]
        self.trainer = Trainer(1, seed=0, thread_count=threads, enable_parallel=threads > 1, **strategy)
        x, y = arrays(name)
        self.batch = NETS[name][1]
        self.trainer.init(data.ArrayDataset(x, y, self.batch), model(name), losses.SoftmaxCrossEntropy(), optim.Adam(1e-3))

    def epochs(self, n):
        self.trainer.max_epochs = n
        self.trainer.train(shuffle=False)

    def losses(self):
        first = []
        x, y = arrays_of_steps(self.trainer.data.train, self.batch)
        for step in range(10):
            self.trainer.feed(data.ArrayDataset(x[step % BATCHES], y[step % BATCHES], self.batch))
            first.append(self.trainer.train(shuffle=False)["loss"][-1])
        return first


def arrays_of_steps(dataset, batch):
    return [np.split(a, len(a) // batch) for a in (dataset.x, dataset.y)]


def serve(library, mode, name, threads):
    """Answers each line, a number of epochs or `losses`, by a line of JSON."""
    made = {"tinydl": Ours} if library == "tinydl" else {library: importlib.import_module(f"networks_{library}").Network}
    contender = made[library](name, mode, int(threads))
    for line in sys.stdin:
        if line.strip() == "losses":
            print(json.dumps(contender.losses()), flush=True)
            continue
        start = time.perf_counter()
        contender.epochs(int(line))
        print(json.dumps(time.perf_counter() - start), flush=True)


class Contender:
    """A served one, in a process on the first `threads` CPUs."""

    def __init__(self, library, mode, name, threads):
        self.label, self.threads = f"{library} {mode}", threads
        cpus = sorted(os.sched_getaffinity(0))[:threads]
        variables = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), str(threads))
        if library == "torch":
            variables |= {"MALLOC_MMAP_THRESHOLD_": "4294967296", "MALLOC_TRIM_THRESHOLD_": "4294967296"}
        self.process = subprocess.Popen(
            [sys.executable, __file__, "--serve", library, mode, name, str(threads)], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, text=True, env={**os.environ, **variables, "JAX_PLATFORMS": "cpu"},
            preexec_fn=lambda: os.sched_setaffinity(0, cpus))
        self.epochs = 1

    def ask(self, what):
        print(what, file=self.process.stdin, flush=True)
        answer = self.process.stdout.readline()
        if not answer:
            raise RuntimeError(f"{self.label} has ended; its message is above")
        return json.loads(answer)

    def warm_up(self, seconds):
        self.ask(1)
        self.epochs = max(1, round(seconds / max(1e-6, min(self.ask(1), self.ask(1)))))
        self.ask(self.epochs)

    def turn(self):
        """Batches a second."""
        return self.epochs * BATCHES / self.ask(self.epochs)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.wait()


def measure(name, threads, libraries, rounds, seconds):
    """Of each contender its batches a second, in each round."""
    modes = {library: SEVERAL.get(library, MODES[library]) if threads > 1 else MODES[library] for library in libraries}
    left_out = "scan" if name in IMAGES else "nhwc"         # convolutions within a scan take 70 times as long
    chosen = [(library, mode) for library in libraries for mode in modes[library] if mode != left_out]
    with ExitStack() as stack:
        there = []
        for library, mode in chosen:
            one = stack.enter_context(Contender(library, mode, name, threads))
            try:
                one.warm_up(seconds)
                there.append(one)
            except RuntimeError as e:
                print(e, file=sys.stderr)
        rates = {one.label: [] for one in there}
        for _ in range(rounds):
            for one in there:
                rates[one.label].append(one.turn())
    return rates


def report(name, threads, rates):
    _, batch, *_ = NETS[name]
    print(f"{name}, {threads} thread{'s' * (threads > 1)}")
    ours = [label for label in rates if label.startswith("tinydl")]
    for label, each in sorted(rates.items(), key=lambda item: -statistics.median(item[1])):
        ahead = "" if label in ours else "".join(
            f"  {statistics.median(a / b for a, b in zip(rates[o], each, strict=True)):6.2f} x" for o in ours)
        print(f"  {label:16}{statistics.median(each) * batch:12,.0f} samples/s{ahead}", flush=True)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--networks", default=",".join(NETS))
    p.add_argument("--against", default="torch,jax")
    p.add_argument("--threads", default="1")
    p.add_argument("--rounds", type=int, default=7)
    p.add_argument("--seconds", type=float, default=0.2)
    p.add_argument("--check", action="store_true", help="how far the losses of the first 10 steps are apart")
    p.add_argument("--out", type=Path)
    p.add_argument("--serve", nargs=4, help=argparse.SUPPRESS)
    a = p.parse_args()
    if a.serve:
        return serve(*a.serve)
    libraries = ["tinydl", *filter(None, a.against.split(","))]
    found = {}
    for name in a.networks.split(","):
        if a.check:
            with ExitStack() as stack:
                ours, *others = [stack.enter_context(Contender(library, MODES[library][0], name, 1)) for library in libraries]
                want = ours.ask("losses")
                for one in others:
                    print(f"{name}: losses of {one.label} differ by "
                          f"{max(abs(x - y) for x, y in zip(want, one.ask('losses'), strict=True)):.1e}", flush=True)
        for threads in map(int, a.threads.split(",")) if a.rounds else ():
            found[f"{name} {threads}"] = rates = measure(name, threads, libraries, a.rounds, a.seconds)
            report(name, threads, rates)
    if a.out:
        a.out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
