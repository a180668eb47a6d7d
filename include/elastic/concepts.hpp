// SPDX-License-Identifier: Apache-2.0
// The contracts, on one page. Everything else in elastic models one of these or composes them.
#pragma once

#include <chrono>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>
#include <type_traits>

#include "elastic/ops.hpp"
#include "elastic/span.hpp"
#include "elastic/traffic.hpp"

namespace elastic {

/// Work in flight. wait() returns once the buffers it borrowed may be touched again, or throws at the
/// deadline; done() says whether wait() would return at once, and makes progress. Destroying a ticket waits.
template <class T>
concept Ticket = std::movable<T> && requires(T& ticket) {
  ticket.wait();
  { ticket.done() } -> std::same_as<bool>;
};

/// A place where numbers live and where elementwise work runs, in submission order.
template <class Dev>
concept Device = requires(Dev& dev, Span<float, typename Dev::memory> y,
                          Span<float const, typename Dev::memory> x, Span<float> host, std::size_t n) {
  { Dev::name } -> std::convertible_to<std::string_view>;
  { dev.template allocate<float>(n).span() } -> std::convertible_to<Span<float, typename Dev::memory>>;
  dev.copy(x, y);                                          // y = x
  dev.download(x, host);                                   // host = x, done when it returns
  dev.upload(read(host), y);                               // y = host
  dev.for_each(ops::Add{}, y, x);                          // f(y[i], x[i]) for every i
  { dev.within(x, /*limit=*/1.0) } -> std::same_as<bool>;  // |x[i]| <= limit for every i; false with a NaN
  // move(d, x[i], c[i]), then add(c[i], d), for every i, but blocks of exchange_block values whose d is not
  // within the limit are not added. d goes to a third vector too, unless that is empty.
  dev.exchange(ops::Retract{1}, ops::Add{}, /*x=*/y, /*c=*/y, /*d=*/y, /*limit=*/1.0);
  { dev.refused() } -> std::same_as<std::uint32_t>;  // blocks not added since this was asked last
  dev.synchronize();
};

/// A device with a memory of its own, which no transport need reach: copies to and from the host run beside its
/// work, in submission order with it, and it reads and writes host memory in place.
template <class Dev>
concept OwnMemory = Device<Dev> && !std::same_as<typename Dev::memory, memory::Host> &&
                    requires(Dev & dev, Span<float, typename Dev::memory> y,
                             Span<float const, typename Dev::memory> x, Span<float> host, std::size_t n) {
  { dev.allocate_host(n).data() } -> std::same_as<std::byte*>;  // n bytes that copies are fast from and to
  { dev.start_download(x, host) } -> Ticket;                    // done once host holds x
  { dev.start_upload(read(host), y) } -> Ticket;  // done once host may be changed; later work sees y
  { dev.mark() } -> Ticket;                       // done once all work submitted so far is
  {
    dev.map(host).span()
    } -> std::same_as<Span<float, typename Dev::memory>>;  // the same values, for the device
};

/// The least every transport offers: who am I, how many are we, what did we move, how do we stop together.
template <class Net>
concept Transport = requires(Net& net, Net const& view, std::string_view why) {
  { Net::name } -> std::convertible_to<std::string_view>;
  { view.rank() } -> std::same_as<int>;
  { view.size() } -> std::same_as<int>;
  { view.traffic() } -> std::same_as<Traffic>;
  { view.timeout() } -> std::convertible_to<std::chrono::duration<double>>;  // no call blocks for longer
  net.abort(why);                                                            // releases every blocked peer
};

/// Can a buffer in Memory be handed to this transport as it is?
template <class Net, class Memory>
concept Reaches = Transport<Net> && Net::template reaches<Memory>;

/// Every rank of the team takes part in each call, in the same order. Sums are added in rank order wherever
/// the transport controls it, so that they have the same bits on every rank and on every such transport.
template <class Net>
concept Collective = Transport<Net> && requires(Net& net, Span<float> x, Span<double> y, int ranks) {
  net.team(ranks);  // every rank calls it: from now on the team is ranks 0 .. ranks-1 (at first: all)
  net.barrier();
  net.broadcast(x, /*root=*/0);
  net.all_reduce(x);  // elementwise sum, in place
  net.all_reduce(y);
  { net.start_all_reduce(x) } -> Ticket;
};

/// A collective transport that adds a sum to another vector, x staying as it is, in fewer passes than a sum in place and
/// an addition take.
template <class Net>
concept AddsSums = Collective<Net> && requires(Net& net, Span<float> into, Span<float> x) {
  { net.start_add_sum(into, /*gain=*/1.0, x) } -> Ticket;  // into += gain * sum of x
};

/// The head of a message that has arrived and waits for its receive.
struct Envelope {
  int source = -1;
  int tag = 0;
  std::size_t bytes = 0;
};

/// Messages between two ranks stay in order per (source, tag). A receive of another size than the message
/// throws.
template <class Net>
concept PointToPoint = Transport<Net> &&
    requires(Net& net, Span<float> in, Span<float const> out, Span<char const> text, int peer, int tag) {
  net.send(out, peer, tag);  // returns when the buffer may be reused
  net.send(text, peer, tag);
  { net.start_send(out, peer, tag) } -> Ticket;
  { net.start_receive(in, peer, tag) } -> Ticket;
  net.receive(in, peer, tag);
  {
    net.probe()
    } -> std::same_as<std::optional<Envelope>>;      // a message nobody has asked for yet; fair over sources
  { net.wait_message() } -> std::same_as<Envelope>;  // the same, waiting at most timeout()
};

/// Memory of the whole job that ranks, or their devices, change in place, one stripe at a time. Any rank makes a
/// window, zeros at first; its handle travels in a message, and with it another rank opens the same memory.
template <class Net, class Memory = memory::Host>
concept Windowed = Transport<Net> && std::is_trivially_copyable_v<typename Net::WindowHandle> &&
    requires(Net& net, typename Net::template Window<float> window, std::size_t k) {
  { net.template make_window<float>(k) } -> std::same_as<typename Net::template Window<float>>;
  { net.template open_window<float>(window.handle()) } -> std::same_as<typename Net::template Window<float>>;
  { window.handle() } -> std::same_as<typename Net::WindowHandle>;
  { window.size() } -> std::same_as<std::size_t>;
  { window.stripes() } -> std::same_as<std::size_t>;          // how many
  { window.first(k) } -> std::same_as<std::size_t>;           // value of the window that stripe k begins with
  { window.stripe(k) } -> std::same_as<Span<float, Memory>>;  // without its lock
  {
    window.lock(k).span()
    } -> std::same_as<Span<float, Memory>>;  // waits, at most timeout(); held until dropped
  {
    window.try_lock(k)->span()
    } -> std::same_as<Span<float, Memory>>;  // an optional: empty if somebody holds it
};

/// A model whose parameters and gradients are two flat vectors on one device.
template <class M>
concept Trainable = requires(M& model, typename M::batch const& batch) {
  requires Device<typename M::device_type>;
  requires std::floating_point<typename M::scalar>;
  { model.device() } -> std::same_as<typename M::device_type&>;
  { model.parameters() } -> std::same_as<Span<typename M::scalar, typename M::device_type::memory>>;
  { model.gradients() } -> std::same_as<Span<typename M::scalar, typename M::device_type::memory>>;
  { model.gradient(batch) } -> std::convertible_to<double>;  // overwrites gradients(), returns the mean loss
};

/// Endless batches; the reference stays valid until the next call.
template <class Data, class Model>
concept DataSource = requires(Data& data) {
  { data.next() } -> std::convertible_to<typename Model::batch const&>;
};

}  // namespace elastic
