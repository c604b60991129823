// A container that leaves much to do doesn't have another's wait for all of it.
#include "cover/turns.h"

#include <string>

#include "tap.h"

using namespace janus;

int main() {
  Turns<std::string> turns;
  CHECK(turns.first() == nullptr && turns.size() == 0);
  for (const char* work : {"a1", "a2", "a3"}) turns.push_back(1, work);
  turns.push_back(2, "b1");
  CHECK(turns.size() == 4 && *turns.first() == "a1");
  turns.next(false);  // a1 goes on
  CHECK(*turns.first() == "b1");
  turns.push_back(2, "b2");
  turns.push_back(3, "c1");
  turns.next(true);
  CHECK(*turns.first() == "a1");
  std::string* const held = turns.first();
  turns.push_front(1, "a0");
  CHECK(*held == "a1" && *turns.first() == "a0");
  turns.next(true);
  std::string order;
  while (const std::string* work = turns.first()) {
    order += *work + " ";
    turns.next(true);
  }
  CHECK(order == "c1 b2 a1 a2 a3 ");
  CHECK(turns.size() == 0);
  turns.push_front(7, "d1");
  CHECK(turns.any_of([](const std::string& work) { return work == "d1"; }) &&
        !turns.any_of([](const std::string& work) { return work == "a1"; }));
  Turns<std::string> more;
  more.push_second(1, "first");
  more.push_back(1, "third");
  more.push_second(1, "second");
  CHECK(more.has(1) && !more.has(2));
  std::string in_order;
  for (; more.first() != nullptr; more.next(true)) in_order += *more.first() + " ";
  CHECK(in_order == "first second third " && !more.has(1));
  return tap::done();
}
