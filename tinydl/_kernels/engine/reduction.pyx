"""How the gradients of a group's slots become one update: a fixed tree of weighted means, slice by slice.

Weight gradients too large for the cache are computed here, tile by tile, during the update. Such a gradient is one matrix
product, of a layer's input, transposed, and of its output's gradient; the plan calls these products late, and the replicas
skip them. Each worker computes its rows of a late product, a tile at a time, for one slot after the other, averages the
slots' tiles, and applies the result while it is cached, instead of writing the whole gradient to memory and reading it
again. Each element is the same chain of multiply-adds as in the whole product, so this changes no bit. (W4 in two shards on a
Zen 5 took 7 percent less time, in groups of two batches 2 percent; steps of 512 to 2048 wide layers at 32 to 128 rows took 4
to 26 percent less. With one worker, or gradients that fit into the cache, it would take more.)
"""
import numpy as np

from libc.stdint cimport int64_t, uint8_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memmove, memset

from tinydl._kernels.engine.program import aligned

from tinydl._kernels.engine.program cimport LateProduct, Program, Table, pointer
from tinydl._kernels.engine.program cimport at as place
from tinydl._kernels.engine.update cimport BLOCK, Update
from tinydl._kernels.td cimport td_ctx, td_marked, td_matmul, td_piece, td_unmarked

cdef enum:
    PAGE_ITEMS = 1024   # of float32
    MANY_PAGES = 32
    HEIGHT = 224        # rows of a tile of a late product, at most; WIDTH is its usual number of columns. The tile and its
                        # operands then fit into an L2 cache
    WIDTH = 128
    WIDEST = 192
    PIECE = HEIGHT * WIDEST
    DEPTH = 3           # tiles that exist at the same time while the tree over DEFERRED_SLOTS slots is averaged
    PANEL = HEIGHT * 128    # elements of a' that a tile is computed from, at most
    BLOCK_ROW = WIDEST + 16     # elements between two rows of b's columns: an odd number of cache lines, so that the rows
                                # are spread over all sets of an L1 cache


cdef inline int64_t tree_half(int64_t n) noexcept nogil:
    """How many of n slots are in the left half of the tree: the greatest power of two below n."""
    cdef int64_t half = 1
    while 2 * half < n:
        half *= 2
    return half


cdef int64_t room(Program program) noexcept:
    """Bytes of scratch memory that averaging slots needs, beside the matrix product's own: for pieces of the slots' vectors,
    or for tiles of late products and their operands, whichever is more."""
    cdef int64_t items = 32 * BLOCK
    if program.n_late:
        items = max(items, panel_at(program, DEFERRED_SLOTS, program.late_k + 16) + program.late_a)
    return items * program.k.itemsize


# The scratch memory of late products holds, in this order: DEPTH tiles; for each slot, the current columns of b; for each
# slot, this worker's rows of a', packed, in `panel` elements (its share of the rows, rounded up, times k, plus 16).
cdef inline int64_t block_at(Program program, int64_t slot) noexcept nogil:
    return DEPTH * PIECE + slot * program.late_k * BLOCK_ROW


cdef inline int64_t panel_at(Program program, int64_t slot, int64_t panel) noexcept nogil:
    return block_at(program, DEFERRED_SLOTS) + slot * panel


cdef class Reduction:
    """Makes the updates from the slots of a group, with n_workers workers that take a slice each.

    arrived: for each slot, the number of samples behind its gradient, 0 if it failed; by: for each slot, the context of the
    replica that has deferred its late products, NULL if it deferred none and the whole gradient is in the slot."""
    def __cinit__(self, Update update, list slots, int n_workers, Program program, list kept=[], bint exchanges=False,
                  bint marks=False, int64_t first=0):
        cdef int i
        self.exchanges, self.kept_arrays = exchanges, kept
        if len(kept) > MOST_KEPT:
            raise ValueError(f"{len(kept)} vectors for blocks; at most {MOST_KEPT}")
        self.update, self.slots, self.n_workers, self.program = update, slots, n_workers, program
        self.slot = <char **>calloc(len(slots), sizeof(char *))
        self.arrived = <double *>calloc(len(slots), sizeof(double))
        self.by = <const td_ctx **>calloc(len(slots), sizeof(td_ctx *))
        self.squares = <double *>calloc(update.n // BLOCK + 1, sizeof(double))
        if self.slot == NULL or self.arrived == NULL or self.by == NULL or self.squares == NULL:
            raise MemoryError
        if marks and program.n_tables and not (update.staged or exchanges or kept):
            self.mark(program, first)
        for i in range(len(slots)):
            if slots[i].size != update.n + update.n_statistics:
                raise ValueError(f"slot {i} holds {slots[i].size} values; the model has {update.n + update.n_statistics}")
            self.slot[i] = <char *>pointer(slots[i])
        for i in range(len(kept)):
            if kept[i].size != slots[0].size or kept[i].dtype != slots[0].dtype:
                raise ValueError(f"a vector for blocks of {kept[i].size} {kept[i].dtype}; slots are {slots[0].size}")
            self.kept[i] = <char *>pointer(kept[i])
        if program.n_grads != update.n + update.n_statistics:
            raise ValueError(f"the plan writes {program.n_grads} values; the optimizer is bound to "
                             f"{update.n + update.n_statistics}")

    def __dealloc__(self):
        free(self.slot)
        free(self.arrived)
        free(self.squares)
        free(<void *>self.by)
        free(self.passes)
        free(self.marked)

    cdef int mark(self, Program program, int64_t first) except -1:
        """Have marks, all of them set: what the slots hold from before nobody knows."""
        cdef int i
        cdef int64_t size = (program.n_marks + 127) // 64 * 64      # the slots' do not share a cache line
        self.first, self.n_slots, self.marks_array = first, len(self.slots), aligned(size * len(self.slots), np.uint8)
        self.marks_array[:] = 1
        self.marks = <uint8_t *>pointer(self.marks_array)
        self.passes = <bint *>calloc(program.n_tables, sizeof(bint))
        self.marked = <uint8_t **>calloc(len(self.slots) * self.n_workers, sizeof(uint8_t *))
        if self.passes == NULL or self.marked == NULL:
            raise MemoryError
        for i in range(program.n_tables):
            self.passes[i] = self.update.still(program.table[i].at, program.table[i].items)
        return 0

    cdef uint8_t *marks_of(self, int64_t s) noexcept nogil:
        """Those of slot s, for the operations that write its gradient; NULL where there are none."""
        return NULL if self.marks == NULL else self.marks + s * ((self.program.n_marks + 127) // 64 * 64)

    cdef void open(self, int64_t k) noexcept nogil:
        """Declare the first k slots complete, so that the workers may `run`. Fields that already have the right value are not
        written again: a write would remove them from the other workers' caches."""
        cdef int64_t s, most = 0, home = k
        for s in range(k):
            if self.arrived[s] and home == k:
                home = s
            if self.arrived[s] and self.by[s] != NULL:
                most = max(most, self.by[s].n)
        if self.k != k or self.most != most or self.home != home:
            self.k, self.most, self.home = k, most, home

    cdef void blocks(self, int w, int64_t *lo, int64_t *hi) noexcept nogil:
        """Of the parameters, lo..hi-1 are worker w's where there are stages: whole blocks."""
        cdef int64_t share = ((self.update.n + BLOCK - 1) // BLOCK + self.n_workers - 1) // self.n_workers * BLOCK
        lo[0], hi[0] = min(self.update.n, w * share), min(self.update.n, (w + 1) * share)

    cdef void gather(self, int w, char *scratch) noexcept nogil:
        """Worker w's part of the averaged gradient, into the first slot that arrived; with what stages do to each element."""
        cdef int64_t hi, size = self.update.k.itemsize
        cdef Area area
        cdef Reduced f
        cdef char *to
        memset(&area, 0, sizeof(area))
        area.rows = 1
        self.blocks(w, &area.at, &hi)
        while area.at < hi:
            area.row = min(BLOCK, hi - area.at)
            f = self.halves(w, 0, self.k, &area, scratch)
            to = self.slot[self.home] + area.at * size
            if f.g.b != NULL:
                self.update.k.weighted_mean(f.g.a, f.g.b, to, area.row, f.g.wa, f.g.wb)
            elif f.g.a != to:       # the mean of a half whose other half failed
                memmove(to, f.g.a, area.row * size)
            if not self.exchanges:      # else that comes behind the exchange
                self.squares[area.at // BLOCK] = self.update.clipped(to, area.row)
            area.at += area.row

    # A group of more batches than slots is run in blocks of as many as there are slots, a power of two. A block's mean is a node
    # of the tree over all batches, and so is the mean of two blocks, of four, ...: those that are complete are joined as in a
    # binary counter, so for k blocks log2(k) vectors are kept, and the tree, and so each bit, is that of as many slots as batches.
    cdef int joined(self, bint last) noexcept nogil:
        """How many of the means kept are joined with that of the block that has just been run: all, where it is the last."""
        cdef int n = 0
        while not last and self.block >> n & 1:
            n += 1
        return self.n_kept if last else n

    cdef void keep(self, int w, bint last, char *scratch) noexcept nogil:
        """Worker w's part of the mean of a block, joined with those before: to be kept or, of the last block, into slot 0."""
        cdef int i, n = self.joined(last)
        cdef int64_t hi, size = self.update.k.itemsize
        cdef double weight, left
        cdef char *mean
        cdef char *to = self.slot[0] if last else self.kept[self.n_kept - n]
        cdef Area area
        cdef Reduced f
        memset(&area, 0, sizeof(area))
        area.rows = 1
        self.slice(w, self.update.n + self.update.n_statistics, &area.at, &hi)
        while area.at < hi:
            area.row = min(BLOCK, hi - area.at)
            f = self.mean_of(w, 0, self.k, &area, scratch)
            mean, weight = <char *>f.g.a, f.weight
            for i in range(self.n_kept - 1, self.n_kept - 1 - n, -1):
                left = self.kept_weight[i]
                if left and weight:
                    self.update.k.weighted_mean(self.kept[i] + area.at * size, mean, mean, area.row, left / (left + weight),
                                                weight / (left + weight))
                elif left:
                    mean = self.kept[i] + area.at * size
                weight = left + weight
            if weight:
                memmove(to + area.at * size, mean, area.row * size)
            area.at += area.row

    cdef void note_kept(self, bint last) noexcept nogil:
        """By one thread, when all workers have kept their parts. Behind the last block of a group slot 0 has its mean."""
        cdef int i, n = self.joined(last)
        cdef double weight = self.weight(0, self.k)
        for i in range(n):
            self.n_kept -= 1
            weight = self.kept_weight[self.n_kept] + weight
        if last:
            self.block = 0
            self.arrive(0, weight)
            self.open(1)
        else:
            self.kept_weight[self.n_kept] = weight
            self.n_kept += 1
            self.block += 1

    cdef double weight(self, int64_t lo, int64_t hi) noexcept nogil:
        """The weight of the mean of slots lo..hi-1, added in the order of the tree."""
        cdef int64_t mid
        if hi - lo == 1:
            return self.arrived[lo]
        mid = lo + tree_half(hi - lo)
        return self.weight(lo, mid) + self.weight(mid, hi)

    cdef double gather_statistics(self, char *scratch) noexcept nogil:
        """Before an exchange, by one thread: the averaged batch statistics, into the first slot that arrived. Returns the
        weight of the mean; 0: none arrived, and what is exchanged is to be found in slot 0."""
        cdef Area area
        cdef Reduced f
        cdef int64_t size = self.update.k.itemsize
        if self.home == self.k:
            self.home = 0
            return 0
        memset(&area, 0, sizeof(area))
        area.rows, area.at = 1, self.update.n
        while area.at < self.update.n + self.update.n_statistics:
            area.row = min(BLOCK, self.update.n + self.update.n_statistics - area.at)
            f = self.mean_of(0, 0, self.k, &area, scratch)
            memmove(self.slot[self.home] + area.at * size, f.g.a, area.row * size)
            area.at += area.row
        return self.weight(0, self.k)

    cdef double total(self) noexcept nogil:
        """The sum of all squares: when all workers have gathered."""
        cdef int64_t i
        cdef double squares = 0
        for i in range((self.update.n + BLOCK - 1) // BLOCK):
            squares += self.squares[i]
        return squares

    cdef void arrive(self, int64_t s, double weight) noexcept nogil:
        """Note what slot s weighs in the mean; 0: the slot failed, or nothing in it counts."""
        if self.arrived[s] != weight:
            self.arrived[s] = weight

    cdef void slice(self, int w, int64_t n, int64_t *lo, int64_t *hi) noexcept nogil:
        """Worker w updates elements lo..hi-1 of n parameters. The borders lie between cache lines or, where there are many
        parameters, between pages: prefetchers do not cross those, so they fetch nothing that another worker writes."""
        cdef int64_t even = PAGE_ITEMS if n > MANY_PAGES * self.n_workers * PAGE_ITEMS else 16
        cdef int64_t share = ((n + self.n_workers - 1) // self.n_workers + even - 1) // even * even
        lo[0], hi[0] = min(n, w * share), min(n, (w + 1) * share)

    cdef void run(self, int w, int64_t t, double scale, char *scratch) noexcept nogil:
        """Make worker w's part of update number t. scratch: memory of the worker's replica, scratch_bytes(program) long. scale:
        of the gradient, if it was gathered."""
        cdef int64_t at = 0, hi
        cdef int j
        cdef const LateProduct *p
        cdef Area area
        cdef Reduced f
        if self.update.staged or self.exchanges:
            self.blocks(w, &at, &hi)
            self.update.by(self.slot[self.home], at, hi - at, scale, t)
        elif self.most:
            for j in range(self.program.n_late):
                p = &self.program.late_product[j]
                self.plain(w, at, p.c, t, scratch)
                self.product(w, p, t, scratch)
                at = p.c + p.m * p.n
            self.plain(w, at, self.update.n, t, scratch)
        else:
            self.plain(w, 0, self.update.n, t, scratch)
        if w == 0 and self.exchanges:
            self.update.running(self.slot[self.home] + self.update.n * self.update.k.itemsize, 0, self.update.n_statistics)
        elif w == 0:
            memset(&area, 0, sizeof(area))
            area.rows, at = 1, 0
            while at < self.update.n_statistics:    # a statistic is folded like a gradient
                area.at, area.row = self.update.n + at, min(BLOCK, self.update.n_statistics - at)
                f = self.mean_of(w, 0, self.k, &area, scratch)
                self.update.running(<const char *>f.g.a, at, area.row)
                at += area.row

    cdef void plain(self, int w, int64_t first, int64_t end, int64_t t, char *scratch) noexcept nogil:
        """Update worker w's slice of the parameters first..end-1, whose gradients are in the slots. The last of the weighted
        means, at the root of the tree, is computed within the update's rule."""
        cdef int64_t lo, hi, piece, stop
        cdef Area area
        cdef Reduced f
        self.slice(w, end - first, &lo, &hi)
        piece = hi - lo         # one slot, or two: nothing to fold before the update, one long pass
        if self.k > 2 or (self.k == 2 and self.uncached()):
            piece = BLOCK
        memset(&area, 0, sizeof(area))
        area.rows, area.at, end = 1, first + lo, first + hi
        stop = end if self.marks == NULL else area.at
        while area.at < end:
            if area.at == stop:
                stop = self.run_of(w, &area.at, end, t)
                continue
            area.row = min(piece, stop - area.at)
            f = self.halves(w, 0, self.k, &area, scratch)
            self.update.part(&f.g, area.at, area.row, t)
            area.at += area.row

    cdef int64_t run_of(self, int w, int64_t *at, int64_t end, int64_t t) noexcept nogil:
        """Where the run of parameters to be updated ends that begins at `at`, which is moved on over those before `end` that
        are not: rows of tables that no slot has marked, where a gradient of 0 changes nothing."""
        cdef int i
        cdef int64_t s, m, n = 0
        cdef const Table *table
        cdef uint8_t **marked = self.marked + w * self.n_slots
        for i in range(self.program.n_tables):
            table = &self.program.table[i]
            if not self.passes[i] or t <= self.first or at[0] >= table.at + table.items:
                continue
            if at[0] < table.at:
                return min(end, table.at)
            n = 0
            for s in range(self.k):
                if self.arrived[s]:
                    marked[n] = self.marks_of(s) + table.mark
                    n += 1
            m = td_marked(marked, n, (at[0] - table.at) // table.step, table.n)
            at[0] = min(end, max(at[0], table.at + min(m * table.step, table.items)))
            if m < table.n:
                return min(end, table.at + min(td_unmarked(marked, n, m, table.n) * table.step, table.items))
        return end

    cdef void product(self, int w, const LateProduct *p, int64_t t, char *scratch) noexcept nogil:
        """Update worker w's rows of the parameters whose gradient is the late product p. Each block of columns of b is copied
        together once and used for all rows; the rows of a' are packed once and used for all columns."""
        cdef int64_t m = p.m, n = p.n, share = (m + self.n_workers - 1) // self.n_workers
        cdef int64_t lo = min(m, w * share), hi = min(m, lo + share), left
        cdef int64_t inner = p.k_per_sample * self.most, height = min(HEIGHT, PANEL // inner)
        cdef int64_t blocks = max(n // WIDTH, (n + WIDEST - 1) // WIDEST), width = ((n + blocks - 1) // blocks + 15) // 16 * 16
        cdef Area area
        cdef Reduced f
        area.made_by, area.stride, area.first, area.panel, area.scratch, area.c = p, n, lo, share * inner + 16, scratch, 0
        while area.c < n:
            area.row, area.r, left = min(width, n - area.c), lo, (hi - lo + height - 1) // height
            while left:
                area.rows = (hi - area.r + left - 1) // left
                area.at = p.c + area.r * n + area.c
                f = self.halves(w, 0, self.k, &area, scratch + self.update.k.matmul_scratch)
                f.g.rows, f.g.stride = area.rows, n
                self.update.part(&f.g, area.at, area.row, t)
                area.r += area.rows
                left -= 1
            area.c += area.row

    cdef void make(self, int64_t s, const Area *area, char *to) noexcept nogil:
        """Write slot s's gradient of the area to `to`, without gaps between its rows: computed now if the slot's late
        products were deferred, else copied from the slot."""
        cdef int64_t row, size = self.update.k.itemsize
        cdef int j
        cdef const LateProduct *late = area.made_by
        cdef const td_ctx *by = self.by[s]
        cdef char *made
        cdef char *block
        cdef const char *b
        cdef td_matmul p
        cdef td_piece piece
        if by == NULL:
            for row in range(area.rows):
                memcpy(to + row * area.row * size, self.slot[s] + (area.at + row * area.stride) * size, area.row * size)
            return
        memset(&p, 0, sizeof(p))
        p.m, p.n, p.k = area.rows, area.row, late.k_per_sample * by.n
        made = area.scratch + self.update.k.matmul_scratch
        block = made + block_at(self.program, s) * size
        if area.r == area.first:
            b = place(by, &late.b) + area.c * size
            for row in range(p.k):
                memcpy(block + row * BLOCK_ROW * size, b + row * late.n * size, area.row * size)
        p.a, p.a_row, p.a_col = place(by, &late.a) + area.r * size, 1, late.m
        p.b, p.b_row, p.b_col, p.c, p.c_row, p.scratch = block, BLOCK_ROW, 1, to, area.row, area.scratch
        memset(&piece, 0, sizeof(piece))
        piece.panel = made + (panel_at(self.program, s, area.panel) + (area.r - area.first) * p.k) * size
        piece.packed = area.c > 0
        piece.bytes, piece.stride = area.row * size, area.stride * size
        row = area.rows * s // self.k       # each slot's product prefetches its share of the parameters to be updated
        piece.rows = area.rows * (s + 1) // self.k - row
        piece.at[0] = self.update.params_at + (area.at + row * area.stride) * size
        for j in range(3):
            if self.update.vectors[j] == NULL:
                break
            piece.at[j + 1] = self.update.vectors[j] + (area.at + row * area.stride) * size
        p.piece = &piece
        self.update.k.matmul(&p)

    cdef bint uncached(self) noexcept nogil:
        """Whether a slot's vector is too long for a core's cache, or means must not be written into it, since marks say where it
        is not 0."""
        return self.marks != NULL or self.update.n * self.update.k.itemsize > 2 * NEAR

    cdef Reduced halves(self, int w, int64_t lo, int64_t hi, const Area *area, char *scratch) noexcept nogil:
        """The weighted mean of slots lo..hi-1 in the area, but for the last step: the result names the two halves, their
        weights, and where their mean is to be written (`mean`). With one slot, or where one half failed, there is one half
        only. The slots are halved recursively by `tree_half`, so the order of summation is fixed.

        The place of the mean is another worker's slot if possible: that worker finds the lines in one cache when it writes
        its next gradient. Of vectors that are too long for a cache, and of tiles, it is the scratch memory."""
        cdef Reduced left, right
        cdef int64_t mid, size = self.update.k.itemsize
        if hi - lo == 1:
            left.g.a, left.g.b, left.g.wa, left.g.wb, left.g.mean = self.slot[lo] + area.at * size, NULL, 1, 0, NULL
            left.g.rows, left.g.stride, left.weight = 1, 0, self.arrived[lo]
            left.theirs = lo % self.n_workers != w
            if area.made_by != NULL and left.weight:
                self.make(lo, area, scratch)
                left.g.a = scratch
            return left
        mid = lo + tree_half(hi - lo)
        left = self.mean_of(w, lo, mid, area, scratch)
        if left.weight == 0:       # the caller expects the result at this place in the scratch, which is unused
            return self.halves(w, mid, hi, area, scratch)
        right = self.mean_of(w, mid, hi, area, scratch + (BLOCK if area.made_by == NULL else PIECE) * size)
        if right.weight == 0:
            return left
        left.g.b = right.g.a
        left.g.wa = left.weight / (left.weight + right.weight)
        left.g.wb = right.weight / (left.weight + right.weight)
        left.g.mean = <void *>(left.g.a if left.theirs else right.g.a)
        if area.made_by != NULL or self.uncached():
            left.g.mean = scratch
        left.weight += right.weight
        left.theirs = left.theirs or right.theirs
        return left

    cdef Reduced mean_of(self, int w, int64_t lo, int64_t hi, const Area *area, char *scratch) noexcept nogil:
        """The weighted mean of slots lo..hi-1 in the area, with the last step of `halves` done: its place is in g.a."""
        cdef Reduced f = self.halves(w, lo, hi, area, scratch)
        if f.g.b != NULL:
            self.update.k.weighted_mean(f.g.a, f.g.b, f.g.mean, area.rows * area.row, f.g.wa, f.g.wb)
            f.g.a, f.g.b = f.g.mean, NULL
        return f
