// The process table: who a number meant when, what is kept of the past, and
// whose descendant somebody is.
#include "track/process_table.h"

#include "tap.h"

using namespace janus;

namespace {

constexpr std::uint64_t kSecond = 1'000'000'000;
constexpr std::uint64_t kContainer = 7;
constexpr std::uint64_t kOther = 8;

ProcessTable::News news(const char* comm, ProcessKey forker = {}, std::uint64_t container = kContainer) {
  return {.container = container, .forker = forker, .ppid = forker.tgid, .uid = 0, .flags = 0, .comm = comm, .exe = "", .argv0 = {}};
}

std::string line(const ProcessTable& table, const ProcessKey& key) {
  std::string text;
  for (const auto& image : table.find(key)->ancestors) text += image->comm + " ";
  return text;
}

void a_number_used_again_is_somebody_else() {
  ProcessTable table;
  const ProcessKey first{10, 100}, second{10, 200};
  table.put(first, news("first"), 100);
  CHECK(table.end(first, 150) == kContainer);
  table.put(second, news("second"), 200);
  CHECK(table.living(10)->image->comm == "second");
  CHECK(table.find(first)->ended_ns == 150);
  // What is told late of the first one does nothing to the second.
  CHECK(!table.end(first, 250));
  table.put(first, news("late"), 250);
  CHECK(table.living(10)->image->comm == "second");
  CHECK(table.of(kContainer).size() == 1);
}

void the_first_argument_is_of_the_last_exec() {
  ProcessTable table;
  const auto runs = [](const char* exe, ProcessKey forker = {}) {
    auto told = news("p", forker);
    told.exe = exe;
    return told;
  };
  const auto argv0 = [&](const ProcessKey& key) { return table.find(key)->argv0; };
  auto executed = runs("/bin/busybox");
  executed.argv0 = "-sh";
  table.put({10, 100}, executed, 100);
  CHECK(argv0({10, 100}) == "-sh");
  table.put({10, 100}, runs("/bin/busybox"), 110);  // found by a walk
  CHECK(argv0({10, 100}) == "-sh");
  table.put({11, 120}, runs("/bin/busybox", {10, 100}), 120);  // a fork runs on under the name
  CHECK(argv0({11, 120}) == "-sh");
  table.put({12, 130}, runs("/bin/other", {10, 100}), 130);
  CHECK(argv0({12, 130}).empty());
  table.put({10, 100}, runs("/bin/other"), 140);  // its exec was not seen
  CHECK(argv0({10, 100}).empty());
}

void an_end_that_was_lost_shows_when_the_number_comes_back() {
  ProcessTable table;
  table.put({10, 100}, news("first"), 100);
  table.put({11, 100}, news("stays"), 100);
  CHECK(table.put({10, 200}, news("second", {}, kOther), 200).empty());
  CHECK(table.find({10, 100})->ended_ns == 200);
  CHECK(table.end({11, 100}, 300) == kContainer);
}

void a_container_ends_with_its_last_process() {
  ProcessTable table;
  table.put({10, 100}, news("init"), 100);
  table.put({11, 110}, news("child", {10, 100}), 110);
  CHECK(!table.end({10, 100}, 200));
  CHECK(table.end({11, 110}, 210) == kContainer);
  CHECK(!table.end({11, 110}, 220));
  CHECK(table.living_count() == 0);
  CHECK(table.of(kContainer).empty());
}

void moving_to_another_container_leaves_the_first() {
  ProcessTable table;
  table.put({10, 100}, news("init"), 100);
  table.put({20, 100}, news("other init", {}, kOther), 100);
  CHECK(table.put({10, 100}, news("init", {}, kOther), 150) == std::vector<std::uint64_t>{kContainer});
  CHECK(table.of(kOther).size() == 2);
  CHECK(!table.end({10, 100}, 200));
  CHECK(table.end({20, 100}, 210) == kOther);
}

void ancestry_outlives_the_ancestors() {
  ProcessTable table;
  table.put({1, 1}, news("init"), 1);
  table.put({2, 2}, news("shell", {1, 1}), 2);
  table.put({3, 3}, news("worker", {2, 2}), 3);
  CHECK(line(table, {3, 3}) == "shell init ");
  table.put({2, 2}, news("renamed", {1, 1}), 4);  // by exec
  table.end({2, 2}, 5);
  table.settle(100 * kSecond);
  CHECK(table.find({2, 2}) == nullptr);
  CHECK(line(table, {3, 3}) == "renamed init ");
  // Another process of the forker's number is not the forker.
  table.put({2, 6}, news("stranger", {1, 1}), 6);
  table.put({4, 7}, news("orphan's", {3, 3}), 7);
  CHECK(line(table, {4, 7}) == "worker renamed init ");
  CHECK(!table.find({4, 7})->cut);
}

void ancestry_ends_at_the_container_and_at_the_limit() {
  ProcessTable table;
  table.put({1, 1}, news("runtime", {}, kOther), 1);
  table.put({2, 2}, news("put in", {1, 1}), 2);
  CHECK(line(table, {2, 2}).empty());
  for (std::uint32_t tgid = 3; tgid < 40; ++tgid) table.put({tgid, tgid}, news("x", {tgid - 1, tgid - 1}), tgid);
  CHECK(table.find({18, 18})->ancestors.size() == kAncestors);
  CHECK(!table.find({18, 18})->cut);
  CHECK(table.find({39, 39})->ancestors.size() == kAncestors);
  CHECK(table.find({39, 39})->cut);
}

void who_was_there_before_is_linked_when_all_are_known() {
  ProcessTable table;
  table.put({9, 30}, news("grandchild", {5, 20}), 100);
  table.put({5, 20}, news("child", {7, 10}), 100);
  table.put({7, 10}, news("init"), 100);
  CHECK(line(table, {9, 30}).empty());
  table.relink(kContainer);
  CHECK(line(table, {9, 30}) == "child init ");
}

void an_event_is_whose_who_had_the_number_then() {
  ProcessTable table;
  const ProcessKey first{10, 100 * kSecond}, second{10, 110 * kSecond};
  table.put(first, news("first"), first.start_ns);
  table.end(first, 105 * kSecond);
  const auto who = [&](std::uint64_t since, std::uint64_t read, bool alive) -> std::string {
    const auto match = table.actor(10, since * kSecond, read * kSecond, alive);
    if (match.process == nullptr) return match.container == kContainer ? "either" : "nobody";
    return match.process->image->comm;
  };
  CHECK(who(101, 106, false) == "first");
  CHECK(who(99, 102, true) == "first");    // not reaped then
  CHECK(who(107, 108, false) == "nobody");  // too late for it
  table.put(second, news("second"), second.start_ns);
  CHECK(who(101, 111, true) == "second");   // the number's holder is alive: it can only be that one
  CHECK(who(101, 111, false) == "first");   // its holder is not: the living one it cannot be
  CHECK(who(101, 109, false) == "first");
  table.end(second, 112 * kSecond);
  CHECK(who(111, 113, false) == "second");
  CHECK(who(101, 113, false) == "either");
  table.put({10, 120 * kSecond}, news("third", {}, kOther), 120 * kSecond);
  table.end({10, 120 * kSecond}, 121 * kSecond);
  CHECK(who(101, 122, false) == "nobody");  // not even of one container
  CHECK(table.actor(11, 0, 200 * kSecond, true).process == nullptr);
}

void the_past_is_kept_until_its_events_are_read() {
  ProcessTable table(2);
  const auto lived = [&](std::uint32_t tgid) {
    table.put({tgid, tgid}, news("x"), tgid);
    table.end({tgid, tgid}, 10 * kSecond);
  };
  lived(1);
  lived(2);
  table.settle(10 * kSecond);  // it may still be closing its files
  CHECK(table.past_count() == 2 && table.forgotten() == 0);
  lived(3);
  CHECK(table.past_count() == 2 && table.forgotten() == 1);
  table.settle(20 * kSecond);
  CHECK(table.past_count() == 0 && table.find({3, 3}) == nullptr);
}

}  // namespace

int main() {
  a_number_used_again_is_somebody_else();
  an_end_that_was_lost_shows_when_the_number_comes_back();
  the_first_argument_is_of_the_last_exec();
  a_container_ends_with_its_last_process();
  moving_to_another_container_leaves_the_first();
  ancestry_outlives_the_ancestors();
  ancestry_ends_at_the_container_and_at_the_limit();
  who_was_there_before_is_linked_when_all_are_known();
  an_event_is_whose_who_had_the_number_then();
  the_past_is_kept_until_its_events_are_read();
  return tap::done();
}
