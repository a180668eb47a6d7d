// SPDX-License-Identifier: Apache-2.0
#include "elastic/model/eigen_net.hpp"

#include "elastic/concepts.hpp"
#include "support/catch.hpp"
#include "support/net_checks.hpp"

using elastic::model::EigenNet;
static_assert(elastic::Trainable<EigenNet>);

TEST_CASE("eigen: losses and gradients equal the reference's", "[model]") {
  elastic::test::check_against_reference<EigenNet>();
}
TEST_CASE("eigen: seeds decide every bit", "[model]") { elastic::test::check_determinism<EigenNet>(); }
TEST_CASE("eigen: evaluation does not depend on the batch size", "[model]") {
  elastic::test::check_evaluation<EigenNet>();
}
TEST_CASE("eigen: batch-norm statistics are those of the data", "[model]") {
  elastic::test::check_calibration<EigenNet>();
}
TEST_CASE("eigen: auxiliaries only train", "[model]") { elastic::test::check_auxiliaries<EigenNet>(); }
TEST_CASE("eigen: batches that do not fit are refused", "[model]") {
  elastic::test::check_refusals<EigenNet>();
}
TEST_CASE("eigen: nets move", "[model]") { elastic::test::check_move<EigenNet>(); }
