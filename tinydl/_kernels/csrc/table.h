/* table.h: the rows of td_kernels, in its order. A new kernel is one header, one line in all.h, one row here. */
#define TD_TABLE_ROWS(S, T) \
    .isa = TD_ISA_NAME, .itemsize = sizeof(T), \
    .matmul_scratch = TD_MATMUL_SCRATCH(T), .matmul = matmul_##S, \
    .activation = activation_##S, .activation_backward = activation_backward_##S, \
    .softmax = softmax_##S, .softmax_backward = softmax_backward_##S, \
    .log_softmax = log_softmax_##S, .log_softmax_backward = log_softmax_backward_##S, \
    .softmax_cross_entropy = softmax_cross_entropy_##S, .sigmoid_cross_entropy = sigmoid_cross_entropy_##S, \
    .mean_squared_error = mean_squared_error_##S, .mean_absolute_error = mean_absolute_error_##S, .huber = huber_##S, \
    .add = add_##S, .accumulate = accumulate_##S, .divide = divide_##S, .scale = scale_##S, \
    .weighted_mean = weighted_mean_##S, .squared_norm = squared_norm_##S, .all_finite = all_finite_##S, \
    .column_sum = column_sum_##S, .gather_rows = gather_rows_##S, \
    .layer_norm = layer_norm_##S, .layer_norm_backward = layer_norm_backward_##S, \
    .batch_norm = batch_norm_##S, .batch_norm_inference = batch_norm_inference_##S, \
    .batch_norm_backward = batch_norm_backward_##S, .dropout = dropout_##S, \
    .ops = ops_##S, .updates = updates_##S,
