// SPDX-License-Identifier: Apache-2.0
// The policies in the wrong places.
// expect: elastic: the first policy does not model elastic::Transport (concepts.hpp).
#include "elastic/device/cpu.hpp"
#include "elastic/rule/sync_easgd.hpp"
#include "elastic/train.hpp"

void refused(elastic::device::Cpu& cpu) { elastic::Trainer trainer(cpu, elastic::rule::SyncEasgd{}, cpu); }
