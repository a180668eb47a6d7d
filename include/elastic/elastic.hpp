// SPDX-License-Identifier: Apache-2.0
// Everything that needs no package: contracts, rules, the CPU, ranks as threads, the Trainer. Transports
// between processes and image models are included one by one: their headers need packages.
#pragma once

#include "elastic/compose.hpp"
#include "elastic/concepts.hpp"
#include "elastic/data/noise.hpp"
#include "elastic/device/cpu.hpp"
#include "elastic/dispatch.hpp"
#include "elastic/model/quadratic.hpp"
#include "elastic/rule/async_easgd.hpp"
#include "elastic/rule/bsp.hpp"
#include "elastic/rule/sync_easgd.hpp"
#include "elastic/train.hpp"
#include "elastic/transport/serial.hpp"
#include "elastic/transport/threads.hpp"
