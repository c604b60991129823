#include "policy/glob.h"

#include "tap.h"

using janus::glob_covers;

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
  return tap::done();
}
