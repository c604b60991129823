#include "identity/kernel_rules.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <functional>
#include <utility>

#include "os/clock.h"

namespace janus {
namespace {

// Inodes that are judged again before whoever else waits for the lock has it.
constexpr std::size_t kAtOnce = 64;

bool same(const CertainDenial::Ruling& one, const CertainDenial::Ruling& other) {
  if (one.reach != other.reach) return false;
  return one.entry == other.entry || (one.entry != nullptr && other.entry != nullptr && one.entry->subject->id == other.entry->subject->id);
}

bool same(const CertainDenial& one, const CertainDenial& other) {
  for (std::size_t kind = 0; kind < kCertainKinds.size(); ++kind)
    for (std::size_t whom = 0; whom < JANUS_TO_WHOM; ++whom)
      if (!same(one.of(kind)[whom], other.of(kind)[whom])) return false;
  return one.container == other.container && one.asked == other.asked;
}

bool concerns(const std::vector<CertainDenial>& denials, std::uint64_t container) {
  return std::ranges::find(denials, container, &CertainDenial::container) != denials.end();
}

// If any of an object's paths is denied, it is.
void add(std::vector<CertainDenial>& all, const CertainDenial& more) {
  const auto one = std::ranges::find(all, more.container, &CertainDenial::container);
  if (one == all.end()) return all.push_back(more);
  for (std::size_t kind = 0; kind < kCertainKinds.size(); ++kind)
    for (std::size_t whom = 0; whom < JANUS_TO_WHOM; ++whom) one->add(kind, whom, more.of(kind)[whom]);
  for (std::size_t kind = 0; kind < more.asked.size(); ++kind)
    for (std::size_t whom = 0; whom < more.asked[kind].size(); ++whom) one->asked[kind][whom] |= more.asked[kind][whom];
}

// In both, what a directory holds is told apart in the same way.
static_assert(JANUS_REACH_ITSELF == 1 && JANUS_REACH_ENTRIES == 2 && JANUS_REACH_DEEPER == 4);
static_assert(kCertainKinds.size() == JANUS_DENIED_KINDS && kOpens == JANUS_OPENS && kAskedKinds.size() == JANUS_ASKED_KINDS);
static_assert(kCertainKinds[JANUS_DENIED_CREATE] == FileEventKind::create && kCertainKinds[JANUS_DENIED_DELETE] == FileEventKind::remove &&
              kCertainKinds[JANUS_DENIED_MOVEDFROM] == FileEventKind::movedfrom &&
              kCertainKinds[JANUS_DENIED_MOVEDTO] == FileEventKind::movedto &&
              kCertainKinds[JANUS_DENIED_ATTRIB] == FileEventKind::attrib && kCertainKinds[JANUS_DENIED_LINK] == FileEventKind::link &&
              kCertainKinds[JANUS_DENIED_TRUNCATE] == FileEventKind::truncate &&
              kCertainKinds[JANUS_DENIED_WRITE] == FileEventKind::write);

constexpr std::uint32_t kReaches[] = {0, JANUS_REACH_ITSELF, JANUS_REACH_ITSELF | JANUS_REACH_ENTRIES,
                                      JANUS_REACH_ITSELF | JANUS_REACH_ENTRIES | JANUS_REACH_DEEPER};

void add(janus_ruling& to, const CertainDenial::Ruling& ruling, std::uint32_t reach) {
  if (reach > to.reach) to = {ruling.entry->subject->id, reach};
}

void add(janus_rule& rule, const CertainDenial& denial) {
  for (std::size_t kind = 0; kind < JANUS_OPENS; ++kind)
    for (std::size_t whom = 0; whom < JANUS_TO_WHOM; ++whom)
      add(rule.of[kind][whom], denial.opens[kind][whom], kReaches[denial.opens[kind][whom].reach]);
  for (std::size_t kind = 0; kind < kAskedKinds.size(); ++kind)
    for (std::size_t whom = 0; whom < denial.asked[kind].size(); ++whom) rule.asked[kind][whom] |= denial.asked[kind][whom];
}

void add(janus_change_rule& rule, const CertainDenial& denial) {
  for (std::size_t change = 0; change < denial.changes.size(); ++change)
    for (std::size_t whom = 0; whom < JANUS_TO_WHOM; ++whom)
      add(rule.of[change][whom], denial.changes[change][whom], kReaches[denial.changes[change][whom].reach]);
}

// Of what leads to a path: whoever moves that, or moves something there, moves what is at the path.
void add_lead(janus_change_rule& rule, const CertainDenial& denial) {
  if (denial.changes.empty()) return;
  for (const std::size_t change : {JANUS_DENIED_MOVEDFROM - JANUS_OPENS, JANUS_DENIED_MOVEDTO - JANUS_OPENS})
    for (std::size_t whom = 0; whom < JANUS_TO_WHOM; ++whom)
      if (const auto& ruling = denial.changes[change][whom]; ruling.entry != nullptr) add(rule.of[change][whom], ruling, JANUS_REACH_ITSELF);
}

// Of what is so deep that not all above it is known.
void add_deep(janus_change_rule& rule, const CertainDenial& denial) {
  for (std::size_t change = 0; change < denial.changes.size(); ++change)
    for (std::size_t whom = 0; whom < JANUS_TO_WHOM; ++whom)
      if (const auto& ruling = denial.changes[change][whom]; ruling.reach == CertainDenial::deeper)
        add(rule.of[change][whom], ruling, JANUS_REACH_DEEPER);
}

template <typename Plain>
bool alike(const Plain& one, const Plain& other) {
  return std::memcmp(&one, &other, sizeof(one)) == 0;
}

janus_name_key name_key(Device device, const std::tuple<std::uint64_t, std::uint32_t, std::string>& of) {
  const auto& [container, above, name] = of;
  janus_name_key key{.container = container, .device = device, .above = above, .name = {}};
  name.copy(key.name, sizeof(key.name) - 1);
  return key;
}

// Entries that are new, or say something else now.
template <typename Map, typename Entries, typename KeyOf>
void write_new(Map& map, const Entries& before, const Entries& now, KeyOf key_of) {
  for (const auto& [key, value] : now) {
    const auto was = before.find(key);
    if (was == before.end() || !alike(was->second, value)) map.set(key_of(key), value);
  }
}

template <typename Map, typename Entries, typename KeyOf>
void remove_gone(Map& map, const Entries& before, const Entries& now, KeyOf key_of) {
  for (const auto& entry : before)
    if (!now.contains(entry.first)) map.remove(key_of(entry.first));
}

}  // namespace

// By the policy that is published now.
const CertainDenials* KernelRules::certain_of(Device device) {
  const auto policy = policies_.get();
  const Superblock* superblock = policy->find(device);
  if (superblock == nullptr) {
    judged_.erase(device);
    return nullptr;
  }
  Judged& judged = judged_[device];
  const bool same = judged.certain != nullptr && (judged.certain->table() == superblock->table.get() ||
                                                  (superblock->rules_version != 0 && superblock->rules_version == judged.rules_version));
  if (!same) judged = {superblock->rules_version, std::make_unique<const CertainDenials>(superblock->table)};
  return judged.certain.get();
}

void KernelRules::hold(int fd, std::uint64_t inode, Device device, bool directory, std::span<const std::string> paths) {
  if (!decider_.works()) return;
  std::vector<janus_rule_key> keys = decider_.keys_of(fd);
  const std::lock_guard lock(mutex_);
  if (const auto before = held_.find(inode); before != held_.end()) drop(before);
  if (keys.empty()) {
    unknown_.insert(device);
    return;
  }
  if (directory) decider_.rules().directories.set(inode, 1);
  Held& held = held_[inode];
  held = {.device = device, .directory = directory, .keys = std::move(keys), .paths = {paths.begin(), paths.end()}, .denials = {}};
  by_device_[device].insert(inode);
  judge(inode, held);
}

void KernelRules::change(std::uint64_t inode, std::span<const std::string> paths) {
  if (!decider_.works()) return;
  const std::lock_guard lock(mutex_);
  const auto it = held_.find(inode);
  if (it == held_.end()) return;
  it->second.paths.assign(paths.begin(), paths.end());
  judge(inode, it->second);
}

void KernelRules::release(std::uint64_t inode) {
  if (!decider_.works()) return;
  const std::lock_guard lock(mutex_);
  if (const auto it = held_.find(inode); it != held_.end()) drop(it);
}

// Whoever holds an inode meanwhile judges it by the policy that is published already.
void KernelRules::changed(Device device) {
  if (!decider_.works()) return;
  Lock lock(mutex_);
  const auto before = judged_.find(device);
  const CertainDenials* const was = before == judged_.end() ? nullptr : before->second.certain.get();
  if (was != nullptr && certain_of(device) == was) return;
  write_paths(device);
  std::uint64_t from = 0;
  for (bool more = true; more;) {
    more = false;
    const auto of = by_device_.find(device);
    if (of == by_device_.end()) return;
    std::size_t done = 0;
    for (auto inode = of->second.lower_bound(from); inode != of->second.end(); ++inode) {
      if (done++ == kAtOnce) {
        from = *inode;
        more = true;
        break;
      }
      judge(*inode, held_.at(*inode));
    }
    if (!more) return;
    lock.unlock();
    lock.lock();
  }
}

bool KernelRules::alone(std::map<Device, Paths>::const_iterator paths) const {
  return paths != paths_.end() && paths->second.whole && decider_.works() && decider_.has_room() && !decider_.may_miss() &&
         !unknown_.contains(paths->first);
}

bool KernelRules::alone(Device device) const {
  const std::lock_guard lock(mutex_);
  return alone(paths_.find(device));
}

bool KernelRules::complete(Device device) const {
  const std::lock_guard lock(mutex_);
  const auto paths = paths_.find(device);
  return alone(paths) && !paths->second.owners;
}

bool KernelRules::has_room(const Room& wanted) const {
  const std::lock_guard lock(mutex_);
  Room all = wanted;
  for (const auto& [device, paths] : paths_) {
    all.components += paths.names.size();
    all.of_changes += paths.changes_at.size();
  }
  const Decider::Rules& rules = decider_.rules();
  return all.components <= rules.names.capacity() && all.of_changes <= rules.changes_at.capacity();
}

void KernelRules::write_paths(Device device) {
  const CertainDenials* const certain = certain_of(device);
  Paths& before = paths_[device];
  Paths now;
  now.whole = certain != nullptr && certain->plain();
  std::set<std::string_view> seen;
  if (certain != nullptr) {
    certain->table()->rules().each([&](const Rule& rule) {
      now.owners = now.owners || rule.entry->subject->auto_allow_owner;
      if (!rule.answered || rule.entry->action != Action::deny || !seen.insert(rule.entry->path).second) return false;
      for (CertainDenial& denial : certain->of(rule.entry->path, true)) {
        if (denial.concerns_opens()) now.containers.try_emplace(denial.container);
        const bool followed = follows(rule.entry->path);
        if (followed) add_path(before, now, denial, rule.entry->path);
        now.whole = now.whole && followed && denial.asked == decltype(denial.asked){};
        now.denials.push_back(std::move(denial));
      }
      return false;
    });
  }
  swap_paths(device, before, now);
  if (certain != nullptr) return;
  paths_.erase(device);
  unknown_.erase(device);
}

bool KernelRules::follows(std::string_view path) {
  std::size_t levels = 0;
  for (std::size_t from = 0; from < path.size(); ++levels) {
    const std::size_t end = std::min(path.find('/', from + 1), path.size());
    if (levels == JANUS_LEVELS || end - from + 1 > JANUS_NAME) return false;
    from = end;
  }
  return true;
}

void KernelRules::add_path(const Paths& before, Paths& paths, const CertainDenial& denial, std::string_view path) {
  std::uint32_t above = 0;
  if (!denial.changes.empty()) add_deep(paths.changes_anywhere[denial.container], denial);
  for (std::size_t from = 0; from < path.size();) {
    const std::size_t end = std::min(path.find('/', from + 1), path.size());
    const std::string_view name = path.substr(from + 1, end - from - 1);
    const Paths::Prefix prefix{denial.container, path.substr(0, end)};
    const auto known = before.numbers.find(prefix);
    const auto number = paths.numbers.try_emplace(prefix, known == before.numbers.end() ? next_number_ : known->second).first;
    if (number->second == next_number_) ++next_number_;
    janus_name& at = paths.names[{denial.container, above, std::string(name)}];
    at.number = above = number->second;
    from = end;
    if (end == path.size()) add(at.rule, denial);
    if (denial.changes.empty()) continue;
    if (end == path.size()) add(paths.changes_at[above], denial);
    else add_lead(paths.changes_at[above], denial);
  }
}

// What is new comes before what is denied no more goes.
void KernelRules::swap_paths(Device device, Paths& before, Paths& now) {
  for (const CertainDenial& denial : now.denials) name(denial, 1);
  Decider::Rules& rules = decider_.rules();
  const auto named = [&](const auto& of) { return name_key(device, of); };
  const auto placed = [&](std::uint64_t container) { return janus_guarded_key{.container = container, .device = device, .pad = 0}; };
  if (!now.changes_anywhere.empty()) decider_.expect_changes();
  for (auto& [container, filter] : now.containers) filter = rules.filters.use(container, device);
  for (const auto& [of, name] : now.names)
    if (std::get<1>(of) == 0) rules.filters.give(std::get<0>(of), device, RuleFilters::sign_of(std::get<2>(of)));
  write_new(rules.guarded, before.containers, now.containers, placed);
  write_new(rules.changes_anywhere, before.changes_anywhere, now.changes_anywhere, placed);
  write_new(rules.changes_at, before.changes_at, now.changes_at, std::identity());
  write_new(rules.names, before.names, now.names, named);
  remove_gone(rules.names, before.names, now.names, named);
  remove_gone(rules.changes_at, before.changes_at, now.changes_at, std::identity());
  remove_gone(rules.changes_anywhere, before.changes_anywhere, now.changes_anywhere, placed);
  remove_gone(rules.guarded, before.containers, now.containers, placed);
  for (const auto& [of, name] : before.names)
    if (std::get<1>(of) == 0) rules.filters.take_back(std::get<0>(of), device, RuleFilters::sign_of(std::get<2>(of)));
  for (const auto& [container, filter] : before.containers) rules.filters.leave(container, device);
  for (const CertainDenial& denial : before.denials) name(denial, -1);
  before = std::move(now);
}

// What is denied before and after is, all the while.
void KernelRules::judge(std::uint64_t inode, Held& held) {
  std::vector<CertainDenial> denials;
  if (const CertainDenials* certain = certain_of(held.device)) {
    for (const std::string& path : held.paths)
      for (const CertainDenial& denial : certain->of(path, held.directory)) add(denials, denial);
  }
  if (std::ranges::equal(held.denials, denials, [](const auto& one, const auto& other) { return same(one, other); })) return;
  denials.swap(held.denials);
  for (const CertainDenial& denial : held.denials) {
    name(denial, 1);
    if (!concerns(denials, denial.container)) sign(inode, held, denial.container, true);
    for (janus_rule_key key : held.keys) {
      key.container = denial.container;
      Written& written = written_[key_of(key)];
      written.key = key;
      written.of.insert_or_assign(inode, &denial);
      write(written);
    }
  }
  for (const CertainDenial& denial : denials) {
    name(denial, -1);
    if (!concerns(held.denials, denial.container)) unwrite(inode, held, denial.container);
  }
}

void KernelRules::name(const CertainDenial& denial, int by) {
  for (std::size_t kind = 0; kind < kCertainKinds.size(); ++kind) {
    for (const auto& ruling : denial.of(kind)) {
      if (ruling.entry == nullptr) continue;
      Named& named = subjects_[ruling.entry->subject->id];
      named.subject = ruling.entry->subject;
      named.by += static_cast<std::size_t>(by);
      if (named.by == 0) named.until_ns = monotonic_ns();
    }
  }
}

// By what the kernel may find its rules.
void KernelRules::sign(std::uint64_t inode, const Held& held, std::uint64_t container, bool on) {
  RuleFilters& filters = decider_.rules().filters;
  const auto set = [&](std::uint64_t sign) {
    if (on) filters.give(container, held.device, sign);
    else filters.take_back(container, held.device, sign);
  };
  for (const janus_rule_key& key : held.keys) set(key.ino);
  if (held.directory) set(inode);
}

void KernelRules::unwrite(std::uint64_t inode, const Held& held, std::uint64_t container) {
  for (janus_rule_key key : held.keys) {
    key.container = container;
    const auto written = written_.find(key_of(key));
    if (written == written_.end()) continue;
    written->second.of.erase(inode);
    if (!written->second.of.empty()) {
      write(written->second);
      continue;
    }
    decider_.rules().inodes.remove(key);
    decider_.rules().changes.remove(key);
    set_deeper(key, written->second.rule, {});
    written_.erase(written);
  }
  sign(inode, held, container, false);
}

void KernelRules::drop(std::map<std::uint64_t, Held>::iterator it) {
  const auto& [inode, held] = *it;
  for (const CertainDenial& denial : held.denials) {
    name(denial, -1);
    unwrite(inode, held, denial.container);
  }
  if (held.directory) decider_.rules().directories.remove(inode);
  const auto of = by_device_.find(held.device);
  of->second.erase(inode);
  if (of->second.empty()) by_device_.erase(of);
  held_.erase(it);
}

void KernelRules::write(Written& written) {
  janus_rule rule{};
  janus_change_rule changes{};
  for (const auto& [inode, denial] : written.of) {
    add(rule, *denial);
    add(changes, *denial);
  }
  rule.version = written.rule.version != 0 ? written.rule.version : next_version_++;
  decider_.rules().inodes.set(written.key, rule);
  if (!alike(changes, written.changes)) {
    if (alike(changes, janus_change_rule{})) decider_.rules().changes.remove(written.key);
    else decider_.rules().changes.set(written.key, changes);
    written.changes = changes;
  }
  set_deeper(written.key, std::exchange(written.rule, rule), rule);
}

// The kernel doesn't look up more than so many levels: what is deeper is denied if anything deep is.
void KernelRules::set_deeper(const janus_rule_key& key, const janus_rule& before, const janus_rule& now) {
  const auto denier = [](const janus_ruling& ruling) { return ruling.reach & JANUS_REACH_DEEPER ? ruling.subject : 0; };
  const auto deep = [](std::uint8_t asked) { return (asked & JANUS_REACH_DEEPER) != 0; };
  const auto at = deeper_.try_emplace({key.container, key.superblock}).first;
  janus_rule anywhere{};
  bool any = false, changed = false;
  for (std::size_t kind = 0; kind < JANUS_OPENS; ++kind) {
    for (std::size_t whom = 0; whom < JANUS_TO_WHOM; ++whom) {
      auto& deniers = at->second.of[kind][whom];
      const std::uint32_t one = deniers.empty() ? 0 : deniers.begin()->first;
      if (const std::uint32_t id = denier(now.of[kind][whom])) ++deniers[id];
      if (const std::uint32_t id = denier(before.of[kind][whom]); id != 0 && --deniers[id] == 0) deniers.erase(id);
      changed = changed || one != (deniers.empty() ? 0 : deniers.begin()->first);
      if (deniers.empty()) continue;
      anywhere.of[kind][whom] = {deniers.begin()->first, JANUS_REACH_DEEPER};
      any = true;
    }
  }
  for (std::size_t kind = 0; kind < JANUS_ASKED_KINDS; ++kind) {
    for (std::size_t whom = 0; whom < JANUS_TO_WHOM; ++whom) {
      std::size_t& asked = at->second.asked[kind][whom];
      const bool was = asked > 0;
      if (deep(now.asked[kind][whom])) ++asked;
      if (deep(before.asked[kind][whom])) --asked;
      changed = changed || was != (asked > 0);
      if (asked > 0) anywhere.asked[kind][whom] = JANUS_REACH_DEEPER;
      any = any || asked > 0;
    }
  }
  if (!any) deeper_.erase(at);
  if (!changed) return;
  const janus_rule_key key_of_all{.container = key.container, .superblock = key.superblock, .ino = 0, .generation = 0, .dev = 0};
  if (any) decider_.rules().inodes.set(key_of_all, anywhere);
  else decider_.rules().inodes.remove(key_of_all);
}

std::vector<std::string> KernelRules::paths_of(std::uint64_t inode) const {
  const std::lock_guard lock(mutex_);
  const auto it = held_.find(inode);
  return it == held_.end() ? std::vector<std::string>() : it->second.paths;
}

std::shared_ptr<const Subject> KernelRules::subject(std::uint32_t id) const {
  const std::lock_guard lock(mutex_);
  const auto it = subjects_.find(id);
  return it == subjects_.end() ? nullptr : it->second.subject;
}

void KernelRules::forget_unused(std::uint64_t since_ns) {
  const std::lock_guard lock(mutex_);
  std::erase_if(subjects_, [&](const auto& item) { return item.second.by == 0 && item.second.until_ns < since_ns; });
}

}  // namespace janus
