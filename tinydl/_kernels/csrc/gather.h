/* gather.h: row index[r] of a source of any dtype, as T or as int64, or as much of it as the operation asks for, which may be
   less (plan/shorter.py). index NULL: rows 0, 1, ... */

#define ROW_FROM(dtype, S) \
    static inline void NAME(from_##dtype)(const void *from, T *restrict to, i64 n) { \
        const S *restrict x = from; \
        for (i64 i = 0; i < n; i++) to[i] = (T)x[i]; \
    }
TD_DTYPES(ROW_FROM)
#undef ROW_FROM

static void (*const NAME(converters)[])(const void *, T *restrict, i64) = {
#define CONVERTER(dtype, S) NAME(from_##dtype),
    TD_DTYPES(CONVERTER)
#undef CONVERTER
};

#ifndef TD_GATHER
#define TD_GATHER
static const uint8_t td_sizes[] = {
#define SIZE(dtype, S) sizeof(S),
    TD_DTYPES(SIZE)
#undef SIZE
};

/* element i of an array of an integer dtype */
static inline i64 td_integer(int dtype, const void *x, i64 i) {
    switch (dtype) {
    case TD_BOOL: case TD_UINT8: return ((const uint8_t *)x)[i];
    case TD_INT8: return ((const int8_t *)x)[i];
    case TD_UINT16: return ((const uint16_t *)x)[i];
    case TD_INT16: return ((const int16_t *)x)[i];
    case TD_INT32: return ((const int32_t *)x)[i];
    case TD_UINT32: return ((const uint32_t *)x)[i];
    default: return ((const i64 *)x)[i];
    }
}
#endif

#include "pictures.h"

/* the first C elements of rows; room: for a row, where pictures are mixed. Stops at the first index outside the source and returns
   its position, else -1 */
static i64 NAME(rows_of)(const td_source *source, const i64 *index, T *out, i64 R, i64 C, T *room) {
    enum { AHEAD = 2, LINES = 4 };      /* the hardware follows a row once it has begun; these lines begin it */
    const td_source x = *source;        /* `out` might overlap it, so it would be read again for each row */
    const int dtype = (int)x.dtype;
    const i64 size = td_sizes[dtype], fetch = C * size < 128 ? 0 : TD_MIN(C * size, LINES * 64);
    const char *data = x.data;
    for (i64 r = 0; r < R; r++, out += C) {
        const i64 row = index ? index[r] : r;
        i64 n;
        if (row < 0 || row >= x.rows) return r;
        if (fetch && index && r + AHEAD < R) {
            const i64 next = index[r + AHEAD];
            if (next >= 0 && next < x.rows) {
                const char *at = data + td_row(&x, next, C, &n) * size;
                for (i64 b = 0; b < fetch; b += 64) __builtin_prefetch(at + b);
            }
        }
        if (x.pictures) {
            if (NAME(mixed_picture)(source, row, out, room)) return r;
            continue;
        }
        const char *from = data + td_row(&x, row, C, &n) * size;
        if (dtype == (TD_SINGLE ? TD_FLOAT32 : TD_FLOAT64)) memcpy(out, from, (size_t)(n * size));
        else NAME(converters)[dtype](from, out, n);
        for (i64 i = n; i < C; i++) out[i] = (T)x.padding;
    }
    return -1;
}

static int NAME(arrived)(td_ctx *ctx, i64 bad) {
    if (bad < 0) return TD_OK;
    ctx->detail = ctx->index ? ctx->index[bad] : bad;
    return TD_BAD_INDEX;
}

KERNEL(gather) {
    const td_source *x = &ctx->source[o->source];
    const int as_is = x->dtype == (TD_SINGLE ? TD_FLOAT32 : TD_FLOAT64) && !x->pictures && !x->offsets && x->row_items == o->I;
    const i64 bytes = x->row_items * (i64)sizeof(T);
    i64 bad = -1;
    ctx->rows = 0;
    if (as_is && !ctx->index) {
        ctx->base[TD_IN] = (char *)x->data;
    } else if (as_is && o->addresses && NAME(apart)(o->B, o->columns, bytes)) {
        for (i64 r = 0; r < o->B && bad < 0; r++) {
            if (ctx->index[r] < 0 || ctx->index[r] >= x->rows) bad = r;
            else o->addresses[r] = (const char *)x->data + ctx->index[r] * bytes;
        }
        ctx->rows = o->addresses;
        ctx->base[TD_IN] = 0;
    } else {
        ctx->base[TD_IN] = (char *)o->out;
        bad = NAME(rows_of)(x, ctx->index, o->out, o->B, o->I, o->room);
    }
    return NAME(arrived)(ctx, bad);
}

KERNEL(gather_rows) {
    return NAME(arrived)(ctx, NAME(rows_of)(&ctx->source[o->source], ctx->index, o->out, o->B, o->I, o->room));
}

/* What the loop reads is in variables of its own: `out` might overlap o and ctx, so it would be read again for each value. */
KERNEL(gather_integers) {
    const td_source x = ctx->source[o->source];
    const i64 *index = ctx->index, B = o->B, I = o->I, low = o->low, high = o->high;
    const int dtype = (int)x.dtype;
    i64 *out = o->out;
    for (i64 r = 0; r < B; r++) {
        const i64 row = index ? index[r] : r;
        if (row < 0 || row >= x.rows) return NAME(arrived)(ctx, r);
        i64 n;
        const i64 at = td_row(&x, row, I, &n);
        for (i64 i = 0; i < I; i++) {
            const i64 value = i >= n ? (i64)x.padding : dtype == TD_INT64 ? ((const i64 *)x.data)[at + i]
                                                                          : td_integer(dtype, x.data, at + i);
            if (value < low || value >= high) { ctx->detail = value; return TD_BAD_VALUE; }
            out[r * I + i] = value;
        }
    }
    return TD_OK;
}
