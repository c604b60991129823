// What containers were refused: by id, and for some time after their end.
#include "record/refusals.h"

#include "tap.h"

using namespace janus;

int main() {
  Refusals refusals;
  refusals.add(1, "pins");  // nobody's: no guard is on it
  CHECK(refusals.all().empty());
  refusals.follow(1, "one");
  refusals.follow(2, "two");
  CHECK(refusals.all().empty());
  refusals.add(1, "pins");
  refusals.add(1, "pins", 2);
  refusals.add(1, "names");
  refusals.follow(1, "one");  // another guard of it
  const auto all = refusals.all();
  CHECK(all.size() == 2);
  CHECK(all[0].container == "one" && all[0].resource == "names" && all[0].count == 1);
  CHECK(all[1].container == "one" && all[1].resource == "pins" && all[1].count == 3);
  refusals.ended(1);
  refusals.ended(2);
  CHECK(refusals.all().size() == 2);
  refusals.add(2, "pins");  // forgotten
  CHECK(refusals.all().size() == 2);
  return tap::done();
}
