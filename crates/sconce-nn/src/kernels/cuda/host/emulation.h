// Enough of CUDA to run the kernels on the host, one block at a time, so that their logic can be tested without a GPU:
// every thread of a block is a fiber, which gives way at barriers and shuffles only. Which fiber goes on is shuffled by
// a seed, so that a result that depends on the order of threads shows itself. What cannot be seen here: speed,
// limits of registers and memory, misaligned accesses, and instructions that round otherwise than the host's.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <numeric>
#include <random>
#include <setjmp.h>
#include <ucontext.h>
#include <vector>

#define __device__
#define __global__
#define __forceinline__ inline
// One block runs at a time, and its threads share what is static.
#define SHARED static

using std::isnan;
using std::max;
using std::min;

struct Dim {
    unsigned x = 1, y = 1, z = 1;
};

inline Dim threadIdx, blockIdx, blockDim, gridDim;

struct bf16 {
    uint16_t bits;
};
struct f16 {
    uint16_t bits;
};

inline uint32_t bits_of(float x) {
    uint32_t bits;
    memcpy(&bits, &x, 4);
    return bits;
}

inline float of_bits(uint32_t bits) {
    float x;
    memcpy(&x, &bits, 4);
    return x;
}

inline float wide(bf16 x) { return of_bits((uint32_t)x.bits << 16); }

inline void narrow(float x, bf16 &to) {
    const uint32_t bits = bits_of(x);
    if (isnan(x))
        to.bits = (uint16_t)(bits >> 16 | 0x40);
    else
        to.bits = (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

inline float wide(f16 x) {
    const uint32_t sign = (uint32_t)(x.bits & 0x8000) << 16, exponent = x.bits >> 10 & 31, mantissa = x.bits & 0x3ff;
    if (exponent == 31)
        return of_bits(sign | 0x7f800000 | mantissa << 13);
    const float size = exponent ? std::ldexp((float)(mantissa | 0x400), (int)exponent - 25) : std::ldexp((float)mantissa, -24);
    return sign ? -size : size;
}

inline void narrow(float x, f16 &to) {
    const uint16_t sign = (uint16_t)(bits_of(x) >> 16 & 0x8000);
    const float size = std::fabs(x);
    if (isnan(x)) {
        to.bits = sign | 0x7e00;
    } else if (size == 0.0f) {
        to.bits = sign;
    } else if (size >= 65520.0f) {
        to.bits = sign | 0x7c00;
    } else {
        int exponent = 0;
        std::frexp(size, &exponent);
        // Steps of numbers of this size; below the smallest normal number they are all alike.
        const int step = std::max(exponent - 11, -24);
        const auto steps = (uint32_t)std::nearbyint(std::ldexp(size, -step));
        to.bits = (uint16_t)(sign | (step == -24 ? steps : ((uint32_t)(step + 24) << 10) + steps));
    }
}

// A meeting of threads: all that have not ended must come.
struct Meeting {
    unsigned members = 0, arrived = 0, generation = 0;
};

struct Fiber {
    ucontext_t context; // where it begins
    jmp_buf place;      // where it goes on: changing contexts would call the system each time
    bool begun = false, done = false;
    Dim index;
    Meeting *waits = nullptr;
    unsigned since = 0;
};

struct Block {
    jmp_buf scheduler;
    std::vector<Fiber> fibers;
    Meeting all;
    std::vector<Meeting> warps;
    std::vector<uint64_t> slots;
    int votes[2] = {0, 0};
    unsigned current = 0;
    const std::function<void()> *kernel = nullptr;
};

inline Block *running = nullptr;

inline void meet(Meeting &meeting) {
    Fiber &self = running->fibers[running->current];
    self.since = meeting.generation;
    if (++meeting.arrived == meeting.members) {
        meeting.arrived = 0;
        ++meeting.generation;
        return;
    }
    self.waits = &meeting;
    if (!_setjmp(self.place))
        _longjmp(running->scheduler, 1);
}

inline void __syncthreads() { meet(running->all); }

inline int __syncthreads_or(int vote) {
    int &votes = running->votes[running->all.generation / 2 % 2];
    votes |= vote != 0;
    meet(running->all);
    const int result = votes;
    meet(running->all);
    votes = 0;
    return result;
}

template <typename V> V shuffle(V value, unsigned from) {
    static_assert(sizeof(V) <= 8, "a slot has eight bytes");
    Meeting &warp = running->warps[running->current / 32];
    memcpy(&running->slots[running->current], &value, sizeof value);
    meet(warp);
    memcpy(&value, &running->slots[running->current / 32 * 32 + from], sizeof value);
    meet(warp);
    return value;
}

template <typename V> V __shfl_xor_sync(unsigned, V value, int lanes) {
    return shuffle(value, running->current % 32 ^ (unsigned)lanes);
}

template <typename V> V __shfl_sync(unsigned, V value, int lane) { return shuffle(value, (unsigned)lane); }

// Threads give way at meetings only, so nothing comes between.
inline uint32_t atomicAdd(uint32_t *to, uint32_t summand) {
    const uint32_t before = *to;
    *to += summand;
    return before;
}

inline uint32_t half_word(f16 x) { return x.bits; }
inline uint32_t half_word(bf16 x) { return x.bits; }

// As PTX spreads mma.m16n8k16 over a warp; sums are f32 in the order of the depth, of which a GPU says nothing.
template <typename T> void multiply_tiles(float (&sums)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], T) {
    static uint32_t all_rows[1024][4], all_columns[1024][2];
    Meeting &warp = running->warps[running->current / 32];
    const unsigned lane = running->current % 32, first = running->current - lane;
    auto *rows = all_rows + first;
    auto *columns = all_columns + first;
    memcpy(rows[lane], a, sizeof a);
    memcpy(columns[lane], b, sizeof b);
    meet(warp);
    const auto number = [](uint32_t word, unsigned half) { return wide(T{(uint16_t)(half ? word >> 16 : word)}); };
    for (unsigned i = 0; i < 4; ++i) {
        const unsigned row = lane / 4 + (i < 2 ? 0 : 8), column = lane % 4 * 2 + i % 2;
        for (unsigned deep = 0; deep < 16; ++deep) {
            const unsigned pair = deep % 8 / 2;
            const float one = number(rows[row % 8 * 4 + pair][(deep < 8 ? 0 : 2) + (row < 8 ? 0 : 1)], deep % 2);
            sums[i] += one * number(columns[column * 4 + pair][deep < 8 ? 0 : 1], deep % 2);
        }
    }
    meet(warp);
}

inline void fiber() {
    (*running->kernel)();
    Fiber &self = running->fibers[running->current];
    self.done = true;
    // Whoever has ended is waited for no longer.
    for (Meeting *meeting : {&running->all, &running->warps[running->current / 32]})
        if (--meeting->members > 0 && meeting->arrived == meeting->members) {
            meeting->arrived = 0;
            ++meeting->generation;
        }
    _longjmp(running->scheduler, 1);
}

inline void go_on(Fiber &fiber) {
    if (_setjmp(running->scheduler))
        return;
    if (fiber.begun)
        _longjmp(fiber.place, 1);
    fiber.begun = true;
    setcontext(&fiber.context);
}

inline void run_block(unsigned threads, const std::function<void()> &kernel, std::mt19937 &random) {
    constexpr size_t STACK = 64 << 10;
    static std::vector<char> stacks(STACK * 1024);
    Block block;
    block.fibers = std::vector<Fiber>(threads);
    block.slots.resize(threads);
    block.kernel = &kernel;
    block.all.members = threads;
    block.warps.resize((threads + 31) / 32);
    running = &block;
    for (unsigned thread = 0; thread < threads; ++thread) {
        Fiber &fiber = block.fibers[thread];
        ++block.warps[thread / 32].members;
        fiber.index.x = thread;
        fiber.index.y = fiber.index.z = 0;
        getcontext(&fiber.context);
        fiber.context.uc_stack.ss_sp = stacks.data() + thread * STACK;
        fiber.context.uc_stack.ss_size = STACK;
        fiber.context.uc_link = nullptr;
        makecontext(&fiber.context, ::fiber, 0);
    }
    std::vector<unsigned> order(threads);
    std::iota(order.begin(), order.end(), 0);
    unsigned left = threads;
    while (left > 0) {
        std::shuffle(order.begin(), order.end(), random);
        bool moved = false;
        for (unsigned thread : order) {
            Fiber &fiber = block.fibers[thread];
            if (fiber.done || (fiber.waits && fiber.waits->generation == fiber.since))
                continue;
            fiber.waits = nullptr;
            block.current = thread;
            threadIdx = fiber.index;
            go_on(fiber);
            moved = true;
            left -= fiber.done;
        }
        if (!moved) {
            fprintf(stderr, "the threads of a block wait for each other for ever\n");
            abort();
        }
    }
}

// Runs a kernel on every block of a grid, in an order that the seed shuffles.
inline void launch(Dim grid, unsigned threads, unsigned seed, const std::function<void()> &kernel) {
    std::mt19937 random(seed);
    gridDim = grid;
    blockDim = {threads, 1, 1};
    std::vector<unsigned> order(grid.x * grid.y * grid.z);
    std::iota(order.begin(), order.end(), 0);
    std::shuffle(order.begin(), order.end(), random);
    for (unsigned index : order) {
        blockIdx = {index % grid.x, index / grid.x % grid.y, index / grid.x / grid.y};
        run_block(threads, kernel, random);
    }
}
