#include "cpu_backward.h"
#include "cpu_forward.h"

namespace dcnv3::cpu {

template void forward(const Geometry&, const float*, const float*, const float*, float*);
template void backward(const Geometry&, const float*, const float*, const float*, const float*,
                       const Gradients<float, float>&);

}  // namespace dcnv3::cpu
