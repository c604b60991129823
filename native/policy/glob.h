// Shell-style patterns for `exclude`: `*` and `?` stop at `/`, `**` does not,
// `[a-z]` and `[!a-z]` are byte sets, `\` quotes.
//
// Owns: nothing. Pure, no allocation.
#pragma once

#include <string_view>

namespace janus {

// Whether `pattern` matches all of `text`, or a leading directory of it:
// excluding `cache` excludes everything below it too.
bool glob_covers(std::string_view pattern, std::string_view text);

}  // namespace janus
