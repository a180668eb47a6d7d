// SPDX-License-Identifier: Apache-2.0
// Prints docs/ancestors-options.md from the table that also reads Theano-MPI's files. After a change of a key:
//     print_ancestors_options > docs/ancestors-options.md
#include <cstdio>
#include <string>
#include <string_view>

#include "../samples/kit/theano_mpi.hpp"

namespace {

constexpr char const* head =
    R"(<!-- Printed by test/print_ancestors_options.cpp. Change the table in samples/kit/theano_mpi.hpp, not this page. -->
# The ancestors' options

What a user of Theano-MPI or of Async-EASGD wrote, and what it is here. All options: [options.md](options.md).

## Theano-MPI's config.yaml and <model>.yaml

```sh
imagenet client --index 1 --theano-mpi-config config.yaml,alexnet.yaml --data DIR
```

reads them as they are; what the command line, the environment or `--config` says wins over them. A key that has no meaning
any more is accepted with the value that it was shipped with, if that is what happens anyway, and refused with any other,
with the reason.

| key | shipped | here | |
|---|---|---|---|
)";

constexpr char const* async_easgd = R"(
## Async-EASGD's command line

| option | default there | here | |
|---|---|---|---|
| `--nodeIndex` | 1 | `--index` | |
| `--numNodes` | 1 | `--clients` | |
| `--batchSize` | 32 | `--batch` | of each client |
| `--learningRate` | 0.01 | `--learning-rate` | |
| `--cuda` | off | `--device cuda` | |
| `--gpu` | 1 | `--gpu` | here from 0 |
| `--host`, `--port` | 127.0.0.1, 8080 | `--host`, `--port` | one port for all, not one for each client |
| `--communicationTime` | 10 | `--period` | |
| alpha | 0.2, in the code | `--alpha` | |
| `--numEpochs` | endless | `--epochs` | there, so many times `testTime` exchanges; here, passes over the training set |
| `--testTime` | 100 exchanges | `--test-every` | here, seconds: the tester never makes the server wait |
| `--server`, `--tester` | | the words `server`, `client`, `tester` | |
| `--save` | log | `--out` | log, best and last center |
| `--visualize` | | `bench/plot` | |
| `--verbose` | off | | rank 0 always says how far it is |
| `--base`, `--clientIP` | 2, 127.0.0.1 | | never read there |
)";

}  // namespace

int main() {
  std::printf("%s", head);
  for (auto const& key : sample::theano_mpi::keys) {
    auto const cell = [](std::string_view text) {
      std::string quoted(text);
      if (!text.empty()) quoted.append("`").insert(quoted.begin(), '`');
      return quoted;
    };
    std::printf("| `%s` | %s | %s | %s |\n", std::string(key.name).c_str(), cell(key.shipped).c_str(),
                cell(key.ours).c_str(), std::string(key.about).c_str());
  }
  std::printf("%s", async_easgd);
}
