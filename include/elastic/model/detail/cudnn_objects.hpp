// SPDX-License-Identifier: Apache-2.0
// cuDNN's handles and descriptors with owners, and its errors as exceptions.
#pragma once

#include <cudnn.h>

#include <memory>
#include <string>
#include <string_view>
#include <type_traits>

#include "elastic/device/detail/cuda_runtime.hpp"
#include "elastic/error.hpp"

namespace elastic::model::detail {

inline void check_cudnn(cudnnStatus_t status, int device, std::string_view call,
                        char const* file = __builtin_FILE(), int line = __builtin_LINE()) {
  if (status == CUDNN_STATUS_SUCCESS) return;
  throw DeviceError(std::string(call) + " at " + elastic::device::detail::place_of(file, line) +
                    " on device " + std::to_string(device) + ": " + cudnnGetErrorString(status));
}

/// What cuDNN's create and destroy functions frame.
template <class T, auto destroy>
class CudnnObject {
 public:
  template <class Create>
  CudnnObject(Create create, int device, std::string_view call) {
    T* object = nullptr;
    check_cudnn(create(&object), device, call);
    object_.reset(object);
  }
  T* get() const { return object_.get(); }

 private:
  struct Destroy {
    void operator()(T* object) const { destroy(object); }
  };
  std::unique_ptr<T, Destroy> object_;
};
using CudnnHandle = CudnnObject<std::remove_pointer_t<cudnnHandle_t>, cudnnDestroy>;
using CudnnTensor = CudnnObject<std::remove_pointer_t<cudnnTensorDescriptor_t>, cudnnDestroyTensorDescriptor>;
using CudnnFilter = CudnnObject<std::remove_pointer_t<cudnnFilterDescriptor_t>, cudnnDestroyFilterDescriptor>;
using CudnnWindows =
    CudnnObject<std::remove_pointer_t<cudnnConvolutionDescriptor_t>, cudnnDestroyConvolutionDescriptor>;

/// A handle on a device's stream.
class Cudnn {
 public:
  Cudnn(int device, cudaStream_t stream) : Cudnn(device, stream, elastic::device::detail::OnDevice(device)) {}
  cudnnHandle_t get() const { return handle_.get(); }
  int device() const { return device_; }

 private:
  Cudnn(int device, cudaStream_t stream, elastic::device::detail::OnDevice const&)
      : device_(device), handle_(cudnnCreate, device, "cudnnCreate") {
    check_cudnn(cudnnSetStream(handle_.get(), stream), device, "cudnnSetStream");
  }
  int device_;
  CudnnHandle handle_;
};

}  // namespace elastic::model::detail
