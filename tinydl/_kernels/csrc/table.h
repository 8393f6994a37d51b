/* table.h: the rows of td_kernels, in its order. */
#define TD_TABLE_ROWS(S, T) \
    .isa = TD_ISA_NAME, .itemsize = sizeof(T), .matmul_scratch = TD_MATMUL_SCRATCH(T), .matmul = matmul_##S, \
    .weighted_mean = weighted_mean_##S, .squared_norm = squared_norm_##S, .clamp = clamp_##S, .ops = ops_##S, .updates = updates_##S,
