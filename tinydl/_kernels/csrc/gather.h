/* gather.h: out[r] := row index[r] of a source of any dtype, as T. */

#define ROW_FROM(name, S) \
    static inline void NAME(name)(const void *from, T *restrict to, i64 n) { \
        const S *restrict x = from; \
        for (i64 i = 0; i < n; i++) to[i] = (T)x[i]; \
    }
ROW_FROM(from_f32, float) ROW_FROM(from_f64, double)
ROW_FROM(from_u8, uint8_t) ROW_FROM(from_i8, int8_t) ROW_FROM(from_u16, uint16_t) ROW_FROM(from_i16, int16_t)
ROW_FROM(from_i32, int32_t) ROW_FROM(from_i64, int64_t) ROW_FROM(from_u32, uint32_t)
#undef ROW_FROM

static void NAME(convert)(int dtype, const void *from, T *to, i64 n) {
    switch (dtype) {
    case TD_F32: NAME(from_f32)(from, to, n); break;
    case TD_F64: NAME(from_f64)(from, to, n); break;
    case TD_BOOL: case TD_U8: NAME(from_u8)(from, to, n); break;
    case TD_I8: NAME(from_i8)(from, to, n); break;
    case TD_U16: NAME(from_u16)(from, to, n); break;
    case TD_I16: NAME(from_i16)(from, to, n); break;
    case TD_I32: NAME(from_i32)(from, to, n); break;
    case TD_I64: NAME(from_i64)(from, to, n); break;
    case TD_U32: NAME(from_u32)(from, to, n); break;
    }
}

/* index NULL: rows 0, 1, ...; stops at the first index outside the source and returns its position, else -1 */
static i64 NAME(gather_rows)(const td_source *source, const i64 *index, void *out_, i64 R) {
    static const uint8_t sizes[] = {4, 8, 1, 1, 2, 2, 4, 8, 4, 1};
    enum { AHEAD = 2, LINES = 4 };      /* the hardware follows a row once it has begun; these lines begin it */
    const int dtype = (int)source->dtype;
    const i64 C = source->row_items, bytes = C * sizes[dtype];
    const i64 fetch = bytes < 128 ? 0 : TD_MIN(bytes, LINES * 64);
    const char *data = source->data;
    T *out = out_;
    for (i64 r = 0; r < R; r++, out += C) {
        const i64 row = index ? index[r] : r;
        if (row < 0 || row >= source->rows) return r;
        if (index && r + AHEAD < R) {
            const i64 next = index[r + AHEAD];
            if (next >= 0 && next < source->rows)
                for (i64 b = 0; b < fetch; b += 64) __builtin_prefetch(data + next * bytes + b);
        }
        if (dtype == (TD_SINGLE ? TD_F32 : TD_F64)) memcpy(out, data + row * bytes, (size_t)bytes);
        else NAME(convert)(dtype, data + row * bytes, out, C);
    }
    return -1;
}
