// SPDX-License-Identifier: Apache-2.0
// Pages do not drift from the tree: every relative link of README.md, CONTRIBUTING.md and docs/*.md resolves,
// and every fenced block that names a file (```cpp file=samples/x.cpp) stands in that file as it is.
#include <algorithm>
#include <cctype>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <optional>
#include <regex>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "support/catch.hpp"
#include "support/source_tree.hpp"

namespace {

namespace fs = std::filesystem;
using Strings = std::vector<std::string>;

/// The file's content; none if it cannot be read.
std::optional<std::string> content(fs::path const& path) {
  std::ifstream file(path);
  if (!file) return std::nullopt;
  return std::string(std::istreambuf_iterator<char>(file), {});
}

struct Page {
  Strings links;
  Strings anchors;                                          ///< of its headings, as GitHub makes them
  std::vector<std::pair<std::string, std::string>> quotes;  ///< file and text of the blocks that name one
};

std::string anchor(std::string const& heading) {
  std::string id;
  for (char const c : heading) {
    auto const u = static_cast<unsigned char>(c);
    if (std::isalnum(u) || c == '-' || c == '_') id += char(std::tolower(u));
    if (c == ' ') id += '-';
  }
  return id;
}

Page parse(std::string const& text) {
  static std::regex const fence(R"(^ *```[a-z]*( +file=(\S+))? *$)"), code("`[^`]*`"),
      link(R"(\]\(([^)\s]+)\))"), heading("^#+ +(.*)$");
  Page page;
  std::istringstream lines(text);
  bool inside = false, quoting = false;
  for (std::string line; std::getline(lines, line);) {
    std::smatch match;
    if (std::regex_match(line, match, fence)) {
      inside = !inside;
      quoting = inside && match[2].matched;
      if (quoting) page.quotes.push_back({match[2], ""});
    } else if (inside) {
      if (quoting) page.quotes.back().second += line + "\n";
    } else {
      if (std::regex_match(line, match, heading)) page.anchors.push_back(anchor(match[1]));
      std::string const prose = std::regex_replace(line, code, "");
      for (std::sregex_iterator i(prose.begin(), prose.end(), link), end; i != end; ++i)
        page.links.push_back((*i)[1]);
    }
  }
  return page;
}

/// What is wrong with a page at `path`, whose quotes are relative to `root`: one sentence each.
Strings defects(fs::path const& path, std::string const& text, fs::path const& root) {
  Page const page = parse(text);
  Strings found;
  for (std::string const& link : page.links) {
    if (link.find(':') != link.npos) continue;  // another host
    std::size_t const hash = link.find('#');
    fs::path const target = hash == 0 ? path : path.parent_path() / link.substr(0, hash);
    if (hash != 0 && !fs::exists(target)) {
      found.push_back("a link to " + link + ", which does not exist");
    } else if (hash != link.npos) {
      auto const anchors = hash == 0 ? page.anchors : parse(content(target).value_or("")).anchors;
      if (std::ranges::find(anchors, link.substr(hash + 1)) == anchors.end())
        found.push_back("a link to " + link + ", where there is no such heading");
    }
  }
  for (auto const& [file, quote] : page.quotes) {
    auto const source = content(root / file);
    if (!source) {
      found.push_back("a quotation of " + file + ", which does not exist");
    } else if (quote.empty() || source->find(quote) == source->npos) {
      found.push_back("a quotation that " + file + " does not hold as it is:\n" + quote);
    }
  }
  return found;
}

fs::path root() { return support::source_tree(); }

TEST_CASE("docs: links resolve and quotations are exact") {
  std::vector<fs::path> pages;
  for (auto const& entry : fs::directory_iterator(root() / "docs"))
    if (entry.path().extension() == ".md") pages.push_back(entry.path());
  REQUIRE(pages.size() > 5);
  for (auto const* name : {"README.md", "CONTRIBUTING.md"})
    if (fs::exists(root() / name)) pages.push_back(root() / name);
  for (fs::path const& path : pages)
    for (std::string const& defect : defects(path, content(path).value(), root()))
      FAIL_CHECK(path.lexically_relative(root()).string() << " has " << defect);
}

TEST_CASE("docs: what is wrong with a page is found") {
  fs::path const path = root() / "docs" / "page.md";
  auto const count = [&](std::string const& text) { return defects(path, text, root()).size(); };
  CHECK(count("[a](../LICENSE) [b](https://example.org/x) `[c](nowhere)` # no heading") == 0);
  CHECK(count("[a](nowhere.md) and [b](../test)") == 1);
  CHECK(count("# One `word` more\n[a](#one-word-more) [b](#another)") == 1);
  CHECK(count("[a](../CONTRIBUTING.md#layers) [b](../CONTRIBUTING.md#nothing)") == 1);
  std::string const quote = "```cpp file=test/docs_test.cpp\nnamespace fs = std::filesystem;\n```\n";
  CHECK(count(quote) == 0);
  CHECK(count("```cpp file=test/docs_test.cpp\nnamespace fs =  std::filesystem;\n```\n") == 1);
  CHECK(count("```cpp file=test/nowhere.cpp\nint x;\n```\n" + quote) == 1);
  CHECK(count("```cpp\nint x;\n```\n") == 0);
}

}  // namespace
