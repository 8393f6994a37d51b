/* all.h: the kernels of one dtype. T, FMA, NAME and TD_SINGLE are set by body.h.
 *
 * A kernel that plans call is KERNEL(name) { ... }: it finds its arguments, named as in schema.py, in the struct o points to,
 * and returns a td_status. */
#include "schema_arguments.h"
#define KERNEL(name) static int NAME(name##_op)(const NAME(name##_args) *const o, td_ctx *const ctx)
#include "vmath.h"
#include "vector.h"
#include "activations.h"
#include "softmax.h"
#include "gamma.h"
#include "losses.h"
#include "ctc.h"
#include "norm.h"
#include "batch_norm.h"
#include "image_norm.h"
#include "arrange.h"
#include "reduce.h"
#include "embedding.h"
#include "columns.h"
#include "periodic.h"
#include "piecewise.h"
#include "dropout.h"
#include "noise.h"
#include "updates.h"
#include "panels.h"
#include "matmul.h"
#include "conv.h"
#include "pool.h"
#include "depthwise.h"
#include "upsample.h"
#include "augment.h"
#include "gather.h"
#include "steps.h"
#include "recurrent.h"
#include "lstm.h"
#include "gru.h"
#include "rnn.h"
#undef WALK
#include "attention.h"
#include "rotary.h"
KERNEL(python) { return ctx->hook(o->hook, ctx); }
#include "schema_table.h"
#undef KERNEL
