/* simd.h: the few vector operations that the matrix product needs, for float32 and float64.
 *
 * V_f32, VL_f32   a native vector and its lanes      MR, NR  the register tile: MR rows, NV vectors wide
 * vwiden          VL_f64 numbers of either dtype as doubles
 * The maths is the same everywhere; only width and tile differ, so AVX2 and AVX-512 give the same bits.
 */
#ifndef TD_SIMD_H
#define TD_SIMD_H

#if defined(TD_ISA_AVX512)
#include <immintrin.h>
#define TD_MR 14
#define TD_NV 2
#define TD_KEEP 0
typedef __m512 V_f32;
typedef __m512d V_f64;
#define VL_f32 16
#define VL_f64 8
static inline V_f32 vload_f32(const float *p) { return _mm512_loadu_ps(p); }
static inline V_f64 vload_f64(const double *p) { return _mm512_loadu_pd(p); }
static inline void vstore_f32(float *p, V_f32 v) { _mm512_storeu_ps(p, v); }
static inline void vstore_f64(double *p, V_f64 v) { _mm512_storeu_pd(p, v); }
static inline V_f32 vloadn_f32(const float *p, int n) { return _mm512_maskz_loadu_ps((__mmask16)((1u << n) - 1), p); }
static inline V_f64 vloadn_f64(const double *p, int n) { return _mm512_maskz_loadu_pd((__mmask8)((1u << n) - 1), p); }
static inline void vstoren_f32(float *p, V_f32 v, int n) { _mm512_mask_storeu_ps(p, (__mmask16)((1u << n) - 1), v); }
static inline void vstoren_f64(double *p, V_f64 v, int n) { _mm512_mask_storeu_pd(p, (__mmask8)((1u << n) - 1), v); }
static inline void vstream_f32(float *p, V_f32 v) { _mm512_stream_ps(p, v); }
static inline void vstream_f64(double *p, V_f64 v) { _mm512_stream_pd(p, v); }
#define td_streamed() _mm_sfence()
static inline V_f32 vset1_f32(float x) { return _mm512_set1_ps(x); }
static inline V_f64 vset1_f64(double x) { return _mm512_set1_pd(x); }
static inline V_f32 vplus_f32(V_f32 a, V_f32 b) { return _mm512_add_ps(a, b); }
static inline V_f64 vplus_f64(V_f64 a, V_f64 b) { return _mm512_add_pd(a, b); }
static inline V_f32 vmuladd_f32(V_f32 a, V_f32 b, V_f32 c) { return _mm512_fmadd_ps(a, b, c); }
static inline V_f64 vmuladd_f64(V_f64 a, V_f64 b, V_f64 c) { return _mm512_fmadd_pd(a, b, c); }
/* GCC 12 makes two conversions and an insertion of __builtin_convertvector: a sum of squares took twice as long */
static inline V_f64 vwiden_f32(const float *p) { return _mm512_cvtps_pd(_mm256_loadu_ps(p)); }
/* x > 0 ? x : 0, NaN stays */
static inline V_f32 vrelu_f32(V_f32 x) { return _mm512_max_ps(_mm512_setzero_ps(), x); }
static inline V_f64 vrelu_f64(V_f64 x) { return _mm512_max_pd(_mm512_setzero_pd(), x); }
/* y > 0 ? d : 0 */
static inline V_f32 vgate_f32(V_f32 y, V_f32 d) { return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(y, _mm512_setzero_ps(), _CMP_GT_OQ), d); }
static inline V_f64 vgate_f64(V_f64 y, V_f64 d) { return _mm512_maskz_mov_pd(_mm512_cmp_pd_mask(y, _mm512_setzero_pd(), _CMP_GT_OQ), d); }
/* where v > best, or v is NaN: best := v, at := here; d where at = here, else 0; small numbers as bytes */
static inline void vgreater_f32(V_f32 v, float here, V_f32 *best, V_f32 *at) {
    const __mmask16 m = _mm512_cmp_ps_mask(v, *best, _CMP_GT_OQ) | _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q);
    *best = _mm512_mask_mov_ps(*best, m, v);
    *at = _mm512_mask_mov_ps(*at, m, _mm512_set1_ps(here));
}
static inline void vgreater_f64(V_f64 v, double here, V_f64 *best, V_f64 *at) {
    const __mmask8 m = _mm512_cmp_pd_mask(v, *best, _CMP_GT_OQ) | _mm512_cmp_pd_mask(v, v, _CMP_UNORD_Q);
    *best = _mm512_mask_mov_pd(*best, m, v);
    *at = _mm512_mask_mov_pd(*at, m, _mm512_set1_pd(here));
}
static inline V_f32 vwhere_f32(V_f32 at, float here, V_f32 d) { return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(at, _mm512_set1_ps(here), _CMP_EQ_OQ), d); }
static inline V_f64 vwhere_f64(V_f64 at, double here, V_f64 d) { return _mm512_maskz_mov_pd(_mm512_cmp_pd_mask(at, _mm512_set1_pd(here), _CMP_EQ_OQ), d); }
static inline V_f32 vfrom_bytes_f32(const uint8_t *p) { return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)p))); }
static inline V_f64 vfrom_bytes_f64(const uint8_t *p) { return _mm512_cvtepi32_pd(_mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)p))); }
static inline void vto_bytes_f32(uint8_t *p, V_f32 v) { _mm_storeu_si128((__m128i *)p, _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(v))); }
static inline void vto_bytes_f64(uint8_t *p, V_f64 v) { _mm_storel_epi64((__m128i *)p, _mm256_cvtepi32_epi8(_mm512_cvtpd_epi32(v))); }

#elif defined(TD_ISA_AVX2)
#include <immintrin.h>
#define TD_MR 6
#define TD_NV 2
#define TD_KEEP 16
typedef __m256 V_f32;
typedef __m256d V_f64;
#define VL_f32 8
#define VL_f64 4
static const int32_t td_mask32[16] = {-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0};
static const int64_t td_mask64[8] = {-1, -1, -1, -1, 0, 0, 0, 0};
static inline __m256i td_lanes32(int n) { return _mm256_loadu_si256((const __m256i *)(td_mask32 + 8 - n)); }
static inline __m256i td_lanes64(int n) { return _mm256_loadu_si256((const __m256i *)(td_mask64 + 4 - n)); }
static inline V_f32 vload_f32(const float *p) { return _mm256_loadu_ps(p); }
static inline V_f64 vload_f64(const double *p) { return _mm256_loadu_pd(p); }
static inline void vstore_f32(float *p, V_f32 v) { _mm256_storeu_ps(p, v); }
static inline void vstore_f64(double *p, V_f64 v) { _mm256_storeu_pd(p, v); }
static inline V_f32 vloadn_f32(const float *p, int n) { return _mm256_maskload_ps(p, td_lanes32(n)); }
static inline V_f64 vloadn_f64(const double *p, int n) { return _mm256_maskload_pd(p, td_lanes64(n)); }
static inline void vstoren_f32(float *p, V_f32 v, int n) { _mm256_maskstore_ps(p, td_lanes32(n), v); }
static inline void vstoren_f64(double *p, V_f64 v, int n) { _mm256_maskstore_pd(p, td_lanes64(n), v); }
static inline void vstream_f32(float *p, V_f32 v) { _mm256_stream_ps(p, v); }
static inline void vstream_f64(double *p, V_f64 v) { _mm256_stream_pd(p, v); }
#define td_streamed() _mm_sfence()
static inline V_f32 vset1_f32(float x) { return _mm256_set1_ps(x); }
static inline V_f64 vset1_f64(double x) { return _mm256_set1_pd(x); }
static inline V_f32 vplus_f32(V_f32 a, V_f32 b) { return _mm256_add_ps(a, b); }
static inline V_f64 vplus_f64(V_f64 a, V_f64 b) { return _mm256_add_pd(a, b); }
static inline V_f32 vmuladd_f32(V_f32 a, V_f32 b, V_f32 c) { return _mm256_fmadd_ps(a, b, c); }
static inline V_f64 vmuladd_f64(V_f64 a, V_f64 b, V_f64 c) { return _mm256_fmadd_pd(a, b, c); }
static inline V_f64 vwiden_f32(const float *p) { return _mm256_cvtps_pd(_mm_loadu_ps(p)); }
static inline V_f32 vrelu_f32(V_f32 x) { return _mm256_max_ps(_mm256_setzero_ps(), x); }
static inline V_f64 vrelu_f64(V_f64 x) { return _mm256_max_pd(_mm256_setzero_pd(), x); }
static inline V_f32 vgate_f32(V_f32 y, V_f32 d) { return _mm256_and_ps(_mm256_cmp_ps(y, _mm256_setzero_ps(), _CMP_GT_OQ), d); }
static inline V_f64 vgate_f64(V_f64 y, V_f64 d) { return _mm256_and_pd(_mm256_cmp_pd(y, _mm256_setzero_pd(), _CMP_GT_OQ), d); }
static inline void vgreater_f32(V_f32 v, float here, V_f32 *best, V_f32 *at) {
    const V_f32 m = _mm256_or_ps(_mm256_cmp_ps(v, *best, _CMP_GT_OQ), _mm256_cmp_ps(v, v, _CMP_UNORD_Q));
    *best = _mm256_blendv_ps(*best, v, m);
    *at = _mm256_blendv_ps(*at, _mm256_set1_ps(here), m);
}
static inline void vgreater_f64(V_f64 v, double here, V_f64 *best, V_f64 *at) {
    const V_f64 m = _mm256_or_pd(_mm256_cmp_pd(v, *best, _CMP_GT_OQ), _mm256_cmp_pd(v, v, _CMP_UNORD_Q));
    *best = _mm256_blendv_pd(*best, v, m);
    *at = _mm256_blendv_pd(*at, _mm256_set1_pd(here), m);
}
static inline V_f32 vwhere_f32(V_f32 at, float here, V_f32 d) { return _mm256_and_ps(_mm256_cmp_ps(at, _mm256_set1_ps(here), _CMP_EQ_OQ), d); }
static inline V_f64 vwhere_f64(V_f64 at, double here, V_f64 d) { return _mm256_and_pd(_mm256_cmp_pd(at, _mm256_set1_pd(here), _CMP_EQ_OQ), d); }
static inline V_f32 vfrom_bytes_f32(const uint8_t *p) { return _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)p))); }
static inline V_f64 vfrom_bytes_f64(const uint8_t *p) {
    int four;
    memcpy(&four, p, 4);
    return _mm256_cvtepi32_pd(_mm_cvtepu8_epi32(_mm_cvtsi32_si128(four)));
}
static inline void vto_bytes_f32(uint8_t *p, V_f32 v) {
    const __m256i i = _mm256_cvtps_epi32(v);
    const __m128i s = _mm_packs_epi32(_mm256_castsi256_si128(i), _mm256_extracti128_si256(i, 1));
    _mm_storel_epi64((__m128i *)p, _mm_packus_epi16(s, s));
}
static inline void vto_bytes_f64(uint8_t *p, V_f64 v) {
    const __m128i i = _mm256_cvtpd_epi32(v), s = _mm_packs_epi32(i, i);
    const int four = _mm_cvtsi128_si32(_mm_packus_epi16(s, s));
    memcpy(p, &four, 4);
}

#else /* generic: vector extensions where the compiler has them (SSE2, NEON), else one lane */
#define TD_MR 4
#define TD_NV 2
#define TD_KEEP 0
#if defined(__GNUC__)
typedef float V_f32 __attribute__((vector_size(16)));
typedef double V_f64 __attribute__((vector_size(16)));
#define VL_f32 4
#define VL_f64 2
#else
typedef float V_f32;
typedef double V_f64;
#define VL_f32 1
#define VL_f64 1
#endif
#if defined(__aarch64__)
#include <arm_neon.h>
#define TD_VFMA_f32(a, b, c) vfmaq_f32(c, a, b)
#define TD_VFMA_f64(a, b, c) vfmaq_f64(c, a, b)
#else
#define TD_VFMA_f32(a, b, c) ((a) * (b) + (c))
#define TD_VFMA_f64(a, b, c) ((a) * (b) + (c))
#endif
#define td_streamed() ((void)0)
#define TD_GENERIC(S, T) \
    static inline V_##S vload_##S(const T *p) { V_##S v; memcpy(&v, p, sizeof v); return v; } \
    static inline void vstore_##S(T *p, V_##S v) { memcpy(p, &v, sizeof v); } \
    static inline V_##S vloadn_##S(const T *p, int n) { T t[VL_##S] = {0}; memcpy(t, p, (size_t)n * sizeof(T)); return vload_##S(t); } \
    static inline void vstoren_##S(T *p, V_##S v, int n) { memcpy(p, &v, (size_t)n * sizeof(T)); } \
    static inline void vstream_##S(T *p, V_##S v) { vstore_##S(p, v); } \
    static inline V_##S vset1_##S(T x) { T t[VL_##S]; for (int i = 0; i < VL_##S; i++) t[i] = x; return vload_##S(t); } \
    static inline V_##S vplus_##S(V_##S a, V_##S b) { return a + b; } \
    static inline V_##S vmuladd_##S(V_##S a, V_##S b, V_##S c) { return TD_VFMA_##S(a, b, c); } \
    static inline V_##S vrelu_##S(V_##S x) { \
        T t[VL_##S]; memcpy(t, &x, sizeof t); \
        for (int i = 0; i < VL_##S; i++) t[i] = t[i] < 0 ? 0 : t[i] + 0; \
        return vload_##S(t); } \
    static inline V_##S vgate_##S(V_##S y, V_##S d) { \
        T t[VL_##S], u[VL_##S]; memcpy(t, &y, sizeof t); memcpy(u, &d, sizeof u); \
        for (int i = 0; i < VL_##S; i++) u[i] = t[i] > 0 ? u[i] : 0; \
        return vload_##S(u); } \
    static inline void vgreater_##S(V_##S v, T here, V_##S *best, V_##S *at) { \
        T t[VL_##S], b[VL_##S], a[VL_##S]; memcpy(t, &v, sizeof t); memcpy(b, best, sizeof b); memcpy(a, at, sizeof a); \
        for (int i = 0; i < VL_##S; i++) if (t[i] > b[i] || t[i] != t[i]) b[i] = t[i], a[i] = here; \
        memcpy(best, b, sizeof b); memcpy(at, a, sizeof a); } \
    static inline V_##S vwhere_##S(V_##S at, T here, V_##S d) { \
        T t[VL_##S], u[VL_##S]; memcpy(t, &at, sizeof t); memcpy(u, &d, sizeof u); \
        for (int i = 0; i < VL_##S; i++) u[i] = t[i] == here ? u[i] : 0; \
        return vload_##S(u); } \
    static inline V_##S vfrom_bytes_##S(const uint8_t *p) { T t[VL_##S]; for (int i = 0; i < VL_##S; i++) t[i] = p[i]; return vload_##S(t); } \
    static inline void vto_bytes_##S(uint8_t *p, V_##S v) { \
        T t[VL_##S]; memcpy(t, &v, sizeof t); \
        for (int i = 0; i < VL_##S; i++) p[i] = (uint8_t)t[i]; }
TD_GENERIC(f32, float)
TD_GENERIC(f64, double)
static inline V_f64 vwiden_f32(const float *p) {
    double t[VL_f64];
    for (int i = 0; i < VL_f64; i++) t[i] = p[i];
    return vload_f64(t);
}
#endif
static inline V_f64 vwiden_f64(const double *p) { return vload_f64(p); }

/* d[p][j] := s[j][p] for 8 x 8 floats; rows of s are s_row apart, rows of d d_row. With fewer than 8 rows of s, what
   stands in the other columns of d is of no account. Rows of d are written in order: they may overlap. */
#if defined(TD_ISA_AVX512) || defined(TD_ISA_AVX2)
#define TD_TRANSPOSE 1
static inline __attribute__((always_inline)) void td_transpose8(const float *s, int64_t s_row, float *d, int64_t d_row, int rows) {
    __m256 r[8], t[8];
    for (int i = 0; i < 8; i++) r[i] = _mm256_loadu_ps(s + (i < rows ? i : rows - 1) * s_row);
    for (int i = 0; i < 4; i++) {
        t[2 * i] = _mm256_unpacklo_ps(r[2 * i], r[2 * i + 1]);
        t[2 * i + 1] = _mm256_unpackhi_ps(r[2 * i], r[2 * i + 1]);
    }
    for (int i = 0; i < 2; i++) {
        r[4 * i + 0] = _mm256_shuffle_ps(t[4 * i], t[4 * i + 2], 0x44);
        r[4 * i + 1] = _mm256_shuffle_ps(t[4 * i], t[4 * i + 2], 0xee);
        r[4 * i + 2] = _mm256_shuffle_ps(t[4 * i + 1], t[4 * i + 3], 0x44);
        r[4 * i + 3] = _mm256_shuffle_ps(t[4 * i + 1], t[4 * i + 3], 0xee);
    }
    for (int i = 0; i < 4; i++) _mm256_storeu_ps(d + i * d_row, _mm256_permute2f128_ps(r[i], r[i + 4], 0x20));
    for (int i = 0; i < 4; i++) _mm256_storeu_ps(d + (i + 4) * d_row, _mm256_permute2f128_ps(r[i], r[i + 4], 0x31));
}
#else
#define TD_TRANSPOSE 0
static inline void td_transpose8(const float *s, int64_t s_row, float *d, int64_t d_row, int rows) {
    for (int i = 0; i < 8; i++) for (int j = 0; j < rows; j++) d[i * d_row + j] = s[j * s_row + i];
}
#endif

/* From td_flush to td_unflush numbers too small to be normal count as zero, in what is read and in what results. Processors
   take several times as long for them, some a hundred times; nothing else changes. */
#if defined(__SSE__)
typedef unsigned td_mode;
static inline td_mode td_flush(void) {
    const td_mode before = __builtin_ia32_stmxcsr();
    __builtin_ia32_ldmxcsr(before | 0x8040);        /* FTZ, DAZ */
    __asm__ volatile("" ::: "memory");
    return before;
}
static inline void td_unflush(td_mode before) {
    __asm__ volatile("" ::: "memory");
    __builtin_ia32_ldmxcsr(before);
}
#elif defined(__aarch64__)
typedef uint64_t td_mode;
static inline td_mode td_flush(void) {
    td_mode before;
    __asm__ volatile("mrs %0, fpcr" : "=r"(before));
    __asm__ volatile("msr fpcr, %0" :: "r"(before | (td_mode)1 << 24) : "memory");      /* FZ */
    return before;
}
static inline void td_unflush(td_mode before) { __asm__ volatile("msr fpcr, %0" :: "r"(before) : "memory"); }
#else
typedef int td_mode;
static inline td_mode td_flush(void) { return 0; }
static inline void td_unflush(td_mode before) { (void)before; }
#endif

/* Blocks: at most KC products per pass (ONE_PASS where that is all), MC rows of a (more where the pass is shorter, fewer
   where it is longer) per sliver of b. Measured with 256 x 2048 x 2048 and 2048^3 float32: on a Zen 5 (AVX-512, 48 KiB L1,
   1 MiB L2) KC 256, 320, 400, 768, 1024 with MC 84 to 672 were 0 to 7 percent slower than 512 with 336, and two passes
   instead of one over 784 cost a step of 64 x 784 x 128 1 to 3 percent; with AVX2 on a Zen 3 (512 KiB L2) KC 256, 320 and
   MC 168, 336, 1008 were 0 to 1 percent slower than 400 with 672. */
#if defined(TD_ISA_AVX512)
enum { TD_KC = 512, TD_ONE_PASS = 800, TD_MC = 336, TD_FAR_BLOCK = 1 << 16 };
#else
enum { TD_KC = 400, TD_ONE_PASS = 400, TD_MC = 672, TD_FAR_BLOCK = 1 << 15 };
#endif
/* Rows whose stride in bytes is a multiple of FAR fall into few sets of the L1 cache: such a sliver of b, or panel of a,
   is copied together; where c has MANY columns, so is any panel whose rows are a's columns. A panel serves all slivers of b: with
   few of them it is not worth the copy (at most four; of a's columns, which are copied faster, at most 32 columns: on a Zen 4
   (2048 x 1024)' (2048 x 64) took 4 to 30 percent less time with it, with AVX2 7 to 20). A row of a sliver is one
   cache line with AVX2, two with AVX-512. Measured with strides of 0.5 to 8 KiB on the same two (FAR_A also on a Zen 4).
   With KEEP the first tile copies the sliver beside its products and asks for rows so many ahead, of which a loop that only
   copies would wait for each: on a Zen 3 with AVX2 64 x 784 x 128 took 5 percent less time so, 128 x 784 x 512 8 to 15, and
   784 x 64 x 128, whose stride of 512 bytes was not copied before, 7. */
#if defined(TD_ISA_AVX2)
enum { TD_FAR_A = 2048, TD_FAR_B = 512, TD_MANY = 256 };
#else
enum { TD_FAR_A = 4096, TD_FAR_B = 4096, TD_MANY = 1 << 30 };
#endif
/* Bytes of c that the L2 cache does not hold between two steps: the places of its elements are asked for. And bytes of a
   gradient that no cache holds until the update: they are stored past the caches, whose lines are not read first. On a Zen 5
   asking for the places in smaller c cost 1 to 4 percent of a step of W1 and W2, not asking for those in larger ones 2 percent
   of W4's, and 1 percent of one in two shards, whose c are half as large; streaming its gradients saved 0.4 percent with one
   thread, 2 to 4 with two. */
enum { TD_FAR_C = 1 << 19, TD_STREAM = 8 << 20 };
/* Factors of so many bytes come from memory, and are asked for: of a, which few columns of b go over, in blocks of FAR_BLOCK
   elements, each evenly beside the products of the one before. On a Zen 3 with AVX2 65536 x 128 x 64 took 17 percent less time than where
   rows were asked for two tiles ahead, with blocks of twice as many elements 5; on a Zen 5 with AVX-512, whose L2 cache has twice the
   size, asking two tiles ahead had saved 15 percent of 65536 x 64 x 128, 30 of 65536 x 32 x 64, and blocks were not measured. A gradient
   by the weights of 65536 samples, of at most 32768 elements, in passes of SHORT products took 25 to 30 percent less than in those of KC
   (with AVX2 20). Where c has more elements a pass is of their number / C_OF_P: on a Zen 4 with AVX-512, where the rows came from
   memory, (2048 x 1024)' (2048 x 64) took 34 to 40 percent less time so, (2048 x 512)' (2048 x 32) 28 to 46, with 128 columns 10 to 30. */
enum { TD_FAR = 4 << 20, TD_SHORT = 64, TD_C_OF_P = 512 };
enum { TD_LONG = 1 << 28 };     /* multiply-adds, some milliseconds: longer products ask on their way whether to stop */
#define TD_MATMUL_SCRATCH(T) ((i64)(TD_MC * TD_KC + TD_ONE_PASS * TD_NV * 16) * (i64)sizeof(T))
#endif
