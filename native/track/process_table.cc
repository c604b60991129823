#include "track/process_table.h"

#include <algorithm>
#include <utility>

namespace janus {
namespace {

// How long after its end is seen a process may still raise events: it closes
// its files then.
constexpr std::uint64_t kClosingNs = 1'000'000'000;

constexpr ProcessKey first_of(std::uint32_t tgid) { return {tgid, 0}; }

}  // namespace

std::vector<std::uint64_t> ProcessTable::put(const ProcessKey& key, const News& news, std::uint64_t now_ns) {
  std::vector<std::uint64_t> emptied;
  if (const Process* other = living(key.tgid); other != nullptr && other->image->key != key) {
    if (key < other->image->key) return emptied;  // what is told of it is old
    if (const auto container = end(other->image->key, now_ns)) emptied.push_back(*container);
  }
  const auto [at, added] = table_.try_emplace(key);
  Process& process = at->second;
  if (process.ended_ns != 0) return emptied;
  if (added) process.image = std::make_shared<Image>(Image{.key = key, .comm = {}, .exe = {}});
  if (process.container != news.container) {
    if (!added)
      if (const auto container = leave(process.container, key)) emptied.push_back(*container);
    living_[news.container].insert(key);
    process.container = news.container;
    process.ancestors.clear();
  }
  process.forker = news.forker;
  process.ppid = news.ppid;
  process.uid = news.uid;
  process.flags = news.flags;
  process.image->comm = news.comm;
  process.argv0 = argv0_of(process, news, added);
  if (!news.exe.empty()) process.image->exe = news.exe;
  if (process.ancestors.empty()) link(process);
  return emptied;
}

std::string ProcessTable::argv0_of(const Process& process, const News& news, bool added) const {
  if (news.argv0) return *news.argv0;
  if (!added) return news.exe.empty() || news.exe == process.image->exe ? process.argv0 : std::string();
  const auto forker = table_.find(news.forker);
  const bool runs_the_same = forker != table_.end() && forker->second.container == news.container && forker->second.image->exe == news.exe;
  return runs_the_same ? forker->second.argv0 : std::string();
}

void ProcessTable::link(Process& process) const {
  const auto forker = table_.find(process.forker);
  if (forker == table_.end() || forker->second.container != process.container) return;
  const auto& above = forker->second.ancestors;
  process.ancestors.assign(1, forker->second.image);
  process.ancestors.insert(process.ancestors.end(), above.begin(),
                           above.begin() + static_cast<std::ptrdiff_t>(std::min(above.size(), kAncestors - 1)));
  process.cut = forker->second.cut || above.size() == kAncestors;
}

void ProcessTable::relink(std::uint64_t container) {
  std::vector<Process*> all;
  for (const ProcessKey& key : of(container)) all.push_back(&table_.at(key));
  std::sort(all.begin(), all.end(), [](const Process* a, const Process* b) {
    return a->image->key.start_ns < b->image->key.start_ns;
  });
  for (Process* process : all) link(*process);
}

std::optional<std::uint64_t> ProcessTable::leave(std::uint64_t container, const ProcessKey& key) {
  const auto theirs = living_.find(container);
  theirs->second.erase(key);
  if (!theirs->second.empty()) return std::nullopt;
  living_.erase(theirs);
  return container;
}

std::optional<std::uint64_t> ProcessTable::end(const ProcessKey& key, std::uint64_t now_ns) {
  const auto at = table_.find(key);
  if (at == table_.end() || at->second.ended_ns != 0) return std::nullopt;
  at->second.ended_ns = now_ns;
  const auto emptied = leave(at->second.container, key);
  past_.push_back(key);
  if (past_.size() > past_limit_) {
    table_.erase(past_.front());
    past_.pop_front();
    ++forgotten_;
  }
  return emptied;
}

std::optional<std::uint64_t> ProcessTable::end(const ProcessKey& key, const News& last, std::uint64_t now_ns) {
  if (const auto at = table_.find(key); at != table_.end() && at->second.ended_ns == 0) {
    at->second.ppid = last.ppid;
    at->second.uid = last.uid;
    at->second.image->comm = last.comm;
  }
  return end(key, now_ns);
}

void ProcessTable::end_container(std::uint64_t container, std::uint64_t now_ns) {
  for (const ProcessKey& key : std::set<ProcessKey>(of(container))) end(key, now_ns);
}

void ProcessTable::forget_container(std::uint64_t container) {
  const auto theirs = living_.extract(container);
  if (theirs.empty()) return;
  for (const ProcessKey& key : theirs.mapped()) table_.erase(key);
}

void ProcessTable::settle(std::uint64_t read_ns) {
  while (!past_.empty()) {
    const auto at = table_.find(past_.front());
    if (at->second.ended_ns + kClosingNs >= read_ns) return;
    table_.erase(at);
    past_.pop_front();
  }
}

const ProcessTable::Process* ProcessTable::find(const ProcessKey& key) const {
  const auto at = table_.find(key);
  return at == table_.end() ? nullptr : &at->second;
}

const ProcessTable::Process* ProcessTable::living(std::uint32_t tgid) const {
  // The last of that number: only that one can be alive.
  auto at = table_.lower_bound(first_of(tgid + 1));
  if (at == table_.begin()) return nullptr;
  --at;
  return at->first.tgid == tgid && at->second.ended_ns == 0 ? &at->second : nullptr;
}

ProcessTable::Match ProcessTable::actor(std::uint32_t tgid, std::uint64_t since_ns, std::uint64_t read_ns,
                                        bool alive) const {
  // The number was a process's own from its start to the next one's.
  Match match;
  std::size_t candidates = 0;
  const auto last = table_.lower_bound({tgid, read_ns + 1});
  for (auto at = table_.lower_bound(first_of(tgid)); at != last; ++at) {
    const auto next = std::next(at);
    const bool used_again = next != last;
    if (used_again && next->first.start_ns <= since_ns) continue;
    const Process& process = at->second;
    if (process.ended_ns != 0 && process.ended_ns + kClosingNs < since_ns) continue;
    if (alive ? used_again : process.ended_ns == 0) continue;
    match = ++candidates == 1 ? Match{&process, process.container}
                              : Match{nullptr, match.container == process.container ? match.container : 0};
  }
  return match;
}

const std::set<ProcessKey>& ProcessTable::of(std::uint64_t container) const {
  static const std::set<ProcessKey> none;
  const auto at = living_.find(container);
  return at == living_.end() ? none : at->second;
}

std::vector<ProcessKey> ProcessTable::living() const {
  std::vector<ProcessKey> keys;
  for (const auto& [container, theirs] : living_) keys.insert(keys.end(), theirs.begin(), theirs.end());
  return keys;
}

}  // namespace janus
