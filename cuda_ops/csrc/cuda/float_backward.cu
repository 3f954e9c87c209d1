#include "launch.cuh"

namespace dcnv3::cuda {

template const char* backward<float>(const Geometry&, const Tensors&, void*, void*);
template int64_t workspace_bytes<float>(const Geometry&, const Tensors&);

}  // namespace dcnv3::cuda
