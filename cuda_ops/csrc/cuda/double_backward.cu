#include "launch.cuh"

namespace dcnv3::cuda {

template const char* backward<double>(const Geometry&, const Tensors&, void*, void*);
template int64_t workspace_bytes<double>(const Geometry&, const Tensors&);

}  // namespace dcnv3::cuda
