#include "cpu_backward.h"
#include "cpu_forward.h"

namespace dcnv3::cpu {

template void forward(const Geometry&, const double*, const double*, const double*, double*);
template void backward(const Geometry&, const double*, const double*, const double*, const double*,
                       const Gradients<double, double>&);

}  // namespace dcnv3::cpu
