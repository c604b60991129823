// Globs: what they cover, against a matcher that tries everything, and what that costs.
#include "policy/glob.h"

#include <time.h>

#include <algorithm>
#include <map>
#include <random>
#include <string>
#include <utility>

#include "tap.h"

using janus::glob_covers;

namespace {

// By the definition: tries all that each star may stand for. Knows no sets.
struct Reference {
  std::string pattern, text;
  std::map<std::pair<std::size_t, std::size_t>, bool> known = {};

  bool covers() {
    for (std::size_t end = text.find('/');; end = text.find('/', end + 1)) {
      known.clear();
      if (matches(0, 0, std::min(end, text.size()))) return true;
      if (end == std::string::npos) return false;
    }
  }

 private:
  bool matches(std::size_t p, std::size_t t, std::size_t end) {
    const auto at = known.find({p, t});
    if (at != known.end()) return at->second;
    return known[{p, t}] = tries(p, t, end);
  }
  bool tries(std::size_t p, std::size_t t, std::size_t end) {
    if (p == pattern.size()) return t == end;
    if (pattern.compare(p, 2, "**") == 0) {
      const bool whole = pattern.compare(p + 2, 1, "/") == 0 && (t == 0 || text[t - 1] == '/');
      if (whole && matches(p + 3, t, end)) return true;
      for (std::size_t k = t; k < end + !whole; ++k) {
        if (!whole && matches(p + 2, k, end)) return true;
        if (whole && text[k] == '/' && matches(p + 3, k + 1, end)) return true;
      }
      return false;
    }
    if (pattern[p] == '*') {
      for (std::size_t k = t;; ++k) {
        if (matches(p + 1, k, end)) return true;
        if (k >= end || text[k] == '/') return false;
      }
    }
    if (t >= end) return false;
    if (pattern[p] == '?') return text[t] != '/' && matches(p + 1, t + 1, end);
    const bool quoted = pattern[p] == '\\' && p + 1 < pattern.size();
    return text[t] == pattern[p + quoted] && matches(p + 1 + quoted, t + 1, end);
  }
};

// Of short patterns and paths, in which everything happens often.
void as_the_reference() {
  std::mt19937 random(7);
  int covered = 0, wrong = 0;
  for (int round = 0; round < 50'000; ++round) {
    std::string pattern, text;
    for (auto left = 1 + random() % 9; left > 0; --left) pattern += "aab/**?\\"[random() % 8];
    for (auto names = 1 + random() % 5; names > 0; --names) {
      if (!text.empty()) text += '/';
      for (auto left = 1 + random() % 3; left > 0; --left) text += "ab"[random() % 2];
    }
    const bool right = Reference{pattern, text}.covers();
    covered += right;
    if (glob_covers(pattern, text) == right) continue;
    ++wrong;
    std::printf("# %s on %s: %d\n", pattern.c_str(), text.c_str(), !right);
  }
  CHECK(wrong == 0);
  CHECK(covered > 1000);
}

double seconds() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) / 1e9;
}

// A pass per component would take hours for this many, one pass takes milliseconds.
void cost() {
  std::string deep;
  for (int i = 0; i < 1'000'000; ++i) deep += "a/";
  deep += 'f';
  for (const char* pattern : {"**/*.log", "**/cache/**", "**.log", "**/a/a/a/a/b", "**/*/*/*/b", "*/**/*a*/b", "a/**/[g-z]"}) {
    const double begun = seconds();
    CHECK(!glob_covers(pattern, deep));
    CHECK(seconds() - begun < 5);
  }
}

}  // namespace

int main() {
  CHECK(glob_covers("cache", "cache"));
  CHECK(glob_covers("cache", "cache/deep/file"));
  CHECK(!glob_covers("cache", "cached"));
  CHECK(!glob_covers("cache", "a/cache"));
  CHECK(glob_covers("**/cache", "a/b/cache/x"));
  CHECK(glob_covers("**/cache", "cache"));
  CHECK(!glob_covers("**/cache", "a/mycache"));
  CHECK(glob_covers("*.log", "x.log"));
  CHECK(!glob_covers("*.log", "a/x.log"));
  CHECK(glob_covers("**.log", "a/b/x.log"));
  CHECK(glob_covers("a/**/z", "a/b/c/z"));
  CHECK(glob_covers("a/**/z", "a/z"));
  CHECK(!glob_covers("a/*/z", "a/b/c/z"));
  CHECK(glob_covers("a?c", "abc"));
  CHECK(!glob_covers("a?c", "a/c"));
  CHECK(glob_covers("[a-c]x", "bx"));
  CHECK(!glob_covers("[!a-c]x", "bx"));
  CHECK(glob_covers("[]]", "]"));
  CHECK(glob_covers("[x", "[x"));          // no closing bracket: it stands for itself
  CHECK(glob_covers("\\*", "*"));
  CHECK(!glob_covers("\\*", "x"));
  CHECK(glob_covers("*", "\n\xff"));       // names are bytes
  CHECK(!glob_covers("", "x"));
  // What takes exponential time in a naive matcher.
  CHECK(!glob_covers("*a*a*a*a*a*a*a*a*a*a*b", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"));
  as_the_reference();
  cost();
  return tap::done();
}
