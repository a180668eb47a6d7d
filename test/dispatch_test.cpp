// SPDX-License-Identifier: Apache-2.0
// Names become types; a name that is none, or a pair that does not exist, is answered with those there are.
#include "elastic/dispatch.hpp"

#include <string>

#include "elastic/device/cpu.hpp"
#include "elastic/rule/async_easgd.hpp"
#include "elastic/rule/bsp.hpp"
#include "elastic/rule/sync_easgd.hpp"
#include "elastic/transport/serial.hpp"
#include "elastic/transport/threads.hpp"
#include "support/catch.hpp"
#include "support/temp_folder.hpp"

namespace {

using namespace elastic;
using Catch::Matchers::ContainsSubstring;
using support::message_of;
using Nets = Types<transport::Serial, transport::Threads>;
using Rules = Types<rule::Bsp, rule::SyncEasgd, rule::AsyncEasgd>;

/// "net/rule" of the types that the names led to.
std::string chosen(std::string const& net, std::string const& rule) {
  std::string text;
  dispatch<device::Cpu, Nets, Rules>(net, rule, [&]<class Net, class Rule>() {
    text += std::string(Net::name) + "/" + std::string(Rule::name);
  });
  return text;
}

TEST_CASE("every pair of names that exists leads to its types, once") {
  for (std::string const net : {"serial", "threads"})
    for (std::string const rule : {"bsp", "sync_easgd"}) CHECK(chosen(net, rule) == net + "/" + rule);
  CHECK(chosen("threads", "async_easgd") == "threads/async_easgd");
}

TEST_CASE("an unknown name is answered with the names there are") {
  auto const message = [](char const* net, char const* rule) {
    return message_of<ConfigError>([&] { chosen(net, rule); });
  };
  CHECK_THAT(message("mpi2", "bsp"),
             ContainsSubstring("no transport is called 'mpi2'; there is serial, threads"));
  CHECK_THAT(message("threads", "easgd"),
             ContainsSubstring("no rule is called 'easgd'; there is bsp, sync_easgd, async_easgd"));
  CHECK_THAT(message("threads", ""), ContainsSubstring("no rule is called ''"));
  CHECK_THAT(message("Threads", "bsp"), ContainsSubstring("'Threads'"));
}

TEST_CASE("a pair that does not exist is refused with the compiler's sentence") {
  auto const message = message_of<ConfigError>([] { chosen("serial", "async_easgd"); });
  CHECK_THAT(message, ContainsSubstring("async_easgd over serial: this SyncRule talks to a server"));
  CHECK_THAT(message, ContainsSubstring("use threads, shared_memory, tcp or mpi"));
}

TEST_CASE("a layout leaves at least one worker") {
  CHECK_NOTHROW((Layout{2, 1, 0}.check()));
  CHECK_THAT(message_of<ConfigError>([] {
               Layout{2, 1, 1}.check();
             }),
             ContainsSubstring("2 rank(s) with 1 server(s) and 1 tester(s) leave no worker"));
  Layout const layout{6, 1, 2};
  CHECK(layout.workers() == 3);
  CHECK(layout.role_of(0) == Role::server);
  CHECK(layout.role_of(1) == Role::worker);
  CHECK(layout.role_of(3) == Role::worker);
  CHECK(layout.role_of(4) == Role::tester);
  CHECK(layout.role_of(5) == Role::tester);
}

}  // namespace
