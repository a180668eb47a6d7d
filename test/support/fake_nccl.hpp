// SPDX-License-Identifier: Apache-2.0
// Stands in for the CUDA runtime's and NCCL's functions that transport::Nccl calls, where there is no GPU: "devices" of
// one process whose memory is the host's, and communicators between its threads. Included by one source of a program.
#pragma once

#include <cuda_runtime_api.h>
#include <nccl.h>

#include <cstdint>
#include <cstdio>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <vector>

#include "elastic/span.hpp"

namespace fake {

/// What a stream was asked to do last; done once every rank has come.
struct Work {
  std::vector<void*> buffers;
  int arrived = 0;
  bool done = false;
};
struct Group {  // what one ncclUniqueId joins
  int joined = 0, left = 0;
  std::map<long, std::shared_ptr<Work>> calls;
};
inline std::mutex mutex;
inline std::map<std::uint64_t, Group> groups;
inline std::uint64_t ids = 0;
inline int open_communicators = 0;
inline ncclResult_t trouble = ncclSuccess;  // what every communicator reports, from now on
inline void report(ncclResult_t result) {
  std::lock_guard const lock(mutex);
  trouble = result;
}
inline thread_local int current_device = 0;

/// Has what Nccl asks of a device::Cuda.
struct Device {
  using memory = elastic::memory::Cuda;
  int number;
  int ordinal() const { return number; }
  cudaStream_t stream() const { return nullptr; }
};

}  // namespace fake

struct CUstream_st {
  std::shared_ptr<fake::Work> last;
};
struct CUevent_st {
  std::shared_ptr<fake::Work> work;
};
struct ncclComm {
  fake::Group* group;
  int rank, ranks;
  long calls = 0;
  int slow = 0;  // times that the last call is still under way
  bool leaving = false;
};

extern "C" {

cudaError_t cudaGetDevice(int* device) { return *device = fake::current_device, cudaSuccess; }
cudaError_t cudaSetDevice(int device) { return fake::current_device = device, cudaSuccess; }
cudaError_t cudaGetLastError() { return cudaSuccess; }
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device) {
  *properties = {};
  properties->uuid.bytes[3] = char(device + 1);
  return cudaSuccess;
}
cudaError_t cudaDeviceGetPCIBusId(char* text, int length, int device) {
  std::snprintf(text, std::size_t(length), "0000:%02d:00.0", device);
  return cudaSuccess;
}
cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  return *stream = new CUstream_st, cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) { return delete stream, cudaSuccess; }
cudaError_t cudaStreamWaitEvent(cudaStream_t, cudaEvent_t, unsigned) { return cudaSuccess; }
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  return *event = new CUevent_st, cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  if (stream != nullptr) event->work = stream->last;
  return cudaSuccess;
}
cudaError_t cudaEventQuery(cudaEvent_t event) {
  std::lock_guard const lock(fake::mutex);
  return !event->work || event->work->done ? cudaSuccess : cudaErrorNotReady;
}
cudaError_t cudaEventDestroy(cudaEvent_t event) { return delete event, cudaSuccess; }

char const* ncclGetErrorString(ncclResult_t) { return "a made-up error"; }
char const* ncclGetLastError(ncclComm_t) { return "no details"; }
ncclResult_t ncclGetUniqueId(ncclUniqueId* id) {
  std::lock_guard const lock(fake::mutex);
  std::uint64_t const number = ++fake::ids;
  std::memcpy(id->internal, &number, sizeof number);
  return ncclSuccess;
}
ncclResult_t ncclCommInitRankConfig(ncclComm_t* made, int ranks, ncclUniqueId id, int rank,
                                    ncclConfig_t* config) {
  if (config->blocking != 0) return ncclInvalidArgument;
  std::lock_guard const lock(fake::mutex);
  std::uint64_t number = 0;
  std::memcpy(&number, id.internal, sizeof number);
  ++fake::open_communicators;
  fake::Group& group = fake::groups[number];
  ++group.joined;
  *made = new ncclComm{&group, rank, ranks};
  return ncclInProgress;
}
ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t* state) {
  std::lock_guard const lock(fake::mutex);
  bool const waits = comm->leaving ? comm->group->left < comm->ranks : comm->group->joined < comm->ranks;
  *state = fake::trouble != ncclSuccess || !(waits || comm->slow > 0) ? fake::trouble : ncclInProgress;
  if (comm->slow > 0) --comm->slow;
  return ncclSuccess;
}
ncclResult_t ncclCommFinalize(ncclComm_t comm) {
  std::lock_guard const lock(fake::mutex);
  comm->leaving = true;
  ++comm->group->left;
  return ncclInProgress;
}
ncclResult_t ncclCommDestroy(ncclComm_t comm) {
  std::lock_guard const lock(fake::mutex);
  --fake::open_communicators;
  delete comm;
  return ncclSuccess;
}
ncclResult_t ncclCommAbort(ncclComm_t comm) { return ncclCommDestroy(comm); }

}  // extern "C"

namespace fake {

/// One collective call of a rank, which `finish(buffers)` does once all have come.
template <class Finish>
ncclResult_t call(ncclComm_t comm, void* buffer, cudaStream_t stream, Finish finish) {
  std::lock_guard const lock(mutex);
  if (comm->slow > 0 || comm->group->joined < comm->ranks)
    return ncclInvalidUsage;  // the last call is under way
  auto& work = comm->group->calls[comm->calls++];
  if (!work) work = std::make_shared<Work>(Work{std::vector<void*>(std::size_t(comm->ranks))});
  work->buffers[std::size_t(comm->rank)] = buffer;
  if (++work->arrived == comm->ranks) finish(work->buffers), work->done = true;
  stream->last = work;
  comm->slow = 3;
  return ncclInProgress;
}

template <class T>
void add(std::vector<void*> const& buffers, std::size_t n) {
  for (std::size_t i = 0; i < n; ++i) {
    T sum{};
    for (void* x : buffers) sum += static_cast<T*>(x)[i];
    for (void* x : buffers) static_cast<T*>(x)[i] = sum;
  }
}

}  // namespace fake

extern "C" {

ncclResult_t ncclAllReduce(void const*, void* x, std::size_t n, ncclDataType_t type, ncclRedOp_t,
                           ncclComm_t comm, cudaStream_t stream) {
  return fake::call(comm, x, stream, [&](auto const& buffers) {
    type == ncclFloat64 ? fake::add<double>(buffers, n) : fake::add<float>(buffers, n);
  });
}
ncclResult_t ncclBroadcast(void const*, void* x, std::size_t n, ncclDataType_t type, int root,
                           ncclComm_t comm, cudaStream_t stream) {
  return fake::call(comm, x, stream, [&](auto const& buffers) {
    for (void* to : buffers)
      if (n > 0) std::memmove(to, buffers[std::size_t(root)], n * (type == ncclFloat64 ? 8 : 4));
  });
}

}  // extern "C"
