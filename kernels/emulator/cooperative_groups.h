// Cooperative groups: the grid, the block, its tiles of up to 32 threads, and threads that have met.
#pragma once
#pragma GCC system_header

namespace cooperative_groups {

EMU_INLINE unsigned emu_rank() { return (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x; }
EMU_INLINE unsigned emu_threads() { return blockDim.x * blockDim.y * blockDim.z; }

struct thread_block {
    static void sync(unsigned line = __builtin_LINE()) { emu_sync_block(0, nullptr, line); }
    EMU_INLINE static unsigned thread_rank() { return emu_rank(); }
    EMU_INLINE static unsigned size() { return emu_threads(); }
    EMU_INLINE static unsigned num_threads() { return emu_threads(); }
    EMU_INLINE static dim3 group_index() { return blockIdx; }
    EMU_INLINE static dim3 thread_index() { return threadIdx; }
    EMU_INLINE static dim3 group_dim() { return blockDim; }
    EMU_INLINE static dim3 dim_threads() { return blockDim; }
};
EMU_INLINE thread_block this_thread_block() { return {}; }

struct grid_group {
    EMU_INLINE static bool is_valid() { return emu_grid_fits(); }
    EMU_INLINE static void sync(unsigned line = __builtin_LINE()) { emu_sync_grid(line); }
    EMU_INLINE static unsigned long long block_rank() {
        return ((unsigned long long)blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
    }
    EMU_INLINE static unsigned long long num_blocks() { return (unsigned long long)gridDim.x * gridDim.y * gridDim.z; }
    EMU_INLINE static unsigned long long thread_rank() { return block_rank() * emu_threads() + emu_rank(); }
    EMU_INLINE static unsigned long long size() { return num_blocks() * emu_threads(); }
    EMU_INLINE static unsigned long long num_threads() { return size(); }
    EMU_INLINE static dim3 group_dim() { return gridDim; }
    EMU_INLINE static dim3 dim_blocks() { return gridDim; }
    EMU_INLINE static dim3 block_index() { return blockIdx; }
};
EMU_INLINE grid_group this_grid() { return {}; }

// Lanes of one warp, ranked in their order.
struct EmuLanes {
    unsigned mask, rank_, size_;
    EMU_INLINE unsigned thread_rank() const { return rank_; }
    EMU_INLINE unsigned size() const { return size_; }
    EMU_INLINE unsigned num_threads() const { return size_; }
    EMU_INLINE void sync() const { emu_sync_warp(EMU_SYNC, mask, 0); }
    EMU_INLINE int lane(unsigned rank) const {
        unsigned rest = mask;
        while (rank--) rest &= rest - 1;
        return __builtin_ctz(rest);
    }
    // The value of the thread of this rank; its own if the group has none.
    template <class T> EMU_INLINE T from(unsigned op, T value, unsigned rank) const {
        static_assert(sizeof(T) <= 32, "groups shuffle values of up to 32 bytes");
        unsigned long long words[(sizeof(T) + 7) / 8] = {};
        std::memcpy(words, &value, sizeof(T));
        for (unsigned long long &word : words) {
            unsigned there = emu_sync_warp(op, mask, word);
            if (rank >= size_) continue;
            int at = lane(rank);
            word = there >> at & 1 ? emu_value_of(at) : emu_absent();
        }
        std::memcpy(&value, words, sizeof(T));
        return value;
    }
    template <class T> EMU_INLINE T shfl(T value, unsigned rank) const { return from(EMU_SHFL, value, rank % size_); }
    template <class T> EMU_INLINE T shfl_down(T value, unsigned by) const { return from(EMU_DOWN, value, rank_ + by); }
    template <class T> EMU_INLINE T shfl_up(T value, unsigned by) const { return from(EMU_UP, value, rank_ - by); }
    template <class T> EMU_INLINE T shfl_xor(T value, unsigned by) const { return from(EMU_XOR, value, rank_ ^ by); }
    EMU_INLINE unsigned packed(unsigned lanes) const {
        unsigned out = 0, i = 0;
        for (unsigned rest = mask; rest; rest &= rest - 1, i++) out |= (lanes >> __builtin_ctz(rest) & 1) << i;
        return out;
    }
    EMU_INLINE unsigned ballot(int vote) const { return packed(__ballot_sync(mask, vote)); }
    EMU_INLINE int any(int vote) const { return __any_sync(mask, vote); }
    EMU_INLINE int all(int vote) const { return __all_sync(mask, vote); }
    template <class T> EMU_INLINE unsigned match_any(T value) const { return packed(__match_any_sync(mask, value)); }
    template <class T> EMU_INLINE unsigned match_all(T value, int &all) const {
        return packed(__match_all_sync(mask, value, &all));
    }
};
struct coalesced_group : EmuLanes {
    EMU_INLINE unsigned meta_group_rank() const { return 0; }
    EMU_INLINE unsigned meta_group_size() const { return 1; }
};
EMU_INLINE coalesced_group emu_coalesced(unsigned mask) {
    return {{mask, (unsigned)__builtin_popcount(mask & ((1u << emu_lane()) - 1)), (unsigned)__builtin_popcount(mask)}};
}
EMU_INLINE coalesced_group coalesced_threads() { return emu_coalesced(emu_sync_active()); }

template <unsigned Size, class Parent = thread_block> struct thread_block_tile : EmuLanes {
    static_assert(Size <= 32 && (Size & (Size - 1)) == 0, "the emulator has tiles of 1, 2, 4, 8, 16 and 32 threads");
    EMU_INLINE unsigned meta_group_rank() const { return meta_rank; }
    EMU_INLINE unsigned meta_group_size() const { return meta_size; }
    unsigned meta_rank, meta_size;
    template <class P> EMU_INLINE operator thread_block_tile<Size, P>() const {
        thread_block_tile<Size, P> same;
        (EmuLanes &)same = *this, same.meta_rank = meta_rank, same.meta_size = meta_size;
        return same;
    }
};
struct thread_group : EmuLanes { // any of them
    bool block;
    unsigned meta_rank = 0, meta_size = 1;
    EMU_INLINE thread_group(thread_block b) : EmuLanes{0, b.thread_rank(), b.size()}, block(true) {}
    EMU_INLINE thread_group(EmuLanes lanes) : EmuLanes(lanes), block(false) {}
    EMU_INLINE void sync(unsigned line = __builtin_LINE()) const {
        if (block) emu_sync_block(0, nullptr, line);
        else EmuLanes::sync();
    }
};
EMU_INLINE EmuLanes emu_tile(unsigned size) { // the last warp of a block may have fewer lanes
    unsigned first = (unsigned)emu_lane() / size * size, warp = emu_rank() / 32 * 32, left = emu_threads() - warp;
    unsigned there = left >= 32 ? ~0u : (1u << left) - 1, mine = (size >= 32 ? ~0u : (1u << size) - 1) << first;
    return {mine & there, (unsigned)emu_lane() % size, size};
}
template <unsigned Size> EMU_INLINE thread_block_tile<Size> tiled_partition(const thread_block &) {
    thread_block_tile<Size> tile;
    (EmuLanes &)tile = emu_tile(Size), tile.meta_rank = emu_rank() / Size;
    tile.meta_size = (emu_threads() + Size - 1) / Size;
    return tile;
}
template <unsigned Size, unsigned Outer, class P>
EMU_INLINE thread_block_tile<Size, thread_block_tile<Outer, P>> tiled_partition(const thread_block_tile<Outer, P> &) {
    static_assert(Size <= Outer, "a tile of a tile is smaller");
    thread_block_tile<Size, thread_block_tile<Outer, P>> tile;
    (EmuLanes &)tile = emu_tile(Size), tile.meta_rank = (unsigned)emu_lane() % Outer / Size, tile.meta_size = Outer / Size;
    return tile;
}
EMU_INLINE thread_group tiled_partition(const thread_group &, unsigned size) { return emu_tile(size); }
EMU_INLINE coalesced_group binary_partition(const EmuLanes &of, bool yes) {
    unsigned votes = __ballot_sync(of.mask, yes);
    return emu_coalesced(of.mask & (yes ? votes : ~votes));
}
template <class T> EMU_INLINE coalesced_group labeled_partition(const EmuLanes &of, T label) {
    return emu_coalesced(__match_any_sync(of.mask, label));
}
EMU_INLINE void sync(const thread_block &group, unsigned line = __builtin_LINE()) { group.sync(line); }
EMU_INLINE void sync(const EmuLanes &group) { group.sync(); }
EMU_INLINE void sync(const grid_group &group, unsigned line = __builtin_LINE()) { group.sync(line); }
EMU_INLINE unsigned thread_rank(const thread_block &) { return emu_rank(); }
EMU_INLINE unsigned group_size(const thread_block &) { return emu_threads(); }

} // namespace cooperative_groups
