#include "cpu_backward.h"
#include "cpu_forward.h"

namespace dcnv3::cpu {

using Half = c10::Half;
using BFloat16 = c10::BFloat16;

#define DCNV3_INSTANTIATE(X, M)                                               \
  template void forward(const Geometry&, const X*, const M*, const M*, X*);   \
  template void backward(const Geometry&, const X*, const X*, const M*, const M*, const Gradients<X, M>&);

DCNV3_INSTANTIATE(Half, Half)
DCNV3_INSTANTIATE(Half, float)
DCNV3_INSTANTIATE(BFloat16, BFloat16)
DCNV3_INSTANTIATE(BFloat16, float)

}  // namespace dcnv3::cpu
