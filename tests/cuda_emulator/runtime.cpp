// The device's attributes, a kernel's attributes, the last error, and the settings from Python.
#include "runtime.h"

#include <map>
#include <utility>

#include "emulator.h"

namespace emulator {
namespace {

constexpr int64_t kDefaultBytes = 48 << 10;  // dynamic shared memory without an attribute

std::map<const void*, int64_t> shared_bytes_of;
cudaError_t last_error = cudaSuccess;
std::string launch_failure;

}  // namespace

void set_last_error(cudaError_t error) { last_error = error; }

void set_launch_failure(const std::string& text) {
  last_error = cudaErrorLaunchFailure;
  launch_failure = text;
}

int64_t most_shared_bytes(const void* kernel) {
  const auto entry = shared_bytes_of.find(kernel);
  return entry == shared_bytes_of.end() ? kDefaultBytes : entry->second;
}

cudaError_t set_kernel_attribute(const void* kernel, cudaFuncAttribute attribute, int value) {
  if (attribute == cudaFuncAttributePreferredSharedMemoryCarveout) {  // in percent; -1 leaves it to the driver
    return value < -1 || value > 100 ? last_error = cudaErrorInvalidValue : cudaSuccess;
  }
  if (value > settings.block_bytes) return last_error = cudaErrorInvalidValue;
  shared_bytes_of[kernel] = value;
  return cudaSuccess;
}

}  // namespace emulator

cudaError_t cudaGetLastError() { return std::exchange(emulator::last_error, cudaSuccess); }

const char* cudaGetErrorString(cudaError_t error) {
  switch (error) {
    case cudaErrorInvalidValue: return "invalid argument";
    case cudaErrorInvalidConfiguration: return "invalid configuration argument";
    case cudaErrorLaunchFailure: return emulator::launch_failure.c_str();
    default: return "no error";
  }
}

cudaError_t cudaGetDevice(int* device) {
  *device = 0;
  return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
  const auto& s = emulator::settings;
  *value = static_cast<int>(attribute == cudaDevAttrReservedSharedMemoryPerBlock ? s.reserved_bytes
                                                                                  : s.multiprocessor_bytes);
  return cudaSuccess;
}

// For Python: settings start a new device, without the attributes of an earlier one; counts start at zero again.
extern "C" void emulator_set(const emulator::Settings* settings) {
  emulator::settings = *settings;
  emulator::shared_bytes_of.clear();
}

extern "C" void emulator_take_counts(emulator::Counts* counts) { *counts = std::exchange(emulator::counts, {}); }

extern "C" int32_t emulator_current_stream(int32_t, void** stream) {
  *stream = nullptr;
  return 0;
}
