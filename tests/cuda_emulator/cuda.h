// What nvcc knows without an #include, for g++: the first line of every rewritten .cu file.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <limits>
#include <type_traits>

#include "emulator.h"
#include "runtime.h"

// After the standard headers, which would take other branches. With __CUDA_ARCH__ the device's code is compiled and
// not the code that replaces it on a host.
#define __CUDACC__ 1
#define __CUDA_ARCH__ 900
#define __host__
#define __device__
#define __forceinline__ inline
#define __grid_constant__

struct uint2 {
  uint32_t x, y;
} __attribute__((aligned(8)));
struct uint4 {
  uint32_t x, y, z, w;
} __attribute__((aligned(16)));

#define threadIdx (emulator::thread_index())
#define blockIdx (emulator::block_index())
#define blockDim (emulator::block_size())

// Barriers and collectives pass the line on which they are.
#define __syncthreads() emulator::meet_block(__LINE__)
#define __syncwarp() ((void)emulator::meet_warp(emulator::kWarpSync, 0xffffffffu, 0, __LINE__))
#define __shfl_sync(...) emulator::shuffle(__LINE__, __VA_ARGS__)
#define __shfl_xor_sync(...) emulator::shuffle_xor(__LINE__, __VA_ARGS__)
#define __ballot_sync(...) emulator::ballot(__LINE__, __VA_ARGS__)
#define __reduce_min_sync(...) emulator::reduce(__LINE__, emulator::kMinimum, __VA_ARGS__)
#define __reduce_max_sync(...) emulator::reduce(__LINE__, emulator::kMaximum, __VA_ARGS__)
#define __ldg(pointer) emulator::load(pointer)

namespace emulator {

template <typename T>
uint64_t bits_of(T value) {
  uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof value);
  return bits;
}

template <typename T>
T of_bits(uint64_t bits) {
  T value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

template <typename T>
T shuffle(int line, unsigned mask, T value, int from) {
  return of_bits<T>(meet_warp(kShuffle, mask, bits_of(value), line)[from]);
}

template <typename T>
T shuffle_xor(int line, unsigned mask, T value, int step) {
  const int lane = static_cast<int>(thread_index().x % 32);
  return of_bits<T>(meet_warp(kShuffleXor, mask, bits_of(value), line)[lane ^ step]);
}

inline unsigned ballot(int line, unsigned mask, bool value) {
  const uint64_t* values = meet_warp(kBallot, mask, value, line);
  unsigned result = 0;
  for (int i = 0; i < 32; ++i) result |= static_cast<unsigned>(values[i]) << i;
  return result;
}

inline int reduce(int line, Meeting kind, unsigned mask, int value) {
  const uint64_t* values = meet_warp(kind, mask, bits_of(value), line);
  int result = value;
  for (int i = 0; i < 32; ++i) {
    const int other = of_bits<int>(values[i]);
    result = kind == kMinimum ? std::min(result, other) : std::max(result, other);
  }
  return result;
}

// ld.global: a vector must be aligned to its size.
template <typename Word>
Word load(const Word* from) {
  if (reinterpret_cast<uintptr_t>(from) % sizeof(Word) != 0) fail("a misaligned load of %zu bytes", sizeof(Word));
  if (settings.count_reads) note_read(from, sizeof(Word));
  Word word;
  std::memcpy(&word, from, sizeof word);
  if (is_defective()) reinterpret_cast<unsigned char*>(&word)[sizeof word - 1] ^= 0x40;  // an exponent's bit
  return word;
}

// The instructions of `asm`, under their names.
inline void cvt_f32_f16(float& to, uint16_t from) { to = static_cast<float>(of_bits<_Float16>(from)); }
inline void cvt_rn_f16_f32(uint16_t& to, float from) {
  to = static_cast<uint16_t>(bits_of(static_cast<_Float16>(from)));
}
inline void cvt_rn_bf16_f32(uint16_t& to, float from) {
  const auto bits = static_cast<uint32_t>(bits_of(from));
  to = from != from ? 0x7fff : static_cast<uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}
inline void ex2_approx_ftz_f32(float& to, float from) {
  const float result = std::exp2(from);
  to = result < std::numeric_limits<float>::min() ? 0.0f : result;
  if (from != from) to = from;
}

}  // namespace emulator

inline int __ffs(int value) { return __builtin_ffs(value); }
inline int __popc(unsigned value) { return __builtin_popcount(value); }
inline uint32_t __float_as_uint(float value) { return static_cast<uint32_t>(emulator::bits_of(value)); }
inline float __uint_as_float(uint32_t bits) { return emulator::of_bits<float>(bits); }
inline float __saturatef(float value) { return value > 0 ? std::min(value, 1.0f) : 0.0f; }  // NaN gives 0
inline float __fdividef(float a, float b) { return a / b; }
// The rounded sum, and its exact error by Knuth's TwoSum.
inline float __fadd_rd(float a, float b) {
  const float sum = a + b, part = sum - a, error = (a - (sum - part)) + (b - part);
  return std::isfinite(sum) && error < 0 ? std::nextafter(sum, -std::numeric_limits<float>::infinity()) : sum;
}
using std::max;
using std::min;
