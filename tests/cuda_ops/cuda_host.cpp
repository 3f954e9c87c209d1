// Parts of the CUDA kernels for the host, as functions of numbers; tests/cuda_emulator runs the kernels themselves.
#include "cuda/sample.cuh"

// Writes base, two shares and two slopes, `ours` by the kernels' axis_at and `wanted` by geometry.h.
extern "C" void dcnv3_axis(float position, int64_t size, float* ours, float* wanted) {
  using namespace dcnv3::cuda;
  const Axis<float> axis = axis_at(position, size);
  const dcnv3::AxisNeighbours<float> near = dcnv3::axis_neighbours(position, static_cast<int>(size));
  ours[0] = static_cast<float>(axis.cell - kFirstCell<float>), wanted[0] = static_cast<float>(near.base);
  for (int i = 0; i < 2; ++i) {
    ours[1 + i] = axis.share[i], wanted[1 + i] = near.share[i];
    ours[3 + i] = axis.slope[i], wanted[3 + i] = near.slope[i];
  }
}

extern "C" float dcnv3_round_trip(int type, float value) {
  using namespace dcnv3::cuda;
  return type == 1 ? to_arithmetic(from_arithmetic<Half>(value)) : to_arithmetic(from_arithmetic<BFloat16>(value));
}

extern "C" uint32_t dcnv3_quotient(uint32_t n, int64_t divisor) { return dcnv3::cuda::Divisor(divisor).quotient(n); }
