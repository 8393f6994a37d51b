"""What files of arrays are like, tinydl's own and those of others.

    safetensors     writing and reading the format that tinydl's models and checkpoints have
    zipped          reading the zip files that they were before
    shards          the index of weights that lie in several files
    foreign         what a file is, by its content, and what to do with one that is none of these

What the arrays and the JSON beside them mean is said in `tinydl.serialization` and `tinydl.checkpoint`.
"""
