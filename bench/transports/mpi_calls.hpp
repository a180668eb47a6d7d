// SPDX-License-Identifier: Apache-2.0
// Calls of an MPI library made by hand, in the words of a transport.
#pragma once

#include <mpi.h>

#include "elastic/span.hpp"

namespace bench {

/// The non-blocking calls of MPI, tested until they are done: what transport::Mpi does, without what it adds.
class Hand {
 public:
  class Ticket {
   public:
    explicit Ticket(MPI_Request request) : request_(request) {}
    void wait() {
      for (int done = 0; done == 0;) MPI_Test(&request_, &done, MPI_STATUS_IGNORE);
    }

   private:
    MPI_Request request_;
  };
  explicit Hand(MPI_Comm world) : world_(world) {}
  Ticket start_send(elastic::Span<float const> x, int peer, int tag) const {
    MPI_Request request = MPI_REQUEST_NULL;
    MPI_Isend(x.data(), static_cast<int>(x.size() * 4), MPI_BYTE, peer, tag, world_, &request);
    return Ticket(request);
  }
  Ticket start_receive(elastic::Span<float> x, int peer, int tag) const {
    MPI_Request request = MPI_REQUEST_NULL;
    MPI_Irecv(x.data(), static_cast<int>(x.size() * 4), MPI_BYTE, peer, tag, world_, &request);
    return Ticket(request);
  }
  void send(elastic::Span<float const> x, int peer, int tag) const { start_send(x, peer, tag).wait(); }
  void receive(elastic::Span<float> x, int peer, int tag) const { start_receive(x, peer, tag).wait(); }
  void all_reduce(elastic::Span<float> x) const {
    MPI_Request request = MPI_REQUEST_NULL;
    MPI_Iallreduce(MPI_IN_PLACE, x.data(), static_cast<int>(x.size()), MPI_FLOAT, MPI_SUM, world_, &request);
    Ticket(request).wait();
  }
  int rank() const { return number(MPI_Comm_rank); }
  int size() const { return number(MPI_Comm_size); }

 private:
  int number(int (*of)(MPI_Comm, int*)) const {
    int n = 0;
    of(world_, &n);
    return n;
  }
  MPI_Comm world_;
};

/// The blocking collective.
class Blocking : public Hand {
 public:
  using Hand::Hand;
  void all_reduce(elastic::Span<float> x) const {
    MPI_Allreduce(MPI_IN_PLACE, x.data(), static_cast<int>(x.size()), MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD);
  }
};

}  // namespace bench
