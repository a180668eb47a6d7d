// SPDX-License-Identifier: Apache-2.0
// Host memory that a device copies to and from at full speed, kept for the next message: making it costs more than
// most messages.
#pragma once

#include <algorithm>
#include <cstddef>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "elastic/concepts.hpp"

namespace elastic::transport::detail {

template <OwnMemory Dev>
class HostPool {
  using Ticket = decltype(std::declval<Dev&>().mark());
  struct Block {
    decltype(std::declval<Dev&>().allocate_host(1)) memory;
    std::size_t bytes;
    std::optional<Ticket> copy;  // the last one from it
  };

 public:
  /// A block on loan; dropping it gives it back.
  class Lease {
   public:
    Lease() = default;
    Lease(Lease&& other) noexcept
        : pool_(std::exchange(other.pool_, nullptr)), block_(std::move(other.block_)) {}
    Lease& operator=(Lease&& other) noexcept {
      std::swap(pool_, other.pool_);
      std::swap(block_, other.block_);
      return *this;
    }
    ~Lease() {
      if (pool_ != nullptr && block_) pool_->free_.push_back(std::move(block_));
    }
    explicit operator bool() const { return block_ != nullptr; }
    template <class T>
    Span<T> as(std::size_t n) const {
      return {reinterpret_cast<T*>(block_->memory.data()), n};
    }
    /// Not to be lent again before `copy` is done.
    void busy_until(Ticket copy) { block_->copy.emplace(std::move(copy)); }

   private:
    friend HostPool;
    Lease(HostPool& pool, std::unique_ptr<Block> block) : pool_(&pool), block_(std::move(block)) {}
    HostPool* pool_ = nullptr;
    std::unique_ptr<Block> block_;
  };

  explicit HostPool(Dev& device) : device_(device) {}
  HostPool(HostPool const&) = delete;

  Lease take(std::size_t bytes) {
    auto found = free_.end();
    for (auto it = free_.begin(); it != free_.end(); ++it)
      if ((*it)->bytes >= bytes && (found == free_.end() || (*it)->bytes < (*found)->bytes)) found = it;
    if (found == free_.end() || (*found)->bytes / 4 > bytes + 4096)  // a large one is worth waiting for
      return {*this, std::make_unique<Block>(Block{device_.allocate_host(bytes), bytes, std::nullopt})};
    std::unique_ptr<Block> block = std::move(*found);
    free_.erase(found);
    if (block->copy) std::exchange(block->copy, {})->wait();
    return {*this, std::move(block)};
  }

 private:
  Dev& device_;
  std::vector<std::unique_ptr<Block>> free_;
};

}  // namespace elastic::transport::detail
