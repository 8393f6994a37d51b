/* pictures.h: a row of a source that has td_pictures: scaled by channel, changed at random, mixed with another row. */

/* out := scale x + shift, rounded once from double: so a picture has the same values by way of float64 */
#define SCALED(name, S) \
    static void NAME(scaled_##name)(const void *from, T *restrict out, i64 n, double scale, double shift) { \
        const S *restrict x = from; \
        for (i64 i = 0; i < n; i++) out[i] = (T)TD_FMAD((double)x[i], scale, shift); \
    }
TD_DTYPES(SCALED)
#undef SCALED

static void (*const NAME(scalers)[])(const void *, T *restrict, i64, double, double) = {
#define SCALER(name, S) NAME(scaled_##name),
    TD_DTYPES(SCALER)
#undef SCALER
};

static void NAME(picture)(const td_source *source, i64 row, T *out) {
    const td_pictures *p = source->pictures;
    const i64 pixels = p->H * p->W, bytes = td_sizes[source->dtype];
    const char *x = (const char *)source->data + row * source->row_items * bytes;
    const u64 key = td_splitmix(source->key + (u64)row);
    if (!p->scale) NAME(converters)[source->dtype](x, out, source->row_items);
    else for (i64 c = 0; c < p->C; c++)
        NAME(scalers)[source->dtype](x + c * pixels * bytes, out + c * pixels, pixels, p->scale[c], p->shift[c]);
    for (i64 k = 0; k < p->n; k++) NAME(augment)(&p->change[k], td_splitmix(key + (u64)k), out, p->C, p->H, p->W);
}

/* out := a mean of the picture and of another one, of a row drawn from p->rows; that of inputs and of targets is the same one.
   -1 where that row is outside the source. other: room for a picture */
static int NAME(mixed_picture)(const td_source *source, i64 row, T *out, T *other) {
    const td_pictures *p = source->pictures;
    NAME(picture)(source, row, out);
    if (!p->mix) return 0;
    const u64 key = td_splitmix(td_splitmix(source->key + (u64)row) - 1);
    const i64 drawn = td_draw_below(key, 0, p->rows ? p->n_rows : source->rows), partner = p->rows ? p->rows[drawn] : drawn;
    const double at = td_draw(key, 1) * 0x1p-32 * TD_MIX;
    const i64 i = (i64)at;
    const double share = TD_FMAD(at - (double)i, p->mix[i + 1] - p->mix[i], p->mix[i]);
    const T own = (T)share, others = (T)(1 - share);
    if (partner < 0 || partner >= source->rows) return -1;
    if (partner == row) return 0;
    NAME(picture)(source, partner, other);
    for (i64 j = 0; j < source->row_items; j++) out[j] = FMA(own, out[j], others * other[j]);
    return 0;
}
