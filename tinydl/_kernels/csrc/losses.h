/* losses.h: mean losses and their gradients, PyTorch's definitions. Each number's loss is a T, their sum is a double.
 * With weights the mean is sum(w l) / sum(w); ctx->weight := that sum of weights, by which means of batches are brought
 * together. Where it is 0, nothing counts: the loss and the gradient are 0. */

static int NAME(set_loss)(td_ctx *ctx, double loss) {
    ctx->number = loss;
    return loss - loss == 0 ? TD_OK : TD_BAD_NUMBER;
}

static int NAME(nothing_counts)(td_ctx *ctx, T *grad, i64 n) {
    if (grad) memset(grad, 0, (size_t)n * sizeof(T));
    ctx->weight = 0;
    return NAME(set_loss)(ctx, 0);
}

static double NAME(sum_of_weights)(td_ctx *ctx, const T *weights, i64 S) {
    double sum = 0;
    for (i64 s = 0; s < S; s++) sum += (double)weights[s];
    ctx->weight = sum;
    return sum;
}

/* u[i] := the weight of element at + i, each sample having `each` elements */
static void NAME(spread)(T *u, const T *weights, i64 at, i64 m, i64 each) {
    i64 s = at / each, left = each - at % each;
    for (i64 i = 0; i < m; i++, left--) {
        if (!left) { s++; left = each; }
        u[i] = weights[s];
    }
}

/* u[i] := what stands in the column of element at + i */
static void NAME(repeated)(T *u, const T *columns, i64 at, i64 m, i64 C) {
    i64 c = at % C;
    for (i64 i = 0; i < m; i++) {
        u[i] = columns[c];
        c = c + 1 < C ? c + 1 : 0;
    }
}

/* With weights of samples (a) or classes (w), smoothing (e), or ignored labels (a = 0), K classes:
 * loss = sum a (h (log s - x[label]) + e / K sum_c w_c (log s - x_c)) / sum a w[label],  h = (1 - e) w[label], s = sum exp(x) */
static int NAME(weighted_cross_entropy)(const NAME(softmax_cross_entropy_args) *const o, td_ctx *const ctx) {
    const i64 R = o->R, C = o->C, *labels = o->labels, step = NAME(rows_in_block)(C), each = o->weights ? R / o->S : 1;
    const T *x = o->logits, *class_weights = o->class_weights;
    const double e = o->label_smoothing / (double)C;
    T *dx = o->grad, max[TD_BLOCK], sum[TD_BLOCK];
    double a[TD_BLOCK], h[TD_BLOCK], at[TD_BLOCK], other[TD_BLOCK], W = 0, classes = (double)C, total = 0;
    for (i64 r = 0; r < R; r++) {
        if (labels[r] == o->ignore_index) continue;
        if (labels[r] < 0 || labels[r] >= C) { ctx->detail = labels[r]; return TD_BAD_VALUE; }
        W += (o->weights ? (double)o->weights[r / each] : 1) * (class_weights ? (double)class_weights[labels[r]] : 1);
    }
    if (W == 0) return NAME(nothing_counts)(ctx, dx, R * C);
    ctx->weight = W;
    if (class_weights) {
        classes = 0;
        for (i64 c = 0; c < C; c++) classes += (double)class_weights[c];
    }
    for (i64 r0 = 0; r0 < R; r0 += step) {
        const i64 rows = TD_MIN(step, R - r0), *label = labels + r0;
        for (i64 r = 0; r < rows; r++) {
            const T *xr = x + (r0 + r) * C;
            a[r] = h[r] = at[r] = other[r] = 0;
            if (label[r] == o->ignore_index) continue;
            a[r] = (o->weights ? (double)o->weights[(r0 + r) / each] : 1) / W;
            h[r] = (1 - o->label_smoothing) * (class_weights ? (double)class_weights[label[r]] : 1);
            at[r] = (double)xr[label[r]];
            if (e == 0) continue;
            for (i64 c = 0; c < C; c++) other[r] += (class_weights ? (double)class_weights[c] : 1) * (double)xr[c];
        }
        NAME(exp_rows)(x + r0 * C, dx ? dx + r0 * C : 0, max, sum, rows, C);
        for (i64 r = 0; r < rows; r++) {
            T *d = dx ? dx + (r0 + r) * C : 0;
            const double m = (double)max[r];
            if (a[r] == 0) {
                if (d) memset(d, 0, (size_t)C * sizeof(T));
                continue;
            }
            double loss = h[r] * ((double)NAME(vm_log)(sum[r]) - (at[r] - m));
            if (e != 0) loss += e * (classes * (double)NAME(vm_log)(sum[r]) - (other[r] - classes * m));
            total += a[r] * loss;
            if (!d) continue;
            const T scale = (T)(a[r] * (h[r] + e * classes) / (double)sum[r]), even = (T)(a[r] * e);
            if (e == 0) for (i64 c = 0; c < C; c++) d[c] *= scale;
            else if (class_weights) TD_EACH(c, C) d[c] = d[c] * scale - even * class_weights[c];
            else TD_EACH(c, C) d[c] = d[c] * scale - even;
            d[label[r]] -= (T)(a[r] * h[r]);
        }
    }
    return NAME(set_loss)(ctx, total);
}

KERNEL(softmax_cross_entropy) {
    if (o->weights || o->class_weights || o->label_smoothing != 0 || o->ignore_index != INT64_MIN)
        return NAME(weighted_cross_entropy)(o, ctx);
    const i64 R = o->R, C = o->C, *labels = o->labels;
    const T *x = o->logits, share = (T)(1 / (double)R);
    T *dx = o->grad, max[TD_BLOCK], sum[TD_BLOCK], at[TD_BLOCK], logs[TD_BLOCK];
    const i64 step = NAME(rows_in_block)(C);
    double total = 0;
    for (i64 r0 = 0; r0 < R; r0 += step) {
        const i64 rows = TD_MIN(step, R - r0), *label = labels + r0;
        for (i64 r = 0; r < rows; r++) {
            if (label[r] < 0 || label[r] >= C) { ctx->detail = label[r]; return TD_BAD_VALUE; }
            at[r] = x[(r0 + r) * C + label[r]];
        }
        NAME(exp_rows)(x + r0 * C, dx ? dx + r0 * C : 0, max, sum, rows, C);
        for (i64 r = 0; r < rows; r++) logs[r] = NAME(vm_log)(sum[r]);
        for (i64 r = 0; r < rows; r++) total += (double)logs[r] - (double)(at[r] - max[r]);
        if (!dx) continue;
        for (i64 r = 0; r < rows; r++) {
            const T inverse = 1 / sum[r], each = inverse * share;
            T *d = dx + (r0 + r) * C;
            const T hit = d[label[r]];
            for (i64 c = 0; c < C; c++) d[c] *= each;
            d[label[r]] = FMA(hit, inverse, (T)-1) * share;
        }
    }
    return NAME(set_loss)(ctx, total / (double)R);
}

/* mean over n of LOSS; grad := GRADIENT / n. v = x[i], w = targets[i], d = v - w, k = K; BLOCK: what a block needs first */
#define MEAN_LOSS(name, arguments, K, BLOCK, LOCALS, LOSS, GRADIENT) \
    static int NAME(name)(const NAME(arguments##_args) *const o, td_ctx *const ctx) { \
        const i64 n = o->n, each = o->weights ? n / o->S : 1; \
        const T *x = o->x, *t = o->targets, k = (T)(K); \
        T *dx = o->grad; \
        double total = 0, divisor = (double)n; \
        (void)k; \
        if (o->weights) { \
            divisor = NAME(sum_of_weights)(ctx, o->weights, o->S) * (double)each; \
            if (divisor == 0) return NAME(nothing_counts)(ctx, dx, n); \
        } \
        const T share = (T)(1 / divisor); \
        for (i64 i0 = 0; i0 < n; i0 += TD_BLOCK) { \
            T loss[TD_BLOCK], unwanted[TD_BLOCK], weight[TD_BLOCK]; \
            const i64 m = TD_MIN(TD_BLOCK, n - i0); \
            const T *xs = x + i0, *ts = t + i0; \
            T *ds = dx ? dx + i0 : unwanted; \
            BLOCK; \
            if (o->weights) { \
                NAME(spread)(weight, o->weights, i0, m, each); \
                TD_EACH(i, m) { \
                    const T v = xs[i], w = ts[i], d = v - w; \
                    LOCALS; \
                    (void)v; (void)w; (void)d; \
                    loss[i] = (LOSS) * weight[i]; \
                    ds[i] = (GRADIENT) * (weight[i] * share); \
                } \
            } else { \
                TD_EACH(i, m) { \
                    const T v = xs[i], w = ts[i], d = v - w; \
                    LOCALS; \
                    (void)v; (void)w; (void)d; \
                    loss[i] = (LOSS); \
                    ds[i] = (GRADIENT) * share; \
                } \
            } \
            total += NAME(double_sum)(loss, m); \
        } \
        return NAME(set_loss)(ctx, total / divisor); \
    }
#define MEAN_KERNEL(name, K, LOCALS, LOSS, GRADIENT) MEAN_LOSS(name##_op, name, K, , LOCALS, LOSS, GRADIENT)
MEAN_KERNEL(mean_squared_error, 0, , d * d, 2 * d)
MEAN_KERNEL(mean_absolute_error, 0, , NAME(td_abs)(d), (T)(d > 0) - (T)(d < 0))
MEAN_KERNEL(huber, o->delta, const T z = NAME(td_abs)(d),
            z < k ? (T)0.5 * d * d : k * (z - (T)0.5 * k), d > k ? k : d < -k ? -k : d)
MEAN_LOSS(logistic, sigmoid_cross_entropy, 0, , const T e = NAME(vm_exp_below)(-NAME(td_abs)(v)),
          ((v > 0 ? v : (T)0) - v * w) + NAME(vm_log1p)(e), (v < 0 ? e : (T)1) / (1 + e) - w)
/* y = w (1 - k) + k / 2; p: what positives count. (1 - y) x + l (log(1 + exp(-|x|)) + max(-x, 0)), l = 1 + (p - 1) y */
MEAN_LOSS(weighted_logistic, sigmoid_cross_entropy, o->label_smoothing,
          T positive[TD_BLOCK]; \
          if (o->pos_weight) NAME(repeated)(positive, o->pos_weight, i0, m, o->C); \
          else for (i64 i = 0; i < m; i++) positive[i] = 1,
          const T e = NAME(vm_exp_below)(-NAME(td_abs)(v)); const T p = positive[i]; const T y = w * (1 - k) + k / 2;
          const T l = 1 + (p - 1) * y,
          (1 - y) * v + l * (NAME(vm_log1p)(e) + (v < 0 ? -v : (T)0)), (v < 0 ? e : (T)1) / (1 + e) * l - p * y)
KERNEL(sigmoid_cross_entropy) {
    return o->pos_weight || o->label_smoothing != 0 ? NAME(weighted_logistic)(o, ctx) : NAME(logistic)(o, ctx);
}
MEAN_KERNEL(kl_divergence, o->scale, , w > 0 ? k * w * (NAME(vm_log)(w) - v) : (T)0, -k * w)
MEAN_KERNEL(poisson_nll, 0, const T e = NAME(vm_exp)(v), e - w * v, e - w)
/* between a Poisson distribution (k = 1) and a gamma distribution (k = 2), which is the limit but for a constant */
MEAN_LOSS(tweedie, tweedie_nll, o->power, , const T e = NAME(vm_exp)((2 - k) * v); const T f = w * NAME(vm_exp)((1 - k) * v),
          e / (2 - k) + f / (k - 1), e - f)
MEAN_LOSS(gamma, tweedie_nll, 0, , const T f = w * NAME(vm_exp)(-v), v + f, 1 - f)
KERNEL(tweedie_nll) { return o->power < 2 ? NAME(tweedie)(o, ctx) : NAME(gamma)(o, ctx); }
MEAN_KERNEL(hinge, 0, const T s = w > 0 ? (T)1 : (T)-1; const T margin = 1 - s * v,
            margin > 0 ? margin : margin == margin ? (T)0 : margin, margin > 0 ? -s : (T)0)
/* z: the score for what is there, q: the probability of what is not, p = 1 - q; a q^k log(1 / p), and its slope by z */
MEAN_LOSS(sigmoid_focal_op, sigmoid_focal, o->gamma,
          const T positive = o->alpha < 0 ? (T)1 : (T)o->alpha; const T negative = o->alpha < 0 ? (T)1 : (T)(1 - o->alpha),
          const T s = w > (T)0.5 ? (T)1 : (T)-1; const T z = s * v; const T l = NAME(softplus_of)(-z);
          const T h = (w > (T)0.5 ? positive : negative) * NAME(vm_exp)(-k * NAME(softplus_of)(z)),
          h * l, -s * h * FMA(k * NAME(vm_sigmoid)(z), l, NAME(vm_sigmoid)(-z)))
#undef MEAN_KERNEL
#undef MEAN_LOSS

/* The loss before this operation is one of several. It was divided by ctx->weight, which may be the sum of the weights that
 * counted for it alone; all of them are to be divided by W, so that means of batches can be brought together. */
KERNEL(join_loss) {
    double W = (double)ctx->n;
    if (o->weights) {
        W = 0;
        for (i64 s = 0; s < o->S; s++) W += (double)o->weights[s];
    }
    const double all = W * (double)o->unit, factor = all > 0 ? o->scale * (ctx->weight / all) : 0;
    const T k = (T)factor;
    if (o->grad && k != 1) TD_EACH(i, o->n) o->grad[i] *= k;
    *o->total = (o->accumulate ? *o->total : 0) + factor * ctx->number;
    ctx->weight = W;
    return NAME(set_loss)(ctx, *o->total);
}

/* Each target has several outputs, C columns apart. count: what the mean is over, for each row */
#define ROWS_LOSS(name, MANY, count, EACH) \
    KERNEL(name) { \
        const i64 R = o->R, C = o->C, D = o->D, each = o->weights ? R / o->S : 1; \
        double total = 0, divisor = (double)R * (double)(count); \
        if (D != C * (MANY)) { ctx->detail = D; return TD_BAD_VALUE; } \
        if (o->weights) { \
            divisor = NAME(sum_of_weights)(ctx, o->weights, o->S) * (double)each * (double)(count); \
            if (divisor == 0) return NAME(nothing_counts)(ctx, o->grad, R * D); \
        } \
        for (i64 r = 0; r < R; r++) { \
            const T *x = o->x + r * D, *t = o->targets + r * C; \
            T *dx = o->grad ? o->grad + r * D : 0; \
            const double weight = o->weights ? (double)o->weights[r / each] : 1; \
            const T share = (T)(weight / divisor); \
            double row = 0; \
            for (i64 c = 0; c < C; c++) { EACH } \
            total += weight * row; \
        } \
        return NAME(set_loss)(ctx, total / divisor); \
    }
ROWS_LOSS(gaussian_nll, 2, C,
    const T d = x[c] - t[c]; const T s = x[C + c]; const T e = NAME(vm_exp)(-s);
    row += (double)((T)0.5 * (s + d * d * e));
    if (dx) { dx[c] = d * e * share; dx[C + c] = (T)0.5 * (1 - d * d * e) * share; })
ROWS_LOSS(gaussian_kl, 2, 1,
    const T d = x[c] - t[c]; const T s = x[C + c]; const T e = NAME(vm_expm1)(s);
    row += (double)((T)0.5 * FMA(d, d, e - s));
    if (dx) { dx[c] = d * share; dx[C + c] = (T)0.5 * e * share; })
/* r = exp(-s): so many failures would there be in a negative binomial distribution; z = log(mean / r). Beyond e^60 it is a Poisson
 * distribution to rounding */
ROWS_LOSS(negative_binomial_nll, 2, C,
    const T m = x[c]; const T n = t[c]; const T s = x[C + c] < -60 ? (T)-60 : x[C + c] > 60 ? (T)60 : x[C + c];
    const T r = NAME(vm_exp)(-s); const T z = m + s; const T soft = NAME(softplus_of)(z);
    const T share_left = NAME(vm_sigmoid)(-z); const T over = (NAME(vm_exp)(m) - n) * share_left;
    T growth; T slope;
    NAME(log_gamma_growth)(r, n, &growth, &slope);
    row += (double)((r * soft - growth) + n * NAME(softplus_of)(-z));
    if (dx) { dx[c] = over * share; dx[C + c] = (r * (slope - soft) + over) * share; })
ROWS_LOSS(quantile, o->Q, D,
    for (i64 q = 0; q < o->Q; q++) {
        const T d = t[c] - x[q * C + c]; const T level = o->levels[q];
        row += (double)(d > 0 ? level * d : (level - 1) * d);
        if (dx) dx[q * C + c] = (d > 0 ? -level : d < 0 ? 1 - level : (T)0) * share;
    })
#undef ROWS_LOSS
