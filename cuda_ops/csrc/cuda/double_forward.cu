#include "launch.cuh"

namespace dcnv3::cuda {

template const char* forward<double>(const Geometry&, const Tensors&, void*);

}  // namespace dcnv3::cuda
