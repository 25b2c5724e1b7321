# Non-zero pixels: lists of a whole set of images, made once, and `Pixels`, which fills the rows of a minibatch, as lists or
# as x. Dimensions: N images, B rows of a minibatch, X pixels; pixel p of image n stands at n * X + p, the list of row b at b * X.

def count_nonzero(const uint8_t[::1] levels, const float[::1] shades, index_t size, int64_t[::1] starts):
    """starts[n + 1] - starts[n] = the non-zero pixels of image n of `size`; one of the arrays is empty; starts is (N + 1,)."""
    cdef index_t n, p, count
    cdef bint in_bytes = levels.shape[0] > 0
    with nogil:
        starts[0] = 0
        for n in range(starts.shape[0] - 1):
            count = 0
            if in_bytes:
                for p in range(n * size, (n + 1) * size):
                    count += levels[p] != 0
            else:
                for p in range(n * size, (n + 1) * size):
                    count += shades[p] != 0
            starts[n + 1] = starts[n] + count


def list_nonzero(
    const uint8_t[::1] levels, const float[::1] shades, index_t size, const int64_t[::1] starts,
    uint8_t[::1] listed_levels, float[::1] listed_shades, uint16_t[::1] pixels,
):
    """Fill lists of the non-zero pixels of whole images."""
    cdef index_t n, p, entry
    cdef bint in_bytes = levels.shape[0] > 0
    with nogil:
        for n in range(starts.shape[0] - 1):
            entry = starts[n]
            for p in range(size):
                if in_bytes and levels[n * size + p] != 0:
                    listed_levels[entry] = levels[n * size + p]
                    pixels[entry] = <uint16_t>p
                    entry += 1
                elif not in_bytes and shades[n * size + p] != 0:
                    listed_shades[entry] = shades[n * size + p]
                    pixels[entry] = <uint16_t>p
                    entry += 1


cdef class Pixels(Memory):
    """Rows of pixels: binarized, and as lists where the first layer is sparse."""

    cdef int _load_images(self, index_t begin, index_t first, index_t last) except -1 nogil:
        """Fill rows first to last - 1 of the minibatch from `begin`: the lists of their pixels if `sparse`, else x.

        The n-th non-zero pixel of row r takes word n of its example's key; a black pixel, which is never on, takes none.
        """
        cdef bint lists = self.image_starts.shape[0] > 0
        cdef index_t r, example, start, size, panel, number
        cdef float* levels = self.buffer(self.levels, 0, panels_of(self.pixels) * PANEL)
        for r in range(first, last):
            example = self.order[begin + r]
            start, size, number = example * self.pixels, self.pixels, 0
            if lists:
                if r + AHEAD < last:
                    self._prefetch_image(self.order[begin + r + AHEAD])
                start = number = self.image_starts[example]
                size = self.image_starts[example + 1] - start
            if size > 0:
                self._levels(start, size, lists, self.keys[begin + r], levels)
            if self.sparse:
                self._list(r, number, size, levels)
            else:
                for panel in range(panels_of(self.pixels)):
                    self._copy(levels + panel * PANEL, self.space(self.x + panel * self.stride + r * PANEL, PANEL))
                if self.seen != self.x:
                    for panel in range(panels_of(self.pixels)):
                        self._copy(levels + panel * PANEL, self.space(self.seen + panel * self.stride + r * PANEL, PANEL))
                    self._tell(example, self.seen, self.stride, r, self.pixels)
        return 0

    cdef int _levels(self, index_t start, index_t size, bint lists, uint64_t key, float* levels) except -1 nogil:
        """What the levels of an image become."""
        cdef uint32_t* words = &self.pixel_words[0]
        if self.binarize == DYNAMIC:
            if CHECKED:
                inside(0, size, self.pixel_words.shape[0])
            self.kernels.words(&self.pixel_source, key, size, words)
        if self.image_bytes.shape[0] > 0:
            if CHECKED:
                inside(start, size, self.image_bytes.shape[0])
            self.kernels.levels_of_bytes(&self.image_bytes[start], size, lists, self.binarize, words, levels)
        else:
            if CHECKED:
                inside(start, size, self.image_floats.shape[0])
            self.kernels.levels_of_floats(&self.image_floats[start], size, lists, self.binarize, words, levels)
        return 0

    cdef int _prefetch_image(self, index_t example) except -1 nogil:
        cdef index_t start = self.image_starts[example], size = self.image_starts[example + 1] - start
        if size == 0:
            return 0
        prefetch(&self.image_pixels[start], 2 * size)
        if self.image_bytes.shape[0] > 0:
            prefetch(&self.image_bytes[start], size)
        else:
            prefetch(&self.image_floats[start], 4 * size)
        return 0

    cdef int _list(self, index_t r, index_t number, index_t size, const float* levels) except -1 nogil:
        """The pixels of row r that are not zero, ascending; how many belong to half 0 of the logits; and where blocks end."""
        cdef index_t count = 0, middle = 0, i, block, blocks = self.ends.shape[1], start = r * self.pixels
        cdef index_t boundary = self.layers[self.top, SPLIT] * PANEL
        cdef int32_t end = 0
        if size > 0:
            if CHECKED:
                inside(start, size, self.indices.shape[0])
                inside(number, size, self.image_pixels.shape[0])
            count = self.kernels.list(levels, &self.image_pixels[number], size, &self.indices[start], &self.values[start])
        for i in range(count):
            middle += self.indices[start + i] < boundary
        self.lengths[r], self.middles[r] = count, middle
        for block in range(blocks):
            self.ends[r, block] = 0
        for i in range(count):
            self.ends[r, self.indices[start + i] // BLOCK_PIXELS] = <int32_t>(i + 1)
        for block in range(blocks):
            end = max(end, self.ends[r, block])
            self.ends[r, block] = end
        return 0

    cdef int _place_pixels(self, index_t first, index_t last, index_t half) except -1 nogil:
        """x of images first to last - 1, half of its columns, for each of their samples: what the likelihood compares the outputs
        with."""
        cdef index_t panel, q, k = self.samples, stride = self.sample_stride, size = (last - first) * k * PANEL, begin, end
        begin, end = self._half_begin(self.top, half), self._half_end(self.top, half)
        if self.sparse:
            for panel in range(begin, end):
                self._zero(self.space(self.target + panel * stride + first * k * PANEL, size), size)
            for q in range(first * k, last * k):
                self._place_list(q // k, q, half)
        elif k > 1:
            for panel in range(begin, end):
                for q in range(first * k, last * k):
                    self._copy(
                        self.space(self.x + panel * self.stride + q // k * PANEL, PANEL),
                        self.space(self.target + panel * stride + q * PANEL, PANEL),
                    )
        return 0

    cdef int _place_list(self, index_t r, index_t q, index_t half) except -1 nogil:
        """The list of image r to row q."""
        cdef index_t i, p, stride = self.sample_stride, start = self.middles[r] if half == 1 else 0
        cdef index_t stop = self.lengths[r] if half == 1 else self.middles[r]
        for i in range(r * self.pixels + start, r * self.pixels + stop):
            p = self.indices[i]
            self.workspace[self.target + q * PANEL + (p >> 4) * stride + (p & 15)] = self.values[i]
        return 0
