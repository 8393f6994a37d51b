"""PyTorch's part of networks.py."""
import networks
import torch
import torch.nn.functional as F
from torch import nn


class Last(nn.Module):
    def forward(self, x):
        return x[:, -1]


class Mean(nn.Module):
    def __init__(self, axes):
        super().__init__()
        self.axes = axes

    def forward(self, x):
        return x.mean(self.axes)


class LSTM(nn.LSTM):
    def forward(self, x):
        return super().forward(x)[0]


class GRU(nn.GRU):
    def forward(self, x):
        return super().forward(x)[0]


class Block(nn.Module):
    def __init__(self, i, o, stride):
        super().__init__()
        self.inner = nn.Sequential(nn.Conv2d(i, o, 3, stride, 1, bias=False), nn.BatchNorm2d(o), nn.ReLU(),
                                   nn.Conv2d(o, o, 3, padding=1, bias=False), nn.BatchNorm2d(o))
        self.short = nn.Identity() if i == o else nn.Sequential(nn.Conv2d(i, o, 1, stride, bias=False), nn.BatchNorm2d(o))

    def forward(self, x):
        return F.relu(self.inner(x) + self.short(x))


def separable(i, o):
    return [nn.Conv2d(i, i, 3, padding=1, groups=i, bias=False), nn.BatchNorm2d(i), nn.ReLU(),
            nn.Conv2d(i, o, 1, bias=False), nn.BatchNorm2d(o), nn.ReLU()]


def encoder():
    return nn.TransformerEncoderLayer(64, 4, 256, dropout=0.0, batch_first=True)


NETS = {
    "silu": lambda: nn.Sequential(nn.Linear(30, 128), nn.SiLU(), nn.Linear(128, 128), nn.SiLU(), nn.Linear(128, 128), nn.SiLU(),
                                  nn.Linear(128, 10)),
    "gelu": lambda: nn.Sequential(nn.Linear(64, 256), nn.LayerNorm(256), nn.GELU(), nn.Linear(256, 256), nn.LayerNorm(256),
                                  nn.GELU(), nn.Linear(256, 10)),
    "cnn": lambda: nn.Sequential(nn.Conv2d(1, 32, 3), nn.ReLU(), nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
                                 nn.Linear(64 * 144, 128), nn.ReLU(), nn.Linear(128, 10)),
    "residual": lambda: nn.Sequential(
        nn.Sequential(nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU()),
        Block(16, 16, 1), Block(16, 16, 1), Block(16, 32, 2), Block(32, 32, 1), Block(32, 64, 2), Block(64, 64, 1), Mean((2, 3)),
        nn.Linear(64, 10)),
    "depthwise": lambda: nn.Sequential(
        nn.Conv2d(3, 32, 3, padding=1, bias=False), nn.BatchNorm2d(32), nn.ReLU(), *separable(32, 64), *separable(64, 128),
        Mean((2, 3)), nn.Linear(128, 10)),
    "lstm": lambda: nn.Sequential(LSTM(32, 128, batch_first=True), Last(), nn.Linear(128, 10)),
    "gru": lambda: nn.Sequential(GRU(8, 64, batch_first=True), Last(), nn.Linear(64, 10)),
    "transformer": lambda: nn.Sequential(encoder(), encoder(), Mean(1), nn.Linear(64, 10)),
    "characters": lambda: nn.Sequential(nn.Embedding(96, 64), LSTM(64, 256, num_layers=2, batch_first=True), nn.Linear(256, 96)),
}


class Network:
    def __init__(self, name, mode, threads):
        torch.set_num_threads(threads)
        torch.set_num_interop_threads(1)
        x, y = map(torch.from_numpy, networks.arrays(name))
        net = NETS[name]()
        with torch.no_grad():       # in order: parameters, and then running statistics, which begin alike
            given = [a for k, a in networks.parameters(name).items() if "running" not in k and "num_batches" not in k]
            for p, a in zip(net.parameters(), given, strict=True):
                p.copy_(torch.from_numpy(a))
        if mode == "nhwc":
            net, x = net.to(memory_format=torch.channels_last), x.to(memory_format=torch.channels_last)
        self.x, self.y, self.batch = x, y, networks.NETS[name][1]
        opt = torch.optim.Adam(net.parameters(), lr=1e-3, fused=True)

        def loss_of(x, y):
            z = net(x)
            return F.cross_entropy(z.flatten(0, -2), y.flatten())
        if mode == "compile":
            loss_of = torch.compile(loss_of)

        def one(index):
            opt.zero_grad()
            loss = loss_of(self.x[index], self.y[index])
            loss.backward()
            opt.step()
            return loss.detach()
        self.one = one

    def epochs(self, n):
        order = torch.arange(len(self.x)).split(self.batch)
        for _ in range(n):
            for index in order:
                loss = self.one(index)
        float(loss)

    def losses(self):
        order = torch.arange(len(self.x)).split(self.batch)
        return [float(self.one(order[step % len(order)])) for step in range(10)]
