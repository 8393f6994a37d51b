"""Side by side: tinydl and other libraries on the same models, weights, data and order of batches.

    workloads   four multilayer perceptrons, W1 (10 k parameters) to W4 (8.4 M), and their data
    ours, by_numpy, by_torch, by_jax, by_sklearn    one contender each: make(workload, mode, threads) -> step(indices)
    run         one contender on one workload in a process of its own: a line of JSON
    compare     all of them in turn, medians, tables
    charts      of what compare measured
    small       the digits end to end, and the matrix product alone

`tinydl bench` is the way in.
"""
