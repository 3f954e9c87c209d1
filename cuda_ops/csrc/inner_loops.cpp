// Times the inner loops alone, with all their data in the L1 cache: it repeats the loops of one block over the 16
// channels of a group. Prints the least nanoseconds per output pixel and group of each direction. inner_loops.py builds
// and runs this program.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <random>

#include "cpu_backward.h"
#include "cpu_forward.h"

namespace {

using namespace dcnv3::cpu;

constexpr int kSide = 8, kPoints = 9, kChannels = 16, kRounds = 200, kCalls = 200;

alignas(64) float map[kSide * kSide * kChannels], gradient_map[kSide * kSide * kChannels];
alignas(64) float weight[kPoints * 4 * kBlock], rows[kBlock * kChannels], dots[4 * kBlock], out[kBlock * kChannels];
alignas(64) int32_t pixel[kPoints * kBlock];

void fill() {
  std::mt19937 random(1);
  std::uniform_real_distribution<float> value(-1, 1);
  for (float& v : map) v = value(random);
  for (float& v : rows) v = value(random);
  for (float& v : weight) v = value(random) / 1000;  // small, because the sums grow with every call
  for (int k = 0; k < kPoints; ++k)
    for (int b = 0; b < kBlock; ++b)  // adjacent pixels and points, as with zero offsets
      pixel[k * kBlock + b] = (b / 4 + k / 3) * kSide + b % 4 + k % 3;
}

template <typename Loop>
void measure(const char* name, const Loop& loop) {
  using Clock = std::chrono::steady_clock;
  double best = 1e30;
  for (int round = 0; round < kRounds; ++round) {
    const auto started = Clock::now();
    for (int call = 0; call < kCalls; ++call) {
      loop();
      asm volatile("" ::: "memory");
    }
    best = std::min(best, std::chrono::duration<double, std::nano>(Clock::now() - started).count());
  }
  std::printf("%s %.3f\n", name, best / (kCalls * kBlock));
}

}  // namespace

int main() {
  constexpr int kRows = kChannels / kRow<float>;
  const Plane<float> plane{map, kChannels, kChannels, kChannels * kSide};
  const Plane<float> gradient{gradient_map, kChannels, kChannels, kChannels * kSide};
  fill();
  measure("forward", [&] {
    for (int b = 0; b < kBlock; b += kTogether)
      for (int64_t c = 0; c < kChannels; c += kRow<float>) {
        Row<float> blended[kTogether];
        blend<kPoints>(plane, c, pixel, weight, b, kPoints, blended);
        for (int i = 0; i < kTogether; ++i) blended[i].store(out + (b + i) * kChannels + c);
      }
  });
  measure("backward", [&] {
    for (int k = 0; k < kPoints; ++k) {
      dot_corners<kRows, float>(plane, pixel + k * kBlock, rows, kChannels, kBlock, dots);
      scatter<kRows, float>(gradient, pixel + k * kBlock, rows, kChannels, kBlock, weight + 4 * k * kBlock);
    }
  });
}
