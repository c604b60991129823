#include "policy/glob.h"

namespace janus {
namespace {

// Matches one set at pattern[at] == '['; returns the index after it, or npos if
// there is no closing bracket (then '[' stands for itself).
std::size_t match_set(std::string_view pattern, std::size_t at, unsigned char c, bool& matched) {
  std::size_t i = at + 1;
  const bool negate = i < pattern.size() && (pattern[i] == '!' || pattern[i] == '^');
  if (negate) ++i;
  bool found = false;
  for (bool first = true; i < pattern.size() && (first || pattern[i] != ']'); first = false) {
    const auto low = static_cast<unsigned char>(pattern[i]);
    auto high = low;
    if (i + 2 < pattern.size() && pattern[i + 1] == '-' && pattern[i + 2] != ']') {
      high = static_cast<unsigned char>(pattern[i + 2]);
      i += 2;
    }
    found = found || (low <= c && c <= high);
    ++i;
  }
  if (i >= pattern.size()) return std::string_view::npos;
  matched = found != negate && c != '/';
  return i + 1;
}

}  // namespace

// Iterative matching with one restart point per kind of star, in one pass over
// the text: at worst pattern x text, whatever the pattern. The text's length is
// a container's to choose. A match may end where any component ends.
bool glob_covers(std::string_view pattern, std::string_view text) {
  constexpr auto none = std::string_view::npos;
  std::size_t p = 0, t = 0;
  std::size_t star_p = none, star_t = 0;      // last `*`
  std::size_t super_p = none, super_t = 0;    // last `**`
  bool super_whole = false;                   // ... which was `**/`
  for (;;) {
    bool ok = false;
    if (p < pattern.size()) {
      const char c = pattern[p];
      if (c == '*') {
        if (p + 1 < pattern.size() && pattern[p + 1] == '*') {
          p += 2;
          // `**/` stands for whole directories, or none.
          super_whole = p < pattern.size() && pattern[p] == '/' && (t == 0 || text[t - 1] == '/');
          if (super_whole) ++p;
          super_p = p;
          super_t = t;
          star_p = none;
        } else {
          star_p = ++p;
          star_t = t;
        }
        continue;
      }
      if (t < text.size()) {
        if (c == '?') {
          ok = text[t] != '/';
          if (ok) ++p, ++t;
        } else if (c == '[') {
          bool matched = false;
          const std::size_t next = match_set(pattern, p, static_cast<unsigned char>(text[t]), matched);
          if (next == none) {
            ok = text[t] == '[';
            if (ok) ++p, ++t;
          } else if (matched) {
            ok = true;
            p = next;
            ++t;
          }
        } else {
          const bool quoted = c == '\\' && p + 1 < pattern.size();
          ok = text[t] == (quoted ? pattern[p + 1] : c);
          if (ok) p += quoted ? 2 : 1, ++t;
        }
      }
    } else if (t == text.size() || (t > 0 && text[t] == '/')) {
      return true;
    }
    if (ok) continue;
    if (star_p != none && star_t < text.size() && text[star_t] != '/') {
      p = star_p;
      t = ++star_t;
    } else if (super_p != none && super_t < text.size()) {
      if (super_whole) {
        const auto slash = text.find('/', super_t);
        if (slash == none) return false;
        super_t = slash;
      }
      p = super_p;
      t = ++super_t;
      star_p = none;
    } else {
      return false;
    }
  }
}

}  // namespace janus
