// The part of the CUDA runtime that the launch code calls, for one device that the settings describe.
#pragma once
#include <cstdint>
#include <string>

using cudaStream_t = struct CUstream_st*;
enum cudaError_t {
  cudaSuccess = 0,
  cudaErrorInvalidValue = 1,
  cudaErrorInvalidConfiguration = 9,
  cudaErrorLaunchFailure = 719
};
enum cudaDeviceAttr {
  cudaDevAttrMaxSharedMemoryPerMultiprocessor = 81,
  cudaDevAttrReservedSharedMemoryPerBlock = 111
};
enum cudaFuncAttribute {
  cudaFuncAttributeMaxDynamicSharedMemorySize = 8,
  cudaFuncAttributePreferredSharedMemoryCarveout = 9
};

cudaError_t cudaGetLastError();
const char* cudaGetErrorString(cudaError_t error);
cudaError_t cudaGetDevice(int* device);
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device);

namespace emulator {

void set_last_error(cudaError_t error);
void set_launch_failure(const std::string& text);
int64_t most_shared_bytes(const void* kernel);
cudaError_t set_kernel_attribute(const void* kernel, cudaFuncAttribute attribute, int value);

}  // namespace emulator

template <typename Kernel>
cudaError_t cudaFuncSetAttribute(Kernel* kernel, cudaFuncAttribute attribute, int value) {
  return emulator::set_kernel_attribute(reinterpret_cast<const void*>(kernel), attribute, value);
}
