// SPDX-License-Identifier: Apache-2.0
// What a command line can choose from: the rules and the transports; and what is compiled for each choice.
#pragma once

#include <atomic>
#include <concepts>

#include "elastic/dispatch.hpp"
#include "elastic/optimizer/sgd.hpp"
#include "elastic/rule/async_easgd.hpp"
#include "elastic/rule/bsp.hpp"
#include "elastic/rule/sync_easgd.hpp"
#include "elastic/transport/serial.hpp"
#include "elastic/transport/shared_memory.hpp"
#include "elastic/transport/tcp.hpp"
#include "elastic/transport/threads.hpp"
#if __has_include(<boost/mpi/communicator.hpp>)
#include "elastic/transport/mpi.hpp"
#endif
#include "compute.hpp"
#include "job.hpp"
#include "task.hpp"

namespace sample {

namespace transport = elastic::transport;
using Rules = elastic::Types<elastic::rule::AsyncEasgd, elastic::rule::SyncEasgd, elastic::rule::Bsp>;
#if __has_include(<boost/mpi/communicator.hpp>)
using Nets = elastic::Types<transport::Tcp, transport::SharedMemory, transport::Mpi, transport::Threads,
                            transport::Serial>;
#else
using Nets = elastic::Types<transport::Tcp, transport::SharedMemory, transport::Threads, transport::Serial>;
#endif

class Commits;

/// One process's part in a run.
struct Part {
  Job const& job;
  Compute const& compute;
  elastic::optimizer::Sgd const& sgd;
  Task const& task;
  Commits& commits;
  std::atomic<bool> const& stop;
};

/// Plays this rank's role until the run ends; returns whether somebody stopped it before its time. Each is compiled
/// in a file of its own; the last is there where nvcc was.
template <class Net, class Rule>
bool play_on_cpu(Net& net, Rule const& rule, Part const& part);
template <class Net, class Rule>
bool play_on_thrust(Net& net, Rule const& rule, Part const& part);
template <class Net, class Rule>
bool play_on_cuda(Net& net, Rule const& rule, Part const& part);

/// Devices with a memory of their own compute in a process for each role: there every combination costs a compiler
/// dear, nvcc most of all.
template <class Net>
inline constexpr bool between_processes =
    !std::same_as<Net, transport::Threads> && !std::same_as<Net, transport::Serial>;

/// Compiles `play` for a transport and every rule.
#define SAMPLE_PLAY_OVER(play, Net)                                        \
  template bool play(Net&, elastic::rule::AsyncEasgd const&, Part const&); \
  template bool play(Net&, elastic::rule::SyncEasgd const&, Part const&);  \
  template bool play(Net&, elastic::rule::Bsp const&, Part const&);

#if __has_include(<boost/mpi/communicator.hpp>)
#define SAMPLE_PLAY_OVER_MPI(play) SAMPLE_PLAY_OVER(play, transport::Mpi)
#else
#define SAMPLE_PLAY_OVER_MPI(play)
#endif
#define SAMPLE_PLAY_BETWEEN_PROCESSES(play)       \
  SAMPLE_PLAY_OVER(play, transport::Tcp)          \
  SAMPLE_PLAY_OVER(play, transport::SharedMemory) \
  SAMPLE_PLAY_OVER_MPI(play)

}  // namespace sample
