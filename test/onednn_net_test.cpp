// SPDX-License-Identifier: Apache-2.0
#include "elastic/model/onednn_net.hpp"

#include <omp.h>  // as in the header: weak, nothing to link

#include <filesystem>
#include <iterator>
#include <thread>

#include "elastic/concepts.hpp"
#include "elastic/model/eigen_net.hpp"
#include "elastic/model/nets.hpp"
#include "support/catch.hpp"
#include "support/net_checks.hpp"

using namespace elastic;
using model::EigenNet, model::OnednnNet;
static_assert(Trainable<OnednnNet>);

TEST_CASE("onednn: losses and gradients equal the reference's", "[model]") {
  test::check_against_reference<OnednnNet>();
}
TEST_CASE("onednn: seeds decide every bit", "[model]") { test::check_determinism<OnednnNet>(); }
TEST_CASE("onednn: evaluation does not depend on the batch size", "[model]") {
  test::check_evaluation<OnednnNet>();
}
TEST_CASE("onednn: batch-norm statistics are those of the data", "[model]") {
  test::check_calibration<OnednnNet>();
}
TEST_CASE("onednn: batches that do not fit are refused", "[model]") { test::check_refusals<OnednnNet>(); }
TEST_CASE("onednn: auxiliaries only train", "[model]") { test::check_auxiliaries<OnednnNet>(); }
TEST_CASE("onednn: nets move", "[model]") { test::check_move<OnednnNet>(); }

TEST_CASE("onednn: a net has one thread, whatever OpenMP is told, and leaves that as it is", "[model]") {
  auto const threads = [] {
    std::filesystem::directory_iterator const tasks("/proc/self/task");
    return std::distance(begin(tasks), end(tasks));
  };
  omp_set_num_threads(3);
  auto const before = threads();
  auto const net = model::easgd_cifar();
  OnednnNet(net, 16, 1).gradient(test::random_batch(net.input(), 16, 10, 1));
  CHECK(threads() == before);
  CHECK(omp_get_max_threads() == 3);
}

TEST_CASE("onednn: a net works in another thread than the one that made it", "[model]") {
  auto const architecture = model::easgd_cifar(1);
  auto const batch = test::random_batch(architecture.input(), 3, 10, 1);
  OnednnNet here(architecture, 3, 1), there(architecture, 3, 1);
  double const expected = here.gradient(batch);
  double loss = 0;
  std::thread([&] { loss = there.gradient(batch); }).join();
  CHECK(loss == expected);
}

TEST_CASE("both backends train the same nets", "[model]") {
  SECTION("easgd_cifar") {
    test::check_same<OnednnNet, EigenNet>(model::easgd_cifar(3, 10, model::Init{}), 3);
  }
  SECTION("easgd_cifar, as its authors start it") {
    test::check_same<OnednnNet, EigenNet>(model::easgd_cifar(1), 4);
  }
  SECTION("async_easgd_cifar") { test::check_same<OnednnNet, EigenNet>(model::async_easgd_cifar(), 2); }
  SECTION("perceptron") { test::check_same<OnednnNet, EigenNet>(model::perceptron(), 1); }
}
