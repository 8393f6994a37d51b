#!/usr/bin/env bash
# TensorBoard 2.21.0 reads event files of tensorboardX 2.6.5: a run that was resumed with purge_step, which is to void the
# points from that step on.
#
# Guess: the points of that step and later are gone from each curve, whoever reads the files.
# Seen: three readers, three answers. epoch_loss has a point an epoch (1 to 5), update_loss one an update (1 to 50), and the run
# is resumed at epoch 4 with purge_step=4.
#   EventAccumulator (scripts, notebooks)       voids every curve from step 4 on: of update_loss 47 of 50 points are lost
#   TensorBoard with --load_fast=false          ignores the mark: epochs 4 and 5 are there twice
#   TensorBoard with its fast loader (default)  each curve is judged by itself, with a mark or without: both curves are right
# Whoever logs curves whose steps count different things into one folder cannot resume them by purge_step: it takes the
# points out of the files, or counts all in one unit.
set -euo pipefail
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check tensorboard==2.21.0 tensorboardX==2.6.5 numpy==2.4.6 \
    protobuf==7.36.2 "setuptools<81"
"$dir/venv/bin/python" -W ignore - "$dir/runs" <<'PY'
import sys
import time

from tensorboard import context
from tensorboard.backend.event_processing import data_provider, plugin_event_multiplexer
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.data import server_ingester
from tensorboard.data.provider import RunTagFilter
from tensorboard.util import grpc_util
from tensorboardX import SummaryWriter

folder = sys.argv[1]
first = SummaryWriter(f"{folder}/run")
for epoch in range(1, 6):
    first.add_scalar("epoch_loss", epoch, epoch)
for update in range(1, 51):
    first.add_scalar("update_loss", update, update)
first.close()
time.sleep(1.1)                 # the files are named by the second
again = SummaryWriter(f"{folder}/run", purge_step=4)
for epoch in (4, 5):
    again.add_scalar("epoch_loss", 100 + epoch, epoch)
again.close()

curves = "epoch_loss", "update_loss"


def asked(provider):
    found = provider.read_scalars(context.RequestContext(), experiment_id="", plugin_name="scalars", downsample=1000,
                                  run_tag_filter=RunTagFilter(runs=["run"]))["run"]
    return [[point.step for point in found[curve]] for curve in curves]


accumulator = EventAccumulator(f"{folder}/run", size_guidance={"scalars": 0})
accumulator.Reload()
multiplexer = plugin_event_multiplexer.EventMultiplexer()
multiplexer.AddRunsFromDirectory(folder)
multiplexer.Reload()
server = server_ingester.SubprocessServerDataIngester(
    server_binary=server_ingester.get_server_binary(), logdir=folder, reload_interval=0,
    channel_creds_type=grpc_util.ChannelCredsType.LOCAL, samples_per_plugin={"scalars": 1000})
server.start()

seen = {"EventAccumulator": [[p.step for p in accumulator.Scalars(curve)] for curve in curves],
        "--load_fast=false": asked(data_provider.MultiplexerDataProvider(multiplexer, folder)),
        "fast loader": asked(server.data_provider)}
for reader, (epochs, updates) in seen.items():
    print(f"{reader:18} epoch_loss at {epochs}, {len(updates)} points of update_loss")
all_updates = [*range(1, 51)]
assert seen["EventAccumulator"] == [[1, 2, 3, 4, 5], [1, 2, 3]]
assert seen["--load_fast=false"] == [[1, 2, 3, 4, 5, 4, 5], all_updates]
assert seen["fast loader"] == [[1, 2, 3, 4, 5], all_updates]
PY
